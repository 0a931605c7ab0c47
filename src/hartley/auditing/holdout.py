"""May I look at the holdout again? A validation set that survives adaptive use, and what each look costs.

Thresholdout: a query is a mean over points, known on the training and on the holdout set. Where the two agree up to a
noisy threshold the training value is answered, which costs nothing; else the holdout value with noise, which costs one
of the budget.

    T' = T + Lap(2 s),   |holdout - train| > T' + Lap(4 s)   ->   holdout + Lap(s), new T', budget - 1

Noisy mean: every query is answered by the holdout mean plus Gaussian noise; m queries of sensitivity 1/n under noise of
standard deviation s spend rho = m / (2 n^2 s^2) of zero-concentrated differential privacy.

Source: Dwork, Feldman, Hardt, Pitassi, Reingold, Roth (2015), arXiv 1411.2664, 1506.02629, and Science 349:636.
`kind="laplace"` is the mechanism with the guarantee, `kind="gaussian"` (Gaussian noise, a fixed threshold) that of the
published experiments: heuristic. The noise protects validity, not secrets.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped
from scipy.optimize import minimize_scalar

from hartley.checks import require, require_between

Kind = Literal["laplace", "gaussian"]


class BudgetSpent(RuntimeError):
    """The holdout answers no more: collect fresh data, or report what was answered so far."""


@dataclass(frozen=True)
class Answer:
    """A guarded value; whether it came from the holdout; and how many more such answers there are."""

    value: float
    from_holdout: bool
    budget_left: int


class ReusableHoldout:
    """Thresholdout: answers queries of train and holdout means until its budget of detected overfits is spent.

    Parameters
    ----------
    threshold : T, in the unit of the queries (values in [0, 1]).
    noise : s, the scale of the Laplace noise or the standard deviation of the Gaussian.
    budget : answers from the holdout before it refuses.
    kind : "laplace" (guaranteed) or "gaussian" (as in the published experiments: heuristic).
    rng : of the noise.

    Choose all of them before looking at the data, and do not make a second object for the same data: both void the
    guarantee, as does any other use of the holdout. Safe under threads. Holds no data.

    When not to use: a handful of queries; a plain holdout with a Bonferroni interval is tighter.
    """

    def __init__(
        self, threshold: float, noise: float, budget: int, *, kind: Kind = "laplace", rng: np.random.Generator
    ):
        require_between("noise", noise, 0, closed="left")
        require(not math.isnan(threshold), "threshold", threshold, "a number")
        require(budget >= 1, "budget", budget, "at least 1")
        require(kind in ("laplace", "gaussian"), "kind", kind, '"laplace" or "gaussian"')
        self.threshold, self.noise, self.kind = threshold, noise, kind
        self.budget_left = budget
        self.queries = 0
        self._rng = rng
        self._lock = threading.Lock()
        self._noisy_threshold = self._fresh_threshold()

    @classmethod
    def calibrated(
        cls, tau: float, queries: int, *, budget: int, beta: float = 0.05, rng: np.random.Generator
    ) -> ReusableHoldout:
        """T = 3 tau / 4 and s = tau / (96 log(4 m / beta)): answers within tau of the truth with probability 1 - beta.

        For n of the order of log(m / beta) / tau^2 times min(budget, sqrt(budget log(log(m / beta) / tau))). The
        constants are conservative by orders of magnitude.
        """
        require_between("tau", tau, 0, 1)
        require_between("beta", beta, 0, 1)
        require(queries >= 1, "queries", queries, "at least 1")
        return cls(0.75 * tau, tau / (96 * math.log(4 * queries / beta)), budget, rng=rng)

    def query(self, train_mean: float, holdout_mean: float) -> Answer:
        """Answer one query.

        Raises
        ------
        ValueError : a mean outside [0, 1].
        BudgetSpent : no answers left; it stays so.
        """
        require_between("train_mean", train_mean, 0, 1, closed="both")
        require_between("holdout_mean", holdout_mean, 0, 1, closed="both")
        with self._lock:
            if self.budget_left < 1:
                raise BudgetSpent(f"the holdout's budget is spent after {self.queries} queries")
            self.queries += 1
            gap = abs(holdout_mean - train_mean)
            if gap <= self._noisy_threshold + self._draw(4 if self.kind == "laplace" else 1):
                return Answer(train_mean, False, self.budget_left)
            value = min(1.0, max(0.0, holdout_mean + self._draw(1)))
            self._noisy_threshold = self._fresh_threshold()
            self.budget_left -= 1
            return Answer(value, True, self.budget_left)

    def query_values(
        self,
        train_values: Shaped[np.ndarray, " n"],
        holdout_values: Shaped[np.ndarray, " m"],
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> Answer:
        """Answer the mean of a bounded value per point, such as 0/1 loss; values are clipped to `bounds`."""
        low, high = bounds
        require(high > low, "bounds", bounds, "low < high")
        means = []
        for name, values in (("train_values", train_values), ("holdout_values", holdout_values)):
            require(len(values) > 0 and bool(np.isfinite(values).all()), name, "empty or not finite", "finite values")
            means.append(float((np.clip(values, low, high).mean() - low) / (high - low)))
        answer = self.query(*means)
        return Answer(low + (high - low) * answer.value, answer.from_holdout, answer.budget_left)

    def to_json(self) -> str:
        """The whole state, random generator included; no data."""
        with self._lock:
            state = {
                "threshold": self.threshold,
                "noise": self.noise,
                "kind": self.kind,
                "budget_left": self.budget_left,
                "queries": self.queries,
                "noisy_threshold": self._noisy_threshold,
                "rng": self._rng.bit_generator.state,
            }
        return json.dumps(state)

    @classmethod
    def from_json(cls, text: str) -> ReusableHoldout:
        """The object that `to_json` wrote, where it stood: a spent budget stays spent.

        Raises
        ------
        ValueError : the text is not such a state.
        """
        try:
            state = json.loads(text)
            rng = np.random.Generator(getattr(np.random, _known_generator(state["rng"]["bit_generator"]))())
            new = cls(state["threshold"], state["noise"], max(1, state["budget_left"]), kind=state["kind"], rng=rng)
            rng.bit_generator.state = state["rng"]
            new.budget_left, new.queries = int(state["budget_left"]), int(state["queries"])
            new._noisy_threshold = float(state["noisy_threshold"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"text = {text[:40]!r}: expected what to_json wrote") from error
        return new

    def _fresh_threshold(self) -> float:
        return self.threshold + (self._draw(2) if self.kind == "laplace" else 0.0)

    def _draw(self, scale: float) -> float:
        size = scale * self.noise
        return float(self._rng.laplace(0, size) if self.kind == "laplace" else self._rng.normal(0, size))


class GuardedValidation:
    """A validation set that is only seen through a holdout guard, for scikit-learn estimators.

    Parameters
    ----------
    score : per-point values in [0, 1] of a fitted estimator, ``score(estimator, X, y)``; default: is the prediction
        right, whose mean is accuracy.
    """

    def __init__(
        self,
        guard: ReusableHoldout,
        train: tuple[Any, Any],
        holdout: tuple[Any, Any],
        score: Callable[[Any, Any, Any], Any] | None = None,
    ):
        self.guard = guard
        self._train, self._holdout = train, holdout
        self._score = score or (lambda estimator, X, y: estimator.predict(X) == np.asarray(y))

    def score(self, estimator: Any) -> Answer:
        """Guarded mean score of a fitted estimator."""
        train, holdout = (
            np.asarray(self._score(estimator, *data), dtype=np.float64) for data in (self._train, self._holdout)
        )
        return self.guard.query_values(train, holdout)

    def search(self, estimator: Any, grid: Mapping[str, Sequence[Any]]) -> list[tuple[dict[str, Any], Answer]]:
        """Fit a clone on the training set for each point of a grid and report guarded scores, best first.

        Ends early where the budget is spent; what was answered is returned.
        """
        from sklearn.base import clone
        from sklearn.model_selection import ParameterGrid

        found: list[tuple[dict[str, Any], Answer]] = []
        for parameters in ParameterGrid(grid):
            fitted = clone(estimator).set_params(**parameters).fit(*self._train)
            try:
                found.append((parameters, self.score(fitted)))
            except BudgetSpent:
                break
        return sorted(found, key=lambda pair: -pair[1].value)


@dataclass(frozen=True)
class NoisyMean:
    """Every query answered by the holdout mean plus Gaussian noise.

    Attributes
    ----------
    n : points of the holdout.
    queries : how many there will be.
    sigma : standard deviation of the noise.
    """

    n: int
    queries: int
    sigma: float

    def __post_init__(self) -> None:
        require(self.n >= 1, "n", self.n, "at least one point")
        require(self.queries >= 0, "queries", self.queries, "a number >= 0")
        require_between("sigma", self.sigma, 0)

    @classmethod
    def calibrated(cls, n: int, queries: int, *, beta: float = 0.05) -> NoisyMean:
        """The sigma that minimises `error`."""
        require(queries >= 1, "queries", queries, "at least 1")
        found = minimize_scalar(lambda s: cls(n, queries, math.exp(s)).error(beta), bounds=(-14, 3), method="bounded")
        return cls(n, queries, math.exp(float(found.x)))

    @property
    def rho(self) -> float:
        """Zero-concentrated differential privacy spent by all queries together."""
        return self.queries / (2 * self.n**2 * self.sigma**2)

    def epsilon(self, delta: float) -> float:
        """The (epsilon, delta) differential privacy that follows."""
        require_between("delta", delta, 0, 1)
        return self.rho + 2 * math.sqrt(self.rho * math.log(1 / delta))

    def error(self, beta: float = 0.05) -> float:
        """Largest error to expect of any answer: noise over all queries plus overfitting, as a rule of thumb."""
        return self.sigma * math.sqrt(2 * math.log(2 * max(self.queries, 1) / beta)) + self.epsilon(beta / self.n)

    def answer(self, holdout_mean: float, rng: np.random.Generator) -> float:
        """One answer, clipped to [0, 1]."""
        require_between("holdout_mean", holdout_mean, 0, 1, closed="both")
        return min(1.0, max(0.0, holdout_mean + float(rng.normal(0, self.sigma))))


def _known_generator(name: str) -> str:
    known = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
    require(name in known, "rng", name, f"one of {', '.join(known)}")
    return name
