"""Invariants of systems whose values are published, exact or zero by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hartley.dynamics.invariants import (
    audit,
    correlation_dimension,
    kaplan_yorke,
    lyapunov_spectrum,
    multiscale_entropy,
    pesin_entropy,
    power_law_dimension,
    sample_entropy,
)
from hartley.dynamics.systems import System, get_system
from hartley.dynamics.trajectories import make_trajectory

LINEAR = System("saddle", ("x", "y", "z"), ("0.3*x", "-y", "-2*z + t*0"), {}, (1e-9, 1.0, 1.0), period=1.0)


def test_linear_system_exactly() -> None:
    found = lyapunov_spectrum(LINEAR, 20.0, 2, rng=np.random.default_rng(0))
    # with no mixing, a random frame aligns like exp(-gap time): the discarded 10 periods leave little
    np.testing.assert_allclose(found.exponents, [0.3, -1.0, -2.0], atol=1e-3)
    assert found.divergence == pytest.approx(-2.7, abs=1e-9)
    assert found.residual < 1e-6
    assert pesin_entropy(found.exponents) == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "published", "slack"),
    # Lorenz with beta 2.667: 0.9056 (Sprott 2003); Rossler at 0.2, 0.2, 5.7: 0.0714
    [("Lorenz", 0.9056, 0.03), ("Rossler", 0.0714, 0.008)],
)
def test_published_exponents(name: str, published: float, slack: float) -> None:
    found = lyapunov_spectrum(get_system(name), 60.0, 8, rng=np.random.default_rng(1))
    assert abs(found.largest - published) < slack  # 3 to 4 standard errors at this length
    assert abs(found.largest - published) < 5 * found.standard_error[0] + 1e-3
    assert abs(found.exponents[1]) < 0.02  # along the flow
    assert found.residual < 1e-4
    assert 2 < found.kaplan_yorke < 2.1


def test_hamiltonian_spectrum_comes_in_pairs() -> None:
    found = lyapunov_spectrum(get_system("HenonHeiles"), 100.0, 4, rng=np.random.default_rng(2))
    np.testing.assert_allclose(found.exponents, -found.exponents[::-1], atol=0.01)
    assert abs(found.divergence) < 1e-9


def test_henon_heiles_at_the_tabulated_start_is_regular() -> None:
    """The database's start has energy 0.137 on a regular orbit: its exponents tend to 0 as log T / T.

    An independent reference has 0.0013 for the largest; the tabulated 0.0355 belongs to another orbit.
    """
    found = lyapunov_spectrum(get_system("HenonHeiles"), 400.0, 4, rng=np.random.default_rng(2))
    assert found.largest == pytest.approx(0.0013, abs=0.001)


def test_negative_control() -> None:
    found = lyapunov_spectrum(get_system("Torus"), 20.0, 2, rng=np.random.default_rng(3))
    np.testing.assert_allclose(found.exponents, 0, atol=1e-9)


def test_kaplan_yorke() -> None:
    assert kaplan_yorke(np.array([0.9056, 0.0, -14.572])) == pytest.approx(2.0621, abs=1e-4)
    assert kaplan_yorke(np.array([-0.1, -2.0])) == 0.0
    assert kaplan_yorke(np.array([0.5, -0.2])) == 2.0
    assert kaplan_yorke(np.array([-2.0, 0.0, 1.0])) == pytest.approx(2.5)  # order does not matter


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_correlation_dimension_of_a_cube(dimension: int) -> None:
    cube = np.random.default_rng(4).random((3000, dimension))
    assert correlation_dimension(cube, 0.002) == pytest.approx(dimension, rel=0.06)  # the cube's faces cost a little
    # between two quantiles of ratio k, the database's estimator tends to 1 + D / (k log k / (k - 1) - 1), not to D
    k = 20
    biased = 1 + dimension / (k * math.log(k) / (k - 1) - 1)
    assert power_law_dimension(cube, (0.0005, 0.01)) == pytest.approx(biased, rel=0.06)


def test_correlation_dimension_of_lorenz() -> None:
    x = make_trajectory(get_system("Lorenz"), 8000, 7).values
    assert correlation_dimension(x) == pytest.approx(2.05, abs=0.06)  # Grassberger and Procaccia 1983


def test_sample_entropy_against_its_definition() -> None:
    x = np.random.default_rng(5).standard_normal(150)

    def alike(m: int) -> int:
        windows = [x[i : i + m] for i in range(len(x) - 2)]
        return sum(np.abs(a - b).max() <= 0.2 for i, a in enumerate(windows) for j, b in enumerate(windows) if i != j)

    assert sample_entropy(x, 2, 0.2) == pytest.approx(math.log(alike(2) / alike(3)), abs=1e-12)


def test_multiscale_entropy_tells_white_noise_from_pink() -> None:
    rng = np.random.default_rng(6)
    white = rng.standard_normal(4000)
    pink = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.arange(1, 2002)))
    falling, level = multiscale_entropy(white, [1, 10]), multiscale_entropy(pink, [1, 10])
    assert falling[1] < falling[0] - 0.5  # Costa et al. 2002, figure 1
    assert abs(level[1] - level[0]) < 0.5


def test_audit_names_reasons() -> None:
    rows = audit(
        [get_system("Lorenz"), get_system("Rossler"), get_system("ForcedVanDerPol")],
        rng=np.random.default_rng(7),
        periods=40.0,
    )
    verdicts = {row.name: row.verdict for row in rows}
    assert rows[0].kaplan_yorke == pytest.approx(2.062, abs=0.02)
    assert rows[0].tabulated_kaplan_yorke == 2.07516
    assert verdicts["Lorenz"] == "agrees"
    assert "two-trajectory" in verdicts["Rossler"] or "stored" in verdicts["Rossler"]
    assert verdicts["ForcedVanDerPol"].startswith(("not chaotic", "agrees"))


def test_progress_stops_and_averages_what_is_done() -> None:
    found = lyapunov_spectrum(
        LINEAR, 100.0, 2, rng=np.random.default_rng(0), progress=lambda done, total: done < 15 * 20
    )
    assert found.periods == pytest.approx(5)
    assert found.divergence == pytest.approx(-2.7, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lyapunov_spectrum(get_system("MackeyGlass"), rng=np.random.default_rng(0)), "ordinary system"),
        (lambda: lyapunov_spectrum(LINEAR, trajectories=1, rng=np.random.default_rng(0)), "trajectories = 1"),
        (lambda: correlation_dimension(np.ones((5, 2))), "constant"),
        (lambda: multiscale_entropy(np.ones(50)), "constant"),
        (lambda: sample_entropy(np.ones(3)), "3 values"),
        (lambda: sample_entropy(np.ones(9), tolerance=0.0), "tolerance"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
