"""Nouy and Michel (2023): least squares on points from determinantal processes and volume sampling."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Curve, Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.approximation import ApproximationLab
    from hartley.montecarlo.determinantal import Strategy

paper = Paper(
    slug="dpp-least-squares",
    title="Weighted least-squares approximation with determinantal point processes and generalized volume sampling",
    published=date(2023, 12, 21),
    authors=2,
    arxiv="2312.14057",
    room="montecarlo",
    methods=["hartley.montecarlo.determinantal", "hartley.montecarlo.spaces"],
    topics=["experimental design", "surrogates", "determinantal point processes"],
    lab="hartley.labs.approximation:ApproximationLab",
    summary="Where to evaluate an expensive function that will be fitted in a known space. Points from determinantal "
    "processes repel each other, so that a few per coefficient give a stable fit.",
    usage="from hartley.montecarlo import Legendre, fit_weighted, sample_design\n"
    "space = Legendre(20)\n"
    "design = sample_design(space, 40, np.random.default_rng(0))\n"
    "coefficients = fit_weighted(space, design.x, f(design.x), design.weights)",
)


@paper.claim(
    "Repeated DPPs with 2m points fit Runge's function better than independent optimal points, even 3m of them",
    published="the same bounds with a much lower number of samples in practice; no figures",
    metric="log10 of the median squared error over the best possible one",
    unit="decades",
    better="lower",
    margin=0.05,
    headline=True,
    axes=("points per coefficient", "median squared error over the best"),
)
def fewer_points(lab: ApproximationLab, seed: int) -> Trial:
    import numpy as np

    rng, target, m = np.random.default_rng(seed), lab.line, lab.dimension
    strategies: tuple[Strategy, ...] = ("repeated_dpp", "volume", "iid")
    curves: dict[str, Curve] = {}
    medians = {}
    for strategy in strategies:
        found = {k: float(np.median(lab.ratios(target, k * m, strategy, rng)[0])) for k in (2, 3, 6)}
        curves[strategy] = ([float(k) for k in found], list(found.values()))
        medians[strategy] = found
    nodes, weights = np.polynomial.legendre.leggauss(m)
    gauss = target.error_ratio(nodes, weights * m / 2)
    return Trial(
        method=float(np.log10(medians["repeated_dpp"][2])),
        baselines={
            "independent, 2m points": float(np.log10(medians["iid"][2])),
            "independent, 3m points": float(np.log10(medians["iid"][3])),
            "volume sampling, 2m points": float(np.log10(medians["volume"][2])),
        },
        curves=curves,
        details={"m Gauss nodes (ceiling in one variable)": float(np.log10(gauss))},
    )


@paper.claim(
    "With 6m points, repeated DPPs are stable at least half of the time more often than independent ones",
    published="stability with high probability at n of order m log m for all; no figures",
    metric="share of designs whose smallest eigenvalue reaches 1/2",
    unit="fraction",
    better="higher",
    margin=0.5,
)
def more_often_stable(lab: ApproximationLab, seed: int) -> Trial:
    import numpy as np

    rng, m = np.random.default_rng(seed), lab.dimension

    def share(strategy: Strategy) -> float:
        return float((lab.ratios(lab.line, 6 * m, strategy, rng)[1] >= 0.5).mean())

    return Trial(
        method=share("repeated_dpp"), baselines={"independent": share("iid"), "volume sampling": share("volume")}
    )


@paper.claim(
    "In two variables, repeated DPPs with 2m points beat independent points of which the best of 20 designs is taken",
    published="none in two variables that could be retrieved",
    metric="log10 of the median squared error over the best possible one",
    unit="decades",
    better="lower",
    margin=0.0,
)
def two_variables(lab: ApproximationLab, seed: int) -> Trial:
    import numpy as np

    rng, target = np.random.default_rng(seed), lab.square
    n = 2 * target.space.dimension

    def median(strategy: Strategy, redraws: int = 0) -> float:
        return float(np.log10(np.median(lab.ratios(target, n, strategy, rng, redraws=redraws)[0])))

    return Trial(
        method=median("repeated_dpp"),
        baselines={
            "independent": median("iid"),
            "independent, best of 20": median("iid", redraws=19),
            "volume": median("volume"),
        },
    )


@paper.claim(
    "The fit on a volume sample is unbiased, where weighted least squares on independent points is not",
    published="E of the fitted coefficients is the projection, for every square-integrable function",
    metric="largest |z| of the mean coefficient error over 4 coefficients",
    unit="standard errors",
    better="lower",
    margin=1.0,
)
def unbiased(lab: ApproximationLab, seed: int) -> Trial:
    import numpy as np

    from hartley.montecarlo import Legendre, fit_weighted, sample_design

    rng, space = np.random.default_rng(seed), Legendre(4)
    nodes, weights = np.polynomial.legendre.leggauss(60)

    def ramp(x: np.ndarray) -> np.ndarray:
        return np.exp(2 * x)

    best = space.features(nodes).T @ (weights / 2 * ramp(nodes))
    draws = 2500 if lab.quick else 20000

    def z(strategy: Strategy) -> float:
        errors = np.empty((draws, 4))
        for i in range(draws):
            d = sample_design(space, 6, rng, strategy=strategy)
            errors[i] = fit_weighted(space, d.x, ramp(d.x), d.weights) - best
        return float(np.abs(errors.mean(axis=0) / (errors.std(axis=0) / np.sqrt(draws))).max())

    return Trial(method=z("volume"), baselines={"independent": z("iid")})
