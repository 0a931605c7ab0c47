"""Every token by its own entropy: HAPO, heterogeneous adaptive policy optimisation.

The normalised log-entropy h of a token lies in [-1, 1]: with l = log H, a pivot q (a high quantile of l over the batch)
and the largest distances above and below it,

    h = (l - q) / max(l - q)_+  if l > q,   else   (l - q) / max(q - l)_+

Temperature, advantage and clip range become functions of h: uncertain tokens are sampled hotter, get more of the
advantage where the ratio has moved and may rise further; certain ones are damped and may fall further.

Source: HAPO (2025), arXiv 2509.16591. The released code divides negative distances by a negative number, so that the
most certain tokens are treated like the most uncertain ones; `released_sign=True` does so too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import require, require_between
from hartley.measures import entropy as softmax_entropy
from hartley.rl.objective import group_advantage
from hartley.rl.rollouts import Rollouts, State, Tokens


@dataclass(frozen=True)
class EntropyScale:
    """What turns an entropy into h: the pivot of log H, and the largest distances above and below it."""

    pivot: float
    up: float
    down: float

    def __call__(self, entropy: Float[Tensor, "*shape"], *, floor: float = 1e-8) -> Float[Tensor, "*shape"]:
        """Normalised log-entropy, in [-1, 1]; what lies beyond the scale is at its end."""
        distance = entropy.clamp(min=floor).log() - self.pivot
        return torch.where(distance > 0, distance / self.up, distance / self.down).clamp(-1.0, 1.0)


def entropy_scale(
    entropy: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], *, quantile: float = 0.8, floor: float = 1e-8
) -> EntropyScale:
    """The scale of a batch: the pivot is the quantile of log H by nearest rank.

    Parameters
    ----------
    floor : smallest entropy that is told apart. In bfloat16 many tokens have an entropy of exactly zero; they set the
        distance below, and squeeze all other certain tokens towards h = 0.
    """
    require_between("quantile", quantile, 0, 1, closed="both")
    levels = entropy[mask].detach().clamp(min=floor).log()
    if levels.numel() == 0:
        return EntropyScale(0.0, floor, floor)
    rank = round(quantile * (levels.numel() - 1))
    pivot = float(levels.kthvalue(rank + 1).values)
    return EntropyScale(pivot, max(float(levels.max()) - pivot, floor), max(pivot - float(levels.min()), floor))


def normalised_entropy(
    entropy: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    *,
    quantile: float = 0.8,
    floor: float = 1e-8,
    released_sign: bool = False,
) -> Float[Tensor, "batch time"]:
    """h of every token, 0 outside the mask and where all entropies are equal.

    `released_sign` returns |h| for certain tokens, as the released code does.
    """
    h = entropy_scale(entropy, mask, quantile=quantile, floor=floor)(entropy.detach(), floor=floor)
    return torch.where(mask, h.abs() if released_sign else h, 0.0)


def token_group_advantage(
    rewards: Float[Tensor, "batch"],
    mask: Bool[Tensor, "batch time"],
    group: Int[Tensor, "batch"],
    *,
    smooth: float = 5.0,
    epsilon: float = 1e-6,
) -> Float[Tensor, "batch time"]:
    """Reward above the mean over the *tokens* of its group, over their standard deviation.

    Long answers weigh more, and the advantages of a group's tokens sum to zero. A group in which one of them reaches
    `smooth` gets the ordinary group advantage instead.
    """
    out = torch.zeros_like(rewards)
    lengths = mask.sum(1).to(rewards)
    plain = group_advantage(rewards, group)
    for number in torch.unique(group):
        inside = (group == number).nonzero().flatten()
        r, n = rewards[inside], lengths[inside]
        if bool((r == r[0]).all()) or n.sum() == 0:
            continue
        mean = (n * r).sum() / n.sum()
        deviation = ((n * (r - mean).square()).sum() / n.sum()).sqrt()
        a = (r - mean) / (deviation + epsilon)
        out[inside] = plain[inside] if bool((a.abs() >= smooth).any()) else a
    return torch.where(mask, out[:, None], 0.0)


def adaptive_clip(
    h: Float[Tensor, "batch time"], low: float = 0.2, high: float = 0.2, alpha: float = 1.0
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]:
    """Clip radii: certain tokens may fall further, uncertain ones rise further; never both."""
    return low * (1 + alpha * (-h).clamp(min=0)), high * (1 + alpha * h.clamp(min=0))


def redistribution(
    h: Float[Tensor, "batch time"],
    ratio: Float[Tensor, "batch time"],
    low: Float[Tensor, "batch time"],
    high: Float[Tensor, "batch time"],
    beta: float = 1.0,
) -> Float[Tensor, "batch time"]:
    """Factor on the advantage: 1 + beta h for uncertain tokens whose ratio has left 1 - low/2 ... 1 + high/2, and for
    certain ones whose ratio has not; 1 otherwise. Never negative for beta <= 1."""
    require_between("beta", beta, 0, 1, closed="both")
    neutral = (ratio > 1 - low / 2) & (ratio < 1 + high / 2)
    return torch.where((h > 0) ^ neutral, 1 + beta * h, 1.0)


@dataclass(frozen=True)
class TokenTemperature:
    """The stage `modulation`: sampling temperature 1 + tau h, h on the scale of the batch before.

    The first batch is sampled plainly. Log-probabilities stay those of the unmodulated policy, as in the release.
    """

    tau: float = 0.05
    quantile: float = 0.8

    needs = ("entropy",)

    def __call__(self, logits: Float[Tensor, "batch vocabulary"], state: State) -> Float[Tensor, "batch"]:
        if "hapo.pivot" not in state:
            return torch.ones(len(logits), device=logits.device)
        scale = EntropyScale(state["hapo.pivot"], state["hapo.up"], state["hapo.down"])
        return 1 + self.tau * scale(softmax_entropy(logits), floor=1e-6)

    def observe(self, state: State, rollouts: Rollouts) -> State:
        """Remember the scale of these rollouts."""
        scale = entropy_scale(rollouts.entropy, rollouts.mask, quantile=self.quantile)
        return {**state, "hapo.pivot": scale.pivot, "hapo.up": scale.up, "hapo.down": scale.down}


@dataclass(frozen=True)
class TokenGroupAdvantage:
    """The stage that calls `token_group_advantage`."""

    smooth: float = 5.0

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "batch time"]:
        return token_group_advantage(rollouts.rewards, rollouts.mask, rollouts.group, smooth=self.smooth)


@dataclass(frozen=True)
class EntropyClip:
    """The stage `clip_range`: `adaptive_clip` by the current entropies of the mini-batch.

    Without a lag between the policy that sampled and the one that is trained, no ratio is clipped.
    """

    low: float = 0.2
    high: float = 0.2
    alpha: float = 1.0
    quantile: float = 0.8
    released_sign: bool = False

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        h = normalised_entropy(tokens.entropy, tokens.mask, quantile=self.quantile, released_sign=self.released_sign)
        return adaptive_clip(h, self.low, self.high, self.alpha)


@dataclass(frozen=True)
class Redistribution:
    """The stage `weights`: `redistribution` within the clip range that is in force."""

    beta: float = 1.0
    quantile: float = 0.8
    released_sign: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.beta <= 1, "beta", self.beta, "a number in [0, 1]: beyond it advantages change their sign")

    def __call__(self, tokens: Tokens) -> Float[Tensor, "batch time"]:
        h = normalised_entropy(tokens.entropy, tokens.mask, quantile=self.quantile, released_sign=self.released_sign)
        low, high = (torch.as_tensor(end, device=h.device).expand(h.shape) for end in (tokens.low, tokens.high))
        return redistribution(h, tokens.ratio, low, high, self.beta)
