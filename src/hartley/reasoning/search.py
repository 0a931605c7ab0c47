"""The loop that step-level searches share, and the two without particles: beam search and best-of-N."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import logit, softmax

from hartley.checks import require, require_between
from hartley.importance import effective_sample_size

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
    lengths : steps that each final particle took.
    step_states : (T, N), states before each resampling; a finished particle keeps its last.
    ess : (T,), effective sample size of the weights, look-ahead included, before tempering.
    temperature : (T,), tau at each step; the last step is not resampled.
    n_extend, n_score : particles extended and scored, look-ahead included.
    """

    states: tuple[State, ...]
    scores: Float[NDArray[Any], "n"]
    chosen: int
    ancestors: Int[NDArray[Any], "moves n"]
    step_scores: Float[NDArray[Any], "steps n"]
    lengths: Int[NDArray[Any], "n"]
    step_states: NDArray[Any]
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

    def trajectory(self, particle: int) -> tuple[list[State], Float[NDArray[Any], "path"]]:
        """States and scores that a final particle went through."""
        slots = self.lineage[: self.lengths[particle], particle]
        steps = np.arange(len(slots))
        return list(self.step_states[steps, slots]), self.step_scores[steps, slots]

    @property
    def distinct_ancestors(self) -> Int[NDArray[Any], "steps"]:
        """How many particles of each step have descendants among the final ones; 1 early on is collapse."""
        return np.array([len(np.unique(row)) for row in self.lineage])


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

    return search(extend, score, start, width * branches, max_steps, choose, 0.0, "argmax", rng, callback)


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
    return search(extend, score, start, n, max_steps, None, 0.0, "argmax", rng, callback)


def search(
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
    *,
    reuse: bool = False,
    references: Sequence[SearchResult[State]] | None = None,
) -> list[SearchResult[State]]:
    """The loop that all searches share: `choose` maps log-weights (problems, n) to ancestors and temperatures.

    With `reuse` the first copy of each ancestor takes its look-ahead step. The chosen trajectory of each of the
    `references` is kept as the first particle.
    """
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
    taken = np.zeros((problems, n), int)
    ready = np.full((problems, n), None, dtype=object)  # next steps that look-ahead drew: state, done, score
    kept = [] if references is None else [r.trajectory(r.chosen) for r in references]
    require(references is None or len(kept) == problems, "references", len(kept), f"one a problem, {problems}")
    paths: list[NDArray[Any]] = []
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
        taken += active
        moved = active & (ready == None)  # noqa: E711  elementwise
        for p, (path, ratings) in enumerate(kept):
            if active[p, 0]:
                ready[p, 0] = path[step - 1], step == len(path), ratings[step - 1]
                moved[p, 0] = False
        for at in zip(*np.nonzero(active & ~moved), strict=True):
            states[at], done, scores[at] = ready[at]
            active[at] = not done and step < max_steps
        extended += moved.sum(-1)
        if moved.any():
            grown = _extended(extend, states[moved], rng)
            states[moved] = _objects([state for state, _ in grown])
            active[moved] = [not done and step < max_steps for _, done in grown]
        rated = moved if choose is not None else moved & ~active
        if rated.any():
            scores[rated] = measure(rated, list(states[rated]))
        history.append(scores.copy())
        paths.append(states.copy())
        ready[:] = None
        weights = logit(np.clip(np.where(np.isnan(scores), 0.5, scores), _CLIP, 1 - _CLIP))
        ancestors, tau = np.tile(np.arange(n), (problems, 1)), np.ones(problems)
        going = active.any(-1)
        if choose is not None and going.any():
            if lookahead > 0:
                extended += active.sum(-1)
                ahead = scores.copy()
                drawn = _extended(extend, states[active], rng)
                ahead[active] = measure(active, [state for state, _ in drawn])
                weights = weights + lookahead * logit(np.clip(ahead, _CLIP, 1 - _CLIP))
            ancestors[going], tau[going] = choose(weights[going], step)
            if kept:
                ancestors[:, 0] = 0
            if lookahead > 0 and reuse:
                ready[active] = _objects([(*pair, r) for pair, r in zip(drawn, ahead[active], strict=True)])
                ready = np.take_along_axis(ready, ancestors, -1)
                ready[_repeated(ancestors)] = None
        resampled.append(weights)
        moves.append(ancestors)
        temperatures.append(tau)
        states, active, scores, taken = (np.take_along_axis(v, ancestors, -1) for v in (states, active, scores, taken))

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
                lengths=taken[p],
                step_states=np.stack([path[p] for path in paths[:t]]),
                ess=sizes[:t, p],
                temperature=np.array([v[p] for v in temperatures[:t]]),
                n_extend=int(extended[p]),
                n_score=int(scored[p]),
            )
        )
    return results


def _repeated(ancestors: Int[NDArray[Any], "problems n"]) -> NDArray[Any]:
    """Which slots have the same ancestor as an earlier one."""
    same = ancestors[:, :, None] == ancestors[:, None, :]
    repeated: NDArray[Any] = np.tril(same, -1).any(-1)
    return repeated


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
