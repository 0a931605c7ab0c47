"""Trajectories against scipy, closed forms, conserved quantities and their own orders of accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate

from hartley.dynamics.systems import System, get_system, load_systems
from hartley.dynamics.trajectories import IntegrationError, initial_conditions, integrate, make_trajectory, solve

LORENZ = get_system("Lorenz")
WAVE = System("wave", ("q", "p"), ("p", "-q"), {}, (1.0, 0.0), period=2 * math.pi)
EXPLOSION = System("explosion", ("x",), ("x**2",), {}, (1.0,))
DECAY = System("delayed decay", ("x",), ("-x_tau",), {"tau": 1.0}, (1.0,), embedding=3)


def test_every_system_runs() -> None:
    for system in load_systems().values():
        values = make_trajectory(system, 200).values
        assert values.shape == (200, system.embedding or system.dimension), system.name
        assert np.isfinite(values).all(), system.name


@pytest.mark.parametrize("name", ["Lorenz", "Rossler", "Chua", "ForcedBrusselator", "Hopfield", "Torus"])
def test_one_period_against_scipy(name: str) -> None:
    system = get_system(name)
    times = np.linspace(0, system.period, 51)
    reference = scipy.integrate.solve_ivp(
        lambda t, x: system.rhs(x, t), (0, times[-1]), system.initial_condition, "DOP853", times, rtol=1e-13, atol=1e-13
    ).y.T
    for method, error in (("dop853", 5e-7), ("rk45", 1e-6), ("rk4", 1e-6)):
        values = integrate(system, times, method=method, substeps=40)
        assert np.abs((values - reference) / system.scale).max() < error, method


def test_orders_of_accuracy() -> None:
    """Halving the steps divides the error of classical Runge-Kutta by 16."""
    system = get_system("Thomas")
    ends = [integrate(system, np.array([0.0, system.period]), method="rk4", substeps=n)[-1] for n in (400, 800, 12_800)]
    coarse, fine = (np.abs(x - ends[2]).max() for x in ends[:2])
    assert coarse / fine == pytest.approx(16, abs=2)


@pytest.mark.parametrize(("method", "slack"), [("dop853", 100), ("rk45", 1000)])
@pytest.mark.parametrize("tolerance", [1e-6, 1e-9, 1e-12])
def test_adaptive_error_follows_the_tolerance(method: str, slack: float, tolerance: float) -> None:
    times = np.linspace(0, 20, 7)
    values = integrate(WAVE, times, method=method, tolerance=tolerance)
    np.testing.assert_allclose(values[:, 0], np.cos(times), atol=slack * tolerance)


def test_energy_of_hamiltonian_systems() -> None:
    def henon_heiles(s: np.ndarray) -> np.ndarray:
        x, y, px, py = np.moveaxis(s, -1, 0)
        return (px**2 + py**2 + x**2 + y**2) / 2 + x**2 * y - y**3 / 3

    def pendulum(s: np.ndarray) -> np.ndarray:
        a, b, p, q = np.moveaxis(s, -1, 0)
        kinetic = (p**2 + 2 * q**2 - 2 * p * q * np.cos(a - b)) / (2 * (1 + np.sin(a - b) ** 2))
        return kinetic - 9.81 * (2 * np.cos(a) + np.cos(b))

    system = get_system("HenonHeiles")
    energy = henon_heiles(integrate(system, np.linspace(0, 100 * system.period, 201), tolerance=1e-11))
    assert np.ptp(energy) < 1e-8
    times = np.linspace(0, 30, 201)
    assert np.ptp(pendulum(integrate(get_system("DoublePendulum"), times, tolerance=1e-12))) < 1e-7
    stored = get_system("DoublePendulum", corrected=False)
    assert np.ptp(pendulum(integrate(stored, times, tolerance=1e-12))) > 1.0  # the misprint that we correct


def test_batches_equal_single_runs() -> None:
    starts = initial_conditions(LORENZ, 40, np.random.default_rng(0)).reshape(4, 10, 3)
    times = np.linspace(0, 1.5, 20)
    given = starts.copy()
    together = integrate(LORENZ, times, starts)
    assert together.shape == (4, 10, 20, 3)
    np.testing.assert_allclose(together[3, 9], integrate(LORENZ, times, starts[3, 9]), atol=1e-9)
    np.testing.assert_array_equal(together[:, :, 0], given)
    np.testing.assert_array_equal(starts, given)


def test_delay_equation_in_closed_form() -> None:
    """x' = -x(t - 1) with history 1: a polynomial of degree k on [k - 1, k] (the method of steps)."""

    def exact(t: float) -> float:
        return sum((-1) ** k * (t - k + 1) ** k / math.factorial(k) for k in range(int(t) + 2))

    times = np.linspace(0, 4.5, 46)
    values = integrate(DECAY, times, substeps=20)[:, 0]
    np.testing.assert_allclose(values, [exact(t) for t in times], atol=1e-8)
    shown = make_trajectory(DECAY, 46, per_period=10).values
    assert shown.shape == (46, 3)
    np.testing.assert_allclose(shown[:, 0], values, atol=1e-6)
    np.testing.assert_allclose(shown[20:, 1], values[15:-5], atol=1e-6)  # half a delay earlier
    np.testing.assert_array_equal(shown[:5, 2], 1.0)  # history


def test_noise_of_a_linear_system_has_its_known_variance() -> None:
    """x' = -x + noise is an Ornstein-Uhlenbeck process of variance amplitude^2 / 2."""
    system = System("ou", ("x",), ("-x",), {}, (0.0,), period=1.0, mean=(0.0,), std=(2.0,))
    start = np.zeros((64, 1))
    values = make_trajectory(system, 400, 10, start, noise=0.5, rng=np.random.default_rng(0)).values[:, 100:]
    # 64 series of 30 time units: about 64 * 15 independent values, a standard error of 4.6%; false alarm 3e-4
    assert values.var() == pytest.approx((0.5 * 2.0) ** 2 / 2, rel=0.17)
    again = make_trajectory(system, 400, 10, start, noise=0.5, rng=np.random.default_rng(0)).values[:, 100:]
    np.testing.assert_array_equal(values, again)


def test_sampling_conventions() -> None:
    fine = make_trajectory(LORENZ, 50, 100)
    assert np.diff(fine.times) == pytest.approx(LORENZ.period / 100)
    assert np.diff(make_trajectory(LORENZ, 50, resample=False).times) == pytest.approx(LORENZ.dt)
    long = make_trajectory(LORENZ, 20_000, 15, standardise=True).values
    assert np.abs(long.mean(0)).max() < 0.1
    assert np.abs(long.std(0) - 1).max() < 0.05
    forced = get_system("ForcedBrusselator")
    assert np.abs(make_trajectory(forced, 300, standardise=True).values[:, 2]).max() < 2  # the sine of a phase


def test_scipy_solvers_give_dense_output() -> None:
    times = np.linspace(0, 1, 11)
    result = solve(LORENZ, times, method="Radau", dense_output=True)
    np.testing.assert_allclose(result.y.T, integrate(LORENZ, times), atol=1e-5)
    np.testing.assert_allclose(result.sol(0.55), integrate(LORENZ, np.array([0, 0.55]))[-1], atol=1e-5)


def test_divergence_says_when_and_where() -> None:
    starts = np.array([[0.1], [1.0], [0.2]])
    with pytest.raises(IntegrationError, match=r"explosion: trajectory 1 .* at t = 1, where x = ") as caught:
        integrate(EXPLOSION, np.linspace(0, 2, 21), starts)
    assert caught.value.trajectory == 1
    assert caught.value.time == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(IntegrationError, match="diverges at t = 1"):
        integrate(EXPLOSION, np.linspace(0, 2, 21), method="rk4")


def test_progress_is_told_and_can_stop_a_run() -> None:
    calls: list[tuple[int, int]] = []

    def stop_soon(done: int, total: int) -> bool:
        calls.append((done, total))
        return len(calls) < 2

    times = np.linspace(0, 100, 200_000)
    values = integrate(LORENZ, times, tolerance=1e-5, progress=stop_soon)
    assert len(calls) == 2
    assert values.shape == (calls[-1][0], 3)
    assert calls[-1][1] == 200_000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: integrate(LORENZ, np.array([0.0, 1.0, 0.5])), r"times\[2\] = 0.5 after 1"),
        (lambda: integrate(LORENZ, np.array([0.0, np.nan])), "increasing"),
        (lambda: integrate(LORENZ, np.array([0.0, 1.0]), np.zeros(2)), "states of 3 variables"),
        (lambda: integrate(LORENZ, np.array([0.0, 1.0]), np.full(3, np.nan)), "finite states"),
        (lambda: integrate(LORENZ, np.array([0.0, 1.0]), tolerance=0.0), "tolerance = 0.0"),
        (lambda: make_trajectory(LORENZ, 10, noise=0.1), "rng = None"),
        (lambda: make_trajectory(LORENZ, 0), "n = 0"),
        (lambda: make_trajectory(DECAY, 9, noise=0.1), "0 for a delay system"),
        (lambda: solve(get_system("MackeyGlass"), np.array([0.0, 1.0])), "ordinary"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
