"""Ordinal patterns: what a series is, read off the order of its values alone.

A window of `order` values, `delay` samples apart, is replaced by the permutation that sorts it. How often each of the
order! permutations occurs is a distribution p, and two numbers describe it: the permutation entropy H(p), and the
statistical complexity C = H * JS(p, uniform), which vanishes for perfect order and for perfect disorder.

The code of a window is its Lehmer code, sum_a d_a (order-1-a)! with d_a = #{b > a: x_b < x_a}; ties therefore keep
their order in time, as a stable sort does. Every comparison runs over a block of windows at once, so that the
compiler turns it into vector instructions.

Sources: Bandt and Pompe (2002); Rosso et al. (2007) for the plane and Martin, Plastino, Rosso (2006) for its bounds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal, no_type_check

import numpy as np
from jaxtyping import Float, Int, Real
from numba import njit
from scipy.special import entr

from hartley.checks import require

Ties = Literal["stable", "drop", "random"]
Missing = Literal["raise", "skip"]

_BLOCK = 2048  # windows coded together: codes and values stay in the first-level cache


@njit(cache=True, nogil=True)
@no_type_check  # the tests' import hook would wrap it, and numba cannot compile the wrapper
def _count(x, order, delay, drop_ties, skip_nan, counts):
    """Add the windows of `x` to `counts`, whose last entry collects the windows that are left out."""
    patterns = len(counts) - 1
    windows = len(x) - delay * (order - 1)
    codes = np.empty(_BLOCK, np.int64)
    for start in range(0, windows, _BLOCK):
        size = min(_BLOCK, windows - start)
        codes[:size] = 0
        weight = patterns
        for a in range(order - 1):
            weight //= order - a
            first = x[start + a * delay : start + a * delay + size]
            for b in range(a + 1, order):
                second = x[start + b * delay : start + b * delay + size]
                for i in range(size):
                    codes[i] += weight if second[i] < first[i] else 0
                if drop_ties:
                    for i in range(size):
                        codes[i] += patterns if second[i] == first[i] else 0
        if skip_nan:
            for a in range(order):
                first = x[start + a * delay : start + a * delay + size]
                for i in range(size):
                    codes[i] += patterns if first[i] != first[i] else 0
        if drop_ties or skip_nan:
            for i in range(size):
                counts[min(codes[i], patterns)] += 1
        else:
            for i in range(size):
                counts[codes[i]] += 1


def ordinal_counts(
    x: Real[np.ndarray, "*batch time"],
    order: int = 5,
    delay: int = 1,
    *,
    ties: Ties = "stable",
    missing: Missing = "raise",
    rng: np.random.Generator | None = None,
) -> Int[np.ndarray, "*batch patterns"]:
    """How often each ordinal pattern occurs in a series, over all overlapping windows.

    Parameters
    ----------
    x : one series or a batch of them; compared as float64.
    order : values a window, 2 to 8.
    delay : samples between two values of a window.
    ties : equal values keep their order in time ("stable"), windows that hold them are left out ("drop"), or they are
        put in a random order that all windows share ("random", needs `rng`).
    missing : NaN is refused ("raise"), or windows that hold one are left out ("skip").

    Returns
    -------
    Counts by Lehmer code; `ordinal_patterns(order)` lists the permutations in the same order.

    Raises
    ------
    ValueError : a series shorter than one window, NaN under "raise", or a parameter out of range.

    When not to use: with fewer than about 5 order! windows the counts say more about their number than about the
    series; the entropy of white noise is then too low by (order! - 1) / (2 windows).
    """
    require(2 <= order <= 8, "order", order, "an integer from 2 to 8")
    require(delay >= 1, "delay", delay, "an integer >= 1")
    require(ties in ("stable", "drop", "random"), "ties", ties, '"stable", "drop" or "random"')
    require(missing in ("raise", "skip"), "missing", missing, '"raise" or "skip"')
    require(ties != "random" or rng is not None, "rng", rng, 'a numpy.random.Generator with ties="random"')
    values = np.ascontiguousarray(x, dtype=np.float64)
    span = delay * (order - 1)
    length = values.shape[-1]
    require(
        length > span,
        "x",
        f"{length} values",
        f"at least {span + 1} of them, one window of order {order}, delay {delay}",
    )
    rows = values.reshape(-1, length)
    if missing == "raise":
        bad = np.isnan(rows)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad.reshape(values.shape))[0])
            raise ValueError(f'x[{", ".join(map(str, at))}] = nan: expected numbers; missing="skip" leaves windows out')
    if rng is not None and ties == "random":
        ranks = np.empty_like(rows)
        for row, rank in zip(rows, ranks, strict=True):
            rank[np.lexsort((rng.permutation(length), row))] = np.arange(length)
            rank[np.isnan(row)] = np.nan
        rows = ranks
    counts = np.zeros((len(rows), math.factorial(order) + 1), np.int64)
    for row, count in zip(rows, counts, strict=True):
        _count(row, order, delay, ties == "drop", missing == "skip", count)
    return counts[:, :-1].reshape(*values.shape[:-1], -1)


def ordinal_patterns(order: int) -> Int[np.ndarray, "patterns order"]:
    """The permutations in the order of `ordinal_counts`: row k holds the rank of each value of a window with code k."""
    require(2 <= order <= 8, "order", order, "an integer from 2 to 8")
    return np.array(list(itertools.permutations(range(order))))


class OrdinalCounter:
    """Ordinal counts of a series that arrives in pieces; any cutting gives the counts of the whole.

    >>> counter = OrdinalCounter(order=3)
    >>> for piece in ([4.0, 7.0], [9.0, 10.0, 6.0], [11.0, 3.0]):
    ...     counter.update(np.array(piece))
    >>> int(counter.counts.sum())
    5
    """

    def __init__(self, order: int = 5, delay: int = 1, *, ties: Ties = "stable", missing: Missing = "raise") -> None:
        require(2 <= order <= 8, "order", order, "an integer from 2 to 8")
        require(ties != "random", "ties", ties, '"stable" or "drop" (a random order needs the whole series)')
        self.order, self.delay, self.ties, self.missing = order, delay, ties, missing
        self.counts = np.zeros(math.factorial(order), np.int64)
        self._tail = np.empty(0)

    def update(self, x: Real[np.ndarray, " time"]) -> None:
        """Add the next values of the series."""
        span = self.delay * (self.order - 1)
        values = np.concatenate([self._tail, x])
        if len(values) > span:
            self.counts += ordinal_counts(values, self.order, self.delay, ties=self.ties, missing=self.missing)
        self._tail = values[-span:]


@dataclass(frozen=True)
class PlanePoint:
    """A distribution's place in the complexity-entropy plane.

    Attributes
    ----------
    entropy : Shannon entropy over its maximum, in [0, 1].
    complexity : Jensen-Shannon statistical complexity, in [0, 1).
    """

    entropy: Float[np.ndarray, "*batch"] | float
    complexity: Float[np.ndarray, "*batch"] | float


def plane_point(counts: Real[np.ndarray, "*batch outcomes"]) -> PlanePoint:
    """Normalised entropy and Jensen-Shannon statistical complexity of counts or probabilities.

    C = H/log N * JS(p, u) / max JS, with u uniform on the N outcomes; outcomes never seen count (Rosso et al. 2007).

    Raises
    ------
    ValueError : fewer than two outcomes, a negative count, or a row that sums to zero.
    """
    values = np.asarray(counts, dtype=np.float64)
    outcomes = values.shape[-1]
    require(outcomes >= 2, "counts", f"{outcomes} outcomes", "at least 2")
    total = values.sum(-1, keepdims=True)
    require(bool((values >= 0).all()), "counts", float(values.min()), "no negative count")
    require(bool((total > 0).all()), "counts", "a row that sums to zero", "at least one count in each row")
    p = values / total
    entropy = _shannon(p)
    divergence = _shannon((p + 1 / outcomes) / 2) - entropy / 2 - math.log(outcomes) / 2
    relative = np.clip(entropy / math.log(outcomes), 0.0, 1.0)
    complexity = np.maximum(relative * divergence / _largest_divergence(outcomes), 0.0)
    return PlanePoint(relative[()], complexity[()])


def entropy_complexity(
    x: Real[np.ndarray, "*batch time"],
    order: int = 5,
    delay: int = 1,
    *,
    ties: Ties = "stable",
    missing: Missing = "raise",
    rng: np.random.Generator | None = None,
) -> PlanePoint:
    """Where a series lies in the complexity-entropy plane; parameters as in `ordinal_counts`."""
    return plane_point(ordinal_counts(x, order, delay, ties=ties, missing=missing, rng=rng))


def permutation_entropy(
    x: Real[np.ndarray, "*batch time"],
    order: int = 5,
    delay: int = 1,
    *,
    normalise: bool = False,
    bias_correction: bool = False,
    ties: Ties = "stable",
    missing: Missing = "raise",
    rng: np.random.Generator | None = None,
) -> Float[np.ndarray, "*batch"] | float:
    """Entropy of the ordinal patterns in nats (Bandt and Pompe 2002).

    Parameters
    ----------
    normalise : divide by its maximum, log order!.
    bias_correction : add the Miller-Madow term (patterns seen - 1) / (2 windows), up to the maximum.
    """
    counts = ordinal_counts(x, order, delay, ties=ties, missing=missing, rng=rng)
    windows = counts.sum(-1)
    require(bool((windows > 0).all()), "x", "no window", "at least one window without ties or missing values")
    maximum = math.log(math.factorial(order))
    entropy: Float[np.ndarray, "*batch"] | float = _shannon(counts / windows[..., None])
    if bias_correction:
        entropy = np.minimum(entropy + ((counts > 0).sum(-1) - 1) / (2 * windows), maximum)
    return entropy / maximum if normalise else entropy


@dataclass(frozen=True)
class Bounds:
    """The two curves between which every distribution lies; each is a pair of arrays, entropy rising.

    Attributes
    ----------
    lower : normalised entropy and least complexity (one outcome stands out, the others are equal).
    upper : normalised entropy and largest complexity (some outcomes empty, one in between, the others equal).
    """

    lower: tuple[Float[np.ndarray, " low"], Float[np.ndarray, " low"]]
    upper: tuple[Float[np.ndarray, " high"], Float[np.ndarray, " high"]]

    def largest(self, entropy: Float[np.ndarray, "*batch"] | float) -> Float[np.ndarray, "*batch"] | float:
        """The largest complexity at a normalised entropy."""
        value: Float[np.ndarray, "*batch"] | float = np.interp(entropy, *self.upper)
        return value

    def least(self, entropy: Float[np.ndarray, "*batch"] | float) -> Float[np.ndarray, "*batch"] | float:
        """The least complexity at a normalised entropy."""
        value: Float[np.ndarray, "*batch"] | float = np.interp(entropy, *self.lower)
        return value


def complexity_bounds(outcomes: int, points: int = 2000) -> Bounds:
    """Bounding curves of the complexity-entropy plane for distributions over `outcomes` outcomes.

    `points` is the number of points on each curve, at least (two on each arc of the upper one).
    Source: Martin, Plastino, Rosso (2006).
    """
    require(outcomes >= 2, "outcomes", outcomes, "an integer >= 2")
    require(points >= 2, "points", points, "an integer >= 2")
    p = np.linspace(1 / outcomes, 1, points)
    lower = _curve(p, np.full(points, outcomes - 1), outcomes)
    arc = max(2, -(-points // (outcomes - 1)))
    equal = np.arange(1, outcomes)[:, None]  # outcomes that share what the odd one leaves
    upper = _curve((np.linspace(0, 1, arc) / (equal + 1)).ravel(), np.repeat(equal, arc), outcomes)
    return Bounds(lower, upper)


def _curve(p: Any, equal: Any, outcomes: int) -> tuple[Any, Any]:
    """Plane points of (p, `equal` times (1 - p)/equal, zeros), sorted by entropy."""
    share = (1 - p) / equal
    entropy = entr(p) + equal * entr(share)
    mixed = entr((p + 1 / outcomes) / 2) + equal * entr((share + 1 / outcomes) / 2)
    mixed += (outcomes - 1 - equal) * entr(0.5 / outcomes)
    maximum = math.log(outcomes)
    complexity = entropy / maximum * (mixed - entropy / 2 - maximum / 2) / _largest_divergence(outcomes)
    rising = np.argsort(entropy, kind="stable")
    return np.clip(entropy[rising] / maximum, 0, 1), np.maximum(complexity[rising], 0)


def _shannon(p: Any) -> Any:
    """Entropy in nats along the last axis."""
    return np.asarray(entr(p)).sum(-1) + 0.0


def _largest_divergence(outcomes: int) -> float:
    """Jensen-Shannon divergence between a certain outcome and the uniform law."""
    n = outcomes
    return -0.5 * ((n + 1) / n * math.log(n + 1) - 2 * math.log(2 * n) + math.log(n))
