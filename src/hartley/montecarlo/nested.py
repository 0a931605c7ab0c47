"""Neural nested sampling: dynesty's engine, a regressor that learns the likelihood on the way, and a guard.

While the live points close in, a regressor is fitted to the true log-likelihoods seen so far. It may do one of two
things:

    "screen"   turn away proposals whose prediction is below the threshold by more than 3 validation errors; whatever is
               accepted was evaluated truly, so that the evidence is right up to proposals turned away wrongly, and a
               share of those is evaluated to count them
    "replace"  answer for the likelihood, as in the paper; good for posteriors, its evidence is marked invalid

The regressor is used only while its error on held-out points stays below a bound in nats, and dropped where audits
fail; then the true likelihood answers, as without it.

Source: Gómez-Vargas and Vázquez (2024), arXiv 2405.03293. The paper gates on a scaled error and lets the surrogate
decide; its stored runs then move log Z by up to 22 reported errors, which is why "screen" is the default here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from hartley.checks import require, require_between


@dataclass(frozen=True)
class NestedResult:
    """Evidence and posterior.

    Attributes
    ----------
    logz, logzerr : log-evidence and dynesty's estimate of its error.
    samples, logwt : weighted posterior points, log weights up to logz.
    n_true, n_surrogate, n_trainings : likelihood calls, answers of the regressor, fits.
    audited, wrong : turned-away proposals that were evaluated all the same, and those that should have stayed.
    lost : estimated share of acceptable proposals that were turned away.
    evidence_valid : False where surrogate values decided, or where `lost` may exceed a tenth.
    dynesty : the engine's own results, for its plots.
    """

    logz: float
    logzerr: float
    samples: Float[ndarray, "n d"]
    logwt: Float[ndarray, " n"]
    n_true: int
    n_surrogate: int
    n_trainings: int
    audited: int
    wrong: int
    lost: float
    evidence_valid: bool
    dynesty: Any


@dataclass
class SurrogateLikelihood:
    """A log-likelihood that learns itself; wraps the user's and stands in its place in `dynesty`.

    Attributes
    ----------
    loglike : theta (d,) -> log-likelihood; -inf is legal.
    regressor : anything with scikit-learn's fit and predict; a small neural network by default. Inputs and targets are
        standardised for it.
    mode : "screen" or "replace".
    val_rmse : largest error on held-out points, in nats, with which the regressor is used.
    update : true evaluations between two fits.
    audit : share of turned-away (or replaced) proposals that are evaluated all the same.
    threshold : the present likelihood threshold; the sampling loop keeps it current.
    """

    loglike: Callable[[ndarray], float]
    rng: np.random.Generator
    regressor: Any = None
    mode: Literal["screen", "replace"] = "screen"
    val_rmse: float = 0.3
    update: int = 300
    audit: float = 0.05
    threshold: float = -np.inf
    active: bool = False
    rmse: float = np.inf
    n_true: int = 0
    n_surrogate: int = 0
    n_trainings: int = 0
    audited: int = 0
    wrong: int = 0
    screened: int = 0
    failed: bool = False
    theta: list[ndarray] = field(default_factory=list, repr=False)
    values: list[float] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        require(self.mode in ("screen", "replace"), "mode", self.mode, '"screen" or "replace"')
        require_between("val_rmse", self.val_rmse, 0)
        require_between("audit", self.audit, 0, 1)
        if self.regressor is None:
            self.regressor = network()

    def __call__(self, theta: Float[ndarray, " d"]) -> float:
        if not self.active:
            return self._true(theta)
        guess = self._predict(theta)
        if self.mode == "replace":
            self.n_surrogate += 1
            if self.rng.random() < self.audit:
                truth = self._true(theta)
                if max(truth, guess) > self.threshold - 3:  # farther down nothing hangs on it
                    self.audited += 1
                    self.wrong += abs(truth - guess) > 0.3 + 2 * self.rmse
                    self._judge(0.2)
                return truth
            return min(guess, max(self.values) + self.rmse)
        if guess >= self.threshold - 3 * self.rmse:
            return self._true(theta)
        self.n_surrogate += 1
        self.screened += 1
        if self.rng.random() < self.audit:
            truth = self._true(theta)
            self.audited += 1
            self.wrong += truth > self.threshold
            self._judge(0.02)
            return truth
        return min(guess, self.threshold - 1e-9)

    def train(self) -> None:
        """Fit on four fifths of the true values around and above the threshold, and open or close the gate."""
        self._trained_at = self.n_true
        theta, values = np.array(self.theta), np.array(self.values)
        live = values[values > self.threshold]
        reach = float(np.ptp(live)) if len(live) else np.inf
        near = np.isfinite(values) & (values > self.threshold - max(reach, 3.0))
        if near.sum() < 50 or self.failed:
            return
        theta, values = theta[near][-1000:], values[near][-1000:]
        self._centre, self._scale = theta.mean(axis=0), theta.std(axis=0) + 1e-300
        self._middle, self._spread = float(values.mean()), float(values.std()) + 1e-300
        order = self.rng.permutation(len(theta))
        held, rest = order[: len(order) // 5], order[len(order) // 5 :]
        x, y = (theta - self._centre) / self._scale, (values - self._middle) / self._spread
        self.n_trainings += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of networks that have not converged: the held-out error judges them
                self.regressor.fit(x[rest], y[rest])
            errors = (self.regressor.predict(x[held]) - y[held]) * self._spread
        except (ValueError, FloatingPointError) as reason:
            warnings.warn(f"the surrogate cannot be fitted ({reason}); the true likelihood goes on", stacklevel=2)
            self.active, self.failed = False, True
            return
        self.rmse = float(np.sqrt(np.mean(np.square(errors))))
        self.active = bool(np.isfinite(self.rmse) and self.rmse <= self.val_rmse)

    @property
    def due(self) -> bool:
        """Whether enough true values came in since the last fit; twice as many while it is good."""
        return self.n_true - getattr(self, "_trained_at", 0) >= self.update * (2 if self.active else 1)

    def _predict(self, theta: Float[ndarray, " d"]) -> float:
        y = self.regressor.predict(((theta - self._centre) / self._scale)[None])
        return float(np.ravel(y)[0]) * self._spread + self._middle

    def _true(self, theta: Float[ndarray, " d"]) -> float:
        value = float(self.loglike(theta))
        require(value < np.inf, "loglike", f"{value} at theta = {np.asarray(theta).tolist()}", "a number or -inf")
        self.n_true += 1
        self.theta.append(np.array(theta))
        self.values.append(value)
        return value

    def _judge(self, tolerance: float) -> None:
        if self.audited >= 20 and self.wrong > tolerance * self.audited + 2 * np.sqrt(tolerance * self.audited):
            self.active, self._trained_at = False, self.n_true


def network(hidden: tuple[int, ...] = (32, 32), decay: float = 1e-3, seed: int = 0) -> Any:
    """The default surrogate: a small network of scikit-learn, trained by L-BFGS, which suits a thousand points."""
    from sklearn.neural_network import MLPRegressor

    return MLPRegressor(
        hidden_layer_sizes=hidden, activation="tanh", solver="lbfgs", alpha=decay, max_iter=200, random_state=seed
    )


def tune_architecture(
    theta: Float[ndarray, "n d"],
    logl: Float[ndarray, " n"],
    rng: np.random.Generator,
    *,
    population: int = 8,
    generations: int = 4,
) -> Any:
    """Genetic search of the network: layers 1 to 3, neurons 8 to 64, weight decay; by held-out squared error.

    Tournament selection, uniform crossover, one mutation in three, the best survives. Returns the unfitted network.
    """
    layers, neurons, decays = [1, 2, 3], [8, 16, 32, 64], [1e-4, 1e-3, 1e-2]
    choices: tuple[list[Any], ...] = (layers, neurons, decays)
    x = (theta - theta.mean(axis=0)) / (theta.std(axis=0) + 1e-300)
    y = (logl - logl.mean()) / (logl.std() + 1e-300)
    held = rng.permutation(len(x)) < len(x) // 5
    scores: dict[tuple[int, ...], float] = {}

    def build(genes: tuple[int, ...]) -> Any:
        return network((neurons[genes[1]],) * layers[genes[0]], decays[genes[2]])

    def loss(genes: tuple[int, ...]) -> float:
        if genes not in scores:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = build(genes).fit(x[~held], y[~held])
            scores[genes] = float(np.square(model.predict(x[held]) - y[held]).mean())
        return scores[genes]

    def pick() -> tuple[int, ...]:
        pair = [pool[i] for i in rng.integers(len(pool), size=2)]
        return min(pair, key=loss)

    pool: list[tuple[int, ...]] = [tuple(int(rng.integers(len(c))) for c in choices) for _ in range(population)]
    for _ in range(generations):
        best = min(pool, key=loss)
        children = [best]
        while len(children) < population:
            mother, father = pick(), pick()
            child = [m if rng.random() < 0.5 else f for m, f in zip(mother, father, strict=True)]
            for g, choice in enumerate(choices):
                if rng.random() < 1 / 3:
                    child[g] = int(rng.integers(len(choice)))
            children.append(tuple(child))
        pool = children
    return build(min(pool, key=loss))


def nested_sample(
    loglike: Callable[[ndarray], float],
    prior_transform: Callable[[ndarray], ndarray],
    ndim: int,
    rng: np.random.Generator,
    *,
    n_live: int = 500,
    dlogz: float = 0.01,
    surrogate: Literal["screen", "replace"] | None = "screen",
    start_dlogz: float = 10.0,
    progress: bool = False,
    regressor: Any = None,
    val_rmse: float = 0.3,
    update: int | None = None,
    audit: float = 0.05,
    **dynesty_settings: Any,
) -> NestedResult:
    """Evidence and posterior of an expensive likelihood by `dynesty`, with fewer true calls.

    Parameters
    ----------
    loglike, prior_transform, ndim, n_live, dlogz : as in dynesty.
    surrogate : "screen", "replace", or None for plain dynesty; the other settings are `SurrogateLikelihood`'s.
    start_dlogz : remaining evidence, in nats, below which the surrogate is trained; too early its targets span
        thousands of nats.
    update : true evaluations between fits, default n_live.
    progress : dynesty's progress line.
    dynesty_settings : for `dynesty.NestedSampler`, such as bound or sample. Uniform sampling is the default here.

    Raises
    ------
    ValueError : bad settings, a likelihood of +inf or NaN.

    When not to use: calls shorter than about a millisecond, which is what a prediction and the fits cost; posteriors in
    more than five dimensions, where the gate stays closed and this is dynesty.
    """
    import dynesty

    likelihood = SurrogateLikelihood(
        loglike, rng, regressor, surrogate or "screen", val_rmse, update if update is not None else n_live, audit
    )
    settings = {"bound": "multi", "sample": "unif"} | dynesty_settings
    sampler = dynesty.NestedSampler(likelihood, prior_transform, ndim, nlive=n_live, rstate=rng, **settings)
    for i, step in enumerate(sampler.sample(dlogz=dlogz)):
        likelihood.threshold = float(np.min(sampler.live_logl))
        if surrogate is not None and step.delta_logz < start_dlogz and likelihood.due:
            likelihood.train()
        if progress and i % 100 == 0:
            print(f"{i} iterations, {likelihood.n_true} true calls, dlogz {step.delta_logz:.3g}", flush=True)
    likelihood.active = False
    for _ in sampler.add_live_points():
        pass
    results: Any = sampler.results
    samples = np.asarray(results.samples)
    kept = len(samples)
    missed = likelihood.wrong / likelihood.audited * likelihood.screened if likelihood.audited else 0.0
    lost = missed / (missed + kept) if surrogate == "screen" else 0.0
    # Rule of three where no audit failed: what may still have been lost at 95%.
    unseen = (likelihood.wrong + 3) / (likelihood.audited + 3) * likelihood.screened
    valid = surrogate is None or (surrogate == "screen" and unseen / (unseen + kept) < 0.1)
    if surrogate == "replace":
        valid = likelihood.n_surrogate == 0
    if not valid:
        warnings.warn(
            "the evidence is not certified: surrogate values decided, or too few turned-away proposals were audited",
            stacklevel=2,
        )
    return NestedResult(
        float(results.logz[-1]),
        float(results.logzerr[-1]),
        samples,
        np.asarray(results.logwt),
        likelihood.n_true,
        likelihood.n_surrogate,
        likelihood.n_trainings,
        likelihood.audited,
        likelihood.wrong,
        float(lost),
        bool(valid),
        results,
    )
