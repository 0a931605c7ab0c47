"""A policy-gradient method as a frozen record of stages, which may be exchanged one by one.

In the order in which a training step asks for them:

    temperature     state -> temperature of the policy, in sampling and in the loss
    modulation      (next-token logits, state) -> factor on the sampling temperature alone
    branching       rollouts -> where to continue them once more (`branches` continuations each)
    informative     rollouts -> which answers to keep; the rest is sampled again, up to `rounds` times
    noisy           rollouts -> which answers are updated as if a perturbed input had been seen
    shape_reward    rollouts -> reward of each answer
    advantages      rollouts -> advantage of each answer or token
    select          (rollouts, advantages) -> tokens that are trained
    clip_range      tokens -> low, high
    weights         tokens -> factor on the loss of each token
    kl_coefficient  tokens -> factor on the KL term
    aggregate       how the losses of the tokens become one number

A stage is a number where that says it all, else a function; every one is pure. A function may carry attributes:

    needs                                names of what it reads beyond the rollouts' own statistics
    observe(state, rollouts) -> state    what it remembers from batch to batch
    derive(rollouts) -> fields           what a stage of the loss takes from whole groups, which mini-batches split

A factor on the advantage is a weight: the clipped surrogate is homogeneous in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import nearest, require
from hartley.rl.objective import Aggregation, aggregate, clipped_surrogate, group_advantage, kl_estimate
from hartley.rl.rollouts import Rollouts, State, Tokens

STATISTICS = frozenset({"entropy", "second_moment", "reference"})
"""What a recipe may need that is not a field of the rollouts: statistics, which the trainer computes."""


@dataclass(frozen=True)
class GroupAdvantage:
    """The stage that calls `group_advantage`."""

    scale: Literal["group", "batch", "none"] = "group"
    epsilon: float = 1e-4
    unbiased: bool = True

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "batch"]:
        return group_advantage(
            rollouts.rewards, rollouts.group, self.scale, epsilon=self.epsilon, unbiased=self.unbiased
        )


@dataclass(frozen=True)
class Prepared:
    """What one batch of rollouts gives to the update.

    Attributes
    ----------
    rollouts : with shaped rewards and derived fields; `state` is what the next batch is to start with.
    advantages : one a token, zero outside the mask.
    mask : tokens that are trained: the rollouts' own, less what was not selected.
    """

    rollouts: Rollouts
    advantages: Float[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]


@dataclass(frozen=True)
class Recipe:
    """The stages of a method; the default is GRPO.

    Attributes
    ----------
    name : for logs and error messages.
    rounds : how often groups that teach nothing are sampled again at most.
    dual_clip : bound on the loss of tokens with a negative advantage, see `clipped_surrogate`.
    entropy_bonus : coefficient of the mean token entropy, which is added to what is maximised.
    max_length : longest answer that is sampled, in tokens, where the trainer would allow a longer one; and what
        "constant" aggregation divides by. Staged recipes with rising lengths are a curriculum.

    The other attributes are the stages that the module's docstring lists; None leaves a stage out.
    """

    name: str = "grpo"
    temperature: float | Callable[[State], float] = 1.0
    modulation: Callable[[Tensor, State], Tensor] | None = None
    branching: Callable[[Rollouts, torch.Generator], Int[Tensor, "batch"]] | None = None
    informative: Callable[[Rollouts], Bool[Tensor, "batch"]] | None = None
    rounds: int = 10
    noisy: Callable[[Rollouts, torch.Generator], Bool[Tensor, "batch"]] | None = None
    shape_reward: Callable[[Rollouts], Float[Tensor, "batch"]] | None = None
    advantages: Callable[[Rollouts], Float[Tensor, "batch"] | Float[Tensor, "batch time"]] = field(
        default_factory=GroupAdvantage
    )
    select: Callable[[Rollouts, Tensor], Bool[Tensor, "batch time"]] | None = None
    clip_range: tuple[float, float] | Callable[[Tokens], tuple[Any, Any]] = (0.2, 0.2)
    weights: Callable[[Tokens], Float[Tensor, "batch time"]] | None = None
    kl_coefficient: float | Callable[[Tokens], float | Tensor] = 0.0
    dual_clip: float | None = None
    entropy_bonus: float = 0.0
    aggregate: Aggregation = "sequence-mean"
    max_length: int | None = None

    def __post_init__(self) -> None:
        for name in ("modulation", "branching", "informative", "noisy", "shape_reward", "select", "weights"):
            stage = getattr(self, name)
            require(stage is None or callable(stage), name, stage, "a function, or None")
        require(callable(self.advantages), "advantages", self.advantages, "a function of rollouts")
        require(self.rounds >= 1, "rounds", self.rounds, "at least 1")
        if self.aggregate == "constant" and self.max_length is None:
            raise ValueError(f"recipe {self.name!r} aggregates by a constant: give max_length, the longest answer")

    def at(self, progress: float) -> Recipe:
        """The recipe in force at a share of training; this one throughout."""
        return self

    def with_(self, name: str | None = None, **stages: Any) -> Recipe:
        """This recipe with other stages.

        A value is the stage itself, or another recipe, whose stage of that name is taken:
        ``dapo().with_(weights=steer(), shape_reward=pear())``.

        Raises
        ------
        ValueError : no such stage, or a recipe that does nothing of its own there.
        """
        known = {f.name for f in fields(Recipe)} - {"name"}
        taken = {}
        for stage, value in stages.items():
            require(stage in known, "stage", stage, f"a stage of a recipe; {nearest(stage, known)}")
            if isinstance(value, Recipe):
                own = value.changes()
                if stage not in own:
                    raise ValueError(f"recipe {value.name!r} has no {stage} of its own, but {', '.join(own) or 'none'}")
                value = own[stage]
            taken[stage] = value
        label = "+".join([self.name, *(v.name if isinstance(v, Recipe) else k for k, v in stages.items())])
        return replace(self, name=name or label, **taken)

    def changes(self) -> dict[str, Any]:
        """The stages in which this recipe is not GRPO."""
        plain = Recipe()
        names = [f.name for f in fields(Recipe) if f.name != "name"]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(plain, name)}

    @property
    def needs(self) -> frozenset[str]:
        """What must be supplied: names of fields, "entropy" of the rollouts, "second_moment", "reference".

        A trainer asks before it samples, so that a recipe that lacks something fails at once, and leaves out the
        passes that nobody needs.
        """
        found = {name for stage in self._functions() for name in getattr(stage, "needs", ())}
        reference = callable(self.kl_coefficient) or self.kl_coefficient != 0
        return frozenset(found | ({"reference"} if reference else set()))

    def _functions(self) -> list[Any]:
        return [value for f in fields(Recipe) if callable(value := getattr(self, f.name))]

    def policy_temperature(self, state: State) -> float:
        """Temperature at which answers are sampled and log-probabilities taken."""
        return self.temperature(state) if callable(self.temperature) else self.temperature

    @torch.no_grad()
    def prepare(self, rollouts: Rollouts) -> Prepared:
        """Rewards, advantages, selection and memory: once for every batch of rollouts.

        Raises
        ------
        ValueError : a field that a stage needs is not there, or a stage returned the wrong shape or NaN.
        """
        missing = self.needs - rollouts.fields.keys() - STATISTICS
        require(not missing, "rollouts.fields", sorted(rollouts.fields), f"{sorted(missing)}, for {self.name!r}")
        state = rollouts.state
        derived: dict[str, Tensor] = {}
        for stage in self._functions():
            if hasattr(stage, "observe"):
                state = stage.observe(state, rollouts)
            if hasattr(stage, "derive"):
                derived |= stage.derive(rollouts)
        if self.shape_reward is not None:
            rollouts = replace(rollouts, rewards=self.shape_reward(rollouts))
        advantages = self.advantages(rollouts)
        if advantages.ndim == 1:
            advantages = advantages[:, None].expand(rollouts.mask.shape)
        expected = f"{tuple(rollouts.mask.shape)}, one number a token"
        require(advantages.shape == rollouts.mask.shape, "advantages.shape", tuple(advantages.shape), expected)
        advantages = torch.where(rollouts.mask, advantages, 0.0)
        require(bool(advantages.isfinite().all()), "advantages", advantages, "finite numbers")
        mask = rollouts.mask
        if self.select is not None:
            mask = mask & self.select(rollouts, advantages)
        return Prepared(replace(rollouts, state=state, fields={**rollouts.fields, **derived}), advantages, mask)

    def loss(
        self, tokens: Tokens, *, total: float | Tensor | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """What to minimise on a mini-batch, and what to log, as tensors without gradient.

        Parameters
        ----------
        total : see `aggregate`; for batches that are accumulated over several calls.

        Raises
        ------
        ValueError : a statistic is missing that a stage needs.
        """
        for name in self.needs & {"second_moment", "reference"}:
            value = tokens.second_moment if name == "second_moment" else tokens.reference_log_probs
            require(value is not None, name, None, f"a statistic of every token, which recipe {self.name!r} needs")
        low, high = self.clip_range(tokens) if callable(self.clip_range) else self.clip_range
        tokens = replace(tokens, low=low, high=high)
        surrogate = clipped_surrogate(
            tokens.log_probs, tokens.old_log_probs, tokens.advantages, low, high, dual=self.dual_clip
        )
        log = {
            "clip_share_low": _mean(tokens.clipped_low.float(), tokens.mask),
            "clip_share_high": _mean(tokens.clipped_high.float(), tokens.mask),
        }
        if self.weights is not None:
            with torch.no_grad():
                weights = self.weights(tokens)
            surrogate = surrogate * weights
            log["weight"] = _mean(weights, tokens.mask)
            log["reweighted_share"] = _mean(((weights - 1).abs() > 0.05).float(), tokens.mask)
        if tokens.reference_log_probs is not None and "reference" in self.needs:
            coefficient = self.kl_coefficient(tokens) if callable(self.kl_coefficient) else self.kl_coefficient
            divergence = kl_estimate(tokens.log_probs, tokens.reference_log_probs)
            surrogate = surrogate + coefficient * divergence
            log["kl"] = _mean(divergence.detach(), tokens.mask)
        loss = aggregate(surrogate, tokens.mask, self.aggregate, max_length=self.max_length, total=total)
        if self.entropy_bonus:
            count = total if self.aggregate == "token-mean" else None
            loss = loss - self.entropy_bonus * aggregate(tokens.entropy, tokens.mask, total=count)
        return loss, log | {"entropy": _mean(tokens.entropy.detach(), tokens.mask)}


@dataclass(frozen=True)
class Staged:
    """Recipes one after another: `recipes[k]` up to share `until[k]` of training, the last one to the end.

    Used wherever a recipe is: trainers ask `at(progress)`.
    """

    recipes: tuple[Recipe, ...]
    until: tuple[float, ...]

    def __post_init__(self) -> None:
        require(len(self.recipes) == len(self.until) + 1, "until", self.until, "one share fewer than recipes")
        rising = all(a < b for a, b in zip((0.0, *self.until), (*self.until, 1.0), strict=True))
        require(rising, "until", self.until, "rising shares in (0, 1)")

    @property
    def name(self) -> str:
        """Names of the recipes, in order."""
        return " then ".join(recipe.name for recipe in self.recipes)

    @property
    def needs(self) -> frozenset[str]:
        """What any of the recipes needs."""
        return frozenset().union(*(recipe.needs for recipe in self.recipes))

    def at(self, progress: float) -> Recipe:
        """The recipe in force at a share of training."""
        return self.recipes[sum(progress >= share for share in self.until)]


def combine(*recipes: Recipe, name: str | None = None) -> Recipe:
    """One recipe with all that the given ones change.

    Raises
    ------
    ValueError : two of them change the same stage in different ways; take it from one of them with `with_`.
    """
    stages: dict[str, Any] = {}
    source: dict[str, str] = {}
    for recipe in recipes:
        for stage, value in recipe.changes().items():
            if stage in stages and stages[stage] != value:
                raise ValueError(
                    f"recipes {source[stage]!r} and {recipe.name!r} both set {stage}: take it from one of them, "
                    f"as in {source[stage]}().with_({stage}={recipe.name}())"
                )
            stages[stage], source[stage] = value, recipe.name
    return Recipe(name=name or "+".join(recipe.name for recipe in recipes), **stages)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
