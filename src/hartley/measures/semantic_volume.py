"""How far apart several answers to one question lie in meaning: the log-volume of their embeddings.

    SV = sum_k log(s_k^2 + floor),   s_k the d largest singular values of the centred unit embeddings

Large: the answers scatter, the question is ambiguous or the model guesses. Beside it the scores it competes with, on
the same samples.

Source: Li, Yu, Zhang, Zhuang, Shah, Sadagopan, Beniwal (2025), arXiv 2502.21239. Semantic entropy: Kuhn, Gal, Farquhar
(2023), clusters by similarity here instead of an entailment model. Kernel language entropy: Nikitin et al. (2024).
EigenScore: Chen et al. (2024).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from hartley.arrays import numpy_too
from hartley.checks import require, require_between
from hartley.measures.spectral import von_neumann_entropy


@numpy_too
def semantic_volume(
    embeddings: Float[Tensor, "*batch n d"],
    dim: int = 10,
    *,
    floor: float = 1e-10,
    center: bool = True,
    normalize: bool = True,
    weights: Float[Tensor, "*batch n"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Log-determinant of the scatter of n embeddings along their `dim` main directions.

    Parameters
    ----------
    embeddings : one row a sample, from any sentence encoder; float64 inside.
    dim : directions that count, at most n - 1 (n without centring) and d.
    floor : what a missing direction counts: a duplicate costs log(floor). It is part of the number: quote it. Short
        answers repeat each other, and then the number of distinct ones decides.
    weights : of the samples, such as sequence probabilities; normalised here to sum to n.

    Raises
    ------
    ValueError : too few samples for `dim`, NaN, a zero vector to normalise, negative weights.

    When not to use: to compare values of different n, dim or floor. Where answers are a word or two, the entropy of
    clusters says the same and is easier to read.
    """
    n, d = embeddings.shape[-2:]
    most = min(n - int(center), d)
    require(n >= 2, "embeddings", f"{n} samples", "at least two samples")
    require(1 <= dim <= most, "dim", dim, f"1 to {most}: {n} samples of {d} dimensions span no more")
    require(floor >= 0, "floor", floor, "a number >= 0")
    x = _unit(embeddings) if normalize else _finite(embeddings).double()
    w = torch.ones(embeddings.shape[:-1], dtype=torch.float64, device=x.device)
    if weights is not None:
        require(
            bool((weights >= 0).all() and (weights.sum(-1) > 0).all()), "weights", weights, "weights >= 0, some > 0"
        )
        w = weights.double() * n / weights.double().sum(-1, keepdim=True)
    if center:
        x = x - (w[..., None] * x).mean(-2, keepdim=True)
    singular = torch.linalg.svdvals(x * w.sqrt()[..., None])[..., :dim]
    return (singular.square() + floor).log().sum(-1)


@numpy_too
def eigenscore(embeddings: Float[Tensor, "*batch n d"], *, ridge: float = 1e-3) -> Float[Tensor, "*batch"]:
    """(1 / n) log det of the centred Gram matrix of unit embeddings plus a ridge: volume over all n directions."""
    require(ridge > 0, "ridge", ridge, "a positive number")
    x = _unit(embeddings)
    x = x - x.mean(-2, keepdim=True)
    gram = x @ x.mT + ridge * torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    return 2 * torch.linalg.cholesky(gram).diagonal(dim1=-2, dim2=-1).log().mean(-1)


@numpy_too
def semantic_entropy(
    embeddings: Float[Tensor, "n d"],
    *,
    threshold: float = 0.8,
    log_likelihoods: Float[Tensor, "n"] | None = None,
) -> Float[Tensor, ""]:
    """Entropy of the meanings among the samples, nats: each joins the first cluster whose first member is alike.

    Parameters
    ----------
    threshold : cosine from which two samples mean the same.
    log_likelihoods : of the samples, to weigh clusters by probability; by frequency without them.
    """
    require_between("threshold", threshold, -1, 1, closed="both")
    x = _unit(embeddings)
    alike = x @ x.T >= threshold
    firsts: list[int] = []
    labels = []
    for i in range(len(x)):
        match = next((c for c, first in enumerate(firsts) if alike[i, first]), len(firsts))
        if match == len(firsts):
            firsts.append(i)
        labels.append(match)
    logs = torch.zeros(len(x)) if log_likelihoods is None else log_likelihoods
    weights = torch.zeros(len(firsts), dtype=torch.float64)
    weights.index_add_(0, torch.tensor(labels), logs.double().softmax(0))
    return torch.special.entr(weights).sum()


@numpy_too
def kernel_language_entropy(similarity: Float[Tensor, "n n"], *, t: float = 0.4) -> Float[Tensor, ""]:
    """Von Neumann entropy of the heat kernel on a graph of similarities >= 0, nats."""
    require(t > 0, "t", t, "a positive time")
    require(bool((similarity >= 0).all()), "similarity", "negative entries", "weights >= 0")
    weights = (similarity + similarity.T).double() / 2
    weights = weights - torch.diag(weights.diagonal())
    heat = torch.linalg.matrix_exp(-t * (torch.diag(weights.sum(1)) - weights))
    scale = heat.diagonal().rsqrt()
    return von_neumann_entropy(scale[:, None] * heat * scale)


def lexical_similarity(texts: Sequence[str]) -> float:
    """Mean ROUGE-L (F1 of the longest common subsequence of words) over pairs of texts; two empty texts are alike."""
    require(len(texts) >= 2, "texts", f"{len(texts)} texts", "at least two texts")
    words = [text.lower().split() for text in texts]
    scores = [2 * _common(a, b) / (len(a) + len(b)) if a or b else 1.0 for a, b in itertools.combinations(words, 2)]
    return sum(scores) / len(scores)


def threshold_from_validation(
    scores: Float[np.ndarray, " n"], labels: Shaped[np.ndarray, " n"], objective: Literal["f1", "accuracy"] = "f1"
) -> tuple[float, float]:
    """From which score on to call an answer doubtful: the threshold that is best on labelled validation data.

    Parameters
    ----------
    scores : any score of this module; larger is more doubtful.
    labels : 1 where the answer was wrong or the question ambiguous.
    objective : F1 of the doubtful class, or accuracy.

    Returns
    -------
    Threshold, midway between two scores (-inf calls everything doubtful, inf nothing), and the objective there. That
    value is optimistic: report it on other data.

    Raises
    ------
    ValueError : scores and labels of different length, NaN, or labels of one class.
    """
    require(objective in ("f1", "accuracy"), "objective", objective, '"f1" or "accuracy"')
    positive = labels.astype(bool)
    require(len(scores) == len(positive) and not np.isnan(scores).any(), "scores", len(scores), "a number for a label")
    require(0 < positive.sum() < len(positive), "labels", int(positive.sum()), "some of either class")
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], positive[order]
    hits = np.concatenate([[0], np.cumsum(truth)])  # with the first k called doubtful
    k = np.arange(len(ranked) + 1)
    if objective == "f1":
        value = 2 * hits / (k + positive.sum())
    else:
        value = (hits + (~positive).sum() - (k - hits)) / len(ranked)
    possible = np.concatenate([[True], ranked[1:] < ranked[:-1], [True]])  # ties stay together
    best = int(np.argmax(np.where(possible, value, -1.0)))
    if best == 0:
        return float("inf"), float(value[0])
    if best == len(ranked):
        return -float("inf"), float(value[-1])
    return float((ranked[best - 1] + ranked[best]) / 2), float(value[best])


def _common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        last = 0
        for j, y in enumerate(b, start=1):
            last, row[j] = row[j], last + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def _finite(embeddings: Tensor) -> Tensor:
    require(bool(embeddings.isfinite().all()), "embeddings", "not finite", "finite vectors")
    return embeddings


def _unit(embeddings: Tensor) -> Tensor:
    x = _finite(embeddings).double()
    size = x.norm(dim=-1, keepdim=True)
    require(bool((size > 0).all()), "embeddings", "a zero vector", "vectors with a direction (an empty answer?)")
    return x / size
