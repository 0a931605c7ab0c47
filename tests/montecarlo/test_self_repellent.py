"""Walks against dense kernels, exact variances of Markov chains, and a plain loop on the same random numbers."""

from __future__ import annotations

import itertools

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from hartley.montecarlo import self_repellent as sr


def karate() -> sparse.csr_array:
    return networkx.to_scipy_sparse_array(networkx.karate_club_graph(), weight=None)


def stationary(kernel: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eig(kernel.T)
    pi = np.real(vectors[:, np.argmax(values.real)])
    return pi / pi.sum()


@pytest.mark.parametrize("base", ["mhrw", "srw"])
def test_base_chains_are_reversible_and_stationary(base: sr.Base) -> None:
    chain, mu = sr.base_chain(karate(), base)
    dense = chain.toarray()
    np.testing.assert_allclose(dense.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(mu[:, None] * dense, (mu[:, None] * dense).T, atol=1e-15)
    again, _ = sr.base_chain(networkx.from_scipy_sparse_array(karate()), base)
    np.testing.assert_allclose(again.toarray(), dense)


def test_the_two_node_kernel_of_the_paper() -> None:
    walk = sr.SelfRepellentWalk(sparse.csr_array(np.full((2, 2), 0.5)), np.array([0.5, 0.5]), alpha=1.0)
    np.testing.assert_allclose(walk.kernel(np.array([0.75, 0.25])), [[0.25, 0.75], [0.25, 0.75]])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0, 30))
def test_kernel_laws(seed: int, alpha: float) -> None:
    walk = sr.SelfRepellentWalk.on(karate(), alpha=alpha)
    x = np.random.default_rng(seed).dirichlet(np.ones(34)) + 1e-3
    kernel, base = walk.kernel(x), walk.chain.toarray()
    np.testing.assert_allclose(kernel.sum(axis=1), 1)
    assert np.all(kernel[base == 0] == 0)
    np.testing.assert_allclose(walk.kernel(7 * x), kernel, rtol=1e-9)
    np.testing.assert_allclose(walk.kernel(walk.target), base, atol=1e-12)
    r = (x / walk.target) ** -alpha
    pi = walk.target * r * (base @ r)
    pi /= pi.sum()
    np.testing.assert_allclose(pi @ kernel, pi, rtol=1e-9)


@pytest.mark.parametrize("gamma", [1.0, 0.8, 0.6])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 4.0])
def test_the_compiled_walk_is_the_plain_one(alpha: float, gamma: float) -> None:
    walk, n = sr.SelfRepellentWalk.on(karate(), alpha=alpha, gamma=gamma), 600
    got = walk.sample(n, np.random.default_rng(3), start=5)
    rng, node, x, nodes = np.random.default_rng(3), 5, np.full(34, 1 / 34), []
    for k in range(n):
        row = walk.kernel(x)[node]
        node = int(np.searchsorted(np.cumsum(row), rng.random() * row.sum(), side="right"))
        nodes.append(node)
        x += (k + 2) ** -gamma * (np.eye(34)[node] - x)
    np.testing.assert_array_equal(got, nodes)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0, 30))
def test_the_history_target_is_stationary(seed: int, alpha: float) -> None:
    walk = sr.SelfRepellentWalk.on(karate(), "srw", alpha=alpha, history_target=True)
    x = np.random.default_rng(seed).dirichlet(np.ones(34)) + 1e-3
    kernel = walk.kernel(x)
    pi = walk.target * (x / walk.target) ** -alpha
    pi /= pi.sum()
    np.testing.assert_allclose(pi @ kernel, pi, rtol=1e-9)
    assert kernel.min() >= -1e-15
    np.testing.assert_allclose(walk.kernel(walk.target), walk.chain.toarray(), atol=1e-12)


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_the_compiled_history_target_is_the_plain_one(gamma: float) -> None:
    walk = sr.SelfRepellentWalk.on(karate(), alpha=3.0, gamma=gamma, history_target=True)
    got = walk.sample(600, np.random.default_rng(3), start=5)
    rng, node, x, nodes, base = np.random.default_rng(3), 5, np.full(34, 1 / 34), [], walk.chain.toarray()
    for k in range(600):
        point, accept = rng.random(2)
        new = int(np.searchsorted(np.cumsum(base[node]), point, side="right"))
        if accept < (walk.target[new] / x[new] * x[node] / walk.target[node]) ** 3:
            node = new
        nodes.append(node)
        x += (k + 2) ** -gamma * (np.eye(34)[node] - x)
    np.testing.assert_array_equal(got, nodes)


def test_the_history_target_meets_its_theorem() -> None:
    walk = sr.SelfRepellentWalk.on(karate(), alpha=5.0, history_target=True)
    f = np.random.default_rng(0).standard_normal(34)
    theory = sr.asymptotic_variance(walk.chain, walk.target, f, 5.0, history_target=True)
    assert theory == pytest.approx(4.79463 / 11, rel=1e-4)
    errors = walk.estimate(f, 10_000, np.random.default_rng(1), chains=300) - f.mean()
    assert 0.7 < 10_000 * np.mean(errors**2) / theory < 1.35  # a mean square over 300 chains has sd 8%


@pytest.mark.parametrize(("alpha", "gamma"), [(0.0, 1.0), (1.0, 1.0), (10.0, 1.0), (20.0, 0.6), (200.0, 0.8)])
def test_visits_converge_and_nothing_overflows(alpha: float, gamma: float) -> None:
    walk = sr.SelfRepellentWalk.on(karate(), alpha=alpha, gamma=gamma)
    nodes = walk.sample(100_000, np.random.default_rng(0))
    share = np.bincount(nodes, minlength=34) / len(nodes)
    assert np.abs(share - walk.target).sum() / 2 < 0.03
    edges = {(i, j) for i, j in zip(*walk.chain.nonzero(), strict=True)}
    assert set(zip(nodes[:-1].tolist(), nodes[1:].tolist(), strict=True)) <= {(int(i), int(j)) for i, j in edges}


def test_base_variance_against_the_fundamental_matrix() -> None:
    chain, mu = sr.base_chain(karate())
    p, f = chain.toarray(), np.random.default_rng(0).standard_normal(34)
    centred = f - mu @ f
    solution = np.linalg.solve(np.eye(34) - p + np.outer(np.ones(34), mu), centred)
    exact = 2 * mu @ (centred * solution) - mu @ centred**2
    assert sr.asymptotic_variance(chain, mu, f, 0.0) == pytest.approx(exact)
    assert sr.asymptotic_variance(chain, mu, f, 0.0) == pytest.approx(4.79463, rel=1e-4)
    assert sr.sgd_covariance(chain, mu, f[:, None], 0.0)[0, 0] == pytest.approx(exact)


def test_the_complete_graph_has_the_closed_form() -> None:
    chain, mu, f = sparse.csr_array(np.full((5, 5), 0.2)), np.full(5, 0.2), np.arange(5.0)
    for alpha in (0.0, 2.0, 9.0):
        assert sr.asymptotic_variance(chain, mu, f, alpha) == pytest.approx(2 / (2 * alpha + 1))
        assert sr.asymptotic_variance(chain, mu, f, alpha, gamma=0.8) == pytest.approx(2 / (2 * alpha + 2))
        assert sr.sgd_covariance(chain, mu, f[:, None], alpha)[0, 0] == pytest.approx(2 / (alpha + 1) ** 2)


@pytest.mark.parametrize("alpha", [1.0, 10.0])
def test_measured_variance_meets_the_theorem(alpha: float) -> None:
    walk, f = sr.SelfRepellentWalk.on(karate(), alpha=alpha), np.random.default_rng(0).standard_normal(34)
    errors = walk.estimate(f, 10_000, np.random.default_rng(1), chains=300) - f.mean()
    ratio = 10_000 * np.mean(errors**2) / sr.asymptotic_variance(walk.chain, walk.target, f, alpha)
    assert 0.7 < ratio < 1.35  # a mean square over 300 chains has sd 8%


def test_token_sgd_finds_the_mean_and_records() -> None:
    walk, f = sr.SelfRepellentWalk.on(karate(), alpha=5.0, gamma=0.8), np.random.default_rng(0).standard_normal(34)
    path = sr.token_sgd(
        walk, lambda t, i: t - f[i], np.zeros(1), 5000, np.random.default_rng(0), record=np.array([1, 100, 5000])
    )
    assert path.shape == (3, 1)
    assert abs(path[-1, 0] - f.mean()) < 0.05
    assert np.isclose(path[0, 0], 2**-0.9 * f).any()


def test_the_data_order_visits_along_edges_and_covers_shards() -> None:
    import torch

    walk = sr.SelfRepellentWalk.on(karate(), alpha=5.0)
    shards = np.arange(34 * 4).reshape(34, 4).tolist()
    order = sr.WalkOrder(walk, shards, n=2000, seed=1)
    loader = torch.utils.data.DataLoader(torch.arange(34 * 4), sampler=order, batch_size=1)
    seen = torch.cat(list(loader)).numpy()
    assert len(seen) == len(order) == 2000
    assert np.bincount(seen, minlength=136).min() > 5
    nodes = seen // 4
    assert all(walk.chain[i, j] > 0 for i, j in itertools.pairwise(nodes[:200]))
    assert not np.array_equal(seen, np.array(list(order)))  # the next epoch differs


def test_bad_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    two = sparse.block_diag([karate(), karate()])
    with pytest.raises(ValueError, match="2 components"):
        sr.base_chain(two)
    with pytest.raises(ValueError, match="weights >= 0"):
        sr.base_chain(-karate())
    with pytest.raises(ValueError, match="symmetric edges"):
        sr.base_chain(sparse.csr_array(np.array([[0.0, 1.0], [0.0, 0.0]])))
    with pytest.raises(ValueError, match="alpha = -1"):
        sr.SelfRepellentWalk.on(karate(), alpha=-1)
    with pytest.raises(ValueError, match=r"gamma = 0\.5"):
        sr.SelfRepellentWalk.on(karate(), gamma=0.5)
    cycle = sparse.csr_array(np.roll(np.eye(3), 1, axis=1) * 0.9 + np.roll(np.eye(3), -1, axis=1) * 0.1)
    with pytest.raises(ValueError, match="not reversible"):
        sr.SelfRepellentWalk(cycle, np.full(3, 1 / 3))
    walk = sr.SelfRepellentWalk.on(karate())
    with pytest.raises(ValueError, match="start = 40"):
        walk.sample(10, rng, start=40)
    with pytest.raises(ValueError, match="NaN or inf at node"):
        sr.token_sgd(walk, lambda t, i: t * np.nan, np.zeros(1), 5, rng)
    with pytest.raises(ValueError, match="an example at every node"):
        sr.WalkOrder(walk, [[]] * 34, 5)
