"""Semantic volume and its competitors: closed forms, three routes to one number, invariances, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley.measures import (
    eigenscore,
    kernel_language_entropy,
    lexical_similarity,
    semantic_entropy,
    semantic_volume,
    threshold_from_validation,
)


def rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_closed_forms() -> None:
    for c in (0.0, 0.3, 0.9):
        pair = np.array([[1.0, 0.0], [c, math.sqrt(1 - c * c)]])
        assert float(semantic_volume(pair, 1)) == pytest.approx(math.log(1 - c + 1e-10), abs=1e-9)
    assert float(semantic_volume(np.eye(6), 5)) == pytest.approx(0, abs=1e-8)
    same = np.repeat(rows(1, 30), 12, axis=0)
    assert float(semantic_volume(same)) == pytest.approx(10 * math.log(1e-10), abs=1e-3)


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_three_routes_and_invariances(seed: int) -> None:
    x = rows(9, 14, seed)
    value = float(semantic_volume(x, 5, floor=1e-6))
    centred = x - x.mean(0)
    gram = np.linalg.eigvalsh(centred @ centred.T)[::-1][:5]
    assert value == pytest.approx(np.log(gram + 1e-6).sum(), abs=1e-8)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    scores = centred @ axes[:5].T
    assert value == pytest.approx(np.linalg.slogdet(scores.T @ scores + 1e-6 * np.eye(5))[1], abs=1e-8)
    turn = np.linalg.qr(np.random.default_rng(seed + 1).standard_normal((14, 14)))[0]
    assert float(semantic_volume((x @ turn)[::-1].copy(), 5, floor=1e-6)) == pytest.approx(value, abs=1e-8)
    double = semantic_volume(np.concatenate([x, x]), 5, floor=0.0)
    assert float(double) == pytest.approx(float(semantic_volume(x, 5, floor=0.0)) + 5 * math.log(2), abs=1e-8)
    assert float(semantic_volume(x, 5, floor=1e-3)) >= value
    assert float(semantic_volume(3.0 * x, 5, floor=1e-6)) == pytest.approx(value, abs=1e-8)
    weighted = semantic_volume(x, 5, floor=0.0, weights=np.full(9, 0.2))
    assert float(weighted) == pytest.approx(float(semantic_volume(x, 5, floor=0.0)), abs=1e-8)


def test_it_estimates_a_gaussian_entropy() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 5))
    x = rng.standard_normal((4000, 5)) @ root
    value = float(semantic_volume(x, 5, floor=0.0, normalize=False)) - 5 * math.log(4000)
    # standard error of the log-determinant: sqrt(2 * 5 / 4000) = 0.05
    assert value == pytest.approx(np.linalg.slogdet(root.T @ root)[1], abs=0.16)


def test_weight_zero_is_absence() -> None:
    x = rows(8, 20)
    weights = np.array([1.0] * 7 + [0.0])
    alone = semantic_volume(x[:7], 4, floor=0.0)
    assert float(semantic_volume(x, 4, floor=0.0, weights=weights)) == pytest.approx(
        float(alone) + 4 * math.log(8 / 7), abs=1e-8
    )


def test_batches_and_gradients() -> None:
    batch = torch.from_numpy(np.stack([rows(6, 10, s) for s in range(3)])).requires_grad_()
    values = semantic_volume(batch, 4)
    assert values.shape == (3,)
    assert float(values[1].detach()) == pytest.approx(float(semantic_volume(rows(6, 10, 1), 4)))
    values.sum().backward()
    assert batch.grad is not None
    assert batch.grad.isfinite().all()


def test_competitors() -> None:
    x = rows(10, 20)
    centred = x - x.mean(0)
    expected = np.log(np.linalg.eigvalsh(centred @ centred.T) + 1e-3).mean()
    assert float(eigenscore(x)) == pytest.approx(expected, abs=1e-9)
    three = np.repeat(np.eye(4)[:3], [2, 4, 2], axis=0)
    assert float(semantic_entropy(three)) == pytest.approx(1.5 * math.log(2))
    logs = np.log(np.array([0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.3, 0.3]))
    p = np.array([0.2, 0.2, 0.6])
    assert float(semantic_entropy(three, log_likelihoods=logs)) == pytest.approx(-(p * np.log(p)).sum(), abs=1e-6)
    assert float(kernel_language_entropy(np.zeros((5, 5)))) == pytest.approx(math.log(5))
    assert float(kernel_language_entropy(np.ones((5, 5)), t=50.0)) == pytest.approx(0, abs=1e-6)
    assert lexical_similarity(["the cat sat", "the cat sat"]) == 1
    assert lexical_similarity(["the black cat", "the cat ran off"]) == pytest.approx(4 / 7)
    assert lexical_similarity(["a", ""]) == 0


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="dim = 10: expected 1 to 4"):
        semantic_volume(rows(5, 20))
    with pytest.raises(ValueError, match="finite"):
        semantic_volume(np.full((5, 20), np.nan), 2)
    with pytest.raises(ValueError, match="zero vector"):
        semantic_volume(np.zeros((5, 20)), 2)
    with pytest.raises(ValueError, match="weights"):
        semantic_volume(rows(5, 20), 2, weights=-np.ones(5))
    with pytest.raises(ValueError, match="at least two samples"):
        semantic_volume(rows(1, 20), 1)
    with pytest.raises(ValueError, match="at least two texts"):
        lexical_similarity(["a"])


@given(st.integers(0, 10**6), st.sampled_from(["f1", "accuracy"]))
@settings(max_examples=25, deadline=None)
def test_the_threshold_is_the_best_of_all(seed: int, objective: str) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, 15).astype(float)  # with ties
    labels = rng.permutation(np.arange(15) < rng.integers(1, 15))
    threshold, value = threshold_from_validation(scores, labels, objective)  # type: ignore[arg-type]
    measure = f1_score if objective == "f1" else accuracy_score
    assert value == pytest.approx(measure(labels, scores > threshold))
    every = [measure(labels, scores > t) for t in np.arange(-0.5, 8.5)]
    assert value == pytest.approx(max(every))


def test_thresholds_that_separate_and_refusals() -> None:
    scores = np.array([0.1, 0.2, 0.7, 0.9])
    assert threshold_from_validation(scores, np.array([0, 0, 1, 1])) == (pytest.approx(0.45), 1.0)
    with pytest.raises(ValueError, match="some of either class"):
        threshold_from_validation(scores, np.ones(4))
    with pytest.raises(ValueError, match="a number for a label"):
        threshold_from_validation(scores * np.nan, np.array([0, 0, 1, 1]))
