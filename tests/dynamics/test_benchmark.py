"""Scores by hand, forecasters on series they must get right, and the protocol end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from hartley.dynamics.benchmark import (
    Analogue,
    Persistence,
    Recursive,
    evaluate,
    exponent_correlation,
    lagged,
    make_pairs,
    save_parquet,
    smape,
    valid_prediction_time,
)
from hartley.dynamics.systems import get_system

PAIRS = make_pairs(
    [get_system(n) for n in ("Lorenz", "Rossler", "Thomas", "MackeyGlass")], rng=np.random.default_rng(0)
)


def reservoir() -> Recursive:
    return Recursive(make_pipeline(PolynomialFeatures(2), Ridge(1e-4)), lags=2)


def test_smape_by_hand() -> None:
    truth = np.array([[1.0], [2.0], [0.0]])
    assert smape(truth, np.array([[3.0], [2.0], [0.0]])) == pytest.approx(200 / 3 * 2 / 4)
    assert smape(truth, truth) == 0
    assert smape(truth, -truth) == pytest.approx(200 * 2 / 3)


@given(st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_valid_time_counts_steps_until_the_first_error(good: int) -> None:
    truth = np.sin(np.arange(40.0))[:, None]
    forecast = truth.copy()
    forecast[good:] += 1.0
    assert valid_prediction_time(truth, forecast, step=0.5, exponent=0.2) == pytest.approx(good * 0.1)
    assert valid_prediction_time(truth, truth, step=0.5, exponent=0.2) == pytest.approx(4.0)
    forecast[good] = np.nan
    assert valid_prediction_time(truth, forecast, step=0.5, exponent=0.2) == pytest.approx(good * 0.1)


def test_lagged_rows_are_consecutive_states() -> None:
    x = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(lagged(x, 2), [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]])


def test_linear_series_is_continued_exactly() -> None:
    time = np.arange(80)
    wave = np.column_stack([np.sin(time / 5), np.cos(time / 5)])
    forecast = Recursive(LinearRegression(), lags=1).fit(wave[:60]).predict(20)
    np.testing.assert_allclose(forecast, wave[60:], atol=1e-8)


def test_analogue_repeats_a_periodic_series() -> None:
    wave = np.sin(2 * np.pi * np.arange(100) / 20)[:, None]
    np.testing.assert_allclose(Analogue(lags=3).fit(wave[:70]).predict(30), wave[70:], atol=1e-9)


def test_protocol() -> None:
    flows = [get_system(name) for name in ("Lorenz", "Rossler", "Thomas")]
    pairs = make_pairs(flows, rng=np.random.default_rng(0), per_period=50)
    scores = {"persistence": evaluate(Persistence, pairs), "analogue": evaluate(Analogue, pairs)}
    scores["reservoir"] = evaluate(reservoir, pairs)
    error = {name: np.mean([s.smape for s in rows]) for name, rows in scores.items()}
    assert error["reservoir"] < error["persistence"]
    assert -1 <= exponent_correlation(scores) <= 1
    lorenz = scores["reservoir"][0]
    assert lorenz.exponent == pytest.approx(0.9041 * 1.5008)
    assert lorenz.valid_time > scores["persistence"][0].valid_time


def test_pairs_are_standardised_and_apart(tmp_path: Path) -> None:
    for pair in PAIRS:
        assert len(pair.train) == len(pair.test) == 180
        assert np.abs(pair.train - pair.test).max() > 0.1
        assert np.abs(pair.train).max() < 8
    save_parquet(PAIRS, tmp_path / "pairs.parquet")
    table = pd.read_parquet(tmp_path / "pairs.parquet")
    back = table.query("system == 'Rossler' and split == 'test'")
    np.testing.assert_array_equal(back[["x0", "x1", "x2"]].to_numpy(), PAIRS[1].test)
    assert back["time"].iloc[1] == pytest.approx(5.9086 / 15)
    noisy = make_pairs([get_system("Lorenz")], rng=np.random.default_rng(0), per_period=100, noise=0.5)[0]
    clean = make_pairs([get_system("Lorenz")], rng=np.random.default_rng(0), per_period=100)[0]
    assert np.abs(np.diff(noisy.train, 2, axis=0)).mean() > 3 * np.abs(np.diff(clean.train, 2, axis=0)).mean()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate(Persistence, PAIRS, horizon=12.0), "horizon"),
        (lambda: smape(np.zeros((2, 1)), np.zeros((3, 1))), "shape of the truth"),
        (lambda: valid_prediction_time(np.ones((3, 1)), np.ones((3, 1)), step=1.0, exponent=-1.0), "exponent = -1.0"),
        (lambda: Analogue(lags=9).fit(np.zeros((5, 1))), "more than 10"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
