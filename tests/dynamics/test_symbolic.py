"""Polynomial systems are recovered term by term."""

from __future__ import annotations

import numpy as np
import pytest

from hartley.dynamics.symbolic import fit_polynomial
from hartley.dynamics.systems import System, get_system
from hartley.dynamics.trajectories import make_trajectory


@pytest.mark.parametrize("name", ["Lorenz", "Rossler", "SprottB", "Lorenz96", "HenonHeiles"])
def test_exact_recovery(name: str) -> None:
    system = get_system(name)
    x = make_trajectory(system, 600, 30).values
    found = fit_polynomial(x, system.rhs(x), threshold=1e-4)
    again = System(name, system.variables, tuple(found.formulas(system.variables)), {}, system.initial_condition)
    other = x[::7] + 0.1 * system.scale  # off the trajectory, where wrong terms would show
    np.testing.assert_allclose(again.rhs(other), system.rhs(other), rtol=1e-6, atol=1e-6 * np.abs(system.rhs(x)).max())
    np.testing.assert_allclose(found(other), again.rhs(other), rtol=1e-8, atol=1e-8)


def test_lorenz_has_seven_terms() -> None:
    system = get_system("Lorenz")
    x = make_trajectory(system, 600, 30).values
    found = fit_polynomial(x, system.rhs(x))
    assert (found.coefficients != 0).sum() == 7
    terms = {tuple(p): c for p, c in zip(found.powers.tolist(), found.coefficients[:, 1], strict=True) if c}
    assert terms == pytest.approx({(0, 1, 0): -1.0, (1, 0, 0): 28.0, (1, 0, 1): -1.0})


def test_noise_is_thresholded_away() -> None:
    system, rng = get_system("Lorenz"), np.random.default_rng(0)
    x = make_trajectory(system, 2000, 30).values
    slope = system.rhs(x)
    found = fit_polynomial(x, slope + 0.01 * slope.std(0) * rng.standard_normal(slope.shape), threshold=0.05)
    assert (found.coefficients != 0).sum() == 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_polynomial(np.zeros((5, 3)), np.zeros((5, 3))), "at least 20"),
        (lambda: fit_polynomial(np.zeros((50, 3)), np.zeros((50, 2))), "shape of x"),
        (lambda: fit_polynomial(np.zeros((50, 1)), np.zeros((50, 1)), degree=0), "degree = 0"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
