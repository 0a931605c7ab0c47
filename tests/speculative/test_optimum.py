"""The optimum against subsets, a linear program, published examples and its limits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speculative.enumeration import greedy_tuples, tuples
from speculative.strategies import pairs
from torch import Tensor

from hartley.speculative import acceptance, optimal_acceptance, optimal_acceptance_lp, optimal_acceptance_subset
from hartley.speculative.optimum import order_by_ratio

P4, Q4 = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
P3, Q3 = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], dtype=torch.float64)


def cases(q: list[float], n: int, law: str) -> list[tuple[tuple[int, ...], float]]:
    if law == "greedy":
        return greedy_tuples(q, n)
    if law != "rejective":
        return tuples(q, n, law)
    distinct = [t for t in itertools.product(range(len(q)), repeat=n) if len(set(t)) == n]
    weights = [math.prod(q[i] for i in t) for t in distinct]
    return [(t, w / math.fsum(weights)) for t, w in zip(distinct, weights, strict=True) if w > 0]


@pytest.mark.parametrize("law", ["with", "without", "greedy", "rejective"])
@settings(max_examples=40, deadline=None)
@given(pairs(6), st.integers(1, 3))
def test_prefixes_find_the_best_subset(law: str, rows: tuple[Tensor, Tensor], n: int) -> None:
    p, q = rows
    n = min(n, int((q > 0).sum()))
    table = cases(q.tolist(), n, law)

    def inside(subset: tuple[int, ...]) -> float:
        return math.fsum(w for t, w in table if set(t) <= set(subset))

    found = float(optimal_acceptance(p, q, n, law))  # type: ignore[arg-type]
    assert found == pytest.approx(optimal_acceptance_subset(p.numpy(), inside), abs=1e-10)


@settings(max_examples=15, deadline=None)
@given(pairs(5), st.integers(1, 3), st.integers(0, 1000))
def test_subsets_are_the_linear_program_for_any_joint_law(rows: tuple[Tensor, Tensor], n: int, seed: int) -> None:
    p, _ = rows
    table = list(itertools.product(range(len(p)), repeat=n))
    weights = np.random.default_rng(seed).dirichlet(np.full(len(table), 0.3))

    def inside(subset: tuple[int, ...]) -> float:
        return math.fsum(w for t, w in zip(table, weights, strict=True) if set(t) <= set(subset))

    by_program = optimal_acceptance_lp(p.numpy(), table, weights.tolist())
    assert optimal_acceptance_subset(p.numpy(), inside) == pytest.approx(by_program, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "q", "n", "expected"),
    [
        (P4, Q4, 2, {"with": 0.79, "without": 0.834523810, "greedy": 0.766666667, "rejective": 0.857142857}),
        (P4, Q4, 3, {"with": 0.871, "without": 1.0, "greedy": 0.933333333}),
        (P3, Q3, 2, {"with": 0.86, "without": 0.985714286, "greedy": 0.90}),
    ],
)
def test_published_laws_on_a_worked_example(p: Tensor, q: Tensor, n: int, expected: dict[str, float]) -> None:
    for law, value in expected.items():
        assert float(optimal_acceptance(p, q, n, law)) == pytest.approx(value, abs=1e-8), law  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("p", "q", "n", "expected"),
    [
        (P4, Q4, 2, {"rrs": 0.72, "rrsw": 0.764285714, "kseq": 0.75}),
        (P4, Q4, 3, {"rrs": 0.768, "rrsw": 0.840297619, "kseq": 0.793949968}),
        (P3, Q3, 2, {"rrs": 0.76, "rrsw": 0.82}),
    ],
)
def test_verifiers_on_a_worked_example(p: Tensor, q: Tensor, n: int, expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert float(acceptance(p, q, n, name)) == pytest.approx(value, abs=1e-8), name  # type: ignore[arg-type]


def test_random_paths_of_rrsw_are_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = 20_000
    found = float(acceptance(P4, Q4, 3, "rrsw", draws=draws, generator=generator))
    # The path values lie in [0, 1], so their standard error is below 0.5 / sqrt(draws); four of them.
    assert abs(found - 0.840297619) < 4 * 0.5 / draws**0.5


def test_acceptance_of_batches_keeps_the_shape() -> None:
    p = torch.rand(2, 3, 9, generator=torch.Generator().manual_seed(0)).softmax(-1)
    for law in ("with", "without", "greedy", "rejective"):
        found = optimal_acceptance(p, p.flip(-1), 3, law)  # type: ignore[arg-type]
        assert found.shape == (2, 3)
        assert float(found[1, 2]) == pytest.approx(
            float(optimal_acceptance(p[1, 2], p[1, 2].flip(-1), 3, law)), abs=1e-7
        )  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(pairs(8))
def test_limits(rows: tuple[Tensor, Tensor]) -> None:
    p, q = rows
    overlap = float(torch.minimum(p, q).sum())
    support = int((q > 0).sum())
    for law in ("with", "without", "greedy", "rejective"):
        assert float(optimal_acceptance(p, q, 1, law)) == pytest.approx(overlap, abs=1e-12)  # type: ignore[arg-type]
        if law != "rejective":
            assert float(optimal_acceptance(p, p, min(2, len(p)), law)) == pytest.approx(1, abs=1e-12)  # type: ignore[arg-type]
    covered = float(p[q > 0].sum())
    assert float(optimal_acceptance(p, q, support, "without")) == pytest.approx(covered, abs=1e-10)
    for law in ("with", "without"):
        values = [float(optimal_acceptance(p, q, n, law)) for n in range(1, 5)]  # type: ignore[arg-type]
        assert all(a <= b + 1e-10 for a, b in itertools.pairwise(values))


def test_a_draft_token_of_almost_no_probability_is_harmless() -> None:
    p = torch.tensor([0.5, 0.5 - 1e-300, 1e-300], dtype=torch.float64)
    q = torch.tensor([1 - 1e-14, 1e-14, 1e-310], dtype=torch.float64)
    for n in (2, 3):
        for law in ("with", "without", "rejective"):
            assert 0.5 - 1e-12 <= float(optimal_acceptance(p, q, n, law)) <= 1  # type: ignore[arg-type]


def test_order_breaks_near_ties_exactly() -> None:
    """Ratios that differ in their last bits come in their exact order, also when there are many of them."""
    rng = np.random.default_rng(0)
    for spread in (1e-13, 1e-4):
        p = rng.dirichlet(np.full(3000, 5.0))
        q = p * (1 + spread * rng.standard_normal(3000))
        q[:5] = 0
        q /= q.sum()
        order = order_by_ratio(p[None], q[None])[0]
        ratio = np.where(q > 0, p / np.where(q > 0, q, 1), np.inf)[order]
        assert (np.diff(ratio[:-5]) >= -4e-16).all()
        assert set(order[-5:]) == set(range(5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.full((5,), 0.2)}, "q = .*shape of p"),
        ({"n": 0}, "n = 0"),
        ({"law": "beam"}, "law = 'beam'"),
        ({"q": torch.tensor([0.5, 0.6, 0.0, 0.0])}, "sum to one"),
        ({"p": torch.tensor([0.5, float("nan"), 0.0, 0.0])}, "NaN"),
        ({"n": 5, "law": "greedy"}, "vocabulary"),
    ],
)
def test_bad_input(unchecked: None, change: dict[str, object], message: str) -> None:
    arguments = {"p": P4, "q": Q4, "n": 2, "law": "with"} | change
    with pytest.raises(ValueError, match=message):
        optimal_acceptance(**arguments)  # type: ignore[arg-type]


def test_the_subset_oracle_refuses_large_vocabularies() -> None:
    with pytest.raises(ValueError, match="at most 20 tokens"):
        optimal_acceptance_subset(np.full(21, 1 / 21), lambda subset: 0.0)
