"""How much one update of a token will move the policy's entropy, and STEER: strong movers weigh less.

For a softmax with independent logits, a step eta on the surrogate of token a, w = A / p_old(a) where the clip range
lets it through, moves the entropy to first order by

    dH/d eta = -w p_a [ p_a (log p_a + H) - S2 ],     S2 = sum_b p_b^2 (log p_b + H)             "exact"
    STEER's estimate                       Omega = w p_a (1 - p_a) (log p_a + H)                 "steer"
    covariance of log-probability and advantage    A (log p_a + H)                               "covariance"

The last two are signed the other way, as published: positive means that entropy falls. STEER's follows from the exact
one by keeping the sampled token's term of S2 alone, and has one factor p_a fewer, so that it overrates rare tokens; of
the three the exact one alone predicts a finite difference (tested), and costs one more pass over the logits.

Source: Rethinking Entropy Interventions in RLVR (2025), arXiv 2510.10150; the exact form is derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hartley.checks import require, require_between
from hartley.rl.rollouts import Tokens, importance_ratio

Estimator = Literal["exact", "steer", "covariance"]


def entropy_change(
    log_probs: Float[Tensor, "*tokens"],
    old_log_probs: Float[Tensor, "*tokens"],
    advantages: Float[Tensor, "*tokens"],
    entropy: Float[Tensor, "*tokens"],
    second_moment: Float[Tensor, "*tokens"] | None = None,
    *,
    estimator: Estimator = "exact",
) -> Float[Tensor, "*tokens"]:
    """First-order change of each token's entropy per unit of step size: negative where entropy will fall.

    Parameters
    ----------
    entropy : of the distribution that the token was drawn from, nats.
    second_moment : S2, see `token_statistics(second_moment=True)`; for "exact" alone.
    estimator : "exact", or one of the published approximations, here with the sign of a change.

    Raises
    ------
    ValueError : an unknown estimator, or "exact" without the second moment.
    """
    surplus = log_probs + entropy
    if estimator == "covariance":
        return -advantages * surplus
    p = log_probs.exp()
    if estimator == "steer":
        weight = advantages * torch.exp(-old_log_probs.clamp(min=math.log(1e-8)))  # the floor is the release's
        return -weight * p * (1 - p) * surplus
    require(estimator == "exact", "estimator", estimator, "'exact', 'steer' or 'covariance'")
    if second_moment is None:
        raise ValueError("second_moment = None: the exact change needs it; token_statistics(second_moment=True)")
    return -advantages * importance_ratio(log_probs, old_log_probs) * (p * surplus - second_moment)


def steer_weights(
    change: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    *,
    min_weight: float = 0.8,
    max_weight: float = 1.0,
    form: Literal["exponential", "linear"] = "exponential",
    floor: float = 0.02,
) -> Float[Tensor, "batch time"]:
    """Weights that fall with the size of the change.

    Exponential: exp(-k u), u = |change|, with k such that the largest of the batch gets `min_weight`; where all are
    below `floor`, k is that of the floor, and next to nothing is reweighted. Linear: from `max_weight` for the smallest
    change to `min_weight` for the largest.

    Parameters
    ----------
    change : of any estimator; what is not finite counts as no change.
    floor : smallest scale of the exponential form.

    Returns
    -------
    Weights in [min_weight, max_weight] (at most 1 in the exponential form), 0 outside the mask. The strongest mover of
    a batch sets the scale: a token's weight depends on who shares its batch.

    Raises
    ------
    ValueError : weights out of order, or an unknown form.

    When not to use: at the published min_weight of 0.8 hardly a token in a hundred is touched, since one outlier sets
    the scale; look at the share of reweighted tokens that the loss logs before attributing anything to it.
    """
    require_between("min_weight", min_weight, 0, 1, closed="right")
    require(max_weight >= min_weight, "max_weight", max_weight, f"at least min_weight, {min_weight}")
    u = change.detach().abs()
    u = torch.where(mask & u.isfinite(), u, 0.0)
    if not bool(mask.any()):
        return u
    largest = u.max()
    if form == "exponential":
        rate = -math.log(min_weight) / largest.clamp(min=floor)
        weights = torch.exp(-rate * u).clamp(min_weight, 1.0)
    else:
        require(form == "linear", "form", form, "'exponential' or 'linear'")
        smallest = u[mask].min()
        share = torch.where(largest > smallest, (u - smallest) / (largest - smallest), 0.5)
        weights = (max_weight - share * (max_weight - min_weight)).clamp(min_weight, max_weight)
    return torch.where(mask, weights, 0.0)


@dataclass(frozen=True)
class SteerWeights:
    """The stage: `steer_weights` of `entropy_change`, both under the current policy.

    Parameters
    ----------
    estimator : "steer" as published; "exact" is what the theory asks for, at the cost of the second moment.
    respect_clip : tokens that the clip range stops count as no change; the release does without.
    """

    min_weight: float = 0.8
    max_weight: float = 1.0
    form: Literal["exponential", "linear"] = "exponential"
    floor: float = 0.02
    estimator: Estimator = "steer"
    respect_clip: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The second moment, for the exact estimator."""
        return ("second_moment",) if self.estimator == "exact" else ()

    def __call__(self, tokens: Tokens) -> Float[Tensor, "batch time"]:
        p = tokens.log_probs.detach()
        change = entropy_change(
            p, tokens.old_log_probs, tokens.advantages, tokens.entropy, tokens.second_moment, estimator=self.estimator
        )
        if self.respect_clip:
            change = torch.where(tokens.clipped, 0.0, change)
        return steer_weights(
            change,
            tokens.mask,
            min_weight=self.min_weight,
            max_weight=self.max_weight,
            form=self.form,
            floor=self.floor,
        )
