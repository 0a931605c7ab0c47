"""Conformal information pursuit: questions chosen by the size of prediction sets."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.queries import QuestionsLab

paper = Paper(
    slug="conformal-information-pursuit",
    title="Conformal Information Pursuit for Interactively Guiding Large Language Models",
    published=date(2025, 7, 4),
    authors=5,
    arxiv="2507.03279",
    repository="https://github.com/ryanchankh/ConformalInformationPursuit",
    room="querying",
    methods=["hartley.querying.information_pursuit"],
    topics=["question asking", "conformal prediction", "calibration"],
    lab="hartley.labs.queries:QuestionsLab",
    summary="Asks one question after another, each the one after which the conformal prediction set is expected to be "
    "smallest. Sets are calibrated for each number of answers, so that a predictor that is too sure of itself does not "
    "mislead the choice as its entropies would.",
    usage="from hartley.querying import InformationPursuit\n\n"
    "game = InformationPursuit(predict, queries=16, alpha=0.1).calibrate(answers, labels, rng)\n"
    "trace = game.run(answer=ask_the_user, estimation=answers, rng=rng)",
)


@paper.claim(
    "With a predictor that is too sure of itself (logits times 5), conformal sets choose better questions than entropy",
    published="20 questions, Llama-3.1-8B, free answers: accuracy .83 against .65 of entropy (table 1)",
    metric="accuracy averaged over 1 to 6 questions",
    unit="share",
    better="higher",
    margin=0.02,
    seeds=(6, 12),
    axes=("questions", "accuracy"),
)
def overconfident(lab: QuestionsLab, seed: int) -> Trial:
    """The predictor's guesses do not depend on the gain, its entropies do."""
    return _compare(lab, seed, 5.0, {"entropy": {"criterion": "entropy"}, "random": {"criterion": "random"}})


@paper.claim(
    "With that predictor, conformal sets also choose better questions than entropy after temperature scaling",
    published="at least as accurate as entropy with Platt scaling or temperatures of .5, .75 and 1.25, which were not "
    "fitted (figures)",
    metric="accuracy averaged over 1 to 6 questions",
    unit="share",
    better="higher",
    margin=0.0,
    seeds=(6, 12),
    axes=("questions", "accuracy"),
)
def against_temperature(lab: QuestionsLab, seed: int) -> Trial:
    """One temperature for each number of answers, fitted to the same calibration cases by likelihood."""
    return _compare(lab, seed, 5.0, {"entropy, fitted temperatures": {"criterion": "entropy", "tempered": True}})


@paper.claim(
    "With a predictor left as it was trained, conformal sets choose questions as good as entropy does",
    published="comparable to information pursuit where that works (MediQ, figures)",
    metric="accuracy averaged over 1 to 6 questions",
    unit="share",
    better="higher",
    margin=-0.02,
    seeds=(6, 12),
    axes=("questions", "accuracy"),
)
def as_trained(lab: QuestionsLab, seed: int) -> Trial:
    """What the conformal detour costs where probabilities are nearly right."""
    return _compare(lab, seed, 1.0, {"entropy": {"criterion": "entropy"}})


@paper.claim(
    "With a predictor that is too cautious (logits times 0.1), conformal sets choose better questions than entropy",
    published="",
    metric="accuracy averaged over 1 to 6 questions",
    unit="share",
    better="higher",
    margin=0.0,
    seeds=(6, 12),
    axes=("questions", "accuracy"),
)
def cautious(lab: QuestionsLab, seed: int) -> Trial:
    """The other miscalibration."""
    return _compare(lab, seed, 0.1, {"entropy": {"criterion": "entropy"}})


@paper.claim(
    "Sets keep their coverage of 90% on the histories that the method chooses, to within two points",
    published="guaranteed over random histories only; nominal coverage reported for 20 questions",
    metric="share of games in which the set holds the digit, over 1 to 6 answers",
    unit="share",
    better="higher",
    margin=-0.02,
    seeds=(6, 12),
    axes=("answers", "coverage"),
)
def coverage_along_play(lab: QuestionsLab, seed: int) -> Trial:
    """Chosen histories follow another law than those that the thresholds were calibrated on."""
    import numpy as np

    trace, _ = lab.play(seed, 5.0, "set_size")
    digits = lab.split(seed)["test"][1]
    held = trace.sets[np.arange(len(digits)), :, digits][:, 1:].astype(float)
    turns = list(range(1, lab.turns + 1))
    return Trial(
        method=list(held.mean(axis=1)),
        baselines={"nominal": [0.9] * len(held)},
        curves={"chosen histories": (turns, list(held.mean(axis=0))), "nominal": (turns, [0.9] * len(turns))},
        details={"mean set size": float(trace.sets[:, 1:].sum(axis=2).mean())},
    )


def _compare(lab: QuestionsLab, seed: int, gain: float, others: dict[str, dict[str, object]]) -> Trial:
    """Accuracy of each test digit, averaged over the turns, by criterion."""
    games: dict[str, dict[str, object]] = {"conformal": {"criterion": "set_size"}, **others}
    right = {name: lab.play(seed, gain, **settings)[1][:, 1:] for name, settings in games.items()}  # type: ignore[arg-type]
    turns = list(range(1, lab.turns + 1))
    return Trial(
        method=list(right["conformal"].mean(axis=1)),
        baselines={name: list(right[name].mean(axis=1)) for name in others},
        curves={name: (turns, list(table.mean(axis=0))) for name, table in right.items()},
    )
