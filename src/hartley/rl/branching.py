"""Where to continue an answer once more: before one of its most uncertain tokens.

CURE samples a part of each group from the prompt, cuts every answer right before a critical token, one of its `top_k`
most uncertain, and samples the rest anew. The copied prefix is context, not target: it is masked. All answers to a
prompt, whole or continued, are one group.

The answers of a group are then no independent draws given the prompt: their mean reward estimates the value of a
mixture of the prompt and its own prefixes.

Source: CURE (2025), arXiv 2508.11016, with the constants of the release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import require
from hartley.rl.rollouts import Rollouts


def critical_positions(
    entropy: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    *,
    top_k: int = 20,
    branchable: Bool[Tensor, "batch time"] | None = None,
    order: Literal["entropy", "random"] = "entropy",
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch"]:
    """A position of each answer, uniform among its `top_k` most uncertain ones.

    Parameters
    ----------
    mask : positions of the answer. Its first one is no candidate: cutting there would sample from the prompt.
    top_k : relative to the length of the answers; 20 of 2600 in the paper, the upper percent.
    branchable : positions that may be chosen, by default all: leave out punctuation and special tokens.
    order : "random" takes any `top_k` candidates: the control that tells whether entropy matters.

    Returns
    -------
    The position of the token to be sampled anew, 0 where there is no candidate.

    Raises
    ------
    ValueError : top_k below 1, or an unknown order.
    """
    require(top_k >= 1, "top_k", top_k, "at least 1")
    require(order in ("entropy", "random"), "order", order, "'entropy' or 'random'")
    batch, time = entropy.shape
    candidates = mask.clone() if branchable is None else mask & branchable
    candidates[:, :1] = False
    draws = torch.rand(batch, time + 1, generator=generator, device=None if generator is None else generator.device)
    draws = draws.to(entropy.device)
    score = torch.where(candidates, entropy if order == "entropy" else draws[:, :time].to(entropy), -torch.inf)
    count = candidates.sum(-1).clamp(max=top_k)
    place = (draws[:, time] * count).long().clamp(max=(count - 1).clamp(min=0))  # uniform among the best `count`
    ranked = score.argsort(stable=True, dim=-1, descending=True)
    if time == 0:
        return count
    return torch.where(count > 0, ranked.gather(-1, place[:, None]).squeeze(-1), 0)


@dataclass(frozen=True)
class CriticalTokens:
    """The stage `branching`: `critical_positions` of every answer, `branches` continuations each.

    Parameters
    ----------
    exclude : ids of tokens that are never cut at, such as end-of-text; CURE leaves out those of at most one character.
    """

    branches: int = 3
    top_k: int = 20
    order: Literal["entropy", "random"] = "entropy"
    exclude: frozenset[int] = frozenset()

    needs = ("entropy",)

    def __post_init__(self) -> None:
        require(self.branches >= 1, "branches", self.branches, "at least 1 continuation an answer")

    def __call__(self, rollouts: Rollouts, generator: torch.Generator) -> Int[Tensor, "batch"]:
        excluded = torch.tensor(sorted(self.exclude), dtype=rollouts.ids.dtype, device=rollouts.ids.device)
        return critical_positions(
            rollouts.entropy,
            rollouts.mask,
            top_k=self.top_k,
            branchable=~torch.isin(rollouts.ids, excluded),
            order=self.order,
            generator=generator,
        )
