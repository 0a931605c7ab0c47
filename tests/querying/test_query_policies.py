"""Baseline policies: by hand, by simulation, and the Bayes policy against the linear programme's certificate."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from hartley.querying import (
    Lucb,
    QueryProblem,
    SuccessiveElimination,
    TopTwoThompson,
    bayes_policy,
    best_arm_problem,
    exact_minimax,
    history_counts,
    policy_losses,
    threshold_problem,
)

THETAS = np.array(list(product([-1.0, -0.5, 0.5, 1.0], repeat=3)))


def test_bayes_against_the_adversary_is_the_minimax_value() -> None:
    """Duality: against the least favourable prior even the best reply loses the minimax value."""
    problem = threshold_problem(3)
    solved = exact_minimax(problem, THETAS, 2)
    reply = bayes_policy(problem, THETAS, 2, solved.weights / solved.weights.sum())
    assert reply.value == pytest.approx(solved.value, abs=1e-8)


def test_bayes_policy_is_the_best_on_average() -> None:
    problem = threshold_problem(3)
    bayes = bayes_policy(problem, THETAS, 3)
    assert policy_losses(bayes, problem, THETAS, 3).mean() == pytest.approx(bayes.value, abs=1e-12)
    others: list[Any] = [Lucb(problem), SuccessiveElimination(problem), TopTwoThompson(problem, THETAS)]
    for policy in [*others, exact_minimax(problem, THETAS, 3)]:
        assert policy_losses(policy, problem, THETAS, 3).mean() >= bayes.value - 1e-12
    known = bayes_policy(problem, THETAS[[5]], 0)
    assert known.value == pytest.approx(0)


def test_policies_are_distributions() -> None:
    problem = threshold_problem(3)
    counts = np.random.default_rng(0).integers(0, 4, (50, 6))
    for policy in (Lucb(problem), SuccessiveElimination(problem), TopTwoThompson(problem, THETAS)):
        for rows in (policy.ask(counts), policy.recommend(counts)):
            assert (rows >= 0).all()
            np.testing.assert_allclose(rows.sum(1), 1)


def test_lucb_by_hand() -> None:
    """Arms answered + + + +, + -, nothing: the leader is arm 0, its rival the unknown arm, which is asked."""
    arms = best_arm_problem(3)
    counts = np.array([[4, 1, 0, 0, 1, 0]])
    assert Lucb(arms).ask(counts).tolist() == [[0, 0, 1]]
    assert Lucb(arms).recommend(counts).tolist() == [[1, 0, 0]]
    # All asked: rival by optimistic mean is arm 2 (mean 0, 2 answers) over arm 1 (mean 0, 100 answers).
    counts = np.array([[90, 50, 1, 10, 50, 1]])
    assert Lucb(arms).ask(counts).tolist() == [[0, 0, 1]]


def test_elimination_by_hand() -> None:
    """Two arms far apart after 200 answers; the third is still open, and so is the best one."""
    arms = best_arm_problem(3)
    counts = np.array([[100, 0, 3, 0, 100, 0]])
    assert SuccessiveElimination(arms).ask(counts).tolist() == [[0, 0, 1]]
    settled = np.array([[100, 0, 0, 0, 100, 100]])
    assert SuccessiveElimination(arms).ask(settled).tolist() == [[1 / 3, 1 / 3, 1 / 3]]  # nothing is left to ask
    assert SuccessiveElimination(arms).ask(np.zeros((1, 6), int)).tolist() == [[1 / 3] * 3]


def test_top_two_is_what_sampling_gives() -> None:
    """20 000 draws of two hypotheses from a posterior by Bayes' rule; five standard errors a query."""
    problem, rng = threshold_problem(3), np.random.default_rng(0)
    counts = history_counts([(0, -1), (2, 1), (2, 1)], 3)
    up = (1 + THETAS) / 2
    posterior = (1 - up[:, 0]) * up[:, 2] ** 2
    posterior /= posterior.sum()
    values = THETAS @ problem.hypotheses.T
    owners = [np.flatnonzero(row >= row.max() - 1e-12) for row in values]
    law = np.zeros(4)
    for weight, owner in zip(posterior, owners, strict=True):
        law[owner] += weight / len(owner)
    asked = np.zeros(3)
    for first in rng.choice(4, 20_000, p=law):
        rest = np.where(np.arange(4) == first, 0, law)
        second = rng.choice(4, p=rest / rest.sum())
        differ = np.flatnonzero(problem.hypotheses[first] != problem.hypotheses[second])
        asked[rng.choice(differ)] += 1
    found = TopTwoThompson(problem, THETAS).ask(counts)[0]
    error = np.sqrt(found * (1 - found) / 20_000)
    assert (np.abs(asked / 20_000 - found) < 5 * error + 1e-9).all()


def test_bad_input_is_refused() -> None:
    oblique = QueryProblem(np.ones((2, 2)), np.eye(2))
    with pytest.raises(ValueError, match=r"problem.queries = \(2, 2\): expected unit vectors"):
        Lucb(oblique)
    with pytest.raises(ValueError, match="delta = 2"):
        SuccessiveElimination(best_arm_problem(2), 2.0)
    with pytest.raises(ValueError, match="prior"):
        TopTwoThompson(best_arm_problem(2), np.eye(2), np.array([0.5, 0.6]))
    with pytest.raises(ValueError, match="at least one parameter"):
        bayes_policy(best_arm_problem(2), np.zeros((0, 2)), 1)
