"""Steps of a real model: delimiters, stop tokens, budgets, and the global stream left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hartley.reasoning import StepGenerator, TextScore, particle_filter, reward_model

pytestmark = pytest.mark.model

PROMPT = "A list of fruit:\n- apple\n- pear\n-"


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    pytest.importorskip("transformers")
    from hartley.labs.models import language_model

    try:
        return language_model()
    except ValueError as error:
        pytest.skip(str(error))


def test_steps_end_at_the_delimiter(pair: tuple[Any, Any]) -> None:
    model, tokenizer = pair
    step = StepGenerator(model, tokenizer, delimiter="\n", max_step_tokens=12)
    before = torch.random.get_rng_state()
    states = [step.start(PROMPT), step.start("The fruit " + PROMPT)]
    grown = step(states, np.random.default_rng(0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert grown == step(states, np.random.default_rng(0))
    assert step.tokens == 2 * sum(s.n_tokens for s, _ in grown)
    for state, done in grown:
        assert 1 <= state.n_tokens <= 12
        assert tokenizer.decode(state.ids[state.prompt_length :], skip_special_tokens=True) == state.text
        assert done or state.text.count("\n") == 1 or state.n_tokens == 12


def test_filter_prefers_what_the_reward_prefers(pair: tuple[Any, Any]) -> None:
    model, tokenizer = pair
    step = StepGenerator(model, tokenizer, "\n", 8, finished=lambda text: text.count("\n") >= 2)
    score = TextScore(lambda texts: [0.9 if "an" in t[len(PROMPT) :] else 0.1 for t in texts], tokenizer)
    [r] = particle_filter(step, score, [step.start(PROMPT)], n_particles=4, max_steps=3, rng=np.random.default_rng(0))
    assert r.best.ids[: r.best.prompt_length] == step.start(PROMPT).ids
    assert r.scores[r.chosen] == r.scores.max()
    assert step.tokens >= max(s.n_tokens for s in r.states)


def test_an_end_of_sequence_finishes(pair: tuple[Any, Any]) -> None:
    model, tokenizer = pair

    def force_end(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return torch.full_like(logits, -torch.inf).index_fill_(1, torch.tensor([tokenizer.eos_token_id]), 0.0)

    step = StepGenerator(model, tokenizer, generate_options={"logits_processor": [force_end]})
    [(state, done)] = step([step.start(PROMPT)], np.random.default_rng(0))
    assert done
    assert (state.n_tokens, state.text) == (1, "")


@pytest.mark.parametrize(("labels", "label"), [(1, None), (2, 1)])
def test_reward_model_is_the_classifier(pair: tuple[Any, Any], labels: int, label: int | None) -> None:
    """A tiny classifier with random weights: batches and padding change nothing."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = pair[1]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=labels,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForSequenceClassification(config).eval()
    texts = ["one", "one and two", "three, four and five"]
    together = reward_model(model, tokenizer, label=label, batch_size=2)(texts)
    with torch.no_grad():
        alone = [model(**tokenizer(t, return_tensors="pt")).logits[0].double() for t in texts]
    expected = [z.sigmoid()[0] if labels == 1 else z.softmax(-1)[1] for z in alone]
    np.testing.assert_allclose(together, torch.stack(expected).numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="label = 7"):
        reward_model(model, tokenizer, label=7)


@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_refused() -> None:
    for change in ({"delimiter": ""}, {"max_step_tokens": 0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            StepGenerator(None, None, **change)
