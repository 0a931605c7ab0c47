"""Group advantages, the clipped surrogate and its aggregation: what GRPO, Dr.GRPO and DAPO are made of.

    A_i = (r_i - mean of its group) / (standard deviation of its group + eps)
    s_t = max(-A rho_t, -A clip(rho_t, 1 - low, 1 + high)),     rho_t = p(o_t) / p_old(o_t)

Sources: Shao et al. (2024), GRPO; Liu et al. (2025), Dr.GRPO; Yu et al. (2025), DAPO.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import require, require_between
from hartley.rl.rollouts import importance_ratio

Aggregation = Literal["sequence-mean", "token-mean", "constant"]


def group_advantage(
    rewards: Float[Tensor, "batch"],
    group: Int[Tensor, "batch"],
    scale: Literal["group", "batch", "none"] = "group",
    *,
    epsilon: float = 1e-4,
    unbiased: bool = True,
) -> Float[Tensor, "batch"]:
    """Reward above the mean of its group.

    Parameters
    ----------
    group : number of the prompt; groups may differ in size.
    scale : divide by the standard deviation of the group (GRPO), of the batch, or not at all (Dr.GRPO).
    epsilon : added to the standard deviation.
    unbiased : n - 1 in the variance, as TRL and verl have it.

    Returns
    -------
    Exactly zero in a group of one, or whose rewards are all equal.

    Raises
    ------
    ValueError : an unknown scale, or rewards that are not finite.
    """
    require(scale in ("group", "batch", "none"), "scale", scale, "'group', 'batch' or 'none'")
    require(bool(rewards.isfinite().all()), "rewards", rewards, "finite numbers")
    centred, inside, size = _centred(rewards, group)
    if scale == "none" or rewards.numel() == 0:
        return centred
    if scale == "batch":
        deviation = rewards.std(correction=int(unbiased)) if rewards.numel() > 1 else rewards.new_tensor(0.0)
        return centred / (deviation + epsilon)
    squares = rewards.new_zeros(size.shape).index_add_(0, inside, centred.square())
    deviation = (squares / (size - int(unbiased)).clamp(min=1)).sqrt()[inside]
    return torch.where(centred == 0, 0.0, centred / (deviation + epsilon))


def _centred(rewards: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards less their group's mean (exactly zero if all are equal), index and size of the groups."""
    inside = torch.unique(group, return_inverse=True)[1]
    size = torch.bincount(inside)
    mean = rewards.new_zeros(size.shape).index_add_(0, inside, rewards) / size
    ends = [rewards.new_zeros(size.shape).scatter_reduce_(0, inside, rewards, e, include_self=False) for e in _ENDS]
    return torch.where((ends[0] == ends[1])[inside], 0.0, rewards - mean[inside]), inside, size


_ENDS = ("amin", "amax")


def clipped_surrogate(
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    low: float | Float[Tensor, "batch time"] = 0.2,
    high: float | Float[Tensor, "batch time"] = 0.2,
    *,
    dual: float | None = None,
) -> Float[Tensor, "batch time"]:
    """Loss of each token: pessimistic of the ratio and the clipped ratio.

    Parameters
    ----------
    low, high : the ratio is clipped to 1 - low ... 1 + high; numbers, or one a token.
    dual : where the advantage is negative the loss is at most -A * dual (Ye et al. 2020); None leaves it unbounded.
    """
    require(dual is None or dual > 1, "dual", dual, "a number above 1, or None")
    ratio = importance_ratio(log_probs, old_log_probs)
    clipped = torch.clamp(ratio, torch.as_tensor(1 - low).to(ratio), torch.as_tensor(1 + high).to(ratio))
    loss = torch.maximum(-advantages * ratio, -advantages * clipped)
    if dual is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -advantages * dual), loss)


def aggregate(
    loss: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    how: Aggregation = "token-mean",
    *,
    max_length: int | None = None,
    total: float | Tensor | None = None,
) -> Float[Tensor, ""]:
    """One number from the losses of the tokens.

    Parameters
    ----------
    how : "sequence-mean", mean over the tokens of an answer, then over answers (GRPO); "token-mean", mean over all
        tokens (DAPO); "constant", sum over answers times `max_length` (Dr.GRPO).
    max_length : largest length an answer can have; a constant of the run, not of the batch.
    total : tokens ("token-mean") or answers (otherwise) in the whole batch, where this is a part of it and the parts
        are to be added up; by default those present.

    Returns
    -------
    Zero for an empty batch. An empty answer counts as an answer of loss zero.
    """
    summed = torch.where(mask, loss, 0.0).sum(-1)
    if how == "token-mean":
        return summed.sum() / torch.as_tensor(mask.sum() if total is None else total).clamp(min=1)
    answers = torch.as_tensor(len(mask) if total is None else total).clamp(min=1)
    if how == "sequence-mean":
        return (summed / mask.sum(-1).clamp(min=1)).sum() / answers
    require(how == "constant", "how", how, "'sequence-mean', 'token-mean' or 'constant'")
    if max_length is None:
        raise ValueError("max_length = None: expected the largest length of an answer, which 'constant' divides by")
    return summed.sum() / (answers * max_length)


def kl_estimate(
    log_probs: Float[Tensor, "batch time"], reference_log_probs: Float[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """Schulman's k3 estimate of KL(policy || reference) from sampled tokens: exp(d) - d - 1, d = log ref - log p."""
    d = (reference_log_probs - log_probs).clamp(-20.0, 20.0)
    return d.exp() - d - 1


def overlong_penalty(lengths: Int[Tensor, "batch"], max_length: int, cache: int) -> Float[Tensor, "batch"]:
    """DAPO's soft punishment: 0 up to max_length - cache, then linearly down to -1 at max_length and beyond."""
    require_between("cache", cache, 0, max_length, closed="right")
    return ((max_length - cache - lengths) / cache).clamp(-1.0, 0.0)


def informative_groups(correct: Bool[Tensor, "batch"], group: Int[Tensor, "batch"]) -> Bool[Tensor, "batch"]:
    """True for the answers of groups that hold both right and wrong ones: only those teach (DAPO's filter)."""
    right, size = group_tally(correct, group)
    return (right > 0) & (right < size)


def group_tally(
    correct: Bool[Tensor, "batch"], group: Int[Tensor, "batch"]
) -> tuple[Int[Tensor, "batch"], Int[Tensor, "batch"]]:
    """Right answers in the group of each answer, and all answers in it."""
    inside = torch.unique(group, return_inverse=True)[1]
    right = torch.bincount(inside, weights=correct.double()).round().long()
    return right[inside], torch.bincount(inside)[inside]
