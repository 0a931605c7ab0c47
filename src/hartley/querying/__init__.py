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
from hartley.querying.sparse_bandits import (
    HardInstance,
    Search,
    barycentric_spanner,
    dense_hard_instance,
    g_optimal_design,
    least_squares_search,
    spanner_queries,
    spanner_search,
    sparse_chebyshev_fit,
    sparse_hard_instance,
    support_net,
    support_net_search,
    value_intervals,
)
from hartley.querying.streaming import StreamingMaxEntropy

__all__ = [
    "GreedyMaxEntropy",
    "HardInstance",
    "Incidence",
    "InformationPursuit",
    "MaxEntropySample",
    "Search",
    "StreamingMaxEntropy",
    "Trace",
    "barycentric_spanner",
    "conformal_threshold",
    "coverage_greedy",
    "dense_hard_instance",
    "entropy_upper_bound",
    "from_relations",
    "g_optimal_design",
    "greedy_max_entropy",
    "least_squares_search",
    "prediction_set",
    "random_histories",
    "sample_entropies",
    "spanner_queries",
    "spanner_search",
    "sparse_chebyshev_fit",
    "sparse_hard_instance",
    "stopping_point",
    "support_net",
    "support_net_search",
    "top_fraction_probability",
    "value_intervals",
]
