"""K-SEQ: independent drafts, each tried once against p / (ρ q); within 1 - (1 - 1/k)^k of the optimum, at least 63 %.

    accept x_i with probability min(1, p(x_i) / (ρ q(x_i))), i = 1..k; if all fail, emit from
    p_res = [p - min(q, p/ρ) · A/β] / (1-β)^k,     β(ρ) = Σ min(q, p/ρ),     A(ρ) = 1 - (1-β)^k

p_res is a distribution iff A(ρ) <= ρ β(ρ), that is for ρ >= ρ*, and A is largest at ρ*, the root.

Source: Sun et al. (2023), "SpecTr", algorithm 3. The root is found exactly rather than by bisection: between two
neighbouring ratios p/q the sums are P/ρ + Q, so each pass over the rows solves a scalar equation and lands on the
right segment after a few passes.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor

from hartley.checks import require
from hartley.speculative.decision import Decision, check_target
from hartley.speculative.draft import Draft


def kseq_rho(
    p: Float[Tensor, "batch vocab"], q: Float[Tensor, "batch vocab"], k: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """ρ*, from above, and β(ρ*): the probability that one draft is accepted.

    Parameters
    ----------
    p, q : probability rows in float64.
    k : number of drafts of each row, >= 1; the acceptance is 1 - (1 - β)^k.
    """
    if p.device.type == "cpu":
        found = _root_by_segments(p.detach().numpy(), q.detach().numpy(), k.numpy())
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
    return root_by_bisection(p, q, k)


def root_by_bisection(
    p: Float[Tensor, "batch vocab"], q: Float[Tensor, "batch vocab"], k: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The same root by 60 halvings, each one pass over the rows: for devices that numba does not compile for."""
    low, high = torch.ones_like(p[:, 0]), k.to(p.dtype)

    def beta(rho: Tensor) -> Tensor:
        return torch.minimum(q, p / rho.unsqueeze(-1)).sum(-1)

    for _ in range(60):
        middle = (low + high) / 2
        b = beta(middle)
        valid = 1 - (1 - b) ** k <= middle * b
        low, high = torch.where(valid, low, middle), torch.where(valid, middle, high)
    return high, beta(high)


def kseq(p: Float[Tensor, "batch vocab"], draft: Draft) -> Decision:
    """Near-optimal verification of independent drafts in a few passes over the rows.

    Rows may have different numbers of live drafts; each gets its own ρ. A row without any emits from p.

    Raises
    ------
    ValueError : drafts that were not drawn independently.

    When not to use: when drafts are dear and the vocabulary is sorted anyway, `optimal` accepts a few points more.
    """
    p = check_target(p, draft)
    q, n = draft.q, draft.tokens.shape[-1]
    require(draft.law == "with" or n == 1, "law", draft.law, 'independent drafts (law "with")')
    if p.device.type == "cpu":
        arrays = (x.detach().contiguous().numpy() for x in (p, q, draft.tokens, draft.mask))
        emit, rho, share = map(torch.from_numpy, _decide(*arrays))
    else:
        rho, beta = kseq_rho(p, q, draft.count.clamp_min(1))
        ratio = p.gather(-1, draft.tokens) / (rho.unsqueeze(-1) * q.gather(-1, draft.tokens))
        accept = torch.where(draft.mask, ratio.clamp_max(1.0), 0.0)
        stay = torch.cumprod(1 - accept, -1)
        emit = -stay.diff(dim=-1, prepend=torch.ones_like(stay[:, :1]))
        # A/β, whose limit at β = 0 is k; never above ρ, so that rounding cannot make the residual negative.
        share = torch.where(beta > 0, (1 - (1 - beta).clamp_min(0) ** draft.count) / beta.clamp_min(1e-300), rho)
        share = torch.minimum(share, rho)

    def residual(rows: Tensor) -> Tensor:
        if p.device.type == "cpu":
            numbers = (x.detach().numpy() for x in (p, q, rho, share, rows))
            return torch.from_numpy(_residual(*numbers))
        return p[rows] - torch.minimum(q[rows], p[rows] / rho[rows, None]) * share[rows, None]

    return Decision(emit, residual)


@njit(cache=True, nogil=True)
@no_type_check
def _decide(p, q, tokens, alive):
    """Emission probabilities, ρ* and the residual's factor min(A/β, ρ*) of every row."""
    rows, n = tokens.shape
    count = np.empty(rows, np.int64)
    for row in range(rows):
        count[row] = alive[row].sum()
    rho, beta = _root_by_segments(p, q, np.maximum(count, 1))
    emit, share = np.zeros((rows, n)), rho.copy()
    for row in range(rows):
        stay = 1.0
        for i in range(n):
            if alive[row, i]:
                token = tokens[row, i]
                accept = min(p[row, token] / (rho[row] * q[row, token]), 1.0)
                emit[row, i] = stay * accept
                stay *= 1 - accept
        if beta[row] > 0:  # without drafts the share is 0 and the residual p
            share[row] = min((1 - max(1 - beta[row], 0.0) ** count[row]) / beta[row], rho[row])
    return emit, rho, share


@njit(cache=True, nogil=True)
@no_type_check
def _residual(p, q, rho, share, rows):
    left = np.empty((len(rows), p.shape[1]))
    for i, row in enumerate(rows):
        kept, scale = 1 - share[row] / rho[row], share[row]
        target, source, out = p[row], q[row], left[i]
        for j in range(len(out)):
            out[j] = max(target[j] * kept, target[j] - source[j] * scale)
    return left


@njit(cache=True, nogil=True, fastmath=True)
@no_type_check
def _segment_sums(p, q, rho):
    """P = Σ p where p <= ρq and Q = Σ q elsewhere, so that β = P/ρ + Q."""
    below, above = 0.0, 0.0
    for j in range(len(p)):
        low = p[j] <= rho * q[j]
        below += p[j] if low else 0.0
        above += 0.0 if low else q[j]
    return below, above


@njit(cache=True, nogil=True)
@no_type_check
def _root_by_segments(p, q, k):
    rhos, betas = np.empty(len(p)), np.empty(len(p))
    for row in range(len(p)):
        n = k[row]
        # ρβ is concave in ρ and the sums of a segment extend it along a tangent, so the segment's root never passes
        # ρ*: after the first step the iterates rise to it, and the first valid one is it.
        rho = math.sqrt(n)
        for step in range(200):
            below, above = _segment_sums(p[row], q[row], rho)
            beta = below / rho + above
            if step > 0 and 1 - max(1 - beta, 0.0) ** n <= rho * beta:
                break
            low, high = rho if step else 1.0, float(n)
            while True:
                middle = 0.5 * (low + high)
                if middle <= low or middle >= high:
                    break
                b = below / middle + above
                if 1 - max(1 - b, 0.0) ** n <= middle * b:
                    high = middle
                else:
                    low = middle
            rho = high
        rhos[row], betas[row] = rho, beta
    return rhos, betas


def kseq_guarantee(k: int) -> float:
    """K-SEQ's acceptance over the optimum is at least 1 - (1 - 1/k)^k."""
    return -math.expm1(k * math.log1p(-1 / k)) if k > 1 else 1.0
