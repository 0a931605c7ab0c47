"""Expansion rates of the universe from cosmic chronometers: 31 points, two to four parameters.

Data: the compilation of arXiv 1802.01505 (redshift, H in km/s/Mpc, its error).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import logsumexp

from hartley.labs.base import Lab

_TABLE = """
0.07 69 19.6 0.09 69 12 0.12 68.6 26.2 0.17 83 8 0.179 75 4 0.199 75 5 0.2 72.9 29.6 0.27 77 14 0.28 88.8 36.6
0.352 83 14 0.3802 83 13.5 0.4 95 17 0.4004 77 10.2 0.4247 87.1 11.2 0.4497 92.8 12.9 0.47 89 50 0.4783 80.9 9
0.48 97 62 0.593 104 13 0.68 92 8 0.781 105 12 0.875 125 17 0.88 90 40 0.9 117 23 1.037 154 20 1.3 168 17
1.363 160 33.6 1.43 177 18 1.53 140 14 1.75 202 40 1.965 186.5 50.4
"""
Z, H, SIGMA = np.array([float(number) for number in _TABLE.split()]).reshape(-1, 3).T

LOW, HIGH = np.array([0.1, 0.4, -3.0, -3.5]), np.array([0.5, 0.9, 1.0, 2.0])
LOGZ_LCDM = -127.57809
"""Log-evidence with two parameters, by an 800 x 800 midpoint grid."""


@dataclass(frozen=True)
class CosmologyLab(Lab):
    """Cosmic chronometers.

    Attributes
    ----------
    live : live points; 0 takes 150 in quick mode and 300 in full mode.
    """

    live: int = 0

    @property
    def n_live(self) -> int:
        return self.live or (150 if self.quick else 300)


def prior_transform(u: Float[ndarray, " d"]) -> Float[ndarray, " d"]:
    """Uniform priors on matter density, Hubble rate and the two dark-energy parameters, as many as there are."""
    return np.asarray(LOW[: len(u)] + u * (HIGH - LOW)[: len(u)])


def loglike(theta: Float[ndarray, "*n d"]) -> Float[ndarray, "*n"]:
    """Gaussian log-likelihood; parameters that are left out are those of a cosmological constant."""
    t = np.asarray(theta)[..., None, :]
    w0 = t[..., 2] if t.shape[-1] > 2 else -1.0
    wa = t[..., 3] if t.shape[-1] > 3 else 0.0
    dark = (1 + Z) ** (3 * (1 + w0 + wa)) * np.exp(-3 * wa * Z / (1 + Z))
    model = 100 * t[..., 1] * np.sqrt(t[..., 0] * (1 + Z) ** 3 + (1 - t[..., 0]) * dark)
    return np.asarray(-0.5 * np.square((H - model) / SIGMA).sum(-1) - 0.5 * np.log(2 * np.pi * SIGMA**2).sum())


def grid_evidence(d: int, per_side: int) -> float:
    """Log-evidence by the midpoint rule."""
    mid = (np.arange(per_side) + 0.5) / per_side
    grid = np.stack(np.meshgrid(*[mid] * d, indexing="ij"), axis=-1).reshape(-1, d)
    parts = [float(logsumexp(loglike(prior_transform_rows(block)))) for block in np.array_split(grid, 64)]
    return float(logsumexp(parts) - np.log(len(grid)))


def prior_transform_rows(u: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
    """`prior_transform` of each row."""
    d = u.shape[1]
    return np.asarray(LOW[:d] + u * (HIGH - LOW)[:d])
