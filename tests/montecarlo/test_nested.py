"""Surrogates in dynesty: evidence against closed forms, the gate, the audit, the way back to the true likelihood."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.special import erf

from hartley.labs.cosmology import LOGZ_LCDM, grid_evidence
from hartley.montecarlo import nested, surrogate

SIGMA = 0.08
TRUTH = 2 * np.log(erf(0.5 / SIGMA / np.sqrt(2)))


def peak(theta: np.ndarray) -> float:
    """A normal density in the unit square, centred."""
    return float(-0.5 * np.square((theta - 0.5) / SIGMA).sum() - 2 * np.log(SIGMA * np.sqrt(2 * np.pi)))


class Oracle:
    """A regressor that knows the answer, plus noise."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise, self.rng = noise, np.random.default_rng(0)

    def fit(self, x: np.ndarray, y: np.ndarray) -> Oracle:
        squares = np.column_stack([np.ones(len(x)), x, x**2])
        self.coefficients = np.linalg.lstsq(squares, y, rcond=None)[0]
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        exact = np.column_stack([np.ones(len(x)), x, x**2]) @ self.coefficients
        return exact + self.noise * self.rng.standard_normal(len(x))


def run(seed: int = 0, **settings) -> nested.NestedResult:
    calls = 0

    def counted(theta: np.ndarray) -> float:
        nonlocal calls
        calls += 1
        return peak(theta)

    settings = {"n_live": 80, "dlogz": 0.1, "regressor": Oracle()} | settings
    result = nested.nested_sample(counted, lambda u: u, 2, np.random.default_rng(seed), **settings)
    assert result.n_true == calls
    return result


def test_plain_dynesty_is_untouched() -> None:
    import dynesty

    plain = run(surrogate=None)
    sampler = dynesty.NestedSampler(
        peak, lambda u: u, 2, nlive=80, bound="multi", sample="unif", rstate=np.random.default_rng(0)
    )
    sampler.run_nested(dlogz=0.1, print_progress=False)
    assert plain.logz == pytest.approx(sampler.results.logz[-1], abs=1e-9)
    assert plain.evidence_valid
    assert plain.n_surrogate == 0


def test_screening_by_an_oracle_saves_calls_and_keeps_the_evidence() -> None:
    plain, screened = run(surrogate=None), run(audit=0.1)
    assert abs(screened.logz - TRUTH) < 4 * screened.logzerr  # false alarms: 6e-5
    assert screened.n_surrogate > 100
    assert screened.n_true < plain.n_true
    assert screened.wrong == 0
    assert np.logaddexp.reduce(screened.logwt) == pytest.approx(screened.logz, abs=1e-6)


def test_noise_closes_the_gate() -> None:
    noisy = run(regressor=Oracle(noise=5.0))
    assert noisy.n_surrogate == 0
    assert noisy.n_trainings > 0
    assert noisy.logz == pytest.approx(run(surrogate=None).logz, abs=1.0)


def test_replacing_is_never_certified_silently() -> None:
    with pytest.warns(UserWarning, match="not certified"):
        replaced = run(surrogate="replace")
    assert not replaced.evidence_valid
    assert replaced.n_surrogate > replaced.audited


def test_a_threshold_above_every_truth_is_put_right() -> None:
    likelihood = surrogate.SurrogateLikelihood(peak, np.random.default_rng(0), Oracle(), "replace", excess=30)
    live = np.random.default_rng(1).random((5, 2))
    values = np.array([likelihood(theta) for theta in live[:2]] + [9.0, 9.5, 9.9])  # three by a surrogate that boasted
    likelihood.n_surrogate, likelihood.threshold, likelihood.tries = 3, 9.0, 0
    answers = [likelihood(theta) for theta in np.random.default_rng(2).random((31, 2))]
    assert all(a <= peak(np.array([0.5, 0.5])) for a in answers[:30])
    assert answers[30] > 9.0
    assert likelihood.stuck
    calls = likelihood.n_true
    with pytest.warns(UserWarning, match="the true likelihood goes on"):
        likelihood.settle(live, values)
    np.testing.assert_allclose(values, [peak(theta) for theta in live])
    assert likelihood.n_true == calls + 3
    assert likelihood.failed
    likelihood.tries = 100
    assert likelihood(live[0]) == peak(live[0])


@pytest.mark.slow
def test_replacing_comes_to_an_end_where_it_once_did_not() -> None:
    """With this seed the live points pass the largest likelihood by 0.003 nats just before the surrogate is dropped."""
    from hartley.labs.cosmology import loglike, prior_transform

    with pytest.warns(UserWarning, match="the true likelihood goes on"):
        found = nested.nested_sample(
            lambda theta: float(loglike(theta)),
            prior_transform,
            2,
            np.random.default_rng(1004),
            n_live=300,
            surrogate="replace",
        )
    assert found.logz == pytest.approx(LOGZ_LCDM, abs=0.5)


def test_a_regressor_that_cannot_be_fitted_is_told_once() -> None:
    class Broken:
        def fit(self, x: np.ndarray, y: np.ndarray) -> None:
            raise ValueError("singular")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run(regressor=Broken())
    assert sum("cannot be fitted (singular)" in str(w.message) for w in caught) == 1
    assert result.n_surrogate == 0
    assert result.logz == pytest.approx(run(surrogate=None).logz, abs=1.0)


def test_failed_audits_drop_the_surrogate() -> None:
    likelihood = surrogate.SurrogateLikelihood(peak, np.random.default_rng(0), Oracle(), audit=0.5)
    for theta in np.random.default_rng(1).random((200, 2)):
        likelihood(theta)
    likelihood.threshold = float(np.median(likelihood.values))
    likelihood.train()
    assert likelihood.active
    likelihood._middle -= 50.0  # predictions that are far too low
    for theta in 0.5 + 0.01 * np.random.default_rng(2).standard_normal((200, 2)):
        likelihood(theta)
    assert not likelihood.active
    assert likelihood.wrong > 5


def test_the_genetic_search_prefers_a_network_that_learns() -> None:
    rng = np.random.default_rng(0)
    theta = rng.random((60, 2))
    model = surrogate.tune_architecture(theta, np.array([peak(t) for t in theta]), rng, population=2, generations=1)
    assert hasattr(model, "fit")
    assert model.hidden_layer_sizes[0] in (8, 16, 32, 64)


def test_the_search_chooses_the_network_of_the_run(monkeypatch) -> None:
    found = []
    search = surrogate.tune_architecture
    monkeypatch.setattr(
        surrogate, "tune_architecture", lambda *a, **k: (found.append(search(*a, generations=1, **k)), found[-1])[1]
    )
    likelihood = surrogate.SurrogateLikelihood(peak, np.random.default_rng(0), search=2)
    for theta in np.random.default_rng(1).random((80, 2)):
        likelihood(theta)
    for _ in range(2):
        likelihood.train()
    assert found == [likelihood.regressor]  # searched once, and fitted twice
    assert likelihood.n_trainings == 2
    assert likelihood.rmse < np.std(likelihood.values)


def test_any_regressor_of_scikit_learn_or_torch_will_do() -> None:
    import torch
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures
    from sklearn.tree import DecisionTreeRegressor

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    points = np.random.default_rng(1).random((300, 2))

    def trained(regressor: object) -> surrogate.SurrogateLikelihood:
        likelihood = surrogate.SurrogateLikelihood(peak, np.random.default_rng(0), regressor)
        for theta in points:
            likelihood(theta)
        likelihood.threshold = float(np.median(likelihood.values))
        likelihood.train()
        return likelihood

    from sklearn.linear_model import LinearRegression

    quadratic = make_pipeline(PolynomialFeatures(2), LinearRegression())
    for good in (GaussianProcessRegressor(alpha=1e-6), quadratic, module):
        likelihood = trained(good)
        assert likelihood.active
        assert likelihood._predict(np.array([0.5, 0.45])) == pytest.approx(peak(np.array([0.5, 0.45])), abs=0.5)
    poor = trained(DecisionTreeRegressor(max_depth=2, random_state=0))
    assert not poor.active  # it can be fitted, and the held-out error keeps the gate closed


def test_an_interrupted_run_asks_only_for_what_is_missing(tmp_path) -> None:
    file, whole, asked = tmp_path / "run.jsonl", run(), []

    def stops(theta: np.ndarray) -> float:
        asked.append(theta)
        if len(asked) == 400:
            raise KeyboardInterrupt
        return peak(theta)

    def again(loglike, seed: int = 0) -> nested.NestedResult:
        return nested.nested_sample(
            loglike,
            lambda u: u,
            2,
            np.random.default_rng(seed),
            n_live=80,
            dlogz=0.1,
            regressor=Oracle(),
            checkpoint=file,
        )

    with pytest.raises(KeyboardInterrupt):
        again(stops)
    with file.open("a") as torn:
        torn.write("[[0.5, 0.")  # killed while it wrote
    late: list[np.ndarray] = []
    resumed = again(lambda theta: (late.append(theta), peak(theta))[1])
    assert len(late) == whole.n_true - 399 + 1  # the first point proves that the file is of this run
    assert resumed.logz == whole.logz
    np.testing.assert_array_equal(resumed.samples, whole.samples)
    assert resumed.n_true == whole.n_true
    with pytest.raises(ValueError, match="of the same run"):
        again(peak, seed=1)
    with pytest.raises(ValueError, match="of the same run"):
        again(lambda theta: peak(theta) - 1)
    file.write_text("a pickle\n")
    with pytest.raises(ValueError, match="a file that nested_sample wrote"):
        again(peak)


def test_the_grid_evidence_of_the_chronometers() -> None:
    assert grid_evidence(2, 200) == pytest.approx(LOGZ_LCDM, abs=1e-3)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"inf at theta"):
        nested.nested_sample(lambda t: np.inf, lambda u: u, 2, np.random.default_rng(0), n_live=50, regressor=Oracle())
    with pytest.raises(ValueError, match="val_rmse = 0"):
        run(val_rmse=0)
    with pytest.raises(ValueError, match="search = 4"):
        run(search=4)  # and a regressor
    with pytest.raises(ValueError, match="no pool"):
        run(pool=object())
