"""Policy gradients for continuous tokens: group-relative advantages, ratios of mixtures, clipped step by step.

A prompt is answered G times by chains whose continuous tokens are random (`continuous_generate` with "mts" or
"dirichlet") and whose answer is drawn. With R the rewards of a group, r_t the ratio of new and old density of step t,

    A = (R - mean R) / std R,     loss = - mean_t min(r_t A, clip(r_t, 1 - eps, 1 + eps) A) + kl KL(new | reference)

The ratio of k averaged tokens is the geometric mean of their k ratios; that of a Dirichlet draw is the ratio of the two
densities on the draw's support; that of the answer is the ordinary one.

    trace = policy_rollout(model, prompts, steps=4, group=8, k=3, generator=generator)
    advantages = group_advantages(reward(trace.answers).view(-1, 8))
    policy_loss(trace_log_probs(model, trace), trace.log_probs, advantages.flatten()).backward()

Source: Gozeten et al. (2025), arXiv 2505.23648, and Shao et al. (2024) for the advantages.
When not to use: before `csft_loss` has made the model solve some prompts of most groups; equal rewards teach nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hartley.checks import require, require_between
from hartley.reasoning.continuous import continuous_generate, dirichlet_log_prob, mts_log_prob, replay_logits


@dataclass(frozen=True)
class PolicyTrace:
    """Random chains, those of one prompt next to each other.

    Attributes
    ----------
    prompts : each repeated for its group.
    mixtures : what was fed back.
    samples : the drawn tokens with "mts", else None.
    answers : drawn at the end.
    log_probs : log-density of each step under the policy that drew it, the answer's last.
    gamma : concentration of the Dirichlet draws.
    """

    prompts: Int[Tensor, "batch prompt"]
    mixtures: Float[Tensor, "batch thoughts vocab"]
    samples: Int[Tensor, "batch thoughts k"] | None
    answers: Int[Tensor, "batch"]
    log_probs: Float[Tensor, "batch steps"]
    gamma: float = 1.0


def policy_rollout(
    model: Any,
    prompts: Int[Tensor, "prompts prompt"],
    steps: int,
    group: int,
    mode: Literal["mts", "dirichlet"] = "mts",
    *,
    k: int = 3,
    gamma: float = 1.0,
    generator: torch.Generator | None = None,
) -> PolicyTrace:
    """Answer each prompt `group` times, see `continuous_generate`; the answer is drawn at temperature 1."""
    require(group >= 2, "group", group, "at least 2 chains a prompt")
    require(mode in ("mts", "dirichlet"), "mode", mode, '"mts" or "dirichlet"')
    rows = prompts.repeat_interleave(group, 0)
    found = continuous_generate(model, rows, steps, mode, k=k, gamma=gamma, generator=generator)
    answers = torch.multinomial(found.answer_logits.softmax(-1), 1, generator=generator)[:, 0]
    drawn = PolicyTrace(rows, found.mixtures, found.samples, answers, found.answer_logits[:, :0], gamma)
    with torch.no_grad():
        return replace(drawn, log_probs=trace_log_probs(model, drawn))


def trace_log_probs(model: Any, trace: PolicyTrace) -> Float[Tensor, "batch steps"]:
    """Log-densities of a trace's steps under a model, with gradients: one causal pass."""
    logits = replay_logits(model, trace.prompts, trace.mixtures).float()
    if trace.samples is not None:
        thoughts = mts_log_prob(logits[:, :-1], trace.samples)
    elif trace.mixtures.shape[1]:
        thoughts = dirichlet_log_prob(logits[:, :-1], trace.mixtures, trace.gamma).float()
    else:
        thoughts = logits.new_zeros(len(logits), 0)
    answers = logits[:, -1].log_softmax(-1).gather(-1, trace.answers[:, None])
    return torch.cat([thoughts, answers], 1)


def group_advantages(rewards: Float[Tensor, "prompts group"], *, floor: float = 1e-4) -> Float[Tensor, "prompts group"]:
    """(R - mean) / std within each group, the std at least `floor`; zero where all rewards are equal."""
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred / rewards.std(-1, keepdim=True, correction=0).clamp(min=floor)


def policy_loss(
    log_probs: Float[Tensor, "batch steps"],
    old: Float[Tensor, "batch steps"],
    advantages: Float[Tensor, "batch"],
    *,
    clip: float = 0.1,
    kl: float = 0.0,
    reference: Float[Tensor, "batch steps"] | None = None,
) -> Float[Tensor, ""]:
    """Clipped policy loss, the mean over steps and chains.

    Parameters
    ----------
    log_probs : under the model that is trained, with gradients.
    old : under the model that drew the chains.
    clip : half the width of the interval in which a step's ratio still counts.
    kl : weight of the penalty towards `reference`, the mean of ref / new - log(ref / new) - 1, which is never negative.

    Raises
    ------
    ValueError : a clip outside (0, 1), a negative weight, a weight without a reference.
    """
    require_between("clip", clip, 0, 1)
    require_between("kl", kl, 0, closed="left")
    require(kl == 0 or reference is not None, "reference", None, "log-probabilities, with a weight kl")
    ratio, gain = (log_probs - old).exp(), advantages[:, None]
    loss = -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain).mean()
    if reference is not None and kl > 0:
        apart = reference - log_probs
        loss = loss + kl * (apart.exp() - apart - 1).mean()
    return loss
