"""Query policies that others would use, for games where each query shows one coordinate: the baselines of this room.

With n_i answers to query i and their mean m_i, the confidence radius is sqrt(2 log(2 d / delta) / n_i), infinite before
the first answer. All four recommend or ask by counts alone, so that `policy_losses` gives their exact losses.

- `Lucb`: the best hypothesis by the means, its closest rival by optimistic means, and of the queries on which the two
  differ the one with the largest radius (Chen et al. 2014; for best arms Kalyanakrishnan et al. 2012).
- `SuccessiveElimination`: drop hypotheses that are surely worse than the best; among the queries on which the others
  differ, ask the one that was asked least.
- `TopTwoThompson`: draw two different hypotheses from the posterior and ask where they differ (Russo 2016).
- `bayes_policy`: the best policy on average over a prior, by dynamic programming.

When not to use: with few answers a confidence radius exceeds every gap, and the first two ask evenly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import xlogy

from hartley.checks import require, require_between
from hartley.querying.active_learning import CountStates, ExactPolicy, QueryProblem, Thetas

Counts = Int[np.ndarray, "states answers"]
Asked = Float[np.ndarray, "states queries"]
Recommended = Float[np.ndarray, "states hypotheses"]


@dataclass(frozen=True)
class _ByMeans:
    """Recommends evenly among the hypotheses that are best by the means of the answers, 0 where there are none."""

    problem: QueryProblem
    delta: float = 0.1

    def __post_init__(self) -> None:
        require_between("delta", self.delta, 0, 1)
        _require_coordinates(self.problem)

    def recommend(self, counts: Counts) -> Recommended:
        """Probability of each hypothesis."""
        means, _ = self._estimates(counts)
        return _evenly(_best(means @ self.problem.hypotheses.T))

    def _estimates(self, counts: Counts) -> tuple[Asked, Asked]:
        n = len(self.problem.queries)
        ups, downs = counts[:, :n], counts[:, n:]
        asked = ups + downs
        radius = np.full(asked.shape, np.inf)
        np.divide(2 * np.log(2 * n / self.delta), asked, out=radius, where=asked > 0)
        return (ups - downs) / np.maximum(asked, 1), np.sqrt(radius)


@dataclass(frozen=True)
class Lucb(_ByMeans):
    """Asks where the best hypothesis and its closest rival differ and least is known."""

    def ask(self, counts: Counts) -> Asked:
        """Probability of each query."""
        means, radius = self._estimates(counts)
        width, z = np.minimum(radius, 1e6), self.problem.hypotheses
        leaders = _best(means @ z.T).argmax(axis=1)
        # A rival's value above the leader's, with every mean moved in the rival's favour.
        apart = z[None] - z[leaders][:, None]
        lead = np.einsum("szi,si->sz", apart, means) + np.einsum("szi,si->sz", np.abs(apart), width)
        lead[np.arange(len(counts)), leaders] = -np.inf
        rivals = lead.argmax(axis=1)
        differ = z[leaders] != z[rivals]
        return _evenly(_best(np.where(differ, width, -np.inf)))


@dataclass(frozen=True)
class SuccessiveElimination(_ByMeans):
    """Asks in turn all queries on which the hypotheses that are left differ."""

    def ask(self, counts: Counts) -> Asked:
        """Probability of each query."""
        means, radius = self._estimates(counts)
        width, z = np.minimum(radius, 1e6), self.problem.hypotheses
        apart = z[None] - z[:, None]  # [a, b] = z_b - z_a
        surely = np.einsum("abi,si->sab", apart, means) - np.einsum("abi,si->sab", np.abs(apart), width)
        left = ~(surely > 0).any(axis=2)  # no rival is surely better
        low = np.where(left[:, :, None], z[None], np.inf).min(axis=1)
        high = np.where(left[:, :, None], z[None], -np.inf).max(axis=1)
        n = len(self.problem.queries)
        fewest = -(counts[:, :n] + counts[:, n:]).astype(float)
        open_ = (low < high) | ~(low < high).any(axis=1, keepdims=True)  # all, once one hypothesis is left
        return _evenly(_best(np.where(open_, fewest, -np.inf)))


@dataclass(frozen=True)
class TopTwoThompson:
    """Asks where two hypotheses drawn from the posterior differ, each such query equally often.

    Attributes
    ----------
    thetas, prior : parameters held possible, and their weights; equal where None.
    """

    problem: QueryProblem
    thetas: Thetas
    prior: Float[np.ndarray, " parameters"] | None = None

    def __post_init__(self) -> None:
        _require_coordinates(self.problem)
        _prior(self.prior, self.thetas)

    def ask(self, counts: Counts) -> Asked:
        """Probability of each query."""
        best, z = self._best_hypothesis(counts), self.problem.hypotheses
        rest = np.maximum(1 - best, 1e-300)
        pairs = best[:, :, None] / rest[:, :, None] * best[:, None, :]
        differ = (z[:, None] != z[None]).astype(float)
        shares = differ / np.maximum(differ.sum(axis=2, keepdims=True), 1)
        mass = np.einsum("sab,abi->si", pairs * (1 - np.eye(len(z))), shares)
        total = mass.sum(axis=1, keepdims=True)
        return np.where(total > 1e-12, mass / np.maximum(total, 1e-300), 1 / mass.shape[1])

    def recommend(self, counts: Counts) -> Recommended:
        """The hypothesis of least posterior loss."""
        return _evenly(_best(-self._posterior(counts) @ self.problem.losses(self.thetas)))

    def _posterior(self, counts: Counts) -> Float[np.ndarray, "states parameters"]:
        up = self.problem.positive(self.thetas)
        product = xlogy(counts[:, None], np.concatenate([up, 1 - up], axis=1)).sum(axis=2)
        weights = np.exp(product) * _prior(self.prior, self.thetas)
        total = weights.sum(axis=1, keepdims=True)
        return np.where(total > 0, weights / np.maximum(total, 1e-300), 1 / len(self.thetas))

    def _best_hypothesis(self, counts: Counts) -> Recommended:
        owners = _evenly(_best(-self.problem.losses(self.thetas)))
        return self._posterior(counts) @ owners


def bayes_policy(
    problem: QueryProblem, thetas: Thetas, rounds: int, prior: Float[np.ndarray, " parameters"] | None = None
) -> ExactPolicy:
    """The policy with the smallest expected loss under a prior, equal weights where None: its `value`.

    Ties go to the first query or hypothesis. `weights` are the prior.
    """
    weights = _prior(prior, thetas)
    states = CountStates(len(problem.queries), rounds)
    joint = weights[:, None] * states.likelihood(problem, thetas)
    risks = joint.T @ problem.losses(thetas)  # of each hypothesis, times the chance of one order of answers
    values = risks.min(axis=1)
    n, m = len(problem.queries), len(problem.hypotheses)
    table = _table(states.layers[-1], risks.argmin(axis=1), m)
    for layer, child in zip(states.layers[-2::-1], states.children[::-1], strict=True):
        both = values[child]
        risks = both[:, :n] + both[:, n:]
        values = risks.min(axis=1)
        table |= _table(layer, risks.argmin(axis=1), n)
    return ExactPolicy(float(values[0]), weights, table, (n, m))


def _table(layer: Counts, choice: Int[np.ndarray, " states"], width: int) -> dict[bytes, Float[np.ndarray, " choices"]]:
    rows = np.eye(width)[choice]
    return {counts.tobytes(): row for counts, row in zip(layer, rows, strict=True)}


def _best(values: Float[np.ndarray, "rows choices"]) -> Bool[np.ndarray, "rows choices"]:
    found: Bool[np.ndarray, "rows choices"] = values >= values.max(axis=1, keepdims=True) - 1e-12
    return found


def _evenly(chosen: Bool[np.ndarray, "rows choices"]) -> Float[np.ndarray, "rows choices"]:
    found: Float[np.ndarray, "rows choices"] = chosen / chosen.sum(axis=1, keepdims=True)
    return found


def _prior(prior: Float[np.ndarray, " parameters"] | None, thetas: Thetas) -> Float[np.ndarray, " parameters"]:
    require(len(thetas) > 0, "thetas", thetas.shape, "at least one parameter")
    weights = np.full(len(thetas), 1 / len(thetas)) if prior is None else prior
    proper = len(weights) == len(thetas) and bool((weights >= 0).all()) and bool(np.isclose(weights.sum(), 1))
    require(proper, "prior", weights, f"{len(thetas)} weights that add up to 1")
    return weights


def _require_coordinates(problem: QueryProblem) -> None:
    same = problem.queries.shape == (problem.queries.shape[1],) * 2 and np.array_equal(
        problem.queries, np.eye(len(problem.queries))
    )
    require(same, "problem.queries", problem.queries.shape, "unit vectors, one a coordinate")
