"""Palimpsestic membership inference: a model remembers the order of its training data."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.provenance import ProvenanceLab

paper = Paper(
    slug="palimpsest",
    title="Blackbox Model Provenance via Palimpsestic Membership Inference",
    published=date(2025, 10, 22),
    room="auditing",
    methods=["hartley.auditing.provenance"],
    summary="Tests whether a model or a text derives from a training run whose shuffled order was kept: later data are "
    "remembered better. The p-value is exact, and training need not be changed.",
    usage="from hartley.auditing import order_test\n\nprint(order_test(loglik, position, reference=reference_loglik))",
    topics=["model provenance", "memorisation", "permutation tests"],
    authors=6,
    arxiv="2510.19796",
    repository="https://github.com/RohithKuditipudi/blackbox-model-tracing",
    lab="hartley.labs.provenance:ProvenanceLab",
)


@paper.claim(
    "A model trained for one epoch betrays the order of its data, and a reference of the same data makes the evidence "
    "at least a thousand times stronger than the likelihoods alone",
    published="p = 8e-20 with a reference and 0.21 without (Pythia 6.9B, 10k sequences)",
    metric="-log10 p of the one-sided order test",
    unit="decades",
    better="higher",
    margin=3.0,
    seeds=(3, 8),
)
def reference(lab: ProvenanceLab, seed: int) -> Trial:
    """Alice's model, with and without a model of the same data in another order."""
    import math

    from hartley.auditing import order_test

    alice = lab.loglik(lab.trained(1000 + seed))
    other = lab.loglik(lab.trained(2000))
    position = lab.position(1000 + seed)
    with_reference = order_test(alice, position, reference=other)
    alone = order_test(alice, position)
    return Trial(
        method=-math.log10(with_reference.pvalue),
        baselines={"no reference": -math.log10(alone.pvalue)},
        details={"correlation": with_reference.statistic, "without reference": alone.statistic},
    )


@paper.claim(
    "The order of training still shows at p < 0.001 after fine-tuning on a third as many other sequences",
    published="Fine-tunes of Pythia and OLMo are traced at p of 1e-8 in all but six of more than forty",
    metric="-log10 p of the one-sided order test with reference",
    unit="decades",
    better="higher",
    margin=0.0,
    seeds=(3, 8),
)
def fine_tuned(lab: ProvenanceLab, seed: int) -> Trial:
    """Alice's fine-tuned model; beside it an independent one, which must show nothing."""
    import math

    from hartley.auditing import order_test

    other = lab.loglik(lab.trained(2000))
    position = lab.position(1000 + seed)
    tuned = lab.loglik(lab.trained(1000 + seed, tuned_on=lab.sequences // 3))
    stranger = lab.loglik(lab.trained(3000))
    found = order_test(tuned, position, reference=other)
    return Trial(
        method=-math.log10(found.pvalue),
        baselines={
            "an independent model": -math.log10(order_test(stranger, position, reference=other).pvalue),
            "p = 0.001": 3.0,
        },
        details={"correlation": found.statistic},
    )


@paper.claim(
    "Twenty sampled texts, under a thousand tokens, betray the order in which the last tenth of the data was shown: "
    "the true run explains them better than re-runs in other orders do, by more than two of their standard deviations",
    published="A few hundred tokens suffice for the shuffle test (TinyStories)",
    metric="z of the reshuffle test",
    unit="standard deviations",
    better="higher",
    margin=0.0,
    seeds=(3, 6),
)
def sampled_text(lab: ProvenanceLab, seed: int) -> Trial:
    """Alice's text; beside it text of a run in yet another order and text that no model wrote, which show nothing."""
    import numpy as np
    import torch

    from hartley.auditing import reshuffle_test

    order, count = 1000 + seed, 20
    alice, stranger = lab.rerun(order), lab.rerun(order, 0)
    reruns = [lab.rerun(order, shuffle) for shuffle in range(1, 10 if lab.quick else 20)]
    human = lab.unseen(count)
    texts = {
        "alice": alice.write(human[:, 0], torch.Generator().manual_seed(seed)),
        "text of a re-shuffled run": stranger.write(human[:, 0], torch.Generator().manual_seed(seed)),
        "text that no model wrote": human,
    }
    found = {
        name: reshuffle_test(alice.loglik(ids), np.stack([model.loglik(ids) for model in reruns]))
        for name, ids in texts.items()
    }
    mine = found.pop("alice")
    return Trial(
        method=mine.statistic,
        baselines={**{name: test.statistic for name, test in found.items()}, "two standard deviations": 2.0},
        details={"exact p, by rank": mine.pvalue},
    )
