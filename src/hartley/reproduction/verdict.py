"""From trials to a verdict: paired differences, a bootstrap interval, and where it lies against the margin.

The advantage of a method over a baseline is their difference in the direction that the claim calls better. Seeds are
the units; where trials give values of paired units (prompts, contexts), those are resampled within their seed. The
interval is the percentile bootstrap's, widened to Student's t interval over seeds if that is the wider: a bootstrap of
few seeds cannot reach beyond them. The claim is judged against the strongest baseline, the one over which the mean
advantage is least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hartley.papers import Claim, Trial

Verdict = Literal["confirmed", "refuted", "open"]
LEVEL = 0.95
_RESAMPLES = 4000


@dataclass(frozen=True)
class Effect:
    """Mean advantage over one baseline, in the metric's unit, with its interval at level 95%."""

    baseline: str
    advantage: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcome:
    """What the trials of a claim say.

    Attributes
    ----------
    verdict : "confirmed" if the interval over the strongest baseline lies above the margin, "refuted" if below,
        "open" if it contains it or fewer than two seeds of a random trial are there.
    effects : one a baseline, the strongest baseline first.
    method : mean of the method's metric.
    seeds : number of trials.
    """

    verdict: Verdict
    effects: tuple[Effect, ...]
    method: float
    seeds: int


def judge(claim: Claim, trials: Sequence[Trial]) -> Outcome:
    """Verdict over the trials of a claim, in any order of seeds.

    Raises
    ------
    ValueError : no trials, trials without a baseline or with different ones, unpaired units, or values not finite.
    """
    if not trials:
        raise ValueError(f"{claim.name} has no trials")
    names = list(trials[0].baselines)
    if not names or any(set(t.baselines) != set(names) for t in trials):
        raise ValueError(f"the trials of {claim.name} need the same baselines, at least one")
    sign = 1.0 if claim.better == "higher" else -1.0
    effects = []
    for name in names:
        units = []
        for trial in trials:
            method, baseline = (np.atleast_1d(np.asarray(v, float)) for v in (trial.method, trial.baselines[name]))
            if method.shape != baseline.shape or method.size == 0:
                raise ValueError(f"{claim.name}: {method.size} values of the method, {baseline.size} of {name}")
            if not (np.isfinite(method).all() and np.isfinite(baseline).all()):
                raise ValueError(f"{claim.name}: a value of the method or of {name} is not finite")
            units.append(sign * (method - baseline))
        advantage = float(np.mean([u.mean() for u in units]))
        effects.append(Effect(name, advantage, *_interval(units, deterministic=claim.deterministic)))
    effects.sort(key=lambda e: e.advantage)
    strongest = effects[0]
    verdict: Verdict = "open"
    if strongest.low > claim.margin:
        verdict = "confirmed"
    elif strongest.high < claim.margin:
        verdict = "refuted"
    return Outcome(verdict, tuple(effects), float(np.mean([np.mean(t.method) for t in trials])), len(trials))


def _interval(units: list[NDArray[np.float64]], *, deterministic: bool) -> tuple[float, float]:
    means = np.array([u.mean() for u in units])
    if deterministic:
        return float(means.mean()), float(means.mean())
    paired = max(len(u) for u in units) > 1
    if len(units) == 1 and not paired:
        return -np.inf, np.inf
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(units), size=(_RESAMPLES, len(units)))
    if paired:
        # One draw of unit means per seed and resample; a resample takes the draws of the seeds it picked.
        draws = np.stack([_resampled_means(u, len(units), rng) for u in units])  # (seed, resample, pick)
        replicates = draws[seeds, np.arange(_RESAMPLES)[:, None], np.arange(len(units))].mean(1)
    else:
        replicates = means[seeds].mean(1)
    low, high = (float(q) for q in np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    if len(units) > 1:
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(units) - 1) * means.std(ddof=1) / np.sqrt(len(units)))
        low, high = min(low, float(means.mean()) - half), max(high, float(means.mean()) + half)
    return low, high


def _resampled_means(values: NDArray[np.float64], picks: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(resample, pick) means of values drawn with replacement, through multinomial counts."""
    counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=(_RESAMPLES, picks))
    return counts @ values / len(values)
