"""Least-squares designs from determinantal point processes: repulsive points that are stable with few evaluations.

A projection DPP on a space of dimension m draws m points with density det[K(x_i, x_j)] / m!, K(x, y) = phi(x)·phi(y).
Each point alone has the optimal density k/m, and together they repel. With weights m / k(x_i) and design matrix
G = (1/n) sum_i w_i phi(x_i) phi(x_i)', whose mean is the identity, a fit is stable where lambda_min(G) >= 1 - delta.

    iid            n independent points; needs about m log m
    volume         one DPP and n - m independent points: the fit is unbiased for every function
    repeated_dpp   n / m independent DPPs: the fewest points in practice

Source: Nouy and Michel (2023), arXiv 2312.14057; Dereziński, Warmuth and Hsu (2022) for the decomposition of volume
sampling; Haberstich, Nouy and Perrin (2022) for redrawing and thinning.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, no_type_check

import numpy as np
from jaxtyping import Float, Int
from numba import njit
from numpy import ndarray

from hartley.checks import require, require_between
from hartley.montecarlo.spaces import Empirical, Space, _points, gram

Strategy = Literal["iid", "volume", "repeated_dpp"]


@dataclass(frozen=True)
class Design:
    """Where to evaluate, and how much each evaluation counts.

    Attributes
    ----------
    x : points (candidate numbers for an `Empirical` space).
    weights : m / k(x_i), what each squared residual is multiplied by.
    smallest_eigenvalue : of the design matrix, 1 at best; the stability constant is its reciprocal.
    redraws : designs that were rejected before this one; above 0 the fit is slightly biased.
    stable : the eigenvalue reaches 1 - delta (always true where no delta was asked for).
    """

    x: Any
    weights: Float[ndarray, " n"]
    smallest_eigenvalue: float
    redraws: int
    stable: bool

    def __len__(self) -> int:
        return len(self.weights)


def sample_dpp(space: Space, rng: np.random.Generator) -> Any:
    """One exact draw of the projection DPP of a space: m distinct points, in random order of no meaning.

    Polynomials of one variable go through a random tridiagonal matrix in O(m²). Everything else is drawn point by
    point: proposals from the optimal density, accepted with the share of phi(x) that is orthogonal to the points so
    far; m H_m proposals on average, whatever the number of candidates.

    Source: Gautier, Bardenet and Valko (2021) for both families; Killip and Nenciu (2004) for the matrices.
    """
    own = getattr(space, "sample_dpp", None)
    if own is not None:
        return rng.permutation(own(rng))
    m = space.dimension
    basis, drawn, filled = np.zeros((m, m)), [], 0
    while filled < m:
        size = 2 * m + 8  # of about m log m proposals in all
        x = space.sample_optimal(size, rng)
        kept = _extend(np.ascontiguousarray(_rows(space, x)), rng.random(size), basis, filled)
        filled += int(kept.sum())
        drawn.append(x[kept])
    return _points(drawn)


def projection_dpp(features: Float[ndarray, "candidates m"], rng: np.random.Generator) -> Int[ndarray, " m"]:
    """Rows of a matrix, drawn with probability proportional to their squared determinant.

    For many draws keep `space = Empirical(features)` and call `sample_dpp(space, rng)`: its QR is done once, and each
    draw then costs O(m³ log m) whatever the number of rows.
    """
    return np.asarray(sample_dpp(Empirical(features), rng))


def sample_design(
    space: Space,
    n: int,
    rng: np.random.Generator,
    *,
    strategy: Strategy = "repeated_dpp",
    delta: float | None = None,
    max_redraws: int = 100,
    thin: bool = False,
) -> Design:
    """Points and weights for a least-squares fit in `space`.

    Parameters
    ----------
    n : number of points, at least the dimension m; a multiple of m for "repeated_dpp". Two or three m is a good start.
    strategy : "iid", "volume" or "repeated_dpp", as the module says.
    delta : redraw until the smallest eigenvalue of the design matrix reaches 1 - delta; no function is evaluated for
        that. None draws once, which keeps the fit of "volume" unbiased.
    max_redraws : then the best design so far is returned, with a warning and `stable=False`.
    thin : remove points one by one, the least needed first, while the design stays stable; needs delta.

    Raises
    ------
    ValueError : n below m or not a multiple of it, delta outside (0, 1), dependent features.

    When not to use: one variable and a free choice of points; then Gauss nodes are better than any random design.
    """
    m = space.dimension
    require(n >= m, "n", n, f"at least the dimension {m}")
    require(strategy != "repeated_dpp" or n % m == 0, "n", n, f"a multiple of the dimension {m} for repeated DPPs")
    require(delta is not None or not thin, "thin", thin, "a delta beside it")
    if delta is not None:
        require_between("delta", delta, 0, 1)
    best: Design | None = None
    for redraw in range(max_redraws + 1 if delta is not None else 1):
        if strategy == "iid":
            x = space.sample_optimal(n, rng)
        elif strategy == "volume":
            parts = [sample_dpp(space, rng)] + ([space.sample_optimal(n - m, rng)] if n > m else [])
            x = rng.permutation(_points(parts))
        else:
            x = _points([sample_dpp(space, rng) for _ in range(n // m)])
        weights = m / np.square(space.features(x)).sum(axis=1)
        smallest = float(np.linalg.eigvalsh(gram(space, x, weights))[0])
        if best is None or smallest > best.smallest_eigenvalue:
            best = Design(x, weights, smallest, redraw, delta is None or smallest >= 1 - delta)
        if best.stable:
            break
    assert best is not None
    if not best.stable:
        warnings.warn(
            f"no design of {n} points in {max_redraws + 1} reached a smallest eigenvalue of {1 - (delta or 0):.3g}; "
            f"the best has {best.smallest_eigenvalue:.3g}. Take more points or a larger delta.",
            stacklevel=2,
        )
    return _thin(space, best, delta) if thin and best.stable and delta is not None else best


def fit_weighted(
    space: Space, x: Any, y: Float[ndarray, "n *outputs"], weights: Float[ndarray, " n"]
) -> Float[ndarray, "m *outputs"]:
    """Coefficients of the weighted least-squares fit, by a QR-type solver on sqrt(w_i) phi(x_i).

    Raises
    ------
    ValueError : values that are not finite (how many and the first), or fewer independent rows than coefficients.
    """
    bad = ~np.isfinite(y.reshape(len(y), -1)).all(axis=1)
    require(not bad.any(), "y", f"{bad.sum()} values, first at row {np.argmax(bad)}", "finite values")
    root = np.sqrt(weights)
    scaled = y * root.reshape(-1, *([1] * (y.ndim - 1)))
    coefficients, _, rank, _ = np.linalg.lstsq(space.features(x) * root[:, None], scaled, rcond=None)
    require(rank == space.dimension, "x", f"points of rank {rank}", f"rank {space.dimension} to fix every coefficient")
    return np.asarray(coefficients)


def _thin(space: Space, design: Design, delta: float) -> Design:
    keep = np.arange(len(design))
    smallest = design.smallest_eigenvalue
    while len(keep) > space.dimension:
        rows = space.features(design.x[keep]) * np.sqrt(design.weights[keep] / (len(keep) - 1))[:, None]
        whole = rows.T @ rows
        without = np.linalg.eigvalsh(whole - rows[:, :, None] * rows[:, None, :])[:, 0]
        least = int(np.argmax(without))
        if without[least] < 1 - delta:
            break
        keep, smallest = np.delete(keep, least), float(without[least])
    return Design(design.x[keep], design.weights[keep], smallest, design.redraws, True)


def _rows(space: Space, x: Any) -> Float[ndarray, "n m"]:
    return space.orthonormal[x] if isinstance(space, Empirical) else space.features(x)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
@no_type_check  # the tests' import hook would wrap it, and numba cannot compile the wrapper
def _extend(rows, uniform, basis, filled):
    """Accept rows in turn with probability 1 - |projection on basis|² / |row|²; accepted ones extend the basis."""
    n, m = rows.shape
    kept = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        if filled == m:
            break
        norm = 0.0
        for c in range(m):
            norm += rows[i, c] ** 2
        left, needed = norm, uniform[i] * norm
        for b in range(filled):
            dot = 0.0
            for c in range(m):
                dot += basis[b, c] * rows[i, c]
            left -= dot * dot
            if left <= needed:
                break
        if left <= needed:
            continue
        residual = rows[i].copy()
        for _ in range(2):  # once is not enough for rows near the span
            for b in range(filled):
                dot = 0.0
                for c in range(m):
                    dot += basis[b, c] * residual[c]
                for c in range(m):
                    residual[c] -= dot * basis[b, c]
        basis[filled] = residual / np.sqrt((residual**2).sum())
        filled += 1
        kept[i] = True
    return kept
