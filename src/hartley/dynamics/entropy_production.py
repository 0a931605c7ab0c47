"""Entropy production rates of Langevin systems whose drift and noise are known, without a learned score.

For dz = b(z) dt + sqrt(2 D) dW in its stationary state, with all variables even under time reversal, the rate is
sigma = E[v' D^-1 v], where v = b - D grad log rho needs the unknown density. Integrating by parts removes it:

    sigma = E[b' D^-1 b] + E[div b]

which is exact for any constant D and needs samples only. Active particles have a second form with far less variance.
For totals nothing more is needed; a learned score is for where the entropy is produced.

Sources: Seifert (2012) for the rate; Boffi and Vanden-Eijnden (2024), arXiv 2309.12991, for the systems. The
score-free forms follow from theirs by integration by parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_continuous_lyapunov

from hartley.checks import require, require_between
from hartley.dynamics.trajectories import Progress

Field = Callable[[Float[np.ndarray, "*batch dim"]], Float[np.ndarray, "*batch dim"]]
"""A drift or another function of states."""


@dataclass(frozen=True)
class EntropyProduction:
    """A rate in nats per unit of time (with Boltzmann's constant 1).

    Attributes
    ----------
    rate : the estimate; unbiased ones may come out negative by chance although the rate cannot be.
    standard_error : from the scatter of trajectories, or of independent samples.
    """

    rate: float
    standard_error: float


def simulate(
    drift: Field,
    diffusion: Float[np.ndarray, " entries"],
    start: Float[np.ndarray, "trajectories dim"],
    *,
    dt: float,
    steps: int,
    rng: np.random.Generator,
    every: int = 1,
    wrap: Callable[[Float[np.ndarray, "trajectories dim"]], Float[np.ndarray, "trajectories dim"]] | None = None,
    progress: Progress | None = None,
) -> Float[np.ndarray, "trajectories kept dim"]:
    """Euler and Maruyama's scheme; keeps the start and each `every`-th state.

    `wrap` brings states back into a periodic box. `progress` is told steps done and in all; False stops early.

    Raises
    ------
    ArithmeticError : a trajectory leaves every bound; says which and when.
    """
    require_between("dt", dt, 0)
    require(steps >= 1, "steps", steps, "at least 1")
    require(1 <= every <= steps, "every", every, "from 1 to steps")
    _require_diffusion(diffusion, start.shape[-1], positive=False)
    noise = np.sqrt(2 * diffusion * dt)
    z, kept = start.copy(), [start.copy()]
    for step in range(1, steps + 1):
        z = z + drift(z) * dt + noise * rng.standard_normal(z.shape)
        if wrap is not None:
            z = wrap(z)
        if step % every == 0:
            if not np.isfinite(z).all():
                lost = int(np.flatnonzero(~np.isfinite(z).all(1))[0])
                raise ArithmeticError(f"trajectory {lost} diverges before t = {step * dt:g}: take a smaller dt")
            kept.append(z.copy())
            if progress is not None and progress(step, steps) is False:
                break
    return np.stack(kept, axis=1)


def from_samples(
    drift: Field,
    divergence: Callable[[Float[np.ndarray, "*batch dim"]], Float[np.ndarray, "*batch"] | float],
    diffusion: Float[np.ndarray, " entries"],
    z: Float[np.ndarray, "trajectories *time dim"],
) -> EntropyProduction:
    """E[b' D^-1 b] + E[div b] over stationary samples; time order is not used.

    When not to use: with little noise, where it is a small difference of large terms.
    """
    _require_diffusion(diffusion, z.shape[-1])
    return _mean(np.sum(drift(z) ** 2 / diffusion, axis=-1) + divergence(z))


def from_trajectories(
    drift: Field,
    diffusion: Float[np.ndarray, " entries"],
    z: Float[np.ndarray, "trajectories time dim"],
    dt: float,
    *,
    displacement: Field | None = None,
) -> EntropyProduction:
    """E[b' D^-1 o dz/dt], the heat given off, with Stratonovich's rule: the drift is averaged over both ends of a step.

    `displacement` maps a difference of states to the shortest one in a periodic box. `dt` is between kept states and
    must be short against the time in which the drift changes.
    """
    require_between("dt", dt, 0)
    require(z.shape[1] >= 2, "z", z.shape, "at least two times")
    _require_diffusion(diffusion, z.shape[-1])
    b, moved = drift(z), np.diff(z, axis=1)
    if displacement is not None:
        moved = displacement(moved)
    return _mean(np.sum((b[:, 1:] + b[:, :-1]) / (2 * diffusion) * moved, axis=-1) / dt)


def gaussian_plug_in(
    drift: Field, diffusion: Float[np.ndarray, " entries"], z: Float[np.ndarray, "samples dim"]
) -> EntropyProduction:
    """E[v' D^-1 v] with the score of the Gaussian that has the samples' mean and covariance: the cheap competitor.

    Exact for linear drifts; elsewhere too large, by D times the squared error of the score.
    """
    _require_diffusion(diffusion, z.shape[-1])
    centred = z - z.mean(0)
    score = -np.linalg.solve(np.cov(centred.T).reshape(z.shape[1], -1), centred.T).T
    return _mean(np.sum((drift(z) - diffusion * score) ** 2 / diffusion, axis=-1))


def uncertainty_bound(
    drift: Field,
    diffusion: Float[np.ndarray, " entries"],
    z: Float[np.ndarray, "trajectories time dim"],
    dt: float,
    *,
    displacement: Field | None = None,
) -> float:
    """Lower bound on the rate by the thermodynamic uncertainty relation, 2 <J>^2 / (dt Var J).

    J is the current weighted by D^-1 b, over single steps of `dt`. What is left of the rate where only currents and
    their fluctuations are known; needs no stationarity of the drift estimate but is tight only near its optimum.
    """
    _require_diffusion(diffusion, z.shape[-1])
    b, moved = drift(z), np.diff(z, axis=1)
    if displacement is not None:
        moved = displacement(moved)
    current = np.sum((b[:, 1:] + b[:, :-1]) / (2 * diffusion) * moved, axis=-1)
    return float(2 * current.mean() ** 2 / (dt * current.var()))


def linear_rate(matrix: Float[np.ndarray, "dim dim"], diffusion: Float[np.ndarray, " entries"]) -> float:
    """The exact rate of dz = M z dt + sqrt(2 D) dW, by Lyapunov's equation for the covariance.

    Raises
    ------
    ValueError : an eigenvalue of M with a real part >= 0, for which there is no stationary state.
    """
    _require_diffusion(diffusion, len(matrix))
    largest = float(np.linalg.eigvals(matrix).real.max())
    require(largest < 0, "matrix", f"an eigenvalue with real part {largest:g}", "all of them negative")
    covariance = solve_continuous_lyapunov(matrix, -2 * np.diag(diffusion))
    current = matrix + diffusion[:, None] * np.linalg.inv(covariance)
    return float(np.trace(current.T @ (current / diffusion[:, None]) @ covariance))


@dataclass(frozen=True)
class ActiveParticles:
    """Interacting particles that propel themselves along Ornstein-Uhlenbeck directions.

        dx_i = (v0 g_i + k sum_j F_ij - A x_i) dt + sqrt(2 eps) dW,   dg_i = -gamma g_i dt + sqrt(2 gamma) dW
        F_ij = log(1 + exp(beta (2 radius - |x_ij|))) / beta along x_ij, a soft repulsion

    States are flat: all x, then all g. With `width` set, x lives in a periodic box [-width, width)^d.
    """

    particles: int
    dimension: int
    v0: float = 1.0
    gamma: float = 0.5
    eps: float = 0.3
    trap: float = 0.5
    stiffness: float = 2.5
    beta: float = 7.5
    radius: float = 1.0
    width: float | None = None

    def __post_init__(self) -> None:
        require(self.particles >= 1, "particles", self.particles, "at least 1")
        require(self.dimension >= 1, "dimension", self.dimension, "at least 1")
        require_between("eps", self.eps, 0)
        require_between("gamma", self.gamma, 0)
        require(self.width is not None or self.trap > 0, "trap", self.trap, "> 0 without a box")

    @property
    def diffusion(self) -> Float[np.ndarray, " dim"]:
        """The diagonal of D."""
        half = self.particles * self.dimension
        return np.repeat([self.eps, self.gamma], half)

    def _split(self, z: Float[np.ndarray, "*batch dim"]) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...]]:
        shaped = z.reshape(*z.shape[:-1], 2, self.particles, self.dimension)
        return shaped[..., 0, :, :], shaped[..., 1, :, :]

    def displacement(self, z: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
        """The shortest equal of a difference of states; also brings states back into the box."""
        if self.width is None:
            return z
        half = z.shape[-1] // 2
        x = (z[..., :half] + self.width) % (2 * self.width) - self.width
        return np.concatenate([x, z[..., half:]], axis=-1)

    def _pairs(self, x: Float[np.ndarray, ...]) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...]]:
        """Unit vectors from j to i, and distances, with 1 on the diagonal of the latter."""
        apart = x[..., :, None, :] - x[..., None, :, :]
        if self.width is not None:
            apart = (apart + self.width) % (2 * self.width) - self.width
        distance = np.sqrt(np.sum(apart**2, axis=-1)) + np.eye(self.particles)
        return apart / distance[..., None], distance

    def forces(self, z: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch half"]:
        """k sum_j F_ij - A x_i."""
        x, _ = self._split(z)
        total = -self.trap * x
        if self.particles > 1:
            unit, distance = self._pairs(x)
            strength = np.logaddexp(0, self.beta * (2 * self.radius - distance)) / self.beta
            total = total + self.stiffness * np.sum(strength[..., None] * unit, axis=-2)
        return total.reshape(*z.shape[:-1], -1)

    def drift(self, z: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
        """b(z)."""
        g = z[..., z.shape[-1] // 2 :]
        return np.concatenate([self.v0 * g + self.forces(z), -self.gamma * g], axis=-1)

    def divergence(self, z: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch"] | float:
        """div b."""
        x, _ = self._split(z)
        total = np.full(z.shape[:-1], -(self.trap + self.gamma) * self.particles * self.dimension)
        if self.particles > 1:
            distance = self._pairs(x)[1]
            gap = self.beta * (2 * self.radius - distance)
            slope = -0.5 * (1 + np.tanh(gap / 2)) + (self.dimension - 1) * np.logaddexp(0, gap) / self.beta / distance
            total = total + self.stiffness * np.sum(slope * (1 - np.eye(self.particles)), axis=(-2, -1))
        return total

    def simulate(
        self,
        trajectories: int,
        *,
        time: float,
        dt: float,
        rng: np.random.Generator,
        every: int = 1,
        progress: Progress | None = None,
    ) -> Float[np.ndarray, "trajectories kept dim"]:
        """Trajectories from independent random starts; leave out the first stretch, until they are stationary."""
        half = self.particles * self.dimension
        spread = self.width if self.width is not None else self.radius * self.particles
        x = rng.uniform(-spread, spread, (trajectories, half))
        start = np.concatenate([x, rng.standard_normal((trajectories, half))], axis=1)
        return simulate(
            self.drift,
            self.diffusion,
            start,
            dt=dt,
            steps=round(time / dt),
            rng=rng,
            every=every,
            wrap=self.displacement,
            progress=progress,
        )

    def entropy_production(self, z: Float[np.ndarray, "trajectories *time dim"]) -> EntropyProduction:
        """(v0 / eps) E[g . (v0 g + forces)] over stationary samples: exact for these systems, and of low variance."""
        g = z[..., z.shape[-1] // 2 :]
        return _mean(self.v0 / self.eps * np.sum(g * (self.v0 * g + self.forces(z)), axis=-1))


def _mean(values: Float[np.ndarray, trajectories * time]) -> EntropyProduction:
    """Mean over everything; the error takes trajectories as independent, and times of one of them as not."""
    per_trajectory = values.reshape(len(values), -1).mean(1)
    count = len(per_trajectory)
    error = float(per_trajectory.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return EntropyProduction(float(per_trajectory.mean()), error)


def _require_diffusion(diffusion: Float[np.ndarray, " entries"], dim: int, *, positive: bool = True) -> None:
    require(len(diffusion) == dim, "diffusion", len(diffusion), f"the diagonal of D, {dim} values")
    fine = bool((diffusion > 0).all() if positive else (diffusion >= 0).all())
    require(fine, "diffusion", diffusion.tolist(), "values > 0: where one is 0 the rate is not defined")
