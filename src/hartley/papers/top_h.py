"""Top-H decoding and its claims."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from hartley.decoding import Band
    from hartley.labs.decoding import DecodingLab

paper = Paper(
    slug="top-h",
    title="Top-H Decoding: Adapting the Creativity and Coherence with Bounded Entropy in Text Generation",
    published=date(2025, 9, 2),
    arxiv="2509.02510",
    repository="https://github.com/ErfanBaghaei/Top-H-Decoding",
    room="decoding",
    methods=["hartley.decoding.top_h"],
    topics=["next-token sampling", "truncation", "high temperature"],
    lab="hartley.labs.decoding:DecodingLab",
    summary="Keeps the likeliest tokens while the entropy of what is kept stays below a share of the model's own, so "
    "that the randomness of sampling follows the model's certainty, mainly at high temperature.",
    usage="from hartley.decoding import TopH\n"
    "model.generate(**inputs, do_sample=True, logits_processor=[TemperatureLogitsWarper(1.5), TopH(alpha=0.4)])",
)

TEMPERATURE = 2.0


def _rules(top_h: Callable[[Tensor], Band]) -> dict[str, Callable[[Tensor], Band]]:
    """The method and the baselines of the paper, with the paper's parameters."""
    from hartley import decoding

    return {
        "method": top_h,
        "min-p 0.1": lambda z: decoding.min_p_threshold(z, 0.1),
        "top-p 0.9": lambda z: decoding.top_p_threshold(z, 0.9),
    }


def _accuracy(lab: DecodingLab, top_h: Callable[[Tensor], Band]) -> Trial:
    """Probability of the right digit after truncation, averaged over the sums; curves over the temperature."""
    from hartley import decoding

    logits, answers = lab.addition()

    def accuracy(rule: Callable[[Tensor], Band], temperature: float) -> list[float]:
        z = logits / temperature
        q = decoding.apply_band(z, rule(z)).softmax(-1)
        right: list[float] = q.gather(-1, answers[:, None]).squeeze(-1).tolist()
        return right

    rules = _rules(top_h)
    values = {name: accuracy(rule, TEMPERATURE) for name, rule in rules.items()}
    grid = [0.7, 1.0, 1.5, 2.0, 2.5, 3.0]
    curves = {
        "top-H" if name == "method" else name: (grid, [sum(accuracy(rule, t)) / len(answers) for t in grid])
        for name, rule in rules.items()
    }
    return Trial(values.pop("method"), values, curves)


@paper.claim(
    "At temperature 2 top-H keeps more of the model's accuracy than top-p",
    published="GSM8K at T=2, Llama-3.1-8B: 39.35 against 2.65 for top-p 0.9",
    metric="probability of the right digit on one-digit sums, exact expectation",
    unit="",
    better="higher",
    margin=0.03,
    deterministic=True,
    headline=True,
    axes=("temperature", "expected accuracy"),
)
def accuracy_over_top_p(lab: DecodingLab, seed: int) -> Trial:
    from hartley.decoding import top_h_threshold

    trial = _accuracy(lab, top_h_threshold)
    return Trial(trial.method, {"top-p 0.9": trial.baselines["top-p 0.9"]}, trial.curves)


@paper.claim(
    "At temperature 2 top-H keeps more of the model's accuracy than min-p and top-p",
    published="GSM8K at T=2, Llama-3.1-8B: 39.35 against 13.72 for min-p 0.1 (the +25.63 of the abstract)",
    metric="probability of the right digit on one-digit sums, exact expectation",
    unit="",
    better="higher",
    margin=0.01,
    deterministic=True,
    axes=("temperature", "expected accuracy"),
)
def accuracy_over_min_p(lab: DecodingLab, seed: int) -> Trial:
    from hartley.decoding import top_h_threshold

    return _accuracy(lab, top_h_threshold)


@paper.claim(
    "The released program, which stops at a partial entropy sum instead, keeps more accuracy than min-p and top-p",
    published="the published tables came from a program of this kind",
    metric="probability of the right digit on one-digit sums, exact expectation",
    unit="",
    better="higher",
    margin=0.01,
    deterministic=True,
    axes=("temperature", "expected accuracy"),
)
def released_rule_accuracy(lab: DecodingLab, seed: int) -> Trial:
    from hartley.decoding import top_h_threshold

    return _accuracy(lab, lambda z: top_h_threshold(z, rule="partial"))


@paper.claim(
    "At matched diversity top-H's text is likelier than that of other truncations",
    published="better balance of creativity and coherence than min-p and top-p",
    metric="expected log-likelihood at mean entropy 2 nats, temperature 2",
    unit="nats/token",
    better="higher",
    margin=0.02,
    axes=("mean entropy of the kept distribution, nats", "expected log-likelihood, nats/token"),
)
def matched_diversity(lab: DecodingLab, seed: int) -> Trial:
    import numpy as np

    from hartley import decoding
    from hartley.labs.decoding import at_entropy, frontier

    original = lab.cached_logits(seed)
    z = original / TEMPERATURE
    rules: dict[str, tuple[Callable[..., Band], Any]] = {
        "top-H": (decoding.top_h_threshold, np.linspace(0.05, 0.8, 12)),
        "min-p": (decoding.min_p_threshold, np.geomspace(0.01, 0.9, 12)),
        "top-p": (decoding.top_p_threshold, np.linspace(0.05, 0.9, 12)),
        "top-k": (lambda rows, k: decoding.top_k_threshold(rows, round(k)), np.unique(np.geomspace(1, 400, 12) // 1)),
    }
    values = {name: at_entropy(z, rule, grid, 2.0, original=original) for name, (rule, grid) in rules.items()}
    curves = {name: frontier(z, rule, grid, original=original) for name, (rule, grid) in rules.items()}
    return Trial(values.pop("top-H"), values, curves)


@paper.claim(
    "Top-H keeps the entropy of sampling within its share of the model's entropy; the released program does not",
    published="H(q) <= alpha H(p) by construction",
    metric="share of contexts whose kept distribution exceeds alpha times the model's entropy, temperature 1",
    unit="",
    better="lower",
    margin=0.01,
)
def entropy_bound(lab: DecodingLab, seed: int) -> Trial:
    from hartley import decoding
    from hartley.measures import entropy

    z = lab.cached_logits(seed)
    budget = 0.4 * entropy(z)

    def excess(rule: str) -> list[float]:
        kept = decoding.kept_statistics(z, decoding.top_h_threshold(z, 0.4, rule=rule))  # type: ignore[arg-type]
        broken: list[float] = (kept.entropy > budget + 1e-4).float().tolist()
        return broken

    return Trial(excess("entropy"), {"released rule": excess("partial")})


@paper.claim(
    "At temperature 2 top-H's generated text is likelier under the model than that of min-p and top-p",
    published="log-likelihood of generations falls less with the temperature than with top-p and min-p (figure)",
    metric="mean log-likelihood of generated tokens under the untempered model",
    unit="nats/token",
    better="higher",
    margin=0.1,
    seeds=(2, 5),
)
def generated_likelihood(lab: DecodingLab, seed: int) -> Trial:
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopPLogitsWarper

    from hartley.decoding import TopH

    tokens = 16 if lab.quick else 48
    heat = TemperatureLogitsWarper(TEMPERATURE)
    rules = {"top-H": TopH(0.4), "min-p 0.1": MinPLogitsWarper(0.1), "top-p 0.9": TopPLogitsWarper(0.9)}
    texts = {n: lab.generate(lambda r=r: [heat, r], seed, tokens=tokens) for n, r in rules.items()}  # type: ignore[misc]
    values = {n: [-s for s in t.surprise] for n, t in texts.items()}
    return Trial(values.pop("top-H"), values, details={f"repetition, {n}": t.repetition for n, t in texts.items()})
