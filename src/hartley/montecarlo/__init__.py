"""Estimate integrals, fits and posteriors from few evaluations."""

from hartley.montecarlo.adaptive_importance import (
    ImportanceSampler,
    MultiExpectation,
    SobolIndices,
    multi_expectation,
    sobol_indices,
)
from hartley.montecarlo.cross_entropy import (
    Bernoulli,
    Exponential,
    Normal,
    NormalMixture,
    RareEvent,
    minimize,
    rare_event,
    stratified,
)
from hartley.montecarlo.determinantal import Design, fit_weighted, projection_dpp, sample_design, sample_dpp
from hartley.montecarlo.nested import NestedResult, nested_sample
from hartley.montecarlo.path_nucleus import Paths, path_top_p
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
from hartley.montecarlo.surrogate import SurrogateLikelihood, TorchRegressor, tune_architecture

__all__ = [
    "SCHEMES",
    "Bernoulli",
    "Design",
    "Empirical",
    "Exponential",
    "Hermite",
    "ImportanceSampler",
    "Laguerre",
    "Legendre",
    "MultiExpectation",
    "NestedResult",
    "Normal",
    "NormalMixture",
    "Paths",
    "Product",
    "RareEvent",
    "RowSample",
    "SelfRepellentWalk",
    "SobolIndices",
    "Space",
    "SurrogateLikelihood",
    "TorchRegressor",
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
    "minimize",
    "multi_expectation",
    "nested_sample",
    "path_top_p",
    "projection_dpp",
    "rare_event",
    "row_scores",
    "sample_design",
    "sample_dpp",
    "sample_rows",
    "sgd_covariance",
    "sobol_indices",
    "stratified",
    "token_sgd",
    "tune_architecture",
]
