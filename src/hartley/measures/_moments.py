"""The one pass over logits that every measure of a softmax takes its numbers from.

With u_i = beta (z_i - max z), each row yields

    s = sum exp(u),   a = sum exp(u) u,   b = sum exp(u) u^2

and from them log-partition Z = beta max z + log s, entropy H = log s - a/s and varentropy
V = b/s - (a/s)^2. No probability tensor is formed: on the CPU float32 rows go through
a compiled loop with its own exponential, everything else through torch in chunks of about a megabyte.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 1024  # elements whose exponentials stay in the first-level cache
_FLOOR = -87.0  # exp of it is 1.6e-38: below it float32 has no exponential worth adding


def statistics(logits: Tensor, beta: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row maximum m, log-partition Z, entropy H and varentropy V of a matrix of logits (rows, outcomes) times beta.

    m is that of the logits themselves; Z, H, V are float32, float64 for float64 logits. Rows without a finite maximum
    give NaN, except that +inf logits share the whole mass.
    """
    if logits.device.type == "cpu" and logits.dtype != torch.float64:
        return _statistics_compiled(logits, beta)
    return _statistics_torch(logits, beta)


def _statistics_torch(logits: Tensor, beta: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    work = torch.promote_types(logits.dtype, torch.float32)
    top = logits.amax(-1).to(work)
    scale = torch.as_tensor(beta, dtype=work, device=logits.device).expand(len(logits))
    sums = torch.zeros(3, len(logits), dtype=work, device=logits.device)
    for rows, columns in tiles(logits):
        u = logits[rows, columns].to(work, copy=True).sub_(top[rows, None])
        # inf - inf is the maximum itself; -inf would turn 0 * u into NaN.
        u.nan_to_num_(nan=0.0, neginf=10 * _FLOOR).mul_(scale[rows, None]).clamp_(min=10 * _FLOOR)
        e = u.exp()
        for k in range(3):
            sums[k, rows] += e.sum(-1)
            if k < 2:
                e.mul_(u)
    s, a, b = torch.where((top == -torch.inf) | top.isnan(), torch.nan, sums)
    mean = a / s
    z = torch.where(top == torch.inf, torch.inf, top * scale + s.log())
    return top, z, (s.log() - mean).clamp_(min=0.0), (b / s - mean * mean).clamp_(min=0.0)


def tiles(logits: Tensor) -> Iterator[tuple[slice, slice]]:
    """Blocks of a matrix, small enough that temporaries of a block stay in cache (64 MiB on an accelerator)."""
    rows, outcomes = logits.shape
    budget = 1 << (18 if logits.device.type == "cpu" else 24)
    height = min(rows, 128) if logits.device.type == "cpu" else rows
    width = min(outcomes, max(2048, budget // max(height, 1)))
    for top in range(0, rows, max(height, 1)):
        for left in range(0, outcomes, width):
            yield slice(top, top + height), slice(left, left + width)


def _statistics_compiled(logits: Tensor, beta: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = len(logits)
    top, out = np.empty(rows, np.float32), np.empty((3, rows), np.float32)
    scale = np.empty(rows, np.float32)
    scale[:] = beta.detach().numpy() if isinstance(beta, Tensor) else beta
    over_rows(logits, lambda values, part: _statistics_rows(values, scale[part], top[part], out[:, part]))
    if not np.isfinite(out[0]).all():  # NaN, +inf or nothing but -inf
        odd = (~np.isfinite(out[0])).nonzero()[0]
        fixed = torch.stack(_statistics_torch(logits[torch.from_numpy(odd)], torch.from_numpy(scale[odd]))).numpy()
        top[odd], out[:, odd] = fixed[0], fixed[1:]
    return torch.from_numpy(top), *map(torch.from_numpy, out)  # type: ignore[return-value]


def over_rows(logits: Tensor, work: Callable[[NDArray[np.float32], slice], None]) -> None:
    """Call `work(rows as float32, which rows)` on slabs of a CPU matrix, on torch's number of threads where that pays.

    Slabs hold at most 4 MiB, so a half-precision matrix is never converted as a whole.
    """
    rows, outcomes = logits.shape
    values = logits.detach().contiguous() if logits.dtype == torch.float32 else None
    array = None if values is None else values.numpy()

    def slab(part: slice) -> None:
        work(logits[part].detach().float().contiguous().numpy() if array is None else array[part], part)

    threads = torch.get_num_threads()
    if rows * outcomes < 1 << 17 or (array is not None and threads == 1):
        slab(slice(0, rows))
        return
    height = max(1, min(-(-rows // threads), (1 << 20) // max(outcomes, 1)))
    parts = [slice(start, min(start + height, rows)) for start in range(0, rows, height)]
    if threads == 1 or len(parts) == 1:
        for part in parts:
            slab(part)
        return
    waiting = [_pool(threads - 1, os.getpid()).submit(slab, part) for part in parts[1:]]
    slab(parts[0])  # this thread works too: handing everything over would only add its waiting
    for future in waiting:
        future.result()


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)  # one a process: threads do not survive a fork


_fast: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"contract", "reassoc", "nsz", "arcp"}}


# Blocks are slices: an index that numba cannot prove non-negative keeps a loop from being vectorised.


@njit(**_fast)
@no_type_check
def _exp_block(z, top, beta, bits, fraction):
    """Write exp(u), u = beta (z - top), as fraction * 2^k: k goes into the exponent's bits, |r| <= log(2)/2."""
    for j in range(z.size):
        u = (z[j] - top) * beta
        u = np.float32(_FLOOR) if u < np.float32(_FLOOR) else u  # noqa: FURB136
        k = np.int32(u * np.float32(1.44269504) - np.float32(0.5))
        r = u - np.float32(k) * np.float32(0.693359375) + np.float32(k) * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4)  # coefficients: Cephes expf
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        fraction[j] = p * r * r + r + np.float32(1.0)
        bits[j] = (k + np.int32(127)) << np.int32(23)


@njit(**_fast)
@no_type_check
def exponentials(z, top, beta, out):
    """Write exp(beta (z - top)) of one float32 row to `out`; returns the sum in float64."""
    bits = np.empty(_BLOCK, np.int32)
    power = bits.view(np.float32)
    fraction = np.empty(_BLOCK, np.float32)
    total = np.float64(0)
    for start in range(0, z.size, _BLOCK):
        block, target = z[start : start + _BLOCK], out[start : start + _BLOCK]
        _exp_block(block, top, beta, bits, fraction)
        part = np.float32(0)
        for j in range(block.size):
            e = fraction[j] * power[j]
            target[j] = e
            part += e
        total += part
    return total


@njit(**_fast)
@no_type_check
def row_moments(z, top, beta):
    """Log-partition, entropy, varentropy of beta times a float32 row with maximum `top`; NaN if that is not finite."""
    bits = np.empty(_BLOCK, np.int32)
    power = bits.view(np.float32)
    fraction = np.empty(_BLOCK, np.float32)
    s, a, b = np.float64(0), np.float64(0), np.float64(0)
    for start in range(0, z.size, _BLOCK):
        block = z[start : start + _BLOCK]
        _exp_block(block, top, beta, bits, fraction)
        s_block, a_block, b_block = np.float32(0), np.float32(0), np.float32(0)
        for j in range(block.size):
            u = (block[j] - top) * beta
            u = np.float32(_FLOOR) if u < np.float32(_FLOOR) else u  # noqa: FURB136 - so NaN stays NaN
            e = fraction[j] * power[j]
            s_block += e
            e *= u
            a_block += e
            b_block += e * u
        s += s_block
        a += a_block
        b += b_block
    if not (np.isfinite(top) and np.isfinite(s)):
        return np.nan, np.nan, np.nan
    mean = a / s
    return top * np.float64(beta) + np.log(s), max(np.log(s) - mean, 0.0), max(b / s - mean * mean, 0.0)


@njit(**_fast)
@no_type_check
def _statistics_rows(logits, beta, top, out):
    for row in range(logits.shape[0]):
        top[row] = row_maximum(logits[row])
        out[0, row], out[1, row], out[2, row] = row_moments(logits[row], top[row], beta[row])


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
@no_type_check
def row_maximum(z):
    """Largest logit of a row without NaN. Four chains, since one waits for itself."""
    n = z.size // 4
    a, b, c, d = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n :]
    top = np.float32(-np.inf)
    for i in range(4 * n, z.size):
        top = max(top, z[i])
    t, u, v, w = top, top, top, top
    for i in range(n):
        t, u, v, w = max(t, a[i]), max(u, b[i]), max(v, c[i]), max(w, d[i])
    return max(max(t, u), max(v, w))


@njit(cache=True, nogil=True)
@no_type_check
def block_maxima(z, length, out):
    """Maximum of each consecutive block of `length` logits (the last may be shorter); there must be no NaN."""
    for block in range(out.size):
        out[block] = row_maximum(z[block * length : (block + 1) * length])
