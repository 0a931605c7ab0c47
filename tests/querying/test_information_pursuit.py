"""Information pursuit against exact posteriors, conformal coverage, and numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from hartley.querying import (
    InformationPursuit,
    conformal_threshold,
    entropy_upper_bound,
    prediction_set,
    random_histories,
)

BITS = np.array(
    [[(c >> b) & 1 for b in range(3)] for c in range(8)], float
)  # what 3 perfect questions tell of 8 classes


def exact(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Posterior over 8 objects from 3 bits that name them and 5 questions that tell nothing."""
    agrees = (values[:, None, :3] == BITS) | ~known[:, None, :3]
    weight = agrees.all(2).astype(float)
    return weight / weight.sum(1, keepdims=True)


def cases(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(8, size=count)
    return np.concatenate([BITS[labels], rng.integers(2, size=(count, 5))], 1), labels


@pytest.mark.parametrize("criterion", ["set_size", "entropy"])
def test_asks_what_tells_the_most(criterion) -> None:
    rng = np.random.default_rng(0)
    game = InformationPursuit(exact, 8, criterion=criterion, max_queries=4, certain=True)
    answers, labels = cases(rng, 99)
    tested, truth = cases(rng, 64)
    trace = game.calibrate(answers, labels, rng).run_many(tested, answers, rng)
    assert (np.sort(trace.queries, axis=1) == [0, 1, 2]).all()
    np.testing.assert_array_equal(trace.sets.sum(2), np.tile([8, 4, 2, 1], (64, 1)))
    np.testing.assert_allclose(trace.uncertainty, np.tile(np.log([4, 2, 1]), (64, 1)), atol=1e-12)
    np.testing.assert_array_equal(trace.predictions[:, -1], truth)


def test_one_game_by_callable() -> None:
    rng = np.random.default_rng(1)
    answers, labels = cases(rng, 99)
    game = InformationPursuit(exact, 8, certain=True).calibrate(answers, labels, rng)
    heard: list[int] = []

    def answer(query: int) -> float:
        heard.append(query)
        return float([1, 0, 1, 0, 0, 0, 0, 0][query])

    trace = game.run(answer, answers, rng)
    assert sorted(heard) == [0, 1, 2]
    assert list(trace.queries[0]) == heard
    assert trace.predictions[0, -1] == 5
    assert trace.lengths[0] == 3


def test_threshold_by_hand() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, 10) / 10)
    assert conformal_threshold(scores, 0.2) == 0.2
    assert conformal_threshold(scores, 0.1) == 0.1
    assert conformal_threshold(scores, 0.05) == -np.inf
    assert prediction_set(np.array([0.2, 0.5, 0.3]), 0.3).tolist() == [False, True, True]


@given(st.integers(1, 400), st.floats(0.01, 0.99))
@settings(max_examples=50, deadline=None)
def test_threshold_is_the_floor_quantile(count: int, alpha: float) -> None:
    scores = np.random.default_rng(count).random(count)
    below = int(np.floor(round((count + 1) * alpha, 9)))
    assert conformal_threshold(scores, alpha) == (np.sort(scores)[below - 1] if below else -np.inf)


def test_coverage_over_random_histories() -> None:
    """Mean coverage lies in [1 - alpha, 1 - alpha + 1/(N + 1)]; 400 redraws of 200 cases, standard error < .0025."""
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((6, 4))

    def predict(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        logits = 3 * (values * known) @ weights
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    hits = []
    for _ in range(400):
        answers, noise = rng.standard_normal((249, 6)), rng.gumbel(size=(249, 4))
        labels = (answers @ weights + noise).argmax(1)
        game = InformationPursuit(predict, 6, max_queries=3, alpha=0.1).calibrate(answers[:49], labels[:49], rng)
        known = random_histories(200, 6, 3, rng)
        assert game.thresholds is not None
        inside = prediction_set(predict(answers[49:] * known, known), game.thresholds[3])
        hits.append(inside[np.arange(200), labels[49:]].mean())
    assert 0.9 - 0.01 < np.mean(hits) < 0.9 + 1 / 50 + 0.01  # 4 standard errors each way: false alarm < 1e-4


def test_sets_depend_on_the_order_of_scores_alone() -> None:
    """A strictly increasing transform of all scores, also in calibration, changes no set; not so entropies."""
    rng = np.random.default_rng(3)
    scores = rng.random((300, 5))
    labels = rng.integers(5, size=300)
    true = scores[np.arange(300), labels]
    before = prediction_set(scores, conformal_threshold(true, 0.15))
    after = prediction_set(np.exp(7 * scores), conformal_threshold(np.exp(7 * true), 0.15))
    np.testing.assert_array_equal(before, after)


def test_entropy_bound() -> None:
    assert entropy_upper_bound(1, 0.1, 99, 10) == pytest.approx(0.651220, abs=1e-6)
    assert entropy_upper_bound(2, 0.1, 99, 10) == pytest.approx(1.281984, abs=1e-6)
    joint = np.array([[0.30, 0.05, 0.02], [0.02, 0.25, 0.03], [0.01, 0.02, 0.30]])  # x by y
    conditional = joint / joint.sum(1, keepdims=True)
    exact_entropy = float(joint.sum(1) @ [entropy(row) for row in conditional])
    rng = np.random.default_rng(4)
    flat = rng.choice(9, 199, p=joint.ravel() / joint.sum())
    # noise that breaks the ties of three probabilities, as continuous scores would
    threshold = conformal_threshold(conditional.ravel()[flat] + 1e-9 * rng.random(199), 0.1)
    size = joint.sum(1) @ prediction_set(conditional, threshold).sum(1)
    assert exact_entropy <= entropy_upper_bound(float(size), 0.1, 199, 3)


def test_ties_are_broken_at_random_and_nothing_is_asked_twice() -> None:
    rng = np.random.default_rng(5)
    answers, labels = cases(rng, 400)
    full = InformationPursuit(exact, 8, alpha=1e-6).calibrate(answers, labels, rng)  # every set is full
    trace = full.run_many(answers, answers, rng)
    assert all(sorted(row) == list(range(8)) for row in trace.queries)
    # 400 uniform choices of 8: 50 each, standard deviation 6.6; false alarm of any beyond 5 of them 5e-6
    assert np.abs(np.bincount(trace.queries[:, 0], minlength=8) - 50).max() < 34
    assert (trace.sets.sum(2) == 8).all()


def test_stops_when_no_question_stands_out() -> None:
    rng = np.random.default_rng(6)
    answers, labels = cases(rng, 200)
    game = InformationPursuit(exact, 8, criterion="entropy", spread=0.01).calibrate(answers, labels, rng)
    trace = game.run_many(answers, answers, rng)
    assert (trace.lengths == 3).all()
    assert trace.queries.shape[1] == 3
    np.testing.assert_array_equal(trace.predictions[:, -1], labels)
    flat = InformationPursuit(lambda v, m: np.full((len(v), 8), 1 / 8), 8, criterion="entropy", spread=0.01)
    nothing = flat.run_many(answers[:3], answers, rng)
    assert (nothing.lengths == 0).all()
    assert np.isnan(nothing.thresholds).all()


def test_empty_expected_sets_and_min_size() -> None:
    rng = np.random.default_rng(7)

    def flat(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.full((len(values), 2), 0.5)

    answers, known = np.zeros((3, 4)), np.zeros((3, 4), bool)
    for min_size, expected in ((0, np.log(0.25)), (1, 0.0)):
        game = InformationPursuit(flat, 4, draws=4, min_size=min_size)
        game.thresholds = np.full(5, 0.9)  # no class reaches it
        np.testing.assert_allclose(game.scores(answers, known, answers, rng), expected)


RNG = np.random.default_rng(0)
ANSWERS, LABELS = cases(RNG, 20)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: InformationPursuit(exact, 8).run_many(ANSWERS, ANSWERS, RNG), "call calibrate first"),
        (lambda: InformationPursuit(exact, 8, max_queries=9), "max_queries = 9"),
        (lambda: InformationPursuit(exact, 8, max_queries=0), "max_queries = 0: expected 1 to 8"),
        (lambda: InformationPursuit(exact, 8, alpha=0.0), "alpha = 0.0"),
        (lambda: InformationPursuit(exact, 8, criterion="luck"), "criterion = 'luck'"),
        (lambda: InformationPursuit(exact, 8).calibrate(ANSWERS[:, :5], LABELS, RNG), "8 columns, one a question"),
        (lambda: InformationPursuit(exact, 8).calibrate(ANSWERS, LABELS + 5, RNG), "0 to 7"),
        (lambda: InformationPursuit(exact, 8).calibrate(ANSWERS, LABELS[:3], RNG), "labels = 3"),
        (lambda: InformationPursuit(exact, 8).calibrate(ANSWERS * np.nan, LABELS, RNG), "finite answers"),
        (lambda: InformationPursuit(lambda v, m: exact(v, m) * np.nan, 8).calibrate(ANSWERS, LABELS, RNG), "NaN"),
        (lambda: InformationPursuit(lambda v, m: 2 * exact(v, m), 8).calibrate(ANSWERS, LABELS, RNG), "add up to 1"),
        (lambda: InformationPursuit(lambda v, m: np.ones(3), 8).calibrate(ANSWERS, LABELS, RNG), "rows of classes"),
        (lambda: conformal_threshold(np.array([]), 0.1), "empty or with NaN"),
        (lambda: conformal_threshold(np.array([np.nan]), 0.1), "empty or with NaN"),
        (lambda: entropy_upper_bound(2, 0.6, 99, 10), "alpha = 0.6"),
        (lambda: random_histories(3, 4, 5, RNG), "length = 5"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
