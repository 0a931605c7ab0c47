"""Greedy drafts: the most probable tokens of q and one random draw, with the verifier that is optimal for them.

T is the set of the n - 1 most probable tokens of q and q~ the law q restricted to the others. The last draft x ~ q~ is
accepted with probability min(1, p(x)/q~(x)); otherwise the output is drawn from norm(p - min(p, q~)), where T keeps its
whole mass, and a token of T so drawn was drafted too. Accepted in all: p(T) + Σ min(p, q~) outside T.

Source: Hu et al. (2025), "Towards Optimal Multi-draft Speculative Decoding". n = 1 is ordinary speculative decoding.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hartley.checks import require
from hartley.speculative.decision import Decision, check_target
from hartley.speculative.draft import Draft, split_greedy


def greedy(p: Float[Tensor, "batch vocab"], draft: Draft) -> Decision:
    """The exact verifier of greedy drafts; it attains `optimal_acceptance(..., law="greedy")`.

    Raises
    ------
    ValueError : drafts of another law, or whose first n - 1 tokens are not the most probable ones of q.

    When not to use: at high temperature with many drafts, where drawing all of them covers more (see the book).
    """
    p = check_target(p, draft)
    require(draft.law == "greedy", "law", draft.law, '"greedy": draw drafts by Draft.sample(q, n, "greedy")')
    n = draft.tokens.shape[-1]
    top, rest = split_greedy(draft.q, n)
    require(
        bool((top == draft.tokens[:, :-1]).all()), "tokens", draft.tokens.tolist(), "q's most probable tokens first"
    )
    last, alive = draft.tokens[:, -1:], draft.mask[:, -1:]
    drawn = rest.gather(-1, last)
    accept = torch.where(alive, (p.gather(-1, last) / torch.where(alive, drawn, 1.0)).clamp_max(1.0), 0.0)
    left = torch.where(alive, (p - rest).clamp_min(0), p)  # zero total only where p = q~, and then nothing is rejected
    total = left.sum(-1, keepdim=True)
    from_top = (1 - accept) * left.gather(-1, top) / torch.where(total > 0, total, 1.0)
    others = left.scatter(-1, top, 0.0)
    return Decision(torch.cat([from_top, accept], -1), lambda rows: others[rows])
