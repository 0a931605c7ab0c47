"""How far verifiers are from the best possible one, which draft law to choose, and verifiers that reach the bound."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.speculative import SpeculativeLab

paper = Paper(
    slug="optimal-multidraft",
    title="Towards Optimal Multi-draft Speculative Decoding",
    published=date(2025, 2, 26),
    authors=8,
    arxiv="2502.18779",
    room="speculative",
    methods=["hartley.speculative.optimum", "hartley.speculative.greedy", "hartley.speculative.optimal"],
    topics=["speculative decoding", "optimal transport", "inference"],
    lab="hartley.labs.speculative:SpeculativeLab",
    summary="The highest acceptance that any lossless verifier can reach, computed at real vocabulary sizes for each "
    "way of drawing drafts, and a verifier that reaches it for greedy drafts; here also one for independent drafts.",
    usage="""from hartley.speculative import acceptance, optimal_acceptance

optimal_acceptance(p, q, n=4, law="without"), acceptance(p, q, 4, "kseq")   # rows of probabilities""",
)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


@paper.claim(
    "The optimum of drafts without replacement is higher than with replacement",
    published="without replacement above with replacement at each temperature up to 1 and each number of drafts",
    metric="optimal acceptance, over temperatures 0.6 and 1",
    unit="",
    better="higher",
    margin=0.01,
)
def without_replacement_is_better(lab: SpeculativeLab, seed: int) -> Trial:
    names = ("single", "rrs", "kseq", "optimum with", "rrsw", "optimum without", "greedy")
    method: list[float] = []
    baseline: list[float] = []
    details: dict[str, float] = {}
    for n in (2,) if lab.quick else (2, 4):
        for temperature in (0.6, 1.0):
            found = lab.acceptances(seed, temperature, n, *names)
            method += found["optimum without"]
            baseline += found["optimum with"]
            details |= {f"T={temperature} n={n} {name}": _mean(values) for name, values in found.items()}
    return Trial(method=method, baselines={"with replacement": baseline}, details=details)


@paper.claim(
    "Without replacement, recursive rejection stays at least one point below the optimum, four drafts at temperature 1",
    published="75.7 against 76.5 %; LLaMA 68M and 7B (secondary summary)",
    metric="probability of accepting a draft",
    unit="",
    better="higher",
    margin=0.01,
)
def recursive_rejection_leaves_a_gap(lab: SpeculativeLab, seed: int) -> Trial:
    found = lab.acceptances(seed, 1.0, 4, "optimum without", "rrsw")
    return Trial(method=found["optimum without"], baselines={"recursive rejection": found["rrsw"]})


@paper.claim(
    "Greedy drafts with their verifier accept more than recursive rejection without replacement, two drafts at "
    "temperature 0.6",
    published="72.6 against 70.9 %; EAGLE 0.24B and Vicuna 7B (secondary summary)",
    metric="probability of accepting a draft",
    unit="",
    better="higher",
    margin=0.005,
)
def greedy_wins_at_low_temperature(lab: SpeculativeLab, seed: int) -> Trial:
    found = lab.acceptances(seed, 0.6, 2, "greedy", "rrsw", "kseq", "optimal")
    return Trial(
        method=found["greedy"],
        baselines={"recursive rejection without replacement": found["rrsw"], "K-SEQ": found["kseq"]},
        details={"optimum with replacement": _mean(found["optimal"])},
    )


@paper.claim(
    "At temperature 1 with four drafts, greedy drafts accept less than recursive rejection without replacement",
    published="greedy loses at high temperature (qualitative, up to temperature 1)",
    metric="probability of accepting a draft",
    unit="",
    better="higher",
    margin=0.005,
)
def greedy_loses_at_high_temperature(lab: SpeculativeLab, seed: int) -> Trial:
    found = lab.acceptances(seed, 1.0, 4, "greedy", "rrsw")
    return Trial(method=found["rrsw"], baselines={"greedy drafts": found["greedy"]})


@paper.claim(
    "Beyond the paper: a verifier that attains the optimum of independent drafts accepts at least two points more than "
    "K-SEQ, measured on the same four drafts",
    published="no verifier reaches the optimum with replacement: 85.4 against 86.9 % (secondary summary)",
    metric="accepted share of drawn drafts, temperature 1",
    unit="",
    better="higher",
    margin=0.02,
)
def optimal_verifier(lab: SpeculativeLab, seed: int) -> Trial:
    from hartley.speculative import kseq, optimal, recursive_rejection

    found = lab.sampled_acceptance(
        seed, 1.0, 4, {"optimal": optimal, "K-SEQ": kseq, "recursive rejection": recursive_rejection}
    )
    method = found.pop("optimal")
    exact = lab.acceptances(seed, 1.0, 4, "optimal")["optimal"]
    return Trial(method=method, baselines=found, details={"optimum": _mean(exact), "attained": _mean(method)})


@paper.claim(
    "Beyond the paper: in whole blocks of four drafts of four tokens, the optimal verifier gives more tokens per "
    "target call than K-SEQ and recursive rejection",
    published="",
    metric="block efficiency",
    unit="tokens/call",
    better="higher",
    margin=0.05,
)
def optimal_blocks(lab: SpeculativeLab, seed: int) -> Trial:
    found = {name: lab.generate(seed, name, 4, 4)[1].block_efficiency for name in ("optimal", "kseq", "rrs", "rrsw")}
    return Trial(
        method=found["optimal"],
        baselines={"K-SEQ": found["kseq"], "recursive rejection": found["rrs"]},
        details={"recursive rejection without replacement, first level only": found["rrsw"]},
    )
