"""The samplers as `transformers.LogitsProcessor`.

    model.generate(**inputs, do_sample=True, logits_processor=[TopH(0.4)])

`generate` applies custom processors before its own temperature, top-k and top-p. The rules here expect logits that
are already divided by the temperature: put ``TemperatureLogitsWarper(T)`` of transformers in front of them in the list
and leave ``temperature`` at 1.

Batches and left padding need no care, padding never reaches the logits. Each processor returns a new tensor unless
`inplace=True`, which saves the copy where nobody else reads the raw logits (`output_logits` does).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import LogitsProcessor

from hartley.checks import require, require_between
from hartley.decoding.bands import Band, apply_band
from hartley.decoding.entropy_top_k import entropy_top_k_threshold
from hartley.decoding.locally_typical import typical_band
from hartley.decoding.mirostat import Mirostat, Surprise
from hartley.decoding.top_h import Rule, top_h_threshold


class BandProcessor(LogitsProcessor, ABC):
    """Filters logits to a band; subclasses say which, in `band`."""

    supports_continuous_batching = True

    def __init__(self, *, filter_value: float = -torch.inf, inplace: bool = False) -> None:
        self.filter_value, self.inplace = filter_value, inplace

    @abstractmethod
    def band(self, logits: Tensor) -> Band:
        """What is kept of each row."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return apply_band(scores, self.band(scores), filter_value=self.filter_value, inplace=self.inplace)


class TopH(BandProcessor):
    """Top-H decoding, see `hartley.decoding.top_h_threshold`."""

    def __init__(self, alpha: float = 0.4, *, rule: Rule = "entropy", top_n: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        require_between("alpha", alpha, 0, 1)
        self.alpha, self.rule, self.top_n = alpha, rule, top_n

    def band(self, logits: Tensor) -> Band:
        return top_h_threshold(logits, self.alpha, rule=self.rule, top_n=self.top_n)


class LocallyTypical(BandProcessor):
    """Locally typical sampling, see `hartley.decoding.typical_band`."""

    def __init__(self, mass: float = 0.9, *, min_tokens_to_keep: int = 1, **options: Any) -> None:
        super().__init__(**options)
        require_between("mass", mass, 0, 1)
        self.mass, self.min_tokens_to_keep = mass, min_tokens_to_keep

    def band(self, logits: Tensor) -> Band:
        return typical_band(logits, self.mass, min_tokens_to_keep=self.min_tokens_to_keep)


class EntropyTopK(BandProcessor):
    """Entropy-based top-k, see `hartley.decoding.entropy_top_k_threshold`; works before the temperature.

    `token_range` (first, last + 1) restricts it to positions whose likeliest token lies there, such as image tokens
    in a mixed vocabulary; entropy and selection then see that range alone.
    """

    def __init__(
        self,
        *,
        k_min: int = 1,
        k_max: int = 2000,
        midpoint: float = 5.0,
        scale: float = 1.0,
        token_range: tuple[int, int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        require(token_range is None or 0 <= token_range[0] < token_range[1], "token_range", token_range, "(first, end)")
        self.settings = {"k_min": k_min, "k_max": k_max, "midpoint": midpoint, "scale": scale}
        self.token_range = token_range
        self.band(torch.zeros(1, 2))  # refuses bad settings now, not at the first token

    def band(self, logits: Tensor) -> Band:
        return entropy_top_k_threshold(logits, **self.settings)  # type: ignore[arg-type]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.token_range is None:
            return super().__call__(input_ids, scores)
        first, end = self.token_range
        mode = scores.argmax(-1)
        inside = (mode >= first) & (mode < end)
        alone = torch.full_like(scores, self.filter_value)
        # A row outside the range may have no finite logit inside it; its result is not used.
        part = scores[:, first:end].masked_fill(~inside[:, None], 0.0)
        alone[:, first:end] = apply_band(part, self.band(part), filter_value=self.filter_value)
        return torch.where(inside[:, None], alone, scores)


class MirostatProcessor(LogitsProcessor):
    """Mirostat in `generate`: put it last, since other truncations change what its surprise means.

    A processor does not see which token was drawn until the next call: the update happens then, from the last column of
    `input_ids`. Sequences are recognised by their tokens, so a batch may be reordered or thinned between steps. A new
    prompt starts anew. Beam search raises `ValueError`: hypotheses are not draws, there is no surprise to control.

    Parameters are those of `hartley.decoding.Mirostat`; `state` shows the bounds.
    """

    supports_continuous_batching = False

    def __init__(
        self,
        tau: float = 3.0,
        eta: float = 1.0,
        *,
        version: Literal[1, 2] = 2,
        m: int = 100,
        surprise: Surprise = "model",
        mu_range: tuple[float, float] | None = None,
        filter_value: float = -torch.inf,
    ) -> None:
        self.sampler = Mirostat(tau, eta, version=version, m=m, surprise=surprise, mu_range=mu_range)
        self.filter_value = filter_value
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None  # prefixes, logits and log-totals of the last call

    @property
    def state(self) -> Any:
        return self.sampler.state

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        order = None if self._seen is None else self._rows_of_last_call(input_ids, self._seen[0])
        if order is None:
            self.sampler.reset(len(scores), scores.device)
        else:
            assert self._seen is not None
            assert self.sampler.state is not None
            self.sampler.state = self.sampler.state.permute(order)
            self.sampler.update(self._seen[1][order], self._seen[2][order], input_ids[:, -1])
        band, log_total = self.sampler.threshold(scores)
        self._seen = (input_ids, scores, log_total)
        return apply_band(scores, band, filter_value=self.filter_value)

    @staticmethod
    def _rows_of_last_call(ids: Tensor, seen: Tensor) -> Tensor | None:
        """For each sequence the row it had at the last call, or None for a new generation."""
        if ids.shape[1] != seen.shape[1] + 1:
            return None
        prefix = ids[:, :-1]
        if prefix.shape == seen.shape and torch.equal(prefix, seen):
            return torch.arange(len(ids), device=ids.device)
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, tokens in enumerate(seen.tolist()):
            rows.setdefault(tuple(tokens), []).append(row)
        wanted = [tuple(tokens) for tokens in prefix.tolist()]
        if not any(tokens in rows for tokens in wanted):
            return None
        order = []
        for tokens in wanted:
            if not rows.get(tokens):
                raise ValueError(
                    "num_beams > 1: expected sampling. Under beam search Mirostat has no meaning: "
                    "a sequence of the last step was continued more than once"
                )
            order.append(rows[tokens].pop(0))
        return torch.tensor(order, device=ids.device)
