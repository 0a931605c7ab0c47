"""Gozeten et al. (2025): continuous chains of thought that carry several traces at once."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.signed_sums import SignedSumLab, Trained

paper = Paper(
    slug="cot2",
    title="Continuous Chain of Thought Enables Parallel Exploration and Reasoning",
    published=date(2025, 5, 29),
    authors=6,
    arxiv="2505.23648",
    repository="https://github.com/alperengozeten/CoT2",
    room="reasoning",
    methods=["hartley.reasoning.continuous", "hartley.reasoning.continuous_policy"],
    topics=["chain of thought", "continuous tokens"],
    lab="hartley.labs.signed_sums:SignedSumLab",
    summary="Instead of a token the model feeds back a mixture of token embeddings, so that one chain holds many "
    "partial solutions; trained on the law of several target traces.",
    usage="from hartley.reasoning import continuous_generate, csft_loss\n"
    "csft_loss(model, prompts, targets, answers).backward()\n"
    "continuous_generate(model, prompts, steps=4).answer_logits.argmax(-1)",
)

_METRIC = "share of unseen prompts answered rightly"


@paper.claim(
    "Trained for the same steps, one continuous chain answers three points more prompts rightly than a greedy discrete "
    "chain and than no chain",
    published="about 0.95 to 0.98, 0.70 to 0.75 and 0.15, at widths 24 and 32",
    metric=_METRIC,
    unit="",
    better="higher",
    margin=0.03,
    seeds=(3, 4),
)
def beats_discrete_chain(lab: SignedSumLab, seed: int) -> Trial:
    return Trial(
        lab.trained("soft", seed).right("soft"),
        {
            "discrete chain": lab.trained("discrete", seed).right("discrete"),
            "no chain": lab.trained("none", seed).right("soft"),
        },
    )


@paper.claim(
    "One continuous chain is as good as the best of 16 sampled discrete ones: at most three points below",
    published="about 0.95 and 0.93 at width 24",
    metric=_METRIC,
    unit="",
    better="higher",
    margin=-0.03,
    seeds=(3, 4),
    axes=("chains", "share of prompts with a right answer among them"),
)
def one_for_sixteen(lab: SignedSumLab, seed: int) -> Trial:
    discrete, soft = lab.trained("discrete", seed), lab.trained("soft", seed).right("soft")
    right = discrete.sampled(16, seed) == discrete.answers
    counts = [1, 2, 4, 8, 16]
    passed = [float(right[:k].any(0).float().mean()) for k in counts]
    return Trial(
        soft,
        {"best of 16 discrete chains": right.any(0).float().tolist()},
        curves={
            "discrete, sampled": (counts, passed),
            "continuous, one chain": (counts, [sum(soft) / len(soft)] * len(counts)),
        },
    )


@paper.claim(
    "Six tokens a step averaged in one chain answer as many prompts as a vote of six discrete chains: at most three "
    "points fewer",
    published="one chain of K-token mixtures estimates as well as K chains (theorem, for linear Markov models)",
    metric=_METRIC,
    unit="",
    better="higher",
    margin=-0.03,
    seeds=(3, 4),
    axes=("tokens a step, or chains", _METRIC),
)
def tokens_for_chains(lab: SignedSumLab, seed: int) -> Trial:
    import torch

    soft, discrete = lab.trained("soft", seed), lab.trained("discrete", seed)
    counts = [1, 3, 6, 16]
    right = {k: soft.right("mts", k=k, generator=torch.Generator().manual_seed(seed)) for k in counts}
    chains = discrete.sampled(max(counts), seed)
    votes = {k: (chains[:k].mode(0).values == discrete.answers).float().tolist() for k in counts}
    return Trial(
        right[6],
        {"vote of six chains": votes[6]},
        curves={
            "averaged tokens": (counts, [sum(v) / len(v) for v in right.values()]),
            "vote of chains": (counts, [sum(v) / len(v) for v in votes.values()]),
        },
    )


@paper.claim(
    "A narrow model learns more from the eight most wanted traces than from all sixteen",
    published="a budget of 8 is best at width 16, of 16 at width 32",
    metric=_METRIC,
    unit="",
    better="higher",
    margin=0.0,
    seeds=(3, 4),
)
def fewer_traces_for_narrow_models(lab: SignedSumLab, seed: int) -> Trial:
    return Trial(
        lab.trained("soft8", seed).right("soft"), {"all sixteen traces": lab.trained("soft", seed).right("soft")}
    )


@paper.claim(
    "Policy gradients on averaged tokens raise the accuracy of chains that are decoded as they were trained, three "
    "tokens averaged a step, by three points",
    published="GRPO with multi-token or Dirichlet sampling improves on supervised fine-tuning (curves)",
    metric=_METRIC,
    unit="",
    better="higher",
    margin=0.03,
    seeds=(2, 3),
    axes=("policy steps", "mean reward"),
)
def rewards_improve_sampled_chains(lab: SignedSumLab, seed: int) -> Trial:
    import torch

    before, after, rewards = lab.rewarded("mts", seed, k=3)

    def right(trained: Trained) -> list[float]:
        return trained.right("mts", k=3, generator=torch.Generator().manual_seed(seed))

    smooth = [sum(rewards[max(0, i - 7) : i + 1]) / len(rewards[max(0, i - 7) : i + 1]) for i in range(len(rewards))]
    return Trial(
        right(after),
        {"before": right(before)},
        curves={"mean of eight steps": (list(range(1, len(rewards) + 1)), smooth)},
    )


@paper.claim(
    "They raise the accuracy of the continuous chain, which averages nothing, by one point as well",
    published="GRPO with multi-token or Dirichlet sampling improves on supervised fine-tuning (curves)",
    metric=_METRIC,
    unit="",
    better="higher",
    margin=0.01,
    seeds=(2, 3),
)
def rewards_improve_the_continuous_chain(lab: SignedSumLab, seed: int) -> Trial:
    before, after, _ = lab.rewarded("mts", seed, k=3)
    return Trial(after.right("soft"), {"before": before.right("soft")})
