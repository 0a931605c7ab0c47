"""Entropy-based top-k: the number of candidates follows the entropy of the next-token distribution.

    k(H) = round(k_min + (k_max - k_min) * sigmoid((H - midpoint) / scale)),   H in nats, clipped to [0, 10]

Few candidates where the model is sure (flat regions of an image, the rest of a word), many where it is not. The
defaults suit an image codebook of 16384 tokens; for another vocabulary the midpoint must lie in the model's range of
entropies, or the rule is a fixed top-k.

Source: Wei and others (2025), "Perceive, Understand and Restore" (PURE), released decoding code. Two of its habits are
left out: the entropy is each row's own, not the batch mean, and 0 log 0 is 0 without a guard of 1e-10.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from hartley.checks import require
from hartley.decoding.bands import Band
from hartley.decoding.truncation import top_k_threshold
from hartley.measures import row_statistics


def entropy_top_k(
    entropy: Float[Tensor, "*batch"],
    *,
    k_min: int = 1,
    k_max: int = 2000,
    midpoint: float = 5.0,
    scale: float = 1.0,
) -> Int[Tensor, "*batch"]:
    """Number of candidates for an entropy in nats; halves round to even.

    With the defaults k runs from 14 at H = 0 to 1987 at H = 10, never reaching its bounds.

    Raises
    ------
    ValueError : k_min below 1, k_max below k_min, or a scale that is not positive.
    """
    require(k_min >= 1, "k_min", k_min, "at least 1")
    require(k_max >= k_min, "k_max", k_max, f"at least k_min = {k_min}")
    require(scale > 0, "scale", scale, "a positive number")
    gate = ((entropy.double().clamp(0.0, 10.0) - midpoint) / scale).sigmoid()
    return (k_min + (k_max - k_min) * gate).round().long().clamp(k_min, k_max)


def entropy_top_k_threshold(
    logits: Float[Tensor, "*batch vocab"],
    *,
    k_min: int = 1,
    k_max: int = 2000,
    midpoint: float = 5.0,
    scale: float = 1.0,
    entropy: Float[Tensor, "*batch"] | None = None,
) -> Band:
    """Threshold of the k(H) likeliest tokens; all that tie with the last are kept.

    Parameters
    ----------
    logits : after guidance and masking, before the temperature, as in the release.
    entropy : where it was measured elsewhere (before a mask was applied, say); by default that of the logits.

    When not to use: where a tuned top-p is possible; on distributions of known shape it recovers them better.
    """
    if entropy is None:
        entropy = row_statistics(logits).entropy
    return top_k_threshold(logits, entropy_top_k(entropy, k_min=k_min, k_max=k_max, midpoint=midpoint, scale=scale))
