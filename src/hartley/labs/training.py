"""Tiny decoders of transformers and how labs train networks from scratch, in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hartley.labs.models import cache_folder, write_folder_once


def tiny_decoder(vocabulary: int, *, width: int, layers: int, heads: int, seed: int) -> Any:
    """A Llama with random weights and tied embeddings; torch's global stream is left as it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.02 * (768 / width) ** 0.5,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train(
    model: Any,
    loss: Callable[[NDArray[Any]], Tensor],
    *,
    examples: int,
    steps: int,
    batch: int,
    rate: float,
    rng: np.random.Generator,
    rising: float = 0.3,
    progress: Callable[[int], None] | None = None,
) -> list[float]:
    """AdamW with one cycle up to `rate`, on random batches of example numbers; the model ends in evaluation mode.

    Parameters
    ----------
    rising : share of the steps in which the rate rises.
    progress : told the number of each step before it is taken.

    Returns
    -------
    The loss of every step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=rising)
    model.train()
    losses = []
    for step in range(steps):
        if progress is not None:
            progress(step)
        value = loss(rng.integers(examples, size=batch))
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(value.detach()))
    model.eval()
    return losses


def kept_decoder(name: str, trained: Callable[[], Any]) -> Any:
    """The decoder that `trained()` makes: made once a machine and kept in the cache folder under this name."""
    import transformers

    transformers.logging.disable_progress_bar()
    folder = write_folder_once(cache_folder() / name, lambda target: trained().save_pretrained(target))
    return transformers.LlamaForCausalLM.from_pretrained(folder).eval()


def announce(what: str, steps: int) -> Callable[[int], None]:
    """For `train(progress=...)`: says how far it is on the standard error stream."""

    def progress(step: int) -> None:
        if step % 50 == 0:
            end = "\n" if step + 50 >= steps else ""
            print(f"\r{what}: step {step} of {steps}", end=end, file=sys.stderr, flush=True)

    return progress
