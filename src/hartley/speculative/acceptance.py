"""Exact acceptance of every verifier, from the rows alone: no sampling, no text.

Compare with `optimal_acceptance` of the same draft law: the difference is what a better verifier could still gain.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hartley.checks import require
from hartley.speculative.draft import check_rows, draw
from hartley.speculative.kseq import kseq_rho
from hartley.speculative.optimum import optimal_acceptance

VerifierName = Literal["single", "rrs", "rrsw", "kseq", "optimal", "greedy"]


def acceptance(
    p: Float[Tensor, "*batch vocab"],
    q: Float[Tensor, "*batch vocab"],
    n: int,
    verifier: VerifierName,
    *,
    draws: int = 0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch"]:
    """Probability that the emitted token is one of `n` drafts, under a verifier and the draft law it serves.

    Parameters
    ----------
    verifier : "single" (the first draft only), "rrs" and "rrsw" (recursive rejection with and without replacement),
        "kseq", "optimal" (both with replacement), "greedy" (greedy drafts).
    draws : for "rrsw" with n > 1, whose acceptance depends on which tokens were rejected: 0 sums over all of them
        (O(vocab^n)), otherwise the mean of so many random paths a row, unbiased.

    Raises
    ------
    ValueError : rows that are no probabilities or differ in shape, n < 1, an unknown verifier, draws < 0.
    """
    require(p.shape == q.shape, "q", tuple(q.shape), f"the shape of p, {tuple(p.shape)}")
    require(n >= 1, "n", n, "at least one draft")
    require(draws >= 0, "draws", draws, "0 (exact) or more")
    batch, vocab = p.shape[:-1], p.shape[-1]
    p, q = check_rows("p", p).reshape(-1, vocab), check_rows("q", q).reshape(-1, vocab)
    if verifier == "single":
        found = torch.minimum(p, q).sum(-1)
    elif verifier == "kseq":
        _, beta = kseq_rho(p, q, torch.full((len(p),), n, device=p.device))
        found = 1 - (1 - beta).clamp_min(0) ** n
    elif verifier == "optimal":
        found = optimal_acceptance(p, q, n)
    elif verifier == "greedy":
        found = optimal_acceptance(p, q, n, "greedy")
    elif verifier == "rrs":
        found = _recursive(p, q, n)
    else:
        require(verifier == "rrsw", "verifier", verifier, "single, rrs, rrsw, kseq, optimal or greedy")
        if draws:
            paths = _one_path(p.repeat_interleave(draws, 0), q.repeat_interleave(draws, 0), n, generator)
            found = paths.reshape(-1, draws).mean(-1)
        else:
            found = _all_paths(p, q, n)
    return found.reshape(batch)


def _recursive(p: Tensor, q: Tensor, n: int) -> Tensor:
    stay = torch.ones_like(p[:, 0])
    for _ in range(n):
        stay = stay * (1 - torch.minimum(p, q).sum(-1)).clamp_min(0)
        p = _rest(p, q)
    return 1 - stay


def _one_path(p: Tensor, q: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    stay, found = torch.ones_like(p[:, 0]), torch.zeros_like(p[:, 0])
    for i in range(n):
        both = torch.minimum(p, q)
        accept = both.sum(-1).clamp_max(1.0)
        found += stay * accept
        stay = stay * (1 - accept)
        if i + 1 < n:
            refused = q - both
            token = draw(refused, 1, generator).clamp_max(p.shape[-1] - 1)  # any token where nothing is refused
            p, q = _rest(p, q), _without(q, token)
    return found


def _all_paths(p: Tensor, q: Tensor, n: int) -> Tensor:
    both = torch.minimum(p, q)
    found = both.sum(-1)
    if n > 1:
        rest, refused = _rest(p, q), q - both
        for token in range(p.shape[-1]):
            column = torch.full((len(p), 1), token, device=p.device)
            found = found + refused[:, token] * _all_paths(rest, _without(q, column), n - 1)
    return found


def _rest(p: Tensor, q: Tensor) -> Tensor:
    left = (p - q).clamp_min(0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / torch.where(total > 0, total, 1.0), p)


def _without(q: Tensor, token: Tensor) -> Tensor:
    left = q.scatter(-1, token, 0.0)  # zero everywhere if there is nothing left to draw
    return left / left.sum(-1, keepdim=True).clamp_min(torch.finfo(q.dtype).tiny)
