"""What may be concluded about a model, a text or a data set, with error guarantees."""

from hartley.auditing.decisions import (
    OrderBias,
    SeriesReport,
    markov_order_test,
    option_probabilities,
    order_balanced_bias,
    series_report,
)
from hartley.auditing.holdout import Answer, BudgetSpent, GuardedValidation, NoisyMean, ReusableHoldout
from hartley.auditing.provenance import NGramIndex, OrderRecorder, order_test, partition_test, reshuffle_test
from hartley.auditing.result import AuditResult
from hartley.auditing.text import (
    LAMBDAS,
    Attribution,
    TextStatistics,
    attribute,
    e_process,
    e_process_test,
    entropy_gap,
    martingale_test,
    score_text,
    text_statistics,
)

__all__ = [
    "LAMBDAS",
    "Answer",
    "Attribution",
    "AuditResult",
    "BudgetSpent",
    "GuardedValidation",
    "NGramIndex",
    "NoisyMean",
    "OrderBias",
    "OrderRecorder",
    "ReusableHoldout",
    "SeriesReport",
    "TextStatistics",
    "attribute",
    "e_process",
    "e_process_test",
    "entropy_gap",
    "markov_order_test",
    "martingale_test",
    "option_probabilities",
    "order_balanced_bias",
    "order_test",
    "partition_test",
    "reshuffle_test",
    "score_text",
    "series_report",
    "text_statistics",
]
