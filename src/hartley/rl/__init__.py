"""Optimise a policy token by token, with its entropy in view."""

from hartley.rl.entropy_change import SteerWeights, entropy_change, steer_weights
from hartley.rl.objective import (
    aggregate,
    clipped_surrogate,
    group_advantage,
    informative_groups,
    kl_estimate,
    overlong_penalty,
)
from hartley.rl.passes import pass_at_k
from hartley.rl.recipe import GroupAdvantage, Prepared, Recipe, Staged, combine
from hartley.rl.recipes import MixedGroups, OverlongPenalty, dapo, dr_grpo, grpo, steer
from hartley.rl.rollouts import Rollouts, State, Tokens, importance_ratio
from hartley.rl.statistics import TokenStatistics, token_statistics

__all__ = [
    "GroupAdvantage",
    "MixedGroups",
    "OverlongPenalty",
    "Prepared",
    "Recipe",
    "Rollouts",
    "Staged",
    "State",
    "SteerWeights",
    "TokenStatistics",
    "Tokens",
    "aggregate",
    "clipped_surrogate",
    "combine",
    "dapo",
    "dr_grpo",
    "entropy_change",
    "group_advantage",
    "grpo",
    "importance_ratio",
    "informative_groups",
    "kl_estimate",
    "overlong_penalty",
    "pass_at_k",
    "steer",
    "steer_weights",
    "token_statistics",
]
