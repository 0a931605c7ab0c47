"""Diffusion spectral entropy: closed forms, limits, invariances, gradients, the approximation's error, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley.measures import (
    SpectralMonitor,
    cluster_vectors,
    diffusion_spectral_entropy,
    diffusion_spectral_information,
    diffusion_spectrum,
)


def cloud(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def dense(z: np.ndarray, sigma: float, t: float = 1.0, alpha: float = 0.0) -> float:
    """Eigenvalues of the row-normalised random walk itself, by a general solver."""
    g = np.exp(-((z[:, None] - z[None]) ** 2).sum(-1) / (2 * sigma**2))
    g = g / np.outer(g.sum(1), g.sum(1)) ** alpha
    values = np.abs(np.linalg.eigvals(g / g.sum(1, keepdims=True))) ** t
    p = values / values.sum()
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def test_two_points() -> None:
    value = diffusion_spectral_entropy(np.array([[0.0], [1.0]]), sigma=1.0)
    assert float(value) == pytest.approx(0.495842, abs=1e-6)
    assert float(value) / math.log(2) == pytest.approx(0.715349, abs=1e-6)


def test_limits() -> None:
    assert float(diffusion_spectral_entropy(np.ones((7, 3)))) == pytest.approx(0, abs=1e-9)
    groups = np.repeat(np.array([[0.0], [1e3], [3e3]]), [2, 5, 9], axis=0)
    for t in (1.0, 5.0):
        assert float(diffusion_spectral_entropy(groups, t=t)) == pytest.approx(math.log(3), abs=1e-9)
    far = 1e3 * cloud(20, 4)
    assert float(diffusion_spectral_entropy(far)) == pytest.approx(math.log(20), abs=1e-9)


@pytest.mark.parametrize(("t", "alpha"), [(1.0, 0.0), (2.0, 0.0), (1.0, 0.5), (1.5, 1.0)])
def test_against_the_random_walk_itself(t: float, alpha: float) -> None:
    z = cloud(80, 5)
    assert float(diffusion_spectral_entropy(z, sigma=2.0, t=t, alpha=alpha)) == pytest.approx(
        dense(z, 2.0, t, alpha), abs=1e-8
    )


@given(st.integers(0, 10**6), st.floats(0.5, 4.0))
@settings(max_examples=15, deadline=None)
def test_invariances_and_bounds(seed: int, factor: float) -> None:
    z = cloud(25, 4, seed)
    value = float(diffusion_spectral_entropy(z, sigma=1.5))
    turn = np.linalg.qr(cloud(4, 4, seed + 1))[0]
    moved = (z @ turn + 30.0)[::-1].copy()
    assert float(diffusion_spectral_entropy(moved, sigma=1.5)) == pytest.approx(value, abs=1e-8)
    assert float(diffusion_spectral_entropy(factor * z, sigma=factor * 1.5)) == pytest.approx(value, abs=1e-8)
    assert 0 <= value <= math.log(25)
    assert float(diffusion_spectral_entropy(z, sigma=1.5, t=2.0)) <= value + 1e-9
    single = diffusion_spectral_entropy(z.astype(np.float32), sigma=1.5)
    assert float(single) == pytest.approx(value, abs=1e-3)


def test_gradient() -> None:
    z = torch.from_numpy(cloud(12, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: diffusion_spectral_entropy(x, sigma=1.0), (z,), atol=1e-5)


@pytest.mark.parametrize(("d", "sigma", "landmarks"), [(5, None, 150), (20, None, 300), (20, 1.0, 300)])
def test_error_of_landmarks(d: int, sigma: float | None, landmarks: int) -> None:
    z = torch.from_numpy(cloud(800, d))
    exact = float(diffusion_spectral_entropy(z, sigma=sigma))
    generator = torch.Generator().manual_seed(0)
    spectrum = diffusion_spectrum(z, sigma=sigma, landmarks=landmarks, generator=generator)
    generator.manual_seed(0)
    near = float(diffusion_spectral_entropy(z, sigma=sigma, landmarks=landmarks, generator=generator))
    assert 0 < spectrum.missing < 1
    assert spectrum.eigenvalues[0] == pytest.approx(1, abs=1e-3)
    assert 0 <= near - exact < 4 * spectrum.missing
    every = diffusion_spectrum(z, sigma=sigma, landmarks=800, generator=generator)
    assert every.missing == 0


def test_far_points_survive_landmarks() -> None:
    z = torch.from_numpy(1e3 * cloud(300, 4))
    value = diffusion_spectral_entropy(z, landmarks=20, generator=torch.Generator().manual_seed(0))
    assert float(value) == pytest.approx(math.log(300), abs=1e-6)


def blobs(n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n)
    centres = rng.uniform(-10, 10, (3, d))
    return torch.from_numpy(centres[y] + rng.standard_normal((n, d))), torch.from_numpy(y)


def test_information_of_labels() -> None:
    z, y = blobs(600, 20)
    generator = torch.Generator().manual_seed(0)
    true = float(diffusion_spectral_information(z, y, generator=generator))
    half = torch.where(torch.rand(600, generator=generator) < 0.5, y, y[torch.randperm(600, generator=generator)])
    part = float(diffusion_spectral_information(z, half, generator=generator))
    none = float(diffusion_spectral_information(z, y[torch.randperm(600, generator=generator)], generator=generator))
    assert true > 3 * part > 0
    assert abs(none) < 0.07
    single = diffusion_spectral_information(z, torch.zeros_like(y), generator=generator)
    assert float(single) == pytest.approx(0, abs=1e-9)
    by_number = diffusion_spectral_information(z, y.double() + 0.01, bins=3, generator=torch.Generator().manual_seed(0))
    assert float(by_number) == pytest.approx(true, abs=1e-9)


def test_information_of_vectors_is_that_of_their_clusters() -> None:
    z, y = blobs(300, 20)
    rng = np.random.default_rng(1)
    inputs = torch.from_numpy(np.eye(3)[y.numpy()] * 9 + rng.standard_normal((300, 3)))
    found = cluster_vectors(inputs, 3)
    pairs = set(zip(found.tolist(), y.tolist(), strict=True))
    assert len(pairs) == 3  # the blobs, up to names
    want = diffusion_spectral_information(z, y, generator=torch.Generator().manual_seed(0))
    got = diffusion_spectral_information(z, inputs, bins=3, generator=torch.Generator().manual_seed(0))
    assert float(got) == pytest.approx(float(want), abs=0.05)  # other names, other subsets
    images = inputs.reshape(300, 3, 1)
    again = diffusion_spectral_information(z, images, bins=3, generator=torch.Generator().manual_seed(0))
    assert float(again) == float(got)
    noise = torch.from_numpy(rng.standard_normal((300, 3)))
    assert abs(float(diffusion_spectral_information(z, noise, bins=3))) < 0.1
    with pytest.raises(ValueError, match="clusters = 10"):
        cluster_vectors(inputs[:5], 10)


def test_monitor_follows_layers() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))
    probe, labels = torch.randn(30, 4), torch.arange(30) % 2
    monitor = SpectralMonitor(model, ["0", "3"], probe, labels)
    first = monitor(0)
    assert model.training
    assert first == monitor(1)  # evaluation mode, the same subsets
    assert first["0"][0] == pytest.approx(float(diffusion_spectral_entropy(model[0](probe).detach())), abs=1e-5)
    assert set(monitor.history) == {0, 1}
    with pytest.raises(ValueError, match="names of modules such as 0, 1, 2"):
        SpectralMonitor(model, ["head"], probe)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two vectors"):
        diffusion_spectral_entropy(np.ones((1, 3)))
    with pytest.raises(ValueError, match="finite vectors"):
        diffusion_spectral_entropy(np.array([[1.0], [np.nan]]))
    with pytest.raises(ValueError, match="sigma"):
        diffusion_spectral_entropy(np.eye(3), sigma=0.0)
    with pytest.raises(ValueError, match="t ="):
        diffusion_spectral_entropy(np.eye(3), t=-1.0)
    with pytest.raises(ValueError, match="classes of one row"):
        diffusion_spectral_information(torch.eye(3), torch.arange(3))
