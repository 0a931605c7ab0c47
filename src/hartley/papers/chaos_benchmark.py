"""A benchmark of chaotic systems: their equations known, their invariants tabulated, their data unlimited."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.chaos import ChaosLab, RestartLab
    from hartley.labs.surrogates import SurrogateLab

paper = Paper(
    slug="chaos-benchmark",
    title="Chaos as an interpretable benchmark for forecasting and data-driven modelling",
    published=date(2021, 10, 11),
    room="dynamics",
    methods=[
        "hartley.dynamics.systems",
        "hartley.dynamics.trajectories",
        "hartley.dynamics.invariants",
        "hartley.dynamics.benchmark",
        "hartley.dynamics.restarts",
        "hartley.dynamics.symbolic",
    ],
    summary="135 chaotic systems as equations with invariants: series for forecasters at any length, granularity and "
    "noise, and training data that is simulated where a model errs.",
    usage="from hartley.dynamics import get_system, make_trajectory\n\n"
    'x = make_trajectory(get_system("Lorenz"), 1000).values',
    topics=["chaos", "forecasting", "benchmark", "symbolic regression"],
    authors=1,
    arxiv="2110.05266",
    repository="https://github.com/GilpinLab/dysts",
    lab="hartley.labs.chaos:ChaosLab",
)


@paper.claim(
    "Training data simulated from where the model errs makes it better than as much data from random places",
    published="sMAPE 0.91 ± 0.05 guided, 0.99 ± 0.05 random, 1.00 ± 0.05 full training (medians over 125 systems)",
    metric="logarithm of the one-step error on a fresh series",
    unit="nats",
    better="lower",
    margin=0.01,
    lab="hartley.labs.chaos:RestartLab",
    seeds=(3, 4),
)
def guided_restarts(lab: RestartLab, seed: int) -> Trial:
    """Power 1 with a lead of 50 samples against uniform restarts and training on one series, at equal steps.

    The full mode also tries the released power of 4, with the same lead; see the details.
    """
    import numpy as np

    draws = ("guided", "uniform", "static") if lab.quick else ("guided", "uniform", "static", "sharp")
    errors = {draw: np.log([lab.one_step_error(system, draw, seed) for system in lab.chosen]) for draw in draws}
    against = {f"{draw} over uniform": float(np.exp(np.mean(errors[draw] - errors["uniform"]))) for draw in draws}
    return Trial(
        method=list(errors["guided"]),
        baselines={"random restarts": list(errors["uniform"]), "one series": list(errors["static"])},
        details=against,
    )


@paper.claim(
    "The more chaotic a system, the worse the best forecast of it",
    published="The error of the best model correlates with the largest Lyapunov exponent (figure 2)",
    metric="Spearman correlation over systems, best error against exponent per period",
    unit="correlation",
    better="higher",
    margin=0.1,
    axes=("Lyapunov exponent per period", "best sMAPE"),
)
def error_follows_exponent(lab: ChaosLab, seed: int) -> Trial:
    """Analogues, a linear and a quadratic autoregression; the best on each system."""
    import numpy as np
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    from hartley.dynamics import Analogue, Recursive, evaluate, exponent_correlation, make_pairs

    pairs = make_pairs(lab.chosen, rng=np.random.default_rng(seed), per_period=15 if lab.quick else 30, periods=24)
    scores = {
        "analogue": evaluate(Analogue, pairs),
        "linear": evaluate(lambda: Recursive(Ridge(1e-4), lags=8), pairs),
        "quadratic": evaluate(lambda: Recursive(make_pipeline(PolynomialFeatures(2), Ridge(1e-3)), lags=2), pairs),
    }
    best = np.min([[score.smape for score in rows] for rows in scores.values()], axis=0)
    exponents = np.array([score.exponent for score in scores["analogue"]])
    order = np.argsort(exponents)
    return Trial(
        method=exponent_correlation(scores),
        baselines={"no relation": 0.0},
        curves={"best forecast": (list(exponents[order]), list(best[order]))},
        details={name: float(np.mean([score.smape for score in rows])) for name, rows in scores.items()},
    )


@paper.claim(
    "Nine of ten tabulated largest Lyapunov exponents are within a fifth of what tangent dynamics gives",
    published="Largest exponents are tabulated for every system, estimated from pairs of trajectories (appendix)",
    metric="tabulated exponents within 20% or three standard errors",
    unit="share",
    better="higher",
    margin=0.0,
    deterministic=True,
)
def tabulated_exponents(lab: ChaosLab, seed: int) -> Trial:
    """The database's maximum against tangent dynamics, with the twice-confirmed reference beside it."""
    import numpy as np

    from hartley.dynamics import lyapunov_spectrum

    rng = np.random.default_rng(seed)
    stored, reference = [], []
    for system in lab.chosen:
        found = lyapunov_spectrum(system, 30.0 if lab.quick else 50.0, 8, rng=rng)
        slack = max(0.2 * found.largest, 3 * found.standard_error[0])
        stored.append(float(abs(system.tabulated["maximum_lyapunov"] - found.largest) <= slack))
        reference.append(float(abs(system.reference_spectrum[0] - found.largest) <= slack))
    return Trial(
        method=float(np.mean(stored)),
        baselines={"nine of ten": 0.9},
        details={"reference within the same": float(np.mean(reference))},
    )


@paper.claim(
    "From exact derivatives with 1% noise, sparse regression finds the equations: its field errs less off the "
    "attractor than the dense fit of the same monomials",
    published="Symbolic regression recovers equations from samples; SINDy takes 0.01 s (section 5.4)",
    metric="decimal logarithm of the relative error of the field, at 1.3 times the states of a fresh series",
    unit="decades",
    better="lower",
    margin=0.1,
)
def symbolic_regression(lab: ChaosLab, seed: int) -> Trial:
    """Polynomial systems only; both fits see 400 states."""
    import numpy as np

    from hartley.dynamics import fit_polynomial, initial_conditions, make_trajectory

    rng = np.random.default_rng(seed)
    sparse: list[float] = []
    dense: list[float] = []
    for system in lab.chosen:
        if system.forced or system.dimension > 4 or "(" in "".join(system.equations):
            continue  # brackets mean a function or a quotient in all but a few polynomial systems
        fit, test = make_trajectory(system, 400, 30, initial_conditions(system, 2, rng), tolerance=1e-7).values
        slope = system.rhs(fit)
        noisy = slope + 0.01 * slope.std(0) * rng.standard_normal(slope.shape)
        truth = system.rhs(1.3 * test)
        for found, threshold in ((sparse, 0.03), (dense, 0.0)):
            model = fit_polynomial(fit, noisy, degree=3, threshold=threshold)
            found.append(float(np.log10(np.linalg.norm(model(1.3 * test) - truth) / np.linalg.norm(truth))))
    return Trial(method=sparse, baselines={"dense least squares": dense})


@paper.claim(
    "Features learned on chaotic series at the time scale of the task classify other series better than features "
    "learned at random time scales, an untrained network's, and plain statistics",
    published="Median accuracy 0.844 matched, 0.820 random time scales, 0.808 tsfresh, over the UCR archive",
    metric="test accuracy with 30 labels, mean over generated tasks",
    unit="share",
    better="higher",
    margin=0.0,
    lab="hartley.labs.surrogates:SurrogateLab",
    seeds=(3, 5),
)
def surrogate_transfer(lab: SurrogateLab, seed: int) -> Trial:
    """The same autoencoder pretrained twice, its weights as drawn, and a vector of statistics."""
    import numpy as np

    rng = np.random.default_rng(seed)
    random_scales = lab.encoder(lab.surrogates(np.exp(rng.uniform(np.log(4), np.log(400), 1500)), rng), seed)
    scores: dict[str, list[float]] = {"matched": [], "random time scales": [], "untrained": [], "statistics": []}
    for task in lab.tasks:
        train, test = lab.task(task, lab.labels, rng), lab.task(task, lab.tests, rng)
        power = (np.abs(np.fft.rfft(train[0])) ** 2).mean(0)[1:]
        period = train[0].shape[1] / (1 + int(np.argmax(power)))
        matched = lab.encoder(lab.surrogates(period * np.exp(rng.uniform(-0.2, 0.2, 1500)), rng), seed)
        encoders = (matched, random_scales, lab.encoder(None, seed), None)
        for name, encoder in zip(scores, encoders, strict=True):
            scores[name].append(lab.accuracy(encoder, train, test))
    return Trial(method=scores.pop("matched"), baselines=scores)
