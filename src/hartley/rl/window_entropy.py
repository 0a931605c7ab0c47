"""Think briefly where it is easy, longer where it is hard: ARES counts windows of high entropy.

A window of `width` tokens with a mean entropy above a threshold is a moment of undecidedness. The reward asks for few
of them in easy prompts, for enough in hard ones; how easy a prompt is follows from how many of its answers are right.
With N the count of an answer, D = N - target and a margin M of tolerated deviation:

    easy, right      punished beyond M above            easy, wrong      rewarded beyond M above
    medium, right    punished beyond M either way       medium, wrong    rewarded beyond M above
    hard, right      rewarded from -M upwards           hard, wrong      rewarded beyond M above

Paper and release differ. "released" follows the code, "paper" the formula, which only ever punishes, and only where a
group of answers is wrong. Both need a target from earlier batches: against the mean of the same batch there is nothing
to aim at. Since a sigmoid of zero is one half, every wrong answer earns a constant in the released form, which centring
removes from the advantages but which lowers the contrast between right and wrong.

Source: ARES (2025), arXiv 2510.08457. Its "AEPO" is not the agentic method of that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import require, require_between
from hartley.measures import windowed
from hartley.rl.objective import group_tally, kl_estimate
from hartley.rl.rollouts import Rollouts, State, Tokens

LEVELS = ("easy", "medium", "hard")
_MARGIN = torch.tensor([0.15, 0.25, 0.35])  # of the target
_KAPPA = torch.tensor([2.0, 3.0, 4.0])  # where Huber's loss turns linear
_WIDTH = torch.tensor([2.0, 2.5, 3.0])  # of the sigmoid
_CAP = torch.tensor([1.0, 1.0, 1.2])
_WRONG = torch.tensor([0.6, 0.8, 1.0])


def window_entropy(
    entropy: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    width: int = 4,
    align: Literal["following", "starting"] = "following",
) -> tuple[Float[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """Mean entropy of the `width` tokens after each position, or from it on, and where there are that many.

    Returns
    -------
    Means, 0 where the window is not complete; and true where it is.
    """
    require(width >= 1, "width", width, "at least 1")
    require(align in ("following", "starting"), "align", align, "'following' or 'starting'")
    shift = width if align == "following" else width - 1
    time = entropy.shape[1]
    whole = windowed(mask.to(torch.float64), width) > 1 - 0.5 / width
    means, valid = torch.zeros_like(entropy), torch.zeros_like(mask)
    if shift < time:
        inside = torch.where(mask, entropy.detach(), 0.0)
        means[:, : time - shift] = windowed(inside, width)[:, shift:]
        valid[:, : time - shift] = whole[:, shift:] & mask[:, : time - shift]
    return torch.where(valid, means, 0.0), valid


def entropy_threshold(
    windows: Float[Tensor, "batch time"], valid: Bool[Tensor, "batch time"], quantile: float = 0.95
) -> float:
    """Median over the answers of a high quantile of their windows; NaN without a window."""
    require_between("quantile", quantile, 0, 1, closed="both")
    each = torch.nanquantile(torch.where(valid, windows, torch.nan).double(), quantile, dim=1)
    return float(each.nanmedian()) if each.numel() else float("nan")


def count_windows(
    windows: Float[Tensor, "batch time"],
    valid: Bool[Tensor, "batch time"],
    threshold: float,
    triggers: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch"]:
    """Number of windows at or above the threshold; with `triggers`, of those that follow a token marked there."""
    high = valid & (windows >= threshold)
    return (high if triggers is None else high & triggers).sum(1).to(windows)


def difficulty(correct: Bool[Tensor, "batch"], group: Int[Tensor, "batch"]) -> Int[Tensor, "batch"]:
    """0 easy, 1 medium, 2 hard: at least two thirds, at least one third, less of the group's answers are right."""
    right, size = group_tally(correct, group)
    return 2 - (3 * right >= 2 * size).long() - (3 * right >= size).long()


def hierarchical_entropy_reward(
    correct: Bool[Tensor, "batch"],
    count: Float[Tensor, "batch"],
    target: Float[Tensor, "batch"],
    level: Int[Tensor, "batch"],
    *,
    alpha: float | Float[Tensor, "batch"] = 0.5,
    form: Literal["released", "paper"] = "released",
    weight: Float[Tensor, "batch"] | None = None,
) -> Float[Tensor, "batch"]:
    """One for a right answer, plus what the count of undecided windows earns or costs.

    Parameters
    ----------
    count, target : windows of high entropy, found and aimed at.
    level : 0 easy, 1 medium, 2 hard.
    alpha : most that the entropy term of the released form can reach, times 1.2 for hard prompts.
    weight : of the paper's form, lambda; by default 1.

    Raises
    ------
    ValueError : an unknown form or level.
    """
    require(form in ("released", "paper"), "form", form, "'released' or 'paper'")
    require(bool(((level >= 0) & (level <= 2)).all()), "level", level, "0 easy, 1 medium, 2 hard")
    excess = count - target
    right = correct.to(count)
    if form == "paper":
        gap = torch.where(level == 1, excess.abs(), torch.where(level == 0, excess, -excess).clamp(min=0))
        return right - torch.where(correct, 0.0, gap if weight is None else weight * gap)
    margin_of, kappa, width, cap_of, wrong_of = (
        table.to(count)[level] for table in (_MARGIN, _KAPPA, _WIDTH, _CAP, _WRONG)
    )
    margin = (margin_of * target.clamp(min=1)).clamp(min=1)
    cap = alpha * cap_of

    def huber(x: Tensor) -> Tensor:
        x = x.clamp(min=0)
        return torch.where(x <= kappa, x.square() / (2 * kappa), x - kappa / 2)

    over, either = excess - margin, excess.abs() - margin
    punished = -torch.minimum(cap, cap * huber(torch.where(level == 0, over, either)) / (margin + kappa))
    short = -torch.minimum(cap, 0.5 * cap * huber(-excess - margin) / (margin + kappa))
    rewarded = torch.where(excess >= -margin, cap * torch.sigmoid((excess + margin) / width), short)
    wrong = wrong_of * cap * torch.sigmoid(over.clamp(min=0) / width)
    return right + torch.where(correct, torch.where(level == 2, rewarded, punished), wrong)


@dataclass(frozen=True)
class HierarchicalEntropyReward:
    """The stage `shape_reward`: counts windows, rates groups, and rewards against what earlier batches did.

    Parameters
    ----------
    width, align, quantile : of windows and threshold; `factor` scales the threshold.
    decay : weight of the past in the running threshold (released: 0.99).
    alpha, form : see `hierarchical_entropy_reward`.
    alpha_rate : how fast alpha of each level follows mean - target; 0 keeps it.
    lagged_target : aim at the running mean of earlier batches; False aims at that of this very batch, rounded, as
        the release does: then only the rounding is left to learn from.
    words : count only windows after a token that the field "triggers" marks, such as "however" and "wait".
    """

    width: int = 4
    align: Literal["following", "starting"] = "following"
    quantile: float = 0.95
    factor: float = 1.0
    decay: float = 0.99
    alpha: float = 0.5
    alpha_rate: float = 0.05
    form: Literal["released", "paper"] = "released"
    lagged_target: bool = True
    words: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Entropies, and marked words where only those count."""
        return ("entropy", "triggers") if self.words else ("entropy",)

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "batch"]:
        counts, level, means, _ = self._measured(rollouts)
        state = rollouts.state
        target, weight, alpha = (torch.zeros(3, dtype=counts.dtype) for _ in range(3))
        for k in range(3):
            mean = means[k]
            target[k] = state.get(f"ares.target.{k}", mean) if self.lagged_target else round(mean)
            alpha[k] = state.get(f"ares.alpha.{k}", self.alpha)
            spread = float(counts[level == k].var(correction=0)) if bool((level == k).any()) else 0.0
            weight[k] = max(0.0, (mean - float(target[k])) / (spread + 1e-6))
        target, weight, alpha = (table.to(counts.device)[level] for table in (target, weight, alpha))
        return hierarchical_entropy_reward(
            rollouts.correct, counts, target, level, alpha=alpha, form=self.form, weight=weight
        )

    def observe(self, state: State, rollouts: Rollouts) -> State:
        """Running threshold, and target and alpha of every level that occurred."""
        _, level, means, threshold = self._measured(rollouts)
        new = dict(state)
        if threshold == threshold:
            old = state.get("ares.threshold", threshold)
            new["ares.threshold"] = self.decay * old + (1 - self.decay) * threshold
        for k in range(3):
            if not bool((level == k).any()):
                continue
            old = state.get(f"ares.target.{k}", means[k])
            target = old if self.lagged_target else round(means[k])
            drift = means[k] - target if k < 2 else target - means[k]
            now = state.get(f"ares.alpha.{k}", self.alpha) + self.alpha_rate * drift
            new[f"ares.alpha.{k}"] = min(2.0, max(0.0, now))
            new[f"ares.target.{k}"] = 0.9 * old + 0.1 * means[k]
        return new

    def _measured(self, rollouts: Rollouts) -> tuple[Tensor, Tensor, list[float], float]:
        """Counts, levels, mean count of each level, and the threshold of this batch (before the running mean)."""
        windows, valid = window_entropy(rollouts.entropy, rollouts.mask, self.width, self.align)
        threshold = entropy_threshold(windows, valid, self.quantile)
        in_force = self.factor * rollouts.state.get("ares.threshold", threshold)
        counts = count_windows(windows, valid, in_force, rollouts.fields["triggers"] if self.words else None)
        level = difficulty(rollouts.correct, rollouts.group)
        means = [float(counts[level == k].mean()) if bool((level == k).any()) else 0.0 for k in range(3)]
        return counts, level, means, threshold


@dataclass(frozen=True)
class WindowKL:
    """The stage `kl_coefficient`: a coefficient for each level of difficulty, steered to a target, less in windows.

    Parameters
    ----------
    coefficient : of the KL term at the start, for every level.
    relief : factor inside windows of high entropy (paper: below 1); the release has none, 1.
    target : mean KL estimate of a level at which its coefficient stays.
    gain : how far the logarithm of a coefficient moves per batch at most 0.2 * gain; the release's 5e-4 (0.05 every
        hundredth batch) is next to nothing.
    """

    coefficient: float = 0.01
    relief: float = 1.0
    target: float = 0.01
    gain: float = 5e-4
    width: int = 4
    quantile: float = 0.95

    needs = ("entropy", "reference_log_probs")

    def __call__(self, tokens: Tokens) -> Float[Tensor, "batch time"]:
        return tokens.rollouts.fields["ares.kl"]

    def derive(self, rollouts: Rollouts) -> dict[str, Tensor]:
        """The coefficient of every token: levels are those of whole groups, which a mini-batch may split."""
        state = rollouts.state
        levels = torch.tensor([state.get(f"ares.kl.{k}", 1.0) for k in range(3)]).to(rollouts.entropy)
        windows, valid = window_entropy(rollouts.entropy, rollouts.mask, self.width)
        threshold = state.get("ares.threshold", entropy_threshold(windows, valid, self.quantile))
        relief = torch.where(valid & (windows > threshold), self.relief, 1.0)
        return {"ares.kl": self.coefficient * levels[difficulty(rollouts.correct, rollouts.group)][:, None] * relief}

    def observe(self, state: State, rollouts: Rollouts) -> State:
        """Move each level's factor by how far its mean KL is from the target."""
        new = dict(state)
        kl = kl_estimate(rollouts.log_probs, rollouts.fields["reference_log_probs"])
        mean = torch.where(rollouts.mask, kl, 0.0).sum(1) / rollouts.lengths.clamp(min=1)
        level = difficulty(rollouts.correct, rollouts.group)
        for k in range(3):
            if not bool((level == k).any()):
                continue
            now = float(mean[level == k].mean())
            average = 0.97 * state.get(f"ares.kl.mean.{k}", now) + 0.03 * now
            error = average / self.target - 1
            step = self.gain * max(-0.2, min(0.2, error)) if abs(error) >= 0.02 else 0.0
            factor = state.get(f"ares.kl.{k}", 1.0) * float(torch.tensor(step).exp())
            new[f"ares.kl.{k}"], new[f"ares.kl.mean.{k}"] = min(1e2, max(1e-4, factor)), average
        return new
