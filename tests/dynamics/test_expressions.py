"""What the parser lets in, and derivatives against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley.dynamics.expressions import Graph
from hartley.dynamics.systems import System


def scalar(formula: str) -> System:
    return System("test", ("x", "y"), (formula, "0"), {"p": 1.7}, (1.0, 1.0))


@pytest.mark.parametrize(
    "formula",
    [
        "x.real",
        "x[0]",
        "lambda: 1",
        "__import__('os')",
        "open(x)",
        "x if y else p",
        "x < y",
        "sin(x, y)",
        "max(x)",
        "sin(a=x)",
        "'text'",
        "1j",
        "True",
        "x; y",
        "[x]",
        "x := 1",
        "x @ y",
        "x % y",
        "neg(x)",
        "(" * 300 + "x" + ")" * 300,
        "x" + "+x" * 4000,  # too deep
        "x" + "+x" * 6000,  # too long
        "x\0",
    ],
)
def test_everything_but_arithmetic_is_refused(formula: str) -> None:
    with pytest.raises(ValueError, match=r"expression|expected arithmetic"):
        scalar(formula)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown name 'sigm' .*did you mean sigma"):
        System("test", ("x",), ("sigm*x",), {"sigma": 1.0}, (1.0,))


FORMULAS = [
    "x*y - p*x**2 + 3",
    "x**4 - y**5 + x**(-2)",
    "x**p + y**1.25",
    "sin(x)*cos(y) + tan(x/4)",
    "sinh(x/3) - cosh(y) + tanh(x*y)",
    "exp(-x**2) + log(x + y) + sqrt(x*y + 1)",
    "abs(x - y) + sign(x)*y",
    "max(x, y, p) + min(x, 2*y)",
    "heaviside(x - y)*x",
    "(1/y + x/(y + p))/(1 + x)",
    "pi*x - -y + +p",
    "p**x",
]


@pytest.mark.parametrize("formula", FORMULAS)
@given(st.floats(0.3, 2.5), st.floats(0.3, 2.5))
@settings(max_examples=15, deadline=None)
def test_values_and_derivatives(formula: str, x: float, y: float) -> None:
    if min(abs(x - y), abs(x - 1.7), abs(y - 1.7), abs(x - 2 * y)) < 1e-3:
        return  # a kink
    functions = {name: getattr(math, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log")}
    functions |= {"sqrt": math.sqrt, "abs": abs, "max": max, "min": min, "pi": math.pi}
    functions |= {"sign": lambda v: math.copysign(1, v), "heaviside": lambda v: float(v > 0)}
    system, state, step = scalar(formula), np.array([x, y]), 1e-6
    expected = eval(formula, functions, {"x": x, "y": y, "p": 1.7})  # our own text
    assert system.rhs(state)[0] == pytest.approx(expected, rel=1e-12)
    for i in range(2):
        shift = step * np.eye(2)[i]
        slope = (system.rhs(state + shift)[0] - system.rhs(state - shift)[0]) / (2 * step)
        assert system.jacobian(state)[0, i] == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_conventions_at_jumps() -> None:
    assert scalar("heaviside(x)").rhs(np.zeros(2))[0] == 0
    assert scalar("sign(x)").rhs(np.zeros(2))[0] == 0


def test_common_parts_are_computed_once_and_parameters_apart() -> None:
    graph = Graph()
    names = {n: graph.name(n) for n in ("x", "p")}
    outputs = [graph.parse("sin(p*x) + exp(p)", names), graph.parse("2*sin(p*x)", names)]
    tape = graph.compile_tape(outputs, ["x"], ["p"])
    assert len(tape.prelude) == 1  # exp(p)
    assert len(tape.code) == 4  # p*x, its sine, the sum, the product
