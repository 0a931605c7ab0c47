"""Mirostat and its claims."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.decoding import DecodingLab

paper = Paper(
    slug="mirostat",
    title="Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity",
    published=date(2020, 7, 29),
    authors=4,
    arxiv="2007.14966",
    repository="https://github.com/basusourya/mirostat",
    room="decoding",
    methods=["hartley.decoding.mirostat"],
    topics=["next-token sampling", "feedback control", "perplexity"],
    lab="hartley.labs.decoding:DecodingLab",
    summary="Holds the average surprise of generated text at a target, in bits a token, by feedback on the truncation; "
    "no tuning of k or p, whatever the length.",
    usage="from hartley.decoding import MirostatProcessor\n"
    "model.generate(**inputs, do_sample=True, logits_processor=[MirostatProcessor(tau=3.0)])",
)

NATS = 0.6931471805599453


@paper.claim(
    "The surprise of generated text stays nearer to its mean than with top-k or top-p of the same mean",
    published="generated cross-entropy stays at the target for any length (figures, GPT-2)",
    metric="standard deviation over sequences of the mean surprise, target 2 bits, eta 1",
    unit="bits/token",
    better="lower",
    margin=0.05,
    seeds=(2, 5),
    axes=("token", "entropy of the model, nats"),
)
def control(lab: DecodingLab, seed: int) -> Trial:
    import numpy as np
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    from hartley.decoding import MirostatProcessor

    tokens = 40 if lab.quick else 128
    # k = 5 and p = 0.55 give SmolLM2's text about 2 bits a token; the means stand among the details.
    texts = {
        "mirostat": lab.generate(lambda: [MirostatProcessor(2.0, 1.0)], seed, tokens=tokens, prompts=8),
        "top-k 5": lab.generate(lambda: [TopKLogitsWarper(5)], seed, tokens=tokens, prompts=8),
        "top-p 0.55": lab.generate(lambda: [TopPLogitsWarper(0.55)], seed, tokens=tokens, prompts=8),
    }
    values = {n: float(np.std(t.surprise, ddof=1) / NATS) for n, t in texts.items()}
    details = {f"mean surprise in bits, {n}": float(np.mean(t.surprise)) / NATS for n, t in texts.items()}
    curves = {n: (list(range(len(t.trajectory))), list(t.trajectory)) for n, t in texts.items()}
    return Trial(values.pop("mirostat"), values, curves, details)


@paper.claim(
    "Feeding back the model's surprise reaches the target; the renormalised surprise of later programs misses it",
    published="algorithm of the paper against that of llama.cpp",
    metric="distance of the mean surprise from targets 3, 5 and 7 bits, Zipf source, 400 tokens",
    unit="bits/token",
    better="lower",
    margin=0.2,
    axes=("target, bits/token", "achieved, bits/token"),
)
def feedback(lab: DecodingLab, seed: int) -> Trial:
    import torch

    from hartley.decoding import Mirostat

    logits = (-1.1 * torch.arange(1, 50258).double().log()).float()[None]
    steps = 200 if lab.quick else 400
    targets = [3.0, 5.0, 7.0]

    def achieved(surprise: str, tau: float) -> float:
        sampler = Mirostat(tau, 1.0, surprise=surprise)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.cat([sampler.step(logits, generator=generator) for _ in range(steps)])
        return float((torch.logsumexp(logits, -1) - logits[0, drawn]).mean()) / NATS

    found = {s: [achieved(s, tau) for tau in targets] for s in ("model", "renormalized")}
    miss = {s: [abs(a - tau) for a, tau in zip(v, targets, strict=True)] for s, v in found.items()}
    curves = {f"{s} surprise": (targets, v) for s, v in found.items()}
    return Trial(miss["model"], {"renormalized feedback": miss["renormalized"]}, curves)


@paper.claim(
    "With top-p of a small mass, surprise falls along the text; Mirostat's at the same mean falls less",
    published="small k or p: perplexity falls with length, repetition rises (boredom trap)",
    metric="fall of the mean surprise from the first to the second half of the text",
    unit="bits/token",
    better="lower",
    margin=0.05,
    seeds=(2, 5),
)
def boredom(lab: DecodingLab, seed: int) -> Trial:
    from transformers import TopPLogitsWarper

    from hartley.decoding import MirostatProcessor

    tokens = 40 if lab.quick else 128
    texts = {
        "mirostat": lab.generate(lambda: [MirostatProcessor(1.4, 1.0)], seed, tokens=tokens, prompts=8),
        "top-p 0.4": lab.generate(lambda: [TopPLogitsWarper(0.4)], seed, tokens=tokens, prompts=8),
    }

    def fall(trajectory: tuple[float, ...]) -> float:
        half = len(trajectory) // 2
        return (sum(trajectory[:half]) - sum(trajectory[half : 2 * half])) / half / NATS

    values = {n: fall(t.trajectory) for n, t in texts.items()}
    details = {f"repeated 4-grams, {n}": t.repetition for n, t in texts.items()}
    return Trial(values.pop("mirostat"), values, details=details)


@paper.claim(
    "At the customary target of 5 bits Mirostat keeps the surprise of each text nearer to the mean than no truncation",
    published="tau 5, eta 0.1 is the default of the programs that ship it",
    metric="standard deviation over sequences of the mean surprise",
    unit="bits/token",
    better="lower",
    margin=0.05,
    seeds=(2, 5),
)
def customary_target(lab: DecodingLab, seed: int) -> Trial:
    import numpy as np

    from hartley.decoding import MirostatProcessor

    tokens = 40 if lab.quick else 128
    texts = {
        "mirostat": lab.generate(lambda: [MirostatProcessor(5.0, 0.1)], seed, tokens=tokens, prompts=8),
        "untruncated": lab.generate(list, seed, tokens=tokens, prompts=8),
    }
    values = {n: float(np.std(t.surprise, ddof=1) / NATS) for n, t in texts.items()}
    details = {f"mean surprise in bits, {n}": float(np.mean(t.surprise)) / NATS for n, t in texts.items()}
    return Trial(values.pop("mirostat"), values, details=details)
