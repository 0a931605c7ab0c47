"""Authorship tests: worked numbers, enumeration, calibration on exact chains, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest
from transformers import TopKLogitsWarper

from hartley.auditing import (
    LAMBDAS,
    AuditResult,
    attribute,
    e_process,
    e_process_test,
    entropy_gap,
    martingale_test,
    score_text,
    text_statistics,
)
from hartley.labs.models import language_model
from hartley.labs.texts import ChainLab

LAB = ChainLab()
DYADIC = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8], dtype=torch.float64).log()


def of(ids: list[int], logits: torch.Tensor = DYADIC, **options):
    return text_statistics(logits.expand(len(ids), -1), torch.tensor(ids), **options)


def chain_statistics(strings: np.ndarray, chain: np.ndarray, lambdas=()):
    """The model's laws along strings, by the library's own function on one row a symbol, then looked up."""
    k = len(chain)
    before, after = np.divmod(np.arange(k * k), k)
    table = text_statistics(torch.from_numpy(np.log(chain))[before], torch.from_numpy(after), lambdas=lambdas)
    index = strings[:, :-1] * k + strings[:, 1:]
    rows = (table.surprisal, table.entropy, table.varentropy, table.rank, table.log_normaliser)
    return type(table)(*(values[index] for values in rows), table.lambdas)


def z_scores(stats) -> np.ndarray:
    return (stats.surprisal - stats.entropy).sum(-1) / np.sqrt(stats.varentropy.sum(-1))


def test_worked_example() -> None:
    stats = of([0, 1, 2])
    np.testing.assert_allclose(stats.entropy, 1.213008, atol=1e-6)
    np.testing.assert_allclose(stats.varentropy, 0.330311, atol=1e-6)
    assert stats.rank.tolist() == [0, 1, 2]
    result = martingale_test(stats)
    assert result.effect == pytest.approx(0.173287, abs=1e-6)
    assert result.statistic == pytest.approx(0.522233, abs=1e-6)
    assert result.size == 3
    foreign, cooled = martingale_test(stats, "foreign").pvalue, martingale_test(stats, "cooled").pvalue
    assert foreign + cooled == pytest.approx(1)
    assert result.pvalue == pytest.approx(2 * foreign)
    assert str(result).startswith("martingale test: statistic 0.5222, p = 0.602, gap")
    assert "\n" not in str(result)


def test_uniform_and_deterministic_laws_say_nothing() -> None:
    assert martingale_test(of([0, 3, 1], torch.zeros(4))).statistic == 0
    certain = torch.tensor([0.0, -math.inf, -math.inf])
    assert martingale_test(of([0, 0], certain)).pvalue == 1
    excluded = martingale_test(of([0, 1], certain))
    assert (excluded.statistic, excluded.pvalue) == (math.inf, 0)
    assert e_process_test(of([0, 1], certain, lambdas=LAMBDAS)).pvalue == 0


@given(st.integers(2, 6), st.floats(-1.5, 0.9), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_mean_of_the_e_value_is_one(vocab: int, order: float, seed: int) -> None:
    logits = 2 * torch.randn(vocab, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    stats = of(list(range(vocab)), logits, lambdas=(order,))
    steps = order * stats.surprisal - stats.log_normaliser[:, 0]
    assert (np.exp(steps) * np.exp(-stats.surprisal)).sum() == pytest.approx(1, abs=1e-9)


def test_e_value_near_one_compares_with_the_uniform_law() -> None:
    stats = of([0, 1, 2, 3], lambdas=(1 - 1e-9,))
    steps = stats.surprisal - stats.log_normaliser[:, 0]
    np.testing.assert_allclose(steps, -np.log(4 * np.exp(DYADIC.numpy())), atol=1e-6)


def test_derivative_of_the_e_process_is_the_gap() -> None:
    # d/dl log E at 0 is N D, and the second derivative -sum V
    h = 1e-3
    stats = of([0, 3, 2, 1], lambdas=(-h, h))
    low, high = (stats.lambdas[i] * stats.surprisal.sum() - stats.log_normaliser[:, i].sum() for i in (0, 1))
    assert (high - low) / (2 * h) == pytest.approx(4 * float(entropy_gap(stats)), abs=1e-5)
    assert (high + low) / h**2 == pytest.approx(-stats.varentropy.sum(), abs=1e-3)


def test_minus_z_is_the_analytic_curvature_of_fast_detectgpt() -> None:
    logits = torch.randn(50, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(50) % 30
    logp = logits.log_softmax(-1)
    p = logp.exp()
    mean, square = (p * logp).sum(-1), (p * logp**2).sum(-1)
    curvature = (logp.gather(-1, ids[:, None]).sum() - mean.sum()) / (square - mean**2).sum().sqrt()
    assert martingale_test(text_statistics(logits, ids)).statistic == pytest.approx(-float(curvature), rel=1e-9)


def test_calibration_and_power_on_chains() -> None:
    """4000 null strings: rates within 3.3 binomial standard errors, false alarm 0.1% a comparison; seed fixed."""
    model, other = LAB.chains
    for length in (100, 400):
        z = z_scores(chain_statistics(LAB.strings(model, 4000, length, seed=length), model))
        assert abs(z.mean()) < 0.06
        assert abs(z.std() - 1) < 0.04
        assert kstest(z, "norm").pvalue > 1e-3
        for level, threshold in ((0.05, 1.959964), (0.01, 2.575829)):
            alarms = int((np.abs(z) > threshold).sum())
            assert binomtest(alarms, len(z), level).pvalue > 1e-3, (length, level, alarms)
    foreign = z_scores(chain_statistics(LAB.strings(other, 500, 400, seed=3), model))
    assert (np.abs(foreign) > 1.96).mean() > 0.8


def test_e_process_holds_under_optional_stopping() -> None:
    model, other = LAB.chains
    null = e_process(chain_statistics(LAB.strings(model, 2000, 500, seed=5), model, LAMBDAS))
    for level in (0.05, 0.01):  # Ville's bound is one-sided; three standard errors above it
        assert (null.max(-1) >= -math.log(level)).mean() <= level + 3 * math.sqrt(level / 2000)
    power = e_process(chain_statistics(LAB.strings(other, 200, 500, seed=6), model, LAMBDAS))
    assert (power.max(-1) >= math.log(20)).mean() > 0.8
    stats = chain_statistics(LAB.strings(other, 1, 500, seed=6), model, LAMBDAS).text(0)
    result = e_process_test(stats, "foreign")
    assert result.log_evalue == pytest.approx(float(e_process(stats, "foreign").max()))
    assert result.pvalue == pytest.approx(math.exp(-result.statistic))


def test_attribution_and_its_evidence() -> None:
    model, other = LAB.chains
    strings = LAB.strings(model, 400, 200, seed=7)
    both = np.stack([chain_statistics(strings, chain).surprisal for chain in (model, other)])
    found = attribute(both)
    assert (found.index == 0).mean() > 0.95
    ratio = both.sum(-1)[1] - both.sum(-1)[0]
    np.testing.assert_allclose(found.log_evalue[1], ratio, atol=1e-9)
    np.testing.assert_allclose(found.log_evalue[0], -ratio, atol=1e-9)
    np.testing.assert_allclose(found.margin, np.abs(ratio) / 200)
    # evidence against the true author is an e-value: above 20 in at most 5% of texts, plus 3 standard errors
    assert (found.log_evalue[0] > math.log(20)).mean() <= 0.05 + 3 * math.sqrt(0.05 / 400)


def test_known_truncation_makes_the_null_exact() -> None:
    logits = torch.randn(300, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    top = TopKLogitsWarper(5)
    kept = top(None, logits / 0.7)
    ids = torch.multinomial(kept.softmax(-1), 1, generator=torch.Generator().manual_seed(1)).squeeze(-1)
    naive = martingale_test(text_statistics(logits, ids))
    assert naive.pvalue < 1e-6
    exact = text_statistics(logits, ids, temperature=0.7, warpers=[top])
    assert martingale_test(exact).pvalue > 0.01
    np.testing.assert_allclose(exact.entropy, torch.special.entr(kept.softmax(-1)).sum(-1), atol=1e-5)
    worst = logits.argmin(-1)
    assert martingale_test(text_statistics(logits, worst, temperature=0.7, warpers=[top])).pvalue == 0


def test_masks_batches_and_half_precision() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 9, 50, generator=generator)
    ids = torch.randint(50, (2, 9), generator=generator)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :4] = mask[1, 6:] = False
    stats = text_statistics(logits, ids, mask=mask, lambdas=(0.5,))
    assert stats.log_normaliser.shape == (2, 9, 1)
    alone = text_statistics(logits[0, 4:], ids[0, 4:], lambdas=(0.5,))
    assert martingale_test(stats.text(0)).statistic == pytest.approx(martingale_test(alone).statistic, rel=1e-5)
    np.testing.assert_allclose(e_process(stats)[0, -1], e_process(alone)[-1], rtol=1e-4)
    half = text_statistics(logits.bfloat16(), ids)
    np.testing.assert_allclose(half.entropy, text_statistics(logits.bfloat16().float(), ids).entropy, atol=1e-5)
    assert entropy_gap(stats).shape == (2,)
    np.testing.assert_allclose(entropy_gap(stats, signed=False), np.abs(entropy_gap(stats)))


def test_what_is_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        text_statistics(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match="do model and tokenizer match"):
        of([4])
    with pytest.raises(ValueError, match="lambdas"):
        of([0], lambdas=(1.0,))
    with pytest.raises(ValueError, match="one text"):
        martingale_test(text_statistics(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)))
    with pytest.raises(ValueError, match="without a counted token"):
        martingale_test(of([0, 1], mask=torch.zeros(2, dtype=torch.bool)))
    with pytest.raises(ValueError, match="alternative"):
        martingale_test(of([0]), "greater")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="compute stats with lambdas"):
        e_process(of([0]))
    with pytest.raises(ValueError, match="at least two models"):
        attribute(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="same tokens for every model"):
        attribute(np.array([[0.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="pvalue"):
        AuditResult("t", "n", 0.0, 1.5, 0.0, "e", 1)


@pytest.mark.model
def test_a_real_model() -> None:
    model, tokenizer = language_model()
    text = " The capital of France is Paris, and it lies on the river Seine."
    stats = score_text(model, tokenizer, text, prompt="Geography:")
    ids = tokenizer(text).input_ids
    assert len(stats.surprisal) == len(ids)
    whole = torch.tensor([tokenizer("Geography:").input_ids + ids])
    with torch.no_grad():
        expected = model(
            whole, labels=torch.where(torch.arange(whole.shape[1]) < whole.shape[1] - len(ids), -100, whole)
        )
    assert stats.surprisal.mean() == pytest.approx(float(expected.loss), abs=1e-3)
    assert len(score_text(model, tokenizer, text).surprisal) == len(ids) - 1
    for bad, message in (("", "not empty"), (" the", "at least two tokens")):
        with pytest.raises(ValueError, match=message):
            score_text(model, tokenizer, bad)
