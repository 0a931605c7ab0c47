"""Rates against Lyapunov's equation, closed forms and a finite-volume solution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley.dynamics.entropy_production import (
    ActiveParticles,
    from_samples,
    from_trajectories,
    gaussian_plug_in,
    linear_rate,
    simulate,
    uncertainty_bound,
)
from hartley.labs.chaos import RingLab

ROTATION = np.array([[-1.3, 0.7], [-0.7, -1.3]])
ONE = np.ones(2)


def trapped(v0: float, gamma: float, eps: float, trap: float) -> float:
    matrix = np.array([[-trap, v0], [0.0, -gamma]])
    return linear_rate(matrix, np.array([eps, gamma]))


def stationary(matrix: np.ndarray, diffusion: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Exact samples of a linear system, by its covariance from the Kronecker form of Lyapunov's equation."""
    dim = len(matrix)
    sum_form = np.kron(matrix, np.eye(dim)) + np.kron(np.eye(dim), matrix)
    covariance = np.linalg.solve(sum_form, -2 * np.diag(diffusion).ravel()).reshape(dim, dim)
    return rng.multivariate_normal(np.zeros(dim), covariance, count)


@given(st.floats(0.2, 3.0), st.floats(-2.0, 2.0))
@settings(max_examples=30, deadline=None)
def test_rotating_process(k: float, w: float) -> None:
    assert linear_rate(np.array([[-k, w], [-w, -k]]), ONE) == pytest.approx(2 * w**2 / k, abs=1e-10)


@given(st.floats(0.1, 3.0), st.floats(0.1, 2.0), st.floats(0.05, 1.0), st.floats(0.1, 2.0))
@settings(max_examples=30, deadline=None)
def test_trapped_active_particle(v0: float, gamma: float, eps: float, trap: float) -> None:
    assert trapped(v0, gamma, eps, trap) == pytest.approx(v0**2 * gamma / (eps * (trap + gamma)), rel=1e-9)


def test_worked_numbers() -> None:
    assert linear_rate(ROTATION, ONE) == pytest.approx(0.753846, abs=1e-6)
    assert trapped(1, 0.5, 0.3, 1) == pytest.approx(1.1111, abs=1e-4)
    assert trapped(2, 1, 0.1, 0.5) == pytest.approx(26.6667, abs=1e-4)
    assert trapped(0, 0.5, 0.3, 1) == pytest.approx(0, abs=1e-12)


def test_coupled_springs_mode_by_mode() -> None:
    """Springs of stiffness kappa on a chain: each mode is a trapped particle in a trap of its own."""
    n, trap, kappa, v0, gamma, eps = 5, 0.4, 1.7, 0.9, 0.6, 0.25
    laplacian = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    laplacian[0, 0] = laplacian[-1, -1] = 1
    matrix = np.block([[-trap * np.eye(n) - kappa * laplacian, v0 * np.eye(n)], [np.zeros((n, n)), -gamma * np.eye(n)]])
    modes = np.linalg.eigvalsh(laplacian)
    expected = np.sum(v0**2 * gamma / (eps * (trap + kappa * modes + gamma)))
    assert linear_rate(matrix, np.repeat([eps, gamma], n)) == pytest.approx(expected, rel=1e-10)


def test_estimators_on_the_rotating_process() -> None:
    rng = np.random.default_rng(0)

    def drift(z: np.ndarray) -> np.ndarray:
        return z @ ROTATION.T

    z = stationary(ROTATION, ONE, 40_000, rng)
    exact = linear_rate(ROTATION, ONE)
    direct = from_samples(drift, lambda z: np.full(z.shape[:-1], -2.6), ONE, z)
    assert abs(direct.rate - exact) < 4 * direct.standard_error  # false alarm 6e-5
    assert direct.standard_error < 0.03
    assert gaussian_plug_in(drift, ONE, z).rate == pytest.approx(exact, abs=0.02)  # exact for linear drifts
    paths = simulate(drift, ONE, z[:400], dt=0.005, steps=1000, rng=rng)
    heat = from_trajectories(drift, ONE, paths, 0.005)
    assert abs(heat.rate - exact) < 4 * heat.standard_error + 0.01  # and a bias of order dt
    assert heat.standard_error < 0.1
    bound = uncertainty_bound(drift, ONE, paths, 0.005)
    assert 0 < bound < exact + 0.1


def test_heat_vanishes_in_equilibrium() -> None:
    rng = np.random.default_rng(1)
    z = stationary(-np.eye(2), ONE, 300, rng)
    heat = from_trajectories(lambda z: -z, ONE, simulate(lambda z: -z, ONE, z, dt=0.01, steps=500, rng=rng), 0.01)
    assert abs(heat.rate) < 4 * heat.standard_error


@pytest.mark.parametrize(
    ("v0", "gamma", "eps", "published"), [(1.0, 0.5, 0.3, 1.6639), (0.25, 0.1, 0.1, 0.2221), (1.0, 0.5, 0.1, 5.0067)]
)
def test_ring_by_finite_volumes(v0: float, gamma: float, eps: float, published: float) -> None:
    assert RingLab(v0=v0, gamma=gamma, eps=eps).exact_rate == pytest.approx(published, rel=2.5e-3)


def test_ring_without_a_bump_or_drive_is_in_equilibrium() -> None:
    assert RingLab(v0=1e-9).exact_rate == pytest.approx(0, abs=1e-6)


def test_ring_from_samples() -> None:
    ring = RingLab()
    z = ring.samples(8000, np.random.default_rng(2), time=12.0)
    found = from_samples(ring.drift, ring.divergence, ring.diffusion, z)
    assert abs(found.rate - ring.exact_rate) < 4 * found.standard_error
    assert gaussian_plug_in(ring.drift, ring.diffusion, z).rate > 1.4 * ring.exact_rate


def test_divergence_of_particles_is_the_trace_of_the_jacobian() -> None:
    rng = np.random.default_rng(3)
    for system in (ActiveParticles(4, 2), ActiveParticles(3, 1), ActiveParticles(5, 2, trap=0.0, width=3.0)):
        z = rng.uniform(-1.5, 1.5, 2 * system.particles * system.dimension)
        shift = 1e-5 * np.eye(len(z))
        slopes = (system.drift(z + shift) - system.drift(z - shift)) / 2e-5
        assert np.trace(slopes) == pytest.approx(float(system.divergence(z)), rel=1e-6)


def test_particles_symmetries() -> None:
    system = ActiveParticles(4, 2, trap=0.0, width=3.0)
    z = np.random.default_rng(4).uniform(-3, 3, 16)
    b = system.drift(z)
    order = np.array([2, 0, 3, 1])
    swapped = np.concatenate([half.reshape(4, 2)[order].ravel() for half in np.split(z, 2)])
    expected = np.concatenate([half.reshape(4, 2)[order].ravel() for half in np.split(b, 2)])
    np.testing.assert_allclose(system.drift(swapped), expected, atol=1e-12)
    moved = np.concatenate([z[:8] + np.tile([1.7, -2.3], 4), z[8:]])
    np.testing.assert_allclose(system.drift(moved), b, atol=1e-12)


def test_particles_rates_agree() -> None:
    """The low-variance form, the general form and the heat along trajectories are one number."""
    system = ActiveParticles(3, 1)
    z = system.simulate(600, time=16.0, dt=0.01, rng=np.random.default_rng(5), every=200)[:, 4:]
    low, general = system.entropy_production(z), from_samples(system.drift, system.divergence, system.diffusion, z)
    assert low.standard_error < general.standard_error
    assert abs(low.rate - general.rate) < 4 * np.hypot(low.standard_error, general.standard_error)
    alone = ActiveParticles(1, 1, trap=1.0)
    z = alone.simulate(2000, time=10.0, dt=0.01, rng=np.random.default_rng(6), every=250)[:, 2:]
    found = alone.entropy_production(z)
    assert abs(found.rate - 1.1111) < 4 * found.standard_error + 0.01  # and a bias of order dt


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_rate(np.eye(2), ONE), "all of them negative"),
        (lambda: linear_rate(-np.eye(2), np.array([1.0, 0.0])), "where one is 0 the rate is not defined"),
        (lambda: linear_rate(-np.eye(2), np.ones(3)), "2 values"),
        (lambda: ActiveParticles(2, 1, trap=0.0), "without a box"),
        (lambda: simulate(lambda z: -z, ONE, np.zeros((3, 2)), dt=0.0, steps=5, rng=np.random.default_rng(0)), "dt"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_divergence_is_told() -> None:
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ArithmeticError, match="smaller dt"):
        simulate(lambda z: z**3, ONE, np.full((2, 2), 9.0), dt=0.1, steps=50, rng=np.random.default_rng(0))
