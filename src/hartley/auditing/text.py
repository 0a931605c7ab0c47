"""Did this model write this text? Tests from one forward pass of the model itself.

At each position the model has a next-token law q_t with entropy H_t and varentropy V_t, and the text has the surprisal
I_t = -log q_t(x_t). If the text was drawn from the model, sum (I_t - H_t) is a martingale, whatever the text says:

    gap         D = mean I - mean H                          log-perplexity minus entropy, nats a token
    martingale  z = sum (I_t - H_t) / sqrt(sum V_t)          standard normal under the null
    e-process   E_n = prod q_t(x_t)^-l / sum_v q_t(v)^(1-l)  a martingale of mean 1, for each l < 1

D above 0: the text is foreign, more surprising than the model's own. D below 0: it was cooled or truncated.

Source: Radvand, Abdolmaleki, Mostagir, Tewari (2025), arXiv 2501.02406: the gap, its concentration and attribution by
least log-perplexity. The paper's white-box code thresholds the signed gap, its black-box code the absolute value; only
the signed one works on truncated text. The studentised test and the e-process are ours. With the text's own model as
both sampler and scorer, Fast-DetectGPT's curvature is -z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp
from scipy.stats import norm
from torch import Tensor

from hartley.auditing.result import AuditResult
from hartley.checks import require
from hartley.measures import row_statistics

Alternative = Literal["two-sided", "foreign", "cooled"]
Warper = Callable[[Tensor, Tensor], Tensor]
LAMBDAS = (-0.5, -0.25, -0.1, 0.1, 0.25, 0.5)
_ROWS = 64  # rows of logits that are warped and reduced at a time


@dataclass(frozen=True)
class TextStatistics:
    """Of each token, under the model's law at its position, in nats; NaN where the mask left a token out.

    Attributes
    ----------
    surprisal : -log q of the token; inf if the law excludes it.
    entropy, varentropy : of the law.
    rank : number of tokens likelier than this one, -1 where masked.
    log_normaliser : log sum q^(1 - lambda) of the law, one column a lambda.
    lambdas : those lambdas.
    """

    surprisal: Float[np.ndarray, "*batch time"]
    entropy: Float[np.ndarray, "*batch time"]
    varentropy: Float[np.ndarray, "*batch time"]
    rank: Int[np.ndarray, "*batch time"]
    log_normaliser: Float[np.ndarray, "*batch time lambdas"]
    lambdas: tuple[float, ...] = ()

    def text(self, index: int) -> TextStatistics:
        """The statistics of one text of a batch."""
        i, h, v, r, m = (
            a[index] for a in (self.surprisal, self.entropy, self.varentropy, self.rank, self.log_normaliser)
        )
        return TextStatistics(i, h, v, r, m, self.lambdas)


@torch.inference_mode()
def text_statistics(
    logits: Float[Tensor, "*batch time vocab"],
    ids: Int[Tensor, "*batch time"],
    *,
    mask: Bool[Tensor, "*batch time"] | None = None,
    temperature: float = 1.0,
    warpers: Sequence[Warper] = (),
    lambdas: Sequence[float] = (),
) -> TextStatistics:
    """Surprisal, entropy and varentropy of every token, without a tensor of probabilities.

    Parameters
    ----------
    logits : logits[t] is the law of ids[t]. A causal model's output is one ahead: pass ``output[:, :-1], ids[:, 1:]``.
    mask : tokens that count; leave out padding and prompt.
    temperature, warpers : how the model is claimed to have sampled. Warpers are called as those of transformers,
        ``warper(ids, scores)``, with ids None; the null is then exact for truncated sampling too, and a token that
        the truncation excludes has surprisal inf.
    lambdas : orders of the e-process, each below 1; each costs another pass.

    Raises
    ------
    ValueError : no tokens, ids outside the vocabulary (model and tokenizer do not match), lambda not below 1.
    """
    vocab = logits.shape[-1]
    require(ids.numel() > 0, "ids", "no tokens", "at least one token")
    largest = int(ids.max())
    require(
        int(ids.min()) >= 0 and largest < vocab,
        "ids",
        largest,
        f"tokens of the model's {vocab}; do model and tokenizer match?",
    )
    for each in lambdas:
        require(-math.inf < each < 1, "lambdas", each, "numbers below 1")
    flat, targets = logits.reshape(-1, vocab), ids.reshape(-1)
    keep = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask.reshape(-1)
    out = np.full((3 + len(lambdas), len(flat)), np.nan)
    rank = np.full(len(flat), -1)
    rows = keep.nonzero().squeeze(-1)
    whole = bool(keep.all())
    step = _ROWS if warpers or not whole else max(len(rows), 1)
    for start in range(0, len(rows), step):
        part = slice(start, start + step) if whole else rows[start : start + step]
        scores = flat[part]
        for warp in warpers:
            scores = warp(None, scores.float() / temperature)  # type: ignore[arg-type]
        heat = 1.0 if warpers else temperature
        stats = row_statistics(scores, targets[part], temperature=heat)
        assert stats.surprisal is not None
        assert stats.rank is not None
        columns = [stats.surprisal, stats.entropy, stats.varentropy]
        for each in lambdas:
            power = row_statistics(scores, temperature=heat / (1 - each)).log_partition
            columns.append(power - (1 - each) * stats.log_partition)
        where = part if isinstance(part, slice) else part.numpy(force=True)
        out[:, where] = torch.stack(columns).double().numpy(force=True)
        rank[where] = stats.rank.numpy(force=True)
    shape = tuple(ids.shape)
    i, h, v = (row.reshape(shape) for row in out[:3])
    return TextStatistics(i, h, v, rank.reshape(shape), out[3:].T.reshape(*shape, len(lambdas)), tuple(lambdas))


def entropy_gap(stats: TextStatistics, *, signed: bool = True) -> Float[np.ndarray, "*batch"]:
    """D = log-perplexity minus mean entropy, nats a token; -D is the paper's detection score.

    `signed=False` gives |D|, the score of the paper's black-box code. When not to use it: on text of cooled or
    truncated sampling, where D is far below zero and |D| ranks it with the most foreign text.
    """
    gap = np.nanmean(_checked(stats).surprisal - stats.entropy, axis=-1)
    return np.asarray(gap if signed else np.abs(gap))


def martingale_test(stats: TextStatistics, alternative: Alternative = "two-sided") -> AuditResult:
    """Was one text drawn from this model, by the studentised martingale.

    Parameters
    ----------
    stats : of one text.
    alternative : "foreign" (more surprising than the model's own text), "cooled" (less), or both.

    Returns
    -------
    z with a normal p-value, good from about a hundred tokens on (use the e-process for fewer); effect: D. Steps whose
    outcome is certain add nothing. A token that the law excludes rejects outright: z = inf, p = 0.

    Raises
    ------
    ValueError : a batch, no counted token, an unknown alternative.
    """
    require(
        alternative in ("two-sided", "foreign", "cooled"),
        "alternative",
        alternative,
        '"two-sided", "foreign", "cooled"',
    )
    excess, variance, size = _one_text(stats)
    if not np.isfinite(excess).all():
        return _text_result("martingale test", math.inf, 0.0, math.inf, size)
    spread = math.sqrt(variance.sum())
    z = float(excess.sum() / spread) if spread > 0 else 0.0
    tail = {"two-sided": 2 * norm.sf(abs(z)), "foreign": norm.sf(z), "cooled": norm.cdf(z)}[alternative]
    return _text_result("martingale test", z, min(1.0, float(tail)), float(excess.mean()), size)


def e_process(stats: TextStatistics, alternative: Alternative = "two-sided") -> Float[np.ndarray, "*batch time"]:
    """Logarithm of the e-process after each token: the mean of E_n over the lambdas of `stats`.

    Positive lambdas gain on foreign text, negative ones on cooled text; "foreign" and "cooled" keep one kind. Under
    the null, P(ever above log(1/a)) <= a: watch it as the text comes in and stop when you like.

    Raises
    ------
    ValueError : no lambda of the kind asked for; pass ``lambdas=LAMBDAS`` to `text_statistics`.
    """
    lambdas = np.array(stats.lambdas)
    keep = {"two-sided": lambdas != 0, "foreign": lambdas > 0, "cooled": lambdas < 0}[alternative]
    require(bool(keep.any()), "lambdas", stats.lambdas, f"at least one for {alternative}; compute stats with lambdas")
    steps = lambdas[keep] * _checked(stats).surprisal[..., None] - stats.log_normaliser[..., keep]
    # A masked token is no step. An excluded one has probability 0 under the null: it is settled, for every lambda.
    steps = np.where(np.isnan(stats.surprisal)[..., None], 0.0, steps)
    steps = np.where(np.isposinf(stats.surprisal)[..., None], np.inf, steps)
    return np.asarray(logsumexp(steps.cumsum(-2), axis=-1) - math.log(keep.sum()))


def e_process_test(stats: TextStatistics, alternative: Alternative = "two-sided") -> AuditResult:
    """The largest value of the e-process of one text; p = 1 / max E holds at any length, under any stopping rule."""
    excess, _, size = _one_text(stats)
    peak = float(e_process(stats, alternative).max())
    return _text_result("e-process", peak, math.exp(min(0.0, -peak)), float(excess.mean()), size, peak)


def _text_result(
    test: str, statistic: float, pvalue: float, effect: float, size: int, log_evalue: float | None = None
) -> AuditResult:
    null = "the text was drawn token by token from this model's law"
    return AuditResult(test, null, statistic, pvalue, effect, "gap (nats a token)", size, log_evalue)


def _checked(stats: TextStatistics) -> TextStatistics:
    counted = (~np.isnan(stats.surprisal)).any(-1)
    require(bool(np.all(counted)), "stats", "a text without a counted token", "at least one token a text")
    return stats


def _one_text(stats: TextStatistics) -> tuple[Any, Any, int]:
    require(stats.surprisal.ndim == 1, "stats", stats.surprisal.shape, "one text; take stats.text(i) of a batch")
    counted = ~np.isnan(_checked(stats).surprisal)
    return (stats.surprisal - stats.entropy)[counted], stats.varentropy[counted], int(counted.sum())


@dataclass(frozen=True)
class Attribution:
    """Which of several models wrote each text.

    Attributes
    ----------
    index : the model of least log-perplexity.
    margin : by how many nats a token it beats the next.
    log_evalue : for each model, evidence against "this model wrote it": the mixture of the others' likelihoods over
        its own. An e-value: exact at any length.
    """

    index: Int[np.ndarray, "*batch"]
    margin: Float[np.ndarray, "*batch"]
    log_evalue: Float[np.ndarray, "models *batch"]


def attribute(surprisal: Float[np.ndarray, "models *batch time"]) -> Attribution:
    """The likeliest author among models of the same tokens.

    Parameters
    ----------
    surprisal : of each token under each model, nats; NaN where a token does not count, for every model alike.

    Raises
    ------
    ValueError : fewer than two models, a text without a counted token.

    Error falls exponentially in length, at the Chernoff information of the two likeliest. When not to use: where the
    author may be none of the models; test each one then.
    """
    require(len(surprisal) >= 2, "surprisal", f"{len(surprisal)} models", "at least two models")
    missing = np.isnan(surprisal)
    require(bool((missing == missing[:1]).all()), "surprisal", "different masks", "the same tokens for every model")
    require(not missing.all(-1).any(), "surprisal", "a text without a counted token", "at least one token a text")
    total = np.nansum(surprisal, axis=-1)
    ordered = np.sort(total, axis=0)
    count = (~missing[0]).sum(-1)
    others = np.array([logsumexp(-np.delete(total, m, 0), axis=0) for m in range(len(total))])
    return Attribution(
        np.asarray(total.argmin(0)),
        np.asarray((ordered[1] - ordered[0]) / count),
        total + others - math.log(len(total) - 1),
    )


@torch.inference_mode()
def score_text(
    model: Any,
    tokenizer: Any,
    text: str,
    *,
    prompt: str = "",
    temperature: float = 1.0,
    warpers: Sequence[Warper] = (),
    lambdas: Sequence[float] = LAMBDAS,
) -> TextStatistics:
    """Statistics of a text under a causal language model of transformers.

    Parameters
    ----------
    prompt : what the model was given; it is read, not scored. Without one the first token has no law and is passed
        over, unless the tokenizer puts a start token before it.

    Raises
    ------
    ValueError : an empty text, one that leaves no token to score, one that is longer than the model's context,
        tokens unknown to the model, or a text that the tokenizer cannot reproduce.
    """
    require(bool(text.strip()), "text", text, "a text that is not empty")
    start = tokenizer(prompt).input_ids if prompt else tokenizer("").input_ids
    own = tokenizer(text, add_special_tokens=False).input_ids
    ids, first = [*start, *own], max(len(start), 1)
    require(len(ids) > first, "text", f"{len(own)} token", "at least two tokens, or a prompt: the first has no law")
    back = tokenizer.decode(own, clean_up_tokenization_spaces=False)
    require(back == text, "text", text[:40], "a text that survives encoding and decoding by this tokenizer")
    context = getattr(model.config, "max_position_embeddings", None)
    require(context is None or len(ids) <= context, "text", f"{len(ids)} tokens", f"at most {context}, the context")
    known = model.get_input_embeddings().num_embeddings
    require(max(ids) < known, "tokenizer", max(ids), f"tokens of the model's {known}; do they match?")
    batch = torch.tensor([ids], device=model.device)
    logits = model(input_ids=batch, logits_to_keep=len(ids) - first + 1).logits[0, :-1]
    return text_statistics(logits, batch[0, first:], temperature=temperature, warpers=warpers, lambdas=lambdas)
