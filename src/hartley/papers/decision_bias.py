"""Binary decision biases of language models, one-shot and in a batch."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.decisions import DecisionLab

paper = Paper(
    slug="decision-bias",
    title="Evaluating Binary Decision Biases in Large Language Models: Implications for Fair Agent-Based Financial "
    "Simulations",
    published=date(2025, 1, 20),
    room="auditing",
    methods=["hartley.auditing.decisions"],
    summary="Asks of a model that takes the same binary decision many times whether it takes either side half the "
    "time, whether its decisions depend on each other, and whether they alternate like a human's.",
    usage="from hartley.auditing import series_report\n\nprint(series_report(decisions))",
    topics=["bias", "randomness", "agents"],
    authors=2,
    arxiv="2501.16356",
    lab="hartley.labs.decisions:DecisionLab",
)


@paper.claim(
    "Asked once for a random choice between two options, the model is off one half by more than 0.05 on average",
    published="GPT-4o-mini says yes 32 to 43% of the time, GPT-4-0125-preview 98 to 99%",
    metric="distance of the exact P(first option) from 1/2, order-balanced",
    unit="probability",
    better="higher",
    margin=0.05,
    deterministic=True,
)
def one_shot_bias(lab: DecisionLab, seed: int) -> Trial:
    """Exact probabilities of six questions in both orders."""
    import numpy as np
    from scipy.special import expit

    rows = np.array(lab.one_shot())
    away = np.abs(expit(rows[:, :2]) - 0.5).mean(1)
    return Trial(
        method=list(away),
        baselines={"a fair coin": [0.0] * len(away)},
        details={"least mass on the options": float(rows[:, 2].min())},
    )


@paper.claim(
    "What looks like a preference for an option is mostly a preference for its place in the question",
    published="",
    metric="absolute log-odds owed to the order of the options, over six questions",
    unit="nats",
    better="higher",
    margin=0.0,
    deterministic=True,
)
def position_over_preference(lab: DecisionLab, seed: int) -> Trial:
    """The order-balanced split of the log-odds."""
    from hartley.auditing import order_balanced_bias

    split = [order_balanced_bias(first, second) for first, second, _ in lab.one_shot()]
    return Trial(
        method=[abs(s.position) for s in split],
        baselines={"owed to the option itself": [abs(s.preference) for s in split]},
        details={"mean position": sum(s.position for s in split) / len(split)},
    )


@paper.claim(
    "Coin flips written in one answer depend on each other more than any but one in a hundred fair series would",
    published="Few-shot series are often not Markovian; their recency bias differs from humans'",
    metric="distance of the alternation rate from 2 p (1 - p), p the share of heads",
    unit="share",
    better="higher",
    margin=0.0,
    seeds=(3, 6),
)
def dependent_flips(lab: DecisionLab, seed: int) -> Trial:
    """Against the 99% quantile of fair series of the same shape."""
    import numpy as np

    from hartley.auditing import series_report

    flips = lab.flips(seed)
    calls = np.repeat(np.arange(len(flips)), flips.shape[1])
    report = series_report(flips.ravel(), calls)
    rng = np.random.default_rng(seed)
    fair = []
    for _ in range(400 if lab.quick else 2000):
        iid = rng.integers(0, 2, flips.shape)
        fair.append(abs((iid[:, 1:] != iid[:, :-1]).mean() - 2 * iid.mean() * (1 - iid.mean())))
    expected = 2 * report.share * (1 - report.share)
    return Trial(
        method=abs(report.alternation_rate - expected),
        baselines={"99% of fair series": float(np.quantile(fair, 0.99))},
        details={
            "share of heads": report.share,
            "alternation": report.alternation_rate,
            "2 p (1 - p)": expected,
            "expected given each call's counts": report.alternation_expected,
        },
    )


@paper.claim(
    "Of series of 200 decisions that change sides as often as people's do, 60% of the time, the alternation test "
    "exposes at least 70% at the 5% level; the share of ones exposes hardly more of them than of fair coins",
    published="Few-shot series are compared with the recency bias of humans; no power is given",
    metric="share of human-like series that are called too alternating",
    unit="share",
    better="higher",
    margin=0.0,
)
def human_recency(lab: DecisionLab, seed: int) -> Trial:
    """Fair coins, human-like and sticky chains of the same length; the direction must be right."""
    import numpy as np

    from hartley.auditing import series_report
    from hartley.labs.decisions import chain

    rng, count = np.random.default_rng(seed), 200 if lab.quick else 1000

    def reports(alternation: float) -> tuple[float, float, float]:
        """Shares called too alternating, too sticky, and unfair by their share of ones."""
        found = [series_report(x) for x in chain(alternation, count, 200, rng)]
        odd = [(r.alternation.pvalue <= 0.05, r.alternation_rate > r.alternation_expected) for r in found]
        return (
            float(np.mean([rejected and often for rejected, often in odd])),
            float(np.mean([rejected and not often for rejected, often in odd])),
            float(np.mean([r.uniformity.pvalue <= 0.05 for r in found])),
        )

    human, fair, sticky = reports(0.6), reports(0.5), reports(0.4)
    return Trial(
        method=human[0],
        baselines={"the share of ones": human[2], "fair coins": fair[0] + fair[1], "seven in ten": 0.7},
        details={"sticky chains called sticky": sticky[1], "sticky chains called alternating": sticky[0]},
    )
