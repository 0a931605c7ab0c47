"""The l1 fit against scipy and hidden truths, the sensitivity against random directions, certified gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley.querying import l1_fit, l1_search, l1_sensitivity, optimistic_search


def signs(seed: int, actions: int, dim: int, sparsity: int, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random-sign features, a sparse parameter of norm 1, and rewards with errors of exactly eps."""
    rng = np.random.default_rng(seed)
    features = rng.choice([-1.0, 1.0], (actions, dim)) / np.sqrt(dim)
    theta = np.zeros(dim)
    theta[rng.choice(dim, sparsity, replace=False)] = rng.standard_normal(sparsity)
    theta /= np.linalg.norm(theta)
    linear = features @ theta
    error = np.where(linear >= np.quantile(linear, 0.9), -eps, eps)
    error[linear.argmax()] = eps
    return features, theta, linear + error


def test_fit_by_hand() -> None:
    """Coordinates seen one by one: each entry shrinks to the edge of its interval."""
    found = l1_fit(np.eye(3), np.array([1.0, -0.5, 0.05]), 0.1)
    np.testing.assert_allclose(found, [0.9, -0.4, 0.0], atol=1e-9)
    # Two columns explain the answer; the longer one does it with a smaller norm.
    np.testing.assert_allclose(l1_fit(np.array([[1.0, 2.0]]), np.array([2.0]), 0.0), [0.0, 1.0], atol=1e-9)


def test_exact_answers_give_the_parameter_back() -> None:
    features, theta, _ = signs(0, 60, 24, 3, 0.0)
    np.testing.assert_allclose(l1_fit(features, features @ theta, 0.0), theta, atol=1e-7)


@given(st.integers(0, 30), st.integers(1, 2))
@settings(max_examples=12, deadline=None)
def test_sensitivity_is_below_every_direction(seed: int, sparsity: int) -> None:
    """Random directions of the cone, local moves included, never come below; scaling scales it."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((8, 5))
    kappa = l1_sensitivity(features, sparsity)
    for _ in range(300):
        h = rng.uniform(-1, 1, 5) * (rng.random(5) < 0.6)
        h[rng.integers(5)] = 1.0
        if np.abs(h).sum() <= 2 * sparsity:
            assert np.abs(features @ h).max() >= kappa - 1e-9
    assert l1_sensitivity(3 * features, sparsity) == pytest.approx(3 * kappa)


def test_sensitivity_limits() -> None:
    assert l1_sensitivity(np.eye(4), 1) == pytest.approx(1.0)  # h = e_j
    assert l1_sensitivity(np.array([[1.0, 1.0]]), 1) == pytest.approx(0.0)  # e_1 - e_2 goes unseen


@given(st.integers(0, 200))
@settings(max_examples=10, deadline=None)
def test_l1_search_keeps_its_bound(seed: int) -> None:
    features, _, rewards = signs(seed, 400, 12, 1, 0.05)
    found = l1_search(features, lambda a: float(rewards[a]), 1, 0.05, queries=40, rng=np.random.default_rng(seed))
    assert np.isfinite(found.bound)
    assert rewards.max() - rewards[found.action] <= found.bound + 1e-9
    assert len(set(found.queried.tolist())) == 40


@pytest.mark.parametrize("seed", range(2))
def test_optimistic_search_reaches_its_target(seed: int) -> None:
    features = np.random.default_rng(seed).uniform(-0.5, 0.5, (12, 3))
    rewards = features[:, seed] + 0.05 * np.where(np.arange(12) % 2, 1, -1)

    def query(action: int) -> float:
        return float(rewards[action])

    found = optimistic_search(features, query, 1, 0.05, 0.12)
    assert rewards.max() - rewards[found.action] <= found.bound + 1e-9
    assert found.bound <= 0.12 or len(found.queried) == 12
    short = optimistic_search(features, query, 1, 0.05, 1e-9, max_queries=2)
    assert len(short.queried) <= 2
    assert rewards.max() - rewards[short.action] <= short.bound + 1e-9
    assert rewards[optimistic_search(features, query, 1, 0.05, 1e-9).action] == rewards.max()


def test_bad_input_is_refused() -> None:
    features, _, rewards = signs(0, 20, 4, 1, 0.1)
    with pytest.raises(ValueError, match=r"misspecification = 0.0: expected more"):
        l1_fit(np.ones((2, 1)), np.array([0.0, 1.0]), 0.0)
    with pytest.raises(ValueError, match="queries = 0: expected 1 to 20"):
        l1_search(features, lambda a: 0.0, 1, 0.1, queries=0, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="finite reward"):
        l1_search(features, lambda a: float("nan"), 1, 0.1, queries=3, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="sparsity = 5"):
        l1_sensitivity(features, 5)
    with pytest.raises(ValueError, match="target = 0"):
        optimistic_search(features, lambda a: float(rewards[a]), 1, 0.1, 0.0)
