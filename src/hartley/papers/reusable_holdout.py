"""The reusable holdout: a validation set that survives adaptive use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.holdouts import HoldoutLab

paper = Paper(
    slug="reusable-holdout",
    title="Preserving Statistical Validity in Adaptive Data Analysis",
    published=date(2014, 11, 10),
    room="auditing",
    methods=["hartley.auditing.holdout"],
    summary="Answers many adaptively chosen questions about a holdout set so that the answers stay true of fresh data: "
    "the training value where the two agree, a noisy holdout value out of a limited budget where they do not.",
    usage="from hartley.auditing import ReusableHoldout\n\n"
    "guard = ReusableHoldout(0.04, 0.01, budget=100, rng=rng)\nguard.query(train_mean=0.71, holdout_mean=0.64).value",
    topics=["adaptive data analysis", "differential privacy", "validation"],
    authors=6,
    arxiv="1411.2664",
    lab="hartley.labs.holdouts:HoldoutLab",
)


@paper.claim(
    "Where labels are pure noise, the accuracy that the guarded holdout reports after feature selection is nearer the "
    "truth than that of a reused holdout, or of one whose every answer carries calibrated noise",
    published="Reused holdout 63% and Thresholdout 50% where the truth is 50% (n = d = 10000, k = 500)",
    metric="reported minus fresh accuracy, absolute",
    unit="accuracy",
    better="lower",
    margin=0.0,
    seeds=(6, 20),
)
def no_signal(lab: HoldoutLab, seed: int) -> Trial:
    """n = d = 2000, 200 features chosen, no feature informative."""
    errors = {}
    for name, answer in _mechanisms(lab.points, seed).items():
        reported, fresh = lab.analyse(seed, lab.points // 10, answer, signal=False)
        errors[name] = abs(reported - fresh)
    return Trial(method=errors.pop("guarded"), baselines=errors)


@paper.claim(
    "Reuse of the plain holdout overstates accuracy by more than 0.08 where labels are pure noise",
    published="63% reported, 50% true (n = d = 10000, k = 500)",
    metric="reported minus fresh accuracy",
    unit="accuracy",
    better="higher",
    margin=0.08,
    seeds=(6, 20),
)
def attack(lab: HoldoutLab, seed: int) -> Trial:
    """That there is something to guard against."""
    reported, fresh = lab.analyse(seed, lab.points // 10, lambda train, holdout: holdout, signal=False)
    return Trial(method=reported - fresh, baselines={"an honest report": 0.0}, details={"fresh": fresh})


@paper.claim(
    "Where twenty features are weakly informative, the guarded analyst's classifier is as accurate on fresh data as "
    "that of the reused holdout",
    published="Thresholdout finds the signal without overfitting (Science 2015, figure 2)",
    metric="accuracy on fresh data",
    unit="accuracy",
    better="higher",
    margin=-0.01,
    seeds=(6, 20),
)
def signal(lab: HoldoutLab, seed: int) -> Trial:
    """Twenty features chosen, twenty informative."""
    fresh = {}
    for name, answer in _mechanisms(lab.points, seed).items():
        fresh[name] = lab.analyse(seed, lab.informative, answer, signal=True)[1]
    return Trial(method=fresh.pop("guarded"), baselines=fresh)


def _mechanisms(n: int, seed: int) -> dict[str, Callable[[float, float], float]]:
    """Thresholdout as in the published experiments, T = 4 / sqrt(n) and noise 1 / sqrt(n), halved as correlations are.

    Splitting the holdout would leave one point a query.
    """
    import math

    import numpy as np

    from hartley.auditing import NoisyMean, ReusableHoldout

    rng = np.random.default_rng([seed, 99])
    guard = ReusableHoldout(2 / math.sqrt(n), 0.5 / math.sqrt(n), 10 * n, kind="gaussian", rng=rng)
    noisy = NoisyMean.calibrated(n, n + 1)
    return {
        "guarded": lambda train, holdout: guard.query(train, holdout).value,
        "reused holdout": lambda train, holdout: holdout,
        "noisy mean": lambda train, holdout: noisy.answer(holdout, rng),
    }
