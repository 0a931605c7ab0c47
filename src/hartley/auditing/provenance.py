"""Does that model come from ours? Tests that read the training order back.

The training order was shuffled uniformly. If another's model or text does not depend on it, every order is equally
likely given that model or text, so any statistic of both has an exact permutation law, whatever the data are.

    query test          Spearman correlation of log-likelihood (minus a reference's) with position in training
    partition test      the same with the number of n-gram matches between a text and each training sequence
    reshuffle test      the text's likelihood under the true run against re-runs of the last phase on new orders

Source: Kuditipudi, Huang, Zhu, Yang, Potts, Liang (2025), arXiv 2510.19796. Their code correlates losses, with the
opposite sign. `score="tail"`, which weighs the end of training, is ours.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer, Real
from scipy.stats import rankdata
from scipy.stats import t as student

from hartley.auditing.result import AuditResult
from hartley.checks import require

Alternative = Literal["greater", "less", "two-sided"]
_NULL = "what was observed does not depend on the training order"


def order_test(
    loglik: Real[np.ndarray, " n"],
    position: Real[np.ndarray, " n"],
    *,
    reference: Real[np.ndarray, " n"] | None = None,
    alternative: Alternative = "greater",
    score: Literal["spearman", "tail"] = "spearman",
    permutations: int | None = None,
    rng: np.random.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AuditResult:
    """Correlate how well a model knows each training sequence with when that was last shown.

    Parameters
    ----------
    loglik : log-likelihood of each sequence under the suspect, a mean per token where lengths vary. NaN is passed over.
    position : step at which each sequence was shown; not the list of which sequence each step showed, which is its
        inverse: ``np.argsort(order)`` turns one into the other. With several epochs, the last one's.
    reference : log-likelihood under a model that does not depend on the order, best one of the same data trained in
        another. It removes what makes a sequence hard. An earlier checkpoint of the same run is not one.
    alternative : "greater": what was shown late is known better.
    score : "spearman", or "tail": ranks against exp((position - last) / (n / 10)), for signals at the end of training.
    permutations : number of random orders for an exact p-value, (1 + count) / (1 + permutations); without it Student's
        approximation, which is good from 200 sequences on and needs the Spearman score.
    progress : called with (done, permutations).

    Raises
    ------
    ValueError : fewer than 5 usable sequences, constant log-likelihoods or positions, lengths that differ.

    When not to use: where the order was not shuffled (curricula, length buckets); permute within blocks then.
    """
    require(len(position) == len(loglik), "position", len(position), f"{len(loglik)} positions")
    require(reference is None or len(reference) == len(loglik), "reference", len(loglik), "a value for each sequence")
    known = ("greater", "less", "two-sided")
    require(alternative in known, "alternative", alternative, f"one of {known}")
    require(score in ("spearman", "tail"), "score", score, '"spearman" or "tail"')
    require(score == "spearman" or permutations is not None, "score", score, "permutations with it")
    require(permutations is None or (permutations >= 1 and rng is not None), "permutations", permutations, "1 + an rng")
    knows = loglik if reference is None else loglik - reference
    usable = np.isfinite(knows)
    n = int(usable.sum())
    require(n >= 5, "loglik", f"{n} finite values", "at least 5 sequences with finite log-likelihood")
    x, when = _ranks(knows[usable]), np.asarray(position, float)[usable]
    y = _ranks(when) if score == "spearman" else _standard(np.exp((rankdata(when) - n) / (n / 10)))
    require(bool(np.any(x)), "loglik", "constant (after the reference)", "values that differ")
    require(bool(np.any(y)), "position", "constant", "positions that differ")
    rho = float(np.clip(x @ y, -1, 1))
    if permutations is None:
        z = rho * math.sqrt((n - 2) / max(1 - rho * rho, 1e-300))
        tails = float(student.sf(z, n - 2)), float(student.cdf(z, n - 2))
        p = {"greater": tails[0], "less": tails[1], "two-sided": min(1.0, 2 * min(tails))}[alternative]
    else:
        assert rng is not None
        sign = -1.0 if alternative == "less" else 1.0
        seen = abs(rho) if alternative == "two-sided" else sign * rho
        count = 0
        for done in range(1, permutations + 1):
            other = float(x @ rng.permutation(y))
            # ties with the observed order count, whatever the rounding of the sum
            count += (abs(other) if alternative == "two-sided" else sign * other) >= seen - 1e-12
            if progress is not None:
                progress(done, permutations)
        p = (1 + count) / (1 + permutations)
    name = "order test" if reference is None else "order test with reference"
    return AuditResult(name, _NULL, rho, p, rho, "correlation", n)


def reshuffle_test(true: Float[np.ndarray, " texts"], reruns: Float[np.ndarray, "runs texts"]) -> AuditResult:
    """Is the text likelier under the true training run than under re-runs of its last phase on other orders?

    Parameters
    ----------
    true, reruns : log-likelihood of each text, prompts excluded, under the true run and under each re-run. Re-run
        from a checkpoint with the optimiser's state, and re-run the true order too: take `true` from that copy.

    Returns
    -------
    z against the spread of the re-runs; the p-value is the exact rank's, at least 1 / (runs + 1). A few hundred tokens
    suffice; more re-runs, not more text, sharpen it.
    """
    require(len(reruns) >= 2, "reruns", f"{len(reruns)} runs", "at least two re-runs")
    require(bool(np.isfinite(true).all() and np.isfinite(reruns).all()), "true", "not finite", "finite log-likelihoods")
    mine, others = float(true.mean()), reruns.mean(1)
    spread = float(others.std(ddof=1))
    require(spread > 0, "reruns", "all alike", "re-runs that differ")
    rank = (1 + int((others >= mine).sum())) / (1 + len(others))
    z = (mine - float(others.mean())) / spread
    return AuditResult("reshuffle test", _NULL, z, rank, mine - float(others.mean()), "gain (nats)", len(others))


class NGramIndex:
    """All n-grams of a training set, sorted, to find which sequences a text repeats.

    Parameters
    ----------
    sequences : token ids of each training sequence.
    length : longest n-gram that is looked up.

    Memory: 4 `length` + 12 bytes a token. Building sorts them once.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], length: int = 8):
        require(length >= 1, "length", length, "at least 1")
        require(any(len(s) for s in sequences), "sequences", "no tokens", "at least one token")
        self.count, self.length = len(sequences), length
        keys = np.concatenate([_windows(s, length) for s in sequences])
        owner = np.repeat(np.arange(len(sequences)), [len(s) for s in sequences])
        order = np.argsort(keys, kind="stable")
        self._keys, self._owner = keys[order], owner[order]

    def matches(self, text: Sequence[int]) -> Integer[np.ndarray, " sequences"]:
        """How often each sequence holds the longest n-gram, at most `length`, that begins at each place of the text."""
        require(len(text) >= 1, "text", "no tokens", "at least one token")
        places = _windows(text, self.length).view(">u4").reshape(-1, self.length)
        starts = np.zeros(len(self._keys) + 1, dtype=np.int64)
        open_ = np.arange(len(places))
        for k in range(self.length, 0, -1):
            here = open_[places[open_, k - 1] > 0]  # places with k tokens left
            low, high = (self._search(places[here], k, fill) for fill in (0, 0xFFFFFFFF))
            found = high > low
            np.add.at(starts, low[found], 1)
            np.add.at(starts, high[found], -1)
            open_ = np.setdiff1d(open_, here[found], assume_unique=True)
        hits = starts[:-1].cumsum()
        return np.bincount(self._owner, weights=hits, minlength=self.count).astype(np.int64)

    def _search(self, places: Any, k: int, fill: int) -> Any:
        keys = places.copy()
        keys[:, k:] = fill
        side: Literal["left", "right"] = "left" if fill == 0 else "right"
        return np.searchsorted(self._keys, np.ascontiguousarray(keys).view(f"S{4 * self.length}").ravel(), side)


def partition_test(
    texts: Sequence[Sequence[int]],
    index: NGramIndex,
    position: Real[np.ndarray, " sequences"],
    *,
    permutations: int | None = None,
    rng: np.random.Generator | None = None,
) -> AuditResult:
    """Does a text repeat n-grams of what was shown late more than of what was shown early?

    For text alone, without the model behind it: it needs hundreds of thousands of tokens. Other arguments as in
    `order_test`.
    """
    require(len(texts) >= 1, "texts", "none", "at least one text")
    counts = sum((index.matches(text) for text in texts), np.zeros(index.count, dtype=np.int64))
    found = order_test(counts.astype(float), position, permutations=permutations, rng=rng)
    return dataclasses.replace(found, test="partition test")


class OrderRecorder:
    """A torch sampler that shuffles by a seed and keeps the order, so that it can be tested for later.

    `DataLoader(data, sampler=OrderRecorder(len(data), seed))`. Each epoch has the same order.
    """

    def __init__(self, size: int, seed: int):
        require(size >= 1, "size", size, "at least one item")
        self.size, self.seed = size, seed
        self.order = np.random.default_rng(seed).permutation(size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.tolist())

    def __len__(self) -> int:
        return self.size

    @property
    def position(self) -> Integer[np.ndarray, " n"]:
        """The step at which each item is shown: what the tests ask for."""
        return np.argsort(self.order)

    def to_json(self) -> str:
        """Seed, order and its digest. Publish the digest in time, keep the rest."""
        return json.dumps({"seed": self.seed, "order": self.order.tolist(), "sha256": self.digest})

    @property
    def digest(self) -> str:
        """SHA-256 of the order, little-endian 64-bit integers."""
        return hashlib.sha256(self.order.astype("<i8").tobytes()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> OrderRecorder:
        """What `to_json` wrote; `ValueError` where order and digest do not agree."""
        state = json.loads(text)
        new = cls(len(state["order"]), state["seed"])
        new.order = np.array(state["order"], dtype=np.int64)
        require(new.digest == state["sha256"], "sha256", state["sha256"], "the digest of the order")
        return new


def _windows(tokens: Sequence[int], length: int) -> Any:
    """Each token and those after it as one big-endian key of fixed width; 0 beyond the end, ids from 1."""
    ids = np.asarray(tokens, dtype=np.int64)
    require(bool(((ids >= 0) & (ids < 2**32 - 2)).all()), "tokens", ids.min() if len(ids) else 0, "token ids >= 0")
    padded = np.concatenate([ids + 1, np.zeros(length, dtype=np.int64)]).astype(">u4")
    rows = np.lib.stride_tricks.sliding_window_view(padded, length)[: len(ids)]
    return np.ascontiguousarray(rows).view(f"S{4 * length}").ravel()


def _ranks(values: Any) -> Any:
    return _standard(rankdata(values))


def _standard(values: Any) -> Any:
    """Centred, of length one; zero if constant."""
    centred = values - values.mean()
    size = math.sqrt(float(centred @ centred))
    return centred / size if size > 1e-12 * (1 + abs(float(values.mean()))) else np.zeros_like(centred)
