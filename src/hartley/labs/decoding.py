"""Where decoding methods are compared: next-token distributions of a real model on real text, and generated text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hartley.decoding import Band, apply_band, kept_statistics
from hartley.labs.base import Lab
from hartley.labs.generation import Processor, TextMetrics, generate_tokens, text_metrics
from hartley.labs.models import language_model

Rule = Callable[..., Band]

PROMPTS = (
    "The old lighthouse keeper opened the door and",
    "In the middle of the market, a small girl",
    "Nobody in the village had ever seen",
    "The train was late again, so Maria decided",
    "Once upon a time, a fox who could read",
    "The scientists had been waiting for years when",
    "My grandfather used to say that the sea",
    "The city council met on Monday to discuss",
    "A good teacher begins every lesson by",
    "When the lights went out, the orchestra",
    "The history of bread is the history of",
    "To repair a broken clock, one must first",
)
"""Openings of stories and expositions, about eight tokens each."""


@dataclass(frozen=True)
class DecodingLab(Lab):
    """Real logits and generated text of one causal language model.

    Attributes
    ----------
    model : "smollm2", or a folder or hub name of a causal language model: ``--set model=PATH``.
    text : a text file whose windows are the contexts; default the documentation topics of Python's `pydoc`.
    """

    model: str = "smollm2"
    text: str | None = None

    def cached_logits(self, seed: int) -> Tensor:
        """Next-token logits (rows, vocab) at every eighth position of windows drawn from the text, float32.

        The same rows for every claim and method of a process.
        """
        return _logits(self.model, self.text, seed, 2 if self.quick else 6)

    def generate(
        self, build: Callable[[], Sequence[Processor]], seed: int, *, tokens: int, prompts: int = len(PROMPTS)
    ) -> TextMetrics:
        """Continue the first `prompts` prompts with the processors and measure the text; end-of-text does not stop."""
        network, tokenizer = language_model(self.model)
        batch = tokenizer(list(PROMPTS[:prompts]), return_tensors="pt", padding=True)
        made = generate_tokens(network, batch.input_ids, build(), tokens, seed=seed, mask=batch.attention_mask)
        return text_metrics(network, batch.input_ids, made, mask=batch.attention_mask)

    def addition(self) -> tuple[Tensor, Tensor]:
        """One-digit sums after six worked ones: logits (prompts, vocab) at the answer, and the answers' tokens.

        All a + b with a, b >= 0 and a one-digit sum, 55 prompts of the form ``a+b=``.
        """
        return _addition(self.model)


def at_entropy(
    logits: Tensor, rule: Rule, grid: Iterable[float], target: float, *, original: Tensor | None = None
) -> float:
    """Expected log-likelihood of a sampler whose parameter is set so that its mean entropy is the target, nats.

    Both numbers are exact expectations over the kept distribution, averaged over rows; no sampling. Between the two
    parameters of the grid that enclose the target the curve is interpolated linearly.

    Parameters
    ----------
    original : logits by which likelihood is measured, if `logits` are tempered.

    Raises
    ------
    ValueError : the grid does not reach the target.
    """
    x, y = frontier(logits, rule, grid, original=original)
    if not min(x) <= target <= max(x):
        raise ValueError(f"mean entropy of the grid runs from {min(x):.2f} to {max(x):.2f}: {target} is outside")
    order = np.argsort(x)
    return float(np.interp(target, np.asarray(x)[order], np.asarray(y)[order]))


def frontier(
    logits: Tensor, rule: Rule, grid: Iterable[float], *, original: Tensor | None = None
) -> tuple[list[float], list[float]]:
    """Mean entropy and mean expected log-likelihood for each parameter of the grid."""
    x, y = [], []
    for parameter in grid:
        band = rule(logits, float(parameter))
        x.append(float(kept_statistics(logits, band).entropy.mean()))
        y.append(float(expected_log_likelihood(logits, band, original).mean()))
    return x, y


def expected_log_likelihood(logits: Tensor, band: Band, original: Tensor | None = None) -> Tensor:
    """Expected log p of a draw from the band, p being the softmax of `original` (default: of the logits), per row."""
    if original is None:
        return kept_statistics(logits, band).log_likelihood
    q = _kept_probabilities(logits, band)
    return (q * original.log_softmax(-1).nan_to_num(neginf=0.0)).sum(-1)


def expected_gap(logits: Tensor, band: Band) -> Tensor:
    """Expected |surprisal - entropy| of a draw from the band, both under the untruncated distribution, per row."""
    surprisal = -logits.log_softmax(-1)
    entropy = torch.special.entr(logits.softmax(-1)).sum(-1, keepdim=True)
    return (_kept_probabilities(logits, band) * (surprisal - entropy).abs().nan_to_num(posinf=0.0)).sum(-1)


def _kept_probabilities(logits: Tensor, band: Band) -> Tensor:
    return apply_band(logits, band).softmax(-1)


@cache
def _logits(model: str, text: str | None, seed: int, windows: int) -> Tensor:
    network, tokenizer = language_model(model)
    source = source_text(text)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(windows):
        start = int(rng.integers(0, max(1, len(source) - 2000)))
        ids = tokenizer(source[start : start + 2000], return_tensors="pt").input_ids[:, :256]
        with torch.inference_mode():
            states = network.base_model(ids).last_hidden_state[0, 31::8]
            rows.append(network.get_output_embeddings()(states).float())
    return torch.cat(rows).clone()


@cache
def _addition(model: str) -> tuple[Tensor, Tensor]:
    network, tokenizer = language_model(model)
    prefix = "2+5=7\n3+1=4\n6+2=8\n1+1=2\n4+5=9\n0+3=3\n"
    pairs = [(a, b) for a in range(10) for b in range(10 - a)]
    batch = tokenizer([f"{prefix}{a}+{b}=" for a, b in pairs], return_tensors="pt", padding=True)
    positions = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits = network(**batch, position_ids=positions, logits_to_keep=1).logits[:, -1].float()
    answers = [tokenizer.encode(str(a + b), add_special_tokens=False)[-1] for a, b in pairs]
    return logits.clone(), torch.tensor(answers)


@cache
def source_text(path: str | None) -> str:
    """The text of a file, or by default the documentation topics that come with Python, one after another."""
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except OSError as error:
            raise ValueError(f"text = {path!r}: {error.strerror}") from error
    from pydoc_data.topics import topics

    ordered: dict[str, Any] = topics
    return "\n".join(ordered[name] for name in sorted(ordered))
