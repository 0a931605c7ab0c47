"""Trajectories: one or thousands at once, of ordinary, forced, delay and noisy systems.

`integrate` runs the compiled kernels on a grid of times; `solve` hands a single trajectory to scipy, for stiff solvers
and dense output; `make_trajectory` samples as benchmarks of chaos do, in points a period.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.integrate
import scipy.interpolate
from jaxtyping import Float
from numpy.typing import NDArray

from hartley.checks import require, require_between
from hartley.dynamics import kernel
from hartley.dynamics.expressions import Tape
from hartley.dynamics.systems import System

Progress = Callable[[int, int], bool | None]
"""Called with times done and times in all; returning False stops the run, which then ends early."""

_LANES = 32  # trajectories that one instruction is carried out for
_REASONS = {
    kernel.DIVERGED: "diverges",
    kernel.STALLED: "needs steps too small to add up (a singularity, or a jump of the right-hand side)",
    kernel.EXHAUSTED: "needs over 100000 steps between two times: stiff; try solve(..., method='Radau')",
}


class IntegrationError(ArithmeticError):
    """An integration that cannot go on.

    Attributes
    ----------
    trajectory, time, state : which one stopped, when, and the last good state.
    """

    def __init__(self, system: System, reason: str, trajectory: int, time: float, state: Any) -> None:
        place = ", ".join(f"{name} = {value:.6g}" for name, value in zip(system.variables, state, strict=True))
        super().__init__(f"{system.name}: trajectory {trajectory} {reason} at t = {time:.6g}, where {place}")
        self.trajectory, self.time, self.state = trajectory, time, state


@dataclass(frozen=True)
class Trajectory:
    """Samples of a system.

    Attributes
    ----------
    times : of the samples.
    values : the states, time and variable last.
    system : what made them.
    """

    times: Float[np.ndarray, " time"]
    values: Float[np.ndarray, "*batch time dim"]
    system: System


def integrate(
    system: System,
    times: Float[np.ndarray, " time"],
    x0: Float[np.ndarray, "*batch dim"] | None = None,
    *,
    method: Literal["dop853", "rk45", "rk4"] = "dop853",
    tolerance: float = 1e-9,
    substeps: int = 20,
    progress: Progress | None = None,
) -> Float[np.ndarray, "*batch done dim"]:
    """States at given times, for any number of initial conditions.

    Parameters
    ----------
    times : increasing; the first belongs to `x0`.
    x0 : initial states, or constant histories of a delay system; the system's own where None.
    method : adaptive of order 8 or 5, each trajectory with steps of its own, or classical Runge-Kutta with `substeps`
        equal steps between two times. Delay systems always take fixed steps, of at most a `substeps`-th of a spacing.
    tolerance : local error an adaptive step may make, relative to the state and to `system.scale`.

    Returns
    -------
    States with time before the variables; fewer times than asked for if `progress` stopped the run.

    Raises
    ------
    IntegrationError : a trajectory diverges, or needs steps beyond reason; says which, when and where.
    ValueError : times that do not increase, or states of the wrong size.

    When not to use: stiff systems at tight tolerances (`solve` with an implicit method), and to compare two chaotic
    trajectories beyond a few Lyapunov times, where every method is wrong.
    """
    require(method in _METHODS, "method", method, f"one of {list(_METHODS)}")
    require_between("tolerance", tolerance, 0)
    require(substeps >= 1, "substeps", substeps, "an integer >= 1")
    start = np.array(system.initial_condition) if x0 is None else np.asarray(x0, dtype=np.float64)
    require(start.shape[-1] == system.dimension, "x0", start.shape, f"states of {system.dimension} variables")
    require(bool(np.isfinite(start).all()), "x0", "not finite", "finite states")
    _require_times(times)
    states = start.reshape(-1, system.dimension)
    if system.embedding:
        values = _integrate_delay(system, times, states, substeps, progress)
    else:
        runner = Stepper(system, system.flow_tape(), states.T, system.scale, method, tolerance, substeps)
        values = runner.run(times, progress)
    moved: NDArray[np.float64] = np.moveaxis(values, 2, 0)
    return moved.reshape(*start.shape[:-1], -1, system.dimension)


def _require_times(times: Any) -> None:
    back = np.flatnonzero(~(np.diff(times) > 0))
    if len(times) == 0 or len(back) or not np.isfinite(times).all():
        found = f"times[{back[0] + 1}] = {times[back[0] + 1]:g} after {times[back[0]]:g}" if len(back) else "none"
        raise ValueError(f"times: expected finite, increasing times; got {found}")


def _tableau(solver: Any) -> tuple[Any, ...]:
    stages = len(solver.B)
    error = np.stack([solver.E5, solver.E3]) if stages == 12 else np.stack([solver.E, np.zeros_like(solver.E)])
    return tuple(np.ascontiguousarray(m) for m in (solver.A[:stages, :stages], solver.B, solver.C[:stages], error))


_METHODS: dict[str, tuple[Any, ...]] = {
    "dop853": _tableau(scipy.integrate.DOP853),
    "rk45": _tableau(scipy.integrate.RK45),
    "rk4": (
        np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1.0, 0]]),
        np.array([1, 2, 2, 1]) / 6,
        np.array([0, 0.5, 0.5, 1]),
        np.zeros((2, 5)),
    ),
}


class Stepper:
    """Many trajectories of one tape, carried forward piece by piece; states are columns."""

    def __init__(
        self,
        system: System,
        tape: Tape,
        states: Float[np.ndarray, "dim lanes"],
        scale: Float[np.ndarray, " dim"],
        method: str = "dop853",
        tolerance: float = 1e-9,
        substeps: int = 20,
    ) -> None:
        self.system, self.tape, self.scale = system, tape, scale
        self.tableau, self.tolerance = _METHODS[method], tolerance
        self.substeps = substeps if method == "rk4" else 0
        cuts = range(_LANES, states.shape[1], _LANES)
        self.states = [np.array(block, order="C") for block in np.split(states, cuts, axis=1)]
        self.registers = [system.registers(tape, block.shape[1]) for block in self.states]
        self.steps = [np.full(block.shape[1], 1e-3 * system.period) for block in self.states]

    def advance(self, times: Float[np.ndarray, " time"]) -> Float[np.ndarray, "time dim lanes"]:
        """States at `times`, from the first of them, where the trajectories stand."""
        pieces = []
        for block, (x, registers, step) in enumerate(zip(self.states, self.registers, self.steps, strict=True)):
            out = np.empty((len(times), *x.shape))
            status, reached = np.zeros(x.shape[1], np.int64), np.zeros(x.shape[1])
            kernel.integrate(
                self.tape.code, self.tape.outputs, registers, x, times, *self.tableau, self.tolerance, self.scale,
                step, self.substeps, status, reached, out,
            )  # fmt: skip
            if status.any():
                lane = int(np.flatnonzero(status)[0])
                where = x[: self.system.dimension, lane]
                reason = _REASONS[int(status[lane])]
                raise IntegrationError(self.system, reason, block * _LANES + lane, float(reached[lane]), where)
            pieces.append(out)
        return np.concatenate(pieces, axis=2) if len(pieces) > 1 else pieces[0]

    def run(
        self, times: Float[np.ndarray, " time"], progress: Progress | None = None
    ) -> Float[np.ndarray, "done dim lanes"]:
        """As `advance`, in pieces of a fraction of a second, with progress told in between."""
        width = sum(x.size for x in self.states)
        piece = max(1, 100_000 // width)
        out = np.empty((len(times), self.states[0].shape[0], sum(x.shape[1] for x in self.states)))
        out[0] = np.concatenate(self.states, axis=1)
        for start in range(0, len(times) - 1, piece):
            end = min(start + piece, len(times) - 1)
            out[start : end + 1] = self.advance(times[start : end + 1])
            if progress is not None and progress(end + 1, len(times)) is False:
                return out[: end + 1]
        return out


def _integrate_delay(system: System, times: Any, states: Any, substeps: int, progress: Progress | None) -> Any:
    """Classical Runge-Kutta on a grid that divides the delay; the middle of a step is read off a cubic."""
    spacing = float(np.diff(times).min()) if len(times) > 1 else system.delay
    per_delay = max(1, int(np.ceil(system.delay / (spacing / substeps) - 1e-9)))
    h = system.delay / per_delay
    steps = int(np.ceil((times[-1] - times[0]) / h)) + 1
    x, f = np.empty((2, steps + 1, states.shape[0]))
    x[0] = states[:, 0]
    tape = system.flow_tape()
    registers = system.registers(tape, states.shape[0])
    piece = max(1, 2_000_000 // states.shape[0])
    reached = 0
    while reached < steps:
        end = min(reached + piece, steps)
        kernel.integrate_delay(tape.code, tape.outputs, registers, x, f, reached, end, per_delay, h, float(times[0]))
        bad = np.argwhere(~np.isfinite(x[reached : end + 1]))
        if len(bad):
            step, lane = int(bad[0][0]) + reached, int(bad[0][1])
            time = times[0] + (step - 1) * h
            raise IntegrationError(system, "diverges", lane, float(time), x[step - 1 : step, lane])
        reached = end
        if progress is not None and progress(reached, steps) is False:
            break
    grid = times[0] + h * np.arange(reached + 1)
    curve = scipy.interpolate.CubicHermiteSpline(grid, x[: reached + 1], f[: reached + 1])
    return np.asarray(curve(times[times <= grid[-1]]))[:, None, :]


def solve(
    system: System,
    times: Float[np.ndarray, " time"],
    x0: Float[np.ndarray, " dim"] | None = None,
    *,
    method: Literal["LSODA", "Radau", "BDF", "DOP853", "RK45"] = "LSODA",
    tolerance: float = 1e-9,
    dense_output: bool = False,
) -> Any:
    """One trajectory by `scipy.integrate.solve_ivp`, whose result it returns; the Jacobian is handed over.

    For stiff systems ("Radau", "BDF", "LSODA") and for dense output (`result.sol(t)`).
    """
    require(not system.embedding, "system", system.name, "an ordinary system")
    _require_times(times)
    implicit: dict[str, Any] = {}
    if method in ("Radau", "BDF", "LSODA"):
        implicit["jac"] = lambda t, x: system.jacobian(x, t)
    result = scipy.integrate.solve_ivp(
        lambda t, x: system.rhs(x, t),
        (times[0], times[-1]),
        np.array(system.initial_condition) if x0 is None else x0,
        method=method,
        t_eval=times,
        rtol=tolerance,
        atol=tolerance * system.scale,
        dense_output=dense_output,
        **implicit,
    )
    if not result.success:
        reached = float(result.t[-1]) if len(result.t) else float(times[0])
        raise IntegrationError(system, f"stops ({result.message})", 0, reached, result.y[:, -1])
    return result


def make_trajectory(
    system: System,
    n: int,
    per_period: int = 100,
    x0: Float[np.ndarray, "*batch dim"] | None = None,
    *,
    noise: float = 0.0,
    resample: bool = True,
    standardise: bool = False,
    method: Literal["dop853", "rk45", "rk4"] = "dop853",
    tolerance: float = 1e-9,
    substeps: int = 20,
    rng: np.random.Generator | None = None,
    progress: Progress | None = None,
) -> Trajectory:
    """A series of `n` samples, as benchmarks of chaos take them.

    Parameters
    ----------
    per_period : samples a dominant period, t_i = i period / per_period. (dysts spreads n points over n / per_period
        periods, ends included: its spacing is larger by n / (n - 1).)
    x0 : initial states; the system's own where None. `initial_conditions` draws more.
    noise : strength of Brownian forcing: what it alone would add to each variable in one period, in standard
        deviations of that variable. Integrated by Euler and Maruyama with `substeps` steps a sample; needs `rng`.
    resample : False takes the stored step `system.dt` instead.
    standardise : angles and phases become their sine, and every variable loses its mean and is divided by its standard
        deviation, as tabulated; delay systems are not.
    method, tolerance, substeps, progress : as in `integrate`.

    Returns
    -------
    Values in the system's variables; a delay system is shown by `embedding` copies of its variable, with lags evenly
    spread over [0, tau].
    """
    require(n >= 1, "n", n, "at least 1 sample")
    require(per_period >= 1, "per_period", per_period, "at least 1")
    require_between("noise", noise, 0, closed="left")
    require(not noise or not system.embedding, "noise", noise, "0 for a delay system")
    require(not standardise or len(system.mean) > 0, "standardise", True, "a system with mean and std")
    step = system.period / per_period if resample else system.dt
    times = np.arange(n) * step
    if system.embedding:
        values = _embedded(system, times, x0, substeps, progress)
    elif noise:
        require(rng is not None, "rng", rng, "a numpy.random.Generator where noise > 0")
        values = _integrate_noisy(system, times, x0, noise, substeps, rng, progress)
    else:
        values = integrate(system, times, x0, method=method, tolerance=tolerance, substeps=substeps, progress=progress)
    if standardise:
        values = values.copy()
        values[..., system.unbounded] = np.sin(values[..., system.unbounded])
        spread = np.array(system.std)
        values = (values - np.array(system.mean)) / np.where(spread > 0, spread, 1.0)
    return Trajectory(times[: values.shape[-2]], values, system)


def _embedded(system: System, times: Any, x0: Any, substeps: int, progress: Progress | None) -> Any:
    """x(t - lag) for lags evenly spread over [0, tau]; the history before the start is constant."""
    lags = np.linspace(0, system.delay, system.embedding)
    wanted = (times[:, None] - lags).ravel()
    grid, back = np.unique(np.maximum(wanted, times[0]), return_inverse=True)
    keep = np.append(True, np.diff(grid) > 1e-9 * system.delay)  # equal but for rounding
    values = integrate(system, grid[keep], x0, substeps=substeps, progress=progress)
    places = (np.cumsum(keep) - 1)[back].reshape(-1, len(lags))
    finished = places.max(1) < values.shape[-2]
    return values[..., places[finished], 0]


def _integrate_noisy(
    system: System, times: Any, x0: Any, noise: float, substeps: int, rng: Any, progress: Progress | None
) -> Any:
    start = np.array(system.initial_condition) if x0 is None else np.asarray(x0, dtype=np.float64)
    x = np.array(start.reshape(-1, system.dimension).T, order="C")
    tape = system.flow_tape()
    registers = system.registers(tape, x.shape[1])
    forced = np.isin(np.arange(system.dimension), system.unbounded, invert=True)
    amplitude = noise * system.scale * forced / np.sqrt(system.period)
    out = np.empty((len(times), *x.shape))
    out[0] = x
    piece = max(1, 1_000_000 // (x.size * substeps))
    for begin in range(0, len(times) - 1, piece):
        end = min(begin + piece, len(times) - 1)
        shocks = rng.standard_normal((end - begin, substeps, *x.shape))
        kernel.integrate_noisy(
            tape.code, tape.outputs, registers, x, times[begin : end + 1], amplitude, shocks, out[begin:]
        )
        bad = np.argwhere(~np.isfinite(out[begin : end + 1]))
        if len(bad):
            at, _, lane = (int(i) for i in bad[0])
            raise IntegrationError(
                system, "diverges", lane, float(times[begin + at]), out[max(begin + at - 1, 0), :, lane]
            )
        if progress is not None and progress(end + 1, len(times)) is False:
            out = out[: end + 1]
            break
    return np.moveaxis(out, 2, 0).reshape(*start.shape[:-1], -1, system.dimension)


def initial_conditions(
    system: System, count: int, rng: np.random.Generator, *, tolerance: float = 1e-6
) -> Float[np.ndarray, "count dim"]:
    """States on the attractor, at random times of one long trajectory, about a period apart from each other."""
    require(count >= 1, "count", count, "at least 1")
    times = np.cumsum(rng.uniform(0.5, 1.5, count)) * system.period
    values = integrate(system, np.concatenate([[0.0], times]), tolerance=tolerance)
    return values[rng.permutation(count) + 1]
