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
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import logit, softmax

from hartley.checks import require, require_between
from hartley.importance import Scheme, effective_sample_size, resample
from hartley.measures import normalized_entropy

Annealing = Literal["ess", "entropy", "base"]
State = TypeVar("State")
Extend = Callable[[Sequence[Any], np.random.Generator], Sequence[tuple[Any, bool]]]
"""States and randomness -> for each, the state one step further on and whether it is finished. Called in batches."""
Score = Callable[[Sequence[Any]], Any]
"""States -> their scores in [0, 1], for example the probability that the prefix is right."""

_CLIP = 1e-7


@dataclass(frozen=True)
class SearchResult(Generic[State]):
    """Answers of one search, and how it came to them.

    Attributes
    ----------
    states : the N final particles.
    scores : their last scores.
    chosen : index of the answer.
    ancestors : (T - 1, N), the slot of step t that slot i of step t + 1 continues.
    step_scores : (T, N), scores before each resampling; a finished particle keeps its last. NaN: never scored.
    ess : (T,), effective sample size of the weights, look-ahead included, before tempering.
    temperature : (T,), tau at each step; the last step is not resampled.
    n_extend, n_score : particles extended and scored, look-ahead included.
    """

    states: tuple[State, ...]
    scores: Float[NDArray[Any], "n"]
    chosen: int
    ancestors: Int[NDArray[Any], "moves n"]
    step_scores: Float[NDArray[Any], "steps n"]
    ess: Float[NDArray[Any], "steps"]
    temperature: Float[NDArray[Any], "steps"]
    n_extend: int
    n_score: int

    @property
    def best(self) -> State:
        """The answer."""
        return self.states[self.chosen]

    @property
    def lineage(self) -> Int[NDArray[Any], "steps n"]:
        """(T, N): the slot that final particle i passed through at each step."""
        rows = [np.arange(len(self.states))]
        for parents in self.ancestors[::-1]:
            rows.append(parents[rows[-1]])
        return np.stack(rows[::-1])

    @property
    def distinct_ancestors(self) -> Int[NDArray[Any], "steps"]:
        """How many particles of each step have descendants among the final ones; 1 early on is collapse."""
        return np.array([len(np.unique(row)) for row in self.lineage])


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

    def choose(weights: NDArray[Any], step: int) -> tuple[NDArray[Any], NDArray[Any]]:
        tau = np.full(len(weights), float(fixed))
        if isinstance(annealing, str):
            tau = annealing_temperature(
                weights, step, max_steps, annealing, ess_threshold=ess_threshold, early_phase=early_phase
            )
        return np.asarray(resample(weights / tau[:, None], scheme=resampling, generator=rng)), tau

    return _search(extend, score, start, n_particles, max_steps, choose, lookahead, select, rng, callback)


def beam_search(
    extend: Extend,
    score: Score,
    start: Sequence[State],
    *,
    width: int,
    branches: int,
    max_steps: int,
    rng: np.random.Generator,
    callback: Callable[[int, int], None] | None = None,
) -> list[SearchResult[State]]:
    """Step-level beam search: the `width` best of width x branches partial answers go on, `branches` times each."""
    require(width >= 1, "width", width, "at least 1")
    require(branches >= 1, "branches", branches, "at least 1")

    def choose(weights: NDArray[Any], step: int) -> tuple[NDArray[Any], NDArray[Any]]:
        best = np.argsort(-weights, axis=-1, kind="stable")[:, :width]
        return np.repeat(best, branches, axis=-1), np.zeros(len(weights))

    return _search(extend, score, start, width * branches, max_steps, choose, 0.0, "argmax", rng, callback)


def best_of_n(
    extend: Extend,
    score: Score,
    start: Sequence[State],
    *,
    n: int,
    max_steps: int,
    rng: np.random.Generator,
    callback: Callable[[int, int], None] | None = None,
) -> list[SearchResult[State]]:
    """n independent answers, scored when they are finished; the best one is chosen."""
    return _search(extend, score, start, n, max_steps, None, 0.0, "argmax", rng, callback)


def _search(
    extend: Extend,
    score: Score,
    start: Sequence[State],
    n: int,
    max_steps: int,
    choose: Callable[[NDArray[Any], int], tuple[NDArray[Any], NDArray[Any]]] | None,
    lookahead: float,
    select: str,
    rng: np.random.Generator,
    callback: Callable[[int, int], None] | None,
) -> list[SearchResult[State]]:
    """The loop that all searches share: `choose` maps log-weights (problems, n) to ancestors and temperatures."""
    require(n >= 1, "n_particles", n, "at least 1")
    require(max_steps >= 1, "max_steps", max_steps, "at least 1")
    require_between("lookahead", lookahead, 0, closed="left")
    require(select in ("argmax", "sample"), "select", select, '"argmax" or "sample"')
    problems = len(start)
    require(problems >= 1, "start", start, "at least one state")
    states = np.empty((problems, n), dtype=object)
    for p, state in enumerate(start):
        states[p] = _objects([state] * n)
    active = np.ones((problems, n), dtype=bool)
    scores = np.full((problems, n), np.nan)
    extended, scored = np.zeros(problems, int), np.zeros(problems, int)
    lengths = np.zeros(problems, int)
    history: list[NDArray[Any]] = []
    moves: list[NDArray[Any]] = []
    resampled: list[NDArray[Any]] = []
    temperatures: list[NDArray[Any]] = []

    def measure(where: NDArray[Any], candidates: Sequence[Any]) -> NDArray[Any]:
        np.add.at(scored, np.nonzero(where)[0], 1)
        return _checked_scores(score(candidates), len(candidates))

    for step in range(1, max_steps + 1):
        live = active.any(-1)
        if not live.any():
            break
        lengths[live] = step
        if callback is not None:
            callback(step, int(active.sum()))
        moved = active.copy()
        extended += moved.sum(-1)
        grown = _extended(extend, states[moved], rng)
        states[moved] = _objects([state for state, _ in grown])
        active[moved] = [not done and step < max_steps for _, done in grown]
        rated = moved if choose is not None else moved & ~active
        if rated.any():
            scores[rated] = measure(rated, list(states[rated]))
        history.append(scores.copy())
        weights = logit(np.clip(np.where(np.isnan(scores), 0.5, scores), _CLIP, 1 - _CLIP))
        ancestors, tau = np.tile(np.arange(n), (problems, 1)), np.ones(problems)
        going = active.any(-1)
        if choose is not None and going.any():
            if lookahead > 0:
                extended += active.sum(-1)
                ahead = scores.copy()
                ahead[active] = measure(active, [state for state, _ in _extended(extend, states[active], rng)])
                weights = weights + lookahead * logit(np.clip(ahead, _CLIP, 1 - _CLIP))
            ancestors[going], tau[going] = choose(weights[going], step)
        resampled.append(weights)
        moves.append(ancestors)
        temperatures.append(tau)
        states, active, scores = (np.take_along_axis(v, ancestors, -1) for v in (states, active, scores))

    sizes = effective_sample_size(torch.from_numpy(np.stack(resampled))).numpy()
    results = []
    for p in range(problems):
        t = int(lengths[p])
        weights = logit(np.clip(scores[p], _CLIP, 1 - _CLIP))
        chosen = int(np.argmax(weights)) if select == "argmax" else int(rng.choice(n, p=softmax(weights)))
        results.append(
            SearchResult(
                states=tuple(states[p]),
                scores=scores[p],
                chosen=chosen,
                ancestors=np.array([m[p] for m in moves[: t - 1]], dtype=np.int64).reshape(-1, n),
                step_scores=np.array([h[p] for h in history[:t]]),
                ess=sizes[:t, p],
                temperature=np.array([v[p] for v in temperatures[:t]]),
                n_extend=int(extended[p]),
                n_score=int(scored[p]),
            )
        )
    return results


def _extended(extend: Extend, states: NDArray[Any], rng: np.random.Generator) -> Sequence[tuple[Any, bool]]:
    result = extend(list(states), rng)
    require(len(result) == len(states), "extend", len(result), f"one (state, done) for each of {len(states)} states")
    return result


def _objects(items: list[Any]) -> NDArray[Any]:
    """An array whose elements are the items, even where those are sequences themselves."""
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def _checked_scores(values: Any, count: int) -> NDArray[Any]:
    scores = np.asarray(values, dtype=np.float64).reshape(-1)
    require(len(scores) == count, "score", len(scores), f"one score for each of {count} states")
    bad = ~((scores >= 0) & (scores <= 1))
    if bad.any():
        raise ValueError(f"score = {scores[bad][0]!r}: expected probabilities in [0, 1], and no NaN")
    return scores
