"""Searches over steps: exact laws on a small Markov chain, known numbers, and what must never change."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import chisquare

from hartley.importance import effective_sample_size
from hartley.reasoning import annealing_temperature, beam_search, best_of_n, particle_filter, particle_gibbs

STEP = {"": (0.6, 0.4), "a": (0.3, 0.7), "b": (0.8, 0.2)}  # law of the next letter, given the last
WEIGHT = {"a": 0.2, "b": 0.5, "aa": 0.6, "ab": 0.3, "ba": 0.1, "bb": 0.8}


def extend(states: Sequence[str], rng: np.random.Generator) -> list[tuple[str, bool]]:
    return [(s + str(rng.choice(["a", "b"], p=STEP[s[-1:]])), len(s) == 1) for s in states]


def score(states: Sequence[str]) -> list[float]:
    return [WEIGHT[s] for s in states]


def odds(text: str) -> float:
    return WEIGHT[text] / (1 - WEIGHT[text])


def law_of_two_particles(tau: float) -> dict[tuple[str, str], float]:
    """Exact law of both final states: every pair of first letters, every multinomial draw, every second letter."""
    law: dict[tuple[str, str], float] = {}
    for pair in itertools.product("ab", repeat=2):
        weights = np.array([odds(c) ** (1 / tau) for c in pair])
        weights /= weights.sum()
        for draw in itertools.product((0, 1), repeat=2):
            for ends in itertools.product((0, 1), repeat=2):
                parents = [pair[i] for i in draw]
                p = np.prod([STEP[""]["ab".index(c)] for c in pair]) * weights[list(draw)].prod()
                p *= np.prod([STEP[c][e] for c, e in zip(parents, ends, strict=True)])
                key = (parents[0] + "ab"[ends[0]], parents[1] + "ab"[ends[1]])
                law[key] = law.get(key, 0.0) + float(p)
    return law


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_final_particles_follow_the_enumerated_law(tau: float) -> None:
    """Chi-square over 16 cells, fixed seed; false alarms at 1e-4 if it were redrawn."""
    runs = 4000
    results = particle_filter(
        extend,
        score,
        [""] * runs,
        n_particles=2,
        max_steps=2,
        annealing=tau,
        resampling="multinomial",
        rng=np.random.default_rng(0),
    )
    law = law_of_two_particles(tau)
    counts = dict.fromkeys(law, 0)
    for r in results:
        counts[r.states] += 1  # type: ignore[index]
    assert sum(law.values()) == pytest.approx(1)
    assert chisquare(list(counts.values()), [runs * p for p in law.values()]).pvalue > 1e-4
    assert all(r.best == max(r.states, key=odds) for r in results)


def test_many_particles_estimate_the_weighted_law() -> None:
    """The share of a's after resampling is the self-normalised weight of a: exact as N grows."""
    [r] = particle_filter(
        extend, score, [""], n_particles=20_000, max_steps=2, annealing=None, rng=np.random.default_rng(1)
    )
    a, b = 0.6 * odds("a"), 0.4 * odds("b")
    # Standard deviation about 0.003; six of them.
    assert np.mean([s[0] == "a" for s in r.states]) == pytest.approx(a / (a + b), abs=0.02)


def test_known_temperatures() -> None:
    ell = logit(np.array([0.97, 0.6, 0.5, 0.2]))
    assert effective_sample_size(ell) == pytest.approx(1.173618, abs=1e-6)
    assert annealing_temperature(ell, 2, 10, "ess") == pytest.approx(2.726611, abs=1e-6)
    assert annealing_temperature(ell, 2, 10, "entropy") == pytest.approx(2.499748, abs=1e-6)
    assert annealing_temperature(ell, 2, 10, "base") == pytest.approx(1.8)
    assert effective_sample_size(ell / 2.726611) == pytest.approx(2.591273, abs=1e-5)
    other = logit(np.array([0.9, 0.6, 0.5, 0.2]))
    assert annealing_temperature(other, 2, 10, "ess") == pytest.approx(1.954187, abs=1e-6)
    assert annealing_temperature(other, 2, 10, "entropy") == pytest.approx(1.567950, abs=1e-6)


@given(
    ell=st.lists(st.floats(-16, 16), min_size=1, max_size=9),
    step=st.integers(1, 10),
    shift=st.floats(-50, 50),
    method=st.sampled_from(["ess", "entropy", "base"]),
)
@settings(max_examples=60, deadline=None)
def test_temperature_never_sharpens(ell: list[float], step: int, shift: float, method: Any) -> None:
    weights = np.array(ell)
    tau = annealing_temperature(weights, step, 10, method)
    assert tau >= 1
    assert annealing_temperature(weights + shift, step, 10, method) == pytest.approx(tau, rel=1e-6)
    assert effective_sample_size(weights / tau) >= effective_sample_size(weights) * (1 - 1e-9)
    if step >= 5 or len(ell) == 1:
        assert tau == 1


def test_equal_scores_and_late_steps_are_the_plain_filter() -> None:
    options = {"n_particles": 6, "max_steps": 2}
    for scorer, phase in ((lambda s: [0.5] * len(s), 0.5), (score, 0.0)):
        runs = [
            particle_filter(
                extend,
                scorer,
                ["", ""],
                annealing=a,
                early_phase=phase,
                rng=np.random.default_rng(3),
                **options,  # type: ignore[arg-type]
            )
            for a in ("ess", None)
        ]
        assert [r.states for r in runs[0]] == [r.states for r in runs[1]]
        assert all((r.temperature == 1).all() for r in runs[0])


def counting(lengths: dict[int, int]) -> Any:
    """Particles numbered at their first step; number k is finished after lengths[k] steps."""

    def grow(states: Sequence[tuple[int, int]], rng: np.random.Generator) -> list[tuple[tuple[int, int], bool]]:
        grown = [(i if steps == 0 else k, steps + 1) for i, (k, steps) in enumerate(states)]
        assert all(steps < lengths[k] for k, steps in states if steps), "a finished particle was extended"
        return [((k, steps), steps == lengths[k]) for k, steps in grown]

    return grow


def test_finished_particles_rest_and_calls_are_counted() -> None:
    lengths = {0: 1, 1: 2, 2: 4}
    seen: list[tuple[int, int]] = []
    [r] = particle_filter(
        counting(lengths),
        lambda states: [0.5] * len(states),
        [(0, 0)],
        n_particles=3,
        max_steps=9,
        rng=np.random.default_rng(0),
        callback=lambda step, active: seen.append((step, active)),
    )
    # Equal weights: systematic resampling keeps each particle once, so that 3 + 2 + 1 + 1 are extended.
    assert r.n_extend == 7 == sum(active for _, active in seen)
    assert r.n_score == 7
    assert [s for s, _ in seen] == [1, 2, 3, 4]
    assert r.ancestors.shape == (3, 3)
    assert r.step_scores.shape == (4, 3)
    assert (r.lineage == np.arange(3)).all()


def test_lookahead_doubles_the_calls_and_sees_ahead() -> None:
    """Both first letters score alike, the second letter gives them away: only look-ahead tells them apart."""

    def sure(states: Sequence[str], rng: np.random.Generator) -> list[tuple[str, bool]]:
        letters = rng.choice(["a", "b"], len(states))
        return [(s + (s[-1] if s else str(c)), len(s) == 2) for s, c in zip(states, letters, strict=True)]

    def late(states: Sequence[str]) -> list[float]:
        return [0.5 if len(s) == 1 else 0.999 if s[0] == "b" else 0.001 for s in states]

    options: dict[str, Any] = {"n_particles": 8, "max_steps": 3, "annealing": None}
    [plain] = particle_filter(sure, late, [""], rng=np.random.default_rng(0), **options)
    [seeing] = particle_filter(sure, late, [""], rng=np.random.default_rng(0), lookahead=1.0, **options)
    assert plain.n_extend == 24
    assert seeing.n_extend == 40  # three steps of 8, and a look ahead after the first two
    assert plain.ess[0] == pytest.approx(8)
    assert seeing.ess[0] < 8
    assert all(s[0] == "b" for s in seeing.states)


def test_one_particle_is_the_model_itself() -> None:
    results = particle_filter(extend, score, [""] * 2000, n_particles=1, max_steps=2, rng=np.random.default_rng(0))
    counts = [sum(r.best == text for r in results) for text in ("aa", "ab", "ba", "bb")]
    expected = [2000 * p for p in (0.18, 0.42, 0.32, 0.08)]
    assert chisquare(counts, expected).pvalue > 1e-4


def test_best_of_n_scores_whole_answers_only() -> None:
    [r] = best_of_n(extend, score, [""], n=16, max_steps=2, rng=np.random.default_rng(0))
    assert r.n_score == 16
    assert np.isnan(r.step_scores[0]).all()
    assert r.best == max(r.states, key=odds)


def test_beam_keeps_the_best_and_branches() -> None:
    [r] = beam_search(extend, score, [""], width=1, branches=4, max_steps=2, rng=np.random.default_rng(0))
    assert len(set(r.ancestors[0])) == 1
    assert r.step_scores[0][r.ancestors[0][0]] == r.step_scores[0].max()
    assert len({s[0] for s in r.states}) == 1


def test_scores_of_zero_and_one_are_finite() -> None:
    [r] = particle_filter(
        extend,
        lambda states: [float(s[0] == "a") for s in states],
        [""],
        n_particles=8,
        max_steps=2,
        rng=np.random.default_rng(0),
    )
    assert np.isfinite(r.temperature).all()
    assert r.best[0] == "a"


def test_sampled_answers_follow_the_weights() -> None:
    results = particle_filter(
        lambda states, rng: [(c, True) for c in ("ab" * len(states))[: len(states)]],
        score,
        [""] * 2000,
        n_particles=2,
        max_steps=3,
        select="sample",
        rng=np.random.default_rng(0),
    )
    share = odds("a") / (odds("a") + odds("b"))
    # Binomial standard deviation 0.009; five of them.
    assert np.mean([r.best == "a" for r in results]) == pytest.approx(share, abs=0.045)


@pytest.mark.parametrize("bad", [float("nan"), -0.1, 1.5])
def test_bad_scores_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"score = .*expected probabilities in \[0, 1\], and no NaN"):
        particle_filter(
            extend, lambda s: [bad] * len(s), [""], n_particles=2, max_steps=2, rng=np.random.default_rng(0)
        )


@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_refused() -> None:
    def run(**change: Any) -> None:
        options = {"n_particles": 2, "max_steps": 2, "rng": np.random.default_rng(0)} | change
        particle_filter(extend, score, [""], **options)

    for change, message in (
        ({"n_particles": 0}, "n_particles = 0: expected at least 1"),
        ({"max_steps": 0}, "max_steps = 0: expected at least 1"),
        ({"annealing": "warm"}, "method = 'warm'"),
        ({"annealing": -1.0}, "annealing = -1.0: expected a positive temperature"),
        ({"ess_threshold": 2.0}, "ess_threshold = 2.0"),
        ({"lookahead": -1.0}, "lookahead = -1.0"),
        ({"select": "last"}, "select = 'last'"),
        ({"resampling": "lottery"}, "scheme = 'lottery'"),
    ):
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            run(**change)
    with pytest.raises(ValueError, match="at least one state"):
        particle_filter(extend, score, [], n_particles=2, max_steps=2, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="one score for each of 2 states"):
        particle_filter(extend, lambda s: [0.5], [""], n_particles=2, max_steps=2, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"one \(state, done\) for each of 2 states"):
        particle_filter(lambda s, rng: [], score, [""], n_particles=2, max_steps=2, rng=np.random.default_rng(0))


def test_genealogy_is_drawn() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("svg")
    from hartley.labs.chains import ChainLab, draw_genealogy

    lab = ChainLab(steps=5)
    [r] = particle_filter(
        lab.extend, lab.score, [(0, 0, 0.0)], n_particles=4, max_steps=5, rng=np.random.default_rng(0)
    )
    axes = draw_genealogy(r)
    assert len(axes.lines) == 4 * 4 + 1  # a line a move, and the answer


def exact_law() -> dict[str, float]:
    """Law proportional to the chance of both letters and the odds of both scores."""
    law = {
        a + b: STEP[""]["ab".index(a)] * odds(a) * STEP[a]["ab".index(b)] * odds(a + b)
        for a, b in itertools.product("ab", repeat=2)
    }
    total = sum(law.values())
    return {path: weight / total for path, weight in law.items()}


def test_particle_gibbs_converges_where_small_filters_do_not() -> None:
    """400 chains of 12 sweeps with four particles each; false alarms at 1e-4 if it were redrawn."""
    runs, exact = 400, exact_law()
    sweeps = particle_gibbs(
        extend,
        score,
        [""] * runs,
        n_particles=4,
        max_steps=2,
        iterations=12,
        annealing=None,
        rng=np.random.default_rng(0),
    )

    def p_value(sweep: int) -> float:
        found = [results[sweep].best for results in sweeps]
        return float(chisquare([found.count(k) for k in exact], [runs * p for p in exact.values()]).pvalue)

    assert p_value(-1) > 1e-4
    assert p_value(0) < 1e-4  # one filter of four particles is biased
    for first, second in itertools.pairwise(sweeps[0]):
        path, _ = first.trajectory(first.chosen)
        assert [str(row[0]) for row in second.step_states] == path  # the reference is slot 0 throughout
        assert (second.ancestors[:, 0] == 0).all()
        assert second.n_extend == 6  # three free particles, two steps


def test_trajectories_are_prefixes() -> None:
    rng = np.random.default_rng(0)
    [r] = particle_filter(extend, score, [""], n_particles=8, max_steps=2, rng=rng)
    for i, final in enumerate(r.states):
        path, scores = r.trajectory(i)
        assert path == [final[:1], final]
        assert scores.tolist() == [WEIGHT[s] for s in path]
    assert r.lengths.tolist() == [2] * 8


def test_reused_lookahead_saves_steps_and_keeps_what_was_drawn() -> None:
    """Every look-ahead step of an ancestor's first copy is its next step; only further copies are drawn anew."""
    drawn: list[list[str]] = []

    def watched(states: Sequence[str], rng: np.random.Generator) -> list[tuple[str, bool]]:
        out = [(s + str(rng.integers(10)), len(s) == 3) for s in states]
        drawn.append([s for s, _ in out])
        return out

    def flat(states: Sequence[str]) -> list[float]:
        return [0.5 + 0.04 * int(s[-1]) for s in states]

    options: dict[str, Any] = {"n_particles": 6, "max_steps": 4, "lookahead": 1.0}
    [r] = particle_filter(watched, flat, [""], reuse_lookahead=True, rng=np.random.default_rng(0), **options)
    ahead = drawn[1]  # drawn[0] are the first steps
    for i, parent in enumerate(r.ancestors[0]):
        first = list(r.ancestors[0]).index(parent) == i
        assert (r.step_states[1][i] == ahead[parent]) == first or not first
        if first:
            assert r.step_states[1][i] == ahead[parent]
    assert r.step_scores[1].tolist() == flat(list(r.step_states[1]))
    [full] = particle_filter(watched, flat, [""], rng=np.random.default_rng(0), **options)
    assert full.n_extend == 6 * 7  # four steps and three looks ahead
    assert 6 * 4 <= r.n_extend < full.n_extend
    assert r.n_extend == sum(map(len, drawn[: len(drawn) - 7]))


def test_references_are_checked() -> None:
    rng = np.random.default_rng(0)
    results = particle_filter(extend, score, [""], n_particles=2, max_steps=2, rng=rng)
    with pytest.raises(ValueError, match="n_particles = 1: expected at least 2"):
        particle_filter(extend, score, [""], n_particles=1, max_steps=2, references=results, rng=rng)
    with pytest.raises(ValueError, match="references = 1: expected one a problem, 2"):
        particle_filter(extend, score, ["", ""], n_particles=2, max_steps=2, references=results, rng=rng)
    with pytest.raises(ValueError, match="iterations = 0"):
        particle_gibbs(extend, score, [""], iterations=0, n_particles=2, max_steps=2, rng=rng)
