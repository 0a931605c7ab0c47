"""Train on the answers and tokens that carry the signal: D3S, dynamic dual-level down-sampling.

Of each group keep the answers whose advantages vary most; of all those, again; then of their tokens the ones with the
largest |A| H. Advantages are those of the full groups and are not normalised again, so that groups without signal drop
out. The kept share grows as training goes on. What is saved is the update, not the sampling.

The subset of n values with the largest variance consists of some of the smallest and some of the largest, so that
sorting and one pass over prefix sums find it.

Source: Learning More with Less (2025), arXiv 2509.22115. The shares are ours: the paper's were not published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import require, require_between
from hartley.rl.rollouts import Rollouts


def max_variance_subset(values: Float[Tensor, "total"], n: int) -> Int[Tensor, "n"]:
    """Indices, rising, of the n values with the largest variance; exact, in O(total log total).

    Of equally good subsets the one with the fewest small values; equal values are taken in their order, the small ones
    from the front, the large ones from the back.

    Raises
    ------
    ValueError : n outside 0 ... total, or values that are not finite.
    """
    total = len(values)
    require(0 <= n <= total, "n", n, f"0 to {total}")
    require(bool(values.isfinite().all()), "values", values, "finite numbers")
    order = values.argsort(stable=True)
    x = values.double()[order]
    x = x - x.mean() if total else x  # variances of the splits are differences of sums: keep those small
    zero = x.new_zeros(1)
    sums, squares = torch.cat([zero, x.cumsum(0)]), torch.cat([zero, x.square().cumsum(0)])
    low = torch.arange(n + 1, device=x.device)
    high = total - n + low  # the rest starts here
    first = sums[low] + sums[total] - sums[high]
    second = squares[low] + squares[total] - squares[high]
    spread = second - first.square() / max(n, 1)
    best = int((spread >= spread.max() * (1 - 1e-12)).int().argmax())
    return torch.cat([order[:best], order[total - n + best :]]).sort().values


def downsample(
    advantages: Float[Tensor, "batch"], group: Int[Tensor, "batch"], *, keep_in_group: int, keep_total: int
) -> Int[Tensor, "kept"]:
    """Indices of the answers to train on: largest variance within each group, then across all of them.

    Parameters
    ----------
    advantages : normalised over the full groups.
    keep_in_group, keep_total : as many as there are, if there are fewer.
    """
    require(keep_in_group >= 1, "keep_in_group", keep_in_group, "at least 1")
    require(keep_total >= 1, "keep_total", keep_total, "at least 1")
    parts = []
    for number in torch.unique(group):
        inside = (group == number).nonzero().flatten()
        parts.append(inside[max_variance_subset(advantages[inside], min(keep_in_group, len(inside)))])
    union = torch.cat(parts) if parts else group.new_zeros(0)
    return union[max_variance_subset(advantages[union], min(keep_total, len(union)))].sort().values


def token_keep_mask(
    advantages: Float[Tensor, "batch time"],
    entropy: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    keep: float,
) -> Bool[Tensor, "batch time"]:
    """The share `keep` of the masked tokens with the largest |A| H, at least one if there is one.

    Tokens that are certain have |A| H = 0: of a large share, many may be of no use.
    """
    require_between("keep", keep, 0, 1, closed="both")
    total = int(mask.sum())
    if total == 0:
        return torch.zeros_like(mask)
    count = max(1, math.floor(keep * total))
    key = torch.where(mask, advantages.abs() * entropy, -torch.inf).flatten()
    kept = torch.zeros_like(mask).flatten()
    kept[key.topk(count).indices] = True
    return kept.view_as(mask) & mask


@dataclass(frozen=True)
class DualDownSampling:
    """The stage `select`: `downsample`, then `token_keep_mask`; the shares move linearly from start to end.

    Parameters
    ----------
    answers, tokens : share kept at the start and at the end of training.
    first_cut : how many times the final share of answers each group may keep before they are compared across groups;
        None leaves the first cut out.
    across : False skips the comparison across groups: each keeps its own share.
    """

    answers: tuple[float, float] = (0.25, 0.75)
    tokens: tuple[float, float] = (0.2, 1.0)
    first_cut: float | None = 2.0
    across: bool = True

    needs = ("entropy",)

    def __post_init__(self) -> None:
        for name in ("answers", "tokens"):
            for share in getattr(self, name):
                require_between(name, share, 0, 1, closed="right")

    def __call__(self, rollouts: Rollouts, advantages: Float[Tensor, "batch time"]) -> Bool[Tensor, "batch time"]:
        share, tokens = (a + rollouts.progress * (b - a) for a, b in (self.answers, self.tokens))
        batch, groups = len(rollouts.group), len(torch.unique(rollouts.group))
        size = batch / max(groups, 1)
        within = size if self.first_cut is None else min(size, self.first_cut * share * size)
        if not self.across:
            within = share * size
        signal = advantages.sum(1) / rollouts.lengths.clamp(min=1)
        # A variance needs two answers.
        kept = downsample(
            signal,
            rollouts.group,
            keep_in_group=max(2, round(within)),
            keep_total=max(2, round(share * batch)) if self.across else batch,
        )
        rows = torch.zeros_like(rollouts.mask)
        rows[kept] = True
        return token_keep_mask(advantages, rollouts.entropy, rollouts.mask & rows, tokens)
