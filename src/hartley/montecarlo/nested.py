"""Neural nested sampling: dynesty's engine, a regressor that learns the likelihood on the way, and a guard.

While the live points close in, a regressor is fitted to the true log-likelihoods seen so far. It may do one of two
things:

    "screen"   turn away proposals whose prediction is below the threshold by more than 3 validation errors; whatever is
               accepted was evaluated truly, so that the evidence is right up to proposals turned away wrongly, and a
               share of those is evaluated to count them
    "replace"  answer for the likelihood, as in the paper; good for posteriors, its evidence is marked invalid

The regressor is used only while its error on held-out points stays below a bound in nats, and dropped where audits
fail; then the true likelihood answers, as without it.

Source: Gómez-Vargas and Vázquez (2024), arXiv 2405.03293. The paper gates on a scaled error and lets the surrogate
decide; its stored runs then move log Z by up to 22 reported errors, which is why "screen" is the default here.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from hartley.checks import require
from hartley.montecarlo.surrogate import SurrogateLikelihood


@dataclass(frozen=True)
class NestedResult:
    """Evidence and posterior.

    Attributes
    ----------
    logz, logzerr : log-evidence and dynesty's estimate of its error.
    samples, logwt : weighted posterior points, log weights up to logz.
    n_true, n_surrogate, n_trainings : likelihood calls, answers of the regressor, fits.
    audited, wrong : turned-away proposals that were evaluated all the same, and those that should have stayed.
    lost : estimated share of acceptable proposals that were turned away.
    evidence_valid : False where surrogate values decided, or where `lost` may exceed a tenth.
    dynesty : the engine's own results, for its plots.
    """

    logz: float
    logzerr: float
    samples: Float[ndarray, "n d"]
    logwt: Float[ndarray, " n"]
    n_true: int
    n_surrogate: int
    n_trainings: int
    audited: int
    wrong: int
    lost: float
    evidence_valid: bool
    dynesty: Any


def nested_sample(
    loglike: Callable[[ndarray], float],
    prior_transform: Callable[[ndarray], ndarray],
    ndim: int,
    rng: np.random.Generator,
    *,
    n_live: int = 500,
    dlogz: float = 0.01,
    surrogate: Literal["screen", "replace"] | None = "screen",
    start_dlogz: float = 10.0,
    progress: bool = False,
    regressor: Any = None,
    val_rmse: float = 0.3,
    update: int | None = None,
    audit: float = 0.05,
    search: int = 0,
    checkpoint: str | Path | None = None,
    **dynesty_settings: Any,
) -> NestedResult:
    """Evidence and posterior of an expensive likelihood by `dynesty`, with fewer true calls.

    Parameters
    ----------
    loglike, prior_transform, ndim, n_live, dlogz : as in dynesty.
    surrogate : "screen", "replace", or None for plain dynesty; the other settings are `SurrogateLikelihood`'s.
    start_dlogz : remaining evidence, in nats, below which the surrogate is trained; too early its targets span
        thousands of nats.
    update : true evaluations between fits, default n_live.
    progress : print iterations, true calls and remaining evidence.
    checkpoint : a file to which every true evaluation is added. A run that was interrupted goes on from its last
        evaluation, if called again with the same arguments and a generator of the same seed: the engine asks for the
        same points, and only new ones are evaluated. Fits are repeated.
    dynesty_settings : for `dynesty.NestedSampler`, such as bound or sample. Uniform sampling is the default here.

    Raises
    ------
    ValueError : bad settings, a likelihood of +inf or NaN, a checkpoint of another run.

    When not to use: calls shorter than about a millisecond, which is what a prediction and the fits cost; posteriors in
    more than five dimensions, where the gate stays closed and this is dynesty.
    """
    import dynesty

    alone = "no pool: calls are counted, kept and learnt from in this process; spread the work inside loglike"
    require("pool" not in dynesty_settings, "pool", dynesty_settings.get("pool"), alone)
    likelihood = SurrogateLikelihood(
        loglike if checkpoint is None else _recorded(loglike, Path(checkpoint)),
        rng,
        regressor,
        surrogate or "screen",
        val_rmse,
        update if update is not None else n_live,
        audit,
        search,
    )
    settings = {"bound": "multi", "sample": "unif"} | dynesty_settings
    sampler = dynesty.NestedSampler(likelihood, prior_transform, ndim, nlive=n_live, rstate=rng, **settings)
    for i, step in enumerate(sampler.sample(dlogz=dlogz)):
        if likelihood.stuck:
            likelihood.settle(sampler.live_v, sampler.live_logl)
        likelihood.threshold, likelihood.tries = float(np.min(sampler.live_logl)), 0
        if surrogate is not None and step.delta_logz < start_dlogz and likelihood.due:
            likelihood.train()
        if progress and i % 100 == 0:
            print(f"{i} iterations, {likelihood.n_true} true calls, dlogz {step.delta_logz:.3g}", flush=True)
    likelihood.active = False
    for _ in sampler.add_live_points():
        pass
    results: Any = sampler.results
    samples = np.asarray(results.samples)
    kept = len(samples)
    missed = likelihood.wrong / likelihood.audited * likelihood.screened if likelihood.audited else 0.0
    lost = missed / (missed + kept) if surrogate == "screen" else 0.0
    # Rule of three where no audit failed: what may still have been lost at 95%.
    unseen = (likelihood.wrong + 3) / (likelihood.audited + 3) * likelihood.screened
    valid = surrogate is None or (surrogate == "screen" and unseen / (unseen + kept) < 0.1)
    if surrogate == "replace":
        valid = likelihood.n_surrogate == 0
    if not valid:
        warnings.warn(
            "the evidence is not certified: surrogate values decided, or too few turned-away proposals were audited",
            stacklevel=2,
        )
    return NestedResult(
        float(results.logz[-1]),
        float(results.logzerr[-1]),
        samples,
        np.asarray(results.logwt),
        likelihood.n_true,
        likelihood.n_surrogate,
        likelihood.n_trainings,
        likelihood.audited,
        likelihood.wrong,
        float(lost),
        bool(valid),
        results,
    )


def _recorded(loglike: Callable[[ndarray], float], path: Path) -> Callable[[ndarray], float]:
    """The same function; values found in the file are not evaluated again, new ones are added, one JSON line each."""
    known: dict[bytes, float] = {}
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):  # a line that was cut off
            os.truncate(path, whole)
        try:
            for line in data[:whole].splitlines():
                theta, value = json.loads(line)
                known[np.array(theta, dtype=float).tobytes()] = float(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"checkpoint = {str(path)!r}: expected a file that nested_sample wrote") from error
    unproved = bool(known)

    def evaluate(theta: ndarray) -> float:
        nonlocal unproved
        key = np.asarray(theta, dtype=float).tobytes()
        if unproved:  # one call shows whether points and likelihood are those of the file
            same = key in known and bool(np.isclose(known[key], float(loglike(theta)), rtol=1e-9))
            require(
                same, "checkpoint", str(path), "a file of the same run: its points or values differ from this run's"
            )
            unproved = False
        if key not in known:
            value = float(loglike(theta))
            if not value < np.inf:
                return value
            known[key] = value
            with path.open("a") as file:
                file.write(json.dumps([np.asarray(theta, dtype=float).tolist(), value]) + "\n")
        return known[key]

    return evaluate
