"""Log-probability, entropy and second moment of the sampled tokens, from the logits of one forward pass.

No distribution is held: the rows are reduced where they lie, and so are their gradients. The second moment
S2 = sum_b p_b^2 (log p_b + H), which the exact entropy change needs, comes from the same reduction at half the
temperature: with the collision probability c = sum_b p_b^2 and K the entropy of p_b^2 / c,

    S2 = c ((log c - K) / 2 + H).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hartley.measures import row_statistics


@dataclass(frozen=True)
class TokenStatistics:
    """Of each token, in float32 (float64 for float64 logits).

    Attributes
    ----------
    log_probs : log-probability of the token, differentiable.
    entropy : of the distribution that it was drawn from, nats, differentiable.
    second_moment : sum_b p_b^2 (log p_b + H), without gradient; None unless asked for.
    """

    log_probs: Float[Tensor, "*batch"]
    entropy: Float[Tensor, "*batch"]
    second_moment: Float[Tensor, "*batch"] | None = None


def token_statistics(
    logits: Float[Tensor, "*batch vocabulary"],
    ids: Int[Tensor, "*batch"],
    *,
    temperature: float = 1.0,
    second_moment: bool = False,
) -> TokenStatistics:
    """What every stage of a recipe is computed from.

    Parameters
    ----------
    logits : of the positions that predict `ids`: the model's logits[:, t - 1] for the token at t.
    temperature : of the policy that is trained; log-probabilities and entropies are those of logits / temperature.
    second_moment : one more pass over the logits.

    Raises
    ------
    ValueError : ids outside the vocabulary, or a temperature that is not positive.
    """
    stats = row_statistics(logits, ids, temperature=temperature, rank=False)
    assert stats.surprisal is not None
    moment = None
    if second_moment:
        with torch.no_grad():
            squared = row_statistics(logits, temperature=temperature / 2)
            log_collision = squared.log_partition - 2 * stats.log_partition
            moment = log_collision.exp() * ((log_collision - squared.entropy) / 2 + stats.entropy)
    return TokenStatistics(-stats.surprisal, stats.entropy, moment)
