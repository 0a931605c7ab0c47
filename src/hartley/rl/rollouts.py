"""What was sampled, and what a loss sees of it.

Everything is right-padded, (batch, time); position t of a statistic belongs to the distribution that predicts
`ids[:, t]`. The mask holds the tokens that the policy chose and that are trained: neither padding, nor a prefix that
was copied, nor what a tool wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import require

State = Mapping[str, float]
"""What a recipe remembers from one batch to the next: a flat record of numbers, so that JSON keeps it."""


@dataclass(frozen=True)
class Rollouts:
    """A batch of sampled answers, in groups that share a prompt.

    Attributes
    ----------
    ids : sampled tokens.
    mask : tokens to be trained; a row without any is an empty answer.
    group : number of the prompt that each answer belongs to; groups may differ in size.
    rewards : one an answer, finite.
    correct : the verifier's outcome, which shaping leaves alone.
    log_probs : of the tokens, under the policy that sampled them.
    entropy : of the distributions they were drawn from, in nats.
    state : what the recipe remembers from earlier batches.
    progress : share of training that is done, in [0, 1].
    fields : whatever else a stage asks for by name, tensors with the batch in front: "end_think" (batch), position of
        the first end-of-thinking token or -1; "truncated" (batch), true where the length limit cut the answer;
        "triggers" (batch, time), where a reasoning word stands; "visual_uncertainty" (batch, time) and "noisy" (batch).

    Raises
    ------
    ValueError : shapes that do not fit, a reward that is not finite (which answers), or progress outside [0, 1].
    """

    ids: Int[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    group: Int[Tensor, "batch"]
    rewards: Float[Tensor, "batch"]
    correct: Bool[Tensor, "batch"]
    log_probs: Float[Tensor, "batch time"]
    entropy: Float[Tensor, "batch time"]
    state: State = field(default_factory=dict)
    progress: float = 0.0
    fields: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.ids.shape
        for name in ("mask", "log_probs", "entropy"):
            found = getattr(self, name).shape
            require(found == shape, f"{name}.shape", tuple(found), f"that of ids, {tuple(shape)}")
        for name in ("group", "rewards", "correct"):
            found = getattr(self, name).shape
            require(found == shape[:1], f"{name}.shape", tuple(found), f"one number an answer, {tuple(shape[:1])}")
        for name, value in self.fields.items():
            require(value.shape[:1] == shape[:1], f"{name}.shape", tuple(value.shape), f"{shape[0]} answers in front")
        finite = self.rewards.isfinite()
        if not bool(finite.all()):
            odd = (~finite).nonzero().flatten().tolist()
            raise ValueError(f"rewards of answers {odd[:10]} ({len(odd)} in all) are not finite: expected numbers")
        require(0 <= self.progress <= 1, "progress", self.progress, "a share in [0, 1]")

    @property
    def lengths(self) -> Int[Tensor, "batch"]:
        """Number of trained tokens of each answer."""
        return self.mask.sum(-1)


@dataclass(frozen=True)
class Tokens:
    """One mini-batch as the loss sees it: statistics of the current policy beside those of the rollouts.

    Attributes
    ----------
    log_probs : under the current policy; the only quantity through which a surrogate is differentiated.
    old_log_probs : under the policy at the time of the rollouts; the same numbers, detached, in the first update.
    entropy : of the current policy, nats; differentiable, for an entropy bonus.
    advantages : one a token.
    mask : tokens that count.
    rollouts : the answers themselves.
    second_moment : sum_b p_b^2 (log p_b + H), for the exact entropy change; None unless asked for.
    reference_log_probs : under the reference policy; None without a KL term.
    low, high : clip range 1 - low ... 1 + high, filled in before the token weights are asked for.
    """

    log_probs: Float[Tensor, "batch time"]
    old_log_probs: Float[Tensor, "batch time"]
    entropy: Float[Tensor, "batch time"]
    advantages: Float[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    rollouts: Rollouts
    second_moment: Float[Tensor, "batch time"] | None = None
    reference_log_probs: Float[Tensor, "batch time"] | None = None
    low: float | Float[Tensor, "batch time"] = 0.2
    high: float | Float[Tensor, "batch time"] = 0.2

    @property
    def ratio(self) -> Float[Tensor, "batch time"]:
        """Current over old probability, without gradient."""
        return importance_ratio(self.log_probs.detach(), self.old_log_probs)

    @property
    def clipped_low(self) -> Bool[Tensor, "batch time"]:
        """Tokens that get no gradient because the ratio is below the range and the advantage negative."""
        return self.mask & (self.ratio < 1 - self.low) & (self.advantages < 0)

    @property
    def clipped_high(self) -> Bool[Tensor, "batch time"]:
        """Tokens that get no gradient because the ratio is above the range and the advantage positive."""
        return self.mask & (self.ratio > 1 + self.high) & (self.advantages > 0)

    @property
    def clipped(self) -> Bool[Tensor, "batch time"]:
        """Tokens that get no gradient."""
        return self.clipped_low | self.clipped_high


def importance_ratio(
    log_probs: Float[Tensor, "*shape"], old_log_probs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """exp(log p - log p_old); the exponent is held within 20, so that nothing overflows."""
    return torch.exp((log_probs - old_log_probs).clamp(-20.0, 20.0))
