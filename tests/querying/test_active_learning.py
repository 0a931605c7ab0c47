"""Exact query policies against closed forms, a programme over whole histories, and the certificates of duality."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from hartley.querying import (
    QueryProblem,
    adversarial_loss,
    best_arm_problem,
    exact_minimax,
    exact_robust,
    from_labels,
    history_counts,
    policy_losses,
    threshold_problem,
)


def levels(size: int, *sizes: float) -> np.ndarray:
    return np.array(list(itertools.product([sign * s for s in sizes for sign in (-1, 1)], repeat=size)))


def over_histories(problem: QueryProblem, thetas: np.ndarray, rounds: int) -> float:
    """The same game as a programme over histories in order, solved in its dual: the adversary's mixture.

    The policy's best answer to a mixture is found backwards: at the end the hypothesis of least expected loss, before
    that the query of least. This is concave and piecewise linear in the mixture; cutting planes maximise it.
    """
    losses, up = problem.losses(thetas), problem.positive(thetas)

    def answer(weights: np.ndarray, left: int) -> tuple[float, np.ndarray]:
        """Least loss of weighted parameters, and the losses of that choice at each of them, per unit of weight."""
        if left == 0:
            z = int((weights @ losses).argmin())
            return float(weights @ losses[:, z]), losses[:, z]
        best: tuple[float, np.ndarray] = (math.inf, losses[:, 0])
        for x in range(len(problem.queries)):
            parts = [answer(weights * p, left - 1) for p in (up[:, x], 1 - up[:, x])]
            total = parts[0][0] + parts[1][0]
            if total < best[0]:
                best = total, up[:, x] * parts[0][1] + (1 - up[:, x]) * parts[1][1]
        return best

    weights, cuts, lower = np.full(len(thetas), 1 / len(thetas)), [], 0.0
    for _ in range(400):
        value, cut = answer(weights, rounds)
        lower = max(lower, value)
        cuts.append(cut)
        rows = np.column_stack([-np.array(cuts), np.ones(len(cuts))])  # v <= w . cut
        cost = np.append(np.zeros(len(thetas)), -1.0)
        total = np.append(np.ones(len(thetas)), 0.0)[None]
        found = linprog(cost, rows, np.zeros(len(cuts)), total, [1.0], [(0, 1)] * len(thetas) + [(None, None)])
        weights = found.x[:-1]
        if -found.fun - lower < 1e-9:
            break
    return lower


@pytest.mark.parametrize(("size", "rounds"), [(2, 1), (2, 2), (3, 2)])
def test_value_against_whole_histories(size: int, rounds: int) -> None:
    problem, thetas = threshold_problem(size), levels(size, 0.5, 1.0)[:: 3 if size == 3 else 1]
    policy = exact_minimax(problem, thetas, rounds)
    assert policy.value == pytest.approx(over_histories(problem, thetas, rounds), abs=1e-7)
    assert policy.weights.sum() == pytest.approx(1)
    losses = policy_losses(policy, problem, thetas, rounds)
    assert losses.max() == pytest.approx(policy.value)
    assert policy.weights @ losses == pytest.approx(policy.value)  # the adversary plays worst cases alone


def test_values_of_threshold_problems() -> None:
    """4 points, 3 queries, levels .5 and 1: minimax .0566 and .1035 of difficulties 1 and 4, largest excess .0106."""
    problem, thetas = threshold_problem(4), levels(4, 0.5, 1.0)
    found = exact_robust(problem, thetas, [1, 4], 3)
    np.testing.assert_allclose(found.values, [0.0566, 0.1035], atol=1e-4)
    assert found.robust.value == pytest.approx(0.0106, abs=1e-4)
    excess = [(policy_losses(p, problem, found.thetas, 3) - found.offsets).max() for p in (*found.single, found.robust)]
    assert excess[2] == pytest.approx(found.robust.value)
    assert 0 <= excess[2] < min(excess[:2]) / 2
    mirrored = exact_minimax(problem, -thetas[:, ::-1], 3)
    assert mirrored.value == pytest.approx(exact_minimax(problem, thetas, 3).value)


def test_one_class_has_no_excess() -> None:
    found = exact_robust(threshold_problem(3), levels(3, 0.5, 1.0), [4], 2)
    assert found.robust.value == pytest.approx(0, abs=1e-9)


def test_binary_search_solves_noiseless_thresholds() -> None:
    steps = threshold_problem(7)
    for rounds, solved in ((2, False), (3, True)):  # 8 hypotheses
        value = exact_minimax(steps, steps.hypotheses, rounds).value
        assert (value < 1e-9) == solved
    policy = exact_minimax(steps, steps.hypotheses, 3)
    assert policy.ask(np.zeros((1, 14), int))[0, 3] == pytest.approx(1)  # the middle first
    counts = history_counts([(3, 1), (1, -1), (2, 1)], 7)
    assert policy.recommend(counts)[0].argmax() == 2  # -1 -1 1 1 ...


def test_no_queries_and_more_queries() -> None:
    problem, thetas = best_arm_problem(3), levels(3, 0.2, 0.8)
    values = [exact_minimax(problem, thetas, rounds).value for rounds in range(4)]
    assert values[0] == pytest.approx(1.6 * 2 / 3)  # one good arm, at a random place
    assert (np.diff(values) <= 1e-12).all()


def test_difficulty() -> None:
    problem = threshold_problem(5)
    for mu in (0.2, 0.7):
        np.testing.assert_allclose(problem.difficulty(mu * problem.hypotheses), 1 / mu**2)
    assert np.isinf(problem.difficulty(np.zeros((1, 5)))).all()
    arms = best_arm_problem(3).difficulty(np.array([[0.9, 0.4, 0.1]]))
    np.testing.assert_allclose(arms, 2 / 0.5**2)


def test_history_order_does_not_matter() -> None:
    history = [(0, 1), (2, -1), (0, -1)]
    for order in itertools.permutations(history):
        np.testing.assert_array_equal(history_counts(order, 3), [[1, 0, 0, 1, 0, 1]])


PROBLEM = threshold_problem(2)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exact_minimax(PROBLEM, np.empty((0, 2)), 1), "at least one parameter"),
        (lambda: exact_minimax(PROBLEM, 2 * np.ones((1, 2)), 1), r"means in \[-1, 1\]"),
        (lambda: exact_minimax(PROBLEM, np.ones((1, 2)), 1, np.ones(2)), "offsets = 2"),
        (lambda: exact_minimax(PROBLEM, np.ones((1, 2)), -1), "rounds = -1"),
        (lambda: exact_minimax(threshold_problem(20), np.ones((1, 20)), 8), "are over 200000"),
        (lambda: exact_robust(PROBLEM, np.ones((1, 2)), [2, 1], 1), "increasing radii"),
        (lambda: exact_robust(PROBLEM, np.ones((1, 2)), [0.1], 1), "a parameter in it"),
        (lambda: history_counts([(2, 1)], 2), "queries 0 to 1"),
        (lambda: history_counts([(0, 0)], 2), "answers -1 or 1"),
        (lambda: threshold_problem(0), "size = 0"),
        (lambda: best_arm_problem(1), "arms = 1"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_make_a_problem() -> None:
    """Rows of labels of a threshold are the threshold problem."""
    steps = np.where(np.arange(3) >= np.arange(4)[:, None], 1, -1)
    found, expected = from_labels(steps), threshold_problem(3)
    np.testing.assert_array_equal(found.hypotheses, expected.hypotheses)
    np.testing.assert_array_equal(found.queries, expected.queries)
    assert found.scale == expected.scale
    with pytest.raises(ValueError, match="labels -1 and 1"):
        from_labels(np.array([[0, 1]]))


def test_adversary_between_the_grid_points() -> None:
    """Two arms, one question each: the worst parameter by a fine grid over the square."""
    problem = best_arm_problem(2)
    policy = exact_minimax(problem, np.array([[1.0, -1.0], [-1.0, 1.0]]), 2)
    worst, theta = adversarial_loss(policy, problem, 8.0, 2, np.random.default_rng(0))
    axis = np.linspace(-1, 1, 65)
    grid = np.array([[a, b] for a in axis for b in axis])
    grid = grid[problem.difficulty(grid) <= 8.0]
    losses = policy_losses(policy, problem, grid, 2)
    assert worst == pytest.approx(losses.max(), abs=0.02)
    assert problem.difficulty(theta[None])[0] <= 8.0 * (1 + 1e-6)
    assert policy_losses(policy, problem, theta[None], 2)[0] == pytest.approx(worst)
    start = grid[losses.argmax()][None]
    again, _ = adversarial_loss(policy, problem, 8.0, 2, np.random.default_rng(0), restarts=1, start=start)
    assert again >= losses.max() - 1e-12
    with pytest.raises(ValueError, match=r"radius = 0.1: expected a difficulty that some parameter has"):
        adversarial_loss(policy, problem, 0.1, 2, np.random.default_rng(0))
