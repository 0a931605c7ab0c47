"""Samplers against the transformers warper of the same name, and against the floor.

The floor is one `torch.logsumexp` over the same logits: no exact rule can know the distribution without reading it
once. The methods filter in place; the warpers of transformers have no such option. `softmax` is shown for scale.
Sizes are (batch, vocabulary): (1, 49k), (8, 128k), (32, 256k), on normal logits and on those of SmolLM2.
"""

from __future__ import annotations

import time

import torch
from race import arguments, race, show
from transformers import (
    MinPLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from hartley import decoding
from hartley.decoding import apply_band


def candidates(logits: torch.Tensor) -> dict[str, object]:
    """Every sampler, writing into a copy of its own so that none eats the input of the others."""
    batch = len(logits)
    mu = torch.full((batch,), 6.0)
    work = logits.clone()

    def ours(rule):  # type: ignore[no-untyped-def]
        # The band is found on the whole logits and applied to the copy: the work of an in-place filter.
        return lambda: apply_band(work, rule(logits), inplace=True)

    def theirs(warper):  # type: ignore[no-untyped-def]
        return lambda: warper(None, logits)

    return {
        "logsumexp (floor)": lambda: torch.logsumexp(logits, -1),
        "softmax": lambda: torch.softmax(logits, -1),
        "top-H": ours(decoding.top_h_threshold),
        "top-H of transformers (capped at 100)": theirs(TopHLogitsWarper(0.4)),
        "locally typical 0.9": ours(lambda z: decoding.typical_band(z, 0.9)),
        "typical 0.9 of transformers": theirs(TypicalLogitsWarper(0.9)),
        "Mirostat v2": ours(lambda z: decoding.mirostat_threshold(z, mu)),
        "Mirostat v1": ours(lambda z: decoding.mirostat_threshold(z, mu, version=1)),
        "entropy top-k": ours(decoding.entropy_top_k_threshold),
        "top-k 1000 of transformers": theirs(TopKLogitsWarper(1000)),
        "top-p 0.9": ours(lambda z: decoding.top_p_threshold(z, 0.9)),
        "top-p 0.9 of transformers": theirs(TopPLogitsWarper(0.9)),
        "min-p 0.1": ours(lambda z: decoding.min_p_threshold(z, 0.1)),
        "min-p 0.1 of transformers": theirs(MinPLogitsWarper(0.1)),
    }


def real_logits(batch: int, vocab: int) -> torch.Tensor:
    """Rows of SmolLM2, repeated along the vocabulary (a little lower each time) where it is larger than the model's."""
    from hartley.labs.decoding import DecodingLab

    rows = DecodingLab().cached_logits(0)
    rows = rows[torch.arange(batch) % len(rows)]
    copies = -(-vocab // rows.shape[1])
    return torch.cat([rows - 4.0 * i for i in range(copies)], -1)[:, :vocab].contiguous()


def generation_overhead(tokens: int) -> None:
    """Share of a sampler in the time per token of SmolLM2, batch 1."""
    from hartley.labs.generation import build_sampler
    from hartley.labs.models import language_model

    network, tokenizer = language_model()
    ids = tokenizer("The old lighthouse keeper", return_tensors="pt").input_ids
    seconds = {}
    for name in ("top-h", "locally-typical", "mirostat", "entropy-top-k"):
        (processor,) = build_sampler(name)
        spent = 0.0
        cache, fresh, whole = None, ids, ids
        with torch.inference_mode():
            for step in range(tokens + 2):
                begin = time.perf_counter()
                result = network(fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
                logits, cache = result.logits[:, -1].float(), result.past_key_values
                middle = time.perf_counter()
                logits = processor(whole, logits)
                end = time.perf_counter()
                fresh = torch.multinomial(logits.softmax(-1), 1)
                whole = torch.cat([whole, fresh], -1)
                if step >= 2:
                    spent += (end - middle) / (end - begin)
        seconds[name] = spent / tokens
    for name, share in seconds.items():
        print(f"{name:16s} {100 * share:5.2f}% of the time per token")


def main() -> None:
    options = arguments(__doc__ or "")
    sizes = [(1, 49_152), (8, 128_256)] if options.quick else [(1, 49_152), (8, 128_256), (32, 256_000)]
    for batch, vocab in sizes:
        generator = torch.Generator().manual_seed(0)
        inputs = {
            "normal logits": 3 * torch.randn(batch, vocab, generator=generator),
            "SmolLM2 logits": real_logits(batch, vocab),
        }
        for name, logits in inputs.items():
            results = race(
                candidates(logits),  # type: ignore[arg-type]
                reference="logsumexp (floor)",
                seconds=4 if options.quick else 12,
                rounds=(3, 300),
            )
            show(f"{name}, batch {batch}, vocabulary {vocab}, float32", results, note=f"{options.threads} threads")
    generation_overhead(20 if options.quick else 60)


if __name__ == "__main__":
    main()
