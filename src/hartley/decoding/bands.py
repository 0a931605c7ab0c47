"""A truncation rule is a band of logits: keep z with low <= z <= high.

Top-H, top-p, min-p, top-k and Mirostat have no upper end; locally typical sampling has both. A band costs two numbers a
row where a mask costs a vocabulary; bands compose by intersection, apply in place, and can be sampled from without ever
being applied. Temperature comes before: rules expect logits that are already divided by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from hartley.measures import row_statistics
from hartley.measures._moments import over_rows

ALL = torch.iinfo(torch.int64).max
"""Value of `Band.ties` that keeps every logit equal to `low`."""


@dataclass(frozen=True)
class Band:
    """The kept set of each row, {i : low <= z_i <= high}, in logit units.

    Attributes
    ----------
    low, high : ends of the band, both kept; -inf and inf where there is none. float32, or float64 for such logits.
    ties : of the logits equal to `low`, how many are kept, those of lowest index first; None keeps all.
    """

    low: Float[Tensor, "*batch"]
    high: Float[Tensor, "*batch"]
    ties: Int[Tensor, "*batch"] | None = None

    @staticmethod
    def above(low: Float[Tensor, "*batch"], ties: Int[Tensor, "*batch"] | None = None) -> Band:
        """A plain threshold: everything from `low` up."""
        return Band(low, torch.full_like(low, torch.inf), ties)

    def __and__(self, other: Band) -> Band:
        """What both keep. Two rules that limit ties at the same threshold keep the fewer."""
        low = torch.maximum(self.low, other.low)
        ties = None
        if self.ties is not None or other.ties is not None:
            limits = [
                torch.where(band.low == low, ALL if band.ties is None else band.ties, ALL) for band in (self, other)
            ]
            ties = torch.minimum(*limits)
        return Band(low, torch.minimum(self.high, other.high), ties)


@dataclass(frozen=True)
class KeptStatistics:
    """What a truncation keeps of each row, computed exactly.

    Attributes
    ----------
    size : number of kept outcomes.
    mass : their probability before renormalisation.
    entropy : of the renormalised distribution q, in nats: the diversity that sampling will have.
    log_likelihood : expected log p of a draw from q under the given logits, in nats.
    """

    size: Int[Tensor, "*batch"]
    mass: Float[Tensor, "*batch"]
    entropy: Float[Tensor, "*batch"]
    log_likelihood: Float[Tensor, "*batch"]


def kept_statistics(logits: Float[Tensor, "*batch vocab"], band: Band) -> KeptStatistics:
    """Size, mass, entropy and expected log-likelihood of what a band keeps."""
    kept = apply_band(logits, band)
    full, part = row_statistics(logits), row_statistics(kept)
    log_mass = part.log_partition - full.log_partition
    # log p = log q + log mass on the kept set.
    return KeptStatistics((kept > -torch.inf).sum(-1), log_mass.exp(), part.entropy, log_mass - part.entropy)


def apply_band(
    logits: Float[Tensor, "*batch vocab"], band: Band, *, filter_value: float = -torch.inf, inplace: bool = False
) -> Float[Tensor, "*batch vocab"]:
    """Logits with everything outside the band set to `filter_value`.

    Parameters
    ----------
    inplace : overwrite `logits` (half the memory traffic) instead of returning a new tensor.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32 and logits.is_contiguous():
        out = logits if inplace else torch.empty_like(logits)
        if not logits.requires_grad:
            low, high, ties = _ends(band, torch.float32)
            flat = logits.view(-1, logits.shape[-1])
            target, fill = out.view(-1, logits.shape[-1]).numpy(), np.float32(filter_value)
            over_rows(flat, lambda z, rows: _apply_rows(z, low[rows], high[rows], ties[rows], fill, target[rows]))
            return out
    dropped = ~kept_mask(logits, band)
    return logits.masked_fill_(dropped, filter_value) if inplace else logits.masked_fill(dropped, filter_value)


def kept_mask(logits: Float[Tensor, "*batch vocab"], band: Band) -> Tensor:
    """The band as a boolean mask."""
    low, high = band.low[..., None], band.high[..., None]
    inside = (logits >= low) & (logits <= high)
    if band.ties is not None:
        tied = logits == low
        inside &= ~tied | (tied.cumsum(-1) <= band.ties[..., None])
    return inside


def sample_band(
    logits: Float[Tensor, "*batch vocab"], band: Band, *, generator: torch.Generator | None = None
) -> Int[Tensor, "*batch"]:
    """Draw from softmax(logits) restricted to the band, by inversion; no mask or filtered copy of the logits is made.

    Returns
    -------
    Indices, int64. A row whose band is empty gives its mode.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    uniform = torch.rand(len(flat), dtype=torch.float64, device=logits.device, generator=generator)
    if logits.device.type == "cpu" and logits.dtype != torch.float64:
        out = torch.empty(len(flat), dtype=torch.int64)
        low, high, ties = _ends(band, torch.float32)
        draws, ids = uniform.numpy(), out.numpy()
        over_rows(flat, lambda z, rows: _sample_rows(z, low[rows], high[rows], ties[rows], draws[rows], ids[rows]))
    else:
        top = flat.amax(-1, keepdim=True)
        weights = torch.where(kept_mask(logits, band).reshape(flat.shape), (flat - top).double().exp(), 0.0)
        weights = torch.where(weights.sum(-1, keepdim=True) > 0, weights, (flat == top).double())
        total = weights.cumsum(-1)
        out = torch.searchsorted(total, (uniform[:, None] * total[:, -1:]), right=True).squeeze(-1)
        out = out.clamp(max=flat.shape[-1] - 1)
    return out.reshape(logits.shape[:-1])


def check_logits(value: Tensor, logits: Tensor) -> None:
    """Refuse logits with NaN, +inf or nothing but -inf, which the caller's `value` (one a row) shows by NaN.

    Not on an accelerator, where looking means waiting for it.
    """
    if value.device.type == "cpu" and np.isnan(value.numpy()).any():
        row = int(value.isnan().reshape(-1).nonzero()[0])
        top = logits.reshape(-1, logits.shape[-1])[row].amax().item()
        raise ValueError(f"logits have maximum {top} in row {row}: expected a finite maximum and no NaN")


def _ends(band: Band, dtype: torch.dtype) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    low, high = (t.detach().to(dtype).reshape(-1).numpy() for t in (band.low, band.high))
    ties = np.full(low.shape, ALL) if band.ties is None else band.ties.reshape(-1).numpy()
    return low, high, ties


@njit(cache=True, nogil=True)
@no_type_check
def _apply_rows(logits, low, high, ties, fill, out):
    for row in range(logits.shape[0]):
        z, result, bottom, top = logits[row], out[row], low[row], high[row]
        equal = 0
        if ties[row] < z.size:
            for i in range(z.size):
                equal += z[i] == bottom
        if equal <= ties[row]:
            for i in range(z.size):
                result[i] = z[i] if (z[i] >= bottom) & (z[i] <= top) else fill
        else:
            left = ties[row]
            for i in range(z.size):
                keep = (z[i] > bottom) & (z[i] <= top)
                if z[i] == bottom and left > 0 and bottom <= top:
                    left -= 1
                    keep = True
                result[i] = z[i] if keep else fill


@njit(cache=True, nogil=True)
@no_type_check
def _sample_rows(logits, low, high, ties, uniform, out):
    for row in range(logits.shape[0]):
        z, bottom, top = logits[row], low[row], high[row]
        peak, mode = -np.inf, 0
        for i in range(z.size):
            if z[i] > peak:
                peak, mode = z[i], i
        out[row] = mode
        total = 0.0
        for attempt in range(2):  # the first pass finds the mass, the second the outcome where the draw falls
            running, left = 0.0, ties[row]
            goal = uniform[row] * total
            for i in range(z.size):
                if (z[i] >= bottom) & (z[i] <= top) and z[i] > -np.inf:
                    if z[i] == bottom:
                        if left <= 0:
                            continue
                        left -= 1
                    running += np.exp(np.float64(z[i]) - np.float64(peak))
                    if attempt == 1:
                        out[row] = i
                        if running > goal:
                            break
            total = running
