"""Which example, question or arm next."""

from hartley.querying.incidence import Incidence, from_relations
from hartley.querying.information_pursuit import (
    InformationPursuit,
    Trace,
    conformal_threshold,
    entropy_upper_bound,
    prediction_set,
    random_histories,
)
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
    "InformationPursuit",
    "MaxEntropySample",
    "StreamingMaxEntropy",
    "Trace",
    "conformal_threshold",
    "coverage_greedy",
    "entropy_upper_bound",
    "from_relations",
    "greedy_max_entropy",
    "prediction_set",
    "random_histories",
    "sample_entropies",
    "stopping_point",
    "top_fraction_probability",
]
