"""Rare events against closed forms, optimisers on known minima, pooled paths against hand examples."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
import torch
from scipy import optimize, stats

from hartley.labs.rare_events import (
    BRIDGE_MEANS,
    BRIDGE_PROBABILITY,
    SLOPES,
    ZEROS,
    Tree,
    bridge,
    small_zeta_probability,
    zeta,
)
from hartley.montecarlo import cross_entropy as ce
from hartley.montecarlo.path_nucleus import _nucleus_draw, path_top_p

NORMAL = ce.Normal(np.zeros(1), np.ones(1))


def first(x: np.ndarray) -> np.ndarray:
    return x[:, 0]


def test_a_normal_tail_and_its_optimal_mean() -> None:
    event = ce.rare_event(first, 3.0, NORMAL, np.random.default_rng(0), n=4000, n_final=20_000)
    assert abs(event.probability - stats.norm.sf(3)) < 4.5 * event.stderr
    assert event.relative_error < 0.03
    assert event.law.mean[0] == pytest.approx(3.2831, abs=0.1)  # phi(3) / sf(3)
    assert event.converged
    assert np.all(np.diff(event.levels) >= 0)
    assert event.effective > 1000


def test_a_gamma_tail() -> None:
    law = ce.Exponential(np.ones(4))
    event = ce.rare_event(lambda x: x.sum(axis=1), 20.0, law, np.random.default_rng(0), n_final=20_000)
    truth = stats.gamma(4).sf(20)
    assert abs(event.probability - truth) < 4.5 * event.stderr
    np.testing.assert_allclose(event.law.mean, stats.gamma(5).sf(20) / truth, rtol=0.15)


def test_a_binomial_tail() -> None:
    law = ce.Bernoulli(np.full(20, 0.1))
    event = ce.rare_event(lambda x: x.sum(axis=1), 11.0, law, np.random.default_rng(0), n_final=20_000)
    assert abs(event.probability - stats.binom(20, 0.1).sf(10)) < 4.5 * event.stderr


def test_a_sum_of_dice() -> None:
    law = ce.Categorical(np.full((8, 6), 1 / 6))
    event = ce.rare_event(lambda x: x.sum(axis=1) + 8, 44.0, law, np.random.default_rng(0), n_final=20_000)
    counts = np.ones(1)
    for _ in range(8):
        counts = np.convolve(counts, np.ones(6))
    truth = counts[44 - 8 :].sum() / 6**8
    assert abs(event.probability - truth) < 4.5 * event.stderr
    assert event.relative_error < 0.05
    tilted = np.ones(6)  # the law of one die given the sum, exact by the other seven
    rest = np.ones(1)
    for _ in range(7):
        rest = np.convolve(rest, np.ones(6))
    for face in range(6):
        tilted[face] = rest[max(0, 44 - 8 - face) :].sum()
    np.testing.assert_allclose(event.law.p, np.tile(tilted / tilted.sum(), (8, 1)), atol=0.08)


def test_permutations_have_a_law_that_sums_to_one() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=4)
    law = ce.Categorical(p, distinct=True)
    every = np.array(list(itertools.permutations(range(4))), dtype=float)
    mass = np.exp(law.logpdf(every))
    assert mass.sum() == pytest.approx(1)
    assert np.exp(law.logpdf(np.array([[0.0, 0.0, 1.0, 2.0]])))[0] == 0
    drawn = law.sample(20_000, np.random.default_rng(1))
    counts = [(drawn == row).all(axis=1).sum() for row in every]
    assert sum(counts) == 20_000
    keep = mass > 5e-4  # expected counts of at least ten
    found = np.append(np.array(counts)[keep], np.array(counts)[~keep].sum())
    want = 20_000 * np.append(mass[keep], mass[~keep].sum())
    assert stats.chisquare(found[want > 0], want[want > 0]).pvalue > 1e-4


def test_assignments_and_colourings_reach_the_known_optimum() -> None:
    rng = np.random.default_rng(0)
    cost = rng.random((7, 7))
    found = ce.minimize(
        lambda x: cost[np.arange(7), x.astype(int)].sum(axis=1),
        np.full((7, 7), 1 / 7),
        rng=rng,
        family="permutation",
        n=400,
    )
    rows, columns = optimize.linear_sum_assignment(cost)
    assert found.fun == pytest.approx(cost[rows, columns].sum())
    np.testing.assert_array_equal(found.x, columns)
    couplings = rng.standard_normal((6, 6, 3, 3))

    def energy(x: np.ndarray) -> np.ndarray:
        k = x.astype(int)
        return sum(couplings[i, j, k[:, i], k[:, j]] for i in range(6) for j in range(i))

    every = np.array(list(itertools.product(range(3), repeat=6)), dtype=float)
    found = ce.minimize(energy, np.full((6, 3), 1 / 3), rng=rng, family="categorical", n=300)
    assert found.fun == pytest.approx(energy(every).min())


def test_intervals_cover_the_bridge() -> None:
    runs = [
        ce.rare_event(bridge, 2.0, ce.Exponential(BRIDGE_MEANS), np.random.default_rng(s), n_final=10_000)
        for s in range(20)
    ]
    z = np.array([(r.probability - BRIDGE_PROBABILITY) / r.stderr for r in runs])
    assert np.mean(np.abs(z) < 1.96) >= 0.8  # false alarms: 0.3% at a coverage of 95%
    assert np.abs(z).max() < 4.5


def test_an_easy_event_is_plain_monte_carlo() -> None:
    event = ce.rare_event(first, -1.0, NORMAL, np.random.default_rng(0), defensive=0.999999, n_final=5000)
    assert event.levels == (-1.0,)
    assert event.stderr == pytest.approx(np.sqrt(stats.norm.sf(-1) * stats.norm.cdf(-1) / 5000), rel=0.05)


def test_monotone_transforms_change_nothing() -> None:
    a = ce.rare_event(first, 2.5, NORMAL, np.random.default_rng(3), n_final=2000)
    b = ce.rare_event(lambda x: np.exp(x[:, 0]), np.exp(2.5), NORMAL, np.random.default_rng(3), n_final=2000)
    assert a.probability == pytest.approx(b.probability, rel=1e-12)


def test_two_modes_need_a_mixture() -> None:
    def both(x: np.ndarray) -> np.ndarray:
        return np.abs(x[:, 0])

    start = ce.NormalMixture.spread([-5], [5], 4, np.random.default_rng(0), floor=0.05)
    event = ce.rare_event(both, 4.0, NORMAL, np.random.default_rng(1), start=start, n=4000, n_final=20_000)
    assert abs(event.probability - 2 * stats.norm.sf(4)) < 4.5 * event.stderr
    assert event.relative_error < 0.1
    assert event.law.mean.min() < -3.5
    assert event.law.mean.max() > 3.5


def test_an_impossible_event_is_told_and_bounded() -> None:
    with pytest.warns(UserWarning, match="levels stalled"):
        event = ce.rare_event(lambda x: np.minimum(x[:, 0], 1.0), 2.0, NORMAL, np.random.default_rng(0), n_final=1000)
    assert event.probability == 0
    assert event.upper == pytest.approx(0.003)
    assert not event.converged
    assert event.relative_error == float("inf")


def test_strata_add_up() -> None:
    rng = np.random.default_rng(0)
    event = ce.rare_event(first, 1.0, NORMAL, rng, n_final=1000)
    p, error = ce.stratified([(0.5, event), (0.5, event)])
    assert p == pytest.approx(event.probability)
    assert error == pytest.approx(event.stderr / np.sqrt(2))


def test_the_optimiser_finds_and_shifts_with_the_problem() -> None:
    def sphere(x: np.ndarray) -> np.ndarray:
        return np.square(x - 1).sum(axis=1)

    found = ce.minimize(sphere, np.full(4, 3.0), np.full(4, 3.0), rng=np.random.default_rng(0))
    assert found.success
    assert found.fun < 1e-9
    np.testing.assert_allclose(found.x, 1, atol=1e-4)
    shifted = ce.minimize(lambda x: sphere(x - 5), np.full(4, 8.0), np.full(4, 3.0), rng=np.random.default_rng(0))
    np.testing.assert_allclose(shifted.x, found.x + 5, atol=1e-4)


def test_max_cut_of_a_small_graph() -> None:
    rng = np.random.default_rng(0)
    w = np.triu(rng.integers(0, 2, (10, 10)), 1)

    def minus_cut(x: np.ndarray) -> np.ndarray:
        return -np.einsum("ij,nij->n", w, x[:, :, None] != x[:, None, :])

    every = ((np.arange(2**10)[:, None] >> np.arange(10)) & 1).astype(float)
    found = ce.minimize(minus_cut, np.full(10, 0.5), rng=np.random.default_rng(1), family="bernoulli", n=200)
    assert found.fun == minus_cut(every).min()
    stopped = ce.minimize(
        minus_cut, np.full(10, 0.5), rng=rng, family="bernoulli", callback=lambda state: state.nit >= 2
    )
    assert stopped.nit == 2


def test_zeta_against_mpmath() -> None:
    points = np.array([2 + 0j, 0.5 + 14.134725141734693j, 0.3 + 40j, 1 + 25j])
    want = [complex(mpmath.zeta(complex(s))) for s in points]
    np.testing.assert_allclose(zeta(points), want, atol=1e-12)
    assert np.abs(zeta(0.5 + 1j * ZEROS)).max() < 1e-12
    slopes = [abs(complex(mpmath.zeta(mpmath.mpc(0.5, t), derivative=1))) for t in ZEROS]
    np.testing.assert_allclose(SLOPES, slopes, rtol=1e-4)
    assert small_zeta_probability(0.01) == pytest.approx(4.4747e-5, rel=1e-3)


def test_the_pool_of_the_hand_example() -> None:
    weights = torch.tensor([0.30, 0.30, 0.36, 0.04], dtype=torch.float64).log()
    assert sorted(_nucleus_draw(weights, 4, 0.6, None).tolist()) == [0, 2]
    drawn = [
        tuple(sorted(_nucleus_draw(weights, 1, 0.9, torch.Generator().manual_seed(s)).tolist())) for s in range(3000)
    ]
    counts = np.array([drawn.count((i,)) for i in (0, 1, 2)])
    assert counts.sum() == 3000
    assert stats.chisquare(counts, 3000 * np.array([0.30, 0.30, 0.36]) / 0.96).pvalue > 1e-4


def test_paths_carry_their_probabilities_and_end() -> None:
    tree = Tree.random(np.random.default_rng(0), vocab=3, depth=4)
    start = torch.zeros(1, dtype=torch.long)
    found = path_top_p(tree, start, k=3, p=1.0, max_len=4, generator=torch.Generator().manual_seed(0))
    assert len(set(found.tokens)) == 3
    for tokens, log in zip(found.tokens, found.log_probs, strict=True):
        ids, total = [0, *tokens], 0.0
        for i in range(4):
            total += float(tree(torch.tensor([ids[: i + 1]]))[0, tokens[i]])
        assert float(log) == pytest.approx(total)
    greedy = path_top_p(tree, start, k=1, p=1e-9, max_len=4)
    ids = [0]
    for _ in range(4):
        ids.append(int(tree(torch.tensor([ids]))[0].argmax()))
    assert greedy.tokens[0] == tuple(ids[1:])
    wide = path_top_p(tree, start, k=81, p=1.0, max_len=4)
    assert float(wide.log_probs[0]) == pytest.approx(tree.best())
    assert float(wide.log_probs.exp().sum()) == pytest.approx(1)
    ended = path_top_p(tree, start, k=81, p=1.0, max_len=4, eos=2)
    assert float(ended.log_probs.exp().sum()) == pytest.approx(1)
    assert all(2 not in tokens[:-1] for tokens in ended.tokens)


def test_bad_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="NaN at 1000 points, first at row 0"):
        ce.rare_event(lambda x: x[:, 0] * np.nan, 1.0, NORMAL, rng)
    with pytest.raises(ValueError, match=r"elite = 1\.5"):
        ce.rare_event(first, 1.0, NORMAL, rng, elite=1.5)
    with pytest.raises(ValueError, match="at least one elite point"):
        ce.minimize(first, np.zeros(1), rng=rng, n=5)
    with pytest.raises(ValueError, match=r"start = \(3,\): expected a matrix of probabilities"):
        ce.minimize(first, np.zeros(3), rng=rng, family="categorical")
    with pytest.raises(ValueError, match="p = 0"):
        path_top_p(lambda ids: torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), p=0, max_len=2)
