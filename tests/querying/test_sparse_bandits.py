"""Searches of misspecified sparse bandits: guarantees against adversarial errors, brute force, hand-made nets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley.querying import (
    barycentric_spanner,
    dense_hard_instance,
    g_optimal_design,
    least_squares_search,
    spanner_search,
    sparse_chebyshev_fit,
    sparse_hard_instance,
    support_net,
    support_net_search,
    value_intervals,
)


def instance(seed: int, actions: int, dim: int, sparsity: int, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features in the unit ball, a sparse parameter, and rewards whose errors hide the best actions."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((actions, dim))
    features *= (rng.random((actions, 1)) ** (1 / dim)) / np.linalg.norm(features, axis=1, keepdims=True)
    theta = np.zeros(dim)
    theta[rng.choice(dim, sparsity, replace=False)] = rng.standard_normal(sparsity)
    theta /= np.linalg.norm(theta)
    linear = features @ theta
    best = linear >= np.quantile(linear, 0.9)
    nu = np.where(best, -eps, eps) if seed % 2 else rng.uniform(-eps, eps, actions)
    nu[linear.argmax()] = eps
    return features, theta, linear + nu


def test_net_by_hand() -> None:
    line = np.array([[-1.0], [-0.5], [0.0], [0.5], [1.0]])
    assert support_net(line, 1, 0.5).tolist() == [0, 1, 2, 3, 4]
    assert support_net(line, 1, 1.0).tolist() == [0, 2, 4]


@given(st.integers(0, 50), st.integers(1, 3), st.sampled_from([0.1, 0.3, 0.8]))
@settings(max_examples=20, deadline=None)
def test_net_covers_in_every_support(seed: int, sparsity: int, radius: float) -> None:
    features, _, _ = instance(seed, 200, 4, sparsity, 0.0)
    net = support_net(features, sparsity, radius)
    for support in combinations(range(4), sparsity):
        part = features[:, list(support)]
        distance = np.linalg.norm(part[:, None] - part[net][None], axis=2).min(axis=1)
        assert distance.max() <= radius + 1e-12
    assert len(support_net(features, sparsity, radius / 2)) >= len(net)  # nested grids


def test_net_with_more_cubes_than_a_number_holds() -> None:
    features, _, _ = instance(0, 50, 8, 2, 0.0)
    assert support_net(features, 6, 1e-9).tolist() == list(range(50))


@pytest.mark.parametrize("seed", range(6))
def test_guarantees_hold_against_adversarial_errors(seed: int) -> None:
    eps = 0.05
    features, _, rewards = instance(seed, 400, 6, 2, eps)
    best = rewards.max()
    found = support_net_search(features, lambda a: rewards[a], 2, eps)
    assert best - rewards[found.action] <= found.bound == pytest.approx(3 * eps)
    spanner = spanner_search(features, lambda a: rewards[a], 2, eps, ratio=1.01)
    assert best - rewards[spanner.action] <= spanner.bound == pytest.approx((16 * 1.01 + 2) * eps)
    dense = least_squares_search(features, lambda a: rewards[a], eps)
    assert best - rewards[dense.action] <= dense.bound <= 2 * (1 + np.sqrt(6 * 1.06)) * eps
    for search in (found, spanner, dense):
        assert len(np.unique(search.queried)) == len(search.queried)
        np.testing.assert_array_equal(search.rewards, rewards[search.queried])


def test_exact_linear_rewards_are_solved() -> None:
    features, theta, rewards = instance(2, 300, 6, 2, 0.0)
    spanner = spanner_search(features, lambda a: rewards[a], 2, 0.0)
    dense = least_squares_search(features, lambda a: rewards[a], 0.0)
    for search in (spanner, dense):
        assert search.action == rewards.argmax()
        np.testing.assert_allclose(search.theta, theta, atol=1e-7)
    assert support_net_search(features, lambda a: rewards[a], 2, 0.0, radius=1e-6).action == rewards.argmax()


def test_spanner() -> None:
    for seed in range(5):
        features, _, _ = instance(seed, 100, 4, 1, 0.0)
        chosen = barycentric_spanner(features, 1.2)
        coefficients = np.linalg.solve(features[chosen].T, features.T)
        assert np.abs(coefficients).max() <= 1.2 + 1e-9
    flat = np.array([[1.0, 2, 0], [2, 4, 0], [-3, -6, 0], [0, 0, 0]])  # rank 1
    assert barycentric_spanner(flat).tolist() == [2]
    assert len(barycentric_spanner(np.zeros((3, 2)))) == 0


def test_design_against_the_bound_of_kiefer_and_wolfowitz() -> None:
    for seed in range(3):
        features, _, _ = instance(seed, 200, 5, 1, 0.0)
        weights = g_optimal_design(features, tolerance=0.01)
        gram = features.T @ (weights[:, None] * features)
        leverage = np.einsum("ai,ij,aj->a", features, np.linalg.inv(gram), features)
        assert 5 - 1e-9 <= leverage.max() <= 5 * 1.01 + 1e-9
        assert weights.sum() == pytest.approx(1)
    corners = np.array([[1.0, 0], [0, 1], [0.1, 0.1], [-0.2, 0.3]])
    np.testing.assert_allclose(g_optimal_design(corners, tolerance=1e-6), [0.5, 0.5, 0, 0], atol=1e-3)


def test_chebyshev_fit_against_a_grid() -> None:
    features, _, rewards = instance(3, 30, 3, 1, 0.2)
    theta, residual = sparse_chebyshev_fit(features, rewards, 1)
    grid = np.linspace(-2, 2, 4001)
    brute = min(float(np.abs(rewards[:, None] - features[:, [j]] * grid).max(0).min()) for j in range(3))
    assert np.abs(rewards - features @ theta).max() == pytest.approx(residual)
    assert residual == pytest.approx(brute, abs=1e-3)
    assert np.count_nonzero(theta) == 1


def test_value_intervals() -> None:
    features, theta, rewards = instance(1, 40, 4, 2, 0.1)
    widths = []
    for count in (4, 12):
        lower, upper = value_intervals(features, np.arange(count), rewards[:count], 2, 0.1)
        linear = features @ theta
        assert (lower <= linear + 1e-8).all()
        assert (linear <= upper + 1e-8).all()
        assert (upper[:count] - lower[:count] <= 0.2 + 1e-8).all()
        widths.append(upper - lower)
    assert (widths[1] <= widths[0] + 1e-8).all()
    some = value_intervals(features, np.arange(12), rewards[:12], 2, 0.1, actions=np.array([7, 30]))
    np.testing.assert_allclose(some[1], upper[[7, 30]])
    with pytest.raises(ValueError, match="unexplained"):
        value_intervals(features, np.arange(3), np.full(3, 9.0), 1, 0.1)


def test_hard_instances_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    for hard, sparsity in ((dense_hard_instance(100, 40, rng), 40), (sparse_hard_instance(9, 81, 3, rng), 9)):
        assert np.linalg.norm(hard.features, axis=1) == pytest.approx(1)
        for hidden in (0, len(hard.features) - 1):
            error = np.abs(hard.rewards(hidden) - hard.features @ hard.theta(hidden)).max()
            assert error <= hard.misspecification + 1e-12
            assert np.count_nonzero(hard.theta(hidden)) <= sparsity
    assert hard.gap / hard.misspecification == pytest.approx(3)
    assert len(hard.features) > 300


FEATURES, _, REWARDS = instance(0, 20, 3, 1, 0.1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: support_net(FEATURES, 4, 0.1), "sparsity = 4: expected 1 to 3"),
        (lambda: support_net(FEATURES, 1, 0.0), "radius = 0.0"),
        (lambda: support_net(FEATURES[:0], 1, 0.1), "at least one action"),
        (lambda: support_net(FEATURES * np.nan, 1, 0.1), "finite features"),
        (lambda: support_net_search(FEATURES, lambda a: float("nan"), 1, 0.1), "finite reward"),
        (lambda: support_net_search(FEATURES, lambda a: 0.0, 1, -0.1), "misspecification = -0.1"),
        (lambda: support_net_search(FEATURES, lambda a: 0.0, 1, 0.0), "radius = 0.0"),
        (lambda: spanner_search(FEATURES, lambda a: REWARDS[a], 1, 1e-4), "the residual of the best sparse fit"),
        (lambda: spanner_search(np.ones((4, 60)), lambda a: 0.0, 4, 0.1), "too many"),
        (lambda: sparse_hard_instance(3, 9, 3, np.random.default_rng(0)), "overlap = 3"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
