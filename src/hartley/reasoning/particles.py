"""Particle filters over partial answers: extend a step, score the prefix, resample, repeat.

    l_i = logit r_i          log-weight of a particle: the score r of its whole prefix, not a product over steps
    w   = softmax(l / tau)   resampling weights; tau = 1 is the plain particle filter

Entropic annealing raises tau while the weights have collapsed and the answer is young. With rho = ESS(w) / N and
s = t / T it applies where rho < `ess_threshold` and s < `early_phase`:

    "ess"       tau = max(1, (1 - s) / rho)
    "entropy"   tau = max(1, 1 / (h + (1 - h) s)),  h = entropy of w over log N
    "base"      tau = max(1, 2 - s)

A scorer that is too sure of itself early on then cannot leave the filter with one ancestor. Look-ahead modulation adds
`lookahead` times the logit of the score one step further on, drawn for this purpose and thrown away: twice the tokens.

Source: Giannone et al. (2025), arXiv 2510.05825, and its-hub 1.2 for annealing. Look-ahead is reconstructed from the
abstract: a one-step auxiliary filter, without the division by the look-ahead score in the next weight, since weights
start afresh at each step. Baseline: Puri et al. (2025), arXiv 2502.01618.

When not to use: the scorer is calibrated (annealing changes nothing), or mistakes can be repaired later (diversity is
then worth less than following the scores).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from hartley.checks import require, require_between
from hartley.importance import Scheme, effective_sample_size, resample
from hartley.measures import normalized_entropy
from hartley.reasoning.search import Extend, Score, SearchResult, State, search

Annealing = Literal["ess", "entropy", "base"]


def annealing_temperature(
    log_weights: Float[NDArray[Any], "*batch n"],
    step: int,
    max_steps: int,
    method: Annealing = "ess",
    *,
    ess_threshold: float = 0.5,
    early_phase: float = 0.5,
) -> Float[NDArray[Any], "*batch"]:
    """Temperature of the resampling weights after `step` of `max_steps` steps, counted from 1; never below 1.

    Parameters
    ----------
    log_weights : untempered, up to a constant.
    method : how the temperature follows from the weights, see the module.
    ess_threshold : anneal only where the effective share of particles is below it.
    early_phase : anneal only during this share of the steps.

    Raises
    ------
    ValueError : unknown method, a step outside 1..max_steps, or a threshold outside [0, 1].
    """
    require(method in ("ess", "entropy", "base"), "method", method, '"ess", "entropy" or "base"')
    require(1 <= step <= max_steps, "step", step, f"1 to max_steps = {max_steps}")
    require_between("ess_threshold", ess_threshold, 0, 1, closed="both")
    require_between("early_phase", early_phase, 0, 1, closed="both")
    n, progress = log_weights.shape[-1], step / max_steps
    ell = torch.from_numpy(np.ascontiguousarray(log_weights, dtype=np.float64))
    share = effective_sample_size(ell).numpy() / n
    if method == "ess":
        raw = (1 - progress) / share
    elif method == "entropy":
        h = normalized_entropy(ell).numpy() if n > 1 else np.ones(share.shape)
        raw = 1 / (h + (1 - h) * progress)
    else:
        raw = np.full(share.shape, 2 - progress)
    return np.where((share < ess_threshold) & (progress < early_phase), np.maximum(1.0, raw), 1.0)


def particle_filter(
    extend: Extend,
    score: Score,
    start: Sequence[State],
    *,
    n_particles: int,
    max_steps: int,
    annealing: Annealing | float | None = "ess",
    ess_threshold: float = 0.5,
    early_phase: float = 0.5,
    resampling: Scheme = "systematic",
    lookahead: float = 0.0,
    reuse_lookahead: bool = False,
    references: Sequence[SearchResult[State]] | None = None,
    select: Literal["argmax", "sample"] = "argmax",
    rng: np.random.Generator,
    callback: Callable[[int, int], None] | None = None,
) -> list[SearchResult[State]]:
    """Entropic particle filter; with `annealing=None, resampling="multinomial"` the plain one.

    Parameters
    ----------
    extend, score : see `Extend` and `Score`. States are shared, never copied: they have to be immutable.
    start : one initial state (prompt) a problem. The particles of all problems go through `extend` together.
    n_particles : for each problem.
    max_steps : about the number of steps that answers have; far above it, annealing never fades.
    annealing : see `annealing_temperature`; a number is a fixed temperature, the tuned competitor.
    lookahead : weight of the look-ahead score; 0 draws none. It doubles the tokens.
    reuse_lookahead : the first copy of each ancestor takes the step that was drawn ahead, which saves about half of
        them; selection and proposal are then no longer independent.
    references : earlier results, one a problem: their answers are kept, step by step, as the first particles, and
        weighed against the others at the same step. `particle_gibbs` iterates this.
    select : the answer is the particle of the highest score, or one drawn by weight.
    callback : told the step and the number of unfinished particles.

    Returns
    -------
    One result a problem. Once all its particles are finished no more resampling takes place.

    Raises
    ------
    ValueError : no particles or steps, a temperature that is not positive, unknown names, scores that are NaN or
        outside [0, 1], or not one a state.
    """
    fixed = annealing if isinstance(annealing, float | int) else 1.0
    require(fixed > 0, "annealing", annealing, "a positive temperature, a method or None")
    if isinstance(annealing, str):
        annealing_temperature(
            np.zeros(1), 1, 1, annealing, ess_threshold=ess_threshold, early_phase=early_phase
        )  # refuses bad settings before anything is generated

    held = int(references is not None)  # the reference does not count towards the effective sample size

    def choose(weights: NDArray[Any], step: int) -> tuple[NDArray[Any], NDArray[Any]]:
        tau = np.full(len(weights), float(fixed))
        if isinstance(annealing, str):
            tau = annealing_temperature(
                weights[:, held:], step, max_steps, annealing, ess_threshold=ess_threshold, early_phase=early_phase
            )
        return np.asarray(resample(weights / tau[:, None], scheme=resampling, generator=rng)), tau

    require(references is None or n_particles > 1, "n_particles", n_particles, "at least 2, one besides the reference")
    return search(
        extend,
        score,
        start,
        n_particles,
        max_steps,
        choose,
        lookahead,
        select,
        rng,
        callback,
        reuse=reuse_lookahead,
        references=references,
    )


def particle_gibbs(
    extend: Extend,
    score: Score,
    start: Sequence[State],
    *,
    iterations: int,
    resampling: Scheme = "multinomial",
    **settings: Any,
) -> list[tuple[SearchResult[State], ...]]:
    """Particle filters one after another, each around an answer drawn by weight from the one before.

    Without annealing and with multinomial resampling, one such sweep leaves the law proportional to

        p(z_1 .. z_T) prod_t r_t / (1 - r_t)

    unchanged however few the particles, so that iterating removes what a filter of this size gets wrong.

    Parameters
    ----------
    iterations : filters in a row.
    settings : of `particle_filter`; the number of particles counts the reference.

    Returns
    -------
    For each problem the results of all iterations, in order; the chosen particle of each was drawn by weight.

    When not to use: one answer under a budget, where as many more particles in one filter do more.
    """
    require(iterations >= 1, "iterations", iterations, "at least 1")
    sweeps: list[list[SearchResult[State]]] = []
    for _ in range(iterations):
        last = sweeps[-1] if sweeps else None
        settings |= {"resampling": resampling, "select": "sample", "references": last}
        sweeps.append(particle_filter(extend, score, start, **settings))
    return list(zip(*sweeps, strict=True))
