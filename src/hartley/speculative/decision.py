"""What a verifier decides, how it is carried out, and the exact law that comes out of it.

Given the drafts, a verifier is a law over what to emit: draft i with probability ``emit[i]``, otherwise a token drawn
from a residual row. Keeping that law apart from the coin flips makes one sampler serve all verifiers, and makes
losslessness a sum that tests compute: over all drafts, probability of the drafts times the output law is p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import require
from hartley.speculative.draft import Draft, check_rows, draw


@dataclass(frozen=True)
class Decision:
    """The law of the emitted token given the drafts.

    Attributes
    ----------
    emit : probability that each draft is the one that is emitted; the rest of the mass is the residual's.
    residual : rows (indices into the batch) -> weights, not normalised, from which those rows emit otherwise.
        A function, because most rows never need it.
    """

    emit: Float[Tensor, "batch drafts"]
    residual: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Verdict:
    """What was emitted at one position.

    Attributes
    ----------
    token : the emitted token; its law, over drafts and coin flips, is exactly p.
    survivors : live drafts that equal the token: their continuations remain valid drafts.
    """

    token: Int[Tensor, " batch"]
    survivors: Bool[Tensor, "batch drafts"]

    @property
    def accepted(self) -> Bool[Tensor, " batch"]:
        """Rows whose emitted token was among the drafts."""
        return self.survivors.any(-1)


Verifier = Callable[[Float[Tensor, "batch vocab"], Draft], Decision]
"""`(p, draft) -> Decision`: what every verifier of this room is."""


def check_target(p: Float[Tensor, "batch vocab"], draft: Draft) -> Float[Tensor, "batch vocab"]:
    """Rows of the target in float64, of the draft's shape.

    Raises
    ------
    ValueError : another number of rows or tokens than the draft's q, or rows that are no probabilities.
    """
    require(
        p.shape == draft.q.shape,
        "p",
        tuple(p.shape),
        f"the shape of q, {tuple(draft.q.shape)}; cut padded vocabularies to the common tokens before the softmax",
    )
    return check_rows("p", p)


def verify(
    p: Float[Tensor, "batch vocab"], draft: Draft, verifier: Verifier, generator: torch.Generator | None = None
) -> Verdict:
    """Emit one token a row: distributed as p whatever the draft model, and one of the drafts as often as it can be.

    Parameters
    ----------
    p : target rows, shaped by the same temperature and truncation that the user wants in the output.
    draft : candidates with the law that they were drawn from.
    verifier : `single`, `recursive_rejection`, `kseq`, `greedy`, `optimal`, or your own.

    Raises
    ------
    ValueError : rows that are no probabilities, shapes that differ, or a verifier that cannot serve the draft's law.
    """
    decision = verifier(p, draft)
    ahead = decision.emit.cumsum(-1)
    u = torch.rand(len(ahead), 1, dtype=ahead.dtype, device=ahead.device, generator=generator)
    chosen = (ahead <= u).sum(-1)
    rejected = (chosen == ahead.shape[-1]).nonzero().squeeze(-1)
    token = draft.tokens.gather(-1, chosen.clamp_max(ahead.shape[-1] - 1).unsqueeze(-1)).squeeze(-1)
    if len(rejected):
        drawn = draw(decision.residual(rejected), 1, generator)
        # A row whose emit sums to 1 - 1e-16 may land here with nothing left: then its likeliest draft stands.
        likeliest = draft.tokens[rejected].gather(-1, decision.emit[rejected].argmax(-1, keepdim=True))
        token[rejected] = torch.where(drawn < p.shape[-1], drawn, likeliest).squeeze(-1)
    return Verdict(token, draft.mask & (draft.tokens == token.unsqueeze(-1)))


def output_law(decision: Decision, draft: Draft) -> Float[Tensor, "batch vocab"]:
    """Exact law of the emitted token given the drafts: what `verify` samples from."""
    weights = decision.residual(torch.arange(len(draft.q), device=draft.q.device))
    total = weights.sum(-1, keepdim=True)
    rest = (1 - decision.emit.sum(-1, keepdim=True)).clamp_min(0)
    return (rest * weights / torch.where(total > 0, total, 1.0)).scatter_add(-1, draft.tokens, decision.emit)
