"""Locally typical sampling and its claims."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from hartley.decoding import Band
    from hartley.labs.decoding import DecodingLab

paper = Paper(
    slug="locally-typical",
    title="Locally Typical Sampling",
    published=date(2022, 2, 1),
    authors=4,
    arxiv="2202.00666",
    repository="https://github.com/cimeister/typical-sampling",
    room="decoding",
    methods=["hartley.decoding.locally_typical"],
    topics=["next-token sampling", "truncation", "repetition"],
    lab="hartley.labs.decoding:DecodingLab",
    summary="Keeps the tokens whose surprisal is nearest to the entropy of the next-token distribution, so that text "
    "carries information at the rate the model expects. At small masses it often drops the likeliest token; near mass "
    "1 it is top-p.",
    usage="from hartley.decoding import LocallyTypical\n"
    "model.generate(**inputs, do_sample=True, logits_processor=[LocallyTypical(mass=0.2)])",
)


@paper.claim(
    "Sampled tokens carry information nearer to the entropy than those of top-p at the same likelihood",
    published="the definition of local typicality",
    metric="expected |surprisal - entropy| of a token, mass 0.2 against top-p of equal expected log-likelihood",
    unit="nats",
    better="lower",
    margin=0.2,
)
def information_rate(lab: DecodingLab, seed: int) -> Trial:
    import numpy as np

    from hartley import decoding
    from hartley.labs.decoding import expected_gap, expected_log_likelihood

    z = lab.cached_logits(seed)
    band = decoding.typical_band(z, 0.2)
    wanted = float(expected_log_likelihood(z, band).mean())
    grid = np.linspace(0.3, 0.999, 24)
    nuclei = [decoding.top_p_threshold(z, float(p)) for p in grid]
    likelihoods = [float(expected_log_likelihood(z, n).mean()) for n in nuclei]
    nearest = int(np.abs(np.array(likelihoods) - wanted).argmin())
    plain = decoding.min_p_threshold(z, 0.0)
    return Trial(
        expected_gap(z, band).tolist(),
        {
            "top-p matched in likelihood": expected_gap(z, nuclei[nearest]).tolist(),
            "untruncated": expected_gap(z, plain).tolist(),
        },
        details={"log-likelihood, typical": wanted, "log-likelihood, matched top-p": likelihoods[nearest]},
    )


@paper.claim(
    "Text repeats itself less than text of top-p and top-k at the same likelihood",
    published="consistently reduces degenerate repetition (stories, GPT-2)",
    metric="share of tokens that stood among the 32 before, mass 0.2",
    unit="",
    better="lower",
    margin=0.0,
    seeds=(2, 5),
)
def repetition(lab: DecodingLab, seed: int) -> Trial:
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    from hartley.decoding import LocallyTypical

    tokens = 24 if lab.quick else 72
    # 0.98 is the mass at which top-p's text has the likelihood of typical sampling at mass 0.2 on SmolLM2.
    rules = {"typical": LocallyTypical(0.2), "top-p 0.98": TopPLogitsWarper(0.98), "top-k 30": TopKLogitsWarper(30)}
    texts = {n: lab.generate(lambda r=r: [r], seed, tokens=tokens) for n, r in rules.items()}  # type: ignore[misc]
    values = {n: t.recent for n, t in texts.items()}
    details = {f"log-likelihood, {n}": t.log_likelihood for n, t in texts.items()}
    return Trial(values.pop("typical"), values, details=details)


@paper.claim(
    "At its customary mass of 0.95 the method keeps another set of tokens than top-p",
    published="used at masses of 0.2 and 0.95",
    metric="share of contexts with another kept set than top-p's, temperature 1",
    unit="",
    better="higher",
    margin=0.05,
    axes=("mass", "share of contexts"),
)
def other_than_top_p(lab: DecodingLab, seed: int) -> Trial:
    from hartley import decoding

    z = lab.cached_logits(seed)

    def differs(mass: float) -> list[float]:
        typical, nucleus = decoding.typical_band(z, mass), decoding.top_p_threshold(z, mass)
        other: list[float] = (decoding.kept_mask(z, typical) != decoding.kept_mask(z, nucleus)).any(-1).float().tolist()
        return other

    masses = [0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98]
    curve = [sum(d) / len(d) for d in map(differs, masses)]
    return Trial(differs(0.95), {"top-p itself": [0.0] * len(z)}, {"contexts with another set": (masses, curve)})


@paper.claim(
    "At matched diversity text is likelier than that of other truncations",
    published="competitive with nucleus and top-k in human ratings",
    metric="expected log-likelihood at mean entropy 1 nat, temperature 1",
    unit="nats/token",
    better="higher",
    margin=0.02,
    axes=("mean entropy of the kept distribution, nats", "expected log-likelihood, nats/token"),
)
def matched_diversity(lab: DecodingLab, seed: int) -> Trial:
    import numpy as np

    from hartley import decoding
    from hartley.labs.decoding import at_entropy, frontier

    z = lab.cached_logits(seed)
    rules: dict[str, tuple[Callable[..., Band], Any]] = {
        "typical": (decoding.typical_band, np.linspace(0.05, 0.95, 12)),
        "top-p": (decoding.top_p_threshold, np.linspace(0.1, 0.95, 12)),
        "min-p": (decoding.min_p_threshold, np.geomspace(0.005, 0.8, 12)),
    }
    values = {name: at_entropy(z, rule, grid, 1.0) for name, (rule, grid) in rules.items()}
    curves = {name: frontier(z, rule, grid) for name, (rule, grid) in rules.items()}
    return Trial(values.pop("typical"), values, curves)
