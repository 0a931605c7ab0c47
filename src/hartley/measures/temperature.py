"""The temperature at which a softmax has a given entropy.

The entropy of softmax(beta z) falls strictly in beta, from the logarithm of the number of finite logits at 0 to the
logarithm of the multiplicity of the maximum at infinity. Newton's method in log beta, with dH/dlog beta = -V(beta),
kept inside a bracket; every row converges on its own.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hartley.arrays import numpy_too
from hartley.checks import require
from hartley.measures._moments import statistics

_PASSES = 60


@numpy_too
def temperature_for_entropy(
    logits: Float[Tensor, "*batch outcomes"],
    target: float | Float[Tensor, "*batch"],
    *,
    tolerance: float = 1e-6,
) -> Float[Tensor, "*batch"]:
    """Temperature T such that softmax(logits / T) has the target entropy, in nats.

    Parameters
    ----------
    logits : -inf marks impossible outcomes.
    target : entropy in nats, >= 0; one number or one a row.
    tolerance : largest error of the entropy attained, in nats; float32 rounding limits it to about 1e-6 log n.

    Returns
    -------
    inf where the target is at or above the largest entropy (every temperature falls short: sample uniformly), 0 where
    it is at or below the logarithm of the number of tied maxima (sample the mode), else the root.

    Raises
    ------
    ValueError : a negative or NaN target.

    Solves the inner problem of temperature-adjusted entropy control (AceReason-Nemotron 1.1, 2025) exactly.
    """
    batch, outcomes = logits.shape[:-1], logits.shape[-1]
    work = torch.promote_types(logits.dtype, torch.float32)
    flat = logits.detach().reshape(-1, outcomes)
    goal = torch.as_tensor(target, dtype=torch.float64, device=logits.device).expand(batch).reshape(-1)
    if goal.device.type == "cpu":
        require(bool((goal >= 0).all()), "target", target, "entropies >= 0")
    finite = flat > -torch.inf
    most = finite.sum(-1).double().log()
    top = flat.amax(-1, keepdim=True)
    least = (flat == top).sum(-1).double().log()
    # For Gaussian logits H = log n - (beta sd)^2 / 2: the exact root is the first guess.
    spread = torch.where(finite, (flat - top).to(work), 0.0)
    count = finite.sum(-1).clamp(min=1)
    variance = (spread.square().sum(-1) / count - (spread.sum(-1) / count).square()).double().clamp(min=1e-12)
    x = 0.5 * (2 * (most - goal).clamp(min=1e-6) / variance).log()  # log beta
    low, high = torch.full_like(x, -math.inf), torch.full_like(x, math.inf)
    inside = (goal < most) & (goal > least)
    settled = ~inside
    for _ in range(_PASSES):
        _, _, h, v = statistics(flat, x.exp())
        excess = h.double() - goal
        settled = settled | (excess.abs() < tolerance)
        # Convergence is asked only where the answer is at hand: on an accelerator it would stall the queue.
        if x.device.type == "cpu" and bool(settled.all()):
            break
        low, high = torch.where(excess > 0, x, low), torch.where(excess > 0, high, x)
        step = excess / v.double().clamp(min=1e-300)
        newton = x + step.clamp(-2.0, 2.0)
        middle = 0.5 * (low.clamp(min=-1e3) + high.clamp(max=1e3))
        bracketed = low.isfinite() & high.isfinite()
        outside = (newton <= low) | (newton >= high)
        x = torch.where(settled, x, torch.where(bracketed & outside, middle, newton))
    root = torch.where(goal >= most, torch.inf, torch.where(inside, (-x).exp(), 0.0)).to(work)
    return root.reshape(batch)
