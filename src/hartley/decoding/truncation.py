"""The field's plain truncation rules as thresholds, so that they compose with the entropy-guided ones.

Sources: top-k (Fan, Lewis, Dauphin 2018), top-p (Holtzman and others 2020), min-p (Nguyen and others 2024).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hartley.checks import require, require_between
from hartley.decoding._select import nearest_until
from hartley.decoding.bands import Band, check_logits


def min_p_threshold(logits: Float[Tensor, "*batch vocab"], min_p: float = 0.1) -> Band:
    """Keep outcomes at least `min_p` times as likely as the mode."""
    require_between("min_p", min_p, 0, 1, closed="both")
    top = logits.detach().amax(-1).to(torch.promote_types(logits.dtype, torch.float32))
    check_logits(top - top, logits)
    return Band.above(top + (math.log(min_p) if min_p > 0 else -math.inf))


def top_p_threshold(logits: Float[Tensor, "*batch vocab"], mass: float = 0.9) -> Band:
    """Keep the likeliest outcomes until their probabilities reach `mass`; all that tie with the last one are kept."""
    require_between("mass", mass, 0, 1, closed="right")
    return Band.above(nearest_until(logits, "mode", mass).low)


def top_k_threshold(logits: Float[Tensor, "*batch vocab"], k: int | Int[Tensor, "*batch"]) -> Band:
    """Keep the k likeliest outcomes, k one number or one a row; all that tie with the k-th are kept.

    Where fewer than k logits are finite, all of those are kept.
    """
    if isinstance(k, Tensor):
        if k.device.type == "cpu":
            require(bool((k >= 1).all()), "k", k, "at least 1")
        return Band.above(nearest_until(logits, "mode", k.double(), count=True).low)
    require(k >= 1, "k", k, "at least 1")
    return Band.above(nearest_until(logits, "mode", float(k), count=True).low)
