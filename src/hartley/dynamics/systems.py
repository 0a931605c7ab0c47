"""Chaotic systems as objects: equations, parameters, what is known of them, and their compiled right-hand sides.

135 systems: 129 ordinary differential equations, of which 15 are forced (the phase is a variable of its own), and 6
scalar delay equations x' = F(x(t), x(t - tau)). Own systems are made of the same parts:

>>> pendulum = System("pendulum", ("q", "p"), ("p", "-sin(q)"), {}, (1.0, 0.0))
>>> pendulum.rhs(np.array([0.5, 2.0])).round(3).tolist()
[2.0, -0.479]

Source: Gilpin (2021), arXiv 2110.05266, and the package dysts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from hartley.checks import nearest, require
from hartley.dynamics.expressions import Graph, Node, Tape
from hartley.dynamics.kernel import run_tape


@dataclass(frozen=True)
class System:
    """A dynamical system given by formulas; immutable, and cheap to make again with other parameters.

    Attributes
    ----------
    name : what errors and tables call it.
    variables, equations : the state, and the derivative of each variable as a formula.
    parameters : numbers that the formulas name.
    initial_condition : a state on the attractor.
    definitions : names for shared subexpressions, in the order in which they build on each other.
    period, dt : dominant time scale and the step that the database stores.
    mean, std : of each variable (for a delay system: of each coordinate of its embedding).
    unbounded : indices of angles and phases, which grow without limit.
    forced, hamiltonian : the flow depends on time through a phase variable; it conserves an energy.
    embedding : number of delayed copies that a delay system is shown by; 0 for ordinary systems.
    tabulated : invariants as the database quotes them (they come from several estimators; see `invariants.audit`).
    reference_spectrum, reference_status : Lyapunov exponents recomputed with tangent dynamics, and whether two runs
        agreed ("converged", "near_zero", "unconverged").
    citation, note : where it comes from, and what to know before using it.
    """

    name: str
    variables: tuple[str, ...]
    equations: tuple[str, ...]
    parameters: Mapping[str, float]
    initial_condition: tuple[float, ...]
    definitions: tuple[tuple[str, str], ...] = ()
    period: float = 1.0
    dt: float = 1e-3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    unbounded: tuple[int, ...] = ()
    forced: bool = False
    hamiltonian: bool = False
    embedding: int = 0
    tabulated: Mapping[str, Any] = field(default_factory=dict)
    reference_spectrum: tuple[float, ...] = ()
    reference_status: str = ""
    citation: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        require(len(self.equations) == self.dimension, "equations", self.equations, "one formula a variable")
        require(len(self.initial_condition) == self.dimension, "initial_condition", self.initial_condition, "the state")
        _ = self._formulas  # unreadable formulas are refused when the system is made

    @property
    def dimension(self) -> int:
        """Number of variables."""
        return len(self.variables)

    @property
    def delay(self) -> float:
        """The lag tau of a delay system, 0 for an ordinary one."""
        return float(self.parameters["tau"]) if self.embedding else 0.0

    @property
    def scale(self) -> Float[np.ndarray, " dim"]:
        """The size of each variable's motion; 1 where it is not known."""
        std = np.array(self.std[: self.dimension] or np.ones(self.dimension), dtype=np.float64)
        return np.where(std > 0, std, 1.0)

    @property
    def _formulas(self) -> _Formulas:
        return _formulas(self.variables, self.equations, self.definitions, tuple(self.parameters), self.embedding > 0)

    def with_parameters(self, **parameters: float) -> System:
        """The same system with some parameters changed; what is tabulated no longer holds and is dropped."""
        for name in parameters:
            if name not in self.parameters:
                raise ValueError(f"unknown parameter {name!r} of {self.name}: {nearest(name, self.parameters)}")
        return dataclasses.replace(
            self,
            parameters={**self.parameters, **parameters},
            tabulated={},
            reference_spectrum=(),
            reference_status="",
        )

    def rhs(
        self,
        x: Float[np.ndarray, "*batch dim"],
        t: float = 0.0,
        delayed: Float[np.ndarray, "*batch dim"] | None = None,
    ) -> Float[np.ndarray, "*batch dim"]:
        """The derivative at states `x`; `delayed` is x(t - tau), which only delay systems use."""
        return self._run(self._formulas.flow, x, t, delayed)

    def jacobian(self, x: Float[np.ndarray, "*batch dim"], t: float = 0.0) -> Float[np.ndarray, "*batch dim dim"]:
        """d rhs_i / d x_j, exact; at a kink one of the two one-sided derivatives."""
        require(not self.embedding, "system", self.name, "an ordinary system (a delay system's state is a function)")
        return self._run(self._formulas.jacobian, x, t, None).reshape(*x.shape, self.dimension)

    def divergence(self, x: Float[np.ndarray, "*batch dim"], t: float = 0.0) -> Float[np.ndarray, "*batch"] | float:
        """The trace of the Jacobian: the rate at which volumes grow, and the sum of the Lyapunov exponents."""
        trace: Float[np.ndarray, "*batch"] | float = np.trace(self.jacobian(x, t), axis1=-2, axis2=-1)
        return trace

    def torch_rhs(
        self, x: Float[Tensor, "*batch dim"], t: float = 0.0, parameters: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "*batch dim"]:
        """The derivative as a torch function, differentiable in the states and in any `parameters` given as tensors."""
        require(not self.embedding, "system", self.name, "an ordinary system")
        given = {name: x.new_tensor(value) for name, value in self.parameters.items()} | dict(parameters or {})
        leaves = given | dict(zip(self.variables, x.unbind(-1), strict=True)) | {"t": x.new_tensor(t)}
        values = self._formulas.graph.evaluate(self._formulas.nodes, leaves, _TORCH | {"constant": x.new_tensor})
        return torch.stack([value.expand(x.shape[:-1]) for value in values], -1)

    def registers(self, tape: Tape, lanes: int) -> Float[np.ndarray, "registers lanes"]:
        """The interpreter's registers with parameters, constants and what follows from them in place."""
        registers = np.zeros((tape.registers, lanes))
        fixed = np.array([*self.parameters.values(), *tape.constants], dtype=np.float64)
        registers[tape.inputs : tape.inputs + len(fixed)] = fixed[:, None]
        run_tape(tape.prelude, registers)
        return registers

    def _run(self, tape: Tape, x: Any, t: float, delayed: Any) -> NDArray[np.float64]:
        require(x.shape[-1] == self.dimension, "x", x.shape, f"states of {self.dimension} variables in the last axis")
        require(delayed is not None or not self.embedding, "delayed", delayed, f"x(t - tau) of {self.name}")
        states = x.reshape(-1, self.dimension).T
        registers = self.registers(tape, states.shape[1])
        registers[: self.dimension] = states
        registers[self.dimension] = t
        if delayed is not None:
            registers[self.dimension + 1] = delayed.reshape(-1)
        run_tape(tape.code, registers)
        out: NDArray[np.float64] = registers[tape.outputs].T.reshape(*x.shape[:-1], -1)
        return out

    def flow_tape(self) -> Tape:
        """The right-hand side for the kernels."""
        return self._formulas.flow

    def tangent_tape(self) -> Tape:
        """The right-hand side together with Jacobian times each of `dimension` tangent vectors, for the kernels."""
        return self._formulas.tangent


class _Formulas:
    """A system's formulas in one graph, compiled on demand; shared by all settings of its parameters."""

    def __init__(
        self,
        variables: tuple[str, ...],
        equations: tuple[str, ...],
        definitions: tuple[tuple[str, str], ...],
        parameters: tuple[str, ...],
        delayed: bool,
    ) -> None:
        self.graph, self.variables, self.parameters = Graph(), variables, parameters
        names = {name: self.graph.name(name) for name in (*variables, *parameters, "t")}
        if delayed:
            names["x_tau"] = self.graph.name("x_tau")
        for name, text in definitions:
            names[name] = self.graph.parse(text, names)
        self.nodes = [self.graph.parse(text, names) for text in equations]

    def _compile(self, nodes: Sequence[Node], tangents: Sequence[str] = ()) -> Tape:
        return self.graph.compile_tape(nodes, (*self.variables, *tangents, "t", "x_tau"), self.parameters)

    @cached_property
    def flow(self) -> Tape:
        return self._compile(self.nodes)

    @cached_property
    def _derivatives(self) -> list[list[Node]]:
        return [[self.graph.derivative(f, self.graph.name(v)) for v in self.variables] for f in self.nodes]

    @cached_property
    def jacobian(self) -> Tape:
        return self._compile([node for row in self._derivatives for node in row])

    @cached_property
    def tangent(self) -> Tape:
        d, graph, products = len(self.variables), self.graph, []
        names = [f"tangent {i} {k}" for i in range(d) for k in range(d)]
        for row in self._derivatives:
            for k in range(d):
                total = graph.constant(0.0)
                for j, slope in enumerate(row):
                    total = graph.apply("add", total, graph.apply("mul", slope, graph.name(names[j * d + k])))
                products.append(total)
        return self._compile([*self.nodes, *products], names)


@lru_cache(maxsize=512)
def _formulas(*parts: Any) -> _Formulas:
    return _Formulas(*parts)


_TORCH: dict[str, Any] = {
    name: getattr(torch, name)
    for name in ("sub", "mul", "div", "pow", "neg", "sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "sqrt")
} | {
    "add": torch.add,
    "max": torch.maximum,
    "min": torch.minimum,
    "abs": torch.abs,
    "sign": torch.sign,
    "heaviside": lambda x: (x > 0).to(x.dtype),
}


@cache
def _database() -> dict[str, dict[str, Any]]:
    text = resources.files("hartley.dynamics").joinpath("systems.json").read_text()
    systems: dict[str, dict[str, Any]] = json.loads(text)["systems"]
    return systems


def system_names() -> list[str]:
    """The names of all systems of the database."""
    return list(_database())


def get_system(name: str, *, corrected: bool = True) -> System:
    """A system of the database.

    Parameters
    ----------
    corrected : use right equations where those that the database stores hold a misprint (DoublePendulum, whose stored
        form does not conserve energy); False reproduces the database.

    Raises
    ------
    ValueError : an unknown name; the nearest ones are suggested.
    """
    if name not in _database():
        raise ValueError(f"unknown system {name!r}: {nearest(name, _database())}")
    record = dict(_database()[name])
    right = record.pop("corrected", None)
    if corrected and right:
        record |= right
    for key in ("variables", "equations", "unbounded"):
        record[key] = tuple(record.get(key, ()))
    for key in ("initial_condition", "mean", "std", "reference_spectrum"):
        record[key] = tuple(map(float, record.get(key, ())))
    record["parameters"] = {name: float(value) for name, value in record["parameters"].items()}
    record["definitions"] = tuple(tuple(pair) for pair in record.get("definitions", ()))
    return System(name, **record)


def load_systems(*, delayed: bool = True, chaotic: bool = False) -> dict[str, System]:
    """All systems of the database by name.

    Parameters
    ----------
    delayed : include the six delay equations.
    chaotic : only those whose recomputed largest exponent is positive and was found twice within 15%.
    """
    systems = {name: get_system(name) for name in system_names()}
    return {
        name: system
        for name, system in systems.items()
        if (delayed or not system.embedding) and (not chaotic or system.reference_status == "converged")
    }
