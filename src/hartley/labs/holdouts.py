"""The analyst who overfits a holdout by choosing features that look well on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from hartley.labs.base import Lab

Array = np.ndarray
Query = Callable[[float, float], float]


@dataclass(frozen=True)
class HoldoutLab(Lab):
    """Train, holdout and fresh sets of n points with n Gaussian features and labels -1, 1.

    Attributes
    ----------
    points : n.
    informative : features that lean towards the label by 6 / sqrt(n) in the signal case.
    """

    points: int = 2000
    informative: int = 20

    def analyse(self, seed: int, chosen: int, answer: Query, *, signal: bool) -> tuple[float, float]:
        """Accuracy as reported by `answer(train, holdout)`, and on fresh data.

        The analyst asks for each feature's correlation with the label, keeps those whose signs agree on both sets
        and whose sizes exceed 1 / sqrt(n), takes the `chosen` largest and predicts by their signed sum. Correlations
        are clipped to [-1, 1] and rescaled to [0, 1] for the query.
        """
        (x_t, y_t), (x_h, y_h), (x_f, y_f) = _sets(seed, self.points, self.informative if signal else 0)
        cut = 1 / math.sqrt(self.points)
        train = np.clip(x_t.T @ y_t / self.points, -1, 1)
        holdout = np.clip(x_h.T @ y_h / self.points, -1, 1)
        told = np.array(
            [2 * answer((1 + a) / 2, (1 + b) / 2) - 1 for a, b in zip(train.tolist(), holdout.tolist(), strict=True)]
        )
        good = (np.sign(train) == np.sign(told)) & (np.abs(train) > cut) & (np.abs(told) > cut)
        kept = np.flatnonzero(good)[np.argsort(-np.abs(train[good]))][:chosen]
        weights = np.sign(train[kept])

        def accuracy(x: Float[Array, "n d"], y: Float[Array, " n"]) -> float:
            return float((np.where(x[:, kept] @ weights >= 0, 1, -1) == y).mean())

        return answer(accuracy(x_t, y_t), accuracy(x_h, y_h)), accuracy(x_f, y_f)


@cache
def _sets(seed: int, n: int, informative: int) -> list[tuple[Float[Array, "n n"], Float[Array, " n"]]]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(3):
        x = rng.standard_normal((n, n), dtype=np.float32)
        y = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), n)
        x[:, :informative] += 6 / math.sqrt(n) * y[:, None]
        out.append((x, y))
    return out
