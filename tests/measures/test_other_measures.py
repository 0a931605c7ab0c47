"""Divergences, probability tables, windows and spectra against definitions and worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.spatial.distance import jensenshannon

from hartley import measures

INF = math.inf


def pair(seed: int, n: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.randn(2, 4, n, dtype=torch.float64, generator=generator).unbind() if n else (None, None)
    assert p is not None
    assert q is not None
    return 2 * p, 2 * q


def test_divergences_against_scipy() -> None:
    p, q = pair(0)
    p[:, :3] = -INF
    probs_p, probs_q = p.softmax(-1).numpy(), q.softmax(-1).numpy()
    np.testing.assert_allclose(measures.kl_divergence(p, q), special.rel_entr(probs_p, probs_q).sum(-1), atol=1e-12)
    np.testing.assert_allclose(measures.js_divergence(p, q), jensenshannon(probs_p, probs_q, axis=-1) ** 2, atol=1e-12)
    np.testing.assert_allclose(measures.total_variation(p, q), abs(probs_p - probs_q).sum(-1) / 2, atol=1e-12)
    np.testing.assert_allclose(
        measures.hellinger_distance(p, q) ** 2, 1 - np.sqrt(probs_p * probs_q).sum(-1), atol=1e-12
    )
    np.testing.assert_allclose(measures.renyi_divergence(p, q, 2.0), np.log((probs_p**2 / probs_q).sum(-1)), atol=1e-12)
    np.testing.assert_allclose(
        measures.cross_entropy(p, q), measures.kl_divergence(p, q) + measures.entropy(p), atol=1e-12
    )
    torch.testing.assert_close(measures.renyi_divergence(p, q, 1.0), measures.kl_divergence(p, q))


def test_divergences_at_the_edges() -> None:
    left, right = torch.tensor([0.0, -INF, -INF]), torch.tensor([-INF, 0.0, -INF])
    assert measures.kl_divergence(left, right).item() == INF
    assert measures.js_divergence(left, right).item() == pytest.approx(math.log(2))
    assert measures.js_divergence(left, left).item() == 0
    assert measures.kl_divergence(left, left).item() == 0
    assert measures.js_divergence(left, right, weight=0.25).item() == pytest.approx(
        -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), abs=1e-6
    )


@pytest.mark.parametrize("name", ["kl_divergence", "js_divergence"])
def test_divergence_gradients_survive_minus_infinity(name: str) -> None:
    p = torch.tensor([0.3, -INF, 1.0], dtype=torch.float64).requires_grad_()
    q = torch.tensor([0.1, -INF, 0.4], dtype=torch.float64).requires_grad_()
    getattr(measures, name)(p, q).backward()
    for tensor in (p, q):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad[1] == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_bounds_of_divergences(seed: int) -> None:
    p, q = pair(seed)
    kl, tv = measures.kl_divergence(p, q), measures.total_variation(p, q)
    assert (kl >= 2 * tv**2 - 1e-12).all()  # Pinsker
    torch.testing.assert_close(measures.js_divergence(p, q), measures.js_divergence(q, p))
    assert (measures.js_divergence(p, q) <= math.log(2)).all()


def test_ensemble_disagreement() -> None:
    same = torch.randn(1, 5, dtype=torch.float64).expand(4, 5)
    assert measures.ensemble_disagreement(same).item() == pytest.approx(0, abs=1e-12)
    certain = torch.full((3, 3), -INF).fill_diagonal_(0.0)
    assert measures.ensemble_disagreement(certain).item() == pytest.approx(math.log(3), abs=1e-6)


def test_complexity_worked_numbers() -> None:
    p = torch.tensor([0.5, 0.5, 0, 0, 0, 0], dtype=torch.float64)
    assert measures.js_complexity(p).item() == pytest.approx(0.271239, abs=1e-6)
    assert measures.js_complexity(torch.full((6,), 1 / 6, dtype=torch.float64)).item() == pytest.approx(0, abs=1e-12)
    assert measures.js_complexity(torch.eye(6, dtype=torch.float64)[0]).item() == 0
    assert measures.js_complexity(torch.ones(1)).item() == 0


def test_mutual_information() -> None:
    rng = np.random.default_rng(0)
    independent = np.outer(rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5)))
    assert measures.mutual_information(independent) == pytest.approx(0, abs=1e-12)
    assert measures.mutual_information(np.eye(7, dtype=np.int64)) == pytest.approx(math.log(7))
    counts = rng.integers(0, 9, (3, 4))
    expected = stats.entropy(counts.sum(0)) + stats.entropy(counts.sum(1)) - stats.entropy(counts.ravel())
    assert measures.mutual_information(counts) == pytest.approx(expected)
    filled = (counts.sum(1) > 0).sum() + (counts.sum(0) > 0).sum() - (counts > 0).sum() - 1
    assert measures.mutual_information(counts, correction="miller-madow") == pytest.approx(
        max(expected + filled / (2 * counts.sum()), 0)
    )
    stacked = np.stack([np.eye(2), np.zeros((2, 2)), np.ones((2, 2))])
    assert measures.conditional_mutual_information(stacked) == pytest.approx(math.log(2) * 2 / 6)
    with pytest.raises(ValueError, match="joint"):
        measures.mutual_information(-counts)


def test_entropy_from_probs() -> None:
    p = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    np.testing.assert_allclose(measures.entropy_from_probs(p), stats.entropy(p, axis=-1))
    logits = torch.from_numpy(p).log()
    np.testing.assert_allclose(measures.varentropy_from_probs(p), measures.varentropy(logits), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), time=st.integers(1, 12), width=st.integers(1, 15))
def test_windows_against_a_loop(seed: int, time: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, time, generator=generator)
    mask = torch.rand(2, time, generator=generator) < 0.7
    for reduce, function in (("mean", torch.mean), ("max", torch.amax)):
        got = measures.windowed(values, width, mask=mask, reduce=reduce)
        for row in range(2):
            for t in range(time):
                window = slice(max(0, t - width + 1), t + 1)
                seen = values[row, window][mask[row, window]]
                expected = function(seen) if len(seen) else torch.tensor(math.nan)
                torch.testing.assert_close(got[row, t], expected, equal_nan=True, atol=1e-6, rtol=1e-5)


def test_exponential_average_is_a_weighted_mean() -> None:
    values = torch.tensor([1.0, 5.0, 2.0])
    got = measures.exponential_average(values, 0.5)
    expected = torch.tensor([1.0, (0.5 + 5) / 1.5, (0.25 + 2.5 + 2) / 1.75])
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(measures.exponential_average(values, 0.0), values)
    masked = measures.exponential_average(values, 0.5, mask=torch.tensor([True, False, True]))
    assert masked[1] == masked[0]


def test_spectral_measures() -> None:
    eye = torch.eye(5, dtype=torch.float64)
    assert measures.vendi_score(eye).item() == pytest.approx(5)
    assert measures.vendi_score(torch.ones_like(eye)).item() == pytest.approx(1, abs=1e-9)
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gram = x @ x.T
    eigenvalues = torch.linalg.eigvalsh(gram).clamp(min=0)
    weights = eigenvalues / eigenvalues.sum()
    assert measures.von_neumann_entropy(gram).item() == pytest.approx(torch.special.entr(weights).sum().item())
    assert measures.von_neumann_entropy(gram, 2.0).item() == pytest.approx(-(weights**2).sum().log().item())
    assert measures.von_neumann_entropy(gram, INF).item() == pytest.approx(-weights.max().log().item())
    assert measures.log_volume(x, 0.0).item() == pytest.approx(torch.logdet(x.T @ x).item())
    covariance = x.T @ x
    assert measures.gaussian_entropy(covariance).item() == pytest.approx(
        stats.multivariate_normal(cov=covariance.numpy()).entropy()
    )
    assert measures.gaussian_information(gram, 0.5).item() == pytest.approx(
        torch.logdet(torch.eye(6, dtype=torch.float64) + gram / 0.25).item() / 2
    )


def test_log_det_gains_are_differences_of_log_determinants() -> None:
    x = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kernel = x @ x.T
    gains = measures.log_det_gains(kernel, [3, 1])
    for i in (0, 2, 4):
        expected = torch.logdet(kernel[[3, 1, i]][:, [3, 1, i]]) - torch.logdet(kernel[[3, 1]][:, [3, 1]])
        assert gains[i].item() == pytest.approx(expected.item())
    assert gains[1] == gains[3] == -INF
    torch.testing.assert_close(measures.log_det_gains(kernel, []), kernel.diagonal().log())
