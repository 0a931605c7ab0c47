"""Entropy, varentropy and surprisal of softmax(logits), without the softmax.

For logits z with maximum m, s = sum e^(z-m), a = sum e^(z-m)(z-m), b = sum e^(z-m)(z-m)^2:

    log-partition  Z = m + log s
    entropy        H = log s - a/s
    varentropy     V = b/s - (a/s)^2         the variance of -log q
    surprisal      I_y = Z - z_y

All in nats. The last axis holds the outcomes, -inf marks those that are out, any leading axes are a batch. float16 and
bfloat16 are read as float32: the error is that of the input's rounding. Gradients are exact and take the memory of the
logits once; where a logit is -inf they are zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hartley.arrays import numpy_too
from hartley.checks import require
from hartley.measures._moments import statistics, tiles


@dataclass(frozen=True)
class RowStatistics:
    """What one pass over the logits tells of each distribution, in nats.

    Attributes
    ----------
    maximum : largest logit, divided by the temperature like all that follows.
    log_partition : Z = log sum exp z.
    entropy : H, of the softmax.
    varentropy : variance of the surprisal under the softmax.
    surprisal : -log q of the targets, or None without targets.
    rank : number of outcomes likelier than the target (0: it is the mode), or None without targets or if not asked for.
    """

    maximum: Float[Tensor, "*batch"]
    log_partition: Float[Tensor, "*batch"]
    entropy: Float[Tensor, "*batch"]
    varentropy: Float[Tensor, "*batch"]
    surprisal: Float[Tensor, "*batch"] | None = None
    rank: Int[Tensor, "*batch"] | None = None

    @property
    def max_probability(self) -> Float[Tensor, "*batch"]:
        """Probability of the mode."""
        return (self.maximum - self.log_partition).exp()


def row_statistics(
    logits: Float[Tensor, "*batch outcomes"],
    targets: Int[Tensor, "*batch"] | None = None,
    *,
    temperature: float | Float[Tensor, "*batch"] = 1.0,
    rank: bool = True,
) -> RowStatistics:
    """All first- and second-order statistics of softmax(logits / temperature) in one pass.

    Parameters
    ----------
    logits : -inf marks impossible outcomes. A row of nothing but -inf, or with a NaN, gives NaN; +inf logits share
        the whole mass.
    targets : outcomes whose surprisal and rank are wanted.
    temperature : positive; one number or one a row.
    rank : False leaves out the targets' ranks, which take a pass of their own.

    Returns
    -------
    Statistics in float32 (float64 for float64 logits). Differentiable, except `maximum` and `rank`.

    Raises
    ------
    ValueError : no outcomes, a temperature that is not positive, or targets outside the outcomes.
    """
    batch, outcomes = logits.shape[:-1], logits.shape[-1]
    require(outcomes >= 1, "logits.shape", tuple(logits.shape), "at least one outcome on the last axis")
    flat = logits.reshape(-1, outcomes)
    beta = _inverse_temperature(temperature, batch)
    chosen = None if targets is None else _targets(targets, flat.shape)
    if torch.is_grad_enabled() and (flat.requires_grad or (isinstance(beta, Tensor) and beta.requires_grad)):
        scale = torch.as_tensor(beta, dtype=_work(flat), device=flat.device).expand(len(flat))
        top, z, h, v, s = _Statistics.apply(flat, scale, chosen)  # type: ignore[no-untyped-call]
    else:
        top, z, h, v = statistics(flat.detach(), beta)
        s = None if chosen is None else _surprisal(flat, z, beta, chosen)
    ranks = None
    if rank and chosen is not None:
        ranks = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
        logit = flat.gather(-1, chosen)
        for rows, columns in tiles(flat):
            ranks[rows] += (flat[rows, columns] > logit[rows]).sum(-1)
        ranks = ranks.reshape(batch)
    top = top if isinstance(beta, float) and beta == 1.0 else top * beta
    m, z, h, v = (t.reshape(batch) for t in (top, z, h, v))
    return RowStatistics(m, z, h, v, None if s is None else s.reshape(batch), ranks)


class _Statistics(torch.autograd.Function):
    """(maximum, Z, H, V, surprisal) of the rows; backward recomputes q tile by tile instead of storing it."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, beta: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        top, z, h, v = statistics(logits.detach(), beta.detach())
        ctx.save_for_backward(logits, beta, z, h, v, targets)
        ctx.mark_non_differentiable(top)
        return top, z, h, v, None if targets is None else _surprisal(logits, z, beta, targets)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, _: Tensor, grad_z: Tensor, grad_h: Tensor, grad_v: Tensor, grad_s: Tensor | None
    ) -> tuple[Tensor, Tensor | None, None]:
        logits, beta, z, h, v, targets = ctx.saved_tensors
        grad = torch.empty_like(logits)
        grad_beta = torch.zeros_like(z) if ctx.needs_input_grad[1] else None
        if grad_s is not None:
            grad_z = grad_z + grad_s
        for rows, columns in tiles(logits):
            scaled = logits[rows, columns].to(z.dtype) * beta[rows, None]
            centred = scaled - z[rows, None]  # log q
            q = centred.exp()
            centred.add_(h[rows, None]).clamp_(min=torch.finfo(z.dtype).min)  # log q + H; q = 0 where it was -inf
            slope = grad_z[rows, None] - grad_h[rows, None] * centred
            slope += grad_v[rows, None] * (centred * centred - v[rows, None] + 2 * centred)
            # A huge square times q = 0 is NaN; there is no mass there, hence no gradient.
            slope = torch.where(q > 0, q * slope, 0.0)
            if grad_beta is not None:
                grad_beta[rows] += (slope * logits[rows, columns].to(z.dtype).nan_to_num(neginf=0.0)).sum(-1)
            grad[rows, columns] = (slope * beta[rows, None]).to(grad.dtype)
        if grad_s is not None:
            chosen = logits.gather(-1, targets)
            own = torch.where(chosen == -torch.inf, 0.0, -grad_s[:, None])
            grad.scatter_add_(-1, targets, (own * beta[:, None]).to(grad.dtype))
            if grad_beta is not None:
                grad_beta += (own * chosen.to(z.dtype).nan_to_num(neginf=0.0)).squeeze(-1)
        return grad, grad_beta, None


def _surprisal(logits: Tensor, z: Tensor, beta: float | Tensor, targets: Tensor) -> Tensor:
    return z - logits.gather(-1, targets).squeeze(-1).to(z.dtype) * beta


def _targets(targets: Tensor, shape: torch.Size) -> Tensor:
    if targets.device.type == "cpu":
        inside = bool(((targets >= 0) & (targets < shape[1])).all())
        require(inside, "targets", targets, f"indices of the {shape[1]} outcomes")
    return targets.reshape(-1, 1)


@numpy_too
def entropy(
    logits: Float[Tensor, "*batch outcomes"], *, temperature: float | Float[Tensor, "*batch"] = 1.0
) -> Float[Tensor, "*batch"]:
    """Shannon entropy of softmax(logits / temperature) in nats; torch or numpy in, the same kind out."""
    return row_statistics(logits, temperature=temperature).entropy


@numpy_too
def varentropy(
    logits: Float[Tensor, "*batch outcomes"], *, temperature: float | Float[Tensor, "*batch"] = 1.0
) -> Float[Tensor, "*batch"]:
    """Variance of the surprisal under softmax(logits / temperature), in nats squared.

    At most log(n-1)^2 / 4 + 1 for n outcomes (Reeb and Wolf 2015).
    """
    return row_statistics(logits, temperature=temperature).varentropy


@numpy_too
def surprisal(logits: Float[Tensor, "*batch outcomes"], targets: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """-log q of the targets, in nats."""
    result = row_statistics(logits, targets, rank=False).surprisal
    assert result is not None
    return result


@numpy_too
def renyi_entropy(logits: Float[Tensor, "*batch outcomes"], alpha: float) -> Float[Tensor, "*batch"]:
    """Rényi entropy of order alpha in [0, inf]: log sum q^alpha / (1 - alpha).

    Order 0 is the logarithm of the number of possible outcomes, 1 the Shannon entropy, 2 the collision entropy,
    inf the surprisal of the mode. Within 1e-4 of order 1 the series H - (alpha - 1) V / 2 is used.
    """
    require(alpha >= 0, "alpha", alpha, "an order in [0, inf]")
    if alpha == 0:
        return (logits > -torch.inf).sum(-1).to(_work(logits)).log()
    stats = row_statistics(logits)
    if abs(alpha - 1) < 1e-4:
        return stats.entropy - (alpha - 1) * stats.varentropy / 2
    if math.isinf(alpha):
        return stats.log_partition - stats.maximum
    scaled = row_statistics(logits, temperature=1 / alpha).log_partition
    return (scaled - alpha * stats.log_partition) / (1 - alpha)


@numpy_too
def tsallis_entropy(logits: Float[Tensor, "*batch outcomes"], alpha: float) -> Float[Tensor, "*batch"]:
    """Tsallis entropy (1 - sum q^alpha) / (alpha - 1); order 2 is the Gini impurity, order 1 Shannon's entropy."""
    if alpha == 1:
        return row_statistics(logits).entropy
    return torch.expm1((1 - alpha) * renyi_entropy(logits, alpha)) / (1 - alpha)


@numpy_too
def normalized_entropy(logits: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """Entropy over its largest possible value, the logarithm of the number of finite logits; 0 with only one."""
    size = (logits > -torch.inf).sum(-1)
    return row_statistics(logits).entropy / size.clamp(min=2).log()


@dataclass(frozen=True)
class HeadEntropy:
    """Entropy of the k likeliest outcomes, renormalised, and the share of the mass that they hold."""

    entropy: Float[Tensor, "*batch"]
    mass: Float[Tensor, "*batch"]


def head_entropy(logits: Float[Tensor, "*batch outcomes"], k: int) -> HeadEntropy:
    """Entropy of the k likeliest outcomes alone: cheap to store, at most log k, and no bound on the full entropy."""
    require(k >= 1, "k", k, "at least 1")
    head = logits.topk(min(k, logits.shape[-1]), -1).values
    full, part = row_statistics(logits), row_statistics(head)
    return HeadEntropy(part.entropy, (part.log_partition - full.log_partition).exp())


def _inverse_temperature(temperature: float | Tensor, batch: torch.Size) -> float | Tensor:
    if isinstance(temperature, Tensor):
        if temperature.device.type == "cpu":
            require(bool((temperature > 0).all()), "temperature", temperature, "positive numbers")
        return (1 / temperature).expand(batch).reshape(-1)
    require(temperature > 0 and math.isfinite(temperature), "temperature", temperature, "a positive number")
    return 1 / temperature


def _work(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)
