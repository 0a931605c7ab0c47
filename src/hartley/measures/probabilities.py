"""The same measures where a method is defined on probabilities or counts instead of logits. Nats throughout."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from hartley.arrays import numpy_too
from hartley.checks import require


@numpy_too
def entropy_from_probs(probs: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """-sum p log p with 0 log 0 = 0. The rows are not renormalised."""
    return torch.special.entr(probs).sum(-1)


@numpy_too
def varentropy_from_probs(probs: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """Variance of -log p under p."""
    information = -torch.where(probs > 0, probs, 1.0).log()
    return (probs * (information - entropy_from_probs(probs)[..., None]).square()).sum(-1)


@numpy_too
def js_complexity(probs: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """Jensen-Shannon statistical complexity Q0 JS(p, u) H(p) / log n, u uniform; 0 for a constant and for noise.

    Q0 normalises JS(delta, u) to 1. Source: Lamberti, Martin, Plastino, Rosso (2004).
    """
    n = probs.shape[-1]
    if n == 1:
        return torch.zeros_like(probs[..., 0])
    uniform = torch.full_like(probs, 1 / n)
    js = entropy_from_probs((probs + uniform) / 2) - (entropy_from_probs(probs) + math.log(n)) / 2
    q0 = -2 / ((n + 1) / n * math.log(n + 1) - 2 * math.log(2 * n) + math.log(n))
    return q0 * js.clamp(min=0.0) * entropy_from_probs(probs) / math.log(n)


@numpy_too
def mutual_information(
    joint: Shaped[Tensor, "*batch rows columns"], *, correction: Literal["none", "miller-madow"] = "none"
) -> Float[Tensor, "*batch"]:
    """Mutual information of the two axes of a joint table of probabilities or counts, >= 0.

    Parameters
    ----------
    joint : normalised here; for a conditional mutual information average tables given the condition.
    correction : "miller-madow" adds (rows + columns - cells - 1) / (2 N), counting those that are not empty, to the
        entropy difference; it needs counts.

    Raises
    ------
    ValueError : negative entries, an empty table, or an unknown correction.
    """
    require(bool((joint >= 0).all()), "joint", joint, "entries >= 0")
    require(correction in ("none", "miller-madow"), "correction", correction, '"none" or "miller-madow"')
    table = joint if joint.is_floating_point() else joint.double()
    total = table.sum((-2, -1))
    require(bool((total > 0).all()), "joint", joint, "a table with mass")
    p = table / total[..., None, None]
    rows, columns = p.sum(-1), p.sum(-2)
    information = entropy_from_probs(rows) + entropy_from_probs(columns) - entropy_from_probs(p.flatten(-2))
    if correction == "miller-madow":
        filled = [(t > 0).sum(-1) for t in (rows, columns, p.flatten(-2))]
        information = information + (filled[0] + filled[1] - filled[2] - 1) / (2 * total)
    return information.clamp(min=0.0)


@numpy_too
def conditional_mutual_information(joint: Shaped[Tensor, "*batch given rows columns"]) -> Float[Tensor, "*batch"]:
    """I(rows; columns | given) of a joint table of probabilities or counts: the mean over the condition's slices."""
    require(bool((joint >= 0).all()), "joint", joint, "entries >= 0")
    table = joint if joint.is_floating_point() else joint.double()
    mass = table.sum((-2, -1))
    filled = torch.where(mass[..., None, None] > 0, table, 1.0)  # an empty slice has weight 0 whatever stands in it
    return (mass * mutual_information(filled)).sum(-1) / mass.sum(-1)
