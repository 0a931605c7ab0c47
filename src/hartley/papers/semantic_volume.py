"""Semantic volume: ambiguity of a question and doubt about an answer from the scatter of sampled answers."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    import numpy as np

    from hartley.labs.questions import QuestionLab, Samples

paper = Paper(
    slug="semantic-volume",
    title="Semantic Volume: Quantifying and Detecting both External and Internal Uncertainty in LLMs",
    published=date(2025, 2, 28),
    room="measures",
    methods=["hartley.measures.semantic_volume"],
    summary="Detects ambiguous questions and doubtful answers from text alone: the log-volume that embeddings of "
    "several sampled answers span.",
    usage="from hartley.measures import semantic_volume\n\nsemantic_volume(encoder(answers), dim=5)",
    topics=["uncertainty", "hallucination", "ambiguity"],
    authors=7,
    arxiv="2502.21239",
    repository="https://github.com/amazon-science/semantic-volume",
    lab="hartley.labs.questions:QuestionLab",
)


@paper.claim(
    "The volume of sampled answers tells ambiguous from clear questions better than semantic entropy, lexical "
    "similarity and likelihood do",
    published="Best of the compared scores on CLAMBER and AmbigQA (external uncertainty)",
    metric="area under the ROC curve, ambiguous against clear",
    unit="AUC",
    better="higher",
    margin=0.0,
    seeds=(3, 4),
)
def external(lab: QuestionLab, seed: int) -> Trial:
    """Scatter of answers, where the paper scatters rewritten questions: a small model cannot rewrite them."""
    samples, ambiguous = lab.external(seed)
    return _areas(samples, ambiguous)


@paper.claim(
    "The volume of sampled answers tells wrong from right answers better than semantic entropy, lexical similarity, "
    "likelihood and p(true) do",
    published="AUROC 79.6 against 73.4 for semantic entropy (TriviaQA, internal uncertainty)",
    metric="area under the ROC curve, greedy answer wrong against right",
    unit="AUC",
    better="higher",
    margin=0.0,
    seeds=(3, 4),
)
def internal(lab: QuestionLab, seed: int) -> Trial:
    """The same scores on factual questions."""
    samples, wrong = lab.internal(seed)
    return _areas(samples, wrong, {"1 - p(true)": lab.doubt()})


@paper.claim(
    "At temperature 1 the volume of sampled answers tells ambiguous from clear questions at least as well as their "
    "mean cosine distance, up to 0.05",
    published="Best of the compared scores on CLAMBER and AmbigQA (external uncertainty)",
    metric="area under the ROC curve, ambiguous against clear",
    unit="AUC",
    better="higher",
    margin=-0.05,
    seeds=(3, 4),
)
def hot(lab: QuestionLab, seed: int) -> Trial:
    """The samples of a temperature at which a small model scatters most; the other scores stand in the details."""
    import dataclasses

    samples, ambiguous = dataclasses.replace(lab, temperature=1.0).external(seed)
    found = _areas(samples, ambiguous)
    name = "mean cosine distance"
    others = {k: float(v) for k, v in found.baselines.items() if k != name}  # type: ignore[arg-type]
    return Trial(method=found.method, baselines={name: found.baselines[name]}, details={**found.details, **others})


def _areas(samples: list[Samples], positive: list[bool], more: dict[str, list[float]] | None = None) -> Trial:
    import numpy as np

    from hartley.labs.texts import auroc
    from hartley.measures import eigenscore, lexical_similarity, semantic_entropy, semantic_volume

    dim = min(10, len(samples[0].texts) - 1)
    scores = {
        "volume": [float(semantic_volume(s.embeddings, dim)) for s in samples],
        "semantic entropy": [float(semantic_entropy(s.embeddings)) for s in samples],
        "lexical similarity": [-lexical_similarity(s.texts) for s in samples],
        "mean log-likelihood": [float(s.surprisal.mean()) for s in samples],
        "mean cosine distance": [_cosine_distance(s.embeddings) for s in samples],
        **(more or {}),
    }
    label = np.array(positive)
    areas = {name: auroc(np.array(v)[label], np.array(v)[~label]) for name, v in scores.items()}
    return Trial(
        method=areas.pop("volume"),
        baselines=areas,
        details={
            "EigenScore": auroc(
                *(np.array([float(eigenscore(s.embeddings)) for s in samples])[m] for m in (label, ~label))
            ),
            "positives": float(label.mean()),
        },
    )


def _cosine_distance(embeddings: np.ndarray) -> float:
    """Mean over pairs; the encoder's vectors have length one."""
    n = len(embeddings)
    return float((n * n - (embeddings @ embeddings.T).sum()) / (n * (n - 1)))
