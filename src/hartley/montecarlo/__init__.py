"""Estimate integrals, fits and posteriors from few evaluations."""

from hartley.montecarlo.sensitivity import (
    SCHEMES,
    RowSample,
    distortion,
    draw_rows,
    leverage_scores,
    lewis_weights,
    lp_sensitivities,
    row_scores,
    sample_rows,
)

__all__ = [
    "SCHEMES",
    "RowSample",
    "distortion",
    "draw_rows",
    "leverage_scores",
    "lewis_weights",
    "lp_sensitivities",
    "row_scores",
    "sample_rows",
]
