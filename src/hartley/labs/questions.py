"""Questions to a language model: factual ones that it may get wrong, and queries that are clear or ambiguous."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from hartley.labs.base import Lab
from hartley.labs.models import language_model, sentence_encoder
from hartley.measures import row_statistics

FACTS = (
    ("What is the capital of France?", "paris"),
    ("What is the capital of Japan?", "tokyo"),
    ("What is the capital of Mongolia?", "ulaan"),
    ("What is the capital of Australia?", "canberra"),
    ("What is the capital of Egypt?", "cairo"),
    ("What is the capital of Paraguay?", "asunc"),
    ("What is the chemical symbol of gold?", "au"),
    ("What is the chemical symbol of tungsten?", "w"),
    ("Who wrote Hamlet?", "shakespeare"),
    ("Who wrote War and Peace?", "tolstoy"),
    ("Who wrote The Master and Margarita?", "bulgakov"),
    ("Which planet is the largest?", "jupiter"),
    ("Which planet is nearest to the sun?", "mercury"),
    ("In which year did the Second World War end?", "1945"),
    ("In which year was the Peace of Westphalia signed?", "1648"),
    ("How many legs does a spider have?", "eight"),
    ("What is the largest ocean?", "pacific"),
    ("What is the longest river in Europe?", "volga"),
    ("Who painted the Mona Lisa?", "leonardo"),
    ("Who painted The Night Watch?", "rembrandt"),
    ("What is the currency of Japan?", "yen"),
    ("What is the currency of Hungary?", "forint"),
    ("Which gas do plants take in?", "carbon"),
    ("What is the square root of 144?", "12"),
)
"""Questions and what a right answer contains, in lower case."""

CLEAR = (
    "What colour is the sky on a clear day?",
    "What is the capital of France?",
    "How many days are in a week?",
    "Which language do people speak in Spain?",
    "What do bees make?",
    "What is frozen water called?",
    "Which animal says meow?",
    "What is the opposite of hot?",
    "How many legs does a dog have?",
    "What comes after Monday?",
)
AMBIGUOUS = (
    "When did he win it?",
    "What is Jordan known for?",
    "How far is it?",
    "Who is the president?",
    "What does Mercury mean?",
    "How much did she pay?",
    "Where is the bank?",
    "What happened there?",
    "Which one is better?",
    "Who played in the last game?",
)


@dataclass(frozen=True)
class Samples:
    """Answers to one question: texts, their embeddings, and mean surprisal a token, nats."""

    texts: tuple[str, ...]
    embeddings: Any  # (n, d); the measures take arrays as well as tensors
    surprisal: np.ndarray


@dataclass(frozen=True)
class QuestionLab(Lab):
    """Sampled answers of one causal language model.

    Attributes
    ----------
    model : "smollm2", or a folder or hub name.
    temperature : of the samples.
    """

    model: str = "smollm2"
    temperature: float = 0.7

    @property
    def size(self) -> tuple[int, int]:
        """Samples a question, and tokens a sample."""
        return (6, 8) if self.quick else (12, 12)

    def external(self, seed: int) -> tuple[list[Samples], list[bool]]:
        """Answers to clear and to ambiguous queries, and which are ambiguous."""
        queries = CLEAR + AMBIGUOUS
        return _answers(self.model, queries, seed, self.temperature, *self.size), [q in AMBIGUOUS for q in queries]

    def internal(self, seed: int) -> tuple[list[Samples], list[bool]]:
        """Answers to factual questions, and for which the greedy answer is wrong."""
        facts = FACTS[::2] + FACTS[1::4] if self.quick else FACTS
        greedy = _answers(self.model, tuple(q for q, _ in facts), 0, 0.0, 1, 8)
        wrong = [not _holds(given.texts[0], right) for given, (_, right) in zip(greedy, facts, strict=True)]
        return _answers(self.model, tuple(q for q, _ in facts), seed, self.temperature, *self.size), wrong

    def doubt(self) -> list[float]:
        """1 - p(true): the model's own probability that its greedy answer is false, by the question."""
        facts = FACTS[::2] + FACTS[1::4] if self.quick else FACTS
        return _doubt(self.model, tuple(q for q, _ in facts))


def _holds(text: str, right: str) -> bool:
    plain = text.lower()
    return right in (plain if len(right) > 2 else plain.replace(".", " ").split())  # short ones must stand alone


def _prompt(question: str) -> str:
    return f"Q: What is the capital of Italy?\nA: Rome\nQ: Who wrote Faust?\nA: Goethe\nQ: {question}\nA:"


@cache
@torch.inference_mode()
def _answers(
    model: str, questions: tuple[str, ...], seed: int, temperature: float, count: int, tokens: int
) -> list[Samples]:
    """`count` answers to each question; each prompt is read once. Temperature 0 is greedy."""
    network, tokenizer = language_model(model)
    newline = tokenizer.encode("\n", add_special_tokens=False)[-1]
    generator = torch.Generator().manual_seed(seed)
    batch = tokenizer([_prompt(q) for q in questions], return_tensors="pt", padding=True)
    mask, positions = batch.attention_mask, (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
    result = network(**batch, position_ids=positions, use_cache=True, logits_to_keep=1)
    cache = result.past_key_values
    cache.batch_repeat_interleave(count)
    logits, mask, place = (x.repeat_interleave(count, 0) for x in (result.logits[:, -1], mask, positions[:, -1:]))
    total = torch.zeros(len(mask))
    alive, length, drawn = torch.ones(len(mask), dtype=torch.bool), torch.zeros(len(mask)), []
    for _ in range(tokens):
        heat = logits.float() / temperature if temperature > 0 else logits.float() * 1e6
        token = torch.multinomial(heat.softmax(-1), 1, generator=generator)
        surprisal = row_statistics(logits, token.squeeze(-1), rank=False).surprisal
        assert surprisal is not None
        total, length = total + torch.where(alive, surprisal, 0.0), length + alive
        alive = alive & (token.squeeze(-1) != newline) & (token.squeeze(-1) != tokenizer.eos_token_id)
        drawn.append(token)
        if not alive.any():
            break
        mask, place = torch.cat([mask, torch.ones_like(token)], 1), place + 1
        logits = network(
            input_ids=token, attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True
        ).logits[:, -1]
    decoded = tokenizer.batch_decode(torch.cat(drawn, 1), skip_special_tokens=True)
    texts = [text.split("\n")[0].strip() or "(nothing)" for text in decoded]
    embeddings = sentence_encoder()(texts)
    parts = [slice(i, i + count) for i in range(0, len(texts), count)]
    return [Samples(tuple(texts[p]), embeddings[p], (total / length).numpy()[p]) for p in parts]


@cache
def _doubt(model: str, questions: tuple[str, ...]) -> list[float]:
    from hartley.auditing import option_probabilities

    network, tokenizer = language_model(model)
    greedy = _answers(model, questions, 0, 0.0, 1, 8)
    out = []
    for question, given in zip(questions, greedy, strict=True):
        asked = (
            f"Question: {question}\nProposed answer: {given.texts[0]}\n"
            "Is the proposed answer (A) true or (B) false?\nIt is ("
        )
        probs, _ = option_probabilities(network, tokenizer, asked, {"true": ["A"], "false": ["B"]})
        out.append(probs["false"])
    return out
