"""Spaces, determinantal draws and designs against quadrature, brute-force determinants and exact identities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hartley.montecarlo import determinantal as dt
from hartley.montecarlo import spaces as sp

LAWS = {sp.Legendre: stats.uniform(-1, 2), sp.Hermite: stats.norm(), sp.Laguerre: stats.expon()}


class Sequential:
    """A space without its tridiagonal shortcut, whose independent points are drawn all at once."""

    def __init__(self, space: sp.Univariate, rng: np.random.Generator) -> None:
        self.dimension, self.features = space.dimension, space.features
        self.pool = iter(np.split(space.sample_optimal(18 * 2000, rng), 2000))

    def sample_optimal(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return next(self.pool)[:n]


def quadrature(family: type, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    if family is sp.Legendre:
        x, w = np.polynomial.legendre.leggauss(n)
    elif family is sp.Hermite:
        x, w = np.polynomial.hermite_e.hermegauss(n)
    else:
        x, w = np.polynomial.laguerre.laggauss(n)
    return x, w / w.sum()


@pytest.mark.parametrize("family", LAWS)
def test_bases_are_orthonormal(family: type) -> None:
    x, w = quadrature(family, 60)
    phi = family(12).features(x)
    np.testing.assert_allclose(phi.T @ (w[:, None] * phi), np.eye(12), atol=1e-9)
    assert family(1).features(x).shape == (60, 1)


@pytest.mark.parametrize("family", LAWS)
@pytest.mark.parametrize("degree", [0, 1, 5])
def test_squared_basis_draws_have_the_right_law(family: type, degree: int) -> None:
    x = family(degree + 1).sample_squared(np.full(4000, degree), np.random.default_rng(degree))
    grid = np.linspace(x.min() - 1, x.max() + 1, 20001)
    density = family(degree + 1).features(grid)[:, degree] ** 2 * LAWS[family].pdf(grid)
    total = np.cumsum(density)
    p = stats.kstest(x, lambda t: np.interp(t, grid, total / total[-1])).pvalue
    assert p > 1e-4  # false alarms: 1e-4 a case


@pytest.mark.parametrize("family", LAWS)
@pytest.mark.parametrize("sequential", [False, True])
def test_dpp_mean_and_variance_of_a_linear_statistic(family: type, sequential: bool) -> None:
    m, rng, draws = 5, np.random.default_rng(0), 500
    space = family(m)
    x, w = quadrature(family, 60)
    phi = space.features(x)
    g, kernel = np.tanh(x), phi @ phi.T
    mean = w @ (g * np.diag(kernel))
    variance = w @ (g**2 * np.diag(kernel)) - w @ ((g[:, None] * g) * kernel**2) @ w
    source = Sequential(space, rng) if sequential else space
    sums = np.array([np.tanh(dt.sample_dpp(source, rng)).sum() for _ in range(draws)])
    assert abs(sums.mean() - mean) < 4.5 * np.sqrt(variance / draws)  # false alarms: 7e-6
    assert sums.var() == pytest.approx(variance, rel=0.35)  # about 5 sd of a variance of 500


def test_published_legendre_figures() -> None:
    x, w = quadrature(sp.Legendre, 100)
    kernel = sp.Legendre(6).features(x) @ sp.Legendre(6).features(x).T
    assert w @ (x**2 * np.diag(kernel)) == pytest.approx(2.97902, abs=1e-5)
    variance = w @ (x**4 * np.diag(kernel)) - w @ (np.outer(x**2, x**2) * kernel**2) @ w
    assert variance == pytest.approx(0.12683, abs=1e-5)


def test_finite_law_is_the_squared_determinant() -> None:
    rng = np.random.default_rng(0)
    space = sp.Empirical(rng.standard_normal((6, 3)))
    kernel = space.orthonormal @ space.orthonormal.T
    subsets = list(itertools.combinations(range(6), 3))
    law = np.array([np.linalg.det(kernel[np.ix_(s, s)]) for s in subsets])
    assert law.sum() == pytest.approx(1)
    draws = 6000
    index = {s: i for i, s in enumerate(subsets)}
    counts = np.zeros(20)
    for _ in range(draws):
        counts[index[tuple(sorted(dt.sample_dpp(space, rng).tolist()))]] += 1
    assert stats.chisquare(counts, draws * law).pvalue > 1e-4  # false alarms: 1e-4


@settings(max_examples=20, deadline=None)
@given(m=st.integers(1, 12), extra=st.integers(0, 20), seed=st.integers(0, 10**6))
def test_finite_draws_are_distinct_and_of_full_rank(m: int, extra: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((m + extra, m))
    drawn = dt.projection_dpp(features, rng)
    assert len(set(drawn.tolist())) == m
    assert np.linalg.matrix_rank(features[drawn]) == m


def test_a_weighted_candidate_set_keeps_its_law() -> None:
    rng = np.random.default_rng(1)
    space = sp.Empirical(rng.standard_normal((30, 4)), rng.random(30))
    phi = space.features(np.arange(30))
    np.testing.assert_allclose(phi.T @ (space.mu[:, None] * phi), np.eye(4), atol=1e-10)
    x = space.sample_optimal(20_000, rng)
    expected = 20_000 * space.mu * np.square(phi).sum(axis=1) / 4
    assert stats.chisquare(np.bincount(x, minlength=30), expected).pvalue > 1e-4


def test_total_degree_and_tensor_spaces() -> None:
    total = sp.Product.total_degree(sp.Legendre, 3, 4)
    assert total.dimension == 35
    tensor = sp.Product.tensor(sp.Legendre(3), sp.Hermite(4))
    assert tensor.dimension == 12
    x, w = quadrature(sp.Legendre, 10)
    y, v = quadrature(sp.Hermite, 10)
    grid = np.array(list(itertools.product(x, y)))
    phi = tensor.features(grid)
    np.testing.assert_allclose(phi.T @ (np.outer(w, v).ravel()[:, None] * phi), np.eye(12), atol=1e-9)
    design = dt.sample_design(tensor, 24, np.random.default_rng(0))
    assert design.x.shape == (24, 2)


@pytest.mark.parametrize("strategy", ["iid", "volume", "repeated_dpp"])
def test_design_matrices_are_the_identity_on_average(strategy: dt.Strategy) -> None:
    rng, space = np.random.default_rng(0), sp.Legendre(4)
    grams = []
    for _ in range(500):
        d = dt.sample_design(space, 12, rng, strategy=strategy)
        grams.append(sp.gram(space, d.x, d.weights))
        assert d.smallest_eigenvalue == pytest.approx(np.linalg.eigvalsh(grams[-1])[0])
    mean, sd = np.mean(grams, axis=0), np.std(grams, axis=0) / np.sqrt(500)
    if strategy != "volume":  # whose mean is not the identity, by design
        assert np.all(np.abs(mean - np.eye(4)) < 4.5 * sd + 1e-12)  # false alarms: 7e-5
        return
    inverse = np.mean([np.linalg.inv(12 * g) for g in grams], axis=0)
    np.testing.assert_allclose(inverse, np.eye(4) / 9, atol=0.03)  # E[(sum w phi phi')^-1] = I / (n - m + 1)


def test_volume_sampling_is_unbiased_and_independent_points_are_not() -> None:
    rng, space = np.random.default_rng(1), sp.Legendre(4)
    x, w = quadrature(sp.Legendre, 40)
    best = space.features(x).T @ (w * np.exp(2 * x))

    def z(strategy: dt.Strategy) -> float:
        fits = []
        for _ in range(500):
            d = dt.sample_design(space, 6, rng, strategy=strategy)
            fits.append(dt.fit_weighted(space, d.x, np.exp(2 * d.x), d.weights) - best)
        return float(np.abs(np.mean(fits, axis=0) / (np.std(fits, axis=0) / np.sqrt(500))).max())

    assert z("volume") < 4.5  # false alarms: 3e-5
    assert z("iid") > 4.5


@settings(max_examples=20, deadline=None)
@given(m=st.integers(1, 8), k=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_members_of_the_space_are_recovered(m: int, k: int, seed: int) -> None:
    rng, space = np.random.default_rng(seed), sp.Legendre(m)
    truth = rng.standard_normal((m, 2))
    d = dt.sample_design(space, k * m, rng)
    got = dt.fit_weighted(space, d.x, space.features(d.x) @ truth, d.weights)
    np.testing.assert_allclose(got, truth, atol=1e-6)


def test_redrawing_reaches_the_bound_or_says_so() -> None:
    rng, space = np.random.default_rng(0), sp.Legendre(8)
    d = dt.sample_design(space, 48, rng, delta=0.5, thin=True)
    assert d.stable
    assert d.smallest_eigenvalue >= 0.5
    assert 8 <= len(d) < 48
    assert np.linalg.eigvalsh(sp.gram(space, d.x, d.weights))[0] == pytest.approx(d.smallest_eigenvalue)
    with pytest.warns(UserWarning, match="Take more points"):
        bad = dt.sample_design(space, 8, rng, delta=0.1, max_redraws=3)
    assert not bad.stable


def test_repulsion_lowers_the_variance_of_counts() -> None:
    rng, space = np.random.default_rng(0), sp.Legendre(10)
    dpp = np.var([(space.sample_dpp(rng) > 0.2).sum() for _ in range(1000)])
    independent = np.var([(space.sample_optimal(10, rng) > 0.2).sum() for _ in range(1000)])
    assert dpp < 0.5 * independent


def test_the_regressor_agrees_with_the_fit() -> None:
    from sklearn.base import clone

    from hartley.montecarlo.estimators import SpaceRegressor

    rng, space = np.random.default_rng(0), sp.Legendre(6)
    d = dt.sample_design(space, 18, rng)
    model = clone(SpaceRegressor(space)).fit(d.x[:, None], np.cos(d.x), sample_weight=d.weights)
    np.testing.assert_allclose(model.coef_, dt.fit_weighted(space, d.x, np.cos(d.x), d.weights))
    assert np.abs(model.predict(np.linspace(-1, 1, 50)) - np.cos(np.linspace(-1, 1, 50))).max() < 1e-3


def test_bad_input_is_refused() -> None:
    rng, space = np.random.default_rng(0), sp.Legendre(5)
    with pytest.raises(ValueError, match="n = 4: expected at least the dimension 5"):
        dt.sample_design(space, 4, rng)
    with pytest.raises(ValueError, match="multiple of the dimension"):
        dt.sample_design(space, 7, rng)
    with pytest.raises(ValueError, match="a delta beside it"):
        dt.sample_design(space, 10, rng, thin=True)
    with pytest.raises(ValueError, match="2 independent features"):
        dt.projection_dpp(np.ones((5, 2)), rng)
    with pytest.raises(ValueError, match=r"2 values, first at row 1"):
        dt.fit_weighted(space, np.linspace(-1, 1, 6), np.array([0, np.nan, 0, 0, np.inf, 0]), np.ones(6))
    with pytest.raises(ValueError, match="rank 5 to fix every coefficient"):
        dt.fit_weighted(space, np.zeros(6), np.zeros(6), np.ones(6))
    with pytest.raises(ValueError, match="numbers >= 0, not all zero"):
        sp.Empirical(np.eye(2), np.array([1.0, -1.0])).mu  # noqa: B018
