"""Spend inference-time compute over whole answers."""

from typing import Any

from hartley.reasoning.activation_steering import (
    action_entropy,
    beta_for,
    block_outputs,
    decoder_blocks,
    steering,
    steering_vector,
)
from hartley.reasoning.adaptive_generation import (
    EASY,
    HARD,
    NORMAL,
    AdaptiveAnswers,
    DiffAdapt,
    Observations,
    Strategy,
    TokenSavings,
    oracle_choice,
    token_savings,
)
from hartley.reasoning.continuous import (
    ContinuousTrace,
    continuous_generate,
    csft_loss,
    dirichlet_log_prob,
    dirichlet_sample,
    mts_log_prob,
    replay_logits,
)
from hartley.reasoning.continuous_policy import (
    PolicyTrace,
    group_advantages,
    policy_loss,
    policy_rollout,
    trace_log_probs,
)
from hartley.reasoning.difficulty import (
    DIFFICULTIES,
    EntropyRecorder,
    Thresholds,
    generation_entropy,
    label_difficulty,
    suggest_thresholds,
)
from hartley.reasoning.particles import annealing_temperature, particle_filter, particle_gibbs
from hartley.reasoning.search import SearchResult, beam_search, best_of_n
from hartley.reasoning.stepwise import PartialAnswer, StepGenerator, TextScore, reward_model

__all__ = [
    "DIFFICULTIES",
    "EASY",
    "HARD",
    "NORMAL",
    "AdaptiveAnswers",
    "ContinuousTrace",
    "DiffAdapt",
    "DifficultyProbe",
    "EntropyRecorder",
    "Observations",
    "PartialAnswer",
    "PolicyTrace",
    "SearchResult",
    "StepGenerator",
    "Strategy",
    "TextScore",
    "Thresholds",
    "TokenSavings",
    "action_entropy",
    "annealing_temperature",
    "beam_search",
    "best_of_n",
    "beta_for",
    "block_outputs",
    "continuous_generate",
    "csft_loss",
    "decoder_blocks",
    "dirichlet_log_prob",
    "dirichlet_sample",
    "generation_entropy",
    "group_advantages",
    "label_difficulty",
    "mts_log_prob",
    "oracle_choice",
    "particle_filter",
    "particle_gibbs",
    "policy_loss",
    "policy_rollout",
    "replay_logits",
    "reward_model",
    "steering",
    "steering_vector",
    "suggest_thresholds",
    "token_savings",
    "trace_log_probs",
]


def __getattr__(name: str) -> Any:
    if name == "DifficultyProbe":
        from hartley.reasoning.difficulty_probe import DifficultyProbe  # imports scikit-learn

        return DifficultyProbe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
