"""Query policies for small budgets that compete with the best policy of every difficulty: the exact theory.

Someone chooses T queries x_t, sees answers y_t in {-1, 1} of mean <x_t, theta>, and recommends a hypothesis z. The loss
is max_z' <z' - z, theta>. A parameter's difficulty is

    rho(theta) = max over z != z* of |z* - z|^2 / <z* - z, theta>^2

and Theta(r) = {theta: rho(theta) <= r}. One policy for all difficulties minimises the largest excess over the minimax
values l*(r), each of which the best policy of its class attains:

    min over policies of  max over r of  (max over theta in Theta(r) of loss(policy, theta)) - l*(r)

For finitely many parameters these are linear programmes, solved here: flows R(s, x) through the states s = how often
each query got each answer. (The likelihood depends on a history through these counts alone, and so need the policy.)
`learned_policy` trains networks for the same game where there are too many states.

Source: Zhang, Katz-Samuels, Jain, Jamieson (2020), arXiv 2010.15382. The surrogate of the difficulty and the linear
programmes are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.optimize import linprog

from hartley.checks import require

Thetas = Float[np.ndarray, "parameters dim"]
History = Sequence[tuple[int, int]]
"""Queries, by number, and their answers, -1 or 1."""


@dataclass(frozen=True)
class QueryProblem:
    """What can be asked and what can be recommended.

    Attributes
    ----------
    queries, hypotheses : vectors; answers have mean <x, theta>, which must lie in [-1, 1].
    scale : losses are divided by it.
    """

    queries: Float[np.ndarray, "queries dim"]
    hypotheses: Float[np.ndarray, "hypotheses dim"]
    scale: float = 1.0

    def losses(self, thetas: Thetas) -> Float[np.ndarray, "parameters hypotheses"]:
        """Of recommending each hypothesis."""
        values = thetas @ self.hypotheses.T
        return (values.max(axis=1, keepdims=True) - values) / self.scale

    def positive(self, thetas: Thetas) -> Float[np.ndarray, "parameters queries"]:
        """Probability that each query is answered with 1."""
        means = thetas @ self.queries.T
        require(bool((np.abs(means) <= 1 + 1e-12).all()), "thetas", float(np.abs(means).max()), "means in [-1, 1]")
        return np.clip((1 + means) / 2, 0, 1)

    def difficulty(self, thetas: Thetas) -> Float[np.ndarray, " parameters"]:
        """rho(theta); inf where two hypotheses are equally good."""
        values = thetas @ self.hypotheses.T
        best = values.argmax(axis=1)
        gaps = values[np.arange(len(thetas)), best][:, None] - values
        apart = ((self.hypotheses[best][:, None] - self.hypotheses) ** 2).sum(axis=2)
        ratio = np.divide(apart, gaps**2, out=np.full_like(gaps, np.inf), where=gaps > 1e-12)
        ratio[np.arange(len(thetas)), best] = 0.0
        found: Float[np.ndarray, " parameters"] = ratio.max(axis=1)
        return found


def threshold_problem(size: int) -> QueryProblem:
    """Where along `size` points does the label change from -1 to 1? Loss: excess error of the classifier."""
    require(size >= 1, "size", size, "at least 1")
    steps = np.where(np.arange(size) >= np.arange(size + 1)[:, None], 1.0, -1.0)
    return QueryProblem(np.eye(size), steps, 2.0 * size)


def best_arm_problem(arms: int) -> QueryProblem:
    """Which arm has the largest mean? Loss: simple regret."""
    require(arms >= 2, "arms", arms, "at least 2")
    return QueryProblem(np.eye(arms), np.eye(arms))


def from_labels(labels: Int[np.ndarray, "classes items"]) -> QueryProblem:
    """Twenty questions: which of these rows of labels -1 and 1 describes the truth? Loss: excess error."""
    require(bool(np.isin(labels, (-1, 1)).all()), "labels", np.unique(labels)[:4].tolist(), "labels -1 and 1")
    require(labels.size > 0, "labels", labels.shape, "at least one class and one item")
    return QueryProblem(np.eye(labels.shape[1]), labels.astype(np.float64), 2.0 * labels.shape[1])


@runtime_checkable
class Policy(Protocol):
    """Anything that says what to ask and recommend from counts (states x 2 queries: answers 1, then answers -1)."""

    def ask(self, counts: Int[np.ndarray, "states answers"]) -> Float[np.ndarray, "states queries"]:
        """Probability of each query."""

    def recommend(self, counts: Int[np.ndarray, "states answers"]) -> Float[np.ndarray, "states hypotheses"]:
        """Probability of each hypothesis."""


def history_counts(history: History, queries: int) -> Int[np.ndarray, "1 answers"]:
    """The state after a history: how often each query was answered with 1, then with -1."""
    counts = np.zeros((1, 2 * queries), np.int64)
    for query, answer in history:
        require(0 <= query < queries, "history", query, f"queries 0 to {queries - 1}")
        require(answer in (-1, 1), "history", answer, "answers -1 or 1")
        counts[0, query if answer == 1 else queries + query] += 1
    return counts


class CountStates:
    """All states by round, and where each query leads."""

    def __init__(self, queries: int, rounds: int) -> None:
        require(rounds >= 0, "rounds", rounds, "at least 0")
        last = comb(rounds + 2 * queries - 1, rounds)
        require(last <= 200_000, "rounds", rounds, f"fewer: {last} final states are over 200000")
        self.queries, self.rounds = queries, rounds
        layers = [np.zeros((1, 2 * queries), np.int64)]
        self.children: list[Int[np.ndarray, "states answers"]] = []  # of each layer, in the next
        for _ in range(rounds):
            grown = (layers[-1][:, None] + np.eye(2 * queries, dtype=np.int64)).reshape(-1, 2 * queries)
            unique, inverse = np.unique(grown, axis=0, return_inverse=True)
            self.children.append(inverse.reshape(-1, 2 * queries))
            layers.append(unique)
        self.layers = layers

    def likelihood(self, problem: QueryProblem, thetas: Thetas) -> Float[np.ndarray, "parameters states"]:
        """Of each final state, given the queries, for one order of the answers."""
        up = problem.positive(thetas)
        both = np.concatenate([up, 1 - up], axis=1)
        found = np.ones((len(thetas), len(self.layers[-1])))
        for j in range(both.shape[1]):
            found *= both[:, j, None] ** self.layers[-1][:, j]
        return found


@dataclass(frozen=True)
class ExactPolicy:
    """The solution of a linear programme.

    Attributes
    ----------
    value : the largest loss, or largest excess over the offsets, over the parameters.
    weights : of the adversary's mixture over the parameters: a certificate that no policy does better.
    """

    value: float
    weights: Float[np.ndarray, " parameters"]
    table: dict[bytes, Float[np.ndarray, " choices"]]
    choices: tuple[int, int]

    def ask(self, counts: Int[np.ndarray, "states answers"]) -> Float[np.ndarray, "states queries"]:
        """Probability of each query; uniform in states that the policy never reaches."""
        return self._look_up(counts, self.choices[0])

    def recommend(self, counts: Int[np.ndarray, "states answers"]) -> Float[np.ndarray, "states hypotheses"]:
        """Probability of each hypothesis."""
        return self._look_up(counts, self.choices[1])

    def _look_up(self, counts: Int[np.ndarray, "states answers"], size: int) -> Float[np.ndarray, "states choices"]:
        uniform = np.full(size, 1 / size)
        return np.stack([self.table.get(row.astype(np.int64).tobytes(), uniform) for row in counts])


def exact_minimax(
    problem: QueryProblem,
    thetas: Thetas,
    rounds: int,
    offsets: Float[np.ndarray, " parameters"] | None = None,
) -> ExactPolicy:
    """The policy with the smallest largest loss over `thetas`, or largest excess over `offsets`.

    Raises
    ------
    ValueError : no parameters, offsets of another length, or over 200000 states.

    When not to use: beyond some 10 000 states, where `train_policy` takes over.
    """
    require(len(thetas) > 0, "thetas", thetas.shape, "at least one parameter")
    offset = np.zeros(len(thetas)) if offsets is None else offsets
    require(len(offset) == len(thetas), "offsets", len(offset), f"one a parameter, {len(thetas)}")
    n, m = len(problem.queries), len(problem.hypotheses)
    states = CountStates(n, rounds)
    sizes = [len(layer) for layer in states.layers]
    starts = np.concatenate([[0], np.cumsum([size * n for size in sizes[:-1]] + [sizes[-1] * m])])
    value = int(starts[-1])  # the last unknown
    rows, columns, entries = [], [], []
    first = np.concatenate([[0], np.cumsum(sizes)])
    for t, size in enumerate(sizes):  # what leaves a state is what came in
        width = m if t == rounds else n
        rows.append(first[t] + np.repeat(np.arange(size), width))
        columns.append(starts[t] + np.arange(size * width))
        entries.append(np.ones(size * width))
        if t < rounds:
            child = states.children[t]
            rows.append(first[t + 1] + child.ravel())
            columns.append(starts[t] + (np.arange(size)[:, None] * n + np.arange(2 * n) % n).ravel())
            entries.append(-np.ones(child.size))
    shape = (int(first[-1]), value + 1)
    flow = sparse.csr_array((np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    source = np.zeros(shape[0])
    source[0] = 1.0
    outcome = states.likelihood(problem, thetas)[:, :, None] * problem.losses(thetas)[:, None, :]
    before = sparse.csr_array((len(thetas), int(starts[-2])))
    blocks: Any = [before, outcome.reshape(len(thetas), -1), -np.ones((len(thetas), 1))]
    bound = sparse.hstack(blocks, format="csr")
    limits: list[tuple[float | None, float | None]] = [(0.0, None)] * value + [(None, None)]
    cost = np.zeros(value + 1)
    cost[value] = 1.0
    solve: Any = linprog  # its stubs leave out sparse matrices
    found = solve(cost, bound, offset, flow, source, limits, method="highs")
    if found.status != 0:
        raise ArithmeticError(f"the linear programme was not solved: {found.message}")
    table = {}
    for t, layer in enumerate(states.layers):
        width = m if t == rounds else n
        mass = np.maximum(found.x[starts[t] : starts[t + 1]].reshape(-1, width), 0.0)
        for counts, row in zip(layer, mass, strict=True):
            if row.sum() > 1e-12:
                table[counts.tobytes()] = row / row.sum()
    return ExactPolicy(float(found.fun), -np.asarray(found.ineqlin.marginals), table, (n, m))


def policy_losses(
    policy: Policy, problem: QueryProblem, thetas: Thetas, rounds: int
) -> Float[np.ndarray, " parameters"]:
    """The exact expected loss of any policy at each parameter, over all states."""
    n = len(problem.queries)
    states = CountStates(n, rounds)
    mass: Float[np.ndarray, " states"] = np.ones(1)
    for layer, child in zip(states.layers, states.children, strict=False):
        flow = mass[:, None] * np.tile(policy.ask(layer), 2)
        mass = np.bincount(child.ravel(), flow.ravel(), int(child.max()) + 1).astype(np.float64)
    losses = policy.recommend(states.layers[-1]) @ problem.losses(thetas).T  # states x parameters
    weighted: Float[np.ndarray, "states parameters"] = mass[:, None] * states.likelihood(problem, thetas).T * losses
    return weighted.sum(axis=0)


def adversarial_loss(
    policy: Policy,
    problem: QueryProblem,
    radius: float,
    rounds: int,
    rng: np.random.Generator,
    *,
    restarts: int = 16,
    sweeps: int = 20,
    start: Thetas | None = None,
) -> tuple[float, Float[np.ndarray, " dim"]]:
    """The largest expected loss found over all parameters in [-1, 1]^d of difficulty at most `radius`, and where.

    Random starts, then moves of one coordinate at a time to the best of a grid; losses are exact. A lower bound on the
    worst case, and not less than that over `start`: what training against given parameters alone would hide.

    Parameters
    ----------
    restarts, sweeps : random starts, and passes over the coordinates at most.
    start : parameters to start from as well.

    Raises
    ------
    ValueError : no start of difficulty at most `radius` was found.
    """
    dim = problem.queries.shape[1]
    require(np.abs(problem.queries).sum(axis=1).max() <= 1 + 1e-9, "problem", "queries", "l1 norms of at most 1")
    tried = rng.choice([-1.0, 1.0], (50 * restarts, dim)) * rng.random((50 * restarts, dim)) ** 0.3
    tried = np.concatenate([tried, rng.choice([-1.0, 1.0], (50 * restarts, dim))])
    inside = tried[problem.difficulty(tried) <= radius * (1 + 1e-9)][:restarts]
    if start is not None:
        inside = np.concatenate([inside, start[problem.difficulty(start) <= radius * (1 + 1e-9)]])
    require(len(inside) > 0, "radius", radius, "a difficulty that some parameter has")
    best, where = -np.inf, inside[0]
    grid = np.linspace(-1, 1, 17)
    losses = policy_losses(policy, problem, inside, rounds)
    for i in np.argsort(-losses)[:restarts]:
        theta, value = inside[i].copy(), float(losses[i])
        for _ in range(sweeps):
            before = value
            for j in rng.permutation(dim):
                moved = np.tile(theta, (len(grid), 1))
                moved[:, j] = grid
                moved = moved[problem.difficulty(moved) <= radius * (1 + 1e-9)]
                if len(moved):
                    found = policy_losses(policy, problem, moved, rounds)
                    if found.max() > value:
                        theta, value = moved[found.argmax()], float(found.max())
            if value <= before + 1e-12:
                break
        if value > best:
            best, where = value, theta
    return best, where


@dataclass(frozen=True)
class RobustPolicies:
    """Policies of each difficulty, and the one for all of them.

    Attributes
    ----------
    values : minimax loss of each class.
    single : the best policy of each class.
    robust : minimises the largest excess over `values`, which is its `value`.
    offsets : the value of the smallest class of each parameter.
    thetas : the parameters within the largest radius.
    """

    values: Float[np.ndarray, " classes"]
    single: tuple[ExactPolicy, ...]
    robust: ExactPolicy
    offsets: Float[np.ndarray, " parameters"]
    thetas: Thetas


def exact_robust(problem: QueryProblem, thetas: Thetas, radii: Sequence[float], rounds: int) -> RobustPolicies:
    """Solve each class of difficulty, then the game of excess over them.

    Parameters
    ----------
    radii : increasing; class k holds the parameters of difficulty at most radii[k].
    """
    require(len(radii) > 0 and list(radii) == sorted(radii), "radii", list(radii), "increasing radii")
    difficulty = problem.difficulty(thetas)
    occupied = bool((difficulty <= radii[0] * (1 + 1e-9)).any())
    require(occupied, "radii", radii[0], "a first class with a parameter in it")
    inside = thetas[difficulty <= radii[-1] * (1 + 1e-9)]
    levels = np.searchsorted(np.array(radii) * (1 + 1e-9), problem.difficulty(inside))
    single = tuple(exact_minimax(problem, inside[levels <= k], rounds) for k in range(len(radii)))
    values = np.array([policy.value for policy in single])
    offsets = values[levels]
    return RobustPolicies(values, single, exact_minimax(problem, inside, rounds, offsets), offsets, inside)
