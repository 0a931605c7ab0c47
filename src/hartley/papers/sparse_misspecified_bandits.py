"""Misspecified linear bandits with a sparse parameter: what sparsity buys, in queries and in the gap that is left."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    import numpy as np

    from hartley.labs.exploration import ArmsLab
    from hartley.querying import Search

paper = Paper(
    slug="sparse-misspecified-bandits",
    title="Does Sparsity Help in Learning Misspecified Linear Bandits?",
    published=date(2023, 3, 29),
    authors=2,
    arxiv="2303.16998",
    room="querying",
    methods=["hartley.querying.sparse_bandits", "hartley.querying.sparse_recovery"],
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
    from dataclasses import replace

    import numpy as np

    from hartley.querying import spanner_search

    rng = np.random.default_rng(seed)
    features, rewards = replace(lab, hidden=0.1).arms_of(rng, 1, 0.1, dim=12, count=3000)
    found = spanner_search(features, lambda arm: float(rewards[arm]), 1, 0.1)
    return _against_fits(features, rewards, found, 0.1, rng)


@paper.claim(
    "Where the features are nearly orthogonal, an l1 fit to a few random arms loses less to adversarial errors than "
    "least squares, the lasso or chance",
    published="poly(s / eps) queries suffice for a gap of order s eps on such features (theorem)",
    metric="gap to the best arm over eps; random signs, d = 32, s = 2, eps = .1, 64 of 3000 arms, a tenth lowered",
    unit="eps",
    better="lower",
    margin=0.0,
    seeds=(8, 24),
)
def good_features(lab: ArmsLab, seed: int) -> Trial:
    """The spanners of this size would take 36 000 sets. The certified bound stands among the details."""
    from dataclasses import replace

    import numpy as np

    from hartley.querying import l1_search

    rng = np.random.default_rng(seed)
    features, rewards = replace(lab, hidden=0.1).arms_of(rng, 2, 0.1, dim=32, count=3000, signs=True)
    found = l1_search(features, lambda arm: float(rewards[arm]), 2, 0.1, queries=64, rng=rng)
    return _against_fits(features, rewards, found, 0.1, rng)


def _against_fits(
    features: np.ndarray, rewards: np.ndarray, found: Search, eps: float, rng: np.random.Generator
) -> Trial:
    """A search against least squares on its own design, and the lasso and the best of as many random arms."""
    import warnings

    from sklearn.linear_model import LassoCV

    from hartley.querying import least_squares_search

    def gap(arm: int) -> float:
        return float(rewards.max() - rewards[arm]) / eps

    dense = least_squares_search(features, lambda arm: float(rewards[arm]), eps)
    chance = rng.choice(len(features), len(found.queried), replace=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: small penalties are tried as well
        lasso = LassoCV(cv=5, fit_intercept=False, alphas=30).fit(features[chance], rewards[chance])
    guess: np.ndarray = features @ lasso.coef_
    return Trial(
        method=gap(found.action),
        baselines={
            "least squares": gap(dense.action),
            "lasso": gap(int(guess.argmax())),
            "best of random arms": gap(int(chance[rewards[chance].argmax()])),
        },
        details={
            "queries": float(len(found.queried)),
            "queries of least squares": float(len(dense.queried)),
            "bound over eps": found.bound / eps,
        },
    )


@paper.claim(
    "On sets that overlap little, no search finds the hidden arm in fewer queries than trying arms in turn, half of "
    "them on average",
    published="Omega(exp(s)) queries are needed for a gap of s^delta eps, 0 < delta < 1 (theorem)",
    metric="share of the arms queried until the hidden one is found, s = 16, overlap 4; by optimism about theta",
    unit="share",
    better="higher",
    margin=-0.05,
    seeds=(4, 8),
    axes=("sparsity", "log10 of the number of arms"),
)
def hidden_arm(lab: ArmsLab, seed: int) -> Trial:
    """Optimism: the arm whose value is largest under the parameters that earlier answers of 0 still allow."""
    import numpy as np

    from hartley.querying import sparse_hard_instance

    rng = np.random.default_rng(seed)
    sizes = [4, 9, 16]
    counts = []
    for sparsity in sizes:
        instance = sparse_hard_instance(sparsity, int(3 * sparsity**1.5), round(sparsity**0.5), rng, tries=1500)
        counts.append(len(instance.features))
    arms = len(instance.features)
    overlaps = instance.features @ instance.features.T
    shares = []
    for hidden in rng.choice(arms, min(arms, 200), replace=False):
        rewards, left = instance.rewards(int(hidden)), np.ones(arms, bool)
        explained, asked = np.zeros(arms), 0
        while left.any():  # of those left, the arm least like what was asked so far and gave nothing
            pick = int(np.where(left, -explained + 1e-9 * rng.random(arms), -np.inf).argmax())
            left[pick], asked = False, asked + 1
            if rewards[pick] > 0:
                break
            explained += overlaps[pick]
        shares.append(asked / arms)
    return Trial(
        method=float(np.mean(shares)),
        baselines={"arms in turn": (arms + 1) / (2 * arms)},
        curves={"arms": (sizes, list(np.log10(counts)))},
        details={"gap over eps": instance.gap / instance.misspecification, "arms": float(arms)},
    )
