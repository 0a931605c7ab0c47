"""Order tests: exact values, invariances, uniform p-values under the null, brute-force n-grams, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest, spearmanr

from hartley.auditing import NGramIndex, OrderRecorder, order_test, partition_test, reshuffle_test
from hartley.labs.provenance import ProvenanceLab


def test_worked_example_and_enumeration() -> None:
    loglik, t = np.array([1.0, 2, 3, 5, 4]), np.arange(1, 6)
    result = order_test(loglik, t, permutations=20_000, rng=np.random.default_rng(0))
    assert result.statistic == pytest.approx(0.9)
    exact = np.mean([spearmanr(loglik, p).statistic >= 0.9 - 1e-9 for p in itertools.permutations(t)])
    assert exact == pytest.approx(5 / 120)
    assert result.pvalue == pytest.approx(exact, abs=3.3 * np.sqrt(exact / 20_000))
    assert order_test(loglik, t[::-1]).statistic == pytest.approx(-0.9)


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=15, deadline=None)
def test_agrees_with_scipy_and_is_invariant(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal(60), rng.permutation(60)
    x = np.round(x) if ties else x
    for alternative in ("greater", "less", "two-sided"):
        peer = spearmanr(x, t, alternative=alternative)
        ours = order_test(x, t, alternative=alternative)
        assert (ours.statistic, ours.pvalue) == pytest.approx((peer.statistic, peer.pvalue), abs=1e-12)
    assert order_test(np.exp(3 * x), t).pvalue == pytest.approx(order_test(x, t).pvalue)
    shuffle = rng.permutation(60)
    assert order_test(x[shuffle], t[shuffle]).pvalue == pytest.approx(order_test(x, t).pvalue)


def test_p_values_are_uniform_under_the_null() -> None:
    """1500 random orders: rates within 3.3 binomial standard errors, Kolmogorov-Smirnov at 1e-3; seed fixed."""
    rng = np.random.default_rng(1)
    loglik = rng.exponential(size=200)
    p = np.array([order_test(loglik, rng.permutation(200)).pvalue for _ in range(1500)])
    assert kstest(p, "uniform").pvalue > 1e-3
    exact = []
    for score in ("spearman", "tail"):
        exact += [
            order_test(loglik[:12], rng.permutation(12), score=score, permutations=99, rng=rng).pvalue
            for _ in range(750)
        ]
    for level in (0.05, 0.01):
        assert binomtest(int((p <= level).sum()), len(p), level).pvalue > 1e-3
        assert binomtest(int((np.array(exact) <= level).sum()), len(exact), level).pvalue > 1e-3
    assert min(exact) == 0.01  # never zero


def test_power_against_a_planted_signal_and_the_inverse_order() -> None:
    rng = np.random.default_rng(2)
    recorder = OrderRecorder(400, seed=5)
    hard = rng.standard_normal(400) * 3
    seen = hard + 0.003 * recorder.position + 0.5 * rng.standard_normal(400)
    assert order_test(seen, recorder.position, reference=hard).pvalue < 1e-8
    assert order_test(seen, recorder.position).pvalue > 1e-8
    assert order_test(seen, recorder.order, reference=hard).pvalue > 1e-3  # the other way round finds nothing
    late = np.where(recorder.position > 380, 3.0, 0.0) + rng.standard_normal(400)
    tail = order_test(late, recorder.position, score="tail", permutations=999, rng=rng)
    assert tail.pvalue == 0.001


def test_missing_likelihoods_are_passed_over() -> None:
    x, t = np.arange(10.0), np.arange(10)
    x[3] = np.nan
    assert order_test(x, t).size == 9


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=5), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_ngram_matches_by_brute_force(sequences: list[list[int]], seed: int) -> None:
    text = np.random.default_rng(seed).integers(0, 4, 15).tolist()
    expected = [0] * len(sequences)
    for start in range(len(text)):
        for k in range(min(3, len(text) - start), 0, -1):
            gram = text[start : start + k]
            hits = [sum(s[i : i + k] == gram for i in range(len(s) - k + 1)) for s in sequences]
            if any(hits):
                expected = [a + b for a, b in zip(expected, hits, strict=True)]
                break
    assert NGramIndex(sequences, 3).matches(text).tolist() == expected


def test_partition_test_finds_late_sequences() -> None:
    rng = np.random.default_rng(3)
    sequences = [rng.integers(0, 50_000, 40).tolist() for _ in range(60)]
    recorder = OrderRecorder(60, seed=1)
    texts = []
    for _ in range(200):
        s = sequences[recorder.order[int(60 * rng.random() ** 0.3)]]
        start = int(rng.integers(0, 30))
        texts.append(s[start : start + 10])
    index = NGramIndex(sequences)
    result = partition_test(texts, index, recorder.position, permutations=999, rng=rng)
    assert result.pvalue == 0.001
    assert result.test == "partition test"


def test_reshuffle_test() -> None:
    rng = np.random.default_rng(4)
    reruns = rng.standard_normal((19, 30))
    strong = reshuffle_test(reruns.mean(0) + 2.0, reruns)
    assert strong.pvalue == pytest.approx(1 / 20)
    assert strong.statistic == pytest.approx(2.0 / reruns.mean(1).std(ddof=1))
    p = [reshuffle_test(rng.standard_normal(5), rng.standard_normal((19, 5))).pvalue for _ in range(1000)]
    assert binomtest(int((np.array(p) <= 0.05).sum()), 1000, 0.05).pvalue > 1e-3


def test_recorder_survives_json() -> None:
    recorder = OrderRecorder(50, seed=9)
    again = OrderRecorder.from_json(recorder.to_json())
    assert list(again) == list(recorder) == recorder.order.tolist()
    assert len(again) == 50
    np.testing.assert_array_equal(recorder.order[recorder.position], np.arange(50))
    with pytest.raises(ValueError, match="digest of the order"):
        OrderRecorder.from_json(recorder.to_json().replace('"order": [', '"order": [0, '))


def test_training_is_replayed_bit_for_bit() -> None:
    from hartley.labs.provenance import _trained

    lab = ProvenanceLab(sequences=40)
    first = lab.loglik(lab.trained(1))
    _trained.cache_clear()
    np.testing.assert_array_equal(first, lab.loglik(lab.trained(1)))


def test_what_is_refused(unchecked: None) -> None:
    x, t = np.arange(10.0), np.arange(10)
    with pytest.raises(ValueError, match="constant"):
        order_test(x, t, reference=x)
    with pytest.raises(ValueError, match="positions that differ"):
        order_test(x, np.zeros(10))
    with pytest.raises(ValueError, match="at least 5"):
        order_test(x[:4], t[:4])
    with pytest.raises(ValueError, match="10 positions"):
        order_test(x, t[:4])
    with pytest.raises(ValueError, match="permutations"):
        order_test(x, t, score="tail")
    with pytest.raises(ValueError, match="at least two re-runs"):
        reshuffle_test(x, x[None])
    with pytest.raises(ValueError, match="no tokens"):
        NGramIndex([[]])
    with pytest.raises(ValueError, match="no tokens"):
        NGramIndex([[1]]).matches([])
