"""A language model as predictor: against one forward pass a prompt, and through a whole game."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from hartley.querying import InformationPursuit, TokenPredictor

CLASSES = ["cat", "dog", "owl"]
QUESTIONS = ["Does it fly?", "Does it bark?", "Is it big?"]


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    """A tiny random model; each word and each mark is a token."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from hartley.labs.training import tiny_decoder

    words = [
        "It",
        "is",
        "one",
        "of",
        "these",
        ":",
        "cat",
        "dog",
        "owl",
        ",",
        ".",
        "Does",
        "it",
        "fly",
        "bark",
        "?",
        "Is",
        "big",
        "Yes",
        "No",
        "what",
    ]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="what"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return tiny_decoder(len(words), width=16, layers=2, heads=2, seed=0).eval(), PreTrainedTokenizerFast(
        tokenizer_object=core
    )


def test_probabilities_are_those_of_single_passes(pair: tuple[Any, Any]) -> None:
    model, tokenizer = pair
    predict = TokenPredictor(model, tokenizer, CLASSES, QUESTIONS, temperature=2.0, batch_size=2)
    values = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0]], float)
    known = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)
    found = predict(values, known)
    start = "It is one of these: cat, dog, owl.\n"
    texts = [start, start + "Does it fly? Yes.\n", start + "Does it fly? Yes.\nDoes it bark? No.\nIs it big? Yes.\n"]
    for i, text in enumerate(texts):
        ids = tokenizer(text + "It is:", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0, -1].double()
        tokens = tokenizer.convert_tokens_to_ids(CLASSES)
        np.testing.assert_allclose(found[i], (logits[tokens] / 2).softmax(-1), atol=1e-6)
        assert predict.mass[i] == pytest.approx(float(logits.softmax(-1)[tokens].sum()), abs=1e-6)
    np.testing.assert_array_equal(found[3], found[0])
    np.testing.assert_allclose(found.sum(1), 1)


def test_a_whole_game(pair: tuple[Any, Any]) -> None:
    """Any predictor will do: thresholds, questions and traces come out as with a table of the same probabilities."""
    predict = TokenPredictor(*pair, CLASSES, QUESTIONS)
    answers = np.array(list(product([0.0, 1.0], repeat=3)))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 8)
    table = {
        (v.tobytes(), m.tobytes()): predict(v[None], m[None])[0]
        for v, m in product(answers, answers.astype(bool))
        if not (v[~m]).any()
    }

    def looked_up(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.array([table[v.tobytes(), m.tobytes()] for v, m in zip(values, known, strict=True)])

    traces = []
    for each in (predict, looked_up):
        game = InformationPursuit(each, 3, alpha=0.2).calibrate(answers, labels, np.random.default_rng(1))
        traces.append(game.run_many(answers, answers, np.random.default_rng(2)))
    assert traces[0].queries.tolist() == traces[1].queries.tolist()
    np.testing.assert_allclose(traces[0].probabilities, traces[1].probabilities, atol=1e-6)


def test_prompts_of_your_own(pair: tuple[Any, Any]) -> None:
    seen: list[list[float]] = []

    def render(value: np.ndarray, mask: np.ndarray) -> str:
        seen.append(value[mask].tolist())
        return "It is"

    found = TokenPredictor(*pair, CLASSES, render=render)(np.array([[0.3, 0.0]]), np.array([[True, False]]))
    assert found.shape == (1, 3)
    assert seen == [[0.3]]


def test_bad_input_is_refused(pair: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"classes = .*first tokens differ"):
        TokenPredictor(*pair, ["cat", "cat dog"], QUESTIONS)
    with pytest.raises(ValueError, match="at least two"):
        TokenPredictor(*pair, ["cat"], QUESTIONS)
    with pytest.raises(ValueError, match="questions or render"):
        TokenPredictor(*pair, CLASSES)
    predict = TokenPredictor(*pair, CLASSES, QUESTIONS)
    with pytest.raises(ValueError, match=r"answers 0 \(no\) or 1 \(yes\)"):
        predict(np.full((1, 3), 0.5), np.ones((1, 3), bool))
    with pytest.raises(ValueError, match="questions = 3: expected one an answer, 2"):
        predict(np.zeros((1, 2)), np.ones((1, 2), bool))


@pytest.mark.model
def test_smollm2_learns_from_answers() -> None:
    """After "Does it bark? Yes." a dog is likelier than before."""
    pytest.importorskip("transformers")
    from hartley.labs.models import language_model

    try:
        pair = language_model()
    except ValueError as error:
        pytest.skip(str(error))
    predict = TokenPredictor(*pair, CLASSES, QUESTIONS)
    known = np.array([[False] * 3, [False, True, False]])
    before, after = predict(np.array([[0.0] * 3, [0.0, 1.0, 0.0]]), known)
    assert after[1] > before[1]
