"""The label rule and the entropies by hand, probes on shapes that need them or do not, a recorder that only records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from hartley.reasoning import (
    DifficultyProbe,
    EntropyRecorder,
    Thresholds,
    generation_entropy,
    label_difficulty,
    suggest_thresholds,
)

THRESHOLDS = Thresholds(0.7, 0.5, 0.3)


def test_labels_by_hand() -> None:
    accuracy, entropy = np.array([0.9, 0.9, 0.5, 0.1, 0.1]), np.array([0.2, 0.8, 0.2, 0.2, 0.9])
    assert label_difficulty(accuracy, entropy, THRESHOLDS).tolist() == [1, 0, 0, 2, 2]
    ends = label_difficulty(np.array([0.7, 0.3, 0.1]), np.array([0.5, 0.5, 0.5]), THRESHOLDS)
    assert ends.tolist() == [1, 0, 2]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3)), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore:no question is labelled")
def test_labels_follow_their_order(pairs: list[tuple[float, float]]) -> None:
    accuracy, entropy = np.array(pairs).T
    expected = [1 if c >= 0.7 and e <= 0.5 else 2 if c < 0.3 else 0 for c, e in pairs]
    assert label_difficulty(accuracy, entropy, THRESHOLDS).tolist() == expected


def test_an_absent_label_warns() -> None:
    with pytest.warns(UserWarning, match="labelled easy or hard"):
        label_difficulty(np.array([1.0]), np.array([0.1]), THRESHOLDS)


def test_suggested_thresholds() -> None:
    """Two clusters of unequal size, and a question that is mostly wrong and must not count."""
    accuracy = np.array([1.0, 1.0, 0.9, 0.8, 0.9, 0.2])
    entropy = np.array([0.1, 0.12, 0.11, 0.13, 1.0, 5.0])
    assert suggest_thresholds(accuracy, entropy).beta == pytest.approx(0.12)
    assert suggest_thresholds(accuracy, entropy, rule="split").beta == pytest.approx((0.13 + 1.0) / 2)
    assert suggest_thresholds(np.ones(3), np.full(3, 0.4), rule="split").beta == pytest.approx(0.4)


@given(st.lists(st.floats(0, 4), min_size=2, max_size=12, unique=True))
@settings(max_examples=40, deadline=None)
def test_split_has_the_least_variance_within(values: list[float]) -> None:
    """Against all splits, one by one."""
    entropy = np.sort(values)
    beta = suggest_thresholds(np.ones(len(values)), entropy, rule="split").beta

    def within(at: int) -> float:
        return float(sum(((part - part.mean()) ** 2).sum() for part in (entropy[:at], entropy[at:])))

    found = int((entropy <= beta).sum())
    assert 1 <= found <= len(values)
    least = min(within(at) for at in range(1, len(values)))
    assert found == len(values) or within(found) <= least + 1e-9


def test_entropy_by_hand() -> None:
    uniform = torch.zeros(3, 7)
    assert float(generation_entropy(uniform)) == pytest.approx(math.log(7))
    assert float(generation_entropy(torch.tensor([[0.0, -torch.inf, -torch.inf]]))) == pytest.approx(0, abs=1e-12)
    two, four = torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]), torch.zeros(4)
    rows = torch.stack([two, four, four])
    assert float(generation_entropy(rows[:2])) == pytest.approx(1.039721, abs=1e-6)
    assert float(generation_entropy(rows, torch.tensor([True, True, False]))) == pytest.approx(1.039721, abs=1e-6)
    assert math.isnan(generation_entropy(rows, torch.zeros(3, dtype=torch.bool)))


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("transformers")
    from hartley.labs.training import tiny_decoder

    return tiny_decoder(13, width=16, layers=2, heads=2, seed=0).eval()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_recorder_sees_the_model_and_changes_nothing(model: Any, temperature: float) -> None:
    """Against scipy's entropy of the logits that transformers itself returns; low temperature and top-k do not show."""
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    options = {"max_new_tokens": 6, "do_sample": True, "top_k": 2, "temperature": 0.5, "pad_token_id": 0}
    recorder = EntropyRecorder(temperature=temperature)
    torch.manual_seed(0)
    plain = model.generate(ids, output_logits=True, return_dict_in_generate=True, **options)
    torch.manual_seed(0)
    assert torch.equal(model.generate(ids, logits_processor=[recorder], **options), plain.sequences)
    logits = torch.stack(plain.logits, 1).double().numpy() / temperature
    np.testing.assert_allclose(recorder.profile, scipy_entropy(np.exp(logits), axis=-1), atol=1e-5)
    torch.testing.assert_close(recorder.mean, generation_entropy(torch.stack(plain.logits, 1), temperature=temperature))


def test_recorder_stops_with_the_row(model: Any) -> None:
    """A row that ends with its first token counts once; what pads it does not."""

    def end_first_row(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        out = logits.clone()
        out[0, 7], out[1, 7] = 100.0, -torch.inf
        return out

    recorder = EntropyRecorder(7)
    options: dict[str, Any] = {"max_new_tokens": 4, "eos_token_id": 7, "pad_token_id": 0}
    model.generate(torch.tensor([[1, 2], [3, 4]]), logits_processor=[recorder, end_first_row], **options)
    assert recorder.profile.isfinite().tolist() == [[True, False, False, False], [True] * 4]
    assert float(recorder.mean[0]) == float(recorder.profile[0, 0])


def test_probe_on_blobs_and_rings() -> None:
    """A linear probe fails on rings around the origin, a network does not."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 200)
    blobs = rng.normal(size=(600, 5)) + 6 * np.eye(5)[labels]
    angle = rng.uniform(0, 2 * np.pi, 600)
    rings = (labels + 1 + 0.1 * rng.normal(size=600))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    order = rng.permutation(600)
    fit, test = order[:400], order[400:]

    def score(hidden: int, x: Any) -> float:
        return float(DifficultyProbe(hidden, random_state=0).fit(x[fit], labels[fit]).score(x[test], labels[test]))

    assert score(256, blobs) > 0.95
    assert score(0, blobs) > 0.95
    assert score(256, rings) > 0.95
    assert score(0, rings) < 0.6


def test_probe_is_an_estimator() -> None:
    from sklearn.base import clone

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)), rng.integers(0, 3, 40)
    probe = DifficultyProbe(8, epochs=5, random_state=3).fit(x, y)
    again = clone(probe).fit(x, y)
    np.testing.assert_array_equal(probe.predict_proba(x), again.predict_proba(x))
    one_by_one = np.concatenate([probe.predict_proba(row[None]) for row in x])
    np.testing.assert_allclose(one_by_one, probe.predict_proba(x), atol=1e-12)
    two = DifficultyProbe(8, epochs=5).fit(x, np.where(y == 1, 0, y))
    assert set(two.predict(x)) <= {0, 2}
    with pytest.warns(UserWarning, match="all questions are labelled 2"):
        single = DifficultyProbe().fit(x, np.full(40, 2))
    assert set(single.predict(x)) == {2}


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma = 0.9: expected a number in \[0, 0.7\)"):
        Thresholds(0.7, 0.5, 0.9)
    for accuracy, entropy, message in (
        ([1.5], [0.1], "accuracy"),
        ([0.5], [float("nan")], "entropy"),
        ([0.5], [0.1, 0.2], "entropy = 2: expected one a question, 1"),
    ):
        with pytest.raises(ValueError, match=message):
            label_difficulty(np.array(accuracy), np.array(entropy), THRESHOLDS)
    with pytest.raises(ValueError, match=r"alpha = 0.7: expected an accuracy that some question reaches"):
        suggest_thresholds(np.array([0.1]), np.array([0.1]))
    with pytest.raises(ValueError, match="rule = 'mean'"):
        suggest_thresholds(np.ones(2), np.ones(2), rule="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="profile = None: expected a call of generate before"):
        _ = EntropyRecorder().mean
    with pytest.raises(ValueError, match="hidden = -1"):
        DifficultyProbe(-1).fit(np.ones((4, 2)), [0, 1, 0, 1])
