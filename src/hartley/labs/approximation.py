"""Functions to approximate in a polynomial space, with the exact error of every fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from hartley.labs.base import Lab
from hartley.montecarlo import Legendre, Product, Space, fit_weighted, sample_design
from hartley.montecarlo.determinantal import Strategy


@dataclass(frozen=True)
class Target:
    """A function, its best coefficients in a space, and the squared error that no fit can avoid."""

    space: Space
    function: Callable[[ndarray], ndarray]
    best: Float[ndarray, " m"]
    floor: float

    def error_ratio(self, x: ndarray, weights: Float[ndarray, " n"]) -> float:
        """Squared L² error of the fit over that of the best approximation, at least 1."""
        fit = fit_weighted(self.space, x, self.function(x), weights)
        return 1 + float(np.square(fit - self.best).sum()) / self.floor


def runge(x: ndarray) -> ndarray:
    """1 / (1 + 25 |x|²), the function on which equispaced interpolation fails."""
    return np.asarray(1 / (1 + 25 * (np.square(x) if x.ndim == 1 else np.square(x).sum(axis=1))))


@dataclass(frozen=True)
class ApproximationLab(Lab):
    """Runge's function in one and two dimensions.

    Attributes
    ----------
    dimension : of the polynomial space in one variable.
    degree : total degree in two variables.
    """

    dimension: int = 20
    degree: int = 6

    @property
    def draws(self) -> int:
        """Designs a trial."""
        return 60 if self.quick else 400

    @cached_property
    def line(self) -> Target:
        nodes, weights = np.polynomial.legendre.leggauss(400)
        return self._target(Legendre(self.dimension), nodes, weights / 2)

    @cached_property
    def square(self) -> Target:
        nodes, weights = np.polynomial.legendre.leggauss(120)
        grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
        return self._target(
            Product.total_degree(Legendre, 2, self.degree), grid, np.outer(weights, weights).ravel() / 4
        )

    @staticmethod
    def _target(space: Space, nodes: ndarray, weights: Float[ndarray, " q"]) -> Target:
        phi, values = space.features(nodes), runge(nodes)
        best = phi.T @ (weights * values)
        return Target(space, runge, best, float(weights @ np.square(values - phi @ best)))

    def ratios(
        self, target: Target, n: int, strategy: Strategy, rng: np.random.Generator, *, redraws: int = 0
    ) -> tuple[Float[ndarray, " draws"], Float[ndarray, " draws"]]:
        """Error ratios and smallest eigenvalues of independent designs; with `redraws`, the best of some each."""
        errors, smallest = np.empty(self.draws), np.empty(self.draws)
        for i in range(self.draws):
            options = [sample_design(target.space, n, rng, strategy=strategy) for _ in range(1 + redraws)]
            design = max(options, key=lambda d: d.smallest_eigenvalue)
            errors[i] = target.error_ratio(design.x, design.weights)
            smallest[i] = design.smallest_eigenvalue
        return errors, smallest
