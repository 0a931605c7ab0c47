"""Drafts at one position, together with the law they were drawn from.

Every broken promise of losslessness that we know of starts with a draft sampled from one law and verified against
another: the ratio p/q uses a q without the draft's temperature, top-p or padding. Here a verifier never receives
q and tokens apart: a `Draft` carries the rows it was drawn from and the way it was drawn.

Laws of n drafts, given a row q:

- ``"with"``: independent draws (SpecTr, SpecInfer). Duplicates carry probability and are kept.
- ``"without"``: one after the other without replacement, as `torch.multinomial(replacement=False)`, Gumbel-top-n,
  RSD and Sequoia do; the order of the drafts is the order of the draws.
- ``"greedy"``: the n - 1 most probable tokens (ties by lowest id), then one draw from the rest of q.
- ``"rejective"``: n independent draws, repeated until they are distinct; only analysed, never drawn here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numba import njit
from torch import Tensor

from hartley.checks import require

Law = Literal["with", "without", "greedy"]
LAWS: tuple[Law, ...] = ("with", "without", "greedy")


def check_rows(name: str, rows: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Probability rows in float64 that sum to one.

    Rows of low precision sum to one only roughly (bf16 rows are off by a per cent); they are renormalised, which is
    also what sampling from them does. Rows that are off by more than their precision explains are refused.

    Raises
    ------
    ValueError : an empty vocabulary, negative or NaN entries, or a sum too far from one.
    """
    require(rows.shape[-1] > 0, name, tuple(rows.shape), "a vocabulary of at least one token")
    tolerance = 1e-4 if rows.dtype in (torch.float32, torch.float64) else 2e-2
    rows = rows.double()
    if rows.device.type == "cpu":
        negative, error = _inspect(rows.detach().reshape(-1, rows.shape[-1]).numpy())
    else:
        negative = bool((rows < 0).any())
        error = float((rows.sum(-1) - 1).abs().max()) if rows.numel() else 0.0
    require(not negative and error == error, name, "rows with negative or NaN entries", "probabilities")
    require(error <= tolerance, name, f"rows that sum to one within {error:.2g}", f"sums within {tolerance:g} of one")
    return rows if error < 1e-12 else rows / rows.sum(-1, keepdim=True)


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
@no_type_check
def _inspect(rows):
    """Whether an entry is negative, and the largest distance of a row's sum from one: NaN if any entry is."""
    worst, least = 0.0, 0.0
    for row in range(len(rows)):
        values, total, below = rows[row], 0.0, 0.0
        for j in range(len(values)):
            total += values[j]
            below += min(values[j], 0.0)
        least = min(least, below)
        error = abs(total - 1)
        worst = error if error > worst or error != error else worst
        if worst != worst:
            break
    return least < 0, worst


def draw(
    weights: Float[Tensor, "batch vocab"], n: int, generator: torch.Generator | None = None
) -> Int[Tensor, "batch n"]:
    """`n` independent draws a row with probability proportional to `weights`; a zero weight is never drawn.

    Rows without any weight give the vocabulary's size, which is no token.
    """
    u = torch.rand(weights.shape[0], n, dtype=weights.dtype, device=weights.device, generator=generator)
    if weights.device.type == "cpu" and weights.dtype == torch.float64:
        return torch.from_numpy(_draw(weights.detach().contiguous().numpy(), u.numpy()))
    cumulative = weights.cumsum(-1)
    total = cumulative[:, -1:]
    return torch.searchsorted(cumulative, torch.minimum(u * total, total.nextafter(-total)), right=True)


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
@no_type_check
def _total(weights):
    total = 0.0
    for j in range(len(weights)):
        total += weights[j]
    return total


@njit(cache=True, nogil=True)
@no_type_check
def _draw(weights, u):
    """Inversion through sums of blocks, so that no row of cumulative weights is written."""
    rows, vocab = weights.shape
    drawn = np.full(u.shape, vocab)
    block = 512
    sums = np.empty(-(-vocab // block))
    for row in range(rows):
        w = weights[row]
        for b in range(len(sums)):
            sums[b] = _total(w[b * block : (b + 1) * block])
        total = sums.sum()
        for i in range(u.shape[1]):
            if not total > 0:
                continue
            b, before = 0, 0.0
            while b < len(sums) - 1 and before + sums[b] <= u[row, i] * total:
                before += sums[b]
                b += 1
            # Rounding may leave the last block short of the draw: then its last possible token, or one before it.
            while b > 0 and sums[b] == 0:
                b -= 1
            for token in range(b * block, min((b + 1) * block, vocab)):
                if w[token] > 0:
                    before += w[token]
                    drawn[row, i] = token
                    if before > u[row, i] * total:
                        break
    return drawn


def split_greedy(
    q: Float[Tensor, "batch vocab"], n: int
) -> tuple[Int[Tensor, "batch top"], Float[Tensor, "batch vocab"]]:
    """The n - 1 most probable tokens of q (ties by lowest id), and q on all others, renormalised.

    The second is zero everywhere where the top tokens hold all of q's mass.
    """
    rest, top = q, []
    for _ in range(n - 1):  # argmax takes the first of equals, topk any
        top.append(rest.argmax(-1, keepdim=True))
        rest = rest.scatter(-1, top[-1], -1.0)
    rest = rest.clamp_min(0)
    tokens = torch.cat(top, -1) if top else q.new_zeros(len(q), 0, dtype=torch.long)
    return tokens, rest / rest.sum(-1, keepdim=True).clamp_min(torch.finfo(q.dtype).tiny)


@dataclass(frozen=True)
class Draft:
    """Candidates for one position and what is needed to verify them.

    Attributes
    ----------
    tokens : candidate ids, in the order in which they were drawn.
    q : the law they were drawn from: after temperature, truncation and whatever else shaped it.
    law : how they were drawn from q.
    alive : which candidates count; the others are padding (rows with fewer drafts, drafts of another prefix). Under
        the greedy law the draft that was drawn stands in the last column, dead or alive.
    """

    tokens: Int[Tensor, "batch drafts"]
    q: Float[Tensor, "batch vocab"]
    law: Law = "with"
    alive: Bool[Tensor, "batch drafts"] | None = None

    def __post_init__(self) -> None:
        require(self.law in LAWS, "law", self.law, f"one of {LAWS}")
        require(self.tokens.shape[-1] > 0, "tokens", tuple(self.tokens.shape), "at least one draft")
        require(
            self.tokens.shape[0] == self.q.shape[0], "tokens", tuple(self.tokens.shape), f"{self.q.shape[0]} rows, as q"
        )
        object.__setattr__(self, "q", check_rows("q", self.q))
        if self.alive is None:
            object.__setattr__(self, "alive", torch.ones_like(self.tokens, dtype=torch.bool))
        inside = (self.tokens >= 0) & (self.tokens < self.q.shape[-1])
        require(bool(inside.all()), "tokens", self.tokens.tolist(), f"ids in [0, {self.q.shape[-1]})")
        if self.law != "with":
            equal = self.tokens.unsqueeze(-1) == self.tokens.unsqueeze(-2)
            both = (self.mask.unsqueeze(-1) & self.mask.unsqueeze(-2)).triu(1)
            require(
                not bool((equal.triu(1) & both).any()), "tokens", self.tokens.tolist(), f"no repeats, law {self.law!r}"
            )
        drawn = self.q.gather(-1, self.tokens) > 0
        if self.law == "greedy":
            drawn[:, :-1] = True  # only the last is drawn
        require(
            bool((drawn | ~self.mask).all()),
            "tokens",
            self.tokens[~drawn & self.mask].tolist(),
            "drafts with q > 0: these were not drawn from q",
        )

    @property
    def mask(self) -> Bool[Tensor, "batch drafts"]:
        """`alive`, never None."""
        assert self.alive is not None
        return self.alive

    @property
    def count(self) -> Int[Tensor, " batch"]:
        """Number of live drafts in each row."""
        return self.mask.sum(-1)

    @classmethod
    def sample(
        cls,
        q: Float[Tensor, "batch vocab"],
        n: int,
        law: Law = "with",
        generator: torch.Generator | None = None,
    ) -> Draft:
        """Draw `n` drafts a row by `law`.

        Where q has fewer than n tokens, the laws without repetition draw what there is and mark the rest dead.

        Raises
        ------
        ValueError : n < 1, n above the vocabulary for a law without repetition, or rows that are no probabilities.
        """
        q = check_rows("q", q)
        require(n >= 1, "n", n, "at least one draft")
        require(law in LAWS, "law", law, f"one of {LAWS}")
        if law == "with":
            return cls(draw(q, n, generator), q, law)
        require(n <= q.shape[-1], "n", n, f"at most the vocabulary ({q.shape[-1]}) for law {law!r}")
        if law == "without":
            race = torch.empty_like(q).exponential_(generator=generator)
            winners = (q / race).topk(n, sorted=True)
            return cls(winners.indices, q, law, winners.values > 0)
        top, rest = split_greedy(q, n)
        possible = rest.sum(-1, keepdim=True) > 0
        final = draw(rest, 1, generator).clamp_max(q.shape[-1] - 1)
        alive = torch.cat([torch.ones_like(top, dtype=torch.bool), possible], -1)
        return cls(torch.cat([top, final], -1), q, law, alive)
