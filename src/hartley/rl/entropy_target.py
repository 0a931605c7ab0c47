"""The sampling temperature from a measurable quantity: the entropy that the rollouts are to have.

    H_T = mean over all sampled tokens of H(softmax(z / T)),       dH_T / d log T = mean varentropy

is increasing in T, so that there is one temperature with a given H_T; AceReason-Nemotron's rule is H_T = 0.3 nats. It
replaces a guess that depends on the model by one that does so less. It presupposes a confident model: a weak one needs
T of about 0.2 for it, far from where it was trained.

Changing T changes the policy that is trained: log-probabilities in the loss are those at T.

Source: AceReason-Nemotron 1.1 (2025), arXiv 2506.13284; the paper keeps T fixed during a run, the controller is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from hartley.checks import require, require_between
from hartley.measures import row_statistics
from hartley.rl.rollouts import Rollouts, State


@dataclass(frozen=True)
class SolvedTemperature:
    """A temperature, the mean entropy there, and whether that is the one asked for or the nearest within bounds."""

    temperature: float
    entropy: float
    reached: bool


def solve_temperature(
    logits: Float[Tensor, "*tokens vocabulary"],
    target: float = 0.3,
    *,
    mask: Bool[Tensor, "*tokens"] | None = None,
    bounds: tuple[float, float] = (1e-3, 1e2),
    tolerance: float = 1e-6,
) -> SolvedTemperature:
    """The one temperature at which the mean entropy of all tokens is `target`.

    Newton's method in log T inside a shrinking bracket; each step is one pass over the logits. The contexts were
    sampled at some temperature themselves: sample again at the solution and solve once more, two or three times.

    Parameters
    ----------
    target : nats.
    mask : tokens that count, by default all.

    Raises
    ------
    ValueError : no token at all, a target that is not positive, or bounds out of order.

    For a temperature of its own for every token see `hartley.measures.temperature_for_entropy`.
    """
    require(target > 0 and math.isfinite(target), "target", target, "a positive entropy, nats")
    require(0 < bounds[0] < bounds[1], "bounds", bounds, "two rising positive numbers")
    flat = logits.detach().reshape(-1, logits.shape[-1])
    if mask is not None:
        flat = flat[mask.reshape(-1)]
    require(len(flat) > 0, "mask", mask, "at least one token")

    def mean(x: float) -> tuple[float, float]:
        stats = row_statistics(flat, temperature=math.exp(x))
        return float(stats.entropy.double().mean()), float(stats.varentropy.double().mean())

    low, high = math.log(bounds[0]), math.log(bounds[1])
    for end, sign in ((low, 1), (high, -1)):
        h, _ = mean(end)
        if sign * (h - target) >= 0:  # even the end of the range is too hot, or too cold
            return SolvedTemperature(math.exp(end), h, abs(h - target) <= tolerance)
    x = 0.0 if low < 0 < high else 0.5 * (low + high)
    h, slope = mean(x)
    for _ in range(60):
        if abs(h - target) <= tolerance or high - low < 1e-12:
            break
        low, high = (x, high) if h < target else (low, x)
        x = x + (target - h) / max(slope, 1e-300)
        if not low < x < high:
            x = 0.5 * (low + high)
        h, slope = mean(x)
    return SolvedTemperature(math.exp(x), h, True)


@dataclass(frozen=True)
class EntropyTemperature:
    """The stage `temperature`: held such that the entropy of the rollouts stays at `target`.

    After every batch log T moves by gain (log target - log of the running mean entropy), within the bounds.

    Parameters
    ----------
    initial : temperature of the first batch, from `solve_temperature`.
    gain : 0 keeps the temperature fixed, as the paper does.
    decay : weight of the past in the running mean.
    """

    target: float = 0.3
    initial: float = 1.0
    gain: float = 0.1
    decay: float = 0.9
    bounds: tuple[float, float] = (0.1, 2.0)

    needs = ("entropy",)

    def __post_init__(self) -> None:
        require(self.target > 0, "target", self.target, "a positive entropy, nats")
        require(self.gain >= 0, "gain", self.gain, "a number that is not negative")
        require_between("decay", self.decay, 0, 1, closed="left")
        require(0 < self.bounds[0] < self.bounds[1], "bounds", self.bounds, "two rising positive numbers")
        require_between("initial", self.initial, *self.bounds, closed="both")

    def __call__(self, state: State) -> float:
        return state.get("temperature", self.initial)

    def observe(self, state: State, rollouts: Rollouts) -> State:
        """Move the temperature by the mean entropy of these rollouts."""
        if not bool(rollouts.mask.any()):
            return state
        return self.moved(state, float(rollouts.entropy[rollouts.mask].double().mean()))

    def moved(self, state: State, entropy: float) -> State:
        """The memory after a batch of that mean entropy."""
        mean = self.decay * state.get("temperature.entropy", entropy) + (1 - self.decay) * entropy
        step = self.gain * (math.log(self.target) - math.log(max(mean, 1e-12)))
        low, high = (math.log(bound) for bound in self.bounds)
        moved = min(high, max(low, math.log(self(state)) + step))
        return {**state, "temperature": math.exp(moved), "temperature.entropy": mean}


@dataclass(frozen=True)
class OverlongFilter:
    """The stage `select` that leaves out answers cut off by the length limit, in numerator and denominator alike.

    AceReason does so while the budget is short (8 and 16 thousand tokens), and not at the full 32.
    """

    needs = ("truncated",)

    def __call__(self, rollouts: Rollouts, advantages: Float[Tensor, "batch time"]) -> Bool[Tensor, "batch time"]:
        return rollouts.mask & ~rollouts.fields["truncated"][:, None]


def unsolved(pass_rates: Float[Tensor, "prompts"]) -> Bool[Tensor, "prompts"]:
    """Prompts to keep for the next epoch: those that not every answer solved."""
    inside = bool(((pass_rates >= 0) & (pass_rates <= 1)).all())
    require(inside, "pass_rates", pass_rates, "shares in [0, 1]")
    return pass_rates < 1
