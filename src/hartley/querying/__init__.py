"""Which example, question or arm next."""

from hartley.querying.incidence import Incidence, from_relations
from hartley.querying.max_entropy import (
    GreedyMaxEntropy,
    MaxEntropySample,
    coverage_greedy,
    greedy_max_entropy,
    sample_entropies,
    stopping_point,
    top_fraction_probability,
)
from hartley.querying.streaming import StreamingMaxEntropy

__all__ = [
    "GreedyMaxEntropy",
    "Incidence",
    "MaxEntropySample",
    "StreamingMaxEntropy",
    "coverage_greedy",
    "from_relations",
    "greedy_max_entropy",
    "sample_entropies",
    "stopping_point",
    "top_fraction_probability",
]
