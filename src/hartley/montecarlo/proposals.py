"""Proposal laws for importance sampling: Gaussian components fitted to weighted points, and their mixture.

Source: Demange-Chryst, Bachoc and Morio (2023), arXiv 2212.00568; the mixture weights by a multiplicative fixed point
in place of their solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg

Family = Literal["gaussian", "diagonal", "two-gaussians"]


@dataclass(frozen=True)
class Gaussian:
    """One proposal component: mean and lower Cholesky factor of the covariance."""

    mean: Float[ndarray, " d"]
    factor: Float[ndarray, "d d"]

    @cached_property
    def _whitening(self) -> tuple[Float[ndarray, "d d"], float]:
        inverse = linalg.solve_triangular(self.factor, np.eye(len(self.mean)), lower=True, check_finite=False)
        return inverse.T, float(np.log(np.diag(self.factor)).sum() + len(self.mean) / 2 * np.log(2 * np.pi))

    def logpdf(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        whitening, constant = self._whitening
        z = (x - self.mean) @ whitening
        return np.asarray(-0.5 * np.einsum("nd,nd->n", z, z) - constant)

    def sample(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n d"]:
        return np.asarray(self.mean + rng.standard_normal((n, len(self.mean))) @ self.factor.T)


@dataclass(frozen=True)
class TwoGaussians:
    """One proposal component of two Gaussians, the first with probability `share`."""

    first: Gaussian
    second: Gaussian
    share: float

    def joint(self, x: Float[ndarray, "n d"]) -> Float[ndarray, "n 2"]:
        """Log of share times density, of each."""
        return np.column_stack(
            [self.first.logpdf(x) + np.log(self.share), self.second.logpdf(x) + np.log1p(-self.share)]
        )

    def logpdf(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        return np.asarray(np.logaddexp(*self.joint(x).T))

    def sample(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n d"]:
        m = int(rng.binomial(n, self.share))
        return np.asarray(rng.permutation(np.concatenate([self.first.sample(m, rng), self.second.sample(n - m, rng)])))


@dataclass(frozen=True)
class Mixture:
    """The proposal: components, their weights, and a share of the input law kept for safety."""

    components: tuple[Gaussian | TwoGaussians, ...]
    weights: Float[ndarray, " k"]
    defensive: float = 0.0


def logsumexp(a: Float[ndarray, "..."], axis: int = 0) -> Float[ndarray, "..."]:
    """scipy's, without its overhead on small arrays; -inf where all are."""
    peak = a.max(axis=axis, keepdims=True)
    peak[~np.isfinite(peak)] = 0.0
    with np.errstate(divide="ignore"):
        return np.asarray(np.squeeze(peak, axis) + np.log(np.exp(a - peak).sum(axis=axis)))


def fit_component(x: Float[ndarray, "n d"], log_w: Float[ndarray, " n"], family: Family) -> Gaussian | TwoGaussians:
    """The law of the family that is likeliest for points with the given log weights.

    Two Gaussians start at either side of the weighted mean, along the direction of largest variance, and take 20 sweeps
    of EM; where one of them starves the fit is a single Gaussian.
    """
    p = np.exp(log_w - logsumexp(log_w))
    single = _moments(x, p, diagonal=family == "diagonal")
    if family != "two-gaussians":
        return single
    values, vectors = np.linalg.eigh(single.factor @ single.factor.T)
    apart = np.sqrt(values[-1]) * vectors[:, -1]
    law = TwoGaussians(Gaussian(single.mean - apart, single.factor), Gaussian(single.mean + apart, single.factor), 0.5)
    for _ in range(20):
        joint = law.joint(x)
        duty = np.exp(joint - logsumexp(joint, axis=1)[:, None]) * p[:, None]
        mass = duty.sum(axis=0)
        if (mass**2 < (x.shape[1] + 1) * np.square(duty).sum(axis=0)).any():  # fewer effective points than dimensions
            return single
        first, second = (_moments(x, duty[:, k] / mass[k]) for k in (0, 1))
        law = TwoGaussians(first, second, float(mass[0] / mass.sum()))
    return law


def _moments(x: Float[ndarray, "n d"], p: Float[ndarray, " n"], diagonal: bool = False) -> Gaussian:
    mean = p @ x
    centred = x - mean
    covariance = (centred * p[:, None]).T @ centred
    if diagonal:
        covariance = np.diag(np.diag(covariance))
    jitter = 1e-6
    while True:
        try:
            return Gaussian(mean, np.linalg.cholesky(covariance + jitter * np.eye(x.shape[1])))
        except np.linalg.LinAlgError:
            jitter *= 10


def mixture_weights(
    numerator: Float[ndarray, " n"],
    g: Float[ndarray, "n k"],
    start: Float[ndarray, " k"] | None = None,
    *,
    iterations: int = 200,
    tol: float = 1e-6,
) -> Float[ndarray, " k"]:
    """Weights on the simplex that minimise mean(numerator / (g a)), by the fixed point a_k <- a_k sqrt(T_k) / norm.

    T_k = mean(numerator g_k / (g a)²), minus the gradient. The objective is convex and falls at every step; the
    end is where it falls by less than `tol` of itself. Weights stay above 1e-11 so that their logarithms are finite.
    """
    k = g.shape[1]
    a = np.full(k, 1.0) if start is None or start.sum() <= 0 else np.maximum(start, 1e-6 * start.max())
    a, before = a / a.sum(), np.inf
    for _ in range(iterations):
        mix = np.maximum(g @ a, 1e-300)
        ratio = numerator / mix
        if before - ratio.sum() <= tol * ratio.sum():
            break
        before = ratio.sum()
        t = np.sqrt(np.maximum((ratio / mix) @ g, 0.0))
        if not t.any():
            break
        a = np.maximum(a * t, 1e-11 * (a * t).max())
        a /= a.sum()
    return np.asarray(a)
