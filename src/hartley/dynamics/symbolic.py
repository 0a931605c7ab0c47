"""Equations from data: sequentially thresholded least squares on a library of monomials (SINDy).

The simulator gives derivatives exactly, so the regression is tested without the noise of numerical differentiation.

Source: Brunton, Proctor, Kutz (2016); the benchmark's symbolic regression task in arXiv 2110.05266.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from hartley.checks import require, require_between


@dataclass(frozen=True)
class Polynomial:
    """A polynomial vector field.

    Attributes
    ----------
    powers : exponent of each variable in each monomial.
    coefficients : of each monomial in each equation.
    """

    powers: Int[np.ndarray, "terms dim"]
    coefficients: Float[np.ndarray, "terms dim"]

    def __call__(self, x: Float[np.ndarray, "time dim"]) -> Float[np.ndarray, "time dim"]:
        """The derivative at states `x`."""
        slope: NDArray[np.float64] = _monomials(x, self.powers) @ self.coefficients
        return slope

    def formulas(self, variables: Sequence[str]) -> list[str]:
        """The equations as text, which `System` reads."""
        equations = []
        for column in self.coefficients.T:
            terms = [
                "*".join([f"({c:.12g})", *(f"{v}**{p}" for v, p in zip(variables, row, strict=True) if p)])
                for c, row in zip(column, self.powers, strict=True)
                if c != 0
            ]
            equations.append(" + ".join(terms) or "0")
        return equations


def fit_polynomial(
    x: Float[np.ndarray, "time dim"],
    derivative: Float[np.ndarray, "samples outputs"],
    *,
    degree: int = 3,
    threshold: float = 0.01,
    rounds: int = 20,
) -> Polynomial:
    """Sparse polynomial vector field through samples of states and derivatives.

    Parameters
    ----------
    degree : of the monomials, all of them up to this total.
    threshold : a term goes when its root mean square is below this share of the derivative's; in contrast to a
        threshold on coefficients, this does not depend on the units of the variables.

    When not to use: fields that are not polynomials; few samples for many monomials (the number is binomial).
    """
    require(x.shape == derivative.shape, "derivative", derivative.shape, f"the shape of x, {x.shape}")
    require(degree >= 1, "degree", degree, "at least 1")
    require_between("threshold", threshold, 0, 1, closed="left")
    dim = x.shape[1]
    powers = np.array([p for p in itertools.product(range(degree + 1), repeat=dim) if sum(p) <= degree])
    require(len(x) >= len(powers), "x", f"{len(x)} samples", f"at least {len(powers)}, one a monomial")
    library = _monomials(x, powers)
    size = np.sqrt(np.mean(library**2, axis=0))
    size[size == 0] = 1.0
    coefficients = np.zeros((len(powers), dim))
    for i in range(dim):
        strength = np.sqrt(np.mean(derivative[:, i] ** 2))
        kept = np.ones(len(powers), bool)
        for _ in range(rounds):
            scaled = np.zeros(len(powers))
            scaled[kept] = np.linalg.lstsq(library[:, kept] / size[kept], derivative[:, i], rcond=None)[0]
            large = np.abs(scaled) > threshold * strength
            if (large == kept).all() or not large.any():
                break
            kept = large
        coefficients[:, i] = np.where(kept, scaled / size, 0.0) if strength > 0 else 0.0
    return Polynomial(powers, coefficients)


def _monomials(
    x: Float[np.ndarray, "time dim"], powers: Int[np.ndarray, "terms dim"]
) -> Float[np.ndarray, "time terms"]:
    values: NDArray[np.float64] = np.prod(x[:, None, :] ** powers, axis=2)
    return values
