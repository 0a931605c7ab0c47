"""Liu, Hu, Chu, Choi (2025): a probe on the question decides how a language model answers it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.digit_sums import DigitSumLab

paper = Paper(
    slug="diffadapt",
    title="DiffAdapt: Difficulty-Adaptive Reasoning for Token-Efficient LLM Inference",
    published=date(2025, 10, 22),
    authors=4,
    arxiv="2510.19669",
    room="reasoning",
    methods=[
        "hartley.reasoning.adaptive_generation",
        "hartley.reasoning.difficulty",
        "hartley.reasoning.difficulty_probe",
    ],
    topics=["inference-time compute", "probes", "token budgets"],
    lab="hartley.labs.digit_sums:DigitSumLab",
    summary="A small classifier reads the difficulty of a question off a language model's hidden state, and with it "
    "chooses instruction, temperature and token budget before the model starts to answer.",
    usage="from hartley.reasoning import DiffAdapt, DifficultyProbe, label_difficulty, suggest_thresholds\n"
    "seen = DiffAdapt(model, tokenizer).observe(questions, is_right, rng)\n"
    "labels = label_difficulty(seen.accuracy, seen.entropy, suggest_thresholds(seen.accuracy, seen.entropy))\n"
    "probe = DifficultyProbe().fit(seen.states, labels)\n"
    "DiffAdapt(model, tokenizer, probe, max_tokens=512).generate(others, rng).texts",
)

_ACCURACY = "share of right answers"


@paper.claim(
    "Choosing by the probe takes at least 15% fewer tokens than always reasoning in full",
    published="22.4%, 9.7% and 10.1% fewer (three models, eight benchmarks)",
    metric="tokens of an answer",
    unit="tokens",
    better="lower",
    margin=0.0,
    axes=("tokens of an answer", _ACCURACY),
)
def saves_tokens(lab: DigitSumLab, seed: int) -> Trial:
    outcome = lab.outcome(seed)
    points = {name: (outcome.of("tokens", name), outcome.of("right", name)) for name in outcome.choices}
    points["at random"] = outcome.at_random("tokens", "network"), outcome.at_random("right", "network")
    return Trial(
        method=outcome.of("tokens", "network").tolist(),
        baselines={"85% of always normal": (0.85 * outcome.of("tokens", "always normal")).tolist()},
        curves={name: ([float(x.mean())], [float(y.mean())]) for name, (x, y) in points.items()},
        details={
            "truncated": float(outcome.of("truncated", "network").mean()),
            "tokens spent on labels": float(outcome.observed_tokens),
        },
    )


@paper.claim(
    "For that it is at most 2.5 points less accurate than always reasoning in full",
    published="comparable or better accuracy on all three models",
    metric=_ACCURACY,
    unit="",
    better="higher",
    margin=-0.025,
)
def keeps_accuracy(lab: DigitSumLab, seed: int) -> Trial:
    outcome = lab.outcome(seed)
    return Trial(
        method=outcome.of("right", "network").tolist(),
        baselines={"always normal": outcome.of("right", "always normal").tolist()},
        details={
            **{f"{name} questions": float((outcome.choices["network"] == k).mean()) for k, name in _NAMES},
            "accuracy of the oracle": float(outcome.of("right", "oracle").mean()),
            "tokens of the oracle": float(outcome.of("tokens", "oracle").mean()),
        },
    )


@paper.claim(
    "At equal tokens it is five points more accurate than the same strategies dealt out at random",
    published="not in the paper",
    metric=_ACCURACY,
    unit="",
    better="higher",
    margin=0.05,
)
def beats_chance(lab: DigitSumLab, seed: int) -> Trial:
    outcome = lab.outcome(seed)
    return Trial(
        method=outcome.of("right", "network").tolist(),
        baselines={"at random, as often each": outcome.at_random("right", "network").tolist()},
        details={
            "tokens": float(outcome.of("tokens", "network").mean()),
            "tokens at random": float(outcome.at_random("tokens", "network").mean()),
        },
    )


@paper.claim(
    "A network reads difficulty better than a linear probe: its answers are a point more accurate",
    published="average accuracy 70.9 with the network, 67.7 with a linear probe (Qwen3-4B)",
    metric=_ACCURACY,
    unit="",
    better="higher",
    margin=0.01,
)
def network_beats_linear(lab: DigitSumLab, seed: int) -> Trial:
    return _against(lab, seed, "linear")


@paper.claim(
    "The probe knows more than the length of the question: its answers are a point more accurate than those of a probe "
    "that sees the length alone",
    published="not in the paper",
    metric=_ACCURACY,
    unit="",
    better="higher",
    margin=0.01,
)
def more_than_length(lab: DigitSumLab, seed: int) -> Trial:
    """In this laboratory difficulty is the length: the control for what the probe can have learnt."""
    return _against(lab, seed, "length")


@paper.claim(
    "In a real model generation entropy is U-shaped: on sums of three levels SmolLM2's is lowest on the middle one",
    published="22 to 25% lower on questions of medium difficulty than on easy ones, and high again on hard ones",
    metric="generation entropy; the lower one of the easiest and the hardest level against the middle one",
    unit="nats",
    better="higher",
    margin=0.0,
    seeds=(3, 4),
    axes=("level", "generation entropy, nats"),
)
def u_shape(lab: DigitSumLab, seed: int) -> Trial:
    """A measurement: nothing in the method needs the shape to be so."""
    entropies, accuracies = lab.entropies(seed)
    return Trial(
        method=float(min(entropies[0], entropies[2])),
        baselines={"middle level": float(entropies[1])},
        curves={"entropy": ([1, 2, 3], entropies.tolist()), "accuracy": ([1, 2, 3], accuracies.tolist())},
    )


_NAMES = ((0, "easy"), (1, "normal"), (2, "hard"))


def _against(lab: DigitSumLab, seed: int, other: str) -> Trial:
    outcome = lab.outcome(seed)
    return Trial(
        method=outcome.of("right", "network").tolist(),
        baselines={f"{other} probe": outcome.of("right", other).tolist()},
        details={
            "tokens": float(outcome.of("tokens", "network").mean()),
            f"tokens, {other} probe": float(outcome.of("tokens", other).mean()),
        },
    )
