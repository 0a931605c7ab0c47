"""Entropic activation steering: make an agent explore more, or less, by one vector in its residual stream.

Runs k of an agent, step t: z is the block's output at the last token of the prompt, h the entropy of the action there.

    u = sum_kt h_kt (z_kt - mean_t z_kt) / sum_kt h_kt

While the next answer is generated, beta u is added to the block's output at the prompt's last token and at every
generated one. beta > 0 explores, beta < 0 exploits. u is not normalised, and its length varies with block and run
length: `beta_for` turns a strength relative to the activations (0.2 to 0.6 is useful) into beta.

Source: Rahn, D'Oro, Bellemare (2024), arXiv 2406.00244, eq. 1. Blocks count from 0: block l gives `hidden_states[l+1]`.
Middle blocks work; try a few. The first prompt of a run, without any history, can dominate u: see `skip_first`.

When not to use: actions are single tokens whose logits are at hand (a temperature on those does it exactly), or
exploration has to be efficient: more entropy is not less regret.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hartley.checks import require
from hartley.measures import entropy_from_probs


def steering_vector(
    activations: Sequence[Float[Tensor, "_ d"]] | Float[Tensor, "runs steps d"],
    entropies: Sequence[Float[Tensor, "_"]] | Float[Tensor, "runs steps"],
    *,
    skip_first: int = 0,
    centred: bool = True,
) -> Float[Tensor, "d"]:
    """The entropy-weighted mean of activations, centred within their run.

    Parameters
    ----------
    activations, entropies : one matrix and one vector a run; runs may differ in length.
    skip_first : steps dropped at the start of each run; 0 is the paper.
    centred : False leaves the content of the runs in the vector (the paper's ablation).

    Returns
    -------
    u, in the activations' unit. Zero, with a warning, if all entropies are zero.

    Raises
    ------
    ValueError : no runs, lengths that differ, a run no longer than `skip_first`, negative or NaN entropies.
    """
    require(len(activations) >= 1, "activations", len(activations), "at least one run")
    require(len(activations) == len(entropies), "entropies", len(entropies), f"{len(activations)} runs")
    require(skip_first >= 0, "skip_first", skip_first, "0 or more")
    total, weight = torch.zeros_like(activations[0][0]), 0.0
    for z, h in zip(activations, entropies, strict=True):
        require(len(z) == len(h), "entropies", len(h), f"one for each of the run's {len(z)} steps")
        require(len(z) > skip_first, "skip_first", skip_first, f"less than the {len(z)} steps of a run")
        require(bool((h >= 0).all()), "entropies", h, "numbers >= 0")
        z, h = z[skip_first:], h[skip_first:].to(z.dtype)
        total = total + h @ (z - z.mean(0) if centred else z)
        weight += float(h.sum())
    if weight == 0:
        warnings.warn("all action entropies are zero: the steering vector is zero", stacklevel=2)
        return total
    return total / weight


def beta_for(
    strength: float, vector: Float[Tensor, "d"], activations: Sequence[Float[Tensor, "_ d"]] | Float[Tensor, "*n d"]
) -> float:
    """The beta at which beta |u| is `strength` times the mean length of the activations."""
    lengths = torch.cat([z.norm(dim=-1).reshape(-1) for z in activations])
    norm = float(vector.norm())
    require(norm > 0, "vector", norm, "a vector that is not zero")
    return strength * float(lengths.mean()) / norm


def action_entropy(actions: Sequence[Hashable | None]) -> float:
    """Entropy in nats of sampled actions; None marks an invalid one and is left out. NaN if none is valid."""
    counts = torch.tensor(list(Counter(a for a in actions if a is not None).values()), dtype=torch.float64)
    return float(entropy_from_probs(counts / counts.sum())) if len(counts) else math.nan


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """The list of decoder blocks of a transformers model.

    Raises
    ------
    ValueError : the model has no list of as many modules as its configuration has layers.
    """
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    count = getattr(text, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(f"model = {type(model).__name__}: expected a decoder with a list of {count} blocks")


@torch.inference_mode()
def block_outputs(model: nn.Module, layer: int, **inputs: Any) -> Float[Tensor, "n width d"]:
    """Output of a block, from one forward pass: `block_outputs(model, 13, input_ids=ids)[:, -1]` is z."""
    outputs: list[Tensor] = []
    hook = _block(model, layer).register_forward_hook(lambda module, args, output: outputs.append(_hidden(output)))
    try:
        model(**inputs)
    finally:
        hook.remove()
    return outputs[0].clone()


@contextmanager
def steering(
    model: nn.Module, layer: int, vector: Float[Tensor, "d"], beta: float = 1.0, *, prompt_length: int | None = None
) -> Iterator[None]:
    """Within this context the model is steered; afterwards, and after an exception, it is as before.

    Parameters
    ----------
    layer : block, counted from 0.
    vector, beta : beta * vector is added to the block's output.
    prompt_length : padded length of the prompts, needed only for generation without a key-value cache, where each
        pass sees the whole text again. By default the last position of every pass is steered, which with the cache is
        the prompt's last token and then each generated one. Pad on the left.

    Raises
    ------
    ValueError : no such block, a vector that is not finite, or one of another length than the block's output.
    """
    require(bool(vector.isfinite().all()), "vector", vector, "finite numbers")
    step = beta * vector

    def add(module: nn.Module, args: Any, output: Any) -> Any:
        hidden = _hidden(output)
        require(
            hidden.shape[-1] == len(step), "vector", len(step), f"{hidden.shape[-1]} entries, like the block's output"
        )
        first = hidden.shape[1] - 1 if prompt_length is None else min(prompt_length, hidden.shape[1]) - 1
        steered = hidden.clone()
        steered[:, first:] += step.to(hidden)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    hook = _block(model, layer).register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _block(model: nn.Module, layer: int) -> nn.Module:
    blocks = decoder_blocks(model)
    require(0 <= layer < len(blocks), "layer", layer, f"0 to {len(blocks) - 1}")
    return blocks[layer]


def _hidden(output: Any) -> Tensor:
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
