"""Spend inference-time compute over whole answers."""

from hartley.reasoning.activation_steering import (
    action_entropy,
    beta_for,
    block_outputs,
    decoder_blocks,
    steering,
    steering_vector,
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
from hartley.reasoning.particles import (
    SearchResult,
    annealing_temperature,
    beam_search,
    best_of_n,
    particle_filter,
)
from hartley.reasoning.stepwise import PartialAnswer, StepGenerator, TextScore, reward_model

__all__ = [
    "ContinuousTrace",
    "PartialAnswer",
    "SearchResult",
    "StepGenerator",
    "TextScore",
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
    "mts_log_prob",
    "particle_filter",
    "replay_logits",
    "reward_model",
    "steering",
    "steering_vector",
]
