"""Problems on chaotic systems, and the driven ring whose entropy production is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from hartley.labs.base import Lab

if TYPE_CHECKING:
    from hartley.dynamics import System


@dataclass(frozen=True)
class ChaosLab(Lab):
    """Chaotic systems of the database, those whose exponent is beyond doubt.

    Attributes
    ----------
    systems : how many; every n-th of the alphabetical list. 0 chooses 24 in quick and all in full mode.
    """

    systems: int = 0

    @cached_property
    def chosen(self) -> list[System]:
        """The systems."""
        from hartley.dynamics import load_systems

        found = list(load_systems(delayed=False, chaotic=True).values())
        # a stiff one that alone would take minutes of tangent dynamics
        found = [system for system in found if system.name != "MacArthur"]
        count = self.systems or (24 if self.quick else len(found))
        return found[:: max(1, len(found) // count)][:count]

    def first_coordinate(
        self, system: System, periods: float, per_period: int, rng: np.random.Generator
    ) -> Float[np.ndarray, " time"]:
        """The first bounded variable, or the sine of the first, along an orbit from a random place on the attractor."""
        from hartley.dynamics import initial_conditions, make_trajectory

        bounded = [i for i in range(system.dimension) if i not in system.unbounded]
        start = initial_conditions(system, 1, rng)[0]
        values = make_trajectory(system, round(periods * per_period), per_period, start, tolerance=1e-7).values
        return np.asarray(values[:, bounded[0]] if bounded else np.sin(values[:, 0]))

    def natural_time(self, x: Float[np.ndarray, " time"]) -> float:
        """By mean crossings; by the spectrum where a series stays on one side of its mean but for an excursion."""
        from hartley.dynamics import estimate_natural_time

        try:
            return estimate_natural_time(x)
        except ValueError:
            return estimate_natural_time(x, method="spectrum")


@dataclass(frozen=True)
class RingLab(Lab):
    """One self-propelled particle on a ring with a repulsive bump: dx = (v0 g + F) dt + noise, g an OU process.

    Attributes
    ----------
    v0, gamma, eps : speed, rate of turning, thermal noise.
    """

    v0: float = 1.0
    gamma: float = 0.5
    eps: float = 0.3

    @property
    def diffusion(self) -> Float[np.ndarray, " two"]:
        """The diagonal of D."""
        return np.array([self.eps, self.gamma])

    def force(self, x: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
        """2.5 log(1 + exp(7.5 (2 - |x|))) / 7.5, away from 0."""
        force: Float[np.ndarray, ...] = np.sign(x) * 2.5 / 7.5 * np.logaddexp(0, 7.5 * (2 - np.abs(x)))
        return force

    def drift(self, z: Float[np.ndarray, "*batch two"]) -> Float[np.ndarray, "*batch two"]:
        """b(x, g)."""
        x, g = z[..., 0], z[..., 1]
        return np.stack([self.v0 * g + self.force(x), -self.gamma * g], axis=-1)

    def divergence(self, z: Float[np.ndarray, "*batch two"]) -> Float[np.ndarray, "*batch"]:
        """div b; the jump of the force at 0 is where the particle all but never is."""
        slope: Float[np.ndarray, "*batch"] = -1.25 * (1 + np.tanh(3.75 * (2 - np.abs(z[..., 0]))))
        return slope - self.gamma

    def wrap(self, z: Float[np.ndarray, "*batch two"]) -> Float[np.ndarray, "*batch two"]:
        """Into [-4, 4)."""
        return np.stack([(z[..., 0] + 4) % 8 - 4, z[..., 1]], axis=-1)

    def samples(self, count: int, rng: np.random.Generator, *, time: float = 20.0) -> Float[np.ndarray, "count two"]:
        """Independent stationary samples: the ends of as many trajectories."""
        from hartley.dynamics.entropy_production import simulate

        start = np.stack([rng.uniform(-4, 4, count), rng.standard_normal(count)], axis=1)
        steps = round(time / 0.01)
        return simulate(self.drift, self.diffusion, start, dt=0.01, steps=steps, rng=rng, every=steps, wrap=self.wrap)[
            :, -1
        ]

    @property
    def exact_rate(self) -> float:
        """The entropy production by a finite-volume solution, true to a quarter of a percent."""
        return _ring_rate(self.v0, self.gamma, self.eps)

    def exact_error(self, rate: float) -> float:
        """Relative error of a rate, percent."""
        return 100 * abs(rate / self.exact_rate - 1)


@cache
def _ring_rate(v0: float, gamma: float, eps: float, nx: int = 200, ng: int = 101) -> float:
    """Scharfetter and Gummel's scheme on [-4, 4) x [-5, 5]: jump rates whose ratio over a face is exp(b h / D).

    The entropy production of that jump process, sum of J log(forward / backward), tends to that of the flow.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    ring = RingLab(v0=v0, gamma=gamma, eps=eps)
    hx, hg = 8 / nx, 10 / (ng - 1)
    x, g = -4 + hx * (np.arange(nx) + 0.5), np.linspace(-5, 5, ng)
    cell = np.arange(nx * ng).reshape(nx, ng)
    # the force is averaged over a face by its potential, which its jump at 0 makes necessary
    along = v0 * g[None, :] + ring.force(x + hx / 2 + 1e-12)[:, None]
    turning = np.broadcast_to(-gamma * (g[1:] + g[:-1]) / 2, (nx, ng - 1))
    start = np.concatenate([cell.ravel(), cell[:, :-1].ravel()])
    end = np.concatenate([np.roll(cell, -1, axis=0).ravel(), cell[:, 1:].ravel()])
    steps = np.concatenate([(along * hx / eps).ravel(), (turning * hg / gamma).ravel()])
    base = np.concatenate([np.full(along.size, eps / hx**2), np.full(turning.size, gamma / hg**2)])
    forward, backward = base * _bernoulli(-steps), base * _bernoulli(steps)
    rows = np.concatenate([end, start, start, end])
    columns = np.concatenate([start, start, end, end])
    rates = np.concatenate([forward, -forward, backward, -backward])
    generator = coo_matrix((rates, (rows, columns)), shape=(nx * ng, nx * ng)).tolil()
    generator[0] = 1.0  # one equation follows from the others: replace it by the sum of probabilities
    p = spsolve(generator.tocsc(), np.eye(1, nx * ng)[0])
    current = forward * p[start] - backward * p[end]
    ratio = np.log(np.maximum(p[start], 1e-300) / np.maximum(p[end], 1e-300)) + steps
    return float(np.sum(current * ratio))


def _bernoulli(u: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """u / (exp(u) - 1)."""
    safe = np.where(np.abs(u) < 1e-8, 1.0, u)
    return np.where(np.abs(u) < 1e-8, 1 - u / 2, safe / np.expm1(safe))


@dataclass(frozen=True)
class RestartLab(ChaosLab):
    """A small network learns the next value of one variable, from data that a simulator makes on demand.

    Attributes
    ----------
    inputs, hidden : values the network sees, and its width (two hidden layers).
    rounds, steps, batch : training is `rounds` times `steps` steps of Adam on `batch` windows.
    starts, length : new series a round, and samples of each.
    """

    inputs: int = 20
    hidden: int = 64
    rounds: int = 5
    steps: int = 0
    batch: int = 64
    starts: int = 10
    length: int = 150

    @property
    def chosen(self) -> list[System]:
        """Systems without phases, which have no bounded state to restart from."""
        count = self.systems or (4 if self.quick else 8)
        from hartley.dynamics import load_systems

        found = [s for s in load_systems(delayed=False, chaotic=True).values() if not s.unbounded]
        found = [s for s in found if s.name != "MacArthur"]
        return found[:: len(found) // count][:count]

    def one_step_error(self, system: System, draw: str, seed: int) -> float:
        """Test error of the network after training on restarts drawn "guided", "sharp", "uniform" or not at all.

        "guided" is power 1 with a lead of 50 samples; "sharp" the released power of 4 with the same lead; "static"
        trains on the reference series alone. Root mean square in standard deviations of the variable.
        """
        import torch

        from hartley.dynamics import guided_restarts, initial_conditions, make_trajectory

        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        starts = initial_conditions(system, 2, rng)
        reference, test = make_trajectory(system, 1000, 100, starts, tolerance=1e-7).values
        offset, spread = reference.mean(0), reference.std(0)

        def windows(values: Float[np.ndarray, "... dim"]) -> torch.Tensor:
            series = torch.tensor((values[..., 0] - offset[0]) / spread[0], dtype=torch.float32)
            return series.unfold(-1, self.inputs + 1, 1).reshape(-1, self.inputs + 1)

        sizes = (self.inputs, self.hidden, self.hidden, 1)
        weights = [(torch.randn(i, o, generator=generator) / i**0.5).requires_grad_() for i, o in pairwise(sizes)]
        biases = [torch.zeros(o, requires_grad=True) for o in sizes[1:]]

        def error(data: torch.Tensor) -> torch.Tensor:
            x = data[:, :-1]
            for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
                x = x @ w + b if layer == 2 else torch.tanh(x @ w + b)
            return x[:, 0] + data[:, -2] - data[:, -1]

        optimiser = torch.optim.Adam([*weights, *biases], lr=1e-3)
        power = {"guided": 1.0, "sharp": 4.0, "uniform": 0.0, "static": 0.0}[draw]
        data = windows(reference)
        for number in range(self.rounds):
            if draw != "static":
                with torch.no_grad():
                    found = error(windows(reference)).square().double().numpy()
                errors = np.concatenate([np.full(self.inputs, found.mean()), found])
                errors = errors if number else np.ones_like(errors)
                jitter = 0.005 * spread
                states, _ = guided_restarts(errors, reference, self.starts, rng=rng, power=power, jitter=0.0)
                states = states + rng.uniform(-jitter, jitter, states.shape)
                data = windows(make_trajectory(system, self.length + 2, 100, states, tolerance=1e-6).values[:, 2:])
            for _ in range(self.steps or (60 if self.quick else 200)):
                picked = torch.randint(len(data), (self.batch,), generator=generator)
                optimiser.zero_grad()
                torch.autograd.backward(error(data[picked]).square().mean())
                optimiser.step()
        with torch.no_grad():
            return float(error(windows(test)).square().mean().sqrt())
