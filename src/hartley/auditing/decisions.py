"""Is a model's coin fair? Tests of binary decision series, and exact probabilities where the logits are at hand.

A series of decisions is asked three things: is each side taken half the time, does a decision depend on the one
before, and does it alternate too often (negative recency, the human bias) or too seldom (positive recency).

    uniformity      exact binomial test of P(1) = 1/2
    independence    G = 2 sum N_ab log(N_ab N / (N_a. N_.b)) over transitions, chi-square with one degree of freedom
    alternation     exact law of the number of runs given the counts (Wald and Wolfowitz)

Source: Vidler and Walsh (2025), arXiv 2501.16356, who ask whether models decide uniformly and without memory,
one-shot and in a batch; the tests, the exact runs law over several calls and the white-box probabilities are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer, Shaped
from scipy.signal import fftconvolve
from scipy.special import bdtr, betaincinv, chdtrc, gammaln, logsumexp, xlogy

from hartley.auditing.result import AuditResult
from hartley.checks import require, require_between


@dataclass(frozen=True)
class SeriesReport:
    """What one set of binary series shows. `print` gives a line a test.

    Attributes
    ----------
    size, share : number of decisions, and the share of ones.
    interval : 95% Clopper-Pearson interval of P(1), if decisions are independent.
    uniformity, independence, alternation : the three tests. Where a series is constant or has no transitions, the
        last two are NaN: nothing can be told.
    transitions : counts N_ab of a followed by b within a series.
    alternation_rate, alternation_expected : share of transitions that change sides, and that of independent decisions
        with the same counts; not 1/2 unless the share is.
    runs_z : Wald and Wolfowitz's normal score of the number of runs.
    recency : for k = 1 to 4, P(0 after at least k ones), P(1 after at least k zeros), and how often either was
        seen. Rising with k: negative recency.
    information : plug-in mutual information of neighbours, G / 2N nats.
    """

    size: int
    share: float
    interval: tuple[float, float]
    uniformity: AuditResult
    independence: AuditResult
    alternation: AuditResult
    transitions: Integer[np.ndarray, "2 2"]
    alternation_rate: float
    alternation_expected: float
    runs_z: float
    recency: dict[int, tuple[float, float, int]]
    information: float

    @property
    def tests(self) -> tuple[AuditResult, AuditResult, AuditResult]:
        """The three tests, for an adjustment over their p-values."""
        return self.uniformity, self.independence, self.alternation

    def __str__(self) -> str:
        return "\n".join(str(test) for test in self.tests)


def series_report(x: Shaped[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"] | None = None) -> SeriesReport:
    """All tests of one or several series of zeros and ones.

    Parameters
    ----------
    x : decisions in order.
    groups : label of the call that made each decision; transitions never cross calls. One series without it.

    Raises
    ------
    ValueError : fewer than two decisions, values other than 0 and 1, or groups of another length.

    When not to use: to call a model unbiased because P(1) is near 1/2. A sticky series passes the first test; look at
    all three. The binomial test takes decisions as independent: it means little where the others reject.
    """
    require(len(x) >= 2, "x", f"{len(x)} decisions", "at least two decisions")
    wrong = x[~np.isin(x, (0, 1))]
    require(len(wrong) == 0, "x", wrong[:1].tolist(), "decisions 0 or 1")
    require(groups is None or len(groups) == len(x), "groups", 0 if groups is None else len(groups), f"{len(x)} labels")
    series = _split(x.astype(np.int64), groups)
    n, ones = len(x), int(x.sum())
    low = float(betaincinv(ones, n - ones + 1, 0.025)) if ones else 0.0
    high = float(betaincinv(ones + 1, n - ones, 0.975)) if ones < n else 1.0
    fair = min(1.0, 2 * float(bdtr(min(ones, n - ones), n, 0.5)))
    pairs = np.concatenate([2 * s[:-1] + s[1:] for s in series])
    table = np.bincount(pairs, minlength=4).reshape(2, 2)
    g = _g_statistic(table)
    information = g / (2 * len(pairs)) if len(pairs) else math.nan
    memory = "a decision does not depend on the one before"
    alternation, rate, expected, z = _alternation(series)
    uniform = AuditResult("uniformity", "P(1) = 1/2", ones / n, fair, ones / n - 0.5, "bias (share of ones - 1/2)", n)
    return SeriesReport(
        size=n,
        share=ones / n,
        interval=(low, high),
        uniformity=uniform,
        independence=AuditResult(
            "independence", memory, g, float(chdtrc(1, g)), information, "mutual information (nats)", len(pairs)
        ),
        alternation=alternation,
        transitions=table,
        alternation_rate=rate,
        alternation_expected=expected,
        runs_z=z,
        recency={k: _recency(series, k) for k in range(1, 5)},
        information=information,
    )


def markov_order_test(
    x: Shaped[np.ndarray, " n"], order: int, groups: Shaped[np.ndarray, " n"] | None = None
) -> AuditResult:
    """Does a binary series need more memory than `order` decisions: order k against k + 1, chi-square with 2^k.

    Good where every context of k + 1 decisions was seen some five times; contexts that lack variation cost their
    degrees of freedom and gain nothing.
    """
    require(order >= 0, "order", order, "a number of decisions >= 0")
    series = [s for s in _split(x.astype(np.int64), groups) if len(s) > order + 1]
    require(len(series) > 0, "x", f"{len(x)} decisions", f"a series of at least {order + 2}")
    weights = 2 ** np.arange(order + 2)[::-1]
    words = np.concatenate([np.lib.stride_tricks.sliding_window_view(s, order + 2) @ weights for s in series])
    # axes: the oldest decision, the context of `order` decisions, the newest
    table = np.bincount(words, minlength=2 ** (order + 2)).reshape(2, 2**order, 2)
    g = float(np.nansum([_g_statistic(table[:, c]) for c in range(2**order)]))
    null = f"a decision depends on the last {order} at most"
    p = float(chdtrc(2**order, g))
    return AuditResult("memory", null, g, p, g / (2 * len(words)), "mutual information (nats)", len(words))


@torch.inference_mode()
def option_probabilities(
    model: Any, tokenizer: Any, prompt: str, options: Mapping[str, Sequence[str]], *, temperature: float = 1.0
) -> tuple[dict[str, float], float]:
    """Exact probability of each option as the answer to a prompt, and the mass of all of them.

    One forward pass in place of a thousand samples.

    Parameters
    ----------
    prompt : as the model reads it, chat template included.
    options : spellings of each option, such as ``{"yes": ["Yes", "yes"], "no": ["No", "no"]}``. A spelling of several
        tokens counts with the probability of them all.

    Returns
    -------
    Probabilities normalised over the options, and the mass that they had before: the rest is refusal and preamble.
    Always report it.

    Raises
    ------
    ValueError : fewer than two options, one without a spelling, or a spelling shared by two.
    """
    require(len(options) >= 2, "options", list(options), "at least two options")
    require_between("temperature", temperature, 0)
    start = tokenizer(prompt, add_special_tokens=False).input_ids
    require(len(start) > 0, "prompt", prompt, "a prompt that is not empty")
    owner: dict[tuple[int, ...], str] = {}
    for name, spellings in options.items():
        require(len(spellings) > 0, "options", {name: spellings}, "at least one spelling an option")
        for spelling in spellings:
            ids = tuple(tokenizer(spelling, add_special_tokens=False).input_ids)
            require(len(ids) > 0, "options", spelling, "spellings that are not empty")
            first_owner = owner.setdefault(ids, name)
            require(first_owner == name, "options", spelling, f"a spelling of {first_owner} alone")
    # The mass of a longer spelling is part of its own beginning's.
    kept = [ids for ids in owner if not any(ids[:k] in owner for k in range(1, len(ids)))]
    first = model(input_ids=torch.tensor([start], device=model.device), logits_to_keep=1).logits[0, -1].float()
    law = (first / temperature).log_softmax(-1)
    logs: dict[str, list[float]] = {name: [] for name in options}
    for ids in kept:
        total = float(law[ids[0]])
        if len(ids) > 1:
            batch = torch.tensor([[*start, *ids[:-1]]], device=model.device)
            rest = model(input_ids=batch, logits_to_keep=len(ids) - 1).logits[0].float()
            tail = torch.tensor(ids[1:], device=model.device)[:, None]
            total += float((rest / temperature).log_softmax(-1).gather(-1, tail).sum())
        logs[owner[ids]].append(total)
    mass = {name: float(logsumexp(values)) for name, values in logs.items()}
    valid = float(logsumexp(list(mass.values())))
    return {name: math.exp(value - valid) for name, value in mass.items()}, math.exp(valid)


@dataclass(frozen=True)
class OrderBias:
    """Log-odds of an option, split in two: what it owes to itself and what to being named first."""

    preference: float
    position: float


def order_balanced_bias(logodds_first: float, logodds_second: float) -> OrderBias:
    """Preference and position bias from the log-odds of one option where it is named first, and where second."""
    return OrderBias((logodds_first + logodds_second) / 2, (logodds_first - logodds_second) / 2)


def _split(x: Any, groups: Any) -> list[Any]:
    if groups is None:
        return [x]
    _, label = np.unique(groups, return_inverse=True)
    order = np.argsort(label, kind="stable")
    return np.split(x[order], np.flatnonzero(np.diff(label[order])) + 1)


def _g_statistic(table: Any) -> float:
    """G of a table; NaN where a row or column is empty, for then it cannot speak of independence."""
    rows, columns, total = table.sum(1), table.sum(0), table.sum()
    if (rows == 0).any() or (columns == 0).any():
        return math.nan
    g = 2 * (xlogy(table, table).sum() - xlogy(rows, rows).sum() - xlogy(columns, columns).sum() + xlogy(total, total))
    return max(0.0, float(g))


def _runs_law(n1: int, n0: int) -> Float[np.ndarray, " changes"]:
    """Probabilities of 0, 1, ... changes of side in a random order of n1 ones and n0 zeros."""
    if n1 == 0 or n0 == 0:
        return np.ones(1)
    runs = np.arange(2, n1 + n0 + 1)
    long, short = (runs + 1) // 2, runs // 2  # runs of the side that begins, and of the other

    def log_ways(count: int, parts: Any) -> Any:
        inside = (parts >= 1) & (parts <= count)
        safe = np.where(inside, parts, 1)
        return np.where(inside, gammaln(count) - gammaln(safe) - gammaln(count - safe + 1), -np.inf)

    either = np.logaddexp(log_ways(n1, long) + log_ways(n0, short), log_ways(n0, long) + log_ways(n1, short))
    total = gammaln(n1 + n0 + 1) - gammaln(n1 + 1) - gammaln(n0 + 1)
    law: Float[np.ndarray, " changes"] = np.concatenate([[0.0], np.exp(either - total)])
    return law / law.sum()


def _alternation(series: list[Any]) -> tuple[AuditResult, float, float, float]:
    law, changes, transitions, mean, variance = np.ones(1), 0, 0, 0.0, 0.0
    for s in series:
        n1 = int(s.sum())
        n0 = len(s) - n1
        one = _runs_law(n1, n0)
        law = fftconvolve(law, one) if len(law) > 1 and len(one) > 1 else np.outer(law, one).ravel()
        changes += int((s[1:] != s[:-1]).sum())
        transitions += len(s) - 1
        mu = 2 * n1 * n0 / len(s)
        mean += mu
        variance += mu * (mu - 1 + (mu == 0)) / max(len(s) - 1, 1)
    null = "the order of the decisions is random, given how many are ones"
    if variance <= 0:
        nothing = AuditResult("alternation", null, math.nan, math.nan, math.nan, "excess", transitions)
        return nothing, math.nan, math.nan, math.nan
    law = np.clip(law, 0.0, None)
    tails = law[: changes + 1].sum(), law[changes:].sum()
    p = float(min(1.0, 2 * min(tails)))
    rate, expected = changes / transitions, mean / transitions
    effect = "excess alternation (share)"
    result = AuditResult("alternation", null, float(changes), p, rate - expected, effect, transitions)
    return result, rate, expected, (changes - mean) / math.sqrt(variance)


def _recency(series: list[Any], k: int) -> tuple[float, float, int]:
    out, seen = [], 0
    for side in (1, 0):
        broken = count = 0
        for s in series:
            if len(s) > k:
                after = (np.lib.stride_tricks.sliding_window_view(s[:-1], k) == side).all(1)
                count += int(after.sum())
                broken += int((s[k:][after] != side).sum())
        out.append(broken / count if count else math.nan)
        seen += count
    return out[0], out[1], seen
