"""Expectations with known answers: Gaussian moments, exponential tilts, a cantilever beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import factorial2, ndtri

from hartley.labs.base import Lab

BEAM_FIRST_ORDER = np.array([0.02398, 0.00062, 0.01657, 0.42762, 0.07322, 0.40207])
"""First-order Sobol' indices of the beam: FX, FY, E, w, t, L."""


@dataclass(frozen=True)
class IntegralLab(Lab):
    """Integrals of several quantities under one or many laws.

    Attributes
    ----------
    budget : evaluations of each estimate.
    """

    budget: int = 20_000

    @property
    def repetitions(self) -> int:
        """Independent estimates a trial, whose spread is the variance that is compared."""
        return 3 if self.quick else 40

    moments = np.arange(2, 21, 2)

    @property
    def moment_truth(self) -> Float[ndarray, " j"]:
        """E X^2 .. E X^20 of a standard normal."""
        return np.asarray(factorial2(self.moments - 1), dtype=float)

    def moment_mc_variance(self) -> float:
        """Sum of relative variances of plain Monte Carlo on the whole budget, in closed form."""
        second = factorial2(2 * self.moments - 1)
        return float((second / self.moment_truth**2 - 1).sum() / self.budget)

    @staticmethod
    def log_normal(x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        return np.asarray(-0.5 * np.square(x).sum(axis=1) - x.shape[1] / 2 * np.log(2 * np.pi))


def beam(z: Float[ndarray, "n 6"]) -> Float[ndarray, " n"]:
    """Deflection of a cantilever beam, from standard normal inputs FX, FY, E, w, t, L."""
    means, spread = np.array([556.8, 453.6, 200e9]), np.array([0.08, 0.08, 0.06])
    sigma = np.sqrt(np.log1p(spread**2))
    fx, fy, e = (np.exp(np.log(means) - sigma**2 / 2 + sigma * z[:, :3])).T
    w, t, length = (np.array([0.062, 0.0987, 4.29]) * (1 + 0.1 * z[:, 3:])).T
    return np.asarray(4 * length**3 / (e * w * t) * np.sqrt((fx / w**2) ** 2 + (fy / t**2) ** 2))


def beam_indices_from(base: Float[ndarray, "n 12"]) -> Float[ndarray, " 6"]:
    """The same pick-freeze estimator of the first-order indices on given pairs of standard normal inputs."""
    x, other = base[:, :6], base[:, 6:]
    y = beam(x)
    found = np.empty(6)
    for i in range(6):
        mixed = other.copy()
        mixed[:, i] = x[:, i]
        found[i] = np.mean(y * beam(mixed)) - y.mean() ** 2
    return found / (np.mean(y * y) - y.mean() ** 2)


def sobol_pairs(n: int, rng: np.random.Generator) -> Float[ndarray, "n 12"]:
    """Scrambled Sobol' points as standard normal pairs."""
    from scipy.stats import qmc

    points = qmc.Sobol(12, rng=rng).random_base2(int(np.log2(n)))
    return np.asarray(ndtri(np.clip(points, 1e-12, 1 - 1e-12)))
