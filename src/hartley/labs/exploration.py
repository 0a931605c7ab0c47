"""Exploration with few pulls or questions: arms with misspecified rewards, thresholds among noisy labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from hartley.labs.base import Lab

if TYPE_CHECKING:
    from hartley.querying import LearnedPolicy, QueryProblem, RobustPolicies
    from hartley.querying.active_learning import Policy


@dataclass(frozen=True)
class ArmsLab(Lab):
    """Arms uniform in the unit ball, a sparse parameter, and an error that hides the best of them.

    The error is -eps on the best arms by the linear part, +eps elsewhere and, so that one good arm is left, +eps at the
    best of all: "adversarial"; or uniform in [-eps, eps]: "random".

    Attributes
    ----------
    arms : 0 takes 50 000 and 200 000.
    dim : of the features.
    hidden : share of arms whose reward the adversary lowers.
    """

    arms: int = 0
    dim: int = 8
    hidden: float = 0.001

    @property
    def count(self) -> int:
        """Arms there are."""
        return self.arms or (50_000 if self.quick else 200_000)

    def arms_of(
        self,
        rng: np.random.Generator,
        sparsity: int,
        eps: float,
        *,
        dim: int = 0,
        count: int = 0,
        adversarial: bool = True,
        signs: bool = False,
    ) -> tuple[Float[np.ndarray, "arms dim"], Float[np.ndarray, " arms"]]:
        """Features and rewards; with `signs` all entries are one size, of random sign."""
        dim, count = dim or self.dim, count or self.count
        features = rng.standard_normal((count, dim))
        if signs:
            features = np.sign(features) / np.sqrt(dim)
        else:
            features *= rng.random((count, 1)) ** (1 / dim) / np.linalg.norm(features, axis=1, keepdims=True)
        theta = np.zeros(dim)
        theta[rng.choice(dim, sparsity, replace=False)] = rng.standard_normal(sparsity)
        linear = features @ (theta / np.linalg.norm(theta))
        if not adversarial:
            return features, linear + rng.uniform(-eps, eps, count)
        error = np.where(linear >= np.quantile(linear, 1 - self.hidden), -eps, eps)
        error[linear.argmax()] = eps
        return features, linear + error


@dataclass(frozen=True)
class ThresholdLab(Lab):
    """Where does the label change? A few points, fewer questions, noisy answers, labels that need not be monotone.

    Attributes
    ----------
    size, rounds : points, and questions.
    low : the parameter of a point is one of -1, -low, low, 1; its answers are right with probability (1 + |theta|) / 2.
    easy, hard : difficulties of the two classes.
    steps : of training; 0 takes 800 and 1500.
    """

    size: int = 4
    rounds: int = 3
    low: float = 0.5
    easy: float = 1.0
    hard: float = 4.0
    steps: int = 0

    def solved(self) -> tuple[QueryProblem, RobustPolicies]:
        """The problem, and the exact policies of each class and of all."""
        return _solved(self)

    def trained(self, seed: int) -> LearnedPolicy:
        """A network trained against the adversary, which knows the minimax losses; kept."""
        return _trained(self, seed)

    def losses(self, policy: Policy) -> Float[np.ndarray, " parameters"]:
        """Exact expected losses of a policy."""
        from hartley.querying import policy_losses

        problem, exact = self.solved()
        return policy_losses(policy, problem, exact.thetas, self.rounds)

    def excess(self, policy: Policy) -> float:
        """The largest exact excess of a policy over the minimax loss of each class."""
        return float((self.losses(policy) - self.solved()[1].offsets).max())


@cache
def _solved(lab: ThresholdLab) -> tuple[QueryProblem, RobustPolicies]:
    from itertools import product

    from hartley.querying import exact_robust, threshold_problem

    problem = threshold_problem(lab.size)
    thetas = np.array(list(product([-1.0, -lab.low, lab.low, 1.0], repeat=lab.size)))
    return problem, exact_robust(problem, thetas, [lab.easy, lab.hard], lab.rounds)


@cache
def _trained(lab: ThresholdLab, seed: int) -> LearnedPolicy:
    import torch

    from hartley.querying import train_policy

    problem, exact = lab.solved()
    generator = torch.Generator().manual_seed(seed)
    steps = lab.steps or (800 if lab.quick else 1500)
    return train_policy(problem, exact.thetas, lab.rounds, exact.offsets, generator=generator, steps=steps)


@dataclass(frozen=True)
class PlugIn:
    """Hand-made competitors: ask evenly or by binary search, recommend the hypothesis of the best score."""

    problem: QueryProblem
    bisect: bool = False

    def recommend(self, counts: Int[np.ndarray, "states answers"]) -> Float[np.ndarray, "states hypotheses"]:
        """Evenly among the hypotheses with the largest <z, sum of y x>."""
        n = len(self.problem.queries)
        scores = (counts[:, :n] - counts[:, n:]) @ self.problem.queries @ self.problem.hypotheses.T
        best = (scores == scores.max(axis=1, keepdims=True)).astype(float)
        found: Float[np.ndarray, "states hypotheses"] = best / best.sum(axis=1, keepdims=True)
        return found

    def ask(self, counts: Int[np.ndarray, "states answers"]) -> Float[np.ndarray, "states queries"]:
        """Evenly; or between the hypotheses that are best now, where half of them disagree with the other half."""
        n = len(self.problem.queries)
        if not self.bisect:
            return np.full((len(counts), n), 1 / n)
        votes = self.recommend(counts) @ self.problem.hypotheses @ self.problem.queries.T
        nearest = (np.abs(votes) <= np.abs(votes).min(axis=1, keepdims=True) + 1e-12).astype(float)
        found: Float[np.ndarray, "states queries"] = nearest / nearest.sum(axis=1, keepdims=True)
        return found
