"""Spend inference-time compute over whole answers."""

from hartley.reasoning.particle_filter import (
    SearchResult,
    annealing_temperature,
    beam_search,
    best_of_n,
    particle_filter,
)
from hartley.reasoning.stepwise import PartialAnswer, StepGenerator, TextScore, reward_model

__all__ = [
    "PartialAnswer",
    "SearchResult",
    "StepGenerator",
    "TextScore",
    "annealing_temperature",
    "beam_search",
    "best_of_n",
    "particle_filter",
    "reward_model",
]
