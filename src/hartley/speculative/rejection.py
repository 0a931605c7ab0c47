"""Rejection against a residual: one draft after the other is tried, and the target shrinks with each rejection.

    r_1 = p;   accept x_i with probability min(1, r_i(x_i) / q_i(x_i));   r_{i+1} = norm((r_i - q_i)_+)

With independent drafts q_i = q (RRS: SpecInfer); without replacement q_i is q without the rejected tokens,
renormalised (RRSw: RSD, Sequoia). One draft is ordinary speculative decoding (Leviathan et al. 2023, Chen et al. 2023),
the best that one draft can do; with several, both stay below their optimum (see `optimum`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hartley.checks import require
from hartley.speculative.decision import Decision, check_target
from hartley.speculative.draft import Draft


def single(p: Float[Tensor, "batch vocab"], draft: Draft) -> Decision:
    """Ordinary speculative decoding: the first live draft is tried, the others are ignored.

    Raises
    ------
    ValueError : drafts of law "greedy", whose first token is not a draw from q.
    """
    first = draft.mask & (draft.mask.cumsum(-1) == 1)
    return recursive_rejection(p, Draft(draft.tokens, draft.q, draft.law, first))


def recursive_rejection(p: Float[Tensor, "batch vocab"], draft: Draft) -> Decision:
    """Recursive rejection, with or without replacement as the draft's law says. O(drafts · vocab).

    Raises
    ------
    ValueError : drafts of law "greedy" with more than one draft.

    When not to use: with independent drafts `kseq` accepts more at the same cost, `optimal` as much as can be.
    """
    p = check_target(p, draft)
    _, n = draft.tokens.shape
    require(draft.law != "greedy" or n == 1, "law", draft.law, 'drafts of law "with" or "without"')
    residual, q = p, draft.q
    emit = torch.zeros(draft.tokens.shape, dtype=p.dtype, device=p.device)
    stay = torch.ones(len(p), 1, dtype=p.dtype, device=p.device)
    for i in range(n):
        token, alive = draft.tokens[:, i : i + 1], draft.mask[:, i : i + 1]
        drawn = q.gather(-1, token)
        accept = torch.where(alive, (residual.gather(-1, token) / drawn).clamp_max(1.0), 0.0)
        emit[:, i : i + 1] = stay * accept
        stay = stay * (1 - accept)
        residual = torch.where(alive, _normalised((residual - q).clamp_min(0), residual), residual)
        if draft.law == "without" and i + 1 < n:
            q = torch.where(alive, _normalised(q.scatter(-1, token, 0.0), q), q)
    return Decision(emit, lambda rows: residual[rows])


def _normalised(weights: Tensor, otherwise: Tensor) -> Tensor:
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), otherwise)
