"""Estimate integrals, fits and posteriors from few evaluations."""

from hartley.montecarlo.determinantal import Design, fit_weighted, projection_dpp, sample_design, sample_dpp
from hartley.montecarlo.self_repellent import (
    SelfRepellentWalk,
    WalkOrder,
    asymptotic_variance,
    base_chain,
    sgd_covariance,
    token_sgd,
)
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
from hartley.montecarlo.spaces import Empirical, Hermite, Laguerre, Legendre, Product, Space, gram

__all__ = [
    "SCHEMES",
    "Design",
    "Empirical",
    "Hermite",
    "Laguerre",
    "Legendre",
    "Product",
    "RowSample",
    "SelfRepellentWalk",
    "Space",
    "WalkOrder",
    "asymptotic_variance",
    "base_chain",
    "distortion",
    "draw_rows",
    "fit_weighted",
    "gram",
    "leverage_scores",
    "lewis_weights",
    "lp_sensitivities",
    "projection_dpp",
    "row_scores",
    "sample_design",
    "sample_dpp",
    "sample_rows",
    "sgd_covariance",
    "token_sgd",
]
