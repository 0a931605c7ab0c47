"""PECCARY: regular, complex or stochastic, told from one short series.

The complexity-entropy plane of ordinal patterns separates the three, provided that a pattern spans the right stretch
of time. The rule: a window of `order` samples, `delay` apart, covers 0.3 to 0.5 of the natural period of the motion,
and the series covers at least 1.5 periods. A wave with one maximum and one minimum a period then shows at most
2 (2 (order - 2) + 1) patterns, which limits its entropy: above that limit the series is complex or stochastic.

Source: Hyman, Daniel, Schaffner (2025), arXiv 2407.11970; the verdict from the plane is ours, the paper draws the
limits and leaves it to the reader.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Real

from hartley.checks import require, require_between
from hartley.measures.ordinal import Missing, PlanePoint, Ties, complexity_bounds, entropy_complexity

Verdict = Literal["regular", "complex", "stochastic"]


@dataclass(frozen=True)
class Classification:
    """What the plane says of one series.

    Attributes
    ----------
    verdict : "regular" up to the periodic limit; above it "stochastic" where the entropy exceeds 0.85 and the
        complexity is under half of the largest that the plane has; otherwise "complex".
    entropy, complexity : the point in the plane, both relative to their maximum.
    periodic_limit : the largest entropy of a wave with one maximum and one minimum a period.
    delay : samples between the values of a pattern.
    natural_time : the period that `delay` was chosen by, in units of dt.
    warnings : what makes the verdict doubtful; empty where the sampling is as recommended.
    """

    verdict: Verdict
    entropy: float
    complexity: float
    periodic_limit: float
    delay: int
    natural_time: float
    warnings: list[str] = field(default_factory=list)


def classify(
    x: Real[np.ndarray, " time"],
    dt: float = 1.0,
    *,
    natural_time: float | None = None,
    order: int = 5,
    ratio: float = 0.4,
    ties: Ties = "stable",
    missing: Missing = "raise",
) -> Classification:
    """Tell regular from complex from stochastic.

    Parameters
    ----------
    x : one series; for a batch, `entropy_complexity` gives the points of all rows at one delay.
    dt : time between two samples.
    natural_time : the period of the motion; estimated by mean crossings where None.
    order : values a pattern, 4 to 8; below 4 a wave shows every pattern and nothing can be told.
    ratio : share of the natural time that a pattern spans; 0.3 to 0.5 is recommended.

    Raises
    ------
    ValueError : a constant series, one that is too short for a pattern, NaN where they are to be refused.

    When not to use: on sums of incommensurate waves. Quasi-periodic motion lies where chaos does; no choice of one
    delay separates the two. Lyapunov exponents do, given the equations.
    """
    require(4 <= order <= 8, "order", order, "an integer from 4 to 8")
    require_between("dt", dt, 0)
    require_between("ratio", ratio, 0)
    period = estimate_natural_time(x[~np.isnan(x)], dt) if natural_time is None else natural_time
    require_between("natural_time", period, 0)
    delay = max(1, round(ratio * period / (dt * (order - 1))))
    point = entropy_complexity(x, order, delay, ties=ties, missing=missing)
    entropy, complexity = float(point.entropy), float(point.complexity)
    limit = periodic_limits(order)[1]
    verdict: Verdict = "complex"
    if entropy <= limit:
        verdict = "regular"
    elif entropy > 0.85 and complexity < 0.5 * complexity_bounds(math.factorial(order)).upper[1].max():
        verdict = "stochastic"
    return Classification(verdict, entropy, complexity, limit, delay, period, _doubts(len(x), dt, period, delay, order))


def _doubts(length: int, dt: float, period: float, delay: int, order: int) -> list[str]:
    span = delay * (order - 1)
    doubts = []
    if not 0.3 <= round(span * dt / period, 6) <= 0.5:
        doubts.append(f"a pattern spans {span * dt / period:.2g} natural times; 0.3 to 0.5 is recommended")
    if (length - 1) * dt < 1.5 * period:
        doubts.append(f"the series spans {(length - 1) * dt / period:.2g} natural times; at least 1.5 is recommended")
    if length - span < 5 * math.factorial(order):
        doubts.append(f"{length - span} windows for {math.factorial(order)} patterns; at least 5 a pattern is advised")
    return doubts


def periodic_limits(order: int) -> tuple[float, float]:
    """Least and largest normalised entropy of a wave with one maximum and one minimum a period.

    log 2 and log(2 (2 (order - 2) + 1)) over log order!: patterns that only rise or only fall, and those that hold
    one extremum at any of the inner places.
    """
    require(3 <= order <= 8, "order", order, "an integer from 3 to 8")
    maximum = math.log(math.factorial(order))
    return math.log(2) / maximum, math.log(2 * (2 * (order - 2) + 1)) / maximum


def estimate_natural_time(
    x: Real[np.ndarray, " time"], dt: float = 1.0, *, method: Literal["crossings", "maxima", "spectrum"] = "crossings"
) -> float:
    """The dominant period of a series.

    Parameters
    ----------
    method : twice the mean time between crossings of the mean, the mean time between maxima, or the inverse of the
        frequency with most power. Multi-scroll and drifting series mislead crossings; noise misleads maxima.

    Raises
    ------
    ValueError : a constant series, or one with fewer than two crossings or maxima.
    """
    require(method in ("crossings", "maxima", "spectrum"), "method", method, '"crossings", "maxima" or "spectrum"')
    require(len(x) >= 3, "x", f"{len(x)} values", "at least 3")
    require(bool(np.isfinite(x).all()), "x", "not finite", "finite values")
    require(bool(np.ptp(x) > 0), "x", "constant", "a series that varies: a constant has no natural time")
    centred = x - np.mean(x)
    if method == "spectrum":
        power = np.abs(np.fft.rfft(centred)) ** 2
        return float(len(x) * dt / (1 + int(np.argmax(power[1:]))))
    if method == "crossings":
        events, per_period = _crossings(centred), 2
    else:
        events, per_period = np.flatnonzero((x[1:-1] > x[:-2]) & (x[1:-1] >= x[2:])) + 1.0, 1
    require(len(events) >= 2, "x", f"{len(events)} {method}", "at least 2, or natural_time given")
    return float(per_period * (events[-1] - events[0]) / (len(events) - 1) * dt)


def sampling_interval(time: Real[np.ndarray, " time"]) -> float:
    """The step of a series' time stamps; `ValueError` unless they increase in even steps (to 1%).

    Resample a series with uneven steps first: patterns assume that `delay` samples are one stretch of time.
    """
    require(len(time) >= 2, "time", f"{len(time)} values", "at least 2")
    require(bool(np.isfinite(time).all()), "time", "not finite", "finite values")
    steps = np.diff(np.asarray(time, dtype=np.float64))
    back = np.flatnonzero(steps <= 0)
    if len(back):
        raise ValueError(f"time[{back[0] + 1}] = {time[back[0] + 1]:g}: expected an increasing time")
    step = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - step) > 0.01 * step)
    if len(odd):
        raise ValueError(
            f"time[{odd[0]}] to time[{odd[0] + 1}]: expected even steps of {step:g}, got {steps[odd[0]]:g}"
        )
    return step


def _crossings(centred: Any) -> Any:
    """Where the series crosses zero, in samples, by linear interpolation."""
    above = centred > 0
    at = np.flatnonzero(above[1:] != above[:-1])
    return at + centred[at] / (centred[at] - centred[at + 1])


@dataclass(frozen=True)
class ComplexityCurve:
    """Entropy and complexity over delays; where the complexity peaks is the time scale of the complexity."""

    delays: Int[np.ndarray, " delays"]
    entropy: Float[np.ndarray, "*batch delays"]
    complexity: Float[np.ndarray, "*batch delays"]


def complexity_curve(
    x: Real[np.ndarray, "*batch time"], delays: Iterable[int] = range(1, 101), order: int = 5
) -> ComplexityCurve:
    """Entropy and complexity at each delay."""
    chosen = np.array(list(delays), dtype=np.int64)
    require(len(chosen) >= 1, "delays", [], "at least one delay")
    points: list[PlanePoint] = [entropy_complexity(x, order, int(delay)) for delay in chosen]
    return ComplexityCurve(
        chosen, np.stack([p.entropy for p in points], -1), np.stack([p.complexity for p in points], -1)
    )
