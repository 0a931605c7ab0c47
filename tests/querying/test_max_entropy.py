"""Greedy maximum-entropy selection against entropies computed anew for every candidate at every step."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import entropy, hypergeom

from hartley.querying import (
    GreedyMaxEntropy,
    StreamingMaxEntropy,
    coverage_greedy,
    from_relations,
    greedy_max_entropy,
    sample_entropies,
    stopping_point,
    top_fraction_probability,
)

Relations = tuple[list[str], list[str], list[str]]


def literal(relations: Relations, k: int, selector: str, binary: bool, decimals: int | None) -> list[str]:
    """The definition: dense counts, scipy's entropy, every candidate at every step."""
    items = sorted(set(relations[0]))
    dense = []
    for column in relations[1:]:
        names = sorted(set(column))
        matrix = np.zeros((len(items), len(names)))
        for item, name in zip(relations[0], column, strict=True):
            matrix[items.index(item), names.index(name)] += 1
        dense.append(np.minimum(matrix, 1) if binary else matrix)
    utopia = [math.log(matrix.shape[1]) for matrix in dense]
    chosen: list[int] = []
    while len(chosen) < k:
        scores = []
        for d in range(len(items)):
            values = [entropy(matrix[[*chosen, d]].sum(0)) for matrix in dense]
            values = values if decimals is None else np.round(values, decimals)
            score = np.linalg.norm(np.subtract(values, utopia)) if selector == "utopia" else -np.sum(values)
            scores.append(math.inf if d in chosen else score)
        chosen.append(int(np.argmin(scores)))
    return [items[i] for i in chosen]


def random_relations(rng: np.random.Generator, items: int, rows: int, kinds: tuple[int, int]) -> Relations:
    named = [f"d{i:03}" for i in [*range(items), *rng.integers(items, size=rows)]]
    first, second = ([f"{v}{int(x)}" for x in rng.zipf(1.5, len(named)) % n] for v, n in zip("ab", kinds, strict=True))
    return named, first, second


@pytest.mark.parametrize("selector", ["utopia", "sum"])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("decimals", [5, None])
def test_same_order_as_the_definition(selector, binary: bool, decimals: int | None) -> None:
    rng = np.random.default_rng([binary, selector == "sum", decimals or 0])
    for _ in range(7):
        relations = random_relations(rng, int(rng.integers(3, 30)), int(rng.integers(5, 120)), (40, 15))
        table = from_relations(*relations)
        k = min(len(table), 20)
        sample = greedy_max_entropy(table, k, selector=selector, binary=binary, decimals=decimals)
        expected = literal(relations, k, selector, binary, decimals)
        if decimals is None:  # exact ties may be broken by the last bit: compare what is reached instead
            index = {label: i for i, label in enumerate(table.labels)}
            judged = table.binary() if binary else table
            theirs = [sample_entropies(judged, np.array([index[d] for d in expected[: i + 1]])) for i in range(k)]
            reached = np.array(theirs)
            if list(sample.labels) == expected:
                np.testing.assert_allclose(sample.entropies, reached, atol=1e-12)
            else:
                first = next(i for i in range(k) if sample.labels[i] != expected[i])
                a, b = sample.entropies[first], reached[first]
                a, b = (np.linalg.norm(h - sample.utopia) if selector == "utopia" else -h.sum() for h in (a, b))
                assert a == pytest.approx(b, abs=1e-12)
        else:
            assert list(sample.labels) == expected


def test_three_items_by_hand() -> None:
    """A = {(x, 1)}, B = {(x, 1), (y, 2)}, C = {(y, 2), (z, 2)}: B first, then C at distance .143457."""
    table = from_relations(list("ABBCC"), list("xxyyz"), [1, 1, 2, 2, 2])
    sample = greedy_max_entropy(table)
    assert list(sample.labels) == ["B", "C", "A"]
    np.testing.assert_allclose(sample.utopia, np.log([3, 2]))
    np.testing.assert_allclose(sample.distances[:2], [0.405465, 0.143457], atol=1e-6)
    np.testing.assert_allclose(sample.entropies[1], [1.03972, 0.56234], atol=1e-5)


def test_all_items_reach_the_entropies_of_the_table() -> None:
    relations = random_relations(np.random.default_rng(0), 1200, 3000, (60, 30))  # beyond the refresh at 500 steps
    sample = greedy_max_entropy(from_relations(*relations))
    assert sorted(sample.indices) == list(range(1200))
    for column, reached in zip(relations[1:], sample.entropies[-1], strict=True):
        assert reached == pytest.approx(entropy(np.unique(column, return_counts=True)[1]), abs=1e-12)
    table = from_relations(*relations)
    for k in (1, 499, 500, 501, 1000):
        np.testing.assert_allclose(sample.entropies[k - 1], sample_entropies(table, sample.indices[:k]), atol=1e-11)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_row_order_and_repeated_rows_do_not_matter(rows: list[tuple[int, int, int]]) -> None:
    def chosen(rows: list[tuple[int, int, int]], binary: bool) -> list[int]:
        return list(greedy_max_entropy(from_relations(*map(list, zip(*rows, strict=True))), binary=binary).labels)

    assert chosen(rows, False) == chosen(rows[::-1], False)
    assert chosen(rows, True) == chosen(rows * 3, True)


def test_all_forms_of_input_agree() -> None:
    import pandas as pd

    rng = np.random.default_rng(1)
    codes = rng.integers(0, 9, (60, 2))
    frame = pd.DataFrame({"a": [f"a{x}" for x in codes[:, 0]], "b": codes[:, 1]})
    dense = [np.eye(9)[codes[:, j]] for j in range(2)]
    expected = greedy_max_entropy(codes, 15)
    for X in (
        frame,
        frame.astype("category"),
        [sparse.csr_matrix(m) for m in dense],
        from_relations(range(60), *codes.T),
    ):
        np.testing.assert_array_equal(greedy_max_entropy(X, 15).indices, expected.indices)
    np.testing.assert_array_equal(GreedyMaxEntropy().select(frame, 15).indices, expected.indices)
    single = greedy_max_entropy(sparse.coo_array(dense[0]), 9)
    np.testing.assert_allclose(single.entropies[:, 0], np.log(np.arange(1, 10)), atol=1e-12)  # one of each


def test_missing_values_are_one_entity() -> None:
    sample = greedy_max_entropy(from_relations([1, 2, 3, 4], ["x", None, float("nan"), "x"]))
    assert list(sample.labels) == [1, 2, 3, 4]
    assert sample.utopia == pytest.approx([math.log(2)])


def test_a_variable_that_an_item_lacks() -> None:
    matrices = [sparse.csr_array(np.array([[2, 0], [0, 0], [0, 1]])), sparse.csr_array(np.array([[0], [1], [0]]))]
    sample = greedy_max_entropy(matrices)
    assert sorted(sample.indices) == [0, 1, 2]
    assert np.isfinite(sample.entropies).all()


def test_gains_may_grow() -> None:
    """Not submodular: C's gain is larger after B, so an evaluation that trusts old gains as bounds is wrong."""
    counts = np.array([[1, 0, 0], [5, 0, 0], [0, 4, 0]])  # A, B, C

    def gain(sample: list[int], item: int) -> float:
        return float(entropy(counts[[*sample, item]].sum(0)) - entropy(counts[sample].sum(0)))

    assert gain([0, 1], 2) > gain([0], 2)


def test_subsample() -> None:
    relations = random_relations(np.random.default_rng(3), 300, 900, (80, 20))
    table = from_relations(*relations)
    full = greedy_max_entropy(table, 40)
    everything = greedy_max_entropy(table, 40, subsample=300, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(everything.indices, full.indices)
    some = greedy_max_entropy(table, 300, subsample=5, rng=np.random.default_rng(0))
    assert sorted(some.indices) == list(range(300))
    np.testing.assert_allclose(some.entropies[39], sample_entropies(table, some.indices[:40]), atol=1e-12)
    again = greedy_max_entropy(table, 300, subsample=5, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(some.indices, again.indices)
    random = sample_entropies(table, np.random.default_rng(1).choice(300, 40, replace=False))
    assert full.distances[39] < some.distances[39] < np.linalg.norm(random - full.utopia)


def test_top_fraction_probability() -> None:
    assert top_fraction_probability(130_000, 25_000, 10) == pytest.approx(0.8819, abs=5e-5)
    assert top_fraction_probability(130_000, 25_000, 20) == pytest.approx(0.9860, abs=5e-5)
    for total, some, top in itertools.product((9, 30), (1, 4, 9), (1, 5, 9)):
        assert top_fraction_probability(total, some, top) == pytest.approx(hypergeom.sf(0, total, top, some))


def test_stopping_point() -> None:
    rise = np.arange(1.0, 6)
    assert stopping_point(np.r_[rise, 4.9, 5.1, 4.8, 4.7, 4.6][:, None], patience=3) == 7
    assert stopping_point(rise[:, None], patience=2) == 5
    assert stopping_point(np.ones((20, 2)), patience=2) == 20


def test_coverage_greedy_against_exhaustive_steps() -> None:
    rng = np.random.default_rng(5)
    dense = (rng.random((40, 60)) < 0.08).astype(float)
    dense[:, 0] = 1
    chosen = coverage_greedy(sparse.csr_array(dense), 40)
    assert sorted(chosen) == list(range(40))
    covered = np.zeros(60, bool)
    for step, item in enumerate(chosen):
        new = (dense > 0) & ~covered
        rest = np.setdiff1d(np.arange(40), chosen[:step])
        best = rest[np.argmax(new[rest].sum(1))]
        assert item == best
        covered |= dense[item] > 0


def test_streaming() -> None:
    relations = random_relations(np.random.default_rng(7), 400, 1600, (120, 30))
    table = from_relations(*relations)
    stream = StreamingMaxEntropy(30)
    for begin in range(0, 400, 100):
        stream.update(table.rows(np.arange(begin, begin + 100)))
    sample = stream.sample
    np.testing.assert_allclose(sample.utopia, greedy_max_entropy(table, 1).utopia)
    np.testing.assert_allclose(sample.entropies[-1], sample_entropies(table, sample.indices), atol=1e-12)
    full = greedy_max_entropy(table, 30).distances[-1]
    random = np.linalg.norm(sample_entropies(table, np.arange(30)) - sample.utopia)
    assert sample.distances[-1] - full < 0.3 * (random - full)
    one = StreamingMaxEntropy(30).update(table).sample
    np.testing.assert_array_equal(one.indices, greedy_max_entropy(table, 30).indices)
    short = StreamingMaxEntropy(5).update(np.array([["a"], ["b"]])).update(np.array([["c"], ["a"]])).sample
    assert sorted(short.indices) == [0, 1, 2, 3]
    assert short.utopia == pytest.approx([math.log(3)])
    with pytest.raises(ValueError, match="call update"):
        _ = StreamingMaxEntropy(3).sample
    with pytest.raises(ValueError, match="1 variables"):
        StreamingMaxEntropy(3).update(np.array([["a"]])).update(np.array([["a", "b"]]))


def test_progress_can_stop() -> None:
    calls = []

    def stop(done: int, total: int) -> bool:
        calls.append((done, total))
        return done < 3

    assert len(greedy_max_entropy(np.arange(20)[:, None], 10, progress=stop).indices) == 3
    assert calls == [(1, 10), (2, 10), (3, 10)]


TABLE = np.array([["a"], ["b"]])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: greedy_max_entropy(TABLE, 3), "k = 3: expected 1 to 2, the number of items"),
        (lambda: greedy_max_entropy(TABLE, 0), "k = 0"),
        (lambda: greedy_max_entropy(sparse.csr_array(np.array([[1], [0], [0]])), 1), "row 1 and 1 more empty"),
        (lambda: greedy_max_entropy(sparse.csr_array(np.array([[1.0], [-1.0]])), 1), "negative"),
        (lambda: greedy_max_entropy(sparse.csr_array(np.array([[1.0], [np.nan]])), 1), "not finite"),
        (lambda: greedy_max_entropy([sparse.eye_array(2), sparse.eye_array(3)], 1), "2 rows in each"),
        (lambda: greedy_max_entropy(TABLE, 1, selector="best"), "selector = 'best'"),
        (lambda: greedy_max_entropy(TABLE, 1, subsample=1), "rng = None"),
        (lambda: greedy_max_entropy(TABLE, 1, utopia=np.ones(2)), "1 values, one a variable"),
        (lambda: greedy_max_entropy(np.array(["a"]), 1), "columns of categories"),
        (lambda: greedy_max_entropy(np.empty((0, 2)), 1), "an empty table"),
        (lambda: from_relations([1, 2], ["x"]), "2 values, one a row"),
        (lambda: from_relations([1, 2]), "at least one column"),
        (lambda: top_fraction_probability(10, 11, 1), "subsample = 11"),
        (lambda: StreamingMaxEntropy(0), "k = 0"),
        (lambda: coverage_greedy(TABLE, 5), "k = 5"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
