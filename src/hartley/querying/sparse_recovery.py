"""Sparse misspecified bandits by linear programmes: an l1 fit for good features, optimism for small problems.

For a parameter theta of s non-zero entries, and answers y to queried features Phi that are off by eps at most, let

    theta^ = argmin |theta|_1   subject to   |Phi theta - y|_inf <= eps

Its error h has |Phi h|_inf <= 2 eps, and at most half of its l1 norm lies outside the support, so |h|_1 <= 2 s |h|_inf.
The sensitivity

    kappa = min |Phi h|_inf   over   |h|_inf = 1, |h|_1 <= 2 s

then bounds |h|_inf by 2 eps / kappa, and the gap by 2 eps + 4 s (eps / kappa) max_a |phi_a - phi_chosen|_inf. It takes
d linear programmes, where restricted isometry constants cannot be computed. About s log d rows of random entries are
enough for a kappa that does not fall with d.

Source: the problem is that of Dong and Yang (2023), arXiv 2303.16998; sensitivities are Gautier and Tsybakov's (2011).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from hartley.checks import require, require_between
from hartley.querying.sparse_bandits import (
    Features,
    Query,
    Search,
    ask_all,
    minimise,
    require_problem,
    value_intervals,
)


def l1_fit(
    features: Features, rewards: Float[np.ndarray, " actions"], misspecification: float
) -> Float[np.ndarray, " dim"]:
    """The parameter of least l1 norm whose residuals are at most `misspecification`.

    Raises
    ------
    ValueError : no parameter explains the rewards that well.
    """
    require_between("misspecification", misspecification, 0, closed="left")
    require_problem(features, 1)
    require(len(rewards) == len(features), "rewards", len(rewards), f"one an action, {len(features)}")
    signed = np.hstack([features, -features])
    right = np.concatenate([rewards, -rewards]) + misspecification + 1e-12
    found = minimise(np.ones(signed.shape[1]), np.vstack([signed, -signed]), right, [(0.0, None)] * signed.shape[1])
    if found is None:
        raise ValueError(f"misspecification = {misspecification!r}: expected more, no parameter explains the rewards")
    plus, minus = np.split(found, 2)
    theta: Float[np.ndarray, " dim"] = plus - minus
    return theta


def l1_sensitivity(features: Features, sparsity: int) -> float:
    """kappa of queried features, see the module; 0 where two sparse parameters give the same answers."""
    require_problem(features, sparsity)
    n, dim = features.shape
    signed = np.hstack([features, -features])
    rows = np.block(
        [
            [signed, -np.ones((n, 1))],
            [-signed, -np.ones((n, 1))],
            [np.ones((1, 2 * dim)), np.zeros((1, 1))],
        ]
    )
    right = np.concatenate([np.zeros(2 * n), [2.0 * sparsity]])
    cost = np.append(np.zeros(2 * dim), 1.0)
    least = np.inf
    for j in range(dim):  # by symmetry some largest entry is 1
        limits: list[tuple[float | None, float | None]] = [(0.0, 1.0)] * (2 * dim) + [(0.0, None)]
        limits[j], limits[dim + j] = (1.0, 1.0), (0.0, 0.0)
        found = minimise(cost, rows, right, limits)
        least = min(least, np.inf if found is None else float(found[-1]))
    return least


def l1_search(
    features: Features,
    query: Query,
    sparsity: int,
    misspecification: float,
    *,
    queries: int,
    rng: np.random.Generator,
) -> Search:
    """Query random actions, fit a parameter of least l1 norm, play its best action.

    Parameters
    ----------
    queries : how many different ones; some multiple of s log d.

    Returns
    -------
    The search; its bound is infinite where the sensitivity of the queried features is 0: ask more, or others.

    When not to use: features that are nearly parallel, whose sensitivity is small; then `spanner_search`.
    """
    require_problem(features, sparsity)
    require(1 <= queries <= len(features), "queries", queries, f"1 to {len(features)}, the number of actions")
    queried = np.sort(rng.choice(len(features), queries, replace=False))
    rewards = ask_all(query, queried)
    theta = l1_fit(features[queried], rewards, misspecification)
    action = int((features @ theta).argmax())
    kappa = l1_sensitivity(features[queried], sparsity)
    spread = float(np.abs(features - features[action]).max())
    bound = np.inf if kappa < 1e-12 else misspecification * (2 + 4 * sparsity * spread / kappa)
    return Search(action, queried, rewards, float(bound), theta)


def optimistic_search(
    features: Features,
    query: Query,
    sparsity: int,
    misspecification: float,
    target: float,
    *,
    max_queries: int | None = None,
    size: float = 1.0,
) -> Search:
    """Query the action of the largest possible reward until one that was seen is at most `target` below it.

    Parameters
    ----------
    target : gap at which to stop; at least 2 eps, or it may take all actions.
    max_queries : stop after so many in any case; the bound says what is certain by then.
    size : entries of the parameter lie in [-size, size].

    When not to use: beyond some hundreds of actions and a dozen supports. Each query takes two linear programmes for
    each of their pairs.
    """
    require_between("target", target, 0)
    limit = len(features) if max_queries is None else max_queries
    require(limit >= 1, "max_queries", max_queries, "at least 1")
    queried, rewards = np.empty(0, np.int64), np.empty(0)
    while True:
        _, upper = value_intervals(features, queried, rewards, sparsity, misspecification, size=size)
        possible = upper + misspecification
        possible[queried] = rewards
        if len(queried):
            bound = max(float(possible.max() - rewards.max()), 0.0)
            if bound <= target or len(queried) >= min(limit, len(features)):
                return Search(int(queried[rewards.argmax()]), queried, rewards, bound)
        unseen = possible.copy()
        unseen[queried] = -np.inf
        chosen = int(unseen.argmax())
        queried = np.append(queried, chosen)
        rewards = np.append(rewards, ask_all(query, queried[-1:]))
