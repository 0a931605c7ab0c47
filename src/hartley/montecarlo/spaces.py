"""Finite-dimensional function spaces with an orthonormal basis, and exact draws from their optimal density.

A space of dimension m over a probability measure mu has features phi(x) = (phi_1 .. phi_m), orthonormal in L²(mu), and
the Christoffel function k(x) = |phi(x)|². Least squares wants its points from k/m mu, and `sample_optimal` draws there.

    Legendre    uniform on [-1, 1]
    Hermite     standard normal
    Laguerre    exponential on [0, inf)
    Product     any of them in each coordinate, with the multi-indices of a tensor or total-degree space
    Empirical   any feature matrix on a finite set of candidates, made orthonormal by QR
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import linalg, special

from hartley.checks import require


@runtime_checkable
class Space(Protocol):
    """What a design needs: the dimension, the orthonormal features, and draws from the optimal density."""

    @property
    def dimension(self) -> int: ...

    def features(self, x: Any) -> Float[ndarray, "n m"]: ...

    def sample_optimal(self, n: int, rng: np.random.Generator) -> Any: ...


@dataclass(frozen=True)
class Legendre:
    """Polynomials of degree below `dimension`, orthonormal for the uniform law on [-1, 1]."""

    dimension: int

    def features(self, x: Float[ndarray, " n"]) -> Float[ndarray, "n m"]:
        scale = np.sqrt(2 * np.arange(self.dimension) + 1)
        return np.asarray(np.polynomial.legendre.legvander(x, self.dimension - 1) * scale)

    def sample_squared(self, degrees: Int[ndarray, " n"], rng: np.random.Generator) -> Float[ndarray, " n"]:
        """One draw from phi_j² mu for each degree j, by rejection from the arcsine law (acceptance about 1/2)."""
        x, todo = np.empty(len(degrees)), np.arange(len(degrees))
        while len(todo):
            proposal, j = np.cos(np.pi * rng.random(len(todo))), degrees[todo]
            density = (2 * j + 1) * special.eval_legendre(j, proposal) ** 2 * np.sqrt(1 - proposal**2)
            kept = rng.random(len(todo)) < density * np.pi / 4  # Bernstein's inequality: never above 1
            x[todo[kept]] = proposal[kept]
            todo = todo[~kept]
        return x

    def sample_optimal(self, n: int, rng: np.random.Generator) -> Float[ndarray, " n"]:
        return self.sample_squared(rng.integers(self.dimension, size=n), rng)

    def sample_dpp(self, rng: np.random.Generator) -> Float[ndarray, " m"]:
        """The projection DPP in O(m²): eigenvalues of a random tridiagonal matrix (Jacobi ensemble, beta = 2)."""
        m = self.dimension
        first, second = _jacobi_parameters(m)
        alpha = np.empty(2 * m + 1)  # alpha_{-1}, alpha_0 .. alpha_{2m-2}, 0
        alpha[0], alpha[-1] = -1.0, 0.0
        np.subtract(1.0, 2.0 * rng.beta(first, second), out=alpha[1:-1])
        odd, even = alpha[:-1:2], alpha[1::2]  # alpha_{2i-1}, alpha_{2i}
        diagonal = (1 - odd) * even
        diagonal[1:] -= (1 + odd[1:]) * even[:-1]
        off = np.sqrt((1 - odd[:-1]) * (1 - even[:-1] ** 2) * (1 + odd[1:]))
        return np.asarray(_eigenvalues(diagonal, off) / 2)


@cache
def _jacobi_parameters(m: int) -> tuple[Float[ndarray, " k"], Float[ndarray, " k"]]:
    """Parameters of the beta laws of alpha_0 .. alpha_{2m-2} for the uniform law on [-1, 1]."""
    k = np.arange(2 * m - 1)
    half = np.where(k % 2 == 0, 2 * m - k - 2, 2 * m - k - 3) / 2
    return np.where(k % 2 == 0, half + 1, half + 2), half + 1


@dataclass(frozen=True)
class Hermite:
    """Polynomials of degree below `dimension`, orthonormal for the standard normal law."""

    dimension: int

    def features(self, x: Float[ndarray, " n"]) -> Float[ndarray, "n m"]:
        phi = np.ones((len(x), self.dimension))
        if self.dimension > 1:
            phi[:, 1] = x
        for j in range(1, self.dimension - 1):
            phi[:, j + 1] = (x * phi[:, j] - np.sqrt(j) * phi[:, j - 1]) / np.sqrt(j + 1)
        return phi

    def sample_squared(self, degrees: Int[ndarray, " n"], rng: np.random.Generator) -> Float[ndarray, " n"]:
        """One draw from phi_j² mu for each degree j, by inverting its closed-form distribution function."""
        if not len(degrees):
            return np.empty(0)
        basis, edge = Hermite(int(degrees.max()) + 1), 2 * np.sqrt(degrees.max() + 1) + 9

        def below(x: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
            phi, density = basis.features(x), np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
            terms = phi[:, 1:] * phi[:, :-1] / np.sqrt(np.arange(1, basis.dimension))
            drop = np.hstack([np.zeros((len(x), 1)), np.cumsum(terms, axis=1)])
            return np.asarray(special.ndtr(x) - density * drop[np.arange(len(x)), degrees])

        return _invert(below, rng.random(len(degrees)), -edge, edge)

    def sample_optimal(self, n: int, rng: np.random.Generator) -> Float[ndarray, " n"]:
        return self.sample_squared(rng.integers(self.dimension, size=n), rng)

    def sample_dpp(self, rng: np.random.Generator) -> Float[ndarray, " m"]:
        """The projection DPP in O(m²): the Gaussian unitary ensemble's tridiagonal form."""
        k = np.arange(self.dimension - 1, 0, -1)
        return _eigenvalues(rng.standard_normal(self.dimension), np.sqrt(rng.chisquare(2 * k) / 2))


@dataclass(frozen=True)
class Laguerre:
    """Polynomials of degree below `dimension`, orthonormal for the exponential law on [0, inf)."""

    dimension: int

    def features(self, x: Float[ndarray, " n"]) -> Float[ndarray, "n m"]:
        phi = np.ones((len(x), self.dimension))
        if self.dimension > 1:
            phi[:, 1] = 1 - x
        for j in range(1, self.dimension - 1):
            phi[:, j + 1] = ((2 * j + 1 - x) * phi[:, j] - j * phi[:, j - 1]) / (j + 1)
        return phi

    def sample_squared(self, degrees: Int[ndarray, " n"], rng: np.random.Generator) -> Float[ndarray, " n"]:
        """One draw from phi_j² mu for each degree j, by inverting its closed-form distribution function."""
        if not len(degrees):
            return np.empty(0)
        basis = Laguerre(int(degrees.max()) + 1)

        def below(x: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
            # F_j - F_{j-1} = x e^-x (L_j L_{j-1} - L_j L_{j-1}' + L_j' L_{j-1}) / j, from the recurrences.
            phi, j = basis.features(x), np.arange(1, basis.dimension)
            high, low = phi[:, 1:], phi[:, :-1]
            slopes = np.hstack([np.zeros((len(x), 1)), -np.cumsum(phi, axis=1)[:, :-1]])  # L_j' = -sum_{i<j} L_i
            terms = (high * low - high * slopes[:, :-1] + slopes[:, 1:] * low) / j
            gain = np.hstack([np.zeros((len(x), 1)), np.cumsum(terms, axis=1)])
            return np.asarray(-np.expm1(-x) + x * np.exp(-x) * gain[np.arange(len(x)), degrees])

        return _invert(below, rng.random(len(degrees)), 0.0, 4.0 * degrees.max() + 60)

    def sample_optimal(self, n: int, rng: np.random.Generator) -> Float[ndarray, " n"]:
        return self.sample_squared(rng.integers(self.dimension, size=n), rng)

    def sample_dpp(self, rng: np.random.Generator) -> Float[ndarray, " m"]:
        """The projection DPP in O(m²): the Laguerre ensemble's bidiagonal form, beta = 2."""
        m = self.dimension
        diagonal = rng.chisquare(2 * np.arange(m, 0, -1))
        below = rng.chisquare(2 * np.arange(m - 1, 0, -1))
        main = diagonal + np.concatenate([[0.0], below])
        return np.asarray(_eigenvalues(main, np.sqrt(diagonal[:-1] * below)) / 2)


Univariate = Legendre | Hermite | Laguerre


@dataclass(frozen=True)
class Product:
    """Products of univariate polynomials, one factor a coordinate, over a set of multi-indices.

    Attributes
    ----------
    factors : the space of each coordinate; its dimension bounds the degree.
    indices : one row of degrees for each basis function. `tensor` and `total_degree` build the usual sets.
    """

    factors: tuple[Univariate, ...]
    indices: Int[ndarray, "m coordinates"]

    @classmethod
    def tensor(cls, *factors: Univariate) -> Product:
        """All products: the dimension is the product of the dimensions."""
        return cls(factors, np.array(list(itertools.product(*(range(f.dimension) for f in factors)))))

    @classmethod
    def total_degree(cls, family: type[Univariate], coordinates: int, degree: int) -> Product:
        """Polynomials of total degree at most `degree`: dimension (coordinates + degree choose degree)."""
        rows = [r for r in itertools.product(range(degree + 1), repeat=coordinates) if sum(r) <= degree]
        return cls((family(degree + 1),) * coordinates, np.array(rows))

    @property
    def dimension(self) -> int:
        return len(self.indices)

    def features(self, x: Float[ndarray, "n coordinates"]) -> Float[ndarray, "n m"]:
        require(x.shape[1] == len(self.factors), "x", x.shape, f"points with {len(self.factors)} coordinates")
        phi = np.ones((len(x), self.dimension))
        for c, factor in enumerate(self.factors):
            phi *= factor.features(x[:, c])[:, self.indices[:, c]]
        return phi

    def sample_optimal(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n coordinates"]:
        chosen = self.indices[rng.integers(self.dimension, size=n)]
        return np.column_stack([f.sample_squared(chosen[:, c], rng) for c, f in enumerate(self.factors)])


@dataclass(frozen=True, eq=False)
class Empirical:
    """Any features on a finite set of M candidates; a point is the number of a candidate.

    Attributes
    ----------
    raw : features of the candidates, full column rank.
    probability : the law mu on them, uniform by default.
    """

    raw: Float[ndarray, "candidates m"]
    probability: Float[ndarray, " candidates"] | None = None

    @cached_property
    def mu(self) -> Float[ndarray, " candidates"]:
        mu = np.full(len(self.raw), 1.0) if self.probability is None else self.probability
        require(bool(np.all(mu >= 0) and mu.sum() > 0), "probability", self.probability, "numbers >= 0, not all zero")
        return np.asarray(mu / mu.sum())

    @cached_property
    def orthonormal(self) -> Float[ndarray, "candidates m"]:
        """Columns orthonormal in R^M: sqrt(mu) phi."""
        require(bool(np.isfinite(self.raw).all()), "raw", "with NaN or inf", "finite features")
        q, r = np.linalg.qr(self.raw * np.sqrt(self.mu)[:, None])
        values = np.linalg.svd(r, compute_uv=False)
        rank = int((values > values[0] * max(self.raw.shape) * np.finfo(float).eps).sum())
        require(rank == self.raw.shape[1], "raw", f"rank {rank}", f"{self.raw.shape[1]} independent features")
        return np.asarray(q)

    @cached_property
    def cumulative(self) -> Float[ndarray, " candidates"]:
        """Running sums of the leverage scores, from which candidates are drawn."""
        return np.cumsum(np.square(self.orthonormal).sum(axis=1))

    @property
    def dimension(self) -> int:
        return self.raw.shape[1]

    def features(self, x: Int[ndarray, " n"]) -> Float[ndarray, "n m"]:
        return np.asarray(self.orthonormal[x] / np.sqrt(self.mu[x])[:, None])

    def sample_optimal(self, n: int, rng: np.random.Generator) -> Int[ndarray, " n"]:
        return np.searchsorted(self.cumulative, rng.random(n) * self.cumulative[-1], side="right")


def gram(space: Space, x: Any, weights: Float[ndarray, " n"]) -> Float[ndarray, "m m"]:
    """(1/n) sum_i w_i phi(x_i) phi(x_i)': near the identity for a good design."""
    rows = space.features(x) * np.sqrt(weights / len(weights))[:, None]
    return np.asarray(rows.T @ rows)


def _invert(below: Any, uniform: Float[ndarray, " n"], low: float, high: float) -> Float[ndarray, " n"]:
    """x with below(x) = uniform, by bisection to the last bit that matters."""
    left, right = np.full(len(uniform), low), np.full(len(uniform), high)
    for _ in range(60):
        middle = (left + right) / 2
        lower = below(middle) < uniform
        left, right = np.where(lower, middle, left), np.where(lower, right, middle)
    return np.asarray((left + right) / 2)


def _eigenvalues(diagonal: Float[ndarray, " m"], off: Float[ndarray, " less"]) -> Float[ndarray, " m"]:
    """Of a symmetric tridiagonal matrix, by LAPACK's root-free QR."""
    if len(diagonal) == 1:
        return diagonal
    values, info = linalg.lapack.dsterf(diagonal, off)
    if info:
        raise RuntimeError(f"LAPACK's dsterf did not converge: info = {info}")
    return np.asarray(values)


def _points(parts: Sequence[Any]) -> Any:
    """Points of several draws, one below the other."""
    return np.concatenate([np.asarray(p) for p in parts])
