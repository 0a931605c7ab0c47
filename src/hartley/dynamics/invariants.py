"""Invariants of chaotic systems, computed rather than quoted.

Lyapunov exponents come from tangent dynamics: a frame of tangent vectors is carried along with the state, made
orthonormal by QR at short intervals, and the logarithms of diag R, averaged over time, are the exponents. Several
trajectories run side by side, which costs little and tells how far the estimate can be trusted. Dimensions and
multiscale entropy follow the definitions of the dysts database, so that the two can be compared.

Sources: Benettin et al. (1980); Kaplan and Yorke (1979); Grassberger and Procaccia (1983); Costa et al. (2002).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from hartley.checks import require, require_between
from hartley.dynamics.systems import System
from hartley.dynamics.trajectories import IntegrationError, Progress, Stepper, make_trajectory


@dataclass(frozen=True)
class LyapunovSpectrum:
    """Lyapunov exponents, largest first, per unit of time.

    Attributes
    ----------
    exponents : the mean over trajectories.
    standard_error : its standard error, from the scatter of the trajectories.
    divergence : time average of the trace of the Jacobian, which the sum of all exponents must equal.
    kaplan_yorke : dimension of the attractor by Kaplan and Yorke's conjecture.
    periods : length of each trajectory that was averaged over.
    """

    exponents: Float[np.ndarray, " dim"]
    standard_error: Float[np.ndarray, " dim"]
    divergence: float
    kaplan_yorke: float
    periods: float

    @property
    def largest(self) -> float:
        """The largest exponent; positive for chaos."""
        return float(self.exponents[0])

    @property
    def residual(self) -> float:
        """How far the sum of exponents is from the mean divergence: the error of the integration, not of sampling."""
        return abs(float(self.exponents.sum()) - self.divergence)


def lyapunov_spectrum(
    system: System,
    periods: float = 100.0,
    trajectories: int = 8,
    *,
    rng: np.random.Generator,
    renormalise: int | None = None,
    discard: float = 10.0,
    tolerance: float = 1e-6,
    progress: Progress | None = None,
) -> LyapunovSpectrum:
    """All Lyapunov exponents of an ordinary or forced system.

    Parameters
    ----------
    periods, discard : length that is averaged over and that is left out before, in dominant periods of the system.
    trajectories : number of them, at least 2, started a period apart along one orbit.
    renormalise : QR decompositions a period; where None, 20 or as many as keep the fastest contraction of a local
        linearisation within exp(-16) of the fastest growth between two of them.
    tolerance : of the adaptive integration of states and tangents.
    progress : told intervals done and in all; False stops early, and what is done by then is averaged.

    Raises
    ------
    IntegrationError : the system diverges.
    ValueError : a delay system, whose spectrum is infinite.

    When not to use: without equations; exponents of measured series need another estimator and far more data. Stiff
    systems with kinks take minutes (MacArthur, ten species: three and a half).
    """
    require(not system.embedding, "system", system.name, "an ordinary system")
    require_between("periods", periods, 0)
    require_between("discard", discard, 0, closed="left")
    require(trajectories >= 2, "trajectories", trajectories, "at least 2: their scatter is the error")
    require(renormalise is None or renormalise >= 1, "renormalise", renormalise, "at least 1")
    d = system.dimension
    start = make_trajectory(system, trajectories, 1, tolerance=1e-7).values
    frame = np.linalg.qr(rng.standard_normal((trajectories, d, d)))[0]
    state = np.concatenate([start.T, frame.reshape(trajectories, -1).T])
    scale = np.concatenate([system.scale, np.ones(d * d)])
    stepper = Stepper(system, system.tangent_tape(), state, scale, tolerance=tolerance)
    if renormalise is None:
        rates = np.linalg.eigvals(system.jacobian(make_trajectory(system, 200, 20).values)).real
        renormalise = max(20, int(np.ceil(np.ptp(rates, axis=1).max() * system.period / 16)))
    interval = system.period / renormalise
    skip, total = round(discard * renormalise), round((discard + periods) * renormalise)
    growth = np.zeros((trajectories, d))
    divergence, done = np.zeros(trajectories), 0
    for step in range(total):
        path = stepper.advance(interval * np.array([step, step + 0.5, step + 1]))
        for block in stepper.states:
            q, r = np.linalg.qr(block[d:].T.reshape(-1, d, d))
            block[d:] = q.reshape(-1, d * d).T
            if step >= skip:
                first = stepper.states[0] is block
                lanes = slice(0, block.shape[1]) if first else slice(-block.shape[1], None)
                growth[lanes] += np.log(np.abs(np.diagonal(r, axis1=1, axis2=2)))
        if step >= skip:
            trace = np.asarray(system.divergence(np.moveaxis(path[:, :d], 1, 2), (step + 0.5) * interval))
            divergence += (trace[0] + 4 * trace[1] + trace[2]) / 6  # Simpson's rule
            done += 1
        if progress is not None and progress(step + 1, total) is False:
            break
    require(done > 0, "progress", "stopped before the first average", "a longer run")
    rates = growth / (done * interval)
    order = np.argsort(-rates.mean(0))
    exponents = rates.mean(0)[order]
    return LyapunovSpectrum(
        exponents=exponents,
        standard_error=rates.std(0, ddof=1)[order] / np.sqrt(trajectories),
        divergence=float(divergence.mean() / done),
        kaplan_yorke=kaplan_yorke(exponents),
        periods=done / renormalise,
    )


def kaplan_yorke(spectrum: Float[np.ndarray, " dim"]) -> float:
    """Kaplan and Yorke's dimension, j + (sum of the j largest exponents) / |next one|, j the most whose sum is >= 0."""
    ordered = np.sort(spectrum)[::-1]
    sums = np.cumsum(ordered)
    positive = np.flatnonzero(sums >= 0)
    if len(positive) == 0:
        return 0.0
    j = int(positive[-1])
    return float(len(ordered)) if j == len(ordered) - 1 else float(j + 1 + sums[j] / abs(ordered[j + 1]))


def pesin_entropy(spectrum: Float[np.ndarray, " dim"]) -> float:
    """The sum of positive exponents: the rate at which the system makes information, nats a unit of time."""
    return float(np.maximum(spectrum, 0).sum())


def correlation_dimension(x: Float[np.ndarray, "time dim"], quantile: float = 0.01, *, largest: int = 4000) -> float:
    """Correlation dimension by maximum likelihood: the exponent of the number of pairs within a distance.

    D = N / sum log(r_max / r) over the pair distances r below a quantile r_max (Takens 1985).

    Parameters
    ----------
    quantile : share of the pairs that is near enough to count.
    largest : longer series are thinned evenly to this many points; the pairs are n^2 / 2.

    When not to use: on densely sampled series, whose nearest pairs follow each other in time and look like a line;
    sample a few points a period.
    """
    require_between("quantile", quantile, 0, 1, closed="right")
    distances = _distances(x, largest)
    top = np.quantile(distances, quantile)
    inside = distances[distances < top]
    require(len(inside) > 0, "quantile", quantile, "a quantile with pairs below it")
    return float(len(inside) / np.log(top / inside).sum())


def power_law_dimension(
    x: Float[np.ndarray, "time dim"], quantiles: tuple[float, float] = (0.05, 0.5), *, largest: int = 4000
) -> float:
    """What the dysts database tabulates as correlation dimension: 1 + N / sum log(r / r_min) between two quantiles.

    For comparison with the tables only. It is the estimator of a falling power law put on a rising one: between
    quantiles of ratio k it tends to 1 + D / (k log k / (k - 1) - 1), which is D only by chance.
    """
    low, high = quantiles
    require(0 <= low < high <= 1, "quantiles", quantiles, "0 <= low < high <= 1")
    distances = _distances(x, largest)
    bottom, top = np.quantile(distances, [low, high])
    inside = distances[(distances > bottom) & (distances < top)]
    return float(1 + len(inside) / np.log(inside / bottom).sum())


def _distances(x: Float[np.ndarray, "time dim"], largest: int) -> Float[np.ndarray, " pairs"]:
    require(len(x) >= 3, "x", f"{len(x)} points", "at least 3")
    distances: Float[np.ndarray, " pairs"] = pdist(x[:: -(-len(x) // largest)])
    distances = distances[distances > 0]
    require(len(distances) > 0, "x", "constant", "a series that varies")
    return distances


def sample_entropy(x: Float[np.ndarray, " time"], m: int = 2, tolerance: float = 0.15) -> float:
    """Sample entropy: -log of the chance that two windows alike for m values stay alike for one more, in nats.

    `tolerance` is the largest difference that counts as alike, in the units of `x`. NaN where no window has a match.
    """
    require(m >= 1, "m", m, "an integer >= 1")
    require_between("tolerance", tolerance, 0)
    require(len(x) > m + 1, "x", f"{len(x)} values", f"more than {m + 1}")
    longer = np.lib.stride_tricks.sliding_window_view(x, m + 1)
    counts = []
    for windows in (longer[:, :m], longer):
        tree = cKDTree(windows)
        counts.append(int(tree.count_neighbors(tree, tolerance, p=np.inf)) - len(windows))
    return float(np.log(counts[0] / counts[1])) if counts[1] else float("nan")


def multiscale_entropy(
    x: Float[np.ndarray, " time"], scales: Iterable[int] = range(1, 21), m: int = 2, tolerance: float = 0.15
) -> Float[np.ndarray, " scales"]:
    """Sample entropy of the series averaged over blocks of each scale; `tolerance` in standard deviations of `x`."""
    require(bool(np.ptp(x) > 0), "x", "constant", "a series that varies")
    alike = tolerance * float(np.std(x))
    entropies = []
    for scale in scales:
        blocks = x[: len(x) // scale * scale].reshape(-1, scale).mean(1)
        entropies.append(sample_entropy(blocks, m, alike))
    return np.array(entropies)


@dataclass(frozen=True)
class AuditRow:
    """A computed largest exponent beside the ones that the database holds.

    Attributes
    ----------
    computed, standard_error : here.
    maximum, first : what the database stores as maximum and as first entry of the spectrum; NaN where it has none.
    kaplan_yorke, tabulated_kaplan_yorke : the dimension computed and stored.
    verdict : "agrees" where the stored maximum lies within `allowance` of the computed one or three standard errors,
        otherwise why not.
    """

    name: str
    computed: float
    standard_error: float
    maximum: float
    first: float
    kaplan_yorke: float
    tabulated_kaplan_yorke: float
    verdict: str


def audit(
    systems: Iterable[System],
    *,
    rng: np.random.Generator,
    periods: float = 50.0,
    trajectories: int = 8,
    allowance: float = 0.1,
    progress: Callable[[str], None] | None = None,
) -> list[AuditRow]:
    """Computed beside tabulated exponents, with the reason where they disagree.

    `pandas.DataFrame(audit(...))` makes a table of it. `allowance` is the relative difference that still agrees.
    """
    rows = []
    for system in systems:
        if progress is not None:
            progress(system.name)
        maximum = float(system.tabulated.get("maximum_lyapunov", np.nan))
        first = float(system.tabulated.get("lyapunov_spectrum", [np.nan])[0])
        stored = float(system.tabulated.get("kaplan_yorke_dimension", np.nan))
        try:
            found = lyapunov_spectrum(system, periods, trajectories, rng=rng)
        except IntegrationError as failure:
            rows.append(AuditRow(system.name, np.nan, np.nan, maximum, first, np.nan, stored, str(failure)))
            continue
        verdict = _verdict(system, found, maximum, first, allowance)
        error = float(found.standard_error[0])
        row = AuditRow(system.name, found.largest, error, maximum, first, found.kaplan_yorke, stored, verdict)
        rows.append(row)
    return rows


def _verdict(system: System, found: LyapunovSpectrum, maximum: float, first: float, allowance: float) -> str:
    slack = max(allowance * abs(found.largest), 3 * float(found.standard_error[0]))
    if found.residual > 0.02 * (abs(found.divergence) + abs(found.largest)):
        return "our integration: exponents do not add up to the divergence"
    if abs(maximum - found.largest) <= slack:
        return "agrees"
    if found.largest * system.period < 0.03:
        return "not chaotic: the exponent is zero within error, a stored positive one is an artefact of finite time"
    if 3 * found.standard_error[0] > 0.3 * found.largest:
        return "undecided: our trajectories scatter too much"
    if abs(first - found.largest) <= slack:
        return "the stored maximum disagrees with the stored spectrum, whose first entry agrees"
    if maximum > 0 and abs(maximum - found.largest) > abs(first - found.largest):
        return "two-trajectory estimate of the database is off; its spectrum is nearer"
    return "stored values are off: short runs of a first-order tangent integrator"
