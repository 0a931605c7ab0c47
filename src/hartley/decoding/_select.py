"""One selection serves every rule of the form "the outcomes nearest to a centre, until the mass (or count) is there".

Key of an outcome: its distance |z - centre|. Top-p and top-k have the row maximum as centre, locally typical sampling
the logit Z - H of an outcome of average surprisal. The answer is the smallest radius r whose outcomes
{|z - centre| <= r} reach the target, as a band of logits. No sort of the vocabulary: keys are binned by value, and only
the bin in which the target is reached is looked at again, by a weighted quickselect.
"""

from __future__ import annotations

from typing import Literal, no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

from hartley.decoding.bands import Band, check_logits
from hartley.measures import row_statistics
from hartley.measures._moments import exponentials, over_rows, row_maximum

_BINS = 4096
_SPAN = 64.0  # nats covered by the bins; what lies beyond shares the last one


def nearest_until(
    logits: Tensor, centre: Literal["mode", "typical"], target: Tensor | float, *, count: bool = False
) -> Band:
    """Band of the outcomes nearest to the centre that together reach the target.

    Parameters
    ----------
    logits : (..., vocab).
    centre : the largest logit, or that of an outcome whose surprisal is the entropy.
    target : one number or one a row: the share of the softmax's mass to reach, in (0, 1], or with `count` a number of
        outcomes. Beyond what there is every finite logit is kept.

    All outcomes at the final distance are kept.
    """
    batch, vocab = logits.shape[:-1], logits.shape[-1]
    flat = logits.detach().reshape(-1, vocab)
    if flat.device.type == "cpu" and flat.dtype != torch.float64:
        goal = np.empty(len(flat))
        goal[:] = target.reshape(-1).numpy() if isinstance(target, Tensor) else target
        ends = np.empty((2, len(flat)), np.float32)
        over_rows(flat, lambda z, rows: _band_rows(z, centre == "typical", goal[rows], count, ends[:, rows]))
        low, high = torch.from_numpy(ends[0]), torch.from_numpy(ends[1])
        check_logits(low, logits)
    else:
        low, high = _by_sorting(flat, centre, target, count)
    return Band(low.reshape(batch), high.reshape(batch))


def _by_sorting(logits: Tensor, centre: str, target: Tensor | float, count: bool) -> tuple[Tensor, Tensor]:
    stats = row_statistics(logits)
    check_logits(stats.log_partition - stats.maximum, logits)
    z = logits.double()
    middle = (stats.maximum if centre == "mode" else stats.log_partition - stats.entropy).double()[:, None]
    keys = (z - middle).abs()
    weights = (z > -torch.inf).double() if count else z.softmax(-1)
    ordered, order = keys.sort(-1)
    goal = torch.as_tensor(target, dtype=torch.float64, device=logits.device).expand(logits.shape[:1]).reshape(-1, 1)
    first = (weights.gather(-1, order).cumsum(-1) < goal).sum(-1, keepdim=True)
    last = keys.shape[-1] - 1
    radius = torch.where(first > last, torch.inf, ordered.gather(-1, first.clamp(max=last)))
    kept = (keys <= radius) & (keys < torch.inf)
    ends = torch.where(kept, z, torch.inf).amin(-1), torch.where(kept, z, -torch.inf).amax(-1)
    work = torch.promote_types(logits.dtype, torch.float32)
    return ends[0].to(work), ends[1].to(work)


@njit(cache=True, nogil=True)
@no_type_check
def _band_rows(logits, typical, target, count, ends):
    vocab = logits.shape[1]
    weight = np.empty(vocab, np.float32)  # relative to the mode's
    bins = np.empty(vocab, np.int16)
    mass = np.empty(_BINS)
    spare = np.empty(_BINS)
    scratch = np.empty((2, vocab))
    for row in range(logits.shape[0]):
        z = logits[row]
        top = row_maximum(z)
        total = exponentials(z, top, np.float32(1.0), weight)
        ends[0, row], ends[1, row] = np.float32(np.nan), np.float32(np.nan)
        if not (np.isfinite(top) and np.isfinite(total)):
            continue
        c = np.float64(top)
        if typical:  # log-partition minus entropy, that is the mean logit
            c += _mean_below(z, top, weight) / total
        goal = target[row]
        if count:
            for i in range(vocab):
                weight[i] = np.float32(z[i] > -np.inf)
        else:
            goal *= total
        for i in range(vocab):
            bins[i] = np.int16(min(np.abs(np.float64(z[i]) - c) * (_BINS / _SPAN), _BINS - 1.0))
        mass[:] = 0.0
        spare[:] = 0.0
        half = vocab // 2
        for i in range(half):  # two tallies: adding to the same bin twice in a row would wait for itself
            mass[bins[i]] += weight[i]
            spare[bins[half + i]] += weight[half + i]
        if vocab % 2:
            mass[bins[vocab - 1]] += weight[vocab - 1]
        mass += spare
        b, below = 0, 0.0
        while b < _BINS - 1 and below + mass[b] < goal:
            below += mass[b]
            b += 1
        radius = _radius_in_bin(z, c, weight, bins, b, goal - below, scratch[0], scratch[1])
        # Rounded towards the centre, an end keeps what was counted and no more: the logit at the radius is itself one.
        low, high = np.float32(c - radius), np.float32(c + radius)
        ends[0, row] = np.nextafter(low, np.float32(np.inf)) if c - np.float64(low) > radius else low
        ends[1, row] = np.nextafter(high, np.float32(-np.inf)) if np.float64(high) - c > radius else high


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
@no_type_check
def _mean_below(z, top, weight):
    """Sum of weight * (z - top), in float32 by blocks; where the weight is rounding (z = -inf) nothing is added."""
    total = np.float64(0)
    for start in range(0, z.size, 1024):
        values, weights = z[start : start + 1024], weight[start : start + 1024]
        part = np.float32(0)
        for j in range(values.size):
            part += weights[j] * max(values[j] - top, np.float32(-87.0))
        total += part
    return total


@njit(cache=True, nogil=True)
@no_type_check
def _radius_in_bin(z, c, weight, bins, b, goal, keys, weights):
    """Smallest key of a bin at which its weights, in the order of the keys, reach the goal: weighted quickselect."""
    n = 0
    wanted = np.int16(b)
    for start in range(0, z.size, 256):
        block = bins[start : start + 256]
        hits = np.int16(0)
        for i in range(block.size):
            hits += np.int16(block[i] == wanted)
        if hits > 0:
            for i in range(block.size):
                if block[i] == wanted and z[start + i] > -np.inf:
                    keys[n], weights[n] = np.abs(np.float64(z[start + i]) - c), weight[start + i]
                    n += 1
    pivot = np.inf
    while n > 0:
        first, middle, last = keys[0], keys[n // 2], keys[n - 1]
        pivot = max(min(first, middle), min(max(first, middle), last))
        less = equal = 0.0
        for i in range(n):
            if keys[i] < pivot:
                less += weights[i]
            elif keys[i] == pivot:
                equal += weights[i]
        if less < goal <= less + equal:
            break
        below = less >= goal
        if not below:
            goal -= less + equal
        kept = 0
        for i in range(n):
            if (keys[i] < pivot) if below else (keys[i] > pivot):
                keys[kept], weights[kept] = keys[i], weights[i]
                kept += 1
        n = kept
    return pivot
