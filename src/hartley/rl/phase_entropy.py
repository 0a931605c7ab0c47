"""Shorter thinking without a target length: PEAR rewards right answers whose thinking was not needlessly uncertain.

    P = max(0, H_think - alpha H_answer),      reward = min(1, base - P) if right, else a constant

H_think and H_answer are mean entropies, under the policy that sampled, of the tokens before and after the one that ends
the thinking phase; that token belongs to neither. P is a number, not a path for gradients.

Group normalisation keeps differences alone: where all answers of a group are right, small differences of P become
advantages of order one. With Dr.GRPO's plain differences the pressure stays proportional. DAPO's filter drops groups
that are all right, which are the ones that PEAR has most to say about.

Source: PEAR (2025), arXiv 2510.08026.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import require_between
from hartley.rl.rollouts import Rollouts


def phase_entropy(
    entropy: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], end_think: Int[Tensor, "batch"]
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    """Mean entropy while thinking and while answering.

    Parameters
    ----------
    end_think : position of the token that ends the thinking phase; -1 where there is none: all was thinking.

    Returns
    -------
    Zero for an empty phase.
    """
    time = torch.arange(entropy.shape[1], device=entropy.device)
    end = torch.where(end_think < 0, entropy.shape[1], end_think)[:, None]
    think, answer = ((mask & phase) for phase in (time < end, time > end))
    entropy = entropy.detach()
    mean_think, mean_answer = (
        torch.where(phase, entropy, 0.0).sum(1) / phase.sum(1).clamp(min=1) for phase in (think, answer)
    )
    return mean_think, mean_answer


def phase_entropy_reward(
    correct: Bool[Tensor, "batch"],
    entropy: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    end_think: Int[Tensor, "batch"],
    *,
    alpha: float = 1.0,
    base: float = 1.0,
    wrong: float = 0.0,
    floor: float | None = None,
) -> Float[Tensor, "batch"]:
    """Reward of each answer.

    Parameters
    ----------
    alpha : how far the uncertainty of the answer excuses that of the thinking; 0 looks at thinking alone, -1 punishes
        both.
    base : reward of a right answer without penalty, in (0, 1].
    wrong : reward of all others, in [0, 1).
    floor : smallest reward of a right answer; None, as published, lets it fall below that of a wrong one where
        entropies exceed a nat.
    """
    require_between("base", base, 0, 1, closed="right")
    require_between("wrong", wrong, 0, 1, closed="left")
    think, answer = phase_entropy(entropy, mask, end_think)
    reward = (base - (think - alpha * answer).clamp(min=0)).clamp(min=floor, max=1.0)
    return torch.where(correct, reward, wrong)


@dataclass(frozen=True)
class PhaseEntropyReward:
    """The stage `shape_reward`: `phase_entropy_reward` in place of the verifier's reward."""

    alpha: float = 1.0
    base: float = 1.0
    wrong: float = 0.0
    floor: float | None = None

    needs = ("entropy", "end_think")

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "batch"]:
        return phase_entropy_reward(
            rollouts.correct,
            rollouts.entropy,
            rollouts.mask,
            rollouts.fields["end_think"],
            alpha=self.alpha,
            base=self.base,
            wrong=self.wrong,
            floor=self.floor,
        )
