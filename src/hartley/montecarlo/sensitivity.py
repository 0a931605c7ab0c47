"""Row sampling that preserves ||Ax||_p for every x: leverage scores, Lewis weights, ℓ_p sensitivities.

For A of n rows a_i and d columns, 1 <= p < infinity:

    leverage      tau_i   = a_i' (A'A)^-1 a_i                       sum = rank
    sensitivity   sigma_i = max_x |a_i x|^p / ||Ax||_p^p            sum = S, between rank and rank^(p/2) for p > 2
    Lewis weight  w_i     = tau_i(W^(1/2 - 1/p) A)                  sum = rank

Row i is kept with probability q_i = min(1, score_i / alpha) and its loss is multiplied by 1 / q_i, so that the sampled
objective is unbiased for every x; heavier rows are kept for sure. The number of rows needed follows S, which for
structured matrices is far below the worst case.

Source: Woodruff and Yasuda (2023), arXiv 2306.00732; Cohen and Peng (2015) for Lewis weights; Munteanu and Omlor
(2024) for the augmented scores. Where p > 2 the combined scores sigma_i / S + t_i / d reach the paper's rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial, prod
from typing import Any, Literal, cast, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from numpy import ndarray
from scipy import linalg, optimize, sparse

from hartley.checks import require, require_between
from hartley.importance import inclusion_probabilities, systematic_inclusion

Scheme = Literal["sensitivity", "combined", "lewis", "leverage", "root_leverage", "l2_augmented", "uniform"]
SCHEMES: tuple[Scheme, ...] = (
    "sensitivity",
    "combined",
    "lewis",
    "leverage",
    "root_leverage",
    "l2_augmented",
    "uniform",
)

Rows = Any
"""Anything with `shape` that gives rows by slices: an array, a memory map, a scipy.sparse matrix, an HDF5 data set."""


@dataclass(frozen=True)
class RowSample:
    """The rows that were kept.

    Attributes
    ----------
    indices : their numbers, increasing.
    weights : 1 / q_i, what each row's loss is multiplied by; scikit-learn calls it `sample_weight`.
    probabilities : inclusion probability of every row, whose sum is the expected size.
    p : the norm. A row itself is scaled by `weights ** (1 / p)`, its loss |a_i x|^p by `weights`.
    """

    indices: Int[ndarray, " kept"]
    weights: Float[ndarray, " kept"]
    probabilities: Float[ndarray, " rows"]
    p: float

    @property
    def row_scale(self) -> Float[ndarray, " kept"]:
        """What each kept row is multiplied by so that its p-th power carries the weight."""
        scale: Float[ndarray, " kept"] = self.weights ** (1 / self.p)
        return scale


def leverage_scores(a: Rows, *, chunk: int = 65536) -> Float[ndarray, " rows"]:
    """How much each row alone determines a least-squares fit.

    Parameters
    ----------
    a : dense, scipy.sparse, or anything sliced by rows that need not fit in memory (two passes are made).
    chunk : rows read at a time.

    Returns
    -------
    Scores in [0, 1] that sum to the rank of `a`. Above `chunk` rows their relative error is about the condition
    number times 1e-16; up to `chunk` rows it is 1e-15.

    Raises
    ------
    ValueError : not a matrix, or entries that are not finite (the first such row is named).
    """
    return _scores(a, None, chunk)


def lewis_weights(
    a: Rows, p: float, *, tol: float = 1e-8, max_iterations: int = 500, chunk: int = 65536
) -> Float[ndarray, " rows"]:
    """ℓ_p Lewis weights: the reweighting under which leverage scores equal the weights.

    Iterates log w += eta (log tau_i(W^(1/2-1/p) A) - log w) with eta = 2p / (p + 2), the step that contracts by
    |p - 2| / (p + 2) for every p; the customary step p / 2 diverges from p = 4 on.

    Parameters
    ----------
    a : see `leverage_scores`.
    tol : largest change of log w at which the iteration ends.

    Returns
    -------
    Weights that sum to the rank; zero rows have weight 0.

    Raises
    ------
    ValueError : p < 1. RuntimeError : `max_iterations` passed without reaching `tol`.
    """
    require_between("p", p, 1, closed="left")
    weights = leverage_scores(a, chunk=chunk)
    alive = weights > 1e-300
    if p == 2:
        return weights
    eta, logs = 2 * p / (p + 2), np.log(np.where(alive, weights, 1.0))
    for _ in range(max_iterations):
        scores = _scores(a, np.where(alive, np.exp((0.5 - 1 / p) * logs), 0.0), chunk)
        step = np.where(alive, np.log(np.where(alive, scores, 1.0)) - logs, 0.0)
        logs += eta * step
        if np.abs(step).max() < tol:
            return np.where(alive, np.exp(logs), 0.0)
    raise RuntimeError(f"Lewis weights did not reach tol = {tol:g} in {max_iterations} iterations; raise one of them")


def lp_sensitivities(
    a: Rows,
    p: float,
    *,
    method: Literal["exact", "sketch"] = "exact",
    sketch_rows: int | None = None,
    tol: float | None = None,
    rng: np.random.Generator | None = None,
    chunk: int = 65536,
) -> Float[ndarray, " rows"]:
    """ℓ_p sensitivities, the largest share of ||Ax||_p^p that one row can take.

    Each is 1 / min{||Ax||_p^p : a_i x = 1}, solved for blocks of rows at once by reweighted least squares with
    Newton steps that are halved until the objective falls; at p = 1 by linear programming. For p = 4, 6 and 8 the
    norm is a polynomial in x, whose coefficients are summed over the rows once.

    Parameters
    ----------
    method : "exact" costs O(n^2 d^2) a sweep, or O(n d^p) for p = 4, 6 and 8 where that is less, and a linear programme
        per row at p = 1. "sketch" measures ||Ax||_p^p on a Lewis sample of `sketch_rows` rows (default 50 d),
        O(n d^2) a sweep and per sketch row: within some 20%.
    tol : relative gap at which a row is done, proved by duality for p > 2 and estimated by the last decrease for p < 2;
        default 1e-9 exact, 0.05 for a sketch.
    rng : draws the sketch; required there.

    Returns
    -------
    Sensitivities in [0, 1]. Each comes from a feasible x, so "exact" errs, if at all, on the low side.

    Raises
    ------
    ValueError : p < 1, a sketch without `rng`, entries that are not finite.

    When not to use: only a sample is wanted and p <= 2; then `leverage_scores` ("l2_augmented") costs one QR.
    """
    require_between("p", p, 1, closed="left")
    require(method in ("exact", "sketch"), "method", method, '"exact" or "sketch"')
    if p == 2:
        return leverage_scores(a, chunk=chunk)
    if method == "exact" and p == 1:
        return _linear_programmes(_whitened(a, _whitening(a, None, chunk)))
    lewis = lewis_weights(a, p, tol=1e-3, chunk=chunk)
    # In the basis that the Lewis weights make orthonormal, a row's own direction is a good start.
    basis = _whitening(a, np.where(lewis > 0, np.maximum(lewis, 1e-300) ** (0.5 - 1 / p), 0.0), chunk)
    if method == "exact":
        reference, weights = _whitened(a, basis), np.ones(a.shape[0])
    else:
        if rng is None:
            raise ValueError("rng = None: expected a numpy Generator, which draws the sketch")
        size = min(sketch_rows or 50 * basis.shape[1], int(np.count_nonzero(lewis)))
        sample = draw_rows(lewis, size, p, rng)
        reference, weights = _whitened(_take(a, sample.indices), basis), sample.weights
    tol = tol if tol is not None else (1e-9 if method == "exact" else 0.05)
    block = max(64, 2**18 // len(reference))
    smallest_norms = _solver(reference, weights, p, tol)
    parts = [smallest_norms(_whitened(part, basis)) for _, part in _chunks(a, block)]
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(1.0, 1 / np.concatenate(parts)))


def row_scores(
    a: Rows,
    p: float,
    scheme: Scheme,
    *,
    method: Literal["exact", "sketch"] = "exact",
    rng: np.random.Generator | None = None,
    chunk: int = 65536,
) -> Float[ndarray, " rows"]:
    """Scores of a sampling scheme, up to a factor.

    Parameters
    ----------
    scheme : "sensitivity" (sigma); "combined" (sigma / S + reweighted leverage / d, p > 2); "lewis"; "leverage";
        "root_leverage" (tau^(p/2), p <= 2); "l2_augmented" (sigma + tau + 1/n, the safest for p <= 2); "uniform".
    method, rng : how sensitivities are computed, see `lp_sensitivities`.
    """
    require(scheme in SCHEMES, "scheme", scheme, f"one of {', '.join(SCHEMES)}")
    n = a.shape[0]
    if scheme == "uniform":
        return np.ones(n)
    if scheme == "lewis":
        return lewis_weights(a, p, chunk=chunk)
    if scheme == "leverage":
        return leverage_scores(a, chunk=chunk)
    if scheme == "root_leverage":
        require(1 <= p <= 2, "p", p, "a number in [1, 2] for root leverage scores")
        return np.asarray(leverage_scores(a, chunk=chunk) ** (p / 2))
    sensitivity = lp_sensitivities(a, p, method=method, rng=rng, chunk=chunk)
    if scheme == "sensitivity":
        return sensitivity
    if scheme == "l2_augmented":
        return np.asarray(sensitivity + leverage_scores(a, chunk=chunk) + 1 / n)
    require(p > 2, "p", p, "a number above 2 for the combined scores")
    reweighted = _scores(a, sensitivity ** (0.5 - 1 / p), chunk)
    return np.asarray(sensitivity / sensitivity.sum() + reweighted / reweighted.sum())


def draw_rows(
    scores: Float[ndarray, " rows"],
    m: float,
    p: float,
    rng: np.random.Generator,
    *,
    exact_size: bool = False,
) -> RowSample:
    """Keep each row independently with its inclusion probability, or by a systematic draw of exactly `m` rows."""
    require(bool(np.isfinite(scores).all()), "scores", scores, "finite numbers >= 0")
    require_between("m", m, 0, int(np.count_nonzero(scores)), closed="right")
    q = inclusion_probabilities(torch.from_numpy(scores), float(m)).numpy()
    if exact_size:
        order = rng.permutation(len(q))
        indices = np.sort(order[systematic_inclusion(torch.from_numpy(q[order]), rng.random()).numpy()])
    else:
        indices = np.flatnonzero(rng.random(len(q)) < q)
    return RowSample(indices, 1 / q[indices], q, p)


def sample_rows(
    a: Rows,
    p: float,
    m: int,
    rng: np.random.Generator,
    *,
    scheme: Scheme = "sensitivity",
    method: Literal["exact", "sketch"] = "exact",
    exact_size: bool = False,
    rounds: int = 1,
    chunk: int = 65536,
) -> RowSample:
    """A few weighted rows that stand for all of them in every ℓ_p regression.

    Parameters
    ----------
    m : expected number of rows; ten times the sum of the sensitivities plus d is a good start, `distortion` checks it.
    scheme, method : see `row_scores`.
    exact_size : a systematic draw of m rows instead of independent ones; unbiased too.
    rounds : with "root_leverage", sample down to m geometrically in that many rounds, each with the scores of the rows
        that are left: reaches about d rows where one round needs n^(1-p/2) d^(p/2).

    Raises
    ------
    ValueError : m larger than the number of rows that matter, unknown scheme, bad entries.

    When not to use: all rows fit and are solved in seconds anyway; or the data are Gaussian-like, where uniform rows do
    as well.
    """
    require(
        rounds >= 1 and (rounds == 1 or scheme == "root_leverage"), "rounds", rounds, "1, or more for root_leverage"
    )
    n = a.shape[0]
    if rounds == 1:
        return draw_rows(
            row_scores(a, p, scheme, method=method, rng=rng, chunk=chunk), m, p, rng, exact_size=exact_size
        )
    kept, q = np.arange(n), np.ones(n)
    for size in np.geomspace(n, m, rounds + 1)[1:]:
        rows = _take(a, kept) * (q[kept] ** (-1 / p))[:, None]
        step = draw_rows(row_scores(rows, p, scheme), min(size, len(kept)), p, rng, exact_size=exact_size and size == m)
        kept, survivors = kept[step.indices], np.zeros(n)
        survivors[kept] = q[kept] * step.probabilities[step.indices]
        q = survivors
    return RowSample(kept, 1 / q[kept], q, p)


def distortion(a: Rows, sample: RowSample, rng: np.random.Generator, *, starts: int = 12, chunk: int = 65536) -> float:
    """Largest found | ||SAx||_p^p / ||Ax||_p^p - 1 | over x: the check that a sample is large enough.

    Gradient search in both directions from the leverage directions of the heaviest rows and of random ones. It is a
    lower bound of the truth; random x alone would hide that uniform sampling loses rare rows.
    """
    rows = _whitened(a, _whitening(a, None, chunk))
    p, kept, weights = sample.p, rows[sample.indices], sample.weights
    heaviest = np.argsort(-np.square(rows).sum(axis=1))[:starts]
    others = rng.choice(len(rows), size=min(starts, len(rows)), replace=False)

    def log_ratio(x: Float[ndarray, " d"], sign: float) -> tuple[float, Float[ndarray, " d"]]:
        norm = float(np.linalg.norm(x))
        if not 1e-100 < norm < 1e100:  # a line search went astray
            return np.inf, np.zeros_like(x)
        full, part = rows @ (x / norm), kept @ (x / norm)
        full_p, part_p = np.abs(full) ** (p - 1), weights * np.abs(part) ** (p - 1)
        whole = full_p @ np.abs(full)
        sampled = part_p @ np.abs(part) + 1e-9 * whole
        gradient = (part_p * np.sign(part)) @ kept / sampled - (full_p * np.sign(full)) @ rows / whole
        return sign * float(np.log(sampled / whole)), sign * p / norm * gradient

    worst = 0.0
    for start in rows[np.concatenate([heaviest, others])]:
        for sign in (-1.0, 1.0):
            x0 = start / max(float(np.linalg.norm(start)), 1e-300)
            found = optimize.minimize(log_ratio, x0, args=(sign,), jac=True, method="L-BFGS-B", options={"maxiter": 60})
            worst = max(worst, abs(float(np.expm1(sign * found.fun))))
    return worst


def _chunks(a: Rows, size: int) -> Iterator[tuple[int, Float[ndarray, "rows d"]]]:
    require(len(getattr(a, "shape", ())) == 2, "a", type(a).__name__, "a matrix with rows and columns")
    rows = cast(Any, a).tocsr() if sparse.issparse(a) else a
    for start in range(0, a.shape[0], size):
        dense = _take(rows, slice(start, start + size))
        bad = ~np.isfinite(dense).all(axis=1)
        require(not bad.any(), "a", f"row {start + int(np.argmax(bad))}", "finite entries in every row")
        yield start, dense


def _take(a: Rows, which: Int[ndarray, " kept"] | slice) -> Float[ndarray, "kept d"]:
    rows = cast(Any, a).tocsr()[which].toarray() if sparse.issparse(a) else a[which]
    return np.asarray(rows, dtype=float)


def _whitening(a: Rows, scale: Float[ndarray, " rows"] | None, chunk: int) -> Float[ndarray, "d rank"]:
    """T such that diag(scale) A T has orthonormal columns: a tall QR in one pass, then an SVD of the small factor."""
    r: ndarray | None = None
    for start, part in _chunks(a, chunk):
        rows = part if scale is None else part * scale[start : start + len(part), None]
        r = np.asarray(np.linalg.qr(rows if r is None else np.vstack([r, rows]), mode="r"))
    if r is None:
        raise ValueError("a has no rows: expected at least one")
    columns = np.linalg.norm(r, axis=0)
    columns[columns == 0] = 1.0
    _, s, v = linalg.svd(r / columns, full_matrices=False)
    keep = s > s.max(initial=0.0) * max(a.shape) * np.finfo(float).eps
    require(bool(keep.any()), "a", "all zero", "a matrix with a nonzero entry")
    whitening: Float[ndarray, "d rank"] = v[keep].T / s[keep] / columns[:, None]
    return whitening


def _whitened(a: Rows, basis: Float[ndarray, "d rank"]) -> Float[ndarray, "rows rank"]:
    return np.concatenate([part @ basis for _, part in _chunks(a, 65536)])


def _scores(a: Rows, scale: Float[ndarray, " rows"] | None, chunk: int) -> Float[ndarray, " rows"]:
    basis = _whitening(a, scale, chunk)
    scores = np.concatenate([np.square(part @ basis).sum(axis=1) for _, part in _chunks(a, chunk)])
    return np.asarray(np.minimum(1.0, scores if scale is None else scores * scale**2))


def _solver(
    rows: Float[ndarray, "n d"],
    weights: Float[ndarray, " n"],
    p: float,
    tol: float,
    max_iterations: int = 200,
) -> Callable[[Float[ndarray, "batch d"]], Float[ndarray, " batch"]]:
    """targets -> min_x sum_j weights_j |rows_j x|^p subject to targets_i x = 1, every i at once; inf for a target 0."""
    d = rows.shape[1]
    upper = np.triu_indices(d)
    if tol > 1e-3:  # a rough answer needs half the digits
        rows, weights = rows.astype(np.float32), weights.astype(np.float32)
    products = rows[:, upper[0]] * rows[:, upper[1]]
    powers = _Monomials(rows, p) if p in (4, 6, 8) else None
    if powers is not None and 2 * powers.size < len(rows):
        products = powers.of_rows(rows, weights).T @ products
        measure = powers.curvature(products, upper)
    else:
        columns = np.ascontiguousarray(rows.T)
        floor = 0.0 if p > 2 else 1e-12 if rows.dtype == np.float64 else 1e-4

        def measure(x: ndarray) -> tuple[ndarray, ndarray]:
            curvature, value = np.empty((len(x), len(rows)), x.dtype), np.empty(len(x))
            _measure(np.ascontiguousarray(x), columns, weights, p - 2, floor, curvature, value)
            return curvature, value

    def smallest_norms(targets: Float[ndarray, "batch d"]) -> Float[ndarray, " batch"]:
        targets = targets.astype(rows.dtype)
        best = np.full(len(targets), np.inf)
        live = np.flatnonzero(np.square(targets).sum(axis=1) > 0)
        x = targets[live] / np.square(targets[live]).sum(axis=1, keepdims=True)
        curvature, value = measure(x)
        longest = 1 / (p - 1) if p > 2 else min(4.0, 1 / max(p - 1, 1e-9))
        for _ in range(max_iterations):
            target = targets[live]
            gram = np.empty((len(live), d, d))
            gram[:, upper[0], upper[1]] = gram[:, upper[1], upper[0]] = curvature @ products
            ridge = 1e-13 * np.trace(gram, axis1=1, axis2=2)
            gram[:, np.arange(d), np.arange(d)] += ridge[:, None]
            z = np.linalg.solve(gram, target[..., None].astype(float))[..., 0].astype(target.dtype)
            energy = 1 / (z * target).sum(axis=1)
            move = energy[:, None] * z - x
            step = np.full((len(live), 1), longest, dtype=target.dtype)
            fresh, trial = measure(x + step * move)
            for _ in range(30):
                worse = np.flatnonzero(trial > value * (1 + 1e-2 * tol))
                if not len(worse):
                    break
                step[worse] /= 2
                fresh[worse], trial[worse] = measure(x[worse] + step[worse] * move[worse])
            # Hölder: the least norm is at least (energy / value)^(p/2) of the present one, for p > 2.
            gap = 1 - (energy / value) ** (p / 2) if p > 2 else (value - trial) / value
            x, curvature = x + step * move, fresh
            value = np.minimum(value, trial)
            going = gap > tol
            best[live[~going]] = value[~going]
            if going.all():
                continue
            live, x, curvature, value = live[going], x[going], curvature[going], value[going]
            if not len(live):
                break
        best[live] = value
        return best

    return smallest_norms


class _Monomials:
    """For even p, sum_j w_j (a_j x)^(p-2) a_j a_j' is a polynomial in x: its coefficients replace the n rows."""

    def __init__(self, rows: Float[ndarray, "n d"], p: float) -> None:
        self.index = np.array(list(combinations_with_replacement(range(rows.shape[1]), int(p) - 2)))
        self.size = len(self.index)

    def of(self, x: Float[ndarray, "batch d"]) -> Float[ndarray, "batch monomials"]:
        value = x[:, self.index[:, 0]]
        for factor in self.index.T[1:]:
            value = value * x[:, factor]
        return value

    def of_rows(self, rows: Float[ndarray, "n d"], weights: Float[ndarray, " n"]) -> Float[ndarray, "n monomials"]:
        """Weighted monomials of the rows, each times its multinomial coefficient."""
        degree = self.index.shape[1]
        orders = [factorial(degree) // prod(factorial(m) for m in Counter(row).values()) for row in self.index.tolist()]
        return np.asarray(weights[:, None] * self.of(rows) * np.array(orders, dtype=rows.dtype))

    def curvature(
        self, products: Float[ndarray, "monomials pairs"], upper: tuple[ndarray, ndarray]
    ) -> Callable[[ndarray], tuple[ndarray, ndarray]]:
        """x -> its monomials, and the objective x' H(x) x."""
        twice = np.where(upper[0] == upper[1], 1, 2).astype(products.dtype)

        def measure(x: ndarray) -> tuple[ndarray, ndarray]:
            monomials = self.of(x)
            pairs = x[:, upper[0]] * x[:, upper[1]] * twice
            return monomials, np.einsum("ij,ij->i", monomials @ products, pairs)

        return measure


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
@no_type_check  # the tests' import hook would wrap it, and numba cannot compile the wrapper
def _measure(x, columns, weights, exponent, floor, curvature, value):
    """curvature = weights |y|^exponent, y = x columns, |y| floored at a share of its maximum; value = sum of it y^2."""
    d, n = columns.shape
    for i in range(len(x)):
        out = curvature[i]
        for a in range(0, n, 512):  # so many stay in the nearest cache
            tile = out[a : a + 512]
            tile[:] = x[i, 0] * columns[0, a : a + 512]
            for k in range(1, d):
                tile += x[i, k] * columns[k, a : a + 512]
        least = out.dtype.type(0)
        if exponent < 0:
            for j in range(n):
                least = max(least, abs(out[j]))
            least *= out.dtype.type(floor)
        total = 0.0
        if exponent == 1:
            for j in range(n):
                square = out[j] * out[j]
                out[j] = weights[j] * abs(out[j])
                total += out[j] * square
        elif exponent == 2:
            for j in range(n):
                square = out[j] * out[j]
                out[j] = weights[j] * square
                total += out[j] * square
        elif exponent == -0.5:
            for j in range(n):
                square = out[j] * out[j]
                out[j] = weights[j] / np.sqrt(max(abs(out[j]), least))
                total += out[j] * square
        else:
            for j in range(n):
                square = out[j] * out[j]
                out[j] = weights[j] * max(abs(out[j]), least) ** exponent
                total += out[j] * square
        value[i] = total


def _linear_programmes(rows: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
    """Sensitivities at p = 1 by duality: 1 / sigma_i = max{l : rows' u = l a_i, |u| <= 1}."""
    n, d = rows.shape
    scores = np.zeros(n)
    for i in np.flatnonzero(np.square(rows).sum(axis=1) > 0):
        solved: Any = optimize.linprog(
            np.append(np.zeros(n), -1.0),
            A_eq=np.hstack([rows.T, -rows[i][:, None]]),
            b_eq=np.zeros(d),
            bounds=[(-1, 1)] * n + [(0, None)],
            method="highs",
        )
        scores[i] = 1 / solved.x[n]
    return np.minimum(scores, 1.0)
