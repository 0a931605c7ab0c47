"""Ordinal counts against a window-by-window argsort, plane points against their definitions, peers and known laws."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley.measures import js_complexity
from hartley.measures.ordinal import (
    OrdinalCounter,
    complexity_bounds,
    entropy_complexity,
    ordinal_counts,
    ordinal_patterns,
    permutation_entropy,
    plane_point,
)

EXAMPLE = np.array([4.0, 7.0, 9.0, 10.0, 6.0, 11.0, 3.0])


def logistic(n: int, start: float = 0.1) -> np.ndarray:
    values = [start]
    for _ in range(n - 1):
        values.append(4 * values[-1] * (1 - values[-1]))
    return np.array(values)


def counted_by_argsort(x: np.ndarray, order: int, delay: int) -> dict[tuple[int, ...], int]:
    """The definition: rank of every value of every window, ties in order of time."""
    found: Counter[tuple[int, ...]] = Counter()
    for i in range(len(x) - delay * (order - 1)):
        window = x[i : i + delay * (order - 1) + 1 : delay]
        found[tuple(int(r) for r in np.argsort(np.argsort(window, kind="stable"), kind="stable"))] += 1
    return found


def test_example_of_bandt_and_pompe() -> None:
    assert ordinal_counts(EXAMPLE, 3).tolist() == [2, 0, 1, 2, 0, 0]
    point = entropy_complexity(EXAMPLE, 3)
    assert point.entropy == pytest.approx(0.588762, abs=1e-6)
    assert point.complexity == pytest.approx(0.289954, abs=1e-6)


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=60),  # few values: many ties
    st.integers(2, 5),
    st.integers(1, 3),
)
@settings(max_examples=80, deadline=None)
def test_counts_are_those_of_a_stable_argsort(values: list[int], order: int, delay: int) -> None:
    x = np.array(values, dtype=float)
    if len(x) <= delay * (order - 1):
        with pytest.raises(ValueError, match=r"expected at least .* one window"):
            ordinal_counts(x, order, delay)
        return
    counts = ordinal_counts(x, order, delay)
    patterns = [tuple(row) for row in ordinal_patterns(order).tolist()]
    assert {p: c for p, c in zip(patterns, counts.tolist(), strict=True) if c} == counted_by_argsort(x, order, delay)
    assert counts.sum() == len(x) - delay * (order - 1)


@pytest.mark.parametrize("order", [6, 7, 8])
def test_long_orders_and_series_longer_than_a_block(order: int) -> None:
    x = np.random.default_rng(order).standard_normal(5000)
    counts = ordinal_counts(x, order, 2)
    found = counted_by_argsort(x, order, 2)
    patterns = ordinal_patterns(order)
    assert {tuple(patterns[k].tolist()): int(counts[k]) for k in np.flatnonzero(counts)} == found


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 4), st.lists(st.integers(0, 120), max_size=6))
@settings(max_examples=40, deadline=None)
def test_streaming_in_any_pieces_counts_the_whole(seed: int, order: int, delay: int, cuts: list[int]) -> None:
    x = np.random.default_rng(seed).standard_normal(120)
    counter = OrdinalCounter(order, delay)
    for piece in np.split(x, sorted(cuts)):
        counter.update(piece)
    np.testing.assert_array_equal(counter.counts, ordinal_counts(x, order, delay))


@given(st.integers(0, 2**32 - 1), st.integers(3, 6), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_symmetries_and_bounds(seed: int, order: int, delay: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.standard_normal(200)) if seed % 2 else rng.standard_normal(200)
    point = entropy_complexity(x, order, delay)
    for same in (-x, x[::-1], np.exp(x / 10), 3 * x - 7):
        other = entropy_complexity(same, order, delay)
        assert other.entropy == pytest.approx(point.entropy, abs=1e-12)
        assert other.complexity == pytest.approx(point.complexity, abs=1e-12)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=24).filter(any))
@settings(max_examples=100, deadline=None)
def test_every_distribution_lies_between_the_curves(counts: list[int]) -> None:
    point = plane_point(np.array(counts))
    bounds = complexity_bounds(len(counts), 20_000)
    # the curves are polygons: chords of the upper one pass just under it, those of the lower one just over it
    assert bounds.least(point.entropy) - 1e-6 <= point.complexity <= bounds.largest(point.entropy) + 1e-6


@pytest.mark.parametrize(
    ("order", "largest", "at"),
    [(3, 0.291452, 0.613), (4, 0.354090, 0.564), (5, 0.424820, 0.615), (6, 0.496700, 0.654)],
)
def test_largest_complexity(order: int, largest: float, at: float) -> None:
    entropy, complexity = complexity_bounds(math.factorial(order)).upper
    assert complexity.max() == pytest.approx(largest, abs=2e-6)
    assert entropy[complexity.argmax()] == pytest.approx(at, abs=1e-3)


def test_bounds_are_attained_by_brute_force() -> None:
    """Over all distributions of 4 outcomes on a grid, the extremes at each entropy approach the curves."""
    steps = 40
    grid = np.array([c for c in itertools.product(range(steps + 1), repeat=3) if sum(c) <= steps])
    points = plane_point(np.column_stack([grid, steps - grid.sum(1)]))
    bounds = complexity_bounds(4, 20_000)
    gap_high = bounds.largest(points.entropy) - points.complexity
    gap_low = points.complexity - bounds.least(points.entropy)
    assert gap_high.min() > -1e-7
    assert gap_low.min() > -1e-7
    for low in np.arange(0.1, 0.9, 0.1):
        inside = (points.entropy >= low) & (points.entropy < low + 0.1)
        assert gap_high[inside].min() < 5e-3
        assert gap_low[inside].min() < 5e-3


def test_known_points() -> None:
    third = plane_point(np.array([1, 1, 0, 0, 0, 0]))
    assert third.entropy == pytest.approx(math.log(2) / math.log(6), abs=1e-12)
    assert third.complexity == pytest.approx(0.271239, abs=1e-6)
    for flat in (np.ones(24), np.eye(24)[3]):
        assert plane_point(flat).complexity == pytest.approx(0.0, abs=1e-15)


def test_complexity_is_the_one_of_probabilities() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (5, 24))
    expected = js_complexity(torch.from_numpy(counts / counts.sum(1, keepdims=True)))
    np.testing.assert_allclose(plane_point(counts).complexity, expected.numpy(), atol=1e-12)


def test_order_and_constancy_give_positive_zero() -> None:
    for x in (np.arange(50.0), np.full(50, 3.0)):
        point = entropy_complexity(x, 5)
        assert (point.entropy, point.complexity) == (0.0, 0.0)
        assert math.copysign(1, point.entropy) == math.copysign(1, point.complexity) == 1


def test_logistic_map_at_full_chaos_as_published() -> None:
    point = entropy_complexity(logistic(2**15), 6)  # Rosso et al. 2007: 0.629, 0.484
    assert point.entropy == pytest.approx(0.629, abs=5e-4)
    assert point.complexity == pytest.approx(0.484, abs=5e-4)


def test_logistic_map_order_three_in_closed_form() -> None:
    """The invariant density is known, so the pattern probabilities are: 1/3, 0, 1/5, 2/15, 1/3, 0 up to naming."""
    # intervals of x between crossings of f, f^2 and the identity: 0, 1/4, (5-sqrt5)/8, 3/4, (5+sqrt5)/8, 1
    edges = np.array([0, 1 / 4, (5 - math.sqrt(5)) / 8, 3 / 4, (5 + math.sqrt(5)) / 8, 1])
    mass = np.diff(2 / math.pi * np.arcsin(np.sqrt(edges)))  # probability under the arcsine law
    middle = (edges[:-1] + edges[1:]) / 2
    expected = np.zeros(6)
    for m, x in zip(mass, middle, strict=True):
        y = 4 * x * (1 - x)
        expected[np.flatnonzero(ordinal_counts(np.array([x, y, 4 * y * (1 - y)]), 3))[0]] += m
    measured = ordinal_counts(logistic(200_000), 3) / 199_998
    assert np.abs(measured - expected).max() < 5e-3  # 5 standard errors of a frequency at 2e5 windows
    assert (expected == 0).sum() == 1  # the forbidden pattern, decreasing three times
    assert measured[5] == 0


def test_white_noise_has_the_predicted_bias() -> None:
    windows, order = 4000, 5
    noise = np.random.default_rng(1).standard_normal((200, windows + order - 1))
    entropy = np.asarray(permutation_entropy(noise, order, normalise=True))
    predicted = 1 - 119 / (2 * windows * math.log(120))
    standard_error = entropy.std(ddof=1) / math.sqrt(len(entropy))
    assert abs(entropy.mean() - predicted) < 4 * standard_error  # false alarm 6e-5
    corrected = np.asarray(permutation_entropy(noise, order, normalise=True, bias_correction=True))
    assert abs(1 - corrected.mean()) < 0.2 * abs(1 - entropy.mean())


def test_batches_and_integer_series() -> None:
    x = np.random.default_rng(2).integers(0, 9, (2, 3, 80))
    counts = ordinal_counts(x, 4, 2)
    assert counts.shape == (2, 3, 24)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_array_equal(counts[i, j], ordinal_counts(x[i, j].astype(float), 4, 2))


def test_missing_values_leave_out_exactly_their_windows() -> None:
    x = np.random.default_rng(3).standard_normal(100)
    x[[20, 21, 60]] = np.nan
    kept = [x[i : i + 9 : 2] for i in range(92) if not np.isnan(x[i : i + 9 : 2]).any()]
    expected = sum(ordinal_counts(w, 5) for w in kept)
    np.testing.assert_array_equal(ordinal_counts(x, 5, 2, missing="skip"), expected)


def test_ties_dropped_leave_out_exactly_their_windows() -> None:
    x = np.random.default_rng(4).integers(0, 12, 200).astype(float)
    kept = [x[i : i + 4] for i in range(197) if len(set(x[i : i + 4])) == 4]
    np.testing.assert_array_equal(ordinal_counts(x, 4, ties="drop"), sum(ordinal_counts(w, 4) for w in kept))


def test_ties_in_random_order_make_a_constant_look_like_noise() -> None:
    rng = np.random.default_rng(5)
    assert permutation_entropy(np.zeros(20_000), 4, ties="random", rng=rng, normalise=True) > 0.999
    distinct = rng.permutation(500).astype(float)
    np.testing.assert_array_equal(ordinal_counts(distinct, 4, ties="random", rng=rng), ordinal_counts(distinct, 4))


@pytest.mark.parametrize(("order", "delay"), [(3, 1), (4, 3), (5, 2), (6, 1)])
@pytest.mark.parametrize("levels", [0, 7])
def test_agrees_with_peccary_and_ordpy(order: int, delay: int, levels: int) -> None:
    peccary = pytest.importorskip("peccary")
    ordpy = pytest.importorskip("ordpy")
    rng = np.random.default_rng(order)
    x = rng.integers(0, levels, 1500).astype(float) if levels else rng.standard_normal(1500)
    point = entropy_complexity(x, order, delay)
    np.testing.assert_allclose(
        peccary.peccary(x, n=order).calcHC(sampInt=delay), tuple(vars(point).values()), atol=1e-12
    )
    reference = ordpy.complexity_entropy(x, dx=order, taux=delay)
    np.testing.assert_allclose(reference, tuple(vars(point).values()), atol=1e-9)


@pytest.mark.slow  # the peer compiles for 8 s
def test_entropy_agrees_with_antropy() -> None:
    antropy = pytest.importorskip("antropy")
    x = np.random.default_rng(6).standard_normal(3000)
    for order in range(3, 8):
        expected = antropy.perm_entropy(x, order=order, delay=2) * math.log(2)  # it counts in bits
        assert permutation_entropy(x, order, 2) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 1}, "order = 1: expected an integer from 2 to 8"),
        ({"order": 9}, "order = 9"),
        ({"delay": 0}, "delay = 0: expected an integer >= 1"),
        ({"order": 8}, r"x = '7 values': expected at least 8 of them, one window of order 8"),
        ({"order": 3, "ties": "random"}, "rng = None"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ordinal_counts(EXAMPLE, **arguments)


def test_bad_values() -> None:
    with pytest.raises(ValueError, match=r"x\[1, 2\] = nan"):
        ordinal_counts(np.array([[1.0, 2, 3, 4], [1, 2, np.nan, 4]]), 3)
    with pytest.raises(ValueError, match="no window"):
        permutation_entropy(np.full(9, np.nan), 3, missing="skip")
    with pytest.raises(ValueError, match="no negative count"):
        plane_point(np.array([1, -1, 2]))
    with pytest.raises(ValueError, match="at least one count"):
        plane_point(np.zeros(6))
    with pytest.raises(ValueError, match="at least 2"):
        plane_point(np.ones(1))
