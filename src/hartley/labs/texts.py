"""Texts whose author is known: random Markov chains, and continuations by a language model beside human ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.stats import mannwhitneyu

from hartley.labs.base import Lab
from hartley.labs.decoding import source_text
from hartley.labs.generation import Processor, generate_tokens
from hartley.labs.models import language_model

Array = np.ndarray


@dataclass(frozen=True)
class ChainLab(Lab):
    """Two models that are Markov chains, so that laws, likelihoods and error exponents are exact.

    Attributes
    ----------
    symbols : size of the alphabet.
    distance : how far the second chain's rows are drawn towards other random rows, 0 to 1.
    """

    symbols: int = 27
    distance: float = 0.17

    @cached_property
    def chains(self) -> tuple[Float[Array, "k k"], Float[Array, "k k"]]:
        """Transition matrices of the two models."""
        rng = np.random.default_rng(27)
        first, other = rng.dirichlet(np.full(self.symbols, 0.5), size=(2, self.symbols)) * 0.99 + 0.01 / self.symbols
        return first, (1 - self.distance) * first + self.distance * other

    def strings(self, chain: Float[Array, "k k"], count: int, length: int, seed: int) -> Int[Array, "count time"]:
        """Strings of `length` + 1 symbols from the chain; the first symbol is uniform and is a prompt."""
        rng = np.random.default_rng(seed)
        cumulative = chain.cumsum(1)
        cumulative[:, -1] = 1.0
        out = np.empty((count, length + 1), dtype=np.int64)
        out[:, 0] = rng.integers(self.symbols, size=count)
        for t in range(length):
            out[:, t + 1] = (rng.random(count)[:, None] > cumulative[out[:, t]]).sum(1)
        return out

    @cached_property
    def chernoff(self) -> float:
        """Chernoff information rate: -min_s log of the spectral radius of [A^s B^(1-s)], nats a symbol."""
        a, b = self.chains

        def log_radius(s: float) -> float:
            return math.log(np.abs(np.linalg.eigvals(a**s * b ** (1 - s))).max())

        return -float(minimize_scalar(log_radius, bounds=(0, 1), method="bounded").fun)


@dataclass(frozen=True)
class AuthorshipLab(Lab):
    """Passages of a text and a language model's continuations of the same prompts.

    Attributes
    ----------
    model : "smollm2", or a folder or hub name of a causal language model.
    text : a text file, the human author; default the documentation topics of Python's `pydoc`.
    """

    model: str = "smollm2"
    text: str | None = None

    def human(self, seed: int) -> Any:
        """Statistics of the human continuations, (texts, tokens)."""
        prompts, rest = _passages(self.model, self.text, seed, self.size)
        return _statistics(self.model, prompts, rest)

    def sampled(self, seed: int, sampler: str) -> Any:
        """Statistics of the model's continuations: "pure", or "top-p" (0.96)."""
        return _sampled(self.model, self.text, seed, self.size, sampler)

    @property
    def size(self) -> tuple[int, int]:
        """Texts and tokens a text."""
        return (10, 24) if self.quick else (24, 48)


def auroc(positive: Float[Array, " n"], negative: Float[Array, " m"]) -> float:
    """Probability that a positive scores above a negative."""
    return float(mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative)))


@cache
def _passages(model: str, text: str | None, seed: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    count, length = size
    _, tokenizer = language_model(model)
    source, rng = source_text(text), np.random.default_rng(seed)
    rows: list[list[int]] = []
    while len(rows) < count:
        start = int(rng.integers(0, len(source) - 3000))
        piece = " ".join(source[start : start + 3000].split())
        ids = tokenizer(piece).input_ids[4 : 20 + length]
        if len(ids) == 16 + length:
            rows.append(ids)
    whole = torch.tensor(rows)
    return whole[:, :16], whole[:, 16:]


@cache
def _sampled(model: str, text: str | None, seed: int, size: tuple[int, int], sampler: str) -> Any:
    from transformers import TopPLogitsWarper

    prompts, _ = _passages(model, text, seed, size)
    warpers: list[Processor] = [TopPLogitsWarper(0.96)] if sampler == "top-p" else []
    network, _ = language_model(model)
    made = generate_tokens(network, prompts, warpers, size[1], seed=seed)
    return _statistics(model, prompts, made)


@torch.inference_mode()
def _statistics(model: str, prompts: torch.Tensor, ids: torch.Tensor) -> Any:
    from hartley.auditing import TextStatistics, text_statistics

    network, _ = language_model(model)
    parts = []
    for prompt, own in zip(torch.split(prompts, 4), torch.split(ids, 4), strict=True):
        logits = network(torch.cat([prompt, own], 1), logits_to_keep=own.shape[1] + 1).logits[:, :-1]
        parts.append(text_statistics(logits, own))
    return TextStatistics(
        np.concatenate([p.surprisal for p in parts]),
        np.concatenate([p.entropy for p in parts]),
        np.concatenate([p.varentropy for p in parts]),
        np.concatenate([p.rank for p in parts]),
        np.concatenate([p.log_normaliser for p in parts]),
    )
