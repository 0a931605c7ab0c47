"""Guided restarts: simulate training data where the model is wrong.

A simulator can start anywhere. Instead of one long series, a model is trained in rounds; each round draws new starting
points on a reference trajectory, more of them where the smoothed one-step error is large, and integrates short pieces
from there. The starts must lie before the difficult place: what is hard is reached after some steps.

Source: Gilpin (2021), arXiv 2110.05266, section 5.2, whose script draws with power 4; power 1 is what helped here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.signal import savgol_filter

from hartley.checks import require, require_between


def restart_probabilities(
    errors: Float[np.ndarray, " time"], *, power: float = 1.0, lead: int = 50, window: int = 51
) -> Float[np.ndarray, " time"]:
    """Probability of each time of the reference trajectory as a starting point.

    Parameters
    ----------
    errors : squared one-step error of the model along the trajectory.
    power : how sharply errors attract; 0 draws evenly.
    lead : starts lie this many samples before the error that they are drawn for; at least the model's input length.
    window : of the Savitzky-Golay filter of order 3 that smooths the errors; odd, at most the length.
    """
    require_between("power", power, 0, closed="left")
    require(0 <= lead < len(errors), "lead", lead, f"0 to {len(errors) - 1}")
    require(window % 2 == 1 and 3 < window <= len(errors), "window", window, f"an odd number from 5 to {len(errors)}")
    require(bool(np.isfinite(errors).all()), "errors", "not finite", "finite errors")
    smooth = np.maximum(savgol_filter(errors, window, 3), 0.0)[lead:]
    largest = smooth.max()
    weights = np.ones_like(smooth) if largest == 0 else (smooth / largest) ** power
    return np.append(weights / weights.sum(), np.zeros(lead))


def guided_restarts(
    errors: Float[np.ndarray, " time"],
    states: Float[np.ndarray, "time dim"],
    count: int,
    *,
    rng: np.random.Generator,
    power: float = 1.0,
    lead: int = 50,
    window: int = 51,
    jitter: float = 0.005,
) -> tuple[Float[np.ndarray, "count dim"], Int[np.ndarray, " count"]]:
    """Draw starting points where they help: states on the trajectory, moved by up to `jitter`, and their times.

    `jitter` is in the units of `states`; the other parameters are those of `restart_probabilities`.
    """
    require(len(errors) == len(states), "errors", len(errors), f"one error a state, {len(states)}")
    require(count >= 1, "count", count, "at least 1")
    chosen = rng.choice(len(states), count, p=restart_probabilities(errors, power=power, lead=lead, window=window))
    return states[chosen] + rng.uniform(-jitter, jitter, (count, states.shape[1])), chosen
