"""The dictionaries of tensors that TRL hands from sampling to the update."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

GROUP = "recipe_group"
_LEFT = ("prompt_ids", "prompt_mask")  # padded on the left; everything else on the right
_MODEL_INPUTS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


def sequences(batch: dict[str, Any]) -> tuple[Tensor, Tensor, int]:
    """Ids and attention mask of prompt and answer, and the length of the answer."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    return ids, mask, batch["completion_ids"].shape[1]


def extras(batch: dict[str, Any]) -> dict[str, Any]:
    """What a model that reads more than text asks for."""
    return {name: batch[name] for name in _MODEL_INPUTS if batch.get(name) is not None}


def completion_logits(model: Any, ids: Tensor, mask: Tensor, keep: int, **extras: Any) -> Tensor:
    """Logits of the positions that predict the answer."""
    extras.pop("num_images", None)
    logits: Tensor = model(
        input_ids=ids, attention_mask=mask, logits_to_keep=keep + 1, use_cache=False, **extras
    ).logits
    return logits[:, -keep - 1 : -1]


def replace_groups(
    batch: dict[str, Any], fresh: dict[str, Any], holes: Tensor, filling: Tensor, size: int, pad_token: int, place: int
) -> dict[str, Any]:
    """Groups `holes` of a batch taken from groups `filling` of another; both are padded to the longer of the two.

    `place` is the number of the batch's first answer among those of all processes.
    """
    inside = torch.arange(size, device=holes.device)
    to, source = ((groups[:, None] * size + inside).flatten() for groups in (holes, filling))
    out = dict(batch)
    for key, old in batch.items():
        if not isinstance(old, Tensor) or old.ndim == 0:
            continue
        new = fresh[key]
        if old.ndim == 2:
            width = max(old.shape[1], new.shape[1])
            fill = pad_token if key in ("prompt_ids", "completion_ids") else 0
            old, new = (
                torch.nn.functional.pad(
                    x, (width - x.shape[1], 0) if key in _LEFT else (0, width - x.shape[1]), value=fill
                )
                for x in (old, new)
            )
        old = old.clone()
        # A group gets the number of the one whose place it takes; an answer that stands alone keeps one of its own.
        alone = new[source] < 0 if key == GROUP else None
        old[to] = new[source] if alone is None else torch.where(alone, -1 - place - to, (place + to) // size)
        out[key] = old
    return out
