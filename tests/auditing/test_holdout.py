"""The reusable holdout: traces, laws of the noise, privacy, threads, serialisation, scikit-learn, refusals."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest, laplace
from sklearn.datasets import make_classification
from sklearn.tree import DecisionTreeClassifier

from hartley.auditing import BudgetSpent, GuardedValidation, NoisyMean, ReusableHoldout
from hartley.labs.holdouts import HoldoutLab


def guard(threshold: float = 0.1, noise: float = 0.0, budget: int = 1, seed: int = 0, **options) -> ReusableHoldout:
    return ReusableHoldout(threshold, noise, budget, rng=np.random.default_rng(seed), **options)


def test_trace_without_noise() -> None:
    holdout = guard()
    first = holdout.query(0.6, 0.55)
    assert (first.value, first.from_holdout, first.budget_left) == (0.6, False, 1)
    second = holdout.query(0.7, 0.55)
    assert (second.value, second.from_holdout, second.budget_left) == (0.55, True, 0)
    for _ in range(2):
        with pytest.raises(BudgetSpent, match="spent after 2 queries"):
            holdout.query(0.5, 0.5)


def test_extreme_thresholds() -> None:
    always_train, always_holdout = guard(math.inf), guard(-math.inf, budget=5)
    assert [always_train.query(0.1, 0.9).value for _ in range(9)] == [0.1] * 9
    assert [always_holdout.query(0.1, 0.9).budget_left for _ in range(5)] == [4, 3, 2, 1, 0]


def test_laws_of_the_noise() -> None:
    """Three Kolmogorov-Smirnov tests at 1e-3 each, seed fixed."""
    s = 0.001
    holdout = guard(-10, s, 10**6)
    answers = np.array([holdout.query(0.5, 0.5).value - 0.5 for _ in range(4000)])
    assert kstest(answers, laplace(scale=s).cdf).pvalue > 1e-3
    thresholds = [guard(0.2, s, seed=i)._noisy_threshold - 0.2 for i in range(2000)]
    assert kstest(thresholds, laplace(scale=2 * s).cdf).pvalue > 1e-3
    # P(holdout answers) is the tail of Lap(2s) + Lap(4s) beyond T - gap: compare with the convolution
    hits = np.mean([guard(0.1, 0.02, seed=i).query(0.5, 0.7).from_holdout for i in range(4000)])
    rng = np.random.default_rng(1)
    expected = (0.1 + rng.laplace(0, 0.04, 10**6) + rng.laplace(0, 0.08, 10**6) < 0.2).mean()
    assert abs(hits - expected) < 3.3 * math.sqrt(expected * (1 - expected) / 4000)


def test_one_point_changes_little() -> None:
    """The log-ratio of outcome frequencies of neighbouring holdouts stays below the draws' privacy losses."""
    n, s = 50, 0.04
    counts = np.zeros((2, 3))
    for side, mean in enumerate((0.60, 0.60 + 1 / n)):
        for i in range(6000):
            answer = guard(0.05, s, seed=i + 10**6 * side).query(0.5, mean)
            counts[side, 0 if not answer.from_holdout else 1 + (answer.value > 0.6)] += 1
    # threshold comparison: 1/(4 s n) at most, answer: 1/(s n)
    bound = 1 / (s * n) + 1 / (4 * s * n)
    error = 3 * np.sqrt((1 / counts).sum(0))
    assert (np.abs(np.log(counts[0] / counts[1])) <= bound + error).all()


def test_threads_never_overspend() -> None:
    holdout = guard(-1, 0.01, 50)

    def ask(_: int) -> bool:
        try:
            return holdout.query(0.2, 0.8).from_holdout
        except BudgetSpent:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(400))) == 50


def test_json_goes_on_where_it_stood_and_holds_no_data() -> None:
    one = guard(0.1, 0.02, 3)
    one.query_values(np.linspace(0, 1, 777), np.linspace(0.3, 1, 555))
    text = one.to_json()
    assert len(text) < 700
    two = ReusableHoldout.from_json(text)
    again = [(one.query(0.4, 0.7), two.query(0.4, 0.7)) for _ in range(2)]
    assert all(a == b for a, b in again)
    spent = guard(-1, 0.0, 1)
    spent.query(0.1, 0.9)
    with pytest.raises(BudgetSpent):
        ReusableHoldout.from_json(spent.to_json()).query(0.1, 0.9)
    for bad in ("[]", "{}", json.dumps({**json.loads(text), "rng": {"bit_generator": "system"}}), "no"):
        with pytest.raises(ValueError, match=r"[Ee]xpect"):
            ReusableHoldout.from_json(bad)


def test_values_are_rescaled_and_clipped() -> None:
    answer = guard(-1, 0.0, 9).query_values(np.zeros(4), np.array([-1.0, 0.0, 1.0, 7.0]), bounds=(-1, 1))
    assert answer.value == pytest.approx(0.25)


def test_guarded_search_over_an_estimator() -> None:
    X, y = make_classification(600, 30, flip_y=0.3, random_state=0)
    holdout = ReusableHoldout(0.05, 0.01, 4, kind="gaussian", rng=np.random.default_rng(0))
    validation = GuardedValidation(holdout, (X[:300], y[:300]), (X[300:], y[300:]))
    grid = {"max_depth": [1, 2, 3, None, 20, 30, 40]}
    found = validation.search(DecisionTreeClassifier(random_state=0), grid)
    assert holdout.budget_left == 0
    assert 4 <= len(found) < 7
    assert [a.value for _, a in found] == sorted((a.value for _, a in found), reverse=True)
    assert all(answer.value < 0.9 for parameters, answer in found if parameters["max_depth"] in (20, 30, None))


def test_noisy_mean_accounting() -> None:
    mechanism = NoisyMean(1000, 200, 0.01)
    assert mechanism.rho == pytest.approx(200 / (2 * 10**6 * 1e-4))
    assert mechanism.rho == pytest.approx(2 * NoisyMean(1000, 100, 0.01).rho)
    assert NoisyMean(1000, 0, 0.01).epsilon(1e-6) == 0
    best = NoisyMean.calibrated(1000, 200)
    assert all(best.error() <= NoisyMean(1000, 200, best.sigma * f).error() + 1e-9 for f in (0.5, 0.9, 1.1, 2))
    answers = [best.answer(0.5, np.random.default_rng(i)) for i in range(300)]
    assert np.std(answers) == pytest.approx(best.sigma, rel=0.25)


def test_attack_inflates_the_reused_holdout() -> None:
    reported, fresh = HoldoutLab(points=1000).analyse(0, 100, lambda train, holdout: holdout, signal=False)
    assert reported - fresh > 0.05


def test_calibrated_constants() -> None:
    holdout = ReusableHoldout.calibrated(0.1, 1000, budget=3, rng=np.random.default_rng(0))
    assert holdout.threshold == pytest.approx(0.075)
    assert holdout.noise == pytest.approx(9.2e-5, rel=0.01)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="budget"):
        guard(budget=0)
    with pytest.raises(ValueError, match="noise"):
        guard(noise=-1.0)
    with pytest.raises(ValueError, match="holdout_mean"):
        guard().query(0.5, 1.5)
    with pytest.raises(ValueError, match="train_mean"):
        guard().query(math.nan, 0.5)
    with pytest.raises(ValueError, match="holdout_values"):
        guard().query_values(np.ones(3), np.array([]))
    with pytest.raises(ValueError, match="tau"):
        ReusableHoldout.calibrated(2.0, 10, budget=1, rng=np.random.default_rng(0))


def test_noise_and_accounting_agree_with_opendp() -> None:
    dp = pytest.importorskip("opendp.prelude")
    dp.enable_features("contrib", "floating-point")
    n, sigma = 500, 0.02
    space = dp.atom_domain(T=float, nan=False), dp.absolute_distance(T=float)
    gauss = dp.m.make_gaussian(*space, scale=sigma)
    for queries in (1, 40):
        ours = NoisyMean(n, queries, sigma)
        # one changed point moves a mean by 1 / n, and zero-concentrated privacy adds up
        assert ours.rho == pytest.approx(queries * gauss.map(1 / n), rel=1e-6)
        curve = dp.c.make_zCDP_to_approxDP(dp.c.make_composition([gauss] * queries)).map(1 / n)
        for delta in (1e-3, 1e-6):
            assert (
                1 <= ours.epsilon(delta) / curve.epsilon(delta) < 2
            )  # ours is the short formula, theirs the tight one
    # Thresholdout's answer: Laplace noise of scale s on a mean of n points is 1 / (n s)-private.
    laplace_scale = ReusableHoldout.calibrated(0.1, 100, budget=5, rng=np.random.default_rng(0)).noise
    private = dp.m.make_laplace(*space, scale=laplace_scale)
    assert private.map(1 / n) == pytest.approx(1 / (n * laplace_scale), rel=1e-6)
    draws = np.array([private(0.0) for _ in range(4000)])
    ours = np.array([guard(noise=laplace_scale, seed=s)._draw(1) for s in range(4000)])
    assert ks_2samp(draws, ours).pvalue > 1e-4
