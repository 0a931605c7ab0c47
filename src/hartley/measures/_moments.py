"""The one pass over logits that every measure of a softmax takes its numbers from.

With u_i = beta (z_i - max z), each row yields

    s = sum exp(u),   a = sum exp(u) u,   b = sum exp(u) u^2

and from them log-partition, entropy and varentropy. No probability tensor is formed: on the CPU float32 rows go through
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
from torch import Tensor

_BLOCK = 1024  # elements whose exponentials stay in the first-level cache
_FLOOR = -87.0  # exp of it is 1.6e-38: below it float32 has no exponential worth adding


def moments(logits: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row maximum m and s, a, b of a matrix of logits (rows, outcomes) at inverse temperatures beta (rows,).

    The maximum has the logits' value; sums are float64 on the CPU's fast path, else float32 (float64 for float64).
    Rows without a finite maximum give NaN, except that +inf logits share the whole mass.
    """
    if logits.device.type == "cpu" and logits.dtype != torch.float64:
        return _moments_compiled(logits, beta)
    return _moments_torch(logits, beta)


def _moments_torch(logits: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    work = torch.promote_types(logits.dtype, torch.float32)
    top = logits.amax(-1).to(work)
    sums = torch.zeros(3, len(logits), dtype=work, device=logits.device)
    for rows, columns in tiles(logits):
        u = logits[rows, columns].to(work, copy=True).sub_(top[rows, None])
        # inf - inf is the maximum itself; -inf would turn 0 * u into NaN.
        u.nan_to_num_(nan=0.0, neginf=10 * _FLOOR).mul_(beta[rows, None].to(work)).clamp_(min=10 * _FLOOR)
        e = u.exp()
        for k in range(3):
            sums[k, rows] += e.sum(-1)
            if k < 2:
                e.mul_(u)
    sums = torch.where((top == -torch.inf) | top.isnan(), torch.nan, sums)
    return top, sums[0], sums[1], sums[2]


def tiles(logits: Tensor) -> Iterator[tuple[slice, slice]]:
    """Blocks of a matrix, small enough that temporaries of a block stay in cache (64 MiB on an accelerator)."""
    rows, outcomes = logits.shape
    budget = 1 << (18 if logits.device.type == "cpu" else 24)
    height = min(rows, 128) if logits.device.type == "cpu" else rows
    width = min(outcomes, max(2048, budget // max(height, 1)))
    for top in range(0, rows, max(height, 1)):
        for left in range(0, outcomes, width):
            yield slice(top, top + height), slice(left, left + width)


def _moments_compiled(logits: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    top = logits.amax(-1).float()
    out = torch.full((3, len(logits)), torch.nan, dtype=torch.float64)
    tops, betas, sums = top.numpy(), beta.to(torch.float32).contiguous().numpy(), out.numpy()

    def slab(rows: slice) -> None:
        values = logits[rows].float().contiguous().numpy()  # no copy for float32
        _moments_rows(values, tops[rows], betas[rows], sums[:, rows])

    over_rows(slab, len(logits), logits.shape[1])
    peak = (top == torch.inf).nonzero().squeeze(-1)
    if len(peak):
        out[:, peak] = torch.stack(_moments_torch(logits[peak], beta[peak])[1:]).double()
    return top, out[0], out[1], out[2]


def over_rows(work: Callable[[slice], None], rows: int, row_size: int) -> None:
    """Run `work` on slabs of rows of at most 4 MiB, on as many threads as torch may use where that pays."""
    threads = torch.get_num_threads()
    height = max(1, min(-(-rows // threads), (1 << 20) // max(row_size, 1)))
    slabs = [slice(start, min(start + height, rows)) for start in range(0, rows, height)]
    if threads == 1 or len(slabs) == 1 or rows * row_size < 1 << 17:
        for rows_of_slab in slabs:
            work(rows_of_slab)
    else:
        list(_pool(threads, os.getpid()).map(work, slabs))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)  # one a process: threads do not survive a fork


_fast: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"contract", "reassoc", "nsz", "arcp"}}


@njit(**_fast)
@no_type_check
def _moments_rows(logits, top, beta, out):
    """exp(u) = 2^k exp(r) with |r| <= log(2)/2: a polynomial for exp(r), k written into the exponent's bits."""
    bits = np.empty(_BLOCK, np.int32)
    power = bits.view(np.float32)
    fraction = np.empty(_BLOCK, np.float32)
    floor = np.float32(_FLOOR)
    for row in range(logits.shape[0]):
        m, scale = top[row], beta[row]
        if not np.isfinite(m):
            continue
        z = logits[row]
        s, a, b = np.float64(0), np.float64(0), np.float64(0)
        for start in range(0, z.size, _BLOCK):
            width = min(_BLOCK, z.size - start)
            for j in range(width):
                u = max((z[start + j] - m) * scale, floor)
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
            s_block, a_block, b_block = np.float32(0), np.float32(0), np.float32(0)
            for j in range(width):
                u = max((z[start + j] - m) * scale, floor)
                e = fraction[j] * power[j]
                s_block += e
                e *= u
                a_block += e
                b_block += e * u
            s += s_block
            a += a_block
            b += b_block
        out[0, row] = s
        out[1, row] = a
        out[2, row] = b
