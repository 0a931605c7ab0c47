"""Adaptive answers against plain generation, caches and padding against none, budgets, savings by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hartley.reasoning import (
    EASY,
    NORMAL,
    AdaptiveAnswers,
    DiffAdapt,
    Strategy,
    generation_entropy,
    oracle_choice,
    token_savings,
)

QUESTIONS = ["<bos> 1 2 =", "<bos> 1 2 3 4 =", "<bos> 0 =", "<bos> 4 4 4 ="]
TEMPLATE = "{question} {instruction}"


class Always:
    """A probe that says the same of every question, or one thing after another."""

    def __init__(self, *labels: int) -> None:
        self.labels = labels

    def predict(self, states: Any) -> Any:
        return np.resize(self.labels, len(states))


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    pytest.importorskip("transformers")
    from hartley.labs.digit_sums import tokenizer
    from hartley.labs.training import tiny_decoder

    return tiny_decoder(13, width=16, layers=2, heads=2, seed=0).eval(), tokenizer()


@pytest.fixture
def adapt(pair: tuple[Any, Any]) -> DiffAdapt:
    from hartley.labs.digit_sums import STRATEGIES

    return DiffAdapt(*pair, Always(1), 10, STRATEGIES, TEMPLATE)


def test_a_constant_probe_is_plain_generation(adapt: DiffAdapt) -> None:
    """The whole prompts in one call of `generate`, without a cache from before."""
    found = adapt.generate(QUESTIONS, np.random.default_rng(3))
    adapt.tokenizer.padding_side = "left"
    batch = adapt.tokenizer([f"{q} <normal>" for q in QUESTIONS], return_tensors="pt", padding=True)
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.default_rng(3).integers(2**63)))
        out = adapt.model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            temperature=0.8,
            max_new_tokens=10,
            eos_token_id=7,
            pad_token_id=8,
            top_k=0,
        )[:, batch["input_ids"].shape[1] :]
    texts = adapt.tokenizer.batch_decode(out, skip_special_tokens=True)
    assert list(found.texts) == texts
    lengths = [row.index(7) + 1 if 7 in row else 10 for row in out.tolist()]
    assert found.n_tokens.tolist() == lengths
    assert found.truncated.tolist() == [7 not in row for row in out.tolist()]


def test_the_cache_of_the_question_is_exact(adapt: DiffAdapt) -> None:
    """All logits of picked rows of a padded batch, against a pass over each row's tokens alone."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        seen.extend(zip(ids.clone(), logits.clone(), strict=True))
        return logits

    watched = replace(adapt, probe=Always(0, 2), generate_options={"logits_processor": [keep]})
    assert watched.generate(QUESTIONS, np.random.default_rng(0)).chosen.tolist() == [0, 2, 0, 2]
    assert {10, 12} <= {int(ids[-1]) for ids, _ in seen}  # both instructions
    with torch.no_grad():
        for ids, logits in seen:
            begin = ids.tolist().index(6)  # after the padding
            torch.testing.assert_close(logits, adapt.model(ids[None, begin:]).logits[0, -1], atol=1e-4, rtol=0)


def test_states_are_those_of_the_bare_question(adapt: DiffAdapt) -> None:
    """Strategies, padding and batches do not show in them."""
    together = adapt.states(QUESTIONS)
    alone = np.concatenate([replace(adapt, batch_size=1).states([q]) for q in QUESTIONS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    with torch.no_grad():
        ids = adapt.tokenizer(QUESTIONS[1], return_tensors="pt")["input_ids"]
        last = adapt.model(ids, output_hidden_states=True).hidden_states[-1][0, -1]
    np.testing.assert_allclose(together[1], last, atol=1e-5)


def test_budgets(adapt: DiffAdapt) -> None:
    """0.4, 1 and 0.5 of 10 tokens; a model that never ends an answer uses them up."""

    def never(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_fill(1, torch.tensor([7]), -torch.inf)

    endless = replace(adapt, probe=Always(0, 1, 2), generate_options={"logits_processor": [never]})
    found = endless.generate(QUESTIONS, np.random.default_rng(0))
    assert found.n_tokens.tolist() == [4, 10, 5, 4]
    assert found.truncated.all()
    assert Strategy("x", "", 0.5, 0.29).budget(100) == 29


def test_same_rng_same_answers_and_the_global_stream_is_left_alone(adapt: DiffAdapt) -> None:
    before = torch.random.get_rng_state()
    first = adapt.generate(QUESTIONS, np.random.default_rng(0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.texts == adapt.generate(QUESTIONS, np.random.default_rng(0)).texts
    assert first.texts != adapt.generate(QUESTIONS, np.random.default_rng(1)).texts


def test_choices_override_the_probe_and_batches_keep_the_order(adapt: DiffAdapt) -> None:
    greedy = replace(adapt, strategies=tuple(replace(s, temperature=0.0) for s in adapt.strategies), batch_size=3)
    choice, done = np.array([2, 0, 1, 2]), []
    found = greedy.generate(QUESTIONS, np.random.default_rng(0), choice=choice, callback=lambda a, b: done.append(a))
    assert done == [3, 4]
    assert found.chosen.tolist() == choice.tolist()
    for question, k, text in zip(QUESTIONS, choice, found.texts, strict=True):
        alone = greedy.generate([question], np.random.default_rng(9), choice=np.array([k]))
        assert alone.texts == (text,)


def test_observations(adapt: DiffAdapt) -> None:
    """Entropies against the logits of one forward pass over each answer; a truncated answer is never right."""
    asked: list[tuple[str, str]] = []

    def right(question: str, answer: str) -> bool:
        asked.append((question, answer))
        return True

    seen = adapt.observe(QUESTIONS, right, np.random.default_rng(0), answers=3)
    assert seen.states.shape == (4, 16)
    assert seen.accuracy.sum() * 3 == pytest.approx(len(asked))
    greedy = replace(adapt, strategies=(replace(NORMAL, temperature=0.0, instruction="<normal>"),))
    one = greedy.observe(QUESTIONS[:1], right, np.random.default_rng(0), answers=1, strategy=0)
    ids = adapt.tokenizer(f"{QUESTIONS[0]} <normal>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        whole = adapt.model.generate(ids, do_sample=False, max_new_tokens=10, eos_token_id=7, pad_token_id=8)
        logits = adapt.model(whole).logits[0, ids.shape[1] - 1 : -1]
    assert one.entropy[0] == pytest.approx(float(generation_entropy(logits)), abs=1e-5)
    assert one.n_tokens == whole.shape[1] - ids.shape[1]


def test_savings_by_hand() -> None:
    texts = ("",) * 4
    chosen, none = np.array([0, 0, 1, 1]), np.zeros(4, bool)
    adaptive = AdaptiveAnswers(texts, chosen, np.array([1, 3, 8, 8]), np.array([False, True, False, False]))
    fixed = AdaptiveAnswers(texts, np.ones(4, int), np.array([4, 4, 8, 8]), none)
    found = token_savings(adaptive, np.array([True, True, True, False]), fixed, np.ones(4, bool))
    assert found.questions.tolist() == [2, 2, 0, 4]
    assert found.accuracy[[0, 1, 3]].tolist() == [0.5, 0.5, 0.5]
    assert found.fixed_accuracy[3] == 1
    assert found.saving[[0, 1]].tolist() == [0.5, 0.0]
    assert found.saving[3] == pytest.approx(1 - 20 / 24)
    assert found.truncated[[0, 3]].tolist() == [0.5, 0.25]
    assert np.isnan(found.tokens[2])


def test_oracle_beats_every_fixed_strategy() -> None:
    rng = np.random.default_rng(0)
    accuracy, tokens = rng.integers(0, 3, (3, 200)) / 2, rng.uniform(1, 9, (3, 200))
    chosen, each = oracle_choice(accuracy, tokens), np.arange(200)
    assert accuracy[chosen, each].mean() >= accuracy.mean(1).max()
    tied = accuracy == accuracy.max(0)
    assert (tokens[chosen, each] <= np.where(tied, tokens, np.inf).min(0)).all()
    assert oracle_choice(np.array([[1.0], [1.0]]), np.array([[9.0], [2.0]])).tolist() == [1]


def test_a_chat_template_is_split_at_the_question(pair: tuple[Any, Any]) -> None:
    """What stands before the question is read with it, without a second beginning-of-sequence token."""
    plain = DiffAdapt(*pair, max_tokens=4, template=TEMPLATE)
    chat = replace(plain, template="<bos> {question} = {instruction}")
    np.testing.assert_allclose(chat.states(["1 2"]), plain.states(["<bos> 1 2"]), atol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(adapt: DiffAdapt, pair: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="max_tokens = 0: expected a token for the strategy 'easy'"):
        replace(adapt, max_tokens=0)
    with pytest.raises(ValueError, match="max_tokens = 2: expected a token for the strategy 'easy'"):
        replace(adapt, max_tokens=2)
    with pytest.raises(ValueError, match=r"template = '\{instruction\}"):
        replace(adapt, template="{instruction} {question}")
    with pytest.raises(ValueError, match="probe = None: expected a fitted probe"):
        replace(adapt, probe=None).generate(QUESTIONS, rng)
    with pytest.raises(ValueError, match=r"probe.predict = \[3, 3, 3, 3\]: expected strategies 0 to 2"):
        replace(adapt, probe=Always(3)).generate(QUESTIONS, rng)
    with pytest.raises(ValueError, match="choice = 2: expected one a question, 4"):
        adapt.generate(QUESTIONS, rng, choice=np.array([0, 1]))
    with pytest.raises(ValueError, match="questions = "):
        adapt.generate([], rng)
    with pytest.raises(ValueError, match="question = ''"):
        adapt.generate([""], rng)
    with pytest.raises(ValueError, match="temperature = -1"):
        replace(EASY, temperature=-1.0)
    blind = SimpleNamespace(device="cpu", generation_config=None)

    class Blind(SimpleNamespace):
        def __call__(self, **inputs: Any) -> Any:
            return SimpleNamespace(logits=None)

    with pytest.raises(ValueError, match="model = 'Blind': expected a model that gives its hidden states"):
        replace(adapt, model=Blind(**vars(blind))).generate(QUESTIONS, rng)


@pytest.mark.slow
def test_the_laboratory_learns_and_saves() -> None:
    """The trained base model knows sums of 7 digits step by step and none of 9; a probe then saves tokens."""
    from hartley.labs.digit_sums import DigitSumLab

    outcome = DigitSumLab().outcome(0)
    n = np.arange(1, 10).repeat(24)
    normal = outcome.of("right", "always normal")
    assert normal[n <= 7].mean() > 0.95
    assert normal[n >= 8].mean() < 0.4
    assert outcome.of("right", "always easy")[n == 6].mean() < 0.8
    assert outcome.of("tokens", "network").mean() < 0.85 * outcome.of("tokens", "always normal").mean()
    assert outcome.of("right", "network").mean() > outcome.at_random("right", "network").mean()
    for strategy in ("easy", "normal", "hard"):
        assert outcome.of("right", "oracle").mean() >= outcome.of("right", f"always {strategy}").mean()
