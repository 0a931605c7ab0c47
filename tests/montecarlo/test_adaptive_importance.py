"""Adaptive importance sampling against closed forms, a convex solver, and its own promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from hartley.labs.integrals import BEAM_FIRST_ORDER, beam, beam_indices_from, sobol_pairs
from hartley.montecarlo import adaptive_importance as ai
from hartley.montecarlo import proposals


def log_normal(x: np.ndarray) -> np.ndarray:
    return -0.5 * np.square(x).sum(axis=1) - x.shape[1] / 2 * np.log(2 * np.pi)


def draw(d: int):
    return lambda n, rng: rng.standard_normal((n, d))


def tilts(x: np.ndarray) -> np.ndarray:
    return np.exp(1.5 * x[:, :2])


def run(phi=tilts, d: int = 3, n: int = 2000, seed: int = 0, **settings) -> ai.MultiExpectation:
    return ai.multi_expectation(phi, log_normal, draw(d), n_max=n, rng=np.random.default_rng(seed), **settings)


def test_exact_components_leave_no_variance() -> None:
    shifts, a = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0.3, 0.7])
    truth = np.exp(np.square(shifts).sum(axis=1) / 2)
    parts = [proposals.Gaussian(s, np.eye(2)) for s in shifts]
    x = np.concatenate([p.sample(50, np.random.default_rng(i)) for i, p in enumerate(parts)])
    g = np.column_stack([np.exp(p.logpdf(x)) for p in parts])
    v = np.exp(x @ shifts.T) * np.exp(log_normal(x))[:, None] / (g @ a)[:, None]
    np.testing.assert_allclose(v - truth * g / (g @ a)[:, None] + truth, np.broadcast_to(truth, v.shape), rtol=1e-10)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_mixture_weights_agree_with_a_convex_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    numerator, g = rng.exponential(size=200), rng.exponential(size=(200, 3))

    def objective(a: np.ndarray) -> float:
        return float(np.mean(numerator / (g @ a)))

    a = proposals.mixture_weights(numerator, g, iterations=5000, tol=1e-13)
    solved = optimize.minimize(
        objective,
        np.full(3, 1 / 3),
        bounds=[(1e-9, 1)] * 3,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
        options={"ftol": 1e-14},
    )
    assert a.sum() == pytest.approx(1)
    assert objective(a) <= solved.fun * (1 + 1e-6)
    assert objective(a) <= min(objective(np.full(3, 1 / 3)), *(objective(e + 1e-300) for e in np.eye(3)))


def test_estimates_are_unbiased_and_their_errors_honest() -> None:
    runs = [run(seed=s) for s in range(30)]
    truth = np.exp(1.5**2 / 2)
    z = np.array([(r.estimate - truth) / r.stderr for r in runs])
    assert np.all(np.abs(z.mean(axis=0)) < 4.5 / np.sqrt(30) * z.std(axis=0))  # false alarms: 1e-5
    assert np.all((z.std(axis=0) > 0.5) & (z.std(axis=0) < 1.6))
    plain = np.sqrt((np.exp(1.5**2) - 1) / 2000)
    assert np.mean([r.stderr / truth for r in runs]) < 0.35 * plain


def test_signed_functions_and_several_laws() -> None:
    signed = run(lambda x: np.column_stack([x[:, 0], x[:, 0] * x[:, 1] + 1, x[:, 0] ** 2]), n=8000)
    assert np.all(np.abs(signed.estimate - [0, 1, 1]) < 5 * signed.stderr)
    assert signed.control.shape == (5,)
    means = np.array([0.0, 1.0, 2.0])
    laws = ai.multi_expectation(
        lambda x: x[:, 0] ** 3,
        lambda x: -0.5 * (x - means) ** 2 - 0.5 * np.log(2 * np.pi),
        lambda n, rng: rng.standard_normal((n, 1)) + rng.choice(means, n)[:, None],
        n_max=8000,
        rng=np.random.default_rng(0),
    )
    assert np.all(np.abs(laws.estimate - means**3 - 3 * means) < 5 * laws.stderr)


def test_weighted_quantities_of_both_signs_and_options() -> None:
    r = run(lambda x: x[:, :2], n=4000, weights=np.array([1.0, 2.0]), family="diagonal", defensive=0.1, keep="best")
    assert np.all(np.abs(r.estimate) < 5 * r.stderr)
    assert r.mixture.defensive == 0.1


def test_the_budget_is_kept_and_one_seed_is_one_result() -> None:
    seen = []

    def phi(x: np.ndarray) -> np.ndarray:
        seen.append(len(x))
        return tilts(x)

    first = run(phi, n=1234)
    assert sum(seen) == 1234 == first.n_adapt + first.n_final
    np.testing.assert_array_equal(first.estimate, run(n=1234).estimate)
    assert first.effective > 100
    assert 0 < first.largest_share < 0.1


def test_ask_is_stable_until_told() -> None:
    sampler = ai.ImportanceSampler(log_normal, draw(2), n_max=400, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(sampler.ask(), sampler.ask())
    with pytest.raises(ValueError, match="ask and tell go on"):
        sampler.result()
    while (x := sampler.ask()) is not None:
        sampler.tell(tilts(x))
    assert sampler.result().n_adapt + sampler.result().n_final == 400
    with pytest.raises(ValueError, match="tell without ask"):
        sampler.tell(np.zeros(3))


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, capsys) -> None:
    calls = 0

    def stops(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return tilts(x)

    with pytest.raises(KeyboardInterrupt):
        run(stops, checkpoint=tmp_path / "run.npz")
    seen = []
    resumed = run(lambda x: (seen.append(len(x)), tilts(x))[1], checkpoint=tmp_path / "run.npz", progress=True)
    assert sum(seen) == 2000 - 2 * 200
    np.testing.assert_array_equal(resumed.estimate, run().estimate)
    assert "2000/2000 evaluations" in capsys.readouterr().err
    with pytest.raises(ValueError, match="a file of the same run"):
        run(seed=1, checkpoint=tmp_path / "run.npz")


def test_sobol_indices_of_a_linear_model_and_of_the_beam() -> None:
    linear = ai.sobol_indices(
        lambda x: 10 + x @ [1.0, 2.0, 2.0], 3, n_max=20_000, rng=np.random.default_rng(0), groups=[[0], [1, 2]]
    )
    np.testing.assert_allclose(linear.first, [1 / 9, 8 / 9], atol=0.05)
    assert linear.mean == pytest.approx(10, abs=0.02)
    assert linear.variance == pytest.approx(9, rel=0.05)
    exact = beam_indices_from(sobol_pairs(2**15, np.random.default_rng(0)))
    np.testing.assert_allclose(exact, BEAM_FIRST_ORDER, atol=0.015)
    found = ai.sobol_indices(beam, 6, n_max=10_000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found.first, BEAM_FIRST_ORDER, atol=0.06)


def test_a_quantity_that_no_point_carries_is_told() -> None:
    with pytest.warns(UserWarning, match="proposal misses"):
        run(lambda x: (x[:, 0] > 3.2) * 1.0, n=400)


def test_learning_goes_on_while_a_fit_rests_on_few_points() -> None:
    def steep(x: np.ndarray) -> np.ndarray:
        return np.exp(2 * x[:, :4])

    def worst(least: float) -> list[tuple[float, int]]:
        runs = [run(steep, d=5, n=4000, seed=s, least=least) for s in (2, 37, 47)]
        return [(r.effective, r.n_adapt) for r in runs]

    with pytest.warns(UserWarning, match="standard errors are too small"):
        released = worst(0)
    guarded = worst(20)
    # The released rule takes the large variance behind a fit to a handful of points for the end of learning.
    assert all(effective < 30 and adapt == 800 for effective, adapt in released)
    assert all(effective > 60 and adapt > 1200 for effective, adapt in guarded)


def test_two_gaussians_are_the_likeliest_of_their_kind() -> None:
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal([-2, 0], [0.5, 1], (300, 2)), rng.normal([2, 1], [1, 0.5], (700, 2))])
    weights = rng.integers(1, 4, len(x))
    peer = GaussianMixture(2, tol=1e-9, max_iter=500, random_state=0).fit(np.repeat(x, weights, axis=0))
    found = proposals.fit_component(x, np.log(weights), "two-gaussians")
    ours, theirs = weights @ found.logpdf(x), weights @ peer.score_samples(x)
    assert ours == pytest.approx(theirs, abs=1e-3 * weights.sum())
    drawn = found.sample(20_000, rng)
    np.testing.assert_allclose(drawn.mean(axis=0), np.average(x, axis=0, weights=weights), atol=0.05)
    single = proposals.fit_component(x[:3], np.zeros(3), "two-gaussians")
    assert isinstance(single, proposals.Gaussian)  # three points are not enough for two


def test_two_bumps_need_two_gaussians() -> None:
    def bumps(x: np.ndarray) -> np.ndarray:
        return 2 * np.cosh(2 * x[:, 0])

    pair = run(bumps, d=2, n=10_000, family="two-gaussians")
    one = run(bumps, d=2, n=10_000)
    truth = 2 * np.exp(2)
    assert abs(pair.estimate[0] - truth) < 5 * pair.stderr[0]
    assert pair.stderr[0] < 0.2 * one.stderr[0]
    assert pair.effective > 1000


def test_a_density_that_is_not_that_of_the_sample_is_told(recwarn) -> None:
    run(n=4000)
    assert not [w for w in recwarn if "input law's mass" in str(w.message)]
    for wrong in (lambda x: log_normal(x) + np.log(50), lambda x: log_normal(x) - np.log(50)):
        with pytest.warns(UserWarning, match="logpdf is not normalised"):
            ai.multi_expectation(tilts, wrong, draw(3), n_max=4000, rng=np.random.default_rng(0))


def test_bad_input_is_refused() -> None:
    def broken(x: np.ndarray) -> np.ndarray:
        y = tilts(x)
        y[[3, 7]] = np.inf
        return y

    with pytest.raises(ValueError, match=r"not finite at 2 of \d+ points, first at x = \["):
        run(broken)
    with pytest.raises(ValueError, match="rows, one a point"):
        run(lambda x: np.zeros(3))
    with pytest.raises(ValueError, match="n_max = 10"):
        run(n=10)
    with pytest.raises(ValueError, match="2 numbers >= 0"):
        run(weights=np.array([1.0]))
    with pytest.raises(ValueError, match="logpdf = 'NaN'"):
        ai.multi_expectation(tilts, lambda x: x[:, 0] * np.nan, draw(3), n_max=400, rng=np.random.default_rng(0))
