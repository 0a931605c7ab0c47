"""Rare events with known probabilities: a bridge network, small values of the zeta function, trees of sequences.

The zeta function is a test problem with a known answer and nothing more. Sampling says nothing about the Riemann
hypothesis: zeros are a null set that no continuous sampler hits, and no sample speaks of what lies outside its box.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import factorial

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy import ndarray

from hartley.labs.base import Lab
from hartley.montecarlo import NormalMixture, RareEvent, rare_event, stratified

BRIDGE_MEANS = np.array([0.25, 0.4, 0.1, 0.3, 0.2])
BRIDGE_PROBABILITY = 1.34247e-5  # P(shortest path > 2), by Gauss-Legendre over three edges, two in closed form

ZEROS = np.array([14.134725141734693, 21.022039638771555, 25.010857580145688, 30.424876125859513, 32.93506158773919,
                  37.58617815882567])  # fmt: skip
SLOPES = np.array([0.7931604332, 1.1368362, 1.3717, 1.3039, 1.3821, 1.9365])
"""Zeros of zeta between heights 10 and 40, and |zeta'| there."""


@dataclass(frozen=True)
class RareEventLab(Lab):
    """Settings of the rare-event experiments."""

    @property
    def runs(self) -> int:
        return 4 if self.quick else 20


def bridge(x: Float[ndarray, "n 5"]) -> Float[ndarray, " n"]:
    """Shortest path through a bridge network of five edges."""
    a, b, c, d, e = x.T
    return np.asarray(np.minimum.reduce([a + d, a + c + e, b + e, b + c + d]))


@cache
def _borwein(n: int = 70) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
    terms = [n * factorial(n + i - 1) * 4**i // (factorial(n - i) * factorial(2 * i)) for i in range(n + 1)]
    partial = np.cumsum(np.array(terms, dtype=object))
    sign = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    return sign * np.array([float((partial[-1] - p) / partial[-1]) for p in partial[:-1]]), np.log(np.arange(1, n + 1))


def zeta(s: Complex[ndarray, " n"]) -> Complex[ndarray, " n"]:
    """Riemann's zeta by Borwein's alternating series; error below 1e-13 for 0 <= Re s and |Im s| <= 60."""
    weights, logs = _borwein()
    return np.asarray(np.exp(-s[:, None] * logs) @ weights / (1 - 2 ** (1 - s)))


def small_zeta_probability(delta: float) -> float:
    """P(|zeta(s)| < delta) for s uniform on [0, 1] x [10, 40], to first order in delta."""
    return float((np.pi * delta**2 / SLOPES**2).sum() / 30)


@dataclass(frozen=True)
class Box:
    """The uniform law on a box; it refits to itself."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def sample(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n d"]:
        return rng.uniform(self.low, self.high, size=(n, len(self.low)))

    def inside(self, x: Float[ndarray, "n d"]) -> ndarray:
        return np.asarray(((x >= self.low) & (x <= self.high)).all(axis=1))

    def logpdf(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        return np.where(self.inside(x), -np.log(np.subtract(self.high, self.low)).sum(), -np.inf)

    def fit(self, x: Float[ndarray, "n d"], weights: Float[ndarray, " n"]) -> Box:
        return self


def small_zeta(box: Box, delta: float, k: int, n: int, n_final: int, rng: np.random.Generator) -> RareEvent:
    """Cross-entropy estimate of P(|zeta| < delta) on a box, with a mixture of k normals."""
    start = NormalMixture.spread(box.low, box.high, k, rng, floor=0.2 * delta)

    def score(x: Float[ndarray, "n 2"]) -> Float[ndarray, " n"]:
        values = np.full(len(x), -np.inf)
        inside = box.inside(x)
        values[inside] = -np.abs(zeta(x[inside, 0] + 1j * x[inside, 1]))
        return values

    return rare_event(score, -delta, box, rng, start=start, n=n, n_final=n_final)


def small_zeta_in_strips(delta: float, rng: np.random.Generator) -> tuple[float, float]:
    """The same, split into 15 strips of height 2 with four normals each; most strips have no zero and give 0."""
    boxes = [Box((0.0, float(t)), (1.0, t + 2.0)) for t in range(10, 40, 2)]
    return stratified([(2 / 30, small_zeta(b, delta, 4, 600, 2000, rng)) for b in boxes])


@dataclass(frozen=True)
class Tree:
    """A random language of fixed length: each prefix has its own law of the next token."""

    tables: tuple[torch.Tensor, ...]

    @classmethod
    def random(cls, rng: np.random.Generator, vocab: int = 6, depth: int = 6, concentration: float = 0.5) -> Tree:
        law = np.full(vocab, concentration)
        return cls(tuple(torch.from_numpy(np.log(rng.dirichlet(law, size=vocab**t) + 1e-300)) for t in range(depth)))

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the next token; the prefix is one start token."""
        row = torch.zeros(len(ids), dtype=torch.long)
        for column in ids[:, 1:].T:
            row = row * self.tables[0].shape[1] + column
        return self.tables[ids.shape[1] - 1][row]

    def best(self) -> float:
        """Log-probability of the likeliest sequence."""
        total = self.tables[0]
        for table in self.tables[1:]:
            total = total.reshape(-1, 1) + table
        return float(total.max())
