"""The bundled models, offline; and Mirostat holding its target on one."""

from __future__ import annotations

import math

import pytest
import torch

from hartley.labs import generation, models
from hartley.labs.decoding import PROMPTS, DecodingLab

pytestmark = pytest.mark.model


def test_smollm2_is_itself() -> None:
    network, tokenizer = models.language_model()
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        assert tokenizer.decode(network(ids).logits[0, -1].argmax()) == " Paris"


def test_sentence_encoder_knows_paraphrases() -> None:
    vectors = models.sentence_encoder()(["A cat sits on the mat.", "A cat is on the mat.", "Stock markets fell."])
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.7
    assert similarity[0, 2] < 0.3
    assert models.sentence_encoder()([]).shape == (0, 384)


def test_unknown_model_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="model 'no/such-model' cannot be loaded"):
        models.language_model("no/such-model")


def test_batched_generation_equals_single_rows() -> None:
    """Left padding and the cache change nothing: greedy continuations of a batch are those of its rows alone."""
    network, tokenizer = models.language_model()
    batch = tokenizer(list(PROMPTS[:3]), return_tensors="pt", padding=True)
    greedy = [lambda ids, z: torch.where(z == z.amax(-1, keepdim=True), z, -math.inf)]
    together = generation.generate_tokens(network, batch.input_ids, greedy, 6, seed=0, mask=batch.attention_mask)
    for row, prompt in enumerate(PROMPTS[:3]):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        alone = generation.generate_tokens(network, ids, greedy, 6, seed=0)
        assert torch.equal(together[row], alone[0])


def test_metrics_of_known_texts() -> None:
    assert generation.repeated_ngrams([1, 2, 1, 2, 1, 2], 2) == pytest.approx(3 / 5)
    assert generation.distinct_ngrams([1, 2, 3], 2) == 1
    assert generation.repeated_recently([5, 6, 5, 7, 6], 2) == pytest.approx(1 / 5)
    assert generation.repeated_recently([], 2) == 0
    assert generation.repeated_ngrams([1], 4) == 0


def test_samplers_by_name() -> None:
    built = generation.build_sampler("top-h", {"alpha": "0.3"}, temperature=2.0)
    assert [type(p).__name__ for p in built] == ["TemperatureLogitsWarper", "TopH"]
    assert built[1].alpha == 0.3
    with pytest.raises(ValueError, match=r"unknown sampler 'top-g': did you mean .*top-h"):
        generation.build_sampler("top-g")
    with pytest.raises(ValueError, match="unknown parameter 'alfa' of top-h: did you mean alpha"):
        generation.build_sampler("top-h", {"alfa": "0.3"})
    with pytest.raises(ValueError, match="temperature = 0"):
        generation.build_sampler("top-h", temperature=0.0)


@pytest.mark.slow
def test_mirostat_reaches_its_target_on_smollm2() -> None:
    """48 tokens of 8 prompts at tau 2.5, eta 1: by the identity the mean is off by (mu_0 - mu_T)/48 at most.

    mu_T lies between 0 and 10 bits, so the tolerance is 0.2 bits.
    """
    from hartley.decoding import MirostatProcessor

    text = DecodingLab().generate(lambda: [MirostatProcessor(2.5, 1.0)], 0, tokens=48, prompts=8)
    assert all(abs(s / math.log(2) - 2.5) < 0.2 for s in text.surprise)
