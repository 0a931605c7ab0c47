"""Giannone et al. (2025): entropic annealing and look-ahead for particle filters over reasoning steps."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.chains import ChainLab

paper = Paper(
    slug="entropic-particle-filtering",
    title="Mitigating Premature Exploitation in Particle-based Monte Carlo for Inference-Time Scaling",
    published=date(2025, 10, 7),
    authors=7,
    arxiv="2510.05825",
    repository="https://github.com/Red-Hat-AI-Innovation-Team/its_hub",
    room="reasoning",
    methods=["hartley.reasoning.particles", "hartley.reasoning.search", "hartley.reasoning.stepwise"],
    topics=["inference-time scaling", "particle filters", "process rewards"],
    lab="hartley.labs.chains:ChainLab",
    summary="A particle filter over reasoning steps that flattens its weights while they have collapsed and the answer "
    "is young, so that a scorer too sure of itself does not leave it with one line of thought.",
    usage="from hartley.reasoning import StepGenerator, TextScore, particle_filter\n"
    "step = StepGenerator(model, tokenizer)\n"
    "score = TextScore(reward, tokenizer)\n"
    "[found] = particle_filter(step, score, [step.start(prompt)], n_particles=8, max_steps=20, rng=rng)\n"
    "found.best.text, found.distinct_ancestors",
)

_PLAIN: dict[str, Any] = {"annealing": None, "resampling": "multinomial"}
_NUMBERS = (4, 8, 16)


@paper.claim(
    "With an overconfident scorer, 16 particles and equal tokens, entropic annealing finds the right answer more often "
    "than a particle filter, best-of-N and beam search do, by five points at least",
    published="up to 50% relative improvement in task reward on mathematics",
    metric="share of problems solved",
    unit="",
    better="higher",
    margin=0.05,
    headline=True,
    axes=("particles", "share of problems solved"),
)
def overconfident_scorer(lab: ChainLab, seed: int) -> Trial:
    from functools import partial

    import numpy as np

    searches: dict[str, Any] = {
        "entropic annealing": lab.success,
        "particle filter, multinomial": partial(lab.success, **_PLAIN),
        "particle filter, systematic": partial(lab.success, annealing=None),
        "best of N": lab.success_best_of,
        "beam": lab.success_beam,
    }
    solved = {name: [search(n, seed) for n in _NUMBERS] for name, search in searches.items()}
    curves = {name: (list(_NUMBERS), [float(np.mean(s)) for s in runs]) for name, runs in solved.items()}
    return Trial(
        method=solved["entropic annealing"][-1],
        baselines={name: runs[-1] for name, runs in solved.items() if name != "entropic annealing"},
        curves=curves,
    )


@paper.claim(
    "With a calibrated scorer annealing costs nothing: within two points of the same filter without it",
    published="gains are largest on hard problems and small budgets; no figure for calibrated scorers",
    metric="share of problems solved, 8 particles",
    unit="",
    better="higher",
    margin=-0.02,
)
def calibrated_scorer(lab: ChainLab, seed: int) -> Trial:
    calm = lab.calibrated()
    return Trial(calm.success(8, seed), {"particle filter, systematic": calm.success(8, seed, annealing=None)})


@paper.claim(
    "Without tuning, annealing is at most three points below the best of three fixed temperatures at 4, 8 and 16 "
    "particles together",
    published="not in the paper",
    metric="share of problems solved, mean over 4, 8 and 16 particles",
    unit="",
    better="higher",
    margin=-0.03,
    axes=("particles", "share of problems solved"),
)
def against_fixed_temperatures(lab: ChainLab, seed: int) -> Trial:
    import numpy as np

    settings: dict[str, Any] = {"entropic annealing": "ess", "tau = 2": 2.0, "tau = 4": 4.0, "tau = 8": 8.0}
    solved = {name: [np.mean(lab.success(n, seed, annealing=a)) for n in _NUMBERS] for name, a in settings.items()}
    return Trial(
        method=float(np.mean(solved["entropic annealing"])),
        baselines={name: float(np.mean(runs)) for name, runs in solved.items() if name != "entropic annealing"},
        curves={name: (list(_NUMBERS), [float(v) for v in runs]) for name, runs in solved.items()},
    )


@paper.claim(
    "Look-ahead pays for its tokens: with half the particles it beats annealing alone",
    published="look-ahead modulation adds to annealing; no comparison at equal tokens",
    metric="share of problems solved for the tokens of 16 particles",
    unit="",
    better="higher",
    margin=0.0,
)
def lookahead_at_equal_tokens(lab: ChainLab, seed: int) -> Trial:
    import numpy as np

    reused = lab.success(12, seed, lookahead=1.0, reuse_lookahead=True)  # 302 steps, of 320
    return Trial(
        lab.success(8, seed, lookahead=1.0),
        {"annealing, twice the particles": lab.success(16, seed)},
        details={"12 particles that take the step drawn ahead": float(np.mean(reused))},
    )


@paper.claim(
    "After three resamplings the descendants of at least two more of 16 first steps are alive than in the plain filter "
    "with the same systematic resampling",
    published="the plain filter collapses onto one ancestor after one to three steps",
    metric="first steps with descendants after three resamplings",
    unit="particles",
    better="higher",
    margin=2.0,
)
def ancestors_survive(lab: ChainLab, seed: int) -> Trial:
    import numpy as np

    from hartley.reasoning import particle_filter

    def survivors(annealing: str | None) -> list[float]:
        rng = np.random.default_rng(seed)
        start = [(0, 0, 0.0)] * (lab.problems // 4)
        settings: dict[str, Any] = {"n_particles": 16, "max_steps": lab.steps, "annealing": annealing, "rng": rng}
        moves = [r.ancestors for r in particle_filter(lab.extend, lab.score, start, **settings)]
        return [float(len(np.unique(m[0][m[1][m[2]]]))) for m in moves]

    return Trial(survivors("ess"), {"particle filter, systematic": survivors(None)})
