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
    "NoisyMean",
    "OrderBias",
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
    "score_text",
    "series_report",
    "text_statistics",
]
