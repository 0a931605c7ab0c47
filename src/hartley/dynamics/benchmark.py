"""The forecasting benchmark: many chaotic series, one protocol, scores that mean the same for every system.

A forecaster is anything with `fit(history)` and `predict(steps)`: it sees a series of states and continues it. Series
come in several granularities and noise levels; training and test series of a system start from different states on
its attractor. The error is set beside the system's largest Lyapunov exponent, which limits every forecast.

Sources: Gilpin (2021), arXiv 2110.05266; Gilpin (2023), arXiv 2303.08011, for the valid time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from hartley.checks import require, require_between
from hartley.dynamics.systems import System
from hartley.dynamics.trajectories import initial_conditions, make_trajectory

if TYPE_CHECKING:
    import pandas as pd


class Forecaster(Protocol):
    """What the benchmark asks of a model."""

    def fit(self, history: Float[np.ndarray, "time dim"]) -> Any:
        """Learn from a series and stand at its end."""

    def predict(self, steps: int) -> Float[np.ndarray, "steps dim"]:
        """Continue the series."""


@dataclass(frozen=True)
class Pair:
    """A training and a test series of one system, standardised.

    Attributes
    ----------
    train, test : states, at `per_period` samples a period of `period` time units.
    exponent : the system's largest Lyapunov exponent per unit of time.
    """

    name: str
    train: Float[np.ndarray, "time dim"]
    test: Float[np.ndarray, "time dim"]
    period: float
    per_period: int
    exponent: float


def make_pairs(
    systems: Iterable[System],
    *,
    rng: np.random.Generator,
    per_period: int = 15,
    periods: int = 12,
    noise: float = 0.0,
) -> list[Pair]:
    """Training and test series of each system.

    Parameters
    ----------
    per_period : granularity, coarse at 15 and fine at 100 as published.
    noise : Brownian forcing as in `make_trajectory`.
    """
    require_between("noise", noise, 0, closed="left")
    pairs = []
    for system in systems:
        starts = None if system.embedding else initial_conditions(system, 2, rng)
        n = periods * per_period
        if starts is None:
            both = make_trajectory(system, 2 * n, per_period).values
            halves = np.stack([both[:n], both[n:]])
            halves = (halves - np.array(system.mean)) / np.array(system.std)
        else:
            halves = make_trajectory(
                system, n, per_period, starts, noise=noise, standardise=True, rng=rng if noise else None
            ).values
        spectrum = system.reference_spectrum or (float(system.tabulated.get("maximum_lyapunov", 0.0)),)
        pairs.append(Pair(system.name, halves[0], halves[1], system.period, per_period, max(spectrum)))
    return pairs


def to_frame(pairs: Iterable[Pair]) -> pd.DataFrame:
    """All series as one table, a row a sample: system, split, time, and x0, x1, … (missing beyond a system's own)."""
    import pandas as pd

    frames = []
    for pair in pairs:
        for split, values in (("train", pair.train), ("test", pair.test)):
            frame = pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])
            frame.insert(0, "time", np.arange(len(values)) * pair.period / pair.per_period)
            frame.insert(0, "split", split)
            frame.insert(0, "system", pair.name)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def save_parquet(pairs: Iterable[Pair], path: Path) -> None:
    """Write the table of `to_frame` as Parquet."""
    to_frame(pairs).to_parquet(path, index=False)


def smape(truth: Float[np.ndarray, "time dim"], forecast: Float[np.ndarray, "steps outputs"]) -> float:
    """Symmetric mean absolute percentage error, 0 to 200; simultaneous zeros count as no error."""
    require(truth.shape == forecast.shape, "forecast", forecast.shape, f"the shape of the truth, {truth.shape}")
    return float(200 * np.mean(np.abs(truth - forecast) / (np.abs(truth) + np.abs(forecast) + 1e-10)))


def valid_prediction_time(
    truth: Float[np.ndarray, "time dim"],
    forecast: Float[np.ndarray, "steps outputs"],
    *,
    step: float,
    exponent: float,
    threshold: float = 0.4,
) -> float:
    """How long a forecast holds, in Lyapunov times: until its error first exceeds `threshold` standard deviations.

    Parameters
    ----------
    step : time between two samples.
    exponent : largest Lyapunov exponent; the unit of the result is 1 / exponent.

    When not to use: with an exponent that is not clearly positive.
    """
    require(truth.shape == forecast.shape, "forecast", forecast.shape, f"the shape of the truth, {truth.shape}")
    require_between("step", step, 0)
    require_between("exponent", exponent, 0)
    spread = truth.std(0)
    error = np.sqrt(np.mean(((truth - forecast) / np.where(spread > 0, spread, 1)) ** 2, axis=1))
    wrong = np.flatnonzero(~(error <= threshold))
    return float((wrong[0] if len(wrong) else len(truth)) * step * exponent)


@dataclass(frozen=True)
class Score:
    """One forecaster on one system.

    Attributes
    ----------
    smape : over the forecast horizon.
    valid_time : in Lyapunov times; NaN where the exponent is not positive.
    exponent : Lyapunov exponent per period.
    """

    name: str
    smape: float
    valid_time: float
    exponent: float


def evaluate(make: Callable[[], Forecaster], pairs: Iterable[Pair], *, horizon: float = 2.0) -> list[Score]:
    """Fit on all of each test series but its last `horizon` periods, and score the forecast of those.

    Training series are for choosing settings; a forecaster that is fitted once on them belongs in `make`.
    """
    scores = []
    for pair in pairs:
        steps = round(horizon * pair.per_period)
        require(0 < steps < len(pair.test), "horizon", horizon, "periods within the test series")
        past, future = pair.test[:-steps], pair.test[-steps:]
        model = make()
        model.fit(past)
        forecast = np.asarray(model.predict(steps))
        step = pair.period / pair.per_period
        valid = float("nan")
        if pair.exponent > 0:
            valid = valid_prediction_time(future, forecast, step=step, exponent=pair.exponent)
        scores.append(Score(pair.name, smape(future, forecast), valid, pair.exponent * pair.period))
    return scores


def exponent_correlation(scores: Mapping[str, Iterable[Score]]) -> float:
    """Spearman's correlation, over systems, of the best forecaster's error with the exponent per period."""
    table = [list(rows) for rows in scores.values()]
    best = np.min([[score.smape for score in rows] for rows in table], axis=0)
    return float(spearmanr(best, [score.exponent for score in table[0]]).statistic)


class Persistence:
    """The last state, for ever."""

    def fit(self, history: Float[np.ndarray, "time dim"]) -> Persistence:
        self._last = history[-1]
        return self

    def predict(self, steps: int) -> Float[np.ndarray, "steps dim"]:
        return np.tile(self._last, (steps, 1))


class Analogue:
    """What followed the most similar past: nearest neighbour of the last `lags` states (Lorenz 1969)."""

    def __init__(self, lags: int = 3) -> None:
        require(lags >= 1, "lags", lags, "at least 1")
        self.lags = lags

    def fit(self, history: Float[np.ndarray, "time dim"]) -> Analogue:
        require(len(history) > self.lags + 1, "history", f"{len(history)} states", f"more than {self.lags + 1}")
        self._history = history
        self._tree = cKDTree(lagged(history, self.lags)[:-1])
        return self

    def predict(self, steps: int) -> Float[np.ndarray, "steps dim"]:
        path = self._history[-self.lags :]
        for _ in range(steps):
            near = self._tree.query(path[-self.lags :].ravel())[1]
            path = np.vstack([path, path[-1] + self._history[near + self.lags] - self._history[near + self.lags - 1]])
        return path[self.lags :]


class Recursive:
    """Any scikit-learn regressor of the next step on the last `lags` states, fed with its own forecasts.

    With quadratic features and a ridge penalty this is the next-generation reservoir computer of Gauthier et al.
    (2021), the strong cheap baseline for smooth flows.
    """

    def __init__(self, regressor: Any, lags: int = 2) -> None:
        require(lags >= 1, "lags", lags, "at least 1")
        self.regressor, self.lags = regressor, lags

    def fit(self, history: Float[np.ndarray, "time dim"]) -> Recursive:
        require(len(history) > self.lags + 1, "history", f"{len(history)} states", f"more than {self.lags + 1}")
        self._last, self._limit = history[-self.lags :], 10 * np.abs(history).max()
        self.regressor.fit(lagged(history, self.lags)[:-1], np.diff(history, axis=0)[self.lags - 1 :])
        return self

    def predict(self, steps: int) -> Float[np.ndarray, "steps dim"]:
        path = self._last
        for _ in range(steps):
            change = np.reshape(self.regressor.predict(path[-self.lags :].reshape(1, -1)), (1, -1))
            path = np.vstack([path, np.clip(path[-1] + change, -self._limit, self._limit)])
        return path[self.lags :]


def lagged(history: Float[np.ndarray, "time dim"], lags: int) -> Float[np.ndarray, "windows features"]:
    """Each stretch of `lags` consecutive states as one row."""
    windows = np.lib.stride_tricks.sliding_window_view(history, lags, axis=0)
    return np.moveaxis(windows, -1, 1).reshape(len(windows), -1)
