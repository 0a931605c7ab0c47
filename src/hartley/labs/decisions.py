"""A language model asked to choose between two options, once or many times in one answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from hartley.labs.base import Lab
from hartley.labs.generation import generate_tokens
from hartley.labs.models import language_model

TASKS = (
    ("", "yes", "no"),
    ("You are a trader. ", "buy", "sell"),
    ("Flip a fair coin. ", "heads", "tails"),
    ("", "left", "right"),
    ("You are a driver. ", "stop", "go"),
    ("", "red", "blue"),
)
"""Role and the two options of each question."""


@dataclass(frozen=True)
class DecisionLab(Lab):
    """Binary decisions of one causal language model with a chat template.

    Attributes
    ----------
    model : "smollm2", or a folder or hub name.
    """

    model: str = "smollm2"

    def one_shot(self) -> list[tuple[float, float, float]]:
        """For each task the log-odds of its first option where it is named first, where second, and the valid mass."""
        return _one_shot(self.model)

    def flips(self, seed: int) -> Integer[np.ndarray, "calls flips"]:
        """Coin flips written by the model in one answer a call, 1 for heads; the answer begins with "H T"."""
        return _flips(self.model, seed, *((12, 24) if self.quick else (24, 48)))


def chain(alternation: float, series: int, length: int, rng: np.random.Generator) -> Integer[np.ndarray, "series n"]:
    """Binary chains that change sides with the given probability: 0.5 fair coins, 0.6 people, less is sticky."""
    changes = rng.random((series, length)) < alternation
    changes[:, 0] = rng.random(series) < 0.5
    return changes.cumsum(1) % 2


def _chat(model: str, text: str) -> str:
    _, tokenizer = language_model(model)
    message = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))


@cache
def _one_shot(model: str) -> list[tuple[float, float, float]]:
    from hartley.auditing import option_probabilities

    network, tokenizer = language_model(model)
    out = []
    for role, a, b in TASKS:
        odds, mass = [], []
        for first, second in ((a, b), (b, a)):
            prompt = _chat(model, f"{role}Respond with only one word, {first} or {second}, chosen at random.")
            spellings = {name: [name.capitalize(), name] for name in (a, b)}
            probs, valid = option_probabilities(network, tokenizer, prompt, spellings)
            odds.append(math.log(probs[a] / probs[b]))
            mass.append(valid)
        out.append((odds[0], odds[1], min(mass)))
    return out


@cache
def _flips(model: str, seed: int, calls: int, flips: int) -> Integer[np.ndarray, "calls flips"]:
    network, tokenizer = language_model(model)
    prompt = _chat(model, f"Write a random sequence of {flips} fair coin flips, H or T.") + "H T"
    heads, tails = (tokenizer.encode(s, add_special_tokens=False)[-1] for s in (" H", " T"))

    def only_sides(ids: Tensor, scores: Tensor) -> Tensor:
        kept = torch.full_like(scores, -torch.inf)
        kept[:, [heads, tails]] = scores[:, [heads, tails]]
        return kept

    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids.expand(calls, -1)
    made = generate_tokens(network, ids, [only_sides], flips - 2, seed=seed)
    begin = np.broadcast_to(np.array([1, 0]), (calls, 2))
    return np.concatenate([begin, (made == heads).numpy().astype(np.int64)], axis=1)
