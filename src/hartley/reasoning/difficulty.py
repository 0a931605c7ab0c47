"""How hard is a question for a model? Labels from its own answers, and a probe that reads them off the question.

Let c be the share of right answers among several to a question, and e their mean generation entropy: the mean, over the
generated tokens, of the entropy of the model's next-token law. In this order,

    normal  if c >= alpha and e <= beta
    hard    if c < gamma
    easy    otherwise: mostly right, but at a high entropy ("overthinking")

A small classifier then learns these labels from the last hidden state of the bare question. `DiffAdapt` uses it to
choose how to answer before anything is generated.

Source: Liu, Hu, Chu, Choi (2025), arXiv 2510.19669. That entropy is high on easy and hard questions and low between is
what they observe on large reasoning models; measure it on yours. alpha, beta and gamma were set by eye for each model:
the defaults here are ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from hartley.checks import require, require_between
from hartley.measures import entropy

DIFFICULTIES = ("easy", "normal", "hard")
"""What the labels 0, 1 and 2 stand for."""


@dataclass(frozen=True)
class Thresholds:
    """alpha and gamma bound accuracies, beta bounds an entropy in nats, see the module."""

    alpha: float
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        require_between("alpha", self.alpha, 0, 1, closed="both")
        require_between("beta", self.beta, 0, closed="left")
        require_between("gamma", self.gamma, 0, self.alpha, closed="left")


def label_difficulty(
    accuracy: Float[NDArray[Any], "questions"], entropy: Float[NDArray[Any], "questions"], thresholds: Thresholds
) -> Int[NDArray[Any], "questions"]:
    """0 (easy), 1 (normal) or 2 (hard) for each question; warns where a label never occurs.

    Raises
    ------
    ValueError : accuracies outside [0, 1], negative or NaN entropies, or lengths that differ.
    """
    _require_observed(accuracy, entropy)
    normal = (accuracy >= thresholds.alpha) & (entropy <= thresholds.beta)
    labels = np.where(normal, 1, np.where(accuracy < thresholds.gamma, 2, 0))
    absent = [name for i, name in enumerate(DIFFICULTIES) if not (labels == i).any()]
    if absent:
        message = f"no question is labelled {' or '.join(absent)}: a probe of these labels never says so"
        warnings.warn(message, stacklevel=2)
    return labels


def suggest_thresholds(
    accuracy: Float[NDArray[Any], "questions"],
    entropy: Float[NDArray[Any], "questions"],
    *,
    alpha: float = 0.7,
    gamma: float = 0.3,
    rule: Literal["median", "split"] = "median",
) -> Thresholds:
    """beta from the entropies of the questions answered rightly (accuracy of at least alpha).

    Parameters
    ----------
    rule : beta is their median; or it parts them into two groups of the least variance within (Otsu's method), which
        finds clusters where a median would cut through one.

    Raises
    ------
    ValueError : no question reaches alpha.
    """
    _require_observed(accuracy, entropy)
    require(rule in ("median", "split"), "rule", rule, '"median" or "split"')
    right = np.sort(entropy[accuracy >= alpha])
    require(len(right) > 0, "alpha", alpha, "an accuracy that some question reaches")
    beta = float(np.median(right))
    if rule == "split" and right[0] < right[-1]:
        low = np.arange(1, len(right))
        means = np.cumsum(right)[:-1] / low, (right.sum() - np.cumsum(right)[:-1]) / (len(right) - low)
        at = int((low * (len(right) - low) * (means[1] - means[0]) ** 2).argmax())
        beta = float(right[at : at + 2].mean())
    return Thresholds(alpha, beta, gamma)


def generation_entropy(
    logits: Float[Tensor, "*batch tokens vocab"],
    mask: Bool[Tensor, "*batch tokens"] | None = None,
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "*batch"]:
    """Mean entropy in nats of the next-token laws along an answer.

    Parameters
    ----------
    logits : of the whole vocabulary, before any truncation, where each token of the answer was drawn.
    mask : which of them count; leave out the prompt and the padding, count the end-of-sequence token once.
    temperature : of the laws; 1 whatever the answer was sampled at.

    Returns
    -------
    Mean over the tokens that count; NaN where there are none.
    """
    each = entropy(logits, temperature=temperature)
    counts = torch.ones_like(each, dtype=torch.bool) if mask is None else mask
    return torch.where(counts, each, 0.0).sum(-1) / counts.sum(-1)


class EntropyRecorder:
    """Records the entropy of each step of a generation and changes nothing.

        recorder = EntropyRecorder(eos=tokenizer.eos_token_id)
        model.generate(**inputs, do_sample=True, logits_processor=[recorder])
        recorder.profile, recorder.mean

    `generate` calls it before its own temperature, top-k and top-p. One recorder for one call of `generate`.

    Parameters
    ----------
    eos : tokens that end a sequence; what a finished row is padded with is not recorded.
    temperature : of the laws whose entropy is taken.

    Not for beam search, which reorders its rows.
    """

    def __init__(self, eos: int | Sequence[int] = (), *, temperature: float = 1.0) -> None:
        require_between("temperature", temperature, 0)
        self.eos = [eos] if isinstance(eos, int) else list(eos)
        self.temperature = temperature
        self._steps: list[Tensor] = []
        self._finished: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._finished is None:
            self._finished = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
        else:
            ended = torch.tensor(self.eos, device=input_ids.device)
            self._finished = self._finished | torch.isin(input_ids[:, -1], ended)
        each = entropy(scores, temperature=self.temperature)
        self._steps.append(each.masked_fill(self._finished, torch.nan))
        return scores

    @property
    def profile(self) -> Float[Tensor, "rows tokens"]:
        """Entropy where each token was drawn; NaN after the end of a row."""
        require(len(self._steps) > 0, "profile", None, "a call of generate before")
        return torch.stack(self._steps, 1)

    @property
    def mean(self) -> Float[Tensor, "rows"]:
        """Generation entropy of each row."""
        return self.profile.nanmean(1)


def _require_observed(accuracy: Float[NDArray[Any], "questions"], entropy: Float[NDArray[Any], "questions"]) -> None:
    require(len(accuracy) == len(entropy), "entropy", len(entropy), f"one a question, {len(accuracy)}")
    require(bool(((accuracy >= 0) & (accuracy <= 1)).all()), "accuracy", accuracy, "shares in [0, 1]")
    require(bool((entropy >= 0).all()), "entropy", entropy, "numbers >= 0")
