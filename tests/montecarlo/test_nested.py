"""Surrogates in dynesty: evidence against closed forms, the gate, the audit, the way back to the true likelihood."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.special import erf

from hartley.labs.cosmology import LOGZ_LCDM, grid_evidence
from hartley.montecarlo import nested

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
    likelihood = nested.SurrogateLikelihood(peak, np.random.default_rng(0), Oracle(), audit=0.5)
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


@pytest.mark.slow
def test_the_genetic_search_prefers_a_network_that_learns() -> None:
    rng = np.random.default_rng(0)
    theta = rng.random((150, 2))
    model = nested.tune_architecture(theta, np.array([peak(t) for t in theta]), rng, population=3, generations=1)
    assert hasattr(model, "fit")
    assert model.hidden_layer_sizes[0] in (8, 16, 32, 64)


def test_the_grid_evidence_of_the_chronometers() -> None:
    assert grid_evidence(2, 200) == pytest.approx(LOGZ_LCDM, abs=1e-3)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"inf at theta"):
        nested.nested_sample(lambda t: np.inf, lambda u: u, 2, np.random.default_rng(0), n_live=50, regressor=Oracle())
    with pytest.raises(ValueError, match="val_rmse = 0"):
        run(val_rmse=0)
