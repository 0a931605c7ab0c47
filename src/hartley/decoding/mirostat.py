"""Mirostat: hold the surprise of generated text at a target, by feedback on the truncation.

Surprise of token i in **bits**: S_i = -log2 p_i under the untruncated distribution. Each sequence carries a bound mu,
2 tau at first; candidates are chosen from mu, a token X is drawn, and

    mu <- mu - eta (S_X - tau)

Summing the update: mean S = tau + (mu_0 - mu_T) / (eta T), exactly. The mean thus reaches tau if mu stays bounded. It
does not where tau is out of reach: below the surprise of the mode mu falls without end, above what untruncated sampling
gives it rises without end and nothing is truncated at all. `mu_range` stops either.

Version 2 keeps {S_i <= mu}: a threshold on the logits. Version 1 estimates the exponent s of Zipf's law from the
likeliest tokens and keeps the k likeliest, k being the rank at which Zipf's surprise is mu.

Source: Basu, Ramachandran, Keskar, Varshney (2021), Algorithms 1 and 2. llama.cpp feeds back the surprise under the
truncated and renormalised distribution; that controls another quantity and is `surprise="renormalized"`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor

from hartley.checks import require
from hartley.decoding.bands import Band, check_logits, kept_statistics, sample_band
from hartley.decoding.truncation import top_k_threshold
from hartley.measures import row_statistics
from hartley.measures._moments import over_rows, row_maximum, row_moments

Surprise = Literal["model", "renormalized"]
_BITS = 1 / math.log(2)


@dataclass(frozen=True)
class MirostatState:
    """One bound a sequence.

    Attributes
    ----------
    mu : bound on the surprise, in bits.
    surprise : of the token drawn last, in bits; NaN before the first.
    """

    mu: Float[Tensor, "batch"]
    surprise: Float[Tensor, "batch"]

    def permute(self, order: Int[Tensor, "new"]) -> MirostatState:
        """The states of sequences `order`, for a batch that was reordered or thinned."""
        return MirostatState(self.mu[order], self.surprise[order])


def mirostat_threshold(
    logits: Float[Tensor, "*batch vocab"],
    mu: Float[Tensor, "*batch"],
    *,
    version: Literal[1, 2] = 2,
    m: int = 100,
) -> Band:
    """Threshold for the surprise bound mu, in bits. The mode is always kept.

    Parameters
    ----------
    logits : already divided by the temperature; what is controlled is the surprise under them.
    mu : finite or infinite.
    version : 2 bounds the surprise itself, 1 goes through Zipf's law.
    m : number of probability ratios from which version 1 estimates the exponent.

    Raises
    ------
    ValueError : unknown version, m below 1, or a row without a finite maximum.
    """
    require(version in (1, 2), "version", version, "1 or 2")
    require(m >= 1, "m", m, "at least 1")
    return _threshold(logits, mu, version, m)[0]


def _threshold(logits: Tensor, mu: Tensor, version: int, m: int) -> tuple[Band, Tensor]:
    """The band, and the log-partition that the surprise of a token needs."""
    work = torch.promote_types(logits.dtype, torch.float32)
    if logits.device.type == "cpu" and work == torch.float32 and not logits.requires_grad:
        flat, batch = logits.reshape(-1, logits.shape[-1]), logits.shape[:-1]
        found = np.empty((2, len(flat)), np.float32)
        bound = mu.detach().double().reshape(-1).numpy() / _BITS
        over_rows(flat, lambda z, rows: _threshold_rows(z, bound[rows], found[:, rows]))
        low, log_partition = (torch.from_numpy(numbers).reshape(batch) for numbers in found)
        check_logits(log_partition, logits)
    else:
        stats = row_statistics(logits)
        check_logits(stats.log_partition - stats.maximum, logits)
        low = torch.minimum(stats.log_partition - mu.to(work) / _BITS, stats.maximum)
        log_partition = stats.log_partition
    if version == 1:
        exponent = zipf_exponent(logits, m)
        k = zipf_rank(exponent, mu.to(exponent.dtype), logits.shape[-1])
        low = torch.where(exponent > 0, top_k_threshold(logits, k).low, low)
    return Band.above(low), log_partition


@njit(cache=True, nogil=True)
@no_type_check
def _threshold_rows(logits, bound, found):
    for row in range(logits.shape[0]):
        top = row_maximum(logits[row])
        log_partition, _, _ = row_moments(logits[row], top, np.float32(1.0))
        found[0, row] = min(np.float32(log_partition - bound[row]), top)
        found[1, row] = log_partition


def zipf_exponent(logits: Float[Tensor, "*batch vocab"], m: int = 100) -> Float[Tensor, "*batch"]:
    """Least-squares exponent s of p_(i) ~ i^-s from the m ratios of the m + 1 likeliest tokens.

    s = sum t_i b_i / sum t_i^2 with t_i = log((i+1)/i), b_i = log(p_(i)/p_(i+1)); ratios to a probability of zero are
    left out. 0 where no ratio is left.
    """
    head = logits.topk(min(m + 1, logits.shape[-1]), -1).values.to(torch.float64)
    finite = head[..., 1:] > -torch.inf
    b = torch.where(finite, head[..., :-1] - torch.where(finite, head[..., 1:], 0.0), 0.0)
    ranks = torch.arange(1, b.shape[-1] + 1, dtype=torch.float64, device=logits.device)
    t = torch.log1p(1 / ranks).expand_as(b) * finite
    return (t * b).sum(-1) / t.square().sum(-1).clamp(min=1e-300)


def zipf_rank(exponent: Float[Tensor, "*batch"], mu: Float[Tensor, "*batch"], vocab: int) -> Int[Tensor, "*batch"]:
    """Rank k = (eps 2^mu / (1 - N^-eps))^(1/s), eps = s - 1, at which Zipf's law over N outcomes has surprise mu bits.

    Computed through logarithms, rounded and clamped to [1, N]; at s = 1 the limit 2^mu / log N.
    """
    eps = exponent - 1
    small = eps.abs() < 1e-7
    safe = torch.where(small, 1.0, eps)
    # -expm1(-eps log N) / eps is the integral of x^-s over [1, N]: positive on both sides of s = 1.
    log_norm = torch.where(
        small, math.log(max(math.log(vocab), 1e-300)), (-torch.expm1(-safe * math.log(vocab)) / safe).log()
    )
    log_k = (mu / _BITS - log_norm) / torch.where(exponent > 0, exponent, 1.0)
    return log_k.clamp(0.0, math.log(vocab)).exp().round().long().clamp(1, vocab)


def mirostat_update(
    mu: Float[Tensor, "*batch"],
    surprise: Float[Tensor, "*batch"],
    tau: float = 3.0,
    eta: float = 1.0,
    mu_range: tuple[float, float] | None = None,
) -> Float[Tensor, "*batch"]:
    """mu - eta (surprise - tau), all in bits, kept inside `mu_range` if one is given ((0, log2 vocabulary) is safe)."""
    new = mu - eta * (surprise - tau)
    return new if mu_range is None else new.clamp(*mu_range)


class Mirostat:
    """A sampler with memory: `step` draws one token a sequence and moves every bound.

    Parameters
    ----------
    tau : target surprise, bits a token. Instruction-tuned models rarely reach 5 untruncated; 3 suits most texts.
    eta : step of the feedback; the average reaches tau at rate 1 / (eta T).
    version, m : see `mirostat_threshold`.
    surprise : "model" (paper) or "renormalized" (llama.cpp) feeds back.
    mu_range : bounds of mu in bits, against wind-up when tau cannot be reached.
    """

    def __init__(
        self,
        tau: float = 3.0,
        eta: float = 1.0,
        *,
        version: Literal[1, 2] = 2,
        m: int = 100,
        surprise: Surprise = "model",
        mu_range: tuple[float, float] | None = None,
    ) -> None:
        require(tau > 0 and math.isfinite(tau), "tau", tau, "a positive number of bits")
        require(eta > 0 and math.isfinite(eta), "eta", eta, "a positive number")
        require(version in (1, 2), "version", version, "1 or 2")
        require(m >= 1, "m", m, "at least 1")
        require(surprise in ("model", "renormalized"), "surprise", surprise, '"model" or "renormalized"')
        require(mu_range is None or mu_range[0] < mu_range[1], "mu_range", mu_range, "(low, high) with low < high")
        self.tau, self.eta, self.version, self.m = tau, eta, version, m
        self.surprise, self.mu_range = surprise, mu_range
        self.state: MirostatState | None = None

    def reset(self, batch: int, device: torch.device | str | None = None) -> None:
        """Forget: `batch` new sequences, mu = 2 tau."""
        mu = torch.full((batch,), 2 * self.tau, dtype=torch.float64, device=device)
        self.state = MirostatState(mu, torch.full_like(mu, torch.nan))

    def threshold(self, logits: Float[Tensor, "batch vocab"]) -> tuple[Band, Float[Tensor, "batch"]]:
        """Candidates of each sequence under its present bound; the first call starts the sequences.

        Returns
        -------
        The band, and the logarithm of the probability total to which surprises refer: log-partition of all tokens,
        or of the kept ones with `surprise="renormalized"`.
        """
        if self.state is None:
            self.reset(len(logits), logits.device)
        assert self.state is not None
        require(len(logits) == len(self.state.mu), "batch", len(logits), f"{len(self.state.mu)} sequences, or a reset")
        band, log_total = _threshold(logits, self.state.mu, self.version, self.m)
        if self.surprise == "renormalized":
            log_total = log_total + kept_statistics(logits, band).mass.log()
        return band, log_total

    def update(
        self,
        logits: Float[Tensor, "batch vocab"],
        log_total: Float[Tensor, "batch"],
        ids: Int[Tensor, "batch"],
    ) -> None:
        """Move every bound by the surprise of the token its sequence drew from these logits."""
        assert self.state is not None
        surprise = (log_total - logits.gather(-1, ids[:, None]).squeeze(-1)).double() * _BITS
        self.state = MirostatState(
            mirostat_update(self.state.mu, surprise, self.tau, self.eta, self.mu_range), surprise
        )

    def step(
        self, logits: Float[Tensor, "batch vocab"], *, generator: torch.Generator | None = None
    ) -> Int[Tensor, "batch"]:
        """Draw one token a sequence and update."""
        band, log_total = self.threshold(logits)
        ids = sample_band(logits, band, generator=generator)
        self.update(logits, log_total, ids)
        return ids
