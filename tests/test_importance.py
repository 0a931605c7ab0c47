"""Weights and resampling: closed forms, and unbiasedness by chi-square at a stated false-alarm rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hartley import importance

SCHEMES = ["multinomial", "systematic", "stratified", "residual"]


def test_effective_sample_size() -> None:
    assert importance.effective_sample_size(torch.full((7,), 3.0)).item() == pytest.approx(7)
    one = torch.tensor([-math.inf, 2.0, -math.inf])
    assert importance.effective_sample_size(one).item() == pytest.approx(1)
    assert importance.effective_sample_size(torch.full((3,), -math.inf)).item() == 0
    ell = torch.randn(4, 20, dtype=torch.float64)
    w = ell.exp()
    torch.testing.assert_close(importance.effective_sample_size(ell + 50), w.sum(-1) ** 2 / (w**2).sum(-1))
    p = w / w.sum(-1, keepdim=True)
    torch.testing.assert_close(importance.effective_sample_size(ell, 1), torch.special.entr(p).sum(-1).exp())
    torch.testing.assert_close(importance.effective_sample_size(ell, math.inf), 1 / p.amax(-1))
    assert isinstance(importance.effective_sample_size(ell.numpy()), np.ndarray)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_resampling_is_unbiased(scheme: str, kind: str) -> None:
    """Chi-square of the counts of the first draw of many; false-alarm rate 1e-4 each, 8 tests."""
    weights = np.array([0.05, 0.0, 0.4, 0.15, 0.1, 0.3])
    repeats, size = 4000, 7
    with np.errstate(divide="ignore"):
        ell = np.tile(np.log(weights) + 3.0, (repeats, 1))
    if kind == "torch":
        drawn = importance.resample(
            torch.from_numpy(ell), size, scheme=scheme, generator=torch.Generator().manual_seed(0)
        ).numpy()
    else:
        drawn = importance.resample(ell, size, scheme=scheme, generator=np.random.default_rng(0))
    assert drawn.shape == (repeats, size)
    counts = np.stack([(drawn == i).sum(-1) for i in range(6)], -1)
    assert counts[:, 1].sum() == 0
    expected = size * weights
    # Counts of one row are dependent, rows are not: a t-test a row of weights, Bonferroni over the six.
    for i in (0, 2, 3, 4, 5):
        spread = counts[:, i].std(ddof=1)
        if spread == 0:
            assert counts[0, i] == pytest.approx(expected[i])
        else:
            z = (counts[:, i].mean() - expected[i]) / (spread / math.sqrt(repeats))
            assert 2 * stats.norm.sf(abs(z)) > 1e-4 / 6
    if scheme == "systematic":
        assert (abs(counts - expected) < 1).all()
    if scheme == "residual":
        assert (counts >= np.floor(expected)).all()
    if scheme == "stratified":
        assert (abs(counts - expected) < 2).all()


def test_multinomial_counts_are_multinomial() -> None:
    """Chi-square goodness of fit, false-alarm rate 1e-3."""
    weights = torch.tensor([0.2, 0.5, 0.3])
    drawn = importance.resample(weights.log(), 30_000, scheme="multinomial", generator=torch.Generator().manual_seed(1))
    counts = torch.bincount(drawn, minlength=3).numpy()
    assert stats.chisquare(counts, 30_000 * weights.double().numpy() / weights.sum().item()).pvalue > 1e-3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_resampling_equal_weights_and_one_particle(scheme: str) -> None:
    g = torch.Generator().manual_seed(0)
    assert importance.resample(torch.zeros(1), scheme=scheme, generator=g).tolist() == [0]
    if scheme != "multinomial":
        assert sorted(importance.resample(torch.zeros(5), scheme=scheme, generator=g).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("unchecked")
def test_resampling_refuses_weights_without_mass() -> None:
    for bad in (torch.full((3,), -math.inf), torch.tensor([0.0, math.nan]), torch.tensor([math.inf, 0.0])):
        with pytest.raises(ValueError, match="log_weights"):
            importance.resample(bad)
    with pytest.raises(ValueError, match="scheme = 'best'"):
        importance.resample(torch.zeros(3), scheme="best")
    with pytest.raises(ValueError, match="size = 0"):
        importance.resample(torch.zeros(3), 0)


def test_same_seed_same_draw() -> None:
    ell = torch.randn(3, 10)
    draws = [importance.resample(ell, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*draws)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.0, 100.0]), min_size=1, max_size=12).filter(lambda s: sum(s) > 0),
    share=st.floats(0.05, 1.0),
)
def test_inclusion_probabilities(scores: list[float], share: float) -> None:
    size = share * len(scores)
    p = importance.inclusion_probabilities(np.array(scores), size)
    s = np.array(scores)
    assert ((p >= 0) & (p <= 1)).all()
    assert p.sum() == pytest.approx(min(size, (s > 0).sum()))
    free = (p < 1 - 1e-12) & (s > 0)
    if free.any():  # proportional where not certain, and the certain ones would exceed one
        ratio = p[free] / s[free]
        assert ratio == pytest.approx(ratio[0])
        assert (ratio[0] * s[p >= 1 - 1e-12] >= 1 - 1e-9).all()


def test_systematic_inclusion_has_the_stated_probabilities() -> None:
    p = np.array([0.3, 1.0, 0.5, 0.2])
    starts = (np.arange(1000) + 0.5) / 1000
    hits = np.zeros(4)
    for start in starts:
        chosen = importance.systematic_inclusion(p, float(start))
        assert len(chosen) == 2
        hits[chosen] += 1
    np.testing.assert_allclose(hits / 1000, p, atol=2e-3)


def test_weighted_moments() -> None:
    values = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 5.0]], dtype=torch.float64)
    ell = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log() + 9
    mean, covariance = importance.weighted_moments(ell, values)
    np.testing.assert_allclose(mean, np.average(values, axis=0, weights=[0.2, 0.3, 0.5]))
    np.testing.assert_allclose(covariance, np.cov(values.T, aweights=[0.2, 0.3, 0.5], bias=True))
