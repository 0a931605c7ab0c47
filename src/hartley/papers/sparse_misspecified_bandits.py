"""Misspecified linear bandits with a sparse parameter: what sparsity buys, in queries and in the gap that is left."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    import numpy as np

    from hartley.labs.exploration import ArmsLab

paper = Paper(
    slug="sparse-misspecified-bandits",
    title="Does Sparsity Help in Learning Misspecified Linear Bandits?",
    published=date(2023, 3, 29),
    authors=2,
    arxiv="2303.16998",
    room="querying",
    methods=["hartley.querying.sparse_bandits"],
    topics=["bandits", "sparsity", "misspecification"],
    lab="hartley.labs.exploration:ArmsLab",
    summary="Finds a near-optimal arm when rewards are linear in features only up to an adversarial error eps. With a "
    "parameter of s non-zero entries a gap of order eps takes about (d / eps)^s queries, and a gap of order s eps a "
    "number of queries that does not depend on eps.",
    usage="from hartley.querying import support_net_search\n\n"
    "found = support_net_search(features, pull, sparsity=2, misspecification=0.1)\n"
    "found.action, found.bound",
)


@paper.claim(
    "At sparsity 2 the queries for a gap of 3 eps grow no faster than the square of 1 / eps",
    published="O(eps^-s d^s) queries suffice for a gap of O(eps) (theorem)",
    metric="slope of log queries over log(1 / eps), eps from .4 to .1, adversarial error",
    unit="power",
    better="lower",
    margin=0.0,
    axes=("log10 of 1 / eps", "log10 of queries"),
)
def rate_in_eps(lab: ArmsLab, seed: int) -> Trial:
    """All sparsities are drawn; the gap is checked against 3 eps on the way."""
    import numpy as np

    from hartley.querying import support_net_search

    curves: dict[str, tuple[list[float], list[float]]] = {}
    worst = 0.0
    for sparsity in (1, 2, 3):
        counts = []
        for eps in (0.4, 0.2, 0.1):
            features, rewards = lab.arms_of(np.random.default_rng(seed), sparsity, eps)
            found = support_net_search(features, lambda a, r=rewards: r[a], sparsity, eps)  # type: ignore[misc]
            counts.append(len(found.queried))
            worst = max(worst, float(rewards.max() - rewards[found.action]) / eps)
        curves[f"s = {sparsity}"] = (list(-np.log10([0.4, 0.2, 0.1])), list(np.log10(counts)))
    return Trial(
        method=float(np.polyfit(*curves["s = 2"], 1)[0]),
        baselines={"theorem": 2.0},
        curves=curves,
        details={"worst gap over eps": worst},
    )


@paper.claim(
    "At sparsity 2 the queries for a gap of 3 eps grow no faster than the square of the dimension",
    published="O(eps^-s d^s) queries suffice for a gap of O(eps) (theorem)",
    metric="slope of log queries over log dimension, 4 to 16, eps = .2",
    unit="power",
    better="lower",
    margin=0.0,
    axes=("log10 of the dimension", "log10 of queries"),
)
def rate_in_dimension(lab: ArmsLab, seed: int) -> Trial:
    """Arms fill the ball less densely as the dimension grows; queries can only fall short of the rate."""
    import numpy as np

    from hartley.querying import support_net

    dims = [4, 8, 16]
    counts = [len(support_net(lab.arms_of(np.random.default_rng(seed), 2, 0.2, dim=dim)[0], 2, 0.2)) for dim in dims]
    line = (list(np.log10(dims)), list(np.log10(counts)))
    return Trial(method=float(np.polyfit(*line, 1)[0]), baselines={"theorem": 2.0}, curves={"s = 2": line})


@paper.claim(
    "The arm that a support net finds is better than the best of as many random arms",
    published="",
    metric="gap to the best arm over eps, s = 2, eps = .1, adversarial error",
    unit="eps",
    better="lower",
    margin=0.0,
    seeds=(8, 24),
    axes=("share of the queries", "gap over eps"),
)
def net_against_chance(lab: ArmsLab, seed: int) -> Trial:
    """The cheap competitor; lines show the best arm seen so far, the net's queries in random order."""
    import numpy as np

    from hartley.querying import support_net

    rng = np.random.default_rng(seed)
    features, rewards = lab.arms_of(rng, 2, 0.1)
    net = rng.permutation(support_net(features, 2, 0.1))
    chance = rng.choice(len(features), len(net), replace=False)
    at = np.linspace(0.02, 1, 25)
    gaps = {
        name: (rewards.max() - np.maximum.accumulate(rewards[order])) / 0.1
        for name, order in (("support net", net), ("random", chance))
    }
    return Trial(
        method=float(gaps["support net"][-1]),
        baselines={"random arms": float(gaps["random"][-1])},
        curves={name: (list(at), list(gap[(at * (len(gap) - 1)).astype(int)])) for name, gap in gaps.items()},
        details={"queries": float(len(net))},
    )


@paper.claim(
    "Spanner queries and a sparse fit lose less to adversarial errors than least squares, the lasso or chance",
    published="a gap of order s eps is reachable where least squares has eps sqrt(d) (theorem; prior work)",
    metric="gap to the best arm over eps; d = 12, s = 1, eps = .1, 3000 arms, a tenth of them lowered",
    unit="eps",
    better="lower",
    margin=0.0,
    seeds=(8, 24),
)
def sparse_against_dense(lab: ArmsLab, seed: int) -> Trial:
    """The lasso and chance have as many queries as the spanners; least squares takes its own design."""
    import warnings
    from dataclasses import replace

    import numpy as np
    from sklearn.linear_model import LassoCV

    from hartley.querying import least_squares_search, spanner_search

    eps, rng = 0.1, np.random.default_rng(seed)
    features, rewards = replace(lab, hidden=0.1).arms_of(rng, 1, eps, dim=12, count=3000)

    def query(arm: int) -> float:
        return float(rewards[arm])

    def gap(arm: int) -> float:
        return float(rewards.max() - rewards[arm]) / eps

    spanner = spanner_search(features, query, 1, eps)
    dense = least_squares_search(features, query, eps)
    chance = rng.choice(len(features), len(spanner.queried), replace=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: small penalties are tried as well
        lasso = LassoCV(cv=5, fit_intercept=False, alphas=30).fit(features[chance], rewards[chance])
    guess: np.ndarray = features @ lasso.coef_
    return Trial(
        method=gap(spanner.action),
        baselines={
            "least squares": gap(dense.action),
            "lasso": gap(int(guess.argmax())),
            "best of random arms": gap(int(chance[rewards[chance].argmax()])),
        },
        details={"queries": float(len(spanner.queried)), "queries of least squares": float(len(dense.queried))},
    )
