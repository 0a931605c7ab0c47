"""Explore where the image is uncertain: VOGUE.

The answer is scored twice, with the image and with a perturbed one. Where the two next-token distributions p and p'
differ, the token reads the image:

    U_t = scale * (KL(p || p') + KL(p' || p)),          scale = 1/2

A token's advantage gets bonuses min(alpha_v U, |A| / beta_v) and min(alpha_e H, |A| / beta_e): together at most |A| for
the published beta of 2, so that a negative advantage can be cancelled, never reversed. With a probability that falls
during training a prompt is updated as if the perturbed image had been seen, both log-probabilities taken there; the
bonus for U belongs to those.

U and H pick different tokens: U those that read an operand off the image, H those that decide. With advantages of order
one the cap binds for nearly every token that reads: the bonus is then a switch. The baseline that matters is plain
augmentation, `NoisyBranch` without the bonus.

Source: VOGUE (2025), arXiv 2510.01444; half the KL, linear schedule from 0.5 to 0 and the shared noise of a group are
reconstructions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hartley.checks import require, require_between
from hartley.rl.recipe import GroupAdvantage
from hartley.rl.rollouts import Rollouts


@torch.no_grad()
def symmetric_kl(
    logits: Float[Tensor, "*batch vocabulary"],
    other: Float[Tensor, "*batch vocabulary"],
    *,
    scale: float = 0.5,
    chunk: int = 1 << 22,
) -> Float[Tensor, "*batch"]:
    """scale * sum_b (p_b - p'_b)(log p_b - log p'_b), without gradient; never negative, at most 1e4.

    Parameters
    ----------
    chunk : elements that are worked on at a time; two distributions of the whole batch are never held.
    """
    require(logits.shape == other.shape, "other.shape", tuple(other.shape), f"{tuple(logits.shape)}")
    a, b = (x.reshape(-1, x.shape[-1]) for x in (logits, other))
    rows = max(1, chunk // max(a.shape[1], 1))
    parts = []
    for start in range(0, len(a), rows):
        p, q = (x[start : start + rows].float().log_softmax(-1) for x in (a, b))
        # Where both are impossible nothing differs; where one is, the difference is infinite.
        gap = torch.where((p == -torch.inf) & (q == -torch.inf), 0.0, p - q)
        product = (p.exp() - q.exp()) * gap
        parts.append((scale * product.sum(-1)).clamp(0.0, 1e4))
    return torch.cat(parts).reshape(logits.shape[:-1]) if parts else a.new_zeros(logits.shape[:-1])


def sampled_symmetric_kl(
    log_probs: Float[Tensor, "*batch"], other: Float[Tensor, "*batch"], *, scale: float = 0.5
) -> Float[Tensor, "*batch"]:
    """Unbiased estimate of `symmetric_kl` from one token, drawn from the first distribution.

    For engines that return the log-probabilities of sampled tokens alone; noisy.
    """
    d = (log_probs - other).clamp(-20.0, 20.0)
    return scale * (1 - torch.exp(-d)) * d


def capped_bonus(
    signal: Float[Tensor, "batch time"], advantages: Float[Tensor, "batch time"], alpha: float, beta: float
) -> Float[Tensor, "batch time"]:
    """min(alpha * signal, |A| / beta), without gradient."""
    require(beta > 0, "beta", beta, "a positive number")
    return torch.minimum(alpha * signal.detach(), advantages.abs() / beta)


def visual_uncertainty_advantage(
    advantages: Float[Tensor, "batch time"],
    uncertainty: Float[Tensor, "batch time"],
    entropy: Float[Tensor, "batch time"],
    noisy: Bool[Tensor, "batch"],
    *,
    alpha_v: float = 1.0,
    beta_v: float = 2.0,
    alpha_e: float = 0.4,
    beta_e: float = 2.0,
) -> Float[Tensor, "batch time"]:
    """Advantages with the bonus for entropy, and where the perturbed branch is updated with that for U."""
    bonus = capped_bonus(entropy, advantages, alpha_e, beta_e)
    seen = torch.where(noisy[:, None], capped_bonus(uncertainty, advantages, alpha_v, beta_v), 0.0)
    return advantages + bonus + seen


@dataclass(frozen=True)
class NoisyBranch:
    """The stage `noisy`: a group is updated through the perturbed input with a probability that moves linearly."""

    start: float = 0.5
    end: float = 0.0

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            require_between(name, getattr(self, name), 0, 1, closed="both")

    def __call__(self, rollouts: Rollouts, generator: torch.Generator) -> Bool[Tensor, "batch"]:
        inside = torch.unique(rollouts.group, return_inverse=True)[1]
        groups = int(inside.max()) + 1 if inside.numel() else 0
        share = self.start + rollouts.progress * (self.end - self.start)
        draws = torch.rand(groups, generator=generator, device=generator.device).to(inside.device)
        return (draws < share)[inside]


@dataclass(frozen=True)
class VisualUncertaintyAdvantage:
    """The stage `advantages`: those of `base`, with both bonuses. alpha_v = 0 leaves the bonus for entropy alone."""

    alpha_v: float = 1.0
    beta_v: float = 2.0
    alpha_e: float = 0.4
    beta_e: float = 2.0
    base: GroupAdvantage = field(default_factory=GroupAdvantage)

    @property
    def needs(self) -> tuple[str, ...]:
        """The uncertainty, unless it has no weight."""
        return ("entropy", "visual_uncertainty", "noisy") if self.alpha_v else ("entropy",)

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "batch time"]:
        advantages = self.base(rollouts)[:, None].expand(rollouts.mask.shape)
        if not self.alpha_v:
            return advantages + capped_bonus(rollouts.entropy, advantages, self.alpha_e, self.beta_e)
        return visual_uncertainty_advantage(
            advantages,
            rollouts.fields["visual_uncertainty"],
            rollouts.entropy,
            rollouts.fields["noisy"],
            alpha_v=self.alpha_v,
            beta_v=self.beta_v,
            alpha_e=self.alpha_e,
            beta_e=self.beta_e,
        )
