"""The recipes by name: three baselines, and one a paper."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from hartley.checks import require
from hartley.rl.entropy_change import Estimator, SteerWeights
from hartley.rl.objective import informative_groups, overlong_penalty
from hartley.rl.recipe import GroupAdvantage, Recipe
from hartley.rl.rollouts import Rollouts


def grpo(*, kl: float = 0.0, clip: float = 0.2) -> Recipe:
    """Group-relative policy optimisation: mean over the tokens of an answer, then over answers.

    Parameters
    ----------
    kl : coefficient of the KL term to a reference policy; 0.04 in the paper, 0 in common use since.

    Source: Shao et al. (2024), DeepSeekMath.
    """
    return Recipe(name="grpo", kl_coefficient=kl, clip_range=(clip, clip))


def dr_grpo(max_length: int) -> Recipe:
    """GRPO without its two biases: no division by the standard deviation, nor by the length of the answer.

    Source: Liu et al. (2025), Understanding R1-Zero-like training.
    """
    return Recipe(name="dr_grpo", advantages=GroupAdvantage(scale="none"), aggregate="constant", max_length=max_length)


def dapo(
    *,
    overlong: tuple[int, int] | None = None,
    rounds: int = 10,
    entropy_bonus: float = 0.0,
    dual_clip: float | None = None,
) -> Recipe:
    """Clip-higher, mean over tokens, and groups that teach nothing sampled again.

    Parameters
    ----------
    overlong : longest answer and the margin before it in which its reward falls, both in tokens; None: no penalty.
    rounds : how often a batch is filled up at most.
    entropy_bonus : the baseline that methods against entropy collapse have to beat, tuned.

    Source: Yu et al. (2025), DAPO.
    """
    return Recipe(
        name="dapo",
        clip_range=(0.2, 0.28),
        aggregate="token-mean",
        informative=MixedGroups(),
        rounds=rounds,
        shape_reward=None if overlong is None else OverlongPenalty(*overlong),
        entropy_bonus=entropy_bonus,
        dual_clip=dual_clip,
    )


def steer(min_weight: float = 0.8, *, estimator: Estimator = "steer", respect_clip: bool = False) -> Recipe:
    """Tokens that would move the entropy strongly, up or down, weigh less; otherwise DAPO without dynamic sampling.

    Source: Rethinking Entropy Interventions in RLVR (2025), with the settings of the released scripts.
    """
    return Recipe(
        name="steer",
        clip_range=(0.2, 0.28),
        dual_clip=10.0,
        aggregate="token-mean",
        weights=SteerWeights(min_weight, estimator=estimator, respect_clip=respect_clip),
    )


@dataclass(frozen=True)
class MixedGroups:
    """The stage that keeps groups with right and wrong answers, see `informative_groups`."""

    def __call__(self, rollouts: Rollouts) -> Bool[Tensor, "batch"]:
        return informative_groups(rollouts.correct, rollouts.group)


@dataclass(frozen=True)
class OverlongPenalty:
    """The stage that adds `overlong_penalty` to the reward."""

    max_length: int
    cache: int

    def __post_init__(self) -> None:
        require(0 < self.cache <= self.max_length, "cache", self.cache, f"1 to {self.max_length} tokens")

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "batch"]:
        return rollouts.rewards + overlong_penalty(rollouts.lengths, self.max_length, self.cache)
