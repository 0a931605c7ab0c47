"""What every weighted sampler shares: log-weights, effective sample size, resampling, inclusion probabilities.

Weights are logarithms on the last axis, -inf for a weight of zero, up to a constant: only ratios matter. Functions take
torch tensors, or numpy arrays and return the same kind; randomness comes from `generator`, a `torch.Generator` or, for
numpy, a `numpy.random.Generator`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from hartley.arrays import numpy_too
from hartley.checks import require

Scheme = Literal["multinomial", "systematic", "stratified", "residual"]


@numpy_too
def normalize_log_weights(log_weights: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Log-weights whose exponentials sum to one; NaN where all are -inf."""
    return log_weights - torch.logsumexp(log_weights, -1, keepdim=True)


@numpy_too
def effective_sample_size(log_weights: Float[Tensor, "*batch n"], order: float = 2.0) -> Float[Tensor, "*batch"]:
    """How many equal weights would be as good, in [1, n]: exp of the weights' Rényi entropy; 0 if all are -inf.

    Order 2 is Kish's (sum w)^2 / sum w^2; 1 the exponential of the Shannon entropy; inf the reciprocal of the largest.
    """
    require(order > 0, "order", order, "a positive number")
    # A dead row is read as uniform and then set to zero, so that no NaN arises on the way.
    dead = (log_weights == -torch.inf).all(-1, keepdim=True)
    ell = normalize_log_weights(torch.where(dead, 0.0, log_weights))
    if order == 1:
        size = -(ell.exp() * torch.where(ell == -torch.inf, 0.0, ell)).sum(-1)
    elif math.isinf(order):
        size = -ell.amax(-1)
    else:
        size = torch.logsumexp(order * ell, -1) / (1 - order)
    return torch.where(dead.squeeze(-1), 0.0, size.exp())


@numpy_too
def weighted_moments(
    log_weights: Float[Tensor, "*batch n"], values: Float[Tensor, "*batch n d"]
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d d"]]:
    """Mean and covariance of values under self-normalised weights (no small-sample correction)."""
    weights = normalize_log_weights(log_weights).exp()
    mean = (weights[..., None] * values).sum(-2)
    centred = values - mean[..., None, :]
    return mean, torch.einsum("...n,...nd,...ne->...de", weights, centred, centred)


def resample(
    log_weights: Float[Tensor, "*batch n"] | Float[NDArray[Any], "*batch n"],
    size: int | None = None,
    *,
    scheme: Scheme = "systematic",
    generator: torch.Generator | np.random.Generator | None = None,
) -> Any:
    """Draw indices so that item i appears `size * w_i` times on average, whichever the scheme.

    Parameters
    ----------
    log_weights : unnormalised; a row of nothing but -inf, or with NaN or +inf, is refused.
    size : number of draws, default n.
    scheme : "multinomial" draws independently. "stratified" takes one point in each of `size` equal slices,
        "systematic" the same point in each: the least noise as a rule, and item i appears floor or ceil of its mean.
        "residual" gives the floor of the mean outright and draws the rest independently.
    generator : of the library that the weights belong to.

    Returns
    -------
    Indices of shape (*batch, size), in ascending order for all schemes but "multinomial" and "residual".

    Raises
    ------
    ValueError : unknown scheme, a size below 1, or weights without mass.

    Source: Douc, Cappé, Moulines (2005).
    """
    ell = torch.from_numpy(log_weights) if isinstance(log_weights, np.ndarray) else log_weights
    n = ell.shape[-1]
    count = n if size is None else size
    require(count >= 1, "size", size, "at least 1")
    require(
        scheme in ("multinomial", "systematic", "stratified", "residual"),
        "scheme",
        scheme,
        "a resampling scheme's name",
    )
    peak = ell.amax(-1)
    if ell.device.type == "cpu":
        require(bool(peak.isfinite().all()), "log_weights", log_weights, "rows with a finite maximum and no NaN")
    weights = normalize_log_weights(ell.double()).exp()

    def uniform(*shape: int) -> Tensor:
        if isinstance(generator, np.random.Generator):
            return torch.from_numpy(generator.random(shape)).to(ell.device)
        return torch.rand(shape, generator=generator, dtype=torch.float64, device=ell.device)

    batch = tuple(ell.shape[:-1])
    steps = torch.arange(count, dtype=torch.float64, device=ell.device)
    if scheme == "systematic":
        indices = _invert(weights, (uniform(*batch, 1) + steps) / count)
    elif scheme == "stratified":
        indices = _invert(weights, (uniform(*batch, count) + steps) / count)
    elif scheme == "multinomial":
        indices = _invert(weights, uniform(*batch, count))
    else:
        expected = count * weights
        # A mean that is whole but for rounding counts as whole: its residue would else be a spurious 1 - 1e-16.
        whole = (expected + 1e-9).floor()
        residue = (expected - whole).clamp(min=0.0)
        order = whole.cumsum(-1)
        certain = order[..., -1:]
        safe = torch.where(residue.sum(-1, keepdim=True) > 0, residue, 1.0)
        indices = torch.where(
            steps < certain,
            torch.searchsorted(order, steps.expand(*batch, count).contiguous(), right=True).clamp(max=n - 1),
            _invert(safe / safe.sum(-1, keepdim=True), uniform(*batch, count)),
        )
    return indices.numpy() if isinstance(log_weights, np.ndarray) else indices


@numpy_too
def inclusion_probabilities(scores: Float[Tensor, "*batch n"], size: float) -> Float[Tensor, "*batch n"]:
    """Probabilities min(1, c * score) that sum to `size`: the sampling design of given expected size.

    Scores are non-negative; certain inclusions are found exactly, not by iterating. If fewer than `size` scores are
    positive, all of those are certain and the sum falls short.
    """
    n = scores.shape[-1]
    require(0 < size <= n, "size", size, f"a number in (0, {n}]")
    require(bool((scores >= 0).all()), "scores", scores, "numbers >= 0")
    ordered = scores.double().sort(-1, descending=True).values
    tail = ordered.flip(-1).cumsum(-1).flip(-1)  # sum of this and all smaller scores
    certain = torch.arange(n, device=scores.device, dtype=torch.float64)
    # With the k largest certain the others share size - k; the first k at which the next score fits is the solution.
    fits = ordered * (size - certain) <= tail
    k = torch.where(fits.any(-1), fits.int().argmax(-1), n - 1)[..., None]
    scale = (size - k) / tail.gather(-1, k)
    return (
        (scores.double() * scale.nan_to_num(nan=0.0, posinf=torch.finfo(torch.float64).max))
        .clamp(max=1.0)
        .to(scores.dtype)
    )


@numpy_too
def systematic_inclusion(probabilities: Float[Tensor, "n"], start: float) -> Int[Tensor, "size"]:
    """Indices of a systematic sample: item i is in with exactly probability p_i, and the size is sum p up to rounding.

    `start` is a uniform draw in [0, 1); items are taken in the order given.
    """
    require(0 <= start < 1, "start", start, "a number in [0, 1)")
    edges = torch.nn.functional.pad(probabilities.double().cumsum(-1), (1, 0)) - start
    return ((edges[1:] + 1e-12).ceil() > (edges[:-1] + 1e-12).ceil()).nonzero().squeeze(-1)


def _invert(weights: Tensor, points: Tensor) -> Tensor:
    """First index whose cumulative weight exceeds each point; an item of weight zero is never it."""
    total = weights.cumsum(-1)
    last = (weights > 0).to(torch.int8) * torch.arange(1, weights.shape[-1] + 1, device=weights.device)
    index = torch.searchsorted(total.contiguous(), (points * total[..., -1:]).contiguous(), right=True)
    return torch.minimum(index, last.amax(-1, keepdim=True) - 1)
