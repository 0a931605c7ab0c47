"""Formulas as text, read safely, differentiated exactly and compiled to a register tape.

A `Graph` holds every subexpression once. Text is parsed by Python's own grammar, of which only arithmetic, numbers,
known names and a dozen functions are let in; nothing is ever evaluated as code. Derivatives are new nodes of the same
graph, so that a function and its Jacobian share what they have in common. `compile_tape` turns chosen nodes into a
list of instructions on numbered registers, which one compiled interpreter runs for every system (`kernel`).
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from hartley.checks import nearest, require

BINARY = ("add", "sub", "mul", "div", "pow", "max", "min")
UNARY = ("neg", "sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "sqrt", "abs", "sign", "heaviside")
OPCODES = {name: code for code, name in enumerate(BINARY + UNARY)}

_OPERATORS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"}
_FUNCTIONS = {*UNARY, "max", "min"} - {"neg"}
_LONGEST = 10_000  # characters; keeps the parser's recursion harmless

Node = int


class Graph:
    """Expressions that share their common parts; a node is a number, leaves are names and constants."""

    def __init__(self) -> None:
        self.nodes: list[tuple[Any, ...]] = []
        self._known: dict[tuple[Any, ...], Node] = {}
        self._derivatives: dict[tuple[Node, Node], Node] = {}

    def _intern(self, key: tuple[Any, ...]) -> Node:
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(key)
        return self._known[key]

    def constant(self, value: float) -> Node:
        """The node of a number."""
        return self._intern(("constant", float(value)))

    def name(self, name: str) -> Node:
        """The node of a variable or parameter."""
        return self._intern(("name", name))

    def value(self, node: Node) -> float | None:
        """The number of a constant node, None for others."""
        kind, value, *_ = self.nodes[node]
        return value if kind == "constant" else None

    def apply(self, operation: str, *arguments: Node) -> Node:
        """The node of an operation, simplified where an argument is 0 or 1."""
        values = [self.value(a) for a in arguments]
        if operation in BINARY:
            a, b = arguments
            simple = self._simplified(operation, a, b, *values)
            if simple is not None:
                return simple
        elif operation == "neg" and values[0] is not None:
            return self.constant(-values[0])
        return self._intern((operation, *arguments))

    def _simplified(self, operation: str, a: Node, b: Node, left: float | None, right: float | None) -> Node | None:
        match operation, left, right:
            case ("add", 0.0, _):
                return b
            case ("add" | "sub", _, 0.0):
                return a
            case ("sub", 0.0, _):
                return self.apply("neg", b)
            case ("mul", 0.0, _) | ("mul", _, 0.0) | ("div", 0.0, _):
                return self.constant(0.0)
            case ("mul", 1.0, _):
                return b
            case ("mul" | "div" | "pow", _, 1.0):
                return a
            case ("pow", _, 0.0):
                return self.constant(1.0)
            case ("pow", _, 2.0 | 3.0 | 4.0 | 5.0 as exponent):  # multiplication is an order faster than pow
                return reduce(lambda power, _: self.apply("mul", power, a), range(int(exponent) - 1), a)
        if left is not None and right is not None and operation in ("add", "sub", "mul"):
            return self.constant({"add": left + right, "sub": left - right, "mul": left * right}[operation])
        return None

    def parse(self, text: str, names: Mapping[str, Node]) -> Node:
        """Read one formula.

        Raises
        ------
        ValueError : anything but arithmetic, numbers, known functions and the given names.
        """
        require(len(text) <= _LONGEST, "expression", f"{len(text)} characters", f"at most {_LONGEST}")
        try:
            return self._read(ast.parse(text, mode="eval").body, names, text)
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError(f"expression {text[:200]!r}: {error}") from None

    def _read(self, tree: ast.expr, names: Mapping[str, Node], text: str) -> Node:
        match tree:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self.constant(float(value))
            case ast.Name(id=name):
                if name == "pi" and name not in names:
                    return self.constant(math.pi)
                if name not in names:
                    raise ValueError(f"unknown name {name!r} in {text!r}: {nearest(name, names)}")
                return names[name]
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._read(operand, names, text)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.apply("neg", self._read(operand, names, text))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                a, b = self._read(left, names, text), self._read(right, names, text)
                return self.apply(_OPERATORS[type(op)], a, b)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
                read = [self._read(a, names, text) for a in arguments]
                if name in BINARY and len(read) >= 2:
                    return reduce(lambda a, b: self.apply(name, a, b), read)
                if name in UNARY and len(read) == 1:
                    return self.apply(name, *read)
        raise ValueError(f"{ast.unparse(tree)!r} in {text!r}: expected arithmetic and {', '.join(sorted(_FUNCTIONS))}")

    def derivative(self, node: Node, by: Node) -> Node:
        """The derivative of a node by a leaf; at a kink, one of the two one-sided ones."""
        if node == by:
            return self.constant(1.0)
        kind, *arguments = self.nodes[node]
        if kind in ("constant", "name"):
            return self.constant(0.0)
        if (node, by) not in self._derivatives:
            inner = [self.derivative(a, by) for a in arguments]
            flat = all(self.value(d) == 0.0 for d in inner)
            self._derivatives[node, by] = self.constant(0.0) if flat else self._chain(node, kind, arguments, inner)
        return self._derivatives[node, by]

    def _chain(self, node: Node, kind: str, arguments: list[Node], inner: list[Node]) -> Node:
        do, one = self.apply, self.constant(1.0)
        a, da = arguments[0], inner[0]
        if kind in BINARY:
            b, db = arguments[1], inner[1]
            match kind:
                case "add" | "sub":
                    return do(kind, da, db)
                case "mul":
                    return do("add", do("mul", da, b), do("mul", a, db))
                case "div":
                    return do("div", do("sub", da, do("mul", node, db)), b)
                case "pow":
                    base = do("mul", do("mul", b, do("pow", a, do("sub", b, one))), da)
                    return (
                        do("add", base, do("mul", do("mul", node, do("log", a)), db)) if self.value(db) != 0.0 else base
                    )
                case _:
                    first = do("heaviside", do("sub", a, b) if kind == "max" else do("sub", b, a))
                    return do("add", do("mul", first, da), do("mul", do("sub", one, first), db))
        match kind:
            case "neg":
                return do("neg", da)
            case "sin":
                slope = do("cos", a)
            case "cos":
                slope = do("neg", do("sin", a))
            case "tan":
                slope = do("add", one, do("mul", node, node))
            case "sinh":
                slope = do("cosh", a)
            case "cosh":
                slope = do("sinh", a)
            case "tanh":
                slope = do("sub", one, do("mul", node, node))
            case "exp":
                slope = node
            case "log":
                slope = do("div", one, a)
            case "sqrt":
                slope = do("div", self.constant(0.5), node)
            case "abs":
                slope = do("sign", a)
            case _:  # sign, heaviside: flat between their jumps
                return self.constant(0.0)
        return do("mul", slope, da)

    def evaluate(
        self, outputs: Sequence[Node], leaves: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
    ) -> list[Any]:
        """Values of nodes under any arithmetic: the functions and the leaves' values decide which."""
        done: dict[Node, Any] = {}
        for node in self._needed(outputs):
            kind, *arguments = self.nodes[node]
            if kind == "constant":
                done[node] = functions["constant"](arguments[0])
            elif kind == "name":
                done[node] = leaves[arguments[0]]
            else:
                done[node] = functions[kind](*(done[a] for a in arguments))
        return [done[node] for node in outputs]

    def _needed(self, outputs: Sequence[Node]) -> list[Node]:
        """The nodes that the outputs depend on, arguments first."""
        needed, stack = set(outputs), list(outputs)
        while stack:
            kind, *arguments = self.nodes[stack.pop()]
            if kind not in ("constant", "name"):
                stack += (new := set(arguments) - needed)
                needed |= new
        return sorted(needed)  # a node is always younger than its arguments

    def compile_tape(self, outputs: Sequence[Node], inputs: Sequence[str], parameters: Sequence[str]) -> Tape:
        """Instructions that compute the outputs from the inputs; what only parameters decide is computed once.

        Registers hold, in this order: inputs, parameters, constants, what parameters decide, and scratch that is
        used again as soon as its value is no longer needed.
        """
        needed = self._needed(outputs)
        register = {self.name(name): place for place, name in enumerate((*inputs, *parameters))}
        constants = [node for node in needed if self.nodes[node][0] == "constant"]
        register |= {node: len(register) + place for place, node in enumerate(constants)}
        work = [node for node in needed if node not in register]
        unknown = [self.nodes[node][1] for node in work if self.nodes[node][0] == "name"]
        require(not unknown, "inputs", list(inputs), f"all of the names used, also {unknown}")
        moving = {self.name(name) for name in inputs}
        for node in work:
            if moving.intersection(self.nodes[node][1:]):
                moving.add(node)
        last = {a: node for node in work for a in self.nodes[node][1:]} | dict.fromkeys(outputs, math.inf)
        free: list[int] = []
        prelude: list[tuple[int, ...]] = []
        code: list[tuple[int, ...]] = []
        size = len(register)
        for node in sorted(work, key=lambda node: (node in moving, node)):
            kind, *arguments = self.nodes[node]
            places = [register[a] for a in arguments]
            if node in moving:
                scratch = {a for a in arguments if a in moving and last[a] == node and self.nodes[a][0] != "name"}
                free += [register[a] for a in scratch]
            if node in moving and free:
                register[node] = free.pop()
            else:
                register[node], size = size, size + 1
            (code if node in moving else prelude).append((OPCODES[kind], places[0], places[-1], register[node]))
        return Tape(
            code=np.array(code, np.int32).reshape(-1, 4),
            prelude=np.array(prelude, np.int32).reshape(-1, 4),
            outputs=np.array([register[node] for node in outputs], np.int32),
            inputs=len(inputs),
            constants=np.array([self.nodes[node][1] for node in constants]),
            registers=size,
        )


@dataclass(frozen=True)
class Tape:
    """A compiled list of formulas.

    Attributes
    ----------
    code : rows of (opcode, first argument, second argument, result), the last three registers.
    prelude : instructions that depend on parameters alone, run once.
    outputs : the registers that hold the results.
    inputs : number of inputs, which fill the first registers; parameters and constants follow.
    """

    code: Int[np.ndarray, "instructions 4"]
    prelude: Int[np.ndarray, "once 4"]
    outputs: Int[np.ndarray, " outputs"]
    inputs: int
    constants: Float[np.ndarray, " constants"]
    registers: int
