"""Find a good action when rewards are only nearly linear in features, and the parameter is sparse.

    mu_a = <phi_a, theta> + nu_a,   |nu_a| <= eps,   theta has s entries that are not 0 and |theta| <= 1

The error nu is adversarial: it does not average out, and least squares in d dimensions may amplify it by sqrt(d). Three
searches, by what they promise for the gap between the best action and the one they return:

    support_net_search    2 eps + radius          about C(d, s) (2 sqrt(s) / radius)^s queries
    spanner_search        (8 C s + 2) eps         at most 2 s C(d, 2s) queries, however small eps is
    least_squares_search  2 (1 + sqrt(g)) eps     about d log log d queries, g near d; needs no sparsity

`sparse_recovery` has what serves features that are nearly orthogonal, and an adaptive search for small problems.

Below a gap of s eps exponentially many queries may be needed: see `dense_hard_instance` and `sparse_hard_instance`.

Source: Dong and Yang (2023), arXiv 2303.16998, which proves rates; these are the shortest algorithms that we know to
attain them, or nearly (the paper has poly(s / eps) queries where the spanner has d^(2s)). Least squares: Lattimore,
Szepesvari, Weisz (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linprog

from hartley.checks import require, require_between

Features = Float[np.ndarray, "actions dim"]
Query = Callable[[int], float]
"""Reward of an action; with noise, the mean of as many pulls as bring it below eps."""


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes
    ----------
    action : the recommended one.
    queried, rewards : actions that were asked about, each once, and the answers.
    bound : on the gap to the best action, in units of reward.
    theta : the parameter behind the recommendation, where there is one.
    """

    action: int
    queried: Int[np.ndarray, " queries"]
    rewards: Float[np.ndarray, " queries"]
    bound: float
    theta: Float[np.ndarray, " dim"] | None = None


def support_net(features: Features, sparsity: int, radius: float) -> Int[np.ndarray, " net"]:
    """Actions such that for each s coordinates, every action has a net action within `radius` in these coordinates.

    For each support, space is cut into cubes of diagonal `radius`, and the first action in each occupied cube is taken.
    """
    require_problem(features, sparsity)
    require_between("radius", radius, 0)
    cells = np.floor(features / (radius / np.sqrt(sparsity)))
    cells -= cells.min(axis=0)
    widths = cells.max(axis=0) + 1
    net = [np.empty(0, np.int64)]
    for support in combinations(range(features.shape[1]), sparsity):
        key, span = np.zeros(len(features)), 1.0
        for j in support:
            if span * widths[j] > 2**52:  # too many cubes for one number: rank those that are occupied
                _, rank = np.unique(key, return_inverse=True)
                key, span = rank.astype(float), float(len(features))
            key, span = key * widths[j] + cells[:, j], span * widths[j]
        net.append(np.unique(key, return_index=True)[1])
    return np.unique(np.concatenate(net))


def support_net_search(
    features: Features, query: Query, sparsity: int, misspecification: float, *, radius: float | None = None
) -> Search:
    """Query a support net and return the best action seen: a gap of at most 2 eps + radius.

    Parameters
    ----------
    misspecification : eps, the largest error of the linear model.
    radius : of the net; eps where None.

    When not to use: with many good actions, where as many random queries find one as well; with s beyond 3, where the
    net is most of the actions.
    """
    require_between("misspecification", misspecification, 0, closed="left")
    radius = misspecification if radius is None else radius
    net = support_net(features, sparsity, radius)
    rewards = ask_all(query, net)
    return Search(int(net[rewards.argmax()]), net, rewards, 2 * misspecification + radius)


def barycentric_spanner(features: Features, ratio: float = 2.0) -> Int[np.ndarray, " rank"]:
    """Actions of which every action is a combination with coefficients in [-ratio, ratio].

    Awerbuch and Kleinberg (2008): swap actions in while that enlarges the determinant by more than `ratio`.
    """
    require_between("ratio", ratio, 1)
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    rank = int((singular > 1e-10 * max(singular[0], 1e-300)).sum()) if singular[0] > 0 else 0
    points = left[:, :rank] * singular[:rank]  # coordinates in the span: coefficients are the same
    basis, chosen = np.eye(rank) * singular[rank - 1 : rank], np.full(rank, -1)
    for i in range(rank):
        volumes = np.abs(points @ np.linalg.inv(basis)[:, i])
        chosen[i] = volumes.argmax()
        basis[i] = points[chosen[i]]
    while rank:
        coefficients = np.abs(points @ np.linalg.inv(basis))
        action, i = np.unravel_index(coefficients.argmax(), coefficients.shape)
        if coefficients[action, i] <= ratio:
            break
        chosen[i] = action
        basis[i] = points[action]
    return chosen


def spanner_queries(features: Features, sparsity: int, ratio: float = 2.0) -> Int[np.ndarray, " queries"]:
    """The union of barycentric spanners over all sets of min(2 s, d) coordinates.

    Two s-sparse parameters that agree with the answers to within eps differ by at most 4 ratio s eps on any action.
    """
    require_problem(features, sparsity)
    size = min(2 * sparsity, features.shape[1])
    spanners = [barycentric_spanner(features[:, list(s)], ratio) for s in combinations(range(features.shape[1]), size)]
    return np.unique(np.concatenate(spanners))


def sparse_chebyshev_fit(
    features: Features, rewards: Float[np.ndarray, " actions"], sparsity: int
) -> tuple[Float[np.ndarray, " dim"], float]:
    """The s-sparse parameter with the smallest largest residual, and that residual: a linear programme each support."""
    require_problem(features, sparsity)
    require(len(rewards) == len(features), "rewards", len(rewards), f"one an action, {len(features)}")
    best, least = np.zeros(features.shape[1]), float(np.abs(rewards).max())
    ones = np.ones((len(features), 1))
    for support in map(list, combinations(range(features.shape[1]), sparsity)):
        part = features[:, support]
        limits: list[tuple[float | None, float | None]] = [(None, None)] * sparsity + [(0.0, None)]
        rows, right = np.block([[part, -ones], [-part, -ones]]), np.concatenate([rewards, -rewards])
        found = minimise(np.append(np.zeros(sparsity), 1.0), rows, right, limits)
        if found is not None and found[-1] < least:
            best, least = np.zeros(features.shape[1]), float(found[-1])
            best[support] = found[:-1]
    return best, least


def spanner_search(
    features: Features, query: Query, sparsity: int, misspecification: float, *, ratio: float = 2.0
) -> Search:
    """Query the spanners, fit a sparse parameter in the largest residual, play its best action.

    Raises
    ------
    ValueError : more than a million sets of 2 s coordinates, or rewards that no s-sparse parameter explains to within
        `misspecification`, which is then too small, or `sparsity` is.
    """
    require_between("misspecification", misspecification, 0, closed="left")
    require_problem(features, sparsity)
    sets = comb(features.shape[1], min(2 * sparsity, features.shape[1]))
    require(sets <= 10**6, "sparsity", sparsity, f"few enough coordinates: {sets} spanners are too many")
    queried = spanner_queries(features, sparsity, ratio)
    rewards = ask_all(query, queried)
    theta, residual = sparse_chebyshev_fit(features[queried], rewards, sparsity)
    require(
        residual <= misspecification * (1 + 1e-6) + 1e-9,
        "misspecification",
        misspecification,
        f"at least {residual:.6g}, the residual of the best sparse fit",
    )
    bound = (8 * ratio * sparsity + 2) * misspecification
    return Search(int((features @ theta).argmax()), queried, rewards, bound, theta)


def g_optimal_design(
    features: Features, *, tolerance: float = 0.05, max_steps: int = 10_000
) -> Float[np.ndarray, " actions"]:
    """Weights of actions under which the largest leverage is at most (1 + tolerance) times the rank, its least value.

    Fedorov's algorithm with away steps (Kiefer and Wolfowitz: this also maximises the determinant).
    """
    require_between("tolerance", tolerance, 0)
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    rank = int((singular > 1e-10 * singular[0]).sum())
    points = left[:, :rank]
    start = barycentric_spanner(features)
    weights = np.zeros(len(features))
    weights[start] = 1 / len(start)
    for _ in range(max_steps):
        inverse = np.linalg.inv(points.T @ (weights[:, None] * points))
        leverage = np.einsum("ai,ij,aj->a", points, inverse, points)
        up = int(leverage.argmax())
        held = np.flatnonzero(weights)
        down = int(held[leverage[held].argmin()])
        if leverage[up] <= (1 + tolerance) * rank:
            break
        if leverage[up] - rank >= rank - leverage[down]:
            step = (leverage[up] / rank - 1) / (leverage[up] - 1)
            weights *= 1 - step
            weights[up] += step
        else:
            step = min((1 - leverage[down] / rank) / (leverage[down] - 1), 1.0) if leverage[down] > 1 else 1.0
            step = min(step, weights[down] / (1 - weights[down]))
            weights *= 1 + step
            weights[down] = max(weights[down] - step, 0.0)
    return weights / weights.sum()


def least_squares_search(
    features: Features, query: Query, misspecification: float, *, tolerance: float = 0.05
) -> Search:
    """The dense baseline: query the support of a G-optimal design, weighted least squares, play the best action."""
    require_problem(features, 1)
    require_between("misspecification", misspecification, 0, closed="left")
    weights = g_optimal_design(features, tolerance=tolerance)
    queried = np.flatnonzero(weights > 1e-6)
    rewards = ask_all(query, queried)
    root = np.sqrt(weights[queried] / weights[queried].sum())
    theta = np.linalg.lstsq(root[:, None] * features[queried], root * rewards, rcond=None)[0]
    gram = np.linalg.pinv(features[queried].T @ (root[:, None] ** 2 * features[queried]))
    leverage = float(np.einsum("ai,ij,aj->a", features, gram, features).max())
    bound = 2 * (1 + np.sqrt(leverage)) * misspecification
    return Search(int((features @ theta).argmax()), queried, rewards, float(bound), theta)


def value_intervals(
    features: Features,
    queried: Int[np.ndarray, " queries"],
    rewards: Float[np.ndarray, " queries"],
    sparsity: int,
    misspecification: float,
    *,
    actions: Int[np.ndarray, " some"] | None = None,
    size: float = 1.0,
) -> tuple[Float[np.ndarray, " some"], Float[np.ndarray, " some"]]:
    """Lowest and highest linear value of each action over all s-sparse parameters that the answers allow.

    Parameters
    ----------
    actions : which; all where None.
    size : entries of the parameter lie in [-size, size].

    Raises
    ------
    ValueError : no such parameter explains the answers.

    Two linear programmes for each action and support: for small problems, and to certify any search. An action's true
    reward lies within eps of its interval.
    """
    require_problem(features, sparsity)
    require_between("misspecification", misspecification, 0, closed="left")
    require_between("size", size, 0)
    chosen = features if actions is None else features[actions]
    lower, upper = np.full(len(chosen), np.inf), np.full(len(chosen), -np.inf)
    right = np.concatenate([rewards + misspecification, misspecification - rewards])
    for support in map(list, combinations(range(features.shape[1]), sparsity)):
        part = features[queried][:, support]
        rows = np.concatenate([part, -part])
        box: list[tuple[float | None, float | None]] = [(-size, size)] * sparsity
        if minimise(np.zeros(sparsity), rows, right, box) is None:
            continue  # no parameter of this support explains the answers
        for i, direction in enumerate(chosen[:, support]):
            ends = [minimise(sign * direction, rows, right, box) for sign in (1.0, -1.0)]
            values = [float(direction @ end) for end in ends if end is not None]
            lower[i], upper[i] = min([lower[i], *values]), max([upper[i], *values])
    require(bool(np.isfinite(lower).all()), "rewards", "unexplained", "answers of some sparse parameter to within eps")
    return lower, upper


@dataclass(frozen=True)
class HardInstance:
    """Rewards that are 0 but for one hidden action, and linear to within `misspecification` whichever that is.

    Attributes
    ----------
    features : of the actions.
    misspecification : eps; the gap over it is what no search reaches without finding the hidden action.
    gap : reward of the hidden action.
    """

    features: Features
    misspecification: float
    gap: float

    def theta(self, hidden: int) -> Float[np.ndarray, " dim"]:
        """The parameter that explains the rewards if `hidden` is the good action."""
        return self.gap * self.features[hidden]

    def rewards(self, hidden: int) -> Float[np.ndarray, " actions"]:
        """All rewards if `hidden` is the good action."""
        return np.where(np.arange(len(self.features)) == hidden, self.gap, 0.0)


def dense_hard_instance(actions: int, dim: int, rng: np.random.Generator, *, gap: float = 1.0) -> HardInstance:
    """Random unit vectors: eps is their coherence times the gap."""
    require(actions >= 2, "actions", actions, "at least 2")
    require(dim >= 2, "dim", dim, "at least 2")
    features = rng.standard_normal((actions, dim))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    overlaps = np.abs(features @ features.T)
    np.fill_diagonal(overlaps, 0)
    return HardInstance(features, gap * float(overlaps.max()), gap)


def sparse_hard_instance(
    sparsity: int, dim: int, overlap: int, rng: np.random.Generator, *, tries: int = 3000, gap: float = 1.0
) -> HardInstance:
    """Indicators of sets of s coordinates, out of `tries` random ones those that pairwise share at most `overlap`.

    Each parameter is s-sparse, eps is gap overlap / s. With overlap = s^(1 - delta) the gap is s^delta eps.
    """
    require(1 <= sparsity <= dim, "sparsity", sparsity, f"1 to {dim}")
    require(0 <= overlap < sparsity, "overlap", overlap, f"0 to {sparsity - 1}")
    sets = rng.random((tries, dim)).argsort(axis=1) < sparsity
    kept = np.empty((0, dim))
    for candidate in sets.astype(float):
        if (kept @ candidate <= overlap).all():
            kept = np.vstack([kept, candidate])
    shared = kept @ kept.T
    np.fill_diagonal(shared, 0)
    return HardInstance(kept / np.sqrt(sparsity), gap * float(shared.max()) / sparsity, gap)


def minimise(
    cost: Float[np.ndarray, " unknowns"],
    rows: Float[np.ndarray, "constraints unknowns"],
    right: Float[np.ndarray, " constraints"],
    limits: list[tuple[float | None, float | None]],
) -> Float[np.ndarray, " unknowns"] | None:
    """A linear programme with rows @ x <= right; None where that has no solution."""
    found: Any = linprog(cost, rows, right, bounds=limits)
    return np.asarray(found.x) if found.status == 0 else None


def ask_all(query: Query, actions: Int[np.ndarray, " queries"]) -> Float[np.ndarray, " queries"]:
    rewards = np.array([query(int(action)) for action in actions], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(rewards))
    require(len(bad) == 0, "query", rewards[bad[:1]].tolist(), "a finite reward of each action")
    return rewards


def require_problem(features: Features, sparsity: int) -> None:
    require(len(features) > 0, "features", features.shape, "at least one action")
    require(bool(np.isfinite(features).all()), "features", "not finite", "finite features")
    require(1 <= sparsity <= features.shape[1], "sparsity", sparsity, f"1 to {features.shape[1]}, the dimension")
