"""SpecTr: several drafts, verified near-optimally, without changing the law of the text."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.speculative import SpeculativeLab

paper = Paper(
    slug="spectr",
    title="SpecTr: Fast Speculative Decoding via Optimal Transport",
    published=date(2023, 10, 23),
    authors=6,
    arxiv="2310.15141",
    room="speculative",
    methods=["hartley.speculative.kseq", "hartley.speculative.generate", "hartley.speculative.optimal"],
    topics=["speculative decoding", "optimal transport", "inference"],
    lab="hartley.labs.speculative:SpeculativeLab",
    summary="A small model drafts several continuations, the large one scores them in one call, and a near-optimal "
    "rule keeps as many tokens as it may without changing the law of the output.",
    usage="""from hartley.speculative import Speculative

decode = Speculative(draft_model, drafts=4, length=4)
model.generate(**inputs, do_sample=True, max_new_tokens=64, custom_generate=decode)""",
)


@paper.claim(
    "Eight independent drafts verified by K-SEQ give more tokens per target call than one draft, and than eight "
    "verified by recursive rejection",
    published="4.0 against 2.9 tokens a call with one draft; PaLM 2 Bison and Gecko, 8 drafts of 8 tokens",
    metric="block efficiency",
    unit="tokens/call",
    better="higher",
    margin=0.05,
    headline=True,
    axes=("drafts", "tokens per target call"),
)
def block_efficiency(lab: SpeculativeLab, seed: int) -> Trial:
    counts = (8,) if lab.quick else (2, 4, 8)
    single = lab.generate(seed, "single", 1, 8)[1].block_efficiency  # one draft is the same for every verifier
    found = {
        verifier: [single, *(lab.generate(seed, verifier, k, 8)[1].block_efficiency for k in counts)]
        for verifier in ("kseq", "rrs", "optimal")
    }
    return Trial(
        method=found["kseq"][-1],
        baselines={"one draft": single, "recursive rejection, 8 drafts": found["rrs"][-1]},
        curves={name: ([1, *counts], line) for name, line in found.items()},
        details={"optimal verifier, 8 drafts": found["optimal"][-1]},
    )


@paper.claim(
    "Text decoded with eight drafts fits the target's law as well as text sampled token by token",
    published="the output law is unchanged (theorem)",
    metric="distance of the mean surprisal under the target's law from its entropy",
    unit="nats/token",
    better="lower",
    margin=-0.05,
)
def lossless(lab: SpeculativeLab, seed: int) -> Trial:
    texts, statistics = lab.generate(seed, "kseq", 8, 4)
    return Trial(
        method=lab.excess_surprisal(seed, texts),
        baselines={"plain sampling": lab.excess_surprisal(seed, lab.plain_text(seed))},
        details={
            "draft model alone": lab.excess_surprisal(seed, lab.plain_text(seed, "draft")),
            "block efficiency": statistics.block_efficiency,
        },
    )


@paper.claim(
    "On rows of a real language model, K-SEQ accepts more of four independent drafts than recursive rejection does",
    published="near-optimal: at least 1 - 1/e of the optimum (theorem)",
    metric="probability of accepting a draft, temperature 1",
    unit="",
    better="higher",
    margin=0.005,
)
def accepts_more_than_recursive_rejection(lab: SpeculativeLab, seed: int) -> Trial:
    found = lab.acceptances(seed, 1.0, 4, "kseq", "rrs", "single", "optimal")
    ratios = [a / b for a, b in zip(found["kseq"], found["optimal"], strict=True) if b > 0]
    return Trial(
        method=found["kseq"],
        baselines={"recursive rejection": found["rrs"], "one draft": found["single"]},
        details={
            "optimum": sum(found["optimal"]) / len(found["optimal"]),
            "worst share of the optimum": min(ratios),
            "rows where recursive rejection accepts more": sum(
                a < b - 1e-12 for a, b in zip(found["kseq"], found["rrs"], strict=True)
            ),
        },
    )


@paper.claim(
    "K-SEQ gives away less than five points of acceptance against the best lossless verifier of four drafts",
    published="strictly below the optimum in some cases; at worst 68.4 % of it",
    metric="probability of accepting a draft, temperature 1",
    unit="",
    better="higher",
    margin=-0.05,
)
def close_to_the_optimum(lab: SpeculativeLab, seed: int) -> Trial:
    found = lab.acceptances(seed, 1.0, 4, "kseq", "optimal")
    return Trial(method=found["kseq"], baselines={"optimum": found["optimal"]})
