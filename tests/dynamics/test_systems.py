"""All systems against independent evaluations of their formulas."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch

from hartley.dynamics.systems import System, get_system, load_systems, system_names

LORENZ = get_system("Lorenz")


def in_high_precision(system: System, x: np.ndarray, t: float, delayed: float) -> np.ndarray:
    """The formulas by Python's own arithmetic on 40-digit numbers (the text is the package's own)."""
    names = {
        name: getattr(mpmath, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "sqrt")
    }
    names |= {"abs": abs, "max": max, "min": min, "sign": mpmath.sign, "heaviside": lambda v: mpmath.mpf(v > 0)}
    with mpmath.workdps(40):
        names |= {"pi": mpmath.pi, "t": mpmath.mpf(t), "x_tau": mpmath.mpf(delayed)}
        names |= {name: mpmath.mpf(float(value)) for name, value in system.parameters.items()}
        names |= {name: mpmath.mpf(float(value)) for name, value in zip(system.variables, x, strict=True)}
        for name, formula in system.definitions:
            names[name] = eval(formula, names)
        return np.array([float(eval(formula, names)) for formula in system.equations])


def states(system: System, count: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array(system.initial_condition) + 0.1 * system.scale * rng.standard_normal((count, system.dimension))


@pytest.mark.parametrize("name", system_names())
def test_right_hand_side(name: str) -> None:
    system = get_system(name)
    for x in states(system):
        delayed = np.array([0.3]) if system.embedding else None
        expected = in_high_precision(system, x, 0.7, 0.3)
        size = np.abs(expected).max() + np.abs(x).max()
        np.testing.assert_allclose(system.rhs(x, 0.7, delayed), expected, atol=1e-11 * size, rtol=1e-11)


@pytest.mark.parametrize("name", list(load_systems(delayed=False)))
def test_jacobian_and_torch(name: str) -> None:
    """Against central differences where they are smooth, and against torch's automatic differentiation everywhere."""
    system = get_system(name)
    x = states(system)
    jacobian = system.jacobian(x, 0.7)
    tensor = torch.from_numpy(x)
    values = system.torch_rhs(tensor, 0.7)
    size = np.abs(system.rhs(x, 0.7)).max() + 1
    np.testing.assert_allclose(values.numpy(), system.rhs(x, 0.7), rtol=1e-10, atol=1e-11 * size)
    automatic = torch.stack(
        [torch.autograd.functional.jacobian(lambda y: system.torch_rhs(y, 0.7), row) for row in tensor]
    )
    size = np.abs(jacobian).max() + 1
    np.testing.assert_allclose(automatic.numpy(), jacobian, rtol=1e-8, atol=1e-9 * size)


def test_jacobian_against_differences() -> None:
    for system in load_systems(delayed=False).values():
        x = states(system, 1)[0]
        step = 1e-6 * (system.scale + np.abs(x))
        differences = np.stack(
            [(system.rhs(x + h, 0.7) - system.rhs(x - h, 0.7)) / (2 * h.max()) for h in np.diag(step)], axis=-1
        )
        error = np.abs(system.jacobian(x, 0.7) - differences).max() / (np.abs(differences).max() + 1e-9)
        assert error < 2e-5, system.name


def test_lorenz_by_hand() -> None:
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(LORENZ.rhs(x), [10, 23, -6.001], rtol=1e-14)
    np.testing.assert_allclose(LORENZ.jacobian(x), [[-10, 10, 0], [25, -1, -1], [2, 1, -2.667]], rtol=1e-14)
    assert LORENZ.divergence(x) == pytest.approx(-13.667)


def test_census() -> None:
    systems = load_systems()
    assert len(systems) == 135
    assert sum(s.embedding > 0 for s in systems.values()) == 6
    assert sum(s.forced for s in systems.values()) == 15
    assert len(load_systems(delayed=False, chaotic=True)) == 101
    assert all(s.citation for s in systems.values())


def test_parameters() -> None:
    changed = LORENZ.with_parameters(rho=0.5)
    x = np.array([1.0, 2.0, 3.0])
    assert changed.rhs(x)[1] == pytest.approx(0.5 - 3 - 2)
    assert LORENZ.rhs(x)[1] == 23
    assert not changed.tabulated
    with pytest.raises(ValueError, match="did you mean rho"):
        LORENZ.with_parameters(roh=1.0)


def test_torch_is_differentiable_in_parameters_and_batched() -> None:
    rho = torch.tensor(28.0, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[[1.0, 2, 3], [4, 5, 6]]], dtype=torch.float64)
    out = LORENZ.torch_rhs(x, parameters={"rho": rho})
    assert out.shape == x.shape
    out[0, 1, 1].backward()
    assert rho.grad == 4.0
    assert LORENZ.torch_rhs(x.to(torch.float32)).dtype == torch.float32


def test_batches() -> None:
    x = np.random.default_rng(1).standard_normal((2, 4, 3))
    assert LORENZ.jacobian(x).shape == (2, 4, 3, 3)
    np.testing.assert_array_equal(LORENZ.rhs(x)[1, 2], LORENZ.rhs(x[1, 2]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: get_system("Lorentz"), "did you mean Lorenz"),
        (lambda: LORENZ.rhs(np.zeros(4)), "states of 3 variables"),
        (lambda: get_system("MackeyGlass").rhs(np.zeros(1)), r"x\(t - tau\) of MackeyGlass"),
        (lambda: get_system("MackeyGlass").jacobian(np.zeros(1)), "ordinary"),
        (lambda: System("s", ("x",), ("x", "x"), {}, (1.0,)), "one formula a variable"),
        (lambda: System("s", ("x",), ("x",), {}, (1.0, 2.0)), "the state"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
