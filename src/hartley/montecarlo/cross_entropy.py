"""The cross-entropy method: rare events by adaptive importance sampling, and black-box optimisation.

A family f(.; v) is moved towards the event {S(X) >= gamma}, level by level: the elite tenth of each batch, weighted by
W = f(.; u) / f(.; v), refits v by maximum likelihood. The estimate mean(1{S >= gamma} W) comes from an independent
sample in which a share `defensive` still follows f(.; u), so that weights stay below 1 / defensive.

Its standard error is honest only if the fitted law covers every mode of the event. A law that has lost one answers too
low *and* reports a small error: then split the space (`stratified`), or use the mixture family with restarts.

Source: Rubinstein (1999); de Boer, Kroese, Mannor and Rubinstein (2005), a tutorial. The pooled decoding rule is that
of K. Li and F. Li (2024), arXiv 2409.19790, as far as the abstract gives it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import OptimizeResult
from scipy.special import logsumexp

from hartley.checks import require, require_between
from hartley.importance import effective_sample_size


@runtime_checkable
class Family(Protocol):
    """A law that can be drawn from, evaluated and refitted to weighted points."""

    def sample(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n d"]: ...

    def logpdf(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]: ...

    def fit(self, x: Float[ndarray, "n d"], weights: Float[ndarray, " n"]) -> Family: ...


@dataclass(frozen=True)
class Exponential:
    """Independent exponentials with the given means."""

    mean: Float[ndarray, " d"]

    def sample(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n d"]:
        return np.asarray(rng.exponential(self.mean, size=(n, len(self.mean))))

    def logpdf(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        return np.asarray(np.where((x >= 0).all(axis=1), -(x / self.mean + np.log(self.mean)).sum(axis=1), -np.inf))

    def fit(self, x: Float[ndarray, "n d"], weights: Float[ndarray, " n"]) -> Exponential:
        return Exponential(weights @ x / weights.sum())


@dataclass(frozen=True)
class Normal:
    """Independent normals."""

    mean: Float[ndarray, " d"]
    std: Float[ndarray, " d"]

    def sample(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n d"]:
        return np.asarray(rng.normal(self.mean, self.std, size=(n, len(self.mean))))

    def logpdf(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        z = (x - self.mean) / self.std
        return np.asarray((-0.5 * z**2 - np.log(self.std) - 0.5 * np.log(2 * np.pi)).sum(axis=1))

    def fit(self, x: Float[ndarray, "n d"], weights: Float[ndarray, " n"]) -> Normal:
        p = weights / weights.sum()
        mean = p @ x
        return Normal(mean, np.sqrt(np.maximum(p @ np.square(x - mean), 1e-300)))


@dataclass(frozen=True)
class Bernoulli:
    """Independent zeros and ones."""

    p: Float[ndarray, " d"]

    def sample(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n d"]:
        return np.where(rng.random((n, len(self.p))) < self.p, 1.0, 0.0)

    def logpdf(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        with np.errstate(divide="ignore"):
            return np.asarray(np.where(x > 0.5, np.log(self.p), np.log1p(-self.p)).sum(axis=1))

    def fit(self, x: Float[ndarray, "n d"], weights: Float[ndarray, " n"]) -> Bernoulli:
        return Bernoulli(weights @ x / weights.sum())


@dataclass(frozen=True)
class Categorical:
    """Independent categories 0 .. k-1, one law a row; or, `distinct`, drawn in turn without repeating one.

    A permutation is d = k distinct categories. Its refit is the frequency of each category at each place, the customary
    one: near the likeliest law, not it.
    """

    p: Float[ndarray, "d k"]
    distinct: bool = False

    def sample(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n d"]:
        u = rng.random((n, len(self.p)))
        x = np.empty((n, len(self.p)))
        left = np.ones((n, self.p.shape[1]), dtype=bool)
        for i, row in enumerate(self.p):
            total = np.cumsum(left * row, axis=1)
            # the first category whose cumulative mass passes the point, hence never one of mass zero
            x[:, i] = np.argmax(total > u[:, i : i + 1] * total[:, -1:], axis=1)
            if self.distinct:
                left[np.arange(n), x[:, i].astype(int)] = False
        return x

    def logpdf(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        which, left, logs = x.astype(int), np.ones((len(x), self.p.shape[1]), dtype=bool), np.zeros(len(x))
        everyone = np.arange(len(x))
        with np.errstate(divide="ignore", invalid="ignore"):
            for i, row in enumerate(self.p):
                share = row[which[:, i]] * left[everyone, which[:, i]]
                logs += np.where(share > 0, np.log(share) - np.log((left * row).sum(axis=1)), -np.inf)
                if self.distinct:
                    left[everyone, which[:, i]] = False
        return logs

    def fit(self, x: Float[ndarray, "n d"], weights: Float[ndarray, " n"]) -> Categorical:
        hot = x[:, :, None] == np.arange(self.p.shape[1])
        return Categorical(np.einsum("n,ndk->dk", weights / weights.sum(), hot), self.distinct)


@dataclass(frozen=True)
class NormalMixture:
    """A mixture of independent normals, refitted by five sweeps of weighted EM; none falls below `floor`."""

    share: Float[ndarray, " k"]
    mean: Float[ndarray, "k d"]
    std: Float[ndarray, "k d"]
    floor: float = 0.0

    @classmethod
    def spread(
        cls, low: Sequence[float], high: Sequence[float], k: int, rng: np.random.Generator, floor: float = 0.0
    ) -> NormalMixture:
        """k components with means uniform in a box and a third of its sides as standard deviations."""
        sides = np.subtract(high, low)
        mean = rng.uniform(low, high, size=(k, len(sides)))
        return cls(np.full(k, 1 / k), mean, np.tile(sides / 3, (k, 1)), floor)

    def sample(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n d"]:
        k = rng.choice(len(self.share), size=n, p=self.share)
        return np.asarray(rng.normal(self.mean[k], self.std[k]))

    def _joint(self, x: Float[ndarray, "n d"]) -> Float[ndarray, "n k"]:
        z = (x[:, None] - self.mean) / self.std
        logs = (-0.5 * z**2 - np.log(self.std) - 0.5 * np.log(2 * np.pi)).sum(axis=2)
        return np.asarray(logs + np.log(self.share))

    def logpdf(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        return np.asarray(logsumexp(self._joint(x), axis=1))

    def fit(self, x: Float[ndarray, "n d"], weights: Float[ndarray, " n"]) -> NormalMixture:
        law = self
        for _ in range(5):
            joint = law._joint(x)
            duty = np.exp(joint - logsumexp(joint, axis=1, keepdims=True)) * (weights / weights.sum())[:, None]
            mass = duty.sum(axis=0)
            safe = np.maximum(mass, 1e-300)[:, None]
            mean = np.where(mass[:, None] > 1e-12, duty.T @ x / safe, law.mean)
            variance = np.einsum("nk,nkd->kd", duty, np.square(x[:, None] - mean)) / safe
            std = np.where(mass[:, None] > 1e-12, np.sqrt(variance), law.std)
            share = np.maximum(mass, 1e-3)
            law = NormalMixture(share / share.sum(), mean, np.maximum(std, max(self.floor, 1e-12)), self.floor)
        return NormalMixture(law.share, law.mean, law.std + self.floor, self.floor)


@dataclass(frozen=True)
class RareEvent:
    """An estimated probability.

    Attributes
    ----------
    probability, stderr : the estimate and its standard error, honest only if every mode is covered.
    upper : where no event was seen, 3 over the final sample: at 95% the *proposal's* mass of the event is below.
    effective : effective sample size of the final weights of events.
    levels : thresholds on the way.
    law : the fitted family.
    converged : whether the levels reached the threshold.
    evaluations : calls of the score.
    """

    probability: float
    stderr: float
    upper: float
    effective: float
    levels: tuple[float, ...]
    law: Any
    converged: bool
    evaluations: int

    @property
    def relative_error(self) -> float:
        return self.stderr / self.probability if self.probability > 0 else float("inf")


def rare_event(
    score: Callable[[Float[ndarray, "n d"]], Float[ndarray, " n"]],
    threshold: float,
    nominal: Family,
    rng: np.random.Generator,
    *,
    start: Family | None = None,
    n: int = 1000,
    n_final: int = 100_000,
    elite: float = 0.1,
    defensive: float = 0.1,
    max_levels: int = 50,
) -> RareEvent:
    """P(score(X) >= threshold) for X of the nominal law.

    Parameters
    ----------
    score : vectorised over rows; -inf marks points outside the domain.
    start : first proposal, the nominal law by default; any `Family`, also another one.
    elite : share of each batch that the next law is fitted to.
    defensive : share of the nominal law in every proposal; 0 gives the textbook method and unbounded weights.

    Raises
    ------
    ValueError : NaN scores (how many), parameters out of range.

    Warns where the levels stall below the threshold: the event may be impossible, or the family unable to reach it.
    """
    require_between("elite", elite, 0, 1)
    require_between("defensive", defensive, 0, 1, closed="left")
    require(n >= 10 and n_final >= 10, "n, n_final", (n, n_final), "at least 10 each")
    law: Any = nominal if start is None else start
    levels: list[float] = []
    evaluations, size, stalled = 0, n, 0
    while not levels or levels[-1] < threshold:
        x, log_w = _propose(law, nominal, defensive, size, rng)
        s = _checked(score(x))
        evaluations += size
        level = min(
            threshold, max(float(np.quantile(s, 1 - elite, method="inverted_cdf")), levels[-1] if levels else -np.inf)
        )
        stalled = stalled + 1 if levels and level <= levels[-1] else 0
        levels.append(float(level))
        weights = np.where(s >= level, np.exp(log_w), 0.0)
        if weights.sum() > 0:
            law = law.fit(x, weights)
        if stalled == 5:
            size *= 2
        if level < threshold and (stalled >= 10 or len(levels) == max_levels):
            warnings.warn(
                f"levels stalled at {level:.4g}, below the threshold {threshold:.4g}: the event may be impossible, or "
                "out of reach for this family",
                stacklevel=2,
            )
            break
    x, log_w = _propose(law, nominal, defensive, n_final, rng)
    hits = _checked(score(x)) >= threshold
    terms = np.where(hits, np.exp(log_w), 0.0)
    seen = torch.from_numpy(log_w[hits]) if hits.any() else torch.full((1,), -torch.inf, dtype=torch.float64)
    return RareEvent(
        float(terms.mean()),
        float(terms.std(ddof=1) / np.sqrt(n_final)),
        3 / n_final if not hits.any() else float("nan"),
        float(effective_sample_size(seen)),
        tuple(levels),
        law,
        bool(levels[-1] >= threshold),
        evaluations + n_final,
    )


def stratified(cells: Sequence[tuple[float, RareEvent]]) -> tuple[float, float]:
    """Probability and standard error over disjoint cells: (nominal mass of the cell, estimate within it) each."""
    p = sum(mass * e.probability for mass, e in cells)
    return float(p), float(np.sqrt(sum((mass * e.stderr) ** 2 for mass, e in cells)))


def minimize(
    fun: Callable[[Float[ndarray, "n d"]], Float[ndarray, " n"]],
    start: Float[ndarray, "d *k"],
    std: Float[ndarray, " d"] | None = None,
    *,
    rng: np.random.Generator,
    family: Literal["normal", "bernoulli", "categorical", "permutation"] = "normal",
    n: int = 100,
    elite: float = 0.1,
    smoothing: float = 0.7,
    inject: bool = False,
    tol: float = 1e-6,
    patience: int = 10,
    max_iterations: int = 1000,
    callback: Callable[[OptimizeResult], bool | None] | None = None,
) -> OptimizeResult:
    """Minimise a black box by refitting a sampling law to the best points.

    Parameters
    ----------
    fun : vectorised over rows.
    start, std : mean and standard deviation of the first normal law; with "bernoulli", the probabilities of a one; with
        "categorical", those of each category, one row a variable; with "permutation" the same, one row a place.
    smoothing : share of the new fit in the next law.
    inject : add variance max(0, 5 - t / 10) to the elite's, against early collapse.
    tol, patience : stop when every standard deviation is below tol (every probability within tol of 0 or 1), or after
        so many iterations without improvement.
    callback : called with the state after each iteration; a true answer stops.

    Returns
    -------
    scipy's `OptimizeResult`: x, fun (the best ever seen), nfev, nit, success, message, mean, std.

    When not to use: curved valleys such as Rosenbrock's, where a law without correlations stalls; use `cma`.
    """
    require(elite * n >= 1, "elite * n", elite * n, "at least one elite point")
    require_between("smoothing", smoothing, 0, 1, closed="right")
    require(family in _LAWS, "family", family, f"one of {', '.join(_LAWS)}")
    mean = np.asarray(start, dtype=float)
    require(mean.ndim == (1 if family in ("normal", "bernoulli") else 2), "start", mean.shape, _LAWS[family])
    spread = np.ones_like(mean) if std is None else np.asarray(std, dtype=float)
    state: Any = OptimizeResult()
    state.update(x=None, fun=np.inf, nfev=0, nit=0, success=False, message="iterations spent")
    kept, waited = int(np.ceil(elite * n)), 0
    for t in range(max_iterations):
        law = _law(family, mean, spread)
        x = law.sample(n, rng)
        values = _checked(fun(x))
        order = np.argsort(values)[:kept]
        waited += 1
        if values[order[0]] < state.fun:
            state.fun, state.x, waited = float(values[order[0]]), x[order[0]], 0
        fitted = law.fit(x[order], np.ones(kept))
        if isinstance(fitted, Normal):
            mean = smoothing * fitted.mean + (1 - smoothing) * mean
            variance = fitted.std**2 + (max(0.0, 5 - t / 10) if inject else 0.0)
            spread = smoothing * np.sqrt(variance) + (1 - smoothing) * spread
        else:
            mean = smoothing * fitted.p + (1 - smoothing) * mean
        state.update(nfev=state.nfev + n, nit=t + 1, mean=mean, std=spread)
        width = spread if family == "normal" else np.minimum(mean, 1 - mean)
        if width.max() < tol:
            state.update(success=True, message="the law has collapsed to a point")
            break
        if waited >= patience:
            state.update(success=True, message=f"no improvement in {patience} iterations")
            break
        if callback is not None and callback(state):
            state.update(message="stopped by the callback")
            break
    result: OptimizeResult = state
    return result


_LAWS = {
    "normal": "means, one a variable",
    "bernoulli": "probabilities, one a variable",
    "categorical": "a matrix of probabilities, one row a variable",
    "permutation": "a matrix of probabilities, one row a place",
}


def _law(family: str, mean: ndarray, spread: ndarray) -> Normal | Bernoulli | Categorical:
    if family == "normal":
        return Normal(mean, spread)
    return Bernoulli(mean) if family == "bernoulli" else Categorical(mean, distinct=family == "permutation")


def _propose(
    law: Any, nominal: Family, defensive: float, n: int, rng: np.random.Generator
) -> tuple[Float[ndarray, "n d"], Float[ndarray, " n"]]:
    """Points of (1 - defensive) law + defensive nominal, and their log weights against the nominal law."""
    safe = rng.random(n) < defensive
    x = law.sample(n, rng)
    if safe.any():
        x[safe] = nominal.sample(int(safe.sum()), rng)
    log_f, log_v = nominal.logpdf(x), law.logpdf(x)
    if defensive == 0:
        return x, np.asarray(log_f - log_v)
    return x, np.asarray(log_f - np.logaddexp(np.log1p(-defensive) + log_v, np.log(defensive) + log_f))


def _checked(scores: ndarray) -> Float[ndarray, " n"]:
    s = np.asarray(scores, dtype=float)
    bad = np.isnan(s)
    require(not bad.any(), "score", f"NaN at {bad.sum()} points, first at row {np.argmax(bad)}", "numbers")
    return s
