"""Statistics over a sliding window of per-token values, such as entropies along a generated text."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hartley.arrays import numpy_too
from hartley.checks import require


@numpy_too
def windowed(
    values: Float[Tensor, "*batch time"],
    width: int,
    *,
    mask: Bool[Tensor, "*batch time"] | None = None,
    reduce: Literal["mean", "max"] = "mean",
) -> Float[Tensor, "*batch time"]:
    """Mean or maximum over the last `width` positions, this one included; the first ones use what there is.

    Parameters
    ----------
    mask : positions that count. A window with none of them is NaN.

    Raises
    ------
    ValueError : a width below 1 or an unknown reduction.
    """
    require(width >= 1, "width", width, "at least 1")
    require(reduce in ("mean", "max"), "reduce", reduce, '"mean" or "max"')
    counted = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    time = values.shape[-1]
    span = min(width, max(time, 1))
    if reduce == "max":
        padded = torch.nn.functional.pad(torch.where(counted, values, -torch.inf), (span - 1, 0), value=-torch.inf)
        peak = padded.unfold(-1, span, 1).amax(-1)
        return torch.where(_sum_last(counted, span) > 0, peak, torch.nan)
    total = _sum_last(torch.where(counted, values, 0.0), span)
    return (total / _sum_last(counted, span)).to(values.dtype)


@numpy_too
def exponential_average(
    values: Float[Tensor, "*batch time"], decay: float, *, mask: Bool[Tensor, "*batch time"] | None = None
) -> Float[Tensor, "*batch time"]:
    """Exponentially weighted mean of what has been seen so far, without start-up bias; masked positions repeat it.

    `decay` in [0, 1) is the weight of the past; 0 returns the values themselves.
    """
    require(0 <= decay < 1, "decay", decay, "a number in [0, 1)")
    counted = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    total = torch.zeros_like(values[..., 0], dtype=torch.float64)
    weight = torch.zeros_like(total)
    out = torch.empty_like(values)
    for t in range(values.shape[-1]):
        here = counted[..., t]
        total = torch.where(here, decay * total + values[..., t], total)
        weight = torch.where(here, decay * weight + 1, weight)
        out[..., t] = total / weight
    return out


def _sum_last(values: Tensor, width: int) -> Tensor:
    running = values.double().cumsum(-1)  # float64: differences of long float32 sums lose digits
    return running - torch.nn.functional.pad(running, (width, 0))[..., : values.shape[-1]]
