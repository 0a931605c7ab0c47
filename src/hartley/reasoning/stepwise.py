"""Drive the searches of this room with a language model: one step is text up to a delimiter.

`StepGenerator` is an `extend`: it continues all partial answers by one `model.generate` in a left-padded batch.
`TextScore` turns a function of texts into a `score`; `reward_model` makes such a function of a sequence classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from hartley.checks import require


@dataclass(frozen=True)
class PartialAnswer:
    """A prompt and the tokens that follow it so far; immutable, so that copies of a particle share it."""

    ids: tuple[int, ...]
    prompt_length: int
    text: str

    @property
    def n_tokens(self) -> int:
        """Tokens of the answer."""
        return len(self.ids) - self.prompt_length


@dataclass
class StepGenerator:
    """Extend partial answers by one step of a causal language model of transformers.

    Parameters
    ----------
    model, tokenizer : the tokenizer's padding side does not matter; sequences are padded here.
    delimiter : text that ends a step; it stays part of it.
    max_step_tokens : a step without a delimiter is cut here, and the next goes on.
    temperature : of sampling.
    finished : text of the answer -> whether it is complete, besides the end-of-sequence token.
    generate_options : passed to `model.generate`, for example `logits_processor` or `top_p`.

    Attributes
    ----------
    tokens : tokens generated so far, over all calls: the budget that searches are compared at.
    """

    model: Any
    tokenizer: Any
    delimiter: str = "\n\n"
    max_step_tokens: int = 256
    temperature: float = 0.8
    finished: Callable[[str], bool] = lambda text: False
    generate_options: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0

    def __post_init__(self) -> None:
        require(self.delimiter != "", "delimiter", self.delimiter, "a text that ends a step")
        require(self.max_step_tokens >= 1, "max_step_tokens", self.max_step_tokens, "at least 1")
        require(self.temperature > 0, "temperature", self.temperature, "a positive number")

    def start(self, prompt: str) -> PartialAnswer:
        """The state before the first step. A chat template is applied by the caller."""
        ids = tuple(self.tokenizer(prompt)["input_ids"])
        require(len(ids) >= 1, "prompt", prompt, "at least one token")
        return PartialAnswer(ids, len(ids), "")

    @torch.inference_mode()
    def __call__(self, states: Sequence[PartialAnswer], rng: np.random.Generator) -> list[tuple[PartialAnswer, bool]]:
        """One step for each state, and whether it is finished. Same `rng`, same steps."""
        ids, mask = self._batch(states)
        width = ids.shape[1]
        ends = torch.full((len(states),), -1)

        def at_delimiter(sequence: Tensor, scores: Any, **_: Any) -> Tensor:
            # A delimiter may span tokens, or end within one: look at the text of this step's tail.
            tails = self.tokenizer.batch_decode(sequence[:, max(width, sequence.shape[1] - 16) :])
            found = torch.tensor([self.delimiter in tail for tail in tails])
            ends[found & (ends < 0)] = sequence.shape[1]
            return (ends >= 0).to(sequence.device)

        # transformers draws from torch's global stream: seed a fork of it, and leave the stream as it was.
        device = self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**63)))
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=self.temperature,
                max_new_tokens=self.max_step_tokens,
                pad_token_id=self._pad,
                stopping_criteria=[at_delimiter],
                **self.generate_options,
            )
        return [
            self._grown(s, row[width : e if e >= 0 else None].tolist())
            for s, row, e in zip(states, out, ends, strict=True)
        ]

    def _grown(self, state: PartialAnswer, new: list[int]) -> tuple[PartialAnswer, bool]:
        stops = [i for i, token in enumerate(new) if token in self._stop_tokens]
        ended = bool(stops)
        if ended:
            new = new[: stops[0] + 1]
        self.tokens += len(new)
        ids = (*state.ids, *new)
        text = self.tokenizer.decode(ids[state.prompt_length :], skip_special_tokens=True)
        return PartialAnswer(ids, state.prompt_length, text), ended or self.finished(text)

    def _batch(self, states: Sequence[PartialAnswer]) -> tuple[Int[Tensor, "n width"], Int[Tensor, "n width"]]:
        width = max(len(s.ids) for s in states)
        rows = [[self._pad] * (width - len(s.ids)) + list(s.ids) for s in states]
        mask = [[0] * (width - len(s.ids)) + [1] * len(s.ids) for s in states]
        return torch.tensor(rows, device=self.model.device), torch.tensor(mask, device=self.model.device)

    @property
    def _stop_tokens(self) -> set[int]:
        stop = self.model.generation_config.eos_token_id
        stop = self.tokenizer.eos_token_id if stop is None else stop
        return set(stop) if isinstance(stop, list) else {stop}

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)


@dataclass(frozen=True)
class TextScore:
    """`score` from a function of texts: prompt and answer so far, decoded without special tokens -> [0, 1]."""

    reward: Callable[[Sequence[str]], Any]
    tokenizer: Any

    def __call__(self, states: Sequence[PartialAnswer]) -> Any:
        return self.reward([self.tokenizer.decode(s.ids, skip_special_tokens=True) for s in states])


def reward_model(model: Any, tokenizer: Any, *, label: int | None = None, batch_size: int = 16) -> Callable[..., Any]:
    """Texts -> probability that a sequence classifier gives the label "good".

    Parameters
    ----------
    model : `AutoModelForSequenceClassification`, with one logit (sigmoid) or one a label (softmax).
    label : index of the good label; required with several labels: a swapped channel scores everything backwards.
    """
    labels = model.config.num_labels
    expected = "the index of the good label" if labels > 1 else "None or 0, for the model has one logit"
    require(label in (range(labels) if labels > 1 else (None, 0)), "label", label, expected)

    @torch.inference_mode()
    def probabilities(texts: Sequence[str]) -> Any:
        scores = []
        for first in range(0, len(texts), batch_size):
            batch = tokenizer(list(texts[first : first + batch_size]), return_tensors="pt", padding=True)
            logits = model(**batch.to(model.device)).logits.double()
            scores.append(logits.sigmoid()[:, 0] if labels == 1 else logits.softmax(-1)[:, label])
        return torch.cat(scores).cpu().numpy()

    return probabilities
