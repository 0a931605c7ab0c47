"""The recipes by name: three baselines, and one a paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from hartley.checks import require
from hartley.rl.branching import CriticalTokens
from hartley.rl.down_sampling import DualDownSampling
from hartley.rl.entropy_change import Estimator, SteerWeights
from hartley.rl.entropy_target import EntropyTemperature, OverlongFilter
from hartley.rl.heterogeneous import EntropyClip, Redistribution, TokenGroupAdvantage, TokenTemperature
from hartley.rl.objective import informative_groups, overlong_penalty
from hartley.rl.phase_entropy import PhaseEntropyReward
from hartley.rl.recipe import GroupAdvantage, Recipe, Staged
from hartley.rl.rollouts import Rollouts
from hartley.rl.visual_uncertainty import NoisyBranch, VisualUncertaintyAdvantage
from hartley.rl.window_entropy import HierarchicalEntropyReward, WindowKL


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


def cure(
    *, branches: int = 3, top_k: int = 20, exclude: frozenset[int] = frozenset(), switch: float = 0.6, rounds: int = 10
) -> Staged:
    """Answers are continued once more from before their critical tokens; then plain DAPO.

    Parameters
    ----------
    branches, top_k, exclude : see `CriticalTokens`.
    switch : share of training after which DAPO takes over. Start its optimiser afresh there, as the release does.

    Source: CURE (2025).
    """
    second = dapo(rounds=rounds, dual_clip=10.0)
    first = second.with_("cure", branching=CriticalTokens(branches, top_k, exclude=exclude))
    return Staged((first, second), (switch,))


def d3s(*, answers: tuple[float, float] = (0.25, 0.75), tokens: tuple[float, float] = (0.2, 1.0)) -> Recipe:
    """GRPO on the answers whose advantages vary most, and on their tokens with the largest |A| H.

    Source: Learning More with Less (2025).
    """
    return Recipe(name="d3s", select=DualDownSampling(answers, tokens))


def hapo(
    *, tau: float = 0.05, alpha: float = 1.0, beta: float = 1.0, released_sign: bool = False, rounds: int = 10
) -> Recipe:
    """Temperature, advantage and clip range of every token by its own entropy.

    Parameters
    ----------
    tau, alpha, beta : how far entropy moves temperature, clip range and advantage; all 0 leaves little but DAPO with a
        symmetric range.

    Source: HAPO (2025).
    """
    return Recipe(
        name="hapo",
        modulation=TokenTemperature(tau),
        informative=MixedGroups(),
        rounds=rounds,
        advantages=TokenGroupAdvantage(),
        clip_range=EntropyClip(alpha=alpha, released_sign=released_sign),
        weights=Redistribution(beta, released_sign=released_sign),
        dual_clip=10.0,
        aggregate="token-mean",
    )


def pear(alpha: float = 1.0, *, kl: float = 0.0, floor: float | None = None) -> Recipe:
    """GRPO in which needlessly uncertain thinking lowers the reward of a right answer.

    Source: PEAR (2025).
    """
    return Recipe(name="pear", shape_reward=PhaseEntropyReward(alpha, floor=floor), kl_coefficient=kl)


def ares(
    *, alpha: float = 0.5, kl: float = 0.01, form: Literal["released", "paper"] = "released", words: bool = False
) -> Recipe:
    """Rewards windows of high entropy by how hard the prompt is, with a KL budget for each level.

    Parameters
    ----------
    kl : coefficient at the start; 0 leaves the KL term out.

    Source: ARES (2025).
    """
    return Recipe(
        name="ares",
        clip_range=(0.2, 0.3),
        dual_clip=3.0,
        aggregate="token-mean",
        shape_reward=HierarchicalEntropyReward(alpha=alpha, form=form, words=words),
        kl_coefficient=WindowKL(kl) if kl else 0.0,
    )


def vogue(*, alpha_v: float = 1.0, alpha_e: float = 0.4, start: float = 0.5, end: float = 0.0) -> Recipe:
    """GRPO with bonuses where the answer reads the image and where it is uncertain, and a noisy branch that fades.

    Source: VOGUE (2025).
    """
    return Recipe(
        name="vogue",
        noisy=NoisyBranch(start, end),
        advantages=VisualUncertaintyAdvantage(alpha_v=alpha_v, alpha_e=alpha_e),
    )


def acereason(
    *,
    temperature: float | EntropyTemperature = 1.0,
    max_length: int | None = None,
    filter_overlong: bool = False,
) -> Recipe:
    """On-policy GRPO with a mean over tokens, no KL term and no bonus, at a temperature chosen by entropy.

    Parameters
    ----------
    temperature : from `solve_temperature`, or `EntropyTemperature`, which goes on holding the entropy.
    max_length : budget of an answer, in tokens.
    filter_overlong : leave out answers that the budget cut off; while it is short.

    Take one update for each batch of rollouts, so that no ratio is clipped. The paper's curriculum for mathematics,
    with filtered budgets first, is

        Staged((acereason(max_length=8192, filter_overlong=True), acereason(max_length=16384, filter_overlong=True),
                acereason(max_length=24576), acereason(max_length=32768)), until=(0.2, 0.5, 0.75))

    on prompts of rising difficulty, of which `unsolved` keeps those that not every answer solves; the shares of
    training are for the user to choose.

    Source: AceReason-Nemotron 1.1 (2025).
    """
    return Recipe(
        name="acereason",
        temperature=temperature,
        advantages=GroupAdvantage(epsilon=1e-6, unbiased=False),
        select=OverlongFilter() if filter_overlong else None,
        aggregate="token-mean",
        max_length=max_length,
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
