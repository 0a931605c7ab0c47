"""Trained query policies against the linear programme's value."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hartley.querying import (
    exact_minimax,
    exact_robust,
    policy_losses,
    threshold_problem,
    train_policy,
    train_robust,
)

PROBLEM = threshold_problem(2)
THETAS = np.array(list(itertools.product([-1.0, -0.5, 0.5, 1.0], repeat=2)))


def train(seed: int, steps: int = 400, **settings):
    return train_policy(PROBLEM, THETAS, 2, generator=torch.Generator().manual_seed(seed), steps=steps, **settings)


def test_close_to_the_exact_value_and_repeatable() -> None:
    exact = exact_minimax(PROBLEM, THETAS, 2).value
    policy = train(0)
    worst = policy_losses(policy, PROBLEM, THETAS, 2).max()
    assert exact - 1e-9 <= worst < exact + 0.03
    np.testing.assert_array_equal(policy.layers[0][0], train(0).layers[0][0])
    assert policy.weights.sum() == pytest.approx(1)


def test_a_history_is_read_without_its_order() -> None:
    policy = train(1, steps=20)
    draws = [
        [policy.next_query(h, np.random.default_rng(s)) for s in range(20)]
        for h in ([(0, 1), (1, -1)], [(1, -1), (0, 1)])
    ]
    assert draws[0] == draws[1]
    assert policy.final_hypothesis([(0, 1), (1, 1)], np.random.default_rng(0)) in (0, 1, 2)


def test_expected_loss_is_what_is_simulated() -> None:
    policy, rng = train(2, steps=20), np.random.default_rng(0)
    theta = THETAS[[2]]
    up, losses = PROBLEM.positive(theta)[0], PROBLEM.losses(theta)[0]
    seen = []
    for _ in range(3000):
        history: list[tuple[int, int]] = []
        for _ in range(2):
            query = policy.next_query(history, rng)
            history.append((query, 1 if rng.random() < up[query] else -1))
        seen.append(losses[policy.final_hypothesis(history, rng)])
    expected = policy_losses(policy, PROBLEM, theta, 2)[0]
    assert abs(np.mean(seen) - expected) < 4 * np.std(seen) / np.sqrt(3000)  # false alarm 6e-5


@pytest.mark.slow
def test_both_phases_beat_each_class_alone() -> None:
    problem = threshold_problem(3)
    thetas = np.array(list(itertools.product([-1.0, -0.5, 0.5, 1.0], repeat=3)))
    exact = exact_robust(problem, thetas, [1, 4], 2)
    policy, values = train_robust(
        problem,
        exact.thetas,
        [1, 4],
        2,
        evaluate=lambda p, inside: policy_losses(p, problem, inside, 2),
        generator=torch.Generator().manual_seed(0),
        steps=600,
    )
    assert (values >= exact.values - 1e-9).all()
    np.testing.assert_allclose(values, exact.values, atol=0.04)
    excess = (policy_losses(policy, problem, exact.thetas, 2) - exact.offsets).max()
    assert exact.robust.value - 1e-9 <= excess < exact.robust.value + 0.05


def test_progress_and_errors(unchecked: None) -> None:
    done = []
    train(0, steps=40, progress=lambda step, total: done.append(step) or step < 30)
    assert done == list(range(1, 31))
    for settings, message in (
        ({"episodes": 1}, "episodes = 1"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"offsets": np.ones(3)}, "offsets = 3"),
    ):
        with pytest.raises(ValueError, match=message):
            train(0, **settings)
