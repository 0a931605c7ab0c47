"""The verifier that reaches the optimum of independent drafts, exactly and at any vocabulary size.

Lay the tokens on [0, 1] by falling p/q, each on an interval of length q. Drafts are then k uniform points, and a rule
that always takes the leftmost of them covers [0, t] with probability g(t) = 1 - (1 - t)^k. A mass M(t) can be accepted
from [0, t], for every t at once, iff M lies below g once sorted (majorisation); the largest that also leaves every
token at most p is a running minimum,

    M(t) = min_{u <= t} [ g(u) + p(u, t) ],          M(1) = α*, the optimum

and M is concave. It remains to draw it. Between M and g fits a chain of lines that touch M and have their corners
on g, greedily from the left. Its pieces have falling slopes σ_1 > σ_2 > ...; piece j is as long as its part of [0, 1].

1. Each draft x, whose slope is h = M'(x) = accepted mass / q(x), draws a piece: h lies between two neighbouring slopes,
   and the draft takes one of those two so that the mean slope is h.
2. The draft with the foremost piece is emitted; among equals, one at random. In the last piece, where the chain stops
   short of g, only with the probability that is still owed.
3. If none is emitted, the residual p - m is.

The chain touches M at every σ_j, so the pieces so drawn have exactly their lengths (the potentials of both laws agree
at each σ_j), the foremost lies in [0, s_j] with probability g(s_j), and token x is emitted with mass q(x) · E σ = m(x).

Source: ours. The optimum is that of Sun et al. (2023) and Hu et al. (2025), who give no verifier that attains it for
independent drafts at real vocabulary sizes.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from hartley.checks import require
from hartley.speculative.decision import Decision, check_target
from hartley.speculative.draft import Draft
from hartley.speculative.optimum import order_by_ratio


def optimal(p: Float[Tensor, "batch vocab"], draft: Draft) -> Decision:
    """Verify independent drafts with the highest acceptance that any lossless rule has.

    Costs one sort of the row and two sweeps, on the CPU (other devices are copied there).

    Raises
    ------
    ValueError : drafts that were not drawn independently.

    When not to use: on long vocabularies with cheap drafts, where `kseq` is ten times faster for a few points less.
    """
    p = check_target(p, draft)
    n = draft.tokens.shape[-1]
    require(draft.law == "with" or n == 1, "law", draft.law, 'independent drafts (law "with")')
    rows_p, rows_q = p.detach().cpu().contiguous().numpy(), draft.q.detach().cpu().contiguous().numpy()
    order = order_by_ratio(rows_p, rows_q)
    mask = draft.mask.cpu().numpy()
    emit, accepted = _decide(rows_p, rows_q, order, draft.tokens.cpu().contiguous().numpy(), mask)

    def residual(rows: Tensor) -> Tensor:
        picked = rows.cpu().numpy()
        return torch.from_numpy(np.maximum(rows_p[picked] - accepted[picked], 0)).to(p.device)

    return Decision(torch.from_numpy(emit).to(p.device), residual)


@njit(cache=True, nogil=True)
@no_type_check
def _covered(t, k):
    return 1 - (1 - t) ** k


@njit(cache=True, nogil=True)
@no_type_check
def accepted_mass(p, q, order, k):
    """Accepted mass of each token, and the corners (t, M) in the order of falling p/q; q = 0 is left out."""
    size = 0
    mass = np.zeros(len(p))
    t, top = np.zeros(len(p) + 1), np.zeros(len(p) + 1)
    in_p, least = 0.0, 0.0
    for j in range(len(p) - 1, -1, -1):
        token = order[j]
        if q[token] == 0:
            continue
        in_p += p[token]
        t[size + 1] = min(t[size] + q[token], 1.0)
        slack = _covered(t[size + 1], k) - in_p
        if slack < least:
            mass[token] = max(p[token] + slack - least, 0.0)
            least = slack
        else:
            mass[token] = p[token]
        # No token can be covered beyond its presence among the drafts; binds only where t + q rounds to t.
        mass[token] = min(mass[token], k * q[token])
        top[size + 1] = in_p + least
        size += 1
    return mass, t[: size + 1], top[: size + 1]


@njit(cache=True, nogil=True)
@no_type_check
def chain(t, top, k):
    """Slopes of the lines that touch M with corners on g, and the probability with which each piece is kept."""
    slopes, keep = np.empty(len(t)), np.empty(len(t))
    size, j, end = 0, 1, len(t) - 1
    s, height, goal = 0.0, 0.0, top[-1]
    while True:
        while j <= end and t[j] <= s + 1e-15:
            j += 1
        if j > end:
            break
        slope = (top[j] - height) / (t[j] - s)
        while j < end and top[j + 1] - height >= slope * (t[j + 1] - s):
            j += 1
            slope = max(slope, (top[j] - height) / (t[j] - s))
        if slope <= 0:
            break
        if size > 0:  # rounding must not let the slopes rise
            slope = min(slope, slopes[size - 1])
        slopes[size] = slope
        stop = s + (goal - height) / slope
        if stop <= 1 + 1e-15 and _covered(min(stop, 1.0), k) >= goal - 1e-15:  # the line reaches α* below g: the last
            gained = _covered(min(stop, 1.0), k) - height
            keep[size] = min((goal - height) / gained, 1.0) if gained > 0 else 1.0
            size += 1
            break
        keep[size] = 1.0
        size += 1
        # The next corner: g - line is concave, Newton falls to its right root from beyond it.
        corner = min(stop, 1.0)
        for _ in range(60):
            above = _covered(corner, k) - height - slope * (corner - s)
            step = above / (k * (1 - corner) ** (k - 1) - slope)
            if not step > 1e-17:
                break
            corner -= step
        s = max(corner, t[j])
        height = _covered(s, k)
    return slopes[:size], keep[:size]


@njit(cache=True, nogil=True)
@no_type_check
def pieces(h, slopes):
    """The piece of slope >= h, the probability of taking it, and that of the next one; -1 where there is none."""
    low, high = 0, len(slopes)
    while low < high:  # number of slopes >= h
        middle = (low + high) // 2
        if slopes[middle] >= h:
            low = middle + 1
        else:
            high = middle
    if len(slopes) == 0:
        return -1, 0.0, 0.0
    if low == 0:
        return 0, 1.0, 0.0
    j = low - 1
    if j + 1 == len(slopes):
        return j, h / slopes[j], 0.0
    share = (h - slopes[j + 1]) / (slopes[j] - slopes[j + 1])
    return j, share, 1 - share


@njit(cache=True, nogil=True)
@no_type_check
def _decide(p, q, order, tokens, alive):
    rows, n = tokens.shape
    emit, accepted = np.zeros((rows, n)), np.zeros(p.shape)
    piece, share = np.empty((n, 2), np.int64), np.empty((n, 2))
    for row in range(rows):
        k = alive[row].sum()
        if k == 0:
            continue
        mass, t, top = accepted_mass(p[row], q[row], order[row], k)
        accepted[row] = mass
        slopes, keep = chain(t, top, k)
        if len(slopes) == 0:
            continue
        for i in range(n):
            if alive[row, i]:
                token = tokens[row, i]
                first, here, after = pieces(mass[token] / q[row, token], slopes)
                piece[i, 0], piece[i, 1], share[i, 0], share[i, 1] = first, first + 1, here, after
        ties = np.empty(n + 1)
        for i in range(n):
            for side in range(2):
                if not alive[row, i] or share[i, side] == 0:
                    continue
                # ties[m]: no other draft lies before this piece and m others lie in it.
                ties[:] = 0.0
                ties[0] = 1.0
                for other in range(n):
                    if other == i or not alive[row, other]:
                        continue
                    same, before = 0.0, 0.0
                    for s in range(2):
                        if piece[other, s] == piece[i, side]:
                            same += share[other, s]
                        elif piece[other, s] < piece[i, side]:
                            before += share[other, s]
                    behind = max(1 - same - before, 0.0)
                    for m in range(n, 0, -1):
                        ties[m] = ties[m] * behind + ties[m - 1] * same
                    ties[0] *= behind
                won = 0.0
                for m in range(n):
                    won += ties[m] / (m + 1)
                emit[row, i] += share[i, side] * won * keep[piece[i, side]]
    return emit, accepted
