"""Compiled loops of greedy maximum-entropy selection. Entities of all variables share one numbering."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

_BLOCK = 1024


@njit(cache=True, nogil=True)
@no_type_check
def _xlogx(x):
    return x * np.log(x) if x > 0 else 0.0


@njit(cache=True, nogil=True)
@no_type_check
def gains(items, start, entity, amount, variable, counts, variables):
    """Sum of f(c + a) - f(c) over the entities of each item and variable, f(x) = x log x."""
    out = np.zeros((variables, len(items)))
    for i in range(len(items)):
        for p in range(start[items[i]], start[items[i] + 1]):
            e = entity[p]
            out[variable[e], i] += _xlogx(counts[e] + amount[p]) - _xlogx(counts[e])
    return out


@njit(cache=True, nogil=True)
@no_type_check
def best(gain, code, sizes, totals, sums, utopia, scale, distance):
    """The first item whose addition leaves the best entropies.

    H = log(T + n) - (S + gain) / (T + n), rounded to multiples of 1 / scale unless scale is 0. `code` says which of the
    few distinct sizes n an item has. Items that are out have infinite gain.
    """
    variables, count = gain.shape
    after = np.empty_like(sizes)
    for j in range(variables):
        for u in range(sizes.shape[1]):
            after[j, u] = max(totals[j] + sizes[j, u], 1e-300)
            if after[j, u] == 1e-300:
                after[j, u] = 1.0  # nothing there: H = log 1 - 0
    logs = np.log(after)
    score = np.empty(_BLOCK)
    winner, lowest = 0, np.inf
    for begin in range(0, count, _BLOCK):
        width = min(_BLOCK, count - begin)
        score[:width] = 0.0
        for j in range(variables):
            g, c, log_j, after_j = gain[j, begin : begin + width], code[j, begin : begin + width], logs[j], after[j]
            s, u = sums[j], utopia[j]
            for i in range(width):
                h = log_j[c[i]] - (s + g[i]) / after_j[c[i]]
                if scale > 0:
                    h = np.rint(h * scale) / scale
                score[i] += (h - u) ** 2 if distance else -h
        if distance:
            for i in range(width):
                score[i] = np.sqrt(score[i])  # as the release does: it can tie what the squares do not
        for i in range(width):
            if score[i] < lowest:
                winner, lowest = begin + i, score[i]
    return winner


@njit(cache=True, nogil=True)
@no_type_check
def add(item, start, entity, amount, variable, counts, totals, sums):
    """Put an item into the sample."""
    for p in range(start[item], start[item + 1]):
        e, a = entity[p], amount[p]
        totals[variable[e]] += a
        sums[variable[e]] += _xlogx(counts[e] + a) - _xlogx(counts[e])
        counts[e] += a


@njit(cache=True, nogil=True)
@no_type_check
def update(item, start, entity, amount, variable, counts, by_start, by_item, by_amount, gain):
    """Change the gains of all items that share an entity with one that was just added; that one is out."""
    for p in range(start[item], start[item + 1]):
        e, now = entity[p], counts[entity[p]]
        before = now - amount[p]
        base = _xlogx(before) - _xlogx(now)
        last, change = -1.0, 0.0
        row = gain[variable[e]]
        for q in range(by_start[e], by_start[e + 1]):
            if by_amount[q] != last:
                last = by_amount[q]
                change = base + _xlogx(now + last) - _xlogx(before + last)
            row[by_item[q]] += change
    gain[:, item] = np.inf
