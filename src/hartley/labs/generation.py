"""Generating text with any list of logits processors, and measuring what came out."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hartley.checks import nearest, require
from hartley.measures import row_statistics

Processor = Callable[[Tensor, Tensor], Tensor]


def samplers() -> dict[str, Callable[..., Any]]:
    """Processor classes by the name they have on the command line; baselines are those of transformers."""
    import transformers as hf

    from hartley import decoding

    return {
        "temperature": hf.TemperatureLogitsWarper,
        "top-k": hf.TopKLogitsWarper,
        "top-p": hf.TopPLogitsWarper,
        "min-p": hf.MinPLogitsWarper,
        "eta": hf.EtaLogitsWarper,
        "epsilon": hf.EpsilonLogitsWarper,
        "typical": hf.TypicalLogitsWarper,
        "top-h": decoding.TopH,
        "locally-typical": decoding.LocallyTypical,
        "mirostat": decoding.MirostatProcessor,
        "entropy-top-k": decoding.EntropyTopK,
    }


# Where transformers gives no default, the value its documentation and papers use.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 1.0},
    "top-k": {"top_k": 50},
    "top-p": {"top_p": 0.9},
    "min-p": {"min_p": 0.1},
    "eta": {"epsilon": 3e-4},
    "epsilon": {"epsilon": 3e-4},
}


def build_sampler(
    name: str, parameters: Mapping[str, str] = {}, *, temperature: float = 1.0, others: Sequence[str] = ()
) -> list[Processor]:
    """A fresh list of processors: the temperature, then the sampler with its parameters, given as text.

    Parameters
    ----------
    parameters : those that the sampler does not have are passed over if one of the `others` has them.

    Raises
    ------
    ValueError : unknown sampler or parameter (the nearest are suggested), or a value that cannot be read.
    """
    from transformers import TemperatureLogitsWarper

    known = samplers()
    for each in (name, *others):
        if each not in known:
            raise ValueError(f"unknown sampler {each!r}: {nearest(each, known)}")
    require(temperature > 0, "temperature", temperature, "a positive number")
    taken = _signature(known[name])
    everywhere = taken | {p for other in others for p in _signature(known[other])}
    values = dict(_DEFAULTS.get(name, {}))
    for key, text in parameters.items():
        if key not in everywhere:
            raise ValueError(f"unknown parameter {key!r} of {name}: {nearest(key, everywhere)}")
        if key in taken:
            values[key] = _number(text)
    processors: list[Processor] = [] if temperature == 1.0 else [TemperatureLogitsWarper(float(temperature))]
    try:
        return [*processors, known[name](**values)]
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


def _signature(kind: Callable[..., Any]) -> set[str]:
    return {
        p.name
        for p in inspect.signature(kind).parameters.values()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in ("filter_value", "device", "inplace")
    }


def _number(text: str) -> int | float | str | tuple[float, ...]:
    parts = text.split(",")
    try:
        numbers = [int(p) if p.strip().lstrip("-").isdigit() else float(p) for p in parts]
    except ValueError:
        return text
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


@torch.inference_mode()
def generate_tokens(
    model: Any,
    prompts: Tensor,
    processors: Sequence[Processor],
    tokens: int,
    *,
    seed: int,
    mask: Tensor | None = None,
    stop: int | None = None,
) -> Tensor:
    """Sample continuations with a key-value cache.

    Parameters
    ----------
    prompts : (batch, time) token ids, left-padded where `mask` is 0.
    processors : as in `model.generate`; they see the ids so far and float32 logits.
    stop : token that ends a sequence; None never ends one.

    Returns
    -------
    The new tokens, (batch, time), padded with the stop token after it.
    """
    generator = torch.Generator(prompts.device).manual_seed(seed)
    ids, mask = prompts, torch.ones_like(prompts) if mask is None else mask
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    finished = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    cache, fresh = None, ids
    for _ in range(tokens):
        result = model(
            input_ids=fresh,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, logits = result.past_key_values, result.logits[:, -1].float()
        for process in processors:
            logits = process(ids, logits)
        fresh = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        if stop is not None:
            fresh = torch.where(finished[:, None], stop, fresh)
            finished |= fresh.squeeze(-1) == stop
        ids = torch.cat([ids, fresh], -1)
        mask = torch.cat([mask, torch.ones_like(fresh)], -1)
        positions = positions[:, -1:] + 1
        if finished.all():
            break
    return ids[:, prompts.shape[1] :]


@dataclass(frozen=True)
class TextMetrics:
    """Metrics of a batch of continuations; means over sequences, except where it says per sequence.

    Attributes
    ----------
    length : generated tokens before the stop token.
    log_likelihood : mean log p of the tokens under the untempered, untruncated model, nats a token.
    perplexity : exp of minus that.
    surprise : per sequence, mean -log p a token, nats.
    entropy : mean entropy of the untruncated model where the tokens were drawn, nats.
    gap : mean |surprisal - entropy| of the tokens, nats.
    repetition : share of 4-grams that stood before in the same sequence.
    recent : share of tokens that stood in the 32 before.
    distinct : distinct bigrams over bigrams.
    trajectory : entropy at each position, mean over the sequences that reached it.
    """

    length: float
    log_likelihood: float
    perplexity: float
    surprise: tuple[float, ...]
    entropy: float
    gap: float
    repetition: float
    recent: float
    distinct: float
    trajectory: tuple[float, ...]


@torch.inference_mode()
def text_metrics(
    model: Any, prompts: Tensor, ids: Tensor, *, mask: Tensor | None = None, stop: int | None = None
) -> TextMetrics:
    """Score continuations in one forward pass, see `TextMetrics`."""
    mask = torch.ones_like(prompts) if mask is None else mask
    whole, seen = torch.cat([prompts, ids], -1), torch.cat([mask, torch.ones_like(ids)], -1)
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    keep = ids.shape[1] + 1
    logits = model(input_ids=whole, attention_mask=seen, position_ids=positions, logits_to_keep=keep).logits[:, :-1]
    stats = row_statistics(logits, ids, rank=False)
    assert stats.surprisal is not None
    alive = torch.ones_like(ids, dtype=torch.bool)
    if stop is not None:
        alive = (ids == stop).cumsum(-1) == 0
        alive[:, 0] = True
    count = alive.sum(-1)
    surprise = (stats.surprisal * alive).sum(-1) / count
    total = alive.sum()
    mean = float((stats.surprisal * alive).sum() / total)
    texts = [row[a].tolist() for row, a in zip(ids, alive, strict=True)]
    steps = alive.sum(0)
    trajectory = (stats.entropy * alive).sum(0)[steps > 0] / steps[steps > 0]
    return TextMetrics(
        length=float(count.float().mean()),
        log_likelihood=-mean,
        perplexity=math.exp(mean),
        surprise=tuple(surprise.tolist()),
        entropy=float((stats.entropy * alive).sum() / total),
        gap=float(((stats.surprisal - stats.entropy).abs() * alive).sum() / total),
        repetition=_mean(repeated_ngrams(t, 4) for t in texts),
        recent=_mean(repeated_recently(t, 32) for t in texts),
        distinct=_mean(distinct_ngrams(t, 2) for t in texts),
        trajectory=tuple(trajectory.tolist()),
    )


def repeated_ngrams(tokens: Sequence[int], n: int) -> float:
    """Share of n-grams that occurred before in the same sequence; 0 for a sequence shorter than n."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct_ngrams(tokens: Sequence[int], n: int) -> float:
    """Distinct n-grams over n-grams; 1 for a sequence shorter than n."""
    return 1 - repeated_ngrams(tokens, n)


def repeated_recently(tokens: Sequence[int], window: int) -> float:
    """Share of tokens that occur among the `window` tokens before them."""
    if not tokens:
        return 0.0
    return sum(t in tokens[max(0, i - window) : i] for i, t in enumerate(tokens)) / len(tokens)


def _mean(values: Any) -> float:
    numbers = list(values)
    return float(sum(numbers) / len(numbers))
