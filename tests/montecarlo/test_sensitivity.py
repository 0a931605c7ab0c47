"""ℓ_p scores against closed forms, linear programmes, random directions and their known inequalities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, sparse

from hartley.montecarlo import sensitivity as sn


def matrix(seed: int = 0, n: int = 120, d: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, size=(n, d))


def test_leverage_is_the_diagonal_of_the_hat_matrix() -> None:
    a = matrix()
    hat = a @ np.linalg.inv(a.T @ a) @ a.T
    np.testing.assert_allclose(sn.leverage_scores(a), np.diag(hat), rtol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e9])
def test_leverage_ignores_the_scale_of_columns(scale: float) -> None:
    a = matrix(1)
    np.testing.assert_allclose(sn.leverage_scores(a * [1, scale, 1 / scale]), sn.leverage_scores(a), rtol=1e-9)


def test_streams_sparse_and_memory_maps_agree(tmp_path) -> None:
    a = matrix(2, n=500)
    a[::3, 0] = 0
    np.save(tmp_path / "a.npy", a)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    want = sn.leverage_scores(a)
    for version in (mapped, sparse.csr_matrix(a), sparse.coo_array(a)):
        np.testing.assert_allclose(sn.leverage_scores(version, chunk=64), want, rtol=1e-10)
    want = sn.lp_sensitivities(a, 3, method="sketch", rng=np.random.default_rng(0))
    for version in (mapped, sparse.csr_matrix(a)):
        got = sn.lp_sensitivities(version, 3, method="sketch", rng=np.random.default_rng(0), chunk=64)
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_rank_deficient_columns_count_once() -> None:
    a = matrix(3)
    doubled = np.hstack([a, a[:, :1] + a[:, 1:2]])
    np.testing.assert_allclose(sn.leverage_scores(doubled), sn.leverage_scores(a), rtol=1e-8)
    assert sn.leverage_scores(doubled).sum() == pytest.approx(3)
    np.testing.assert_allclose(sn.lp_sensitivities(doubled, 3), sn.lp_sensitivities(a, 3), rtol=1e-6)


@pytest.mark.parametrize("p", [1, 1.5, 3, 4, 6, 10])
def test_lewis_weights_are_the_fixed_point(p: float) -> None:
    a = matrix(4, n=300, d=5)
    w = sn.lewis_weights(a, p, tol=1e-10)
    np.testing.assert_allclose(w, sn.leverage_scores(a * w[:, None] ** (0.5 - 1 / p)), rtol=1e-8)
    assert w.sum() == pytest.approx(5, abs=1e-8)


def test_all_scores_agree_at_two() -> None:
    a = matrix(5)
    tau = sn.leverage_scores(a)
    np.testing.assert_array_equal(sn.lp_sensitivities(a, 2), tau)
    np.testing.assert_array_equal(sn.lewis_weights(a, 2), tau)
    np.testing.assert_allclose(sn.lp_sensitivities(a, 2.001), tau, rtol=0.02)


def test_sensitivity_of_a_column_and_of_a_block() -> None:
    column = np.array([[1.0], [2.0], [-3.0]])
    for p in (1, 1.3, 4):
        share = np.abs(column[:, 0]) ** p
        np.testing.assert_allclose(sn.lp_sensitivities(column, p), share / share.sum(), rtol=1e-8)
        np.testing.assert_allclose(sn.lp_sensitivities(np.eye(3), p), 1, rtol=1e-8)


def test_at_one_the_primal_linear_programme_agrees() -> None:
    a = matrix(6, n=25)
    scores = sn.lp_sensitivities(a, 1)
    n, d = a.shape
    for i in (0, 7, 24):  # min sum t, -t <= a x <= t, a_i x = 1
        c = np.r_[np.zeros(d), np.ones(n)]
        bound = np.block([[a, -np.eye(n)], [-a, -np.eye(n)]])
        equal = np.r_[a[i], np.zeros(n)][None]
        best = optimize.linprog(c, bound, np.zeros(2 * n), equal, [1.0], bounds=[(None, None)] * (d + n))
        assert scores[i] == pytest.approx(1 / best.fun, rel=1e-8)


@pytest.mark.parametrize("p", [1.0, 1.2, 1.5, 3.0, 4.0, 7.0])
def test_random_directions_reach_but_never_pass_the_sensitivity(p: float) -> None:
    a = matrix(7, n=60)
    share = np.abs(a @ np.random.default_rng(0).standard_normal((3, 100_000))) ** p
    found = (share / share.sum(axis=0)).max(axis=1)
    scores = sn.lp_sensitivities(a, p)
    assert np.all(found <= scores * (1 + 1e-6))
    np.testing.assert_allclose(found, scores, rtol=0.01)


@pytest.mark.parametrize("p", [1.2, 1.7, 3.0, 5.0])
def test_published_inequalities(p: float) -> None:
    a = matrix(8, n=200, d=4)
    sigma, w, tau = sn.lp_sensitivities(a, p), sn.lewis_weights(a, p), sn.leverage_scores(a)
    up = 1 + 1e-6
    if p < 2:
        assert np.all(sigma <= w * up)
        assert np.all(w <= 4 ** (1 - p / 2) * sigma * up)
        assert np.all(sigma <= tau ** (p / 2) * up)
        assert sigma.sum() <= 4 * up
    else:
        assert np.all(sigma <= 4 ** (p / 2 - 1) * w * up)
        assert np.all(sigma <= 200 ** (p / 2 - 1) * tau ** (p / 2) * up)
        assert sigma.sum() * up >= 4
        assert sigma.sum() <= 4 ** (p / 2) * up
        assert np.all(sn.leverage_scores(a * sigma[:, None] ** (0.5 - 1 / p)) <= sigma * up)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), p=st.sampled_from([1.5, 3.0, 4.0]))
def test_sensitivities_ignore_coordinates_and_halve_on_copies(seed: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((20, 3))
    sigma = sn.lp_sensitivities(a, p)
    np.testing.assert_allclose(sn.lp_sensitivities(a @ rng.standard_normal((3, 3)), p), sigma, rtol=1e-4)
    np.testing.assert_allclose(sn.lp_sensitivities(np.vstack([a, a]), p)[:20], sigma / 2, rtol=1e-6)


@pytest.mark.parametrize("p", [4.0, 6.0])
def test_the_polynomial_of_an_even_norm_is_the_norm(p: float) -> None:
    a = matrix(11, n=10)  # too few rows to be worth a polynomial; four copies of each are enough
    np.testing.assert_allclose(
        sn.lp_sensitivities(np.vstack([a] * 4), p)[:10], sn.lp_sensitivities(a, p) / 4, rtol=1e-9
    )
    np.testing.assert_allclose(sn.lp_sensitivities(a, p), sn.lp_sensitivities(a, p + 1e-7), rtol=1e-5)


@pytest.mark.parametrize("p", [1.2, 4.0])
def test_sketch_is_within_its_promise(p: float) -> None:
    a = matrix(9, n=1500, d=4)
    exact = sn.lp_sensitivities(a, p)
    sketch = sn.lp_sensitivities(a, p, method="sketch", rng=np.random.default_rng(0), sketch_rows=400)
    assert np.quantile(sketch / exact, 0.01) > 0.75
    assert np.quantile(sketch / exact, 0.99) < 1.35


@pytest.mark.parametrize("exact_size", [False, True])
def test_the_sampled_norm_is_unbiased(exact_size: bool) -> None:
    a, x, p = matrix(10, n=80), np.array([1.0, -2.0, 0.5]), 1.5
    scores, rng = sn.row_scores(a, p, "lewis"), np.random.default_rng(0)
    truth = (np.abs(a @ x) ** p).sum()
    found = []
    for _ in range(2000):
        s = sn.draw_rows(scores, 20, p, rng, exact_size=exact_size)
        found.append((np.abs((a[s.indices] * s.row_scale[:, None]) @ x) ** p).sum())
        assert not exact_size or len(s.indices) == 20
        assert np.all(s.weights[s.probabilities[s.indices] == 1] == 1)
    z = (np.mean(found) - truth) / (np.std(found) / np.sqrt(2000))
    assert abs(z) < 4  # false alarms: 6e-5


def test_distortion_sees_a_lost_row_and_nothing_in_a_full_sample() -> None:
    a = matrix(11, n=200)
    a[0] = [1000, 0, 0]
    rng = np.random.default_rng(0)
    everything = sn.draw_rows(np.ones(200), 200, 3, rng)
    assert sn.distortion(a, everything, rng) < 1e-8
    without = sn.RowSample(np.arange(1, 200), np.ones(199), np.r_[0.0, np.ones(199)], 3)
    assert sn.distortion(a, without, rng) > 0.99


@pytest.mark.parametrize("scheme", sn.SCHEMES)
def test_every_scheme_samples(scheme: sn.Scheme) -> None:
    a, p = matrix(12, n=400), 3.0 if scheme == "combined" else 1.5
    sample = sn.sample_rows(a, p, 150, np.random.default_rng(0), scheme=scheme)
    assert 100 < len(sample.indices) < 200
    assert sample.probabilities.sum() == pytest.approx(150)


def test_recursive_root_leverage_stays_unbiased() -> None:
    a, x, p = matrix(13, n=300), np.array([1.0, 1.0, -1.0]), 1.2
    rng = np.random.default_rng(0)
    truth, found = (np.abs(a @ x) ** p).sum(), []
    for _ in range(400):
        s = sn.sample_rows(a, p, 40, rng, scheme="root_leverage", rounds=3)
        found.append(s.weights @ np.abs(a[s.indices] @ x) ** p)
    z = (np.mean(found) - truth) / (np.std(found) / np.sqrt(400))
    assert abs(z) < 4  # false alarms: 6e-5


def test_a_quantile_regression_on_the_sample_is_nearly_the_full_one() -> None:
    from sklearn.linear_model import QuantileRegressor

    from hartley.montecarlo.estimators import RowSampler

    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 3))
    x[:5] *= 100
    y = x @ [1.0, -1.0, 2.0] + rng.standard_t(2, size=3000)
    rows, targets, weights = RowSampler(p=1.1, m=600, random_state=0).fit_resample(x, y)
    model = QuantileRegressor(alpha=0).fit(rows, targets, sample_weight=weights)
    full = QuantileRegressor(alpha=0).fit(x, y)

    def loss(m: QuantileRegressor) -> float:
        return float(np.abs(y - m.predict(x)).mean())

    assert len(rows) < 700
    assert loss(model) < 1.01 * loss(full)


def test_bad_input_is_refused() -> None:
    a = matrix(14)
    broken = a.copy()
    broken[17, 1] = np.nan
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="row 17"):
        sn.leverage_scores(broken)
    with pytest.raises(ValueError, match="matrix with rows and columns"):
        sn.leverage_scores(np.ones(3))
    with pytest.raises(ValueError, match="nonzero entry"):
        sn.leverage_scores(np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"p = 0\.5"):
        sn.lewis_weights(a, 0.5)
    with pytest.raises(ValueError, match="rng = None"):
        sn.lp_sensitivities(a, 3, method="sketch")
    with pytest.raises(ValueError, match="finite numbers >= 0"):
        sn.draw_rows(np.array([1.0, np.inf]), 1, 2, rng)
    with pytest.raises(ValueError, match="m = 500"):
        sn.sample_rows(a, 2, 500, rng)
    with pytest.raises(ValueError, match="above 2 for the combined"):
        sn.row_scores(a, 1.5, "combined")
    with pytest.raises(RuntimeError, match="3 iterations"):
        sn.lewis_weights(a, 4, max_iterations=3)
