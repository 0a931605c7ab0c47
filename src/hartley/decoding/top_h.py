"""Top-H decoding: keep the likeliest tokens while their entropy stays below a share of the model's.

Add tokens in order of probability and stop before the first that makes

    H(q) = log G - h / G  >  alpha H(p),      G = sum p_i,   h = sum p_i log p_i   over the kept tokens

q being p renormalised on the kept set. Entropies of prefixes increase strictly, so the kept set is a threshold. Finding
the set of largest mass within the entropy bound is NP-hard; this greedy prefix is not always it.

Source: Baghaei Potraghloo and others (2025), "Top-H Decoding", Algorithm 1 and Theorem 3. Two programs of the same name
stop at another point: they compare the partial sum of -p log p, without renormalising, to alpha times the same sum over
the `top_n` likeliest tokens. That rule is `rule="partial"`; it does not bound H(q), and keeps far fewer tokens at high
temperature. The figures of the paper came from a program of this kind.
"""

from __future__ import annotations

from typing import Literal, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from hartley.checks import require, require_between
from hartley.decoding.bands import ALL, Band, check_logits
from hartley.measures import row_statistics
from hartley.measures._moments import block_maxima, over_rows, row_maximum, row_moments

Rule = Literal["entropy", "partial"]
_BLOCK = 256


def top_h_threshold(
    logits: Float[Tensor, "*batch vocab"], alpha: float = 0.4, *, rule: Rule = "entropy", top_n: int | None = None
) -> Band:
    """Threshold of the top-H set, exact over the whole vocabulary.

    Parameters
    ----------
    logits : already divided by the temperature; -inf marks tokens that are out.
    alpha : share of the model's entropy that the kept distribution may have, in (0, 1).
    rule : "entropy" is the paper's and bounds H(q); "partial" is the released programs'.
    top_n : consider only the likeliest `top_n` tokens; default all, or 100 under "partial" as in the release.

    Returns
    -------
    Band whose `ties` limit how many of the logits equal to the threshold are kept (lowest index first), so that the
    bound holds with ties as well. The mode is always kept.

    Raises
    ------
    ValueError : alpha outside (0, 1), unknown rule, top_n below 1, or a row without a finite maximum.

    When not to use: at matched diversity its likelihood is not above min-p's or top-p's; what it buys is a bound on
    the entropy that follows the model's.
    """
    require_between("alpha", alpha, 0, 1)
    require(rule in ("entropy", "partial"), "rule", rule, '"entropy" or "partial"')
    require(top_n is None or top_n >= 1, "top_n", top_n, "at least 1, or None")
    vocab = logits.shape[-1]
    batch = logits.shape[:-1]
    flat = logits.detach().reshape(-1, vocab)
    limit = min(vocab, top_n or (100 if rule == "partial" else vocab))
    if flat.device.type == "cpu" and flat.dtype != torch.float64:
        thresholds, tied = np.empty(len(flat), np.float32), np.empty(len(flat), np.int64)
        over_rows(flat, lambda z, rows: _top_h_rows(z, alpha, rule == "entropy", limit, thresholds[rows], tied[rows]))
        low, ties = torch.from_numpy(thresholds), torch.from_numpy(tied)
        check_logits(low, logits)
    else:
        stats = row_statistics(flat)
        check_logits(stats.log_partition - stats.maximum, logits)
        low, ties = _top_h_by_sorting(flat, stats.log_partition, stats.entropy, alpha, rule, limit)
    return Band.above(low.reshape(batch), ties.reshape(batch))


def _top_h_by_sorting(
    logits: Tensor, log_partition: Tensor, entropy: Tensor, alpha: float, rule: Rule, limit: int
) -> tuple[Tensor, Tensor]:
    ordered = logits.topk(limit, -1).values
    log_p = ordered.double() - log_partition.double()[:, None]
    p = log_p.exp()
    terms = p * torch.where(p > 0, log_p, 0.0)
    mass, partial = p.cumsum(-1), terms.cumsum(-1)
    if rule == "entropy":
        spent, budget = mass.log() - partial / mass, alpha * entropy.double()[:, None]
    else:
        spent, budget = -partial, -alpha * partial[:, -1:]
    stop = ((spent > budget) | (ordered == -torch.inf)).int()
    stop[:, 0] = 0
    size = (stop.cumsum(-1) == 0).sum(-1, keepdim=True)
    low = ordered.gather(-1, size - 1).to(log_partition.dtype)
    above = (ordered > low).sum(-1, keepdim=True)
    return low.squeeze(-1), (size - above).squeeze(-1)


@njit(cache=True, nogil=True)
@no_type_check
def _top_h_rows(logits, alpha, by_entropy, limit, low, ties):
    """Collect the logits above a guessed threshold, sort those few, scan; lower the threshold if it was too high."""
    vocab = logits.shape[1]
    head = np.empty(vocab, np.float32)
    peaks = np.empty(-(-vocab // _BLOCK), np.float32)
    for row in range(logits.shape[0]):
        z = logits[row]
        block_maxima(z, _BLOCK, peaks)
        log_partition, entropy, _ = row_moments(z, row_maximum(peaks), np.float32(1.0))
        low[row], ties[row] = np.float32(np.nan), 0
        if not np.isfinite(log_partition):
            continue
        # About exp(alpha H) tokens are kept. The n-th largest block maximum has at least n logits above or at it.
        wanted = np.int64(min(3 * np.exp(alpha * entropy) + 8 if by_entropy else 1.0 * limit, 1.0 * vocab))
        while True:
            threshold = np.float32(-np.inf)
            if wanted < peaks.size:
                threshold = np.partition(peaks, peaks.size - wanted)[peaks.size - wanted]
            n = 0
            for block in range(peaks.size):
                if peaks[block] >= threshold:
                    for value in z[block * _BLOCK : (block + 1) * _BLOCK]:
                        if value >= threshold and value > -np.inf:
                            head[n] = value
                            n += 1
            ordered = -np.sort(-head[:n])
            complete = n >= limit or threshold == -np.inf
            kept = _scan(ordered, log_partition, alpha, entropy, by_entropy, limit, complete)
            if kept > 0:
                break
            wanted *= 4  # the scan ran past what was collected
        low[row] = ordered[kept - 1]
        tied = equal = 0
        for j in range(n):
            if ordered[j] == low[row]:
                equal += 1
                tied += j < kept
        ties[row] = ALL if tied == equal else tied  # no limit to apply where every tie is kept


@njit(cache=True, nogil=True)
@no_type_check
def _scan(ordered, log_partition, alpha, entropy, by_entropy, limit, complete):
    """Number of tokens kept, or 0 if the stop lies beyond what was collected."""
    end = min(ordered.size, limit)
    mass = partial = 0.0
    budget = alpha * entropy
    if not by_entropy:
        if not complete:
            return 0
        total = 0.0
        for j in range(end):
            log_p = np.float64(ordered[j]) - log_partition
            total -= np.exp(log_p) * log_p
        budget = alpha * total
    for j in range(end):
        log_p = np.float64(ordered[j]) - log_partition
        p = np.exp(log_p)
        mass += p
        partial += p * log_p
        spent = np.log(mass) - partial / mass if by_entropy else -partial
        if j > 0 and spent > budget:
            return j
    return end if complete else 0
