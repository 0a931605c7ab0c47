"""The best acceptance that any verifier can reach, for each law of drafts, at real vocabulary sizes.

Emitting one of the drafts is a flow from draft tuples to tokens; its cut is a set H of tokens, and

    α* = 1 + min_H [ p(H) - Q(H) ],     Q(H) = P(all n drafts lie in H),     Q(∅) = 0

For drafts with replacement Q = q(H)^n, without replacement Q is an integral over an exponential race, for rejective
draws it is a ratio of elementary symmetric polynomials. For all three a prefix of the tokens by falling q/p is an
optimal H, so that one sort and one sweep suffice. Greedy drafts have a closed form.

Source: Hu et al. (2025), "Towards Optimal Multi-draft Speculative Decoding" (subset form and prefixes; the race
integral is ours). `optimal_acceptance_subset` and `optimal_acceptance_lp` are oracles for small vocabularies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from hartley.checks import require
from hartley.speculative.draft import check_rows, split_greedy

Array = NDArray[np.float64]
DraftLaw = Literal["with", "without", "greedy", "rejective"]


def optimal_acceptance(
    p: Float[Tensor, "*batch vocab"],
    q: Float[Tensor, "*batch vocab"],
    n: int,
    law: DraftLaw = "with",
) -> Float[Tensor, "*batch"]:
    """Largest probability, over all lossless verifiers, that the emitted token is one of the `n` drafts.

    Parameters
    ----------
    p, q : target and draft rows, both after temperature and truncation.
    law : how the drafts are drawn from q (see `draft`); "rejective" is n independent draws given that they differ.

    Returns
    -------
    One number a row, in [0, 1], on the CPU in float64.

    Raises
    ------
    ValueError : rows that are no probabilities or differ in shape, n < 1, an unknown law.

    When not to use: as a forecast of a whole block or of wall-clock time. It is per position.
    """
    require(p.shape == q.shape, "q", tuple(q.shape), f"the shape of p, {tuple(p.shape)}")
    require(n >= 1, "n", n, "at least one draft")
    require(law in ("with", "without", "greedy", "rejective"), "law", law, "with, without, greedy or rejective")
    p, q = check_rows("p", p).cpu(), check_rows("q", q).cpu()
    batch, vocab = p.shape[:-1], p.shape[-1]
    p, q = p.reshape(-1, vocab), q.reshape(-1, vocab)
    if law == "greedy":
        require(n <= vocab, "n", n, f"at most the vocabulary ({vocab}) for greedy drafts")
        top, rest = split_greedy(q, n)
        # Where the top tokens hold all of q, `rest` is zero and no draft follows them.
        best = (p.gather(-1, top).sum(-1) + torch.minimum(p, rest).sum(-1)).clamp_max(1.0)
        return best.reshape(batch)
    rows_p, rows_q = np.ascontiguousarray(p.detach().numpy()), np.ascontiguousarray(q.detach().numpy())
    order = order_by_ratio(rows_p, rows_q)
    if n == 1 or law == "with":
        best = _with_replacement(rows_p, rows_q, order, n)
    elif law == "rejective":
        best = _rejective(rows_p, rows_q, order, n)
    elif n == 2:
        best = _without_replacement_pairs(rows_p, rows_q, order)
    else:
        best = _without_replacement(rows_p, rows_q, order, n)
    return torch.from_numpy(best).reshape(batch)


def optimal_acceptance_subset(p: Array, probability_inside: Callable[[tuple[int, ...]], float]) -> float:
    """α* by trying every subset H: for any law of drafts over a small vocabulary. O(2^V); an oracle.

    Parameters
    ----------
    probability_inside : H (token ids) -> probability that all drafts lie in H.
    """
    vocab = len(p)
    require(vocab <= 20, "p", vocab, "a vocabulary of at most 20 tokens: 2^V subsets are tried")
    best = 0.0
    for code in range(1, 2**vocab):
        subset = tuple(i for i in range(vocab) if code >> i & 1)
        best = min(best, float(p[list(subset)].sum()) - probability_inside(subset))
    return 1 + best


def optimal_acceptance_lp(p: Array, tuples: Sequence[Sequence[int]], weights: Sequence[float]) -> float:
    """α* by the transport linear program over explicit draft tuples. An oracle for small cases.

    Tuples with the same set of tokens are merged; one variable for each (set, token in it).
    """
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    masses: dict[frozenset[int], float] = {}
    for drafts, weight in zip(tuples, weights, strict=True):
        masses[frozenset(drafts)] = masses.get(frozenset(drafts), 0.0) + weight
    edges = [(s, y) for s, tokens in enumerate(masses) for y in sorted(tokens)]
    rows = [s for s, _ in edges] + [len(masses) + y for _, y in edges]
    columns = [*range(len(edges)), *range(len(edges))]
    incidence = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(masses) + len(p), len(edges))).tocsr()
    bounds = np.concatenate([list(masses.values()), p])
    found = linprog(-np.ones(len(edges)), A_ub=incidence, b_ub=bounds)  # type: ignore[call-overload]  # stubs know no sparse arrays
    return -float(found.fun)


def order_by_ratio(p: Array, q: Array) -> NDArray[np.int64]:
    """Tokens of each row by rising p/q; tokens that are never drafted (q = 0) come last.

    Sorting one integer that holds the leading bits of the ratio and the index is several times faster than an
    indirect sort; an insertion sort then repairs the order among ratios that agree in those bits.
    """
    bits = max(int(p.shape[-1] - 1).bit_length(), 1)
    keys = _ratio_keys(p, q, bits)
    keys.sort(axis=-1)
    unfinished = _unpack(keys, p, q, bits)
    for row in unfinished.nonzero()[0]:
        keys[row] = np.argsort(_ratio(p[row], q[row]), kind="stable")
    return keys


@njit(cache=True, nogil=True)
@no_type_check
def _ratio(p, q):
    ratio = np.empty(len(p))
    for j in range(len(p)):
        ratio[j] = min(p[j] / q[j], 1e308) if q[j] > 0 else np.inf
    return ratio


@njit(cache=True, nogil=True)
@no_type_check
def _ratio_keys(p, q, bits):
    keys = np.empty(p.shape, np.int64)
    clear = ~((np.int64(1) << bits) - 1)
    for row in range(len(p)):
        leading = _ratio(p[row], q[row]).view(np.int64)  # non-negative floats order as their bits do
        for j in range(len(leading)):
            keys[row, j] = (leading[j] & clear) | j
    return keys


@njit(cache=True, nogil=True)
@no_type_check
def _unpack(keys, p, q, bits):
    """Keys to tokens, in place; returns the rows with too many near-ties to insert one by one."""
    mask = (np.int64(1) << bits) - 1
    unfinished = np.zeros(len(keys), np.bool_)
    for row in range(len(keys)):
        moves, lead = 0, np.int64(-1)
        for j in range(keys.shape[1]):
            key = keys[row, j]
            token = key & mask
            keys[row, j] = token
            if key >> bits == lead and q[row, token] > 0:
                i = j
                while i > 0 and moves < 8 * keys.shape[1]:
                    before = keys[row, i - 1]
                    if p[row, before] * q[row, token] <= p[row, token] * q[row, before]:
                        break
                    keys[row, i] = before
                    i -= 1
                    moves += 1
                keys[row, i] = token
            lead = key >> bits
        unfinished[row] = moves >= 8 * keys.shape[1]
    return unfinished


@njit(cache=True, nogil=True)
@no_type_check
def _with_replacement(p, q, order, n):
    best = np.empty(len(p))
    for row in range(len(p)):
        in_p, in_q, least = 0.0, 0.0, 0.0
        for token in order[row]:
            if q[row, token] == 0:
                break  # the rest of the order has q = 0 too
            in_p += p[row, token]
            in_q += q[row, token]
            power = in_q
            for _ in range(n - 1):
                power *= in_q
            least = min(least, in_p - power)
        best[row] = max(1 + least, 0.0)
    return best


@njit(cache=True, nogil=True)
@no_type_check
def _without_replacement_pairs(p, q, order):
    """n = 2 in closed form: Q(H) = Σ_{i in H} q_i (q(H) - q_i) / (1 - q_i)."""
    best = np.empty(len(p))
    for row in range(len(p)):
        in_p, in_q, first, second, least = 0.0, 0.0, 0.0, 0.0, 0.0
        rest, heavy, x_heavy = 0.0, 0.0, 0.0
        for token in order[row]:
            x = q[row, token]
            if x == 0:
                break
            in_p += p[row, token]
            if x > 0.5:  # at most one token, for which 1 - x is the sum of the others
                rest = 0.0
                for other in order[row]:
                    if other != token:
                        rest += q[row, other]
                heavy, x_heavy = x / max(rest, 1e-300), x
            else:
                in_q += x
                first += x / (1 - x)
                second += x * x / (1 - x)
            inside = in_q * first - second
            if heavy > 0:
                inside = inside + x_heavy * first + heavy * in_q if rest > 0 else 1.0  # 1: the only draft there is
            least = min(least, in_p - inside)
        best[row] = max(1 + least, 0.0)
    return best


@njit(cache=True, nogil=True)
@no_type_check
def _rejective(p, q, order, n):
    """Q(H) = e_n(q on H) / e_n(q), e_n the elementary symmetric polynomial."""
    best = np.empty(len(p))
    for row in range(len(p)):
        support = 0
        for token in order[row]:
            support += q[row, token] > 0
        n_row = min(n, support)  # no more distinct drafts than tokens
        inside = np.zeros(n_row + 1)
        inside[0] = 1.0
        for token in order[row]:
            for m in range(n_row, 0, -1):
                inside[m] += inside[m - 1] * q[row, token]
        while inside[n_row] == 0:  # distinct drafts so unlikely that their probability underflows
            n_row -= 1
        whole = inside[n_row]
        inside[1:] = 0.0
        in_p, least = 0.0, 0.0
        for token in order[row]:
            if q[row, token] == 0:
                break
            in_p += p[row, token]
            for m in range(n_row, 0, -1):
                inside[m] += inside[m - 1] * q[row, token]
            least = min(least, in_p - inside[n_row] / whole)
        best[row] = max(1 + least, 0.0)
    return best


@njit(cache=True, nogil=True)
@no_type_check
def _without_replacement(p, q, order, n):
    """Sequential drafts are the n earliest of independent exponential clocks with rates q, hence

    Q(H) = ∫ c exp(-ct) P(at least n clocks of H ring before t) dt,   c = q outside H,

    here by the trapezoid rule in log t, whose error at this step is rounding (checked against enumeration).
    `rung[m, g]` is P(m clocks of H rang before t_g), m < n. Q(H) <= q(H)^n spares most integrals.
    """
    best = np.empty(len(p))
    for row in range(len(p)):
        size = 0
        for token in order[row]:
            size += q[row, token] > 0
        drafts = min(n, size)
        outside = np.zeros(size + 1)  # suffix sums: 1 - cumsum would lose all digits near the full prefix
        for j in range(size - 1, -1, -1):
            outside[j] = outside[j + 1] + q[row, order[row, j]]
        in_p, bound = np.zeros(size + 1), np.zeros(size + 1)
        slowest = 1.0
        for j in range(size):
            in_p[j + 1] = in_p[j] + p[row, order[row, j]]
            bound[j + 1] = in_p[j + 1] - max(1 - outside[j + 1], 0.0) ** drafts
            if bound[j + 1] < 0 and outside[j + 1] > 0:
                slowest = outside[j + 1]
        ahead = bound.copy()  # the least bound from here on
        for j in range(size - 1, -1, -1):
            ahead[j] = min(ahead[j], ahead[j + 1])
        low = math.log(1e-17) / (drafts + 1)  # the integrand falls as t^(n+1) on the left, as exp(-ct) on the right
        high = math.log(min(40 / slowest, 1e12))
        step = 0.125
        times = np.exp(np.arange(low, high + step, step))
        rung = np.zeros((drafts, len(times)))
        rung[0] = 1.0
        rang = np.empty(len(times))
        alive, least = len(times), 0.0
        for j in range(size):
            if ahead[j + 1] - least >= -1e-16:
                break
            x, c = q[row, order[row, j]], outside[j + 1]
            while alive > 0 and rung[:, alive - 1].sum() < 1e-20:  # so late that n clocks have rung for certain
                alive -= 1
            early = max(0, min(alive, int((math.log(1e-3 / max(x, 1e-300)) - low) / step)))
            for g in range(early):
                z = x * times[g]
                rang[g] = z * (1 - z / 2 * (1 - z / 3 * (1 - z / 4 * (1 - z / 5))))
            for g in range(early, alive):
                rang[g] = -math.expm1(-x * times[g])
            for m in range(drafts - 1, 0, -1):
                for g in range(alive):
                    rung[m, g] += rang[g] * (rung[m - 1, g] - rung[m, g])
            for g in range(alive):
                rung[0, g] -= rang[g] * rung[0, g]
            if bound[j + 1] >= least or j + 1 < drafts:
                continue
            inside = 1.0
            if c > 0:
                inside = 0.0
                for g in range(len(times)):
                    fewer = 0.0
                    for m in range(drafts):
                        fewer += rung[m, g]
                    rate = c * times[g]
                    if rate < 40:
                        inside += rate * math.exp(-rate) * max(1 - fewer, 0.0)
                inside = min(inside * step, 1.0)
            least = min(least, in_p[j + 1] - inside)
        best[row] = max(1 + least, 0.0)
    return best
