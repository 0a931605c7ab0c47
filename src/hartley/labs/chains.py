"""Chains of steps that may go wrong, and a scorer that is too sure of itself early on; and how to draw a search.

Each step goes wrong for good with probability `error`. The scorer sees a mistake only gradually, over `lag` steps, and
adds noise that a chain keeps, and its copies with it. Early on it is `overconfident` times too sure:

    logit r = kappa_t (2 g + early_noise f B),   f = 1 - t / T,   kappa_t = 1 + (overconfident - 1) f

g runs from 0 to 1 while the chain is right and to -1 after its mistake; B is a normal variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hartley.labs.base import Lab
from hartley.reasoning import SearchResult, beam_search, best_of_n, particle_filter

Chain = tuple[int, int, float]
"""Steps done, step of the first mistake (0: none), the scorer's noise."""


@dataclass(frozen=True)
class ChainLab(Lab):
    """Answers of `steps` steps, searched with a scorer whose flaws are known.

    Attributes
    ----------
    error : probability that a step is wrong.
    lag : steps over which a mistake becomes visible.
    overconfident, early_noise : 1 and 0.5 make the scorer harmless.
    """

    steps: int = 20
    error: float = 0.2
    lag: int = 8
    overconfident: float = 4.0
    early_noise: float = 2.0

    @property
    def problems(self) -> int:
        return 600 if self.quick else 1500

    def calibrated(self) -> ChainLab:
        """The same chains under a scorer that is not too sure."""
        return ChainLab(self.quick, self.steps, self.error, self.lag, 1.0, 0.5)

    def extend(self, chains: Sequence[Chain], rng: np.random.Generator) -> list[tuple[Chain, bool]]:
        """One step of each chain."""
        wrong = rng.random(len(chains)) < self.error
        noise = rng.normal(0, 3**-0.5, len(chains))
        return [
            ((t + 1, mistake or (t + 1 if w else 0), b + (z if t < 3 else 0.0)), t + 1 >= self.steps)
            for (t, mistake, b), w, z in zip(chains, wrong.tolist(), noise.tolist(), strict=True)
        ]

    def score(self, chains: Sequence[Chain]) -> NDArray[Any]:
        """What the scorer believes of each chain."""
        t, mistake, noise = np.array(chains).T
        f = 1 - t / self.steps
        g = np.where(mistake == 0, np.minimum(1, t / self.lag), -np.minimum(1, (t - mistake) / self.lag))
        return expit((1 + (self.overconfident - 1) * f) * (2 * g + self.early_noise * f * noise))

    def success(self, n: int, seed: int, **settings: Any) -> list[float]:
        """For each problem 1 if the answer of a particle filter with these settings is right."""
        rng = np.random.default_rng(seed)
        start = [(0, 0, 0.0)] * self.problems
        searched = particle_filter(
            self.extend, self.score, start, n_particles=n, max_steps=self.steps, rng=rng, **settings
        )
        return _right(searched)

    def success_best_of(self, n: int, seed: int) -> list[float]:
        """The same for the best of n whole answers."""
        start, rng = [(0, 0, 0.0)] * self.problems, np.random.default_rng(seed)
        return _right(best_of_n(self.extend, self.score, start, n=n, max_steps=self.steps, rng=rng))

    def success_beam(self, n: int, seed: int) -> list[float]:
        """The same for a beam search: a quarter of n is kept, each continued four times."""
        start, rng = [(0, 0, 0.0)] * self.problems, np.random.default_rng(seed)
        return _right(
            beam_search(self.extend, self.score, start, width=n // 4, branches=4, max_steps=self.steps, rng=rng)
        )


def draw_genealogy(result: SearchResult[Any], axes: Any = None) -> Any:
    """Lines of descent of a search: every particle and its score, in colour those that final particles come from.

    Returns the matplotlib axes, new ones unless given.
    """
    from matplotlib import pyplot as plt

    axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1] if axes is None else axes
    lineage, (steps, n) = result.lineage, result.step_scores.shape
    for step, parents in enumerate(result.ancestors):
        alive = set(lineage[step + 1].tolist())
        for child, parent in enumerate(parents):
            on = child in alive
            axes.plot(
                [step + 1, step + 2], [parent, child], color="C0" if on else "0.7", lw=1.6 if on else 0.5, zorder=on
            )
    x, y = np.meshgrid(np.arange(1, steps + 1), np.arange(n), indexing="ij")
    points = axes.scatter(x, y, c=result.step_scores, cmap="viridis", vmin=0, vmax=1, s=18, zorder=3)
    axes.plot(np.arange(1, steps + 1), lineage[:, result.chosen], color="C3", lw=2, label="the answer", zorder=2)
    axes.figure.colorbar(points, ax=axes, label="score")
    axes.set(xlabel="step", ylabel="particle")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return axes


def _right(results: Sequence[SearchResult[Chain]]) -> list[float]:
    return [float(r.best[1] == 0) for r in results]
