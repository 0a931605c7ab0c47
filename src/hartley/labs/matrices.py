"""Tall matrices whose rows matter unequally, for row sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from hartley.labs.base import Lab


@dataclass(frozen=True)
class RowLab(Lab):
    """Matrices with `rows` rows on which sampling schemes are compared.

    Attributes
    ----------
    rows : rows of each matrix; 0 takes 1000 in quick mode and 4000 in full mode.
    """

    rows: int = 0

    @property
    def n(self) -> int:
        return self.rows or (1000 if self.quick else 4000)

    def heavy(self, seed: int, d: int = 8) -> Float[ndarray, "n d"]:
        """Gaussian rows, among them 8 scaled by 300 and 72 by Pareto factors, in random directions."""
        rng = np.random.default_rng(seed)
        a = rng.standard_normal((self.n, d))
        a[:8] *= 300
        a[8:80] *= 1 + rng.pareto(1.0, size=(72, 1))
        return a

    def legendre(self, d: int = 8) -> Float[ndarray, "n d"]:
        """The first d Legendre polynomials at equispaced points."""
        return np.polynomial.legendre.legvander(np.linspace(-1, 1, self.n), d - 1)

    def one_hot(self, d: int) -> Float[ndarray, "n d"]:
        """Each row is a unit vector, each coordinate equally often: total sensitivity d at every p."""
        return np.eye(d)[np.arange(self.n) % d]

    def gaussian(self, d: int, seed: int) -> Float[ndarray, "n d"]:
        """Independent standard normal entries: for p > 2 the total sensitivity is near its largest."""
        return np.random.default_rng(seed).standard_normal((self.n, d))
