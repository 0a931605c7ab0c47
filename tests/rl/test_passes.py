"""Pass@k against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hartley.rl import pass_at_k


def test_known_values() -> None:
    assert float(pass_at_k(torch.tensor(1), 4, 2)) == pytest.approx(0.5)
    assert float(pass_at_k(torch.tensor(1), 4, 4)) == 1
    assert float(pass_at_k(torch.tensor(0), 4, 4)) == 0


@pytest.mark.parametrize("samples", [1, 5, 7])
def test_equals_the_share_of_subsets_that_hold_a_right_answer(samples: int) -> None:
    for k, correct in itertools.product(range(1, samples + 1), range(samples + 1)):
        hits = [any(i < correct for i in chosen) for chosen in itertools.combinations(range(samples), k)]
        assert float(pass_at_k(torch.tensor(correct), samples, k)) == pytest.approx(np.mean(hits), abs=1e-12)


def test_arrays_in_arrays_out() -> None:
    values = pass_at_k(np.array([[0, 16], [4, 8]]), 16, 1)
    assert isinstance(values, np.ndarray)
    np.testing.assert_allclose(values, [[0, 1], [0.25, 0.5]])


def test_a_thousand_samples_do_not_overflow() -> None:
    assert 0 < float(pass_at_k(torch.tensor(1), 1000, 500)) == pytest.approx(0.5)


@pytest.mark.parametrize(("correct", "k"), [(1, 0), (1, 5), (5, 1), (-1, 1)])
def test_impossible_counts_are_refused(correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        pass_at_k(torch.tensor(correct), 4, k)
