"""Binary series: worked numbers, enumeration, calibration, power, symmetry, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2_contingency
from statsmodels.sandbox.stats.runs import runstest_1samp

from hartley.auditing import markov_order_test, option_probabilities, order_balanced_bias, series_report
from hartley.labs.models import language_model


def chain(rng: np.random.Generator, n: int, alternation: float) -> np.ndarray:
    return (rng.integers(2) + np.cumsum(rng.random(n) < alternation)) % 2


def test_worked_examples() -> None:
    strict = series_report(np.arange(10) % 2)
    assert strict.transitions.tolist() == [[0, 5], [4, 0]]
    assert strict.independence.statistic == pytest.approx(12.365308, abs=1e-5)
    assert strict.runs_z == pytest.approx(2.6833, abs=1e-4)
    assert strict.alternation_rate == 1
    mixed = series_report(np.array([1, 1, 0, 1, 0, 0, 1, 1, 1, 0]))
    assert mixed.transitions.tolist() == [[1, 2], [3, 3]]
    assert mixed.independence.statistic == pytest.approx(0.228457, abs=1e-6)
    assert mixed.information == pytest.approx(0.012692, abs=1e-6)
    assert mixed.alternation_rate == pytest.approx(5 / 9)
    assert mixed.recency[1][0] == 0.5
    assert mixed.recency[3] == (1.0, pytest.approx(math.nan, nan_ok=True), 1)
    assert len(str(mixed).splitlines()) == 3


def test_constant_series_tells_only_of_its_side() -> None:
    report = series_report(np.ones(8, dtype=int))
    assert report.uniformity.pvalue == pytest.approx(2.0**-7)
    assert math.isnan(report.independence.pvalue)
    assert math.isnan(report.alternation.pvalue)
    assert math.isnan(report.runs_z)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=2), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_alternation_is_exact_by_enumeration(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    series = [rng.integers(0, 2, 2 + n) for n in lengths]
    x, groups = np.concatenate(series), np.repeat(np.arange(len(series)), [len(s) for s in series])
    report = series_report(x, groups)
    orders = [set(itertools.permutations(s.tolist())) for s in series]
    changes = np.array(
        [sum(a != b for s in way for a, b in itertools.pairwise(s)) for way in itertools.product(*orders)]
    )
    if all(len(set(s.tolist())) == 1 for s in series):
        assert math.isnan(report.alternation.pvalue)
        return
    seen = report.alternation.statistic
    expected = min(1.0, 2 * min((changes <= seen).mean(), (changes >= seen).mean()))
    assert report.alternation.pvalue == pytest.approx(expected, abs=1e-9)
    assert report.alternation_expected == pytest.approx(changes.mean() / (len(x) - len(series)))
    if changes.std() > 0:
        assert report.runs_z == pytest.approx((seen - changes.mean()) / changes.std())


def test_against_scipy_and_statsmodels() -> None:
    x = np.random.default_rng(0).integers(0, 2, 300)
    report = series_report(x)
    g = chi2_contingency(report.transitions, correction=False, lambda_="log-likelihood")
    assert report.independence.statistic == pytest.approx(g.statistic)
    assert report.independence.pvalue == pytest.approx(g.pvalue)
    z, _ = runstest_1samp(x, cutoff=0.5, correction=False)
    assert report.runs_z == pytest.approx(z)
    zero = markov_order_test(x, 0)
    assert zero.statistic == pytest.approx(report.independence.statistic)


def test_uniformity_is_the_exact_binomial_test() -> None:
    for ones in (0, 3, 10, 20):
        report, peer = series_report(np.arange(20) < ones), binomtest(ones, 20)
        assert report.uniformity.pvalue == pytest.approx(peer.pvalue)
        ends = peer.proportion_ci()
        assert report.interval == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_calibration() -> None:
    """1200 fair series of 200: rates within 3.3 binomial standard errors of the level; exact tests not above it."""
    rng = np.random.default_rng(1)
    p = []
    for _ in range(1200):
        x = rng.integers(0, 2, 200)
        p.append([*(t.pvalue for t in series_report(x).tests), markov_order_test(x, 1).pvalue])
    for level in (0.05, 0.01):
        alarms = (np.array(p) <= level).sum(0)
        for exact in alarms[[0, 2]]:
            assert binomtest(int(exact), 1200, level, alternative="greater").pvalue > 1e-3
        for asymptotic in alarms[[1, 3]]:
            assert binomtest(int(asymptotic), 1200, level).pvalue > 1e-3, (level, alarms)


def test_power_and_direction() -> None:
    rng = np.random.default_rng(2)
    human = [series_report(chain(rng, 200, 0.6)) for _ in range(200)]
    assert np.mean([r.independence.pvalue < 0.05 for r in human]) > 0.7
    assert np.mean([r.alternation.pvalue < 0.05 for r in human]) > 0.7
    assert np.mean([r.alternation.effect for r in human]) > 0.08
    sticky = series_report(chain(rng, 400, 0.3))
    assert sticky.alternation.pvalue < 1e-6
    assert sticky.alternation.effect < -0.1
    second = np.zeros(600, dtype=int)  # memory of two, none of one
    for t in range(2, 600):
        second[t] = second[t - 2] ^ (rng.random() < 0.2)
    assert markov_order_test(second, 1).pvalue < 1e-6
    assert markov_order_test(second, 2).pvalue > 0.001


@given(st.lists(st.integers(0, 1), min_size=2, max_size=60))
@settings(max_examples=30, deadline=None)
def test_labels_do_not_matter(values: list[int]) -> None:
    x = np.array(values)
    one, other = series_report(x), series_report(1 - x)
    assert one.uniformity.effect == pytest.approx(-other.uniformity.effect)
    for a, b in zip(one.tests, other.tests, strict=True):
        assert a.pvalue == pytest.approx(b.pvalue, nan_ok=True)


def test_groups_keep_calls_apart() -> None:
    x = np.array([1, 1, 1, 0, 0, 0])
    assert series_report(x, np.array(["a", "a", "a", "b", "b", "b"])).transitions.tolist() == [[2, 0], [0, 2]]
    mixed = series_report(np.array([1, 0, 1, 0]), np.array([0, 1, 0, 1]))
    assert mixed.transitions.tolist() == [[1, 0], [0, 1]]


def test_order_balance() -> None:
    bias = order_balanced_bias(1.5, -0.5)
    assert (bias.preference, bias.position) == (0.5, 1.0)


def test_what_is_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match="at least two decisions"):
        series_report(np.array([1]))
    with pytest.raises(ValueError, match="decisions 0 or 1"):
        series_report(np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="decisions 0 or 1"):
        series_report(np.array([0.0, 1.0, np.nan]))
    with pytest.raises(ValueError, match="3 labels"):
        series_report(np.array([0, 1, 1]), np.array([1, 2]))
    with pytest.raises(ValueError, match="a series of at least 5"):
        markov_order_test(np.array([0, 1, 1]), 3)


@pytest.mark.model
def test_option_probabilities_of_a_real_model() -> None:
    model, tokenizer = language_model()
    prompt = "Flip a coin: heads or tails? Answer:"
    options = {"heads": [" heads", " Heads"], "tails": [" tails", " Tails"]}
    probs, valid = option_probabilities(model, tokenizer, prompt, options)
    with torch.no_grad():
        law = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].softmax(-1)

    def single(spelling: str) -> float:
        ids = tokenizer(spelling).input_ids
        assert len(ids) == 1
        return float(law[ids[0]])

    heads = single(" heads")
    singles, mass = option_probabilities(model, tokenizer, prompt, {"a": [" heads"], "b": [" yes"]})
    assert singles["a"] == pytest.approx(heads / (heads + single(" yes")), rel=1e-4)
    assert mass == pytest.approx(heads + single(" yes"), rel=1e-4)
    assert sum(probs.values()) == pytest.approx(1)
    assert 0 < valid < 1
    # temperature scales the log-odds of single tokens by 1 / T
    odds = [
        option_probabilities(model, tokenizer, prompt, {"a": [" heads"], "b": [" yes"]}, temperature=t)[0]
        for t in (0.5, 2)
    ]
    scaled = [math.log(o["a"] / o["b"]) * t for o, t in zip(odds, (0.5, 2), strict=True)]
    assert scaled[0] == pytest.approx(scaled[1], abs=1e-3)
    # " heads tonight" begins with " heads": its mass is counted already
    longer = option_probabilities(model, tokenizer, prompt, {"a": [" heads", " heads tonight"], "b": [" yes"]})
    assert longer[1] == pytest.approx(mass, rel=1e-5)
    with pytest.raises(ValueError, match="a spelling of a alone"):
        option_probabilities(model, tokenizer, prompt, {"a": [" heads"], "b": [" heads"]})
