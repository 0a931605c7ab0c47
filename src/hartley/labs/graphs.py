"""Zachary's karate club, and a learning problem spread over its members."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from hartley.labs.base import Lab
from hartley.montecarlo import SelfRepellentWalk, base_chain


@dataclass(frozen=True)
class GraphLab(Lab):
    """A graph of 34 people, a function on it, and many tokens.

    Attributes
    ----------
    steps : of each token; 0 takes 10 000 in quick mode and 50 000 in full mode.
    """

    steps: int = 0

    @property
    def n(self) -> int:
        return self.steps or (10_000 if self.quick else 50_000)

    @property
    def chains(self) -> int:
        return 100 if self.quick else 200

    @cached_property
    def f(self) -> Float[ndarray, " nodes"]:
        """What is averaged: one standard normal vector, fixed."""
        return np.random.default_rng(0).standard_normal(34)

    def walk(self, alpha: float, gamma: float = 1.0) -> SelfRepellentWalk:
        """A Metropolis-Hastings base with uniform target, edges unweighted."""
        import networkx

        graph = networkx.karate_club_graph()
        return SelfRepellentWalk(*base_chain(networkx.to_scipy_sparse_array(graph, weight=None)), alpha, gamma)

    def sampling_error(self, alpha: float, rng: np.random.Generator) -> Float[ndarray, " chains"]:
        """n times the squared error of each token's average."""
        walk = self.walk(alpha)
        return np.asarray(self.n * np.square(walk.estimate(self.f, self.n, rng, chains=self.chains) - self.f.mean()))

    def running_mean_error(self, nodes: Int[ndarray, "chains n"], exponent: float = 0.9) -> Float[ndarray, " chains"]:
        """Squared error of theta after theta += (k + 1)^-exponent (f(node) - theta) along each row of nodes."""
        theta = np.zeros(len(nodes))
        for k, column in enumerate(self.f[nodes].T, start=1):
            theta += (k + 1) ** -exponent * (column - theta)
        return np.square(theta - self.f.mean())

    @cached_property
    def examples(self) -> tuple[Float[ndarray, "m d"], Float[ndarray, " m"], Int[ndarray, "nodes per"]]:
        """Breast-cancer data, standardised, labels -1 and 1, split in order of their first feature over the nodes.

        The sort makes neighbours' data unlike the rest, as when each keeps what it measured itself.
        """
        from sklearn.datasets import load_breast_cancer

        x, y = load_breast_cancer(return_X_y=True)
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        order = np.argsort(x[:, 0])[: 34 * 16]
        x = np.column_stack([x[order][:, :10], np.ones(len(order))])
        return x, 2.0 * y[order] - 1, np.arange(34 * 16).reshape(34, 16)

    def logistic_error(self, nodes: Int[ndarray, "chains n"], step: float, exponent: float = 0.9) -> float:
        """Mean squared distance to the regularised optimum after SGD along each row of nodes."""
        from scipy.optimize import minimize

        x, y, shards = self.examples
        ridge = 0.1

        def loss(t: ndarray) -> tuple[float, ndarray]:
            margin = y * (x @ t)
            slope = -y / (1 + np.exp(margin))
            return float(np.logaddexp(0, -margin).mean() + ridge / 2 * t @ t), x.T @ slope / len(y) + ridge * t

        best = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
        theta = np.zeros((len(nodes), x.shape[1]))
        for k, column in enumerate(nodes.T, start=1):
            rows, labels = x[shards[column]], y[shards[column]]
            slope = -labels / (1 + np.exp(labels * np.einsum("cmd,cd->cm", rows, theta)))
            theta -= step * (k + 1) ** -exponent * (np.einsum("cm,cmd->cd", slope, rows) / 16 + ridge * theta)
        return float(np.square(theta - best.x).sum(axis=1).mean())
