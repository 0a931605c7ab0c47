"""Divergences between softmax distributions, from their logits, in nats.

The order of the arguments is the order in the formula: ``kl_divergence(p, q)`` is KL(p||q). An outcome with p = 0
contributes nothing; p > 0 where q = 0 makes KL infinite.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hartley.arrays import numpy_too
from hartley.checks import require
from hartley.measures.logits import entropy


@numpy_too
def cross_entropy(p: Float[Tensor, "*batch outcomes"], q: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """Expected surprisal under q of an outcome of p: -sum p log q. Both arguments are logits."""
    return -_expected(p, _log_softmax(q))


@numpy_too
def kl_divergence(p: Float[Tensor, "*batch outcomes"], q: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """Kullback-Leibler divergence KL(p||q) = sum p log(p/q). Both arguments are logits; never negative."""
    log_p = _log_softmax(p)
    # Where p = 0 the ratio is (-inf) - (...), replaced before it can meet the 0.
    ratio = torch.where(log_p == -torch.inf, 0.0, log_p - _log_softmax(q))
    return (log_p.exp() * ratio).sum(-1).clamp(min=0.0)


@numpy_too
def js_divergence(
    p: Float[Tensor, "*batch outcomes"], q: Float[Tensor, "*batch outcomes"], weight: float = 0.5
) -> Float[Tensor, "*batch"]:
    """Jensen-Shannon divergence H(w p + (1-w) q) - w H(p) - (1-w) H(q), from logits.

    Between 0 and the entropy of the weights (log 2 at w = 1/2), finite for disjoint supports; its square root is a
    metric at w = 1/2.
    """
    require(0 < weight < 1, "weight", weight, "a number in (0, 1)")
    log_p, log_q = _log_softmax(p), _log_softmax(q)
    # log-sum-exp of two -inf has a NaN gradient: such outcomes are in neither distribution.
    absent = (log_p == -torch.inf) & (log_q == -torch.inf)
    safe_p, safe_q = torch.where(absent, 0.0, log_p), torch.where(absent, 0.0, log_q)
    mixture = torch.where(absent, -torch.inf, torch.logaddexp(safe_p + math.log(weight), safe_q + math.log1p(-weight)))

    def part(log_r: Tensor) -> Tensor:
        ratio = torch.where(log_r == -torch.inf, 0.0, log_r - torch.where(absent, 0.0, mixture))
        return (log_r.exp() * ratio).sum(-1)

    return (weight * part(log_p) + (1 - weight) * part(log_q)).clamp(min=0.0)


@numpy_too
def renyi_divergence(
    p: Float[Tensor, "*batch outcomes"], q: Float[Tensor, "*batch outcomes"], alpha: float
) -> Float[Tensor, "*batch"]:
    """Rényi divergence log(sum p^alpha q^(1-alpha)) / (alpha - 1), alpha > 0; order 1 is KL(p||q). From logits."""
    require(alpha > 0 and math.isfinite(alpha), "alpha", alpha, "a positive number")
    if abs(alpha - 1) < 1e-6:
        return kl_divergence(p, q)
    log_p, log_q = _log_softmax(p), _log_softmax(q)
    terms = torch.where(log_p == -torch.inf, -torch.inf, alpha * log_p + (1 - alpha) * log_q)
    return torch.logsumexp(terms, -1) / (alpha - 1)


@numpy_too
def total_variation(
    p: Float[Tensor, "*batch outcomes"], q: Float[Tensor, "*batch outcomes"]
) -> Float[Tensor, "*batch"]:
    """Half the L1 distance, in [0, 1]: the largest difference that any event's probability can have. From logits."""
    return 0.5 * (_log_softmax(p).exp() - _log_softmax(q).exp()).abs().sum(-1)


@numpy_too
def hellinger_distance(
    p: Float[Tensor, "*batch outcomes"], q: Float[Tensor, "*batch outcomes"]
) -> Float[Tensor, "*batch"]:
    """sqrt(sum (sqrt p - sqrt q)^2 / 2), in [0, 1]. From logits."""
    difference = (0.5 * _log_softmax(p)).exp() - (0.5 * _log_softmax(q)).exp()
    return (0.5 * difference.square().sum(-1)).sqrt()


@numpy_too
def ensemble_disagreement(logits: Float[Tensor, "members *batch outcomes"]) -> Float[Tensor, "*batch"]:
    """Mutual information of outcome and ensemble member (BALD): H(mean p) - mean H(p), from logits, >= 0."""
    log_members = _log_softmax(logits)
    mean = torch.logsumexp(log_members, 0) - math.log(len(logits))
    return (entropy(mean) - entropy(logits).mean(0)).clamp(min=0.0)


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _expected(p: Tensor, values: Tensor) -> Tensor:
    log_p = _log_softmax(p)
    return (log_p.exp() * torch.where(log_p == -torch.inf, 0.0, values)).sum(-1)
