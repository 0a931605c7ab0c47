"""The ideal-sampling rule and its verdicts on series whose nature is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley.dynamics.peccary import (
    classify,
    complexity_curve,
    estimate_natural_time,
    periodic_limits,
    sampling_interval,
)
from hartley.measures import entropy_complexity, ordinal_counts


@pytest.mark.parametrize(
    ("order", "least", "largest"),
    [(3, 0.3869, 1.0), (4, 0.2181, 0.7245), (5, 0.14478, 0.55124), (6, 0.10535, 0.43932), (7, 0.08131, 0.36258)],
)
def test_periodic_limits(order: int, least: float, largest: float) -> None:
    assert periodic_limits(order) == pytest.approx((least, largest), abs=5e-5)


@given(st.integers(20, 300), st.floats(0, 6.3), st.floats(0.31, 0.49))
@settings(max_examples=40, deadline=None)
def test_a_wave_shows_at_most_the_limiting_patterns(whole: int, phase: float, ratio: float) -> None:
    period = whole + 0.5**0.5  # at a whole period samples repeat, and rounding errors order them
    x = np.sin(2 * np.pi * np.arange(4000) / period + phase)
    result = classify(x, natural_time=period, ratio=ratio)
    assert (ordinal_counts(x, 5, result.delay) > 0).sum() <= 14
    assert result.verdict == "regular"
    assert result.entropy <= result.periodic_limit


def test_sine_of_the_card() -> None:
    x = np.sin(2 * np.pi * np.arange(10_000) / 100.01)
    curve = complexity_curve(x, [1, 5, 10, 12, 20, 25])
    np.testing.assert_allclose(curve.entropy, [0.2147, 0.3850, 0.5100, 0.5381, 0.4813, 0.4349], atol=2e-3)


def test_henon_and_logistic_maps() -> None:
    """Published points of the plane, order 6 (Rosso et al. 2007) and order 5."""
    x, y, henon = 1.0, 1.0, []
    for _ in range(2**15):
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
        henon.append(x)
    six, five = entropy_complexity(np.array(henon), 6), entropy_complexity(np.array(henon[:10_000]), 5)
    assert (six.entropy, six.complexity) == pytest.approx((0.55492, 0.458551), abs=2e-3)
    assert (five.entropy, five.complexity) == pytest.approx((0.615422, 0.403680), abs=6e-3)  # an orbit of 10^4 steps


def test_verdicts() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(20_000)
    noise = rng.standard_normal(10_000)
    assert classify(noise, natural_time=10.0).verdict == "stochastic"
    assert classify(noise, natural_time=10.0).entropy > 0.995
    assert classify(np.sin(time / 20)).verdict == "regular"
    assert classify(np.sin(time / 20) + 0.01 * rng.standard_normal(len(time))).verdict == "regular"
    x = [0.4]
    for _ in range(9999):
        x.append(4 * x[-1] * (1 - x[-1]))
    assert classify(np.array(x), natural_time=4.0).verdict == "complex"


def test_quasi_periodic_motion_is_not_told_from_chaos() -> None:
    """The documented limit of the method, so that nobody takes the verdict for a proof of chaos."""
    time = np.arange(20_000)
    x = np.sin(time / 15) + np.sin(time / 15 * math.sqrt(3))
    assert classify(x).verdict == "complex"


@pytest.mark.parametrize("method", ["crossings", "maxima", "spectrum"])
def test_natural_time_of_a_wave(method: str) -> None:
    x = 5 + np.sin(2 * np.pi * np.arange(5000) * 0.01 / 0.73)
    assert estimate_natural_time(x, 0.01, method=method) == pytest.approx(0.73, rel=0.02)


def test_warnings_name_what_is_wrong() -> None:
    x = np.sin(np.arange(90) / 16)
    doubts = classify(x, natural_time=100.0, ratio=0.2).warnings
    assert len(doubts) == 3
    assert "0.3 to 0.5" in doubts[0]
    assert "at least 1.5" in doubts[1]
    assert "5 a pattern" in doubts[2]
    assert classify(np.sin(np.arange(9000) / 16)).warnings == []


def test_missing_values_do_not_disturb_a_long_series() -> None:
    x = np.sin(np.arange(20_000) / 20)
    whole = classify(x)
    x[[500, 900, 12_000]] = np.nan
    holed = classify(x, missing="skip")
    assert holed.delay == whole.delay
    assert holed.entropy == pytest.approx(whole.entropy, abs=2e-3)


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (np.full(100, 2.0), {}, "a constant has no natural time"),
        (np.arange(100.0), {}, "crossings"),
        (np.arange(100.0), {"natural_time": 400.0}, "at least 161 of them"),
        (np.arange(100.0), {"order": 3}, "an integer from 4 to 8"),
        (np.arange(100.0), {"natural_time": -1.0}, "natural_time = -1.0"),
        (np.array([1.0, 2, np.nan, 1, 3, 1, 2, 4, 1]), {}, "nan"),
    ],
)
def test_bad_input(x: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classify(x, **arguments)


def test_sampling_interval() -> None:
    assert sampling_interval(np.arange(10) * 0.25) == pytest.approx(0.25)
    with pytest.raises(ValueError, match=r"time\[3\] = 1.5: expected an increasing time"):
        sampling_interval(np.array([0.0, 1, 2, 1.5, 4]))
    with pytest.raises(ValueError, match=r"time\[2\] to time\[3\]: expected even steps of 1"):
        sampling_interval(np.array([0.0, 1, 2, 4, 5]))
    with pytest.raises(ValueError, match="not finite"):
        sampling_interval(np.array([0.0, np.nan, 2]))
