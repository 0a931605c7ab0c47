"""Conformal information pursuit: ask the question after which the prediction set is expected to be smallest.

A predictor f(history) gives probabilities of C classes from the questions asked so far and their answers. Information
pursuit asks what minimises the expected entropy H(Y | history, answer); that trusts the probabilities. The conformal
form asks what minimises log E|C_k|, where the set

    C_k(history) = {y : f(history)_y >= tau_k}

holds the true class with probability at least 1 - alpha over random histories of k questions, whatever f is worth. The
size bounds the entropy (`entropy_upper_bound`). Scores of N calibration cases give tau_k, one for each length k: their
floor((N + 1) alpha)-th smallest, or -inf if there is none.

Source: Chan, Ge, Dobriban, Hassani, Vidal (2025), arXiv 2507.03279. The threshold follows their definition of the
nonconformity -f_y; their Algorithm 1 read literally takes the opposite quantile, which covers with probability alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import entr

from hartley.checks import require, require_between

Criterion = Literal["set_size", "entropy", "random"]
Predict = Callable[[Float[np.ndarray, "batch queries"], Bool[np.ndarray, "batch queries"]], np.ndarray]
"""Probabilities (batch x classes) from answers and which of them are known; unknown answers are 0."""


@dataclass(frozen=True)
class Trace:
    """Games of one or more cases, side by side.

    Attributes
    ----------
    queries : asked, in order; -1 after the end of a game.
    answers : to them; NaN after the end.
    uncertainty : criterion of the question when it was asked, in nats: log of the expected set size, or entropy.
    probabilities : of the classes after 0, 1, ... answers; they stay what they are after the end.
    thresholds : tau of each number of answers.
    """

    queries: Int[np.ndarray, "cases asked"]
    answers: Float[np.ndarray, "cases asked"]
    uncertainty: Float[np.ndarray, "cases asked"]
    probabilities: Float[np.ndarray, "cases turns classes"]
    thresholds: Float[np.ndarray, " turns"]

    @property
    def lengths(self) -> Int[np.ndarray, " cases"]:
        """Questions asked in each game."""
        return (self.queries >= 0).sum(axis=1)

    @property
    def predictions(self) -> Int[np.ndarray, "cases turns"]:
        """The likeliest class after each number of answers."""
        return self.probabilities.argmax(axis=2)

    @property
    def sets(self) -> Bool[np.ndarray, "cases turns classes"]:
        """Which classes the prediction set holds. Chosen histories are not random ones: coverage is not guaranteed."""
        turns = np.minimum(np.arange(self.probabilities.shape[1]), self.lengths[:, None])
        return prediction_set(self.probabilities, self.thresholds[turns][:, :, None])


def conformal_threshold(scores: Float[np.ndarray, " calibration"], alpha: float) -> float:
    """Lowest probability that puts a class into the set: the floor((N + 1) alpha)-th smallest score, -inf if none.

    Parameters
    ----------
    scores : probability given to the true class, of each calibration case.
    alpha : share of cases whose true class the set may miss.
    """
    require_between("alpha", alpha, 0, 1)
    require(len(scores) > 0 and not np.isnan(scores).any(), "scores", "empty or with NaN", "one number a case")
    rank = int(np.ceil(round((len(scores) + 1) * (1 - alpha), 9)))  # 10 * 0.9 must not come out above 9
    return -np.inf if rank > len(scores) else float(np.sort(scores)[::-1][rank - 1])


def prediction_set(
    probabilities: Float[np.ndarray, "*batch classes"], threshold: float | Float[np.ndarray, "*rest"]
) -> Bool[np.ndarray, "*batch classes"]:
    """Classes at or above the threshold."""
    inside: Bool[np.ndarray, "*batch classes"] = probabilities >= threshold
    return inside


def entropy_upper_bound(mean_size: float, alpha: float, calibration: int, classes: int) -> float:
    """Bound on H(Y | X) in nats by the mean size of sets that cover with probability 1 - alpha.

        h(alpha) + alpha log C - (1 - alpha_N) log(1 - alpha) + (1 - alpha_N) log mean_size

    for N calibration cases, alpha_N = alpha - 1 / (N + 1), C classes and alpha < 1/2 (section 3 of the source, after
    Correia et al. 2024).
    """
    require_between("alpha", alpha, 0, 0.5)
    require_between("mean_size", mean_size, 0)
    require(calibration >= 1, "calibration", calibration, "at least 1")
    require(classes >= 2, "classes", classes, "at least 2")
    share = 1 - (alpha - 1 / (calibration + 1))
    binary = float(entr(alpha) + entr(1 - alpha))
    return binary + alpha * float(np.log(classes)) - share * float(np.log1p(-alpha) - np.log(mean_size))


class InformationPursuit:
    """Asks questions from a fixed list, one after another.

    Parameters
    ----------
    predict : probabilities from answers and a mask of the known ones; called on batches.
    queries : how many questions there are.
    criterion : "set_size" (conformal), "entropy" (information pursuit) or "random".
    alpha : share of cases whose true class the sets may miss.
    max_queries : longest game; all questions where None.
    draws : answers of so many random cases stand for the unknown answer of each candidate question.
    spread : a game ends when the criterion's standard deviation over the candidates is below this; 0 plays on.
    certain : a game also ends when its set holds one class.
    min_size : 1 puts the likeliest class into every expected set; 0 counts empty sets as empty.

    When not to use: with a predictor that is too cautious or well calibrated, where `criterion="entropy"` asks better
    questions. Entropy after temperature scaling on the calibration cases is the strong competitor.
    """

    def __init__(
        self,
        predict: Predict,
        queries: int,
        *,
        criterion: Criterion = "set_size",
        alpha: float = 0.1,
        max_queries: int | None = None,
        draws: int = 4,
        spread: float = 0.0,
        certain: bool = False,
        min_size: int = 0,
    ) -> None:
        require(criterion in ("set_size", "entropy", "random"), "criterion", criterion, "set_size, entropy or random")
        require_between("alpha", alpha, 0, 1)
        require_between("spread", spread, 0, closed="left")
        require(queries >= 1, "queries", queries, "at least 1")
        require(draws >= 1, "draws", draws, "at least 1")
        require(min_size in (0, 1), "min_size", min_size, "0 or 1")
        limit = queries if max_queries is None else max_queries
        require(1 <= limit <= queries, "max_queries", max_queries, f"1 to {queries}, the number of questions")
        self.predict, self.queries, self.criterion, self.alpha = predict, queries, criterion, alpha
        self.max_queries, self.draws, self.spread = limit, draws, spread
        self.certain, self.min_size = certain, min_size
        self.thresholds: Float[np.ndarray, " turns"] | None = None

    def calibrate(
        self,
        answers: Float[np.ndarray, "cases queries"],
        labels: Int[np.ndarray, " cases"],
        rng: np.random.Generator,
        masks: Callable[[int], Bool[np.ndarray, "cases queries"]] | None = None,
    ) -> InformationPursuit:
        """Find the threshold of each history length from cases that the predictor was not trained on.

        Parameters
        ----------
        masks : which answers are known, for a length; without it so many different questions at random.
        """
        self._require_answers("answers", answers)
        require(len(labels) == len(answers), "labels", len(labels), f"one a case, {len(answers)}")
        thresholds = []
        for length in range(self.max_queries + 1):
            known = random_histories(len(answers), self.queries, length, rng) if masks is None else masks(length)
            scores = self._predict(answers, known)
            require(
                bool(((labels >= 0) & (labels < scores.shape[1])).all()),
                "labels",
                labels,
                f"0 to {scores.shape[1] - 1}",
            )
            thresholds.append(conformal_threshold(scores[np.arange(len(labels)), labels], self.alpha))
        self.thresholds = np.array(thresholds)
        return self

    def scores(
        self,
        answers: Float[np.ndarray, "cases queries"],
        known: Bool[np.ndarray, "cases queries"],
        estimation: Float[np.ndarray, "others queries"],
        rng: np.random.Generator,
    ) -> Float[np.ndarray, "cases queries"]:
        """The criterion of every question, to be minimised; inf for those that were asked.

        Unknown answers are those of `draws` random rows of `estimation`, not conditioned on the history.
        """
        self._require_answers("answers", answers)
        self._require_answers("estimation", estimation)
        require(len(estimation) > 0, "estimation", "nothing", "answers of at least one case")
        if self.criterion == "random":
            return np.where(known, np.inf, 0.0)
        rows, queries = np.nonzero(~known)
        drawn = estimation[rng.integers(len(estimation), size=(len(answers), self.draws))]
        value, mask = (np.repeat(array[rows][:, None], self.draws, axis=1) for array in (answers, known))
        value[np.arange(len(rows)), :, queries] = drawn[rows, :, queries]
        mask[np.arange(len(rows)), :, queries] = True
        flat = self._predict(value.reshape(-1, self.queries), mask.reshape(-1, self.queries))
        probabilities = flat.reshape(len(rows), self.draws, -1)
        if self.criterion == "entropy":
            found = entr(probabilities).sum(axis=2).mean(axis=1)
        else:
            turns = np.minimum(known.sum(axis=1) + 1, self.max_queries)[rows]
            inside = prediction_set(probabilities, self._thresholds()[turns][:, None, None]).sum(axis=2)
            mean = np.maximum(inside, self.min_size).mean(axis=1)
            found = np.log(np.maximum(mean, 1 / self.draws))
        result = np.full(known.shape, np.inf)
        result[rows, queries] = found
        return result

    def run(
        self,
        answer: Callable[[int], float],
        estimation: Float[np.ndarray, "others queries"],
        rng: np.random.Generator,
    ) -> Trace:
        """Play one game: `answer` is called with each question's number."""
        return self._play(lambda cases, queries: np.array([answer(int(queries[0]))], float), 1, estimation, rng)

    def run_many(
        self,
        answers: Float[np.ndarray, "cases queries"],
        estimation: Float[np.ndarray, "others queries"],
        rng: np.random.Generator,
    ) -> Trace:
        """Play many games at once, whose answers are known to the caller: for evaluation."""
        self._require_answers("answers", answers)
        return self._play(lambda cases, queries: answers[cases, queries], len(answers), estimation, rng)

    def _play(
        self,
        answer: Callable[[Int[np.ndarray, " some"], Int[np.ndarray, " some"]], Float[np.ndarray, " some"]],
        cases: int,
        estimation: Float[np.ndarray, "others queries"],
        rng: np.random.Generator,
    ) -> Trace:
        thresholds = self._thresholds() if self.criterion == "set_size" or self.certain else self.thresholds
        values, known = np.zeros((cases, self.queries)), np.zeros((cases, self.queries), bool)
        asked = np.full((cases, self.max_queries), -1)
        given, criterion = np.full((2, cases, self.max_queries), np.nan)
        probabilities = [self._predict(values, known)]
        active = np.arange(cases)
        for turn in range(self.max_queries):
            scores = self.scores(values[active], known[active], estimation, rng)
            open_ = ~known[active]
            deviation = np.array([row[mask].std() for row, mask in zip(scores, open_, strict=True)])
            done = deviation < self.spread
            if self.certain and thresholds is not None:
                done |= prediction_set(probabilities[-1][active], thresholds[turn]).sum(axis=1) == 1
            active, scores = active[~done], scores[~done]
            if not len(active):
                break
            tied = scores <= scores.min(axis=1, keepdims=True) + 1e-12
            chosen = np.where(tied, rng.random(scores.shape), -1.0).argmax(axis=1)
            replies = answer(active, chosen)
            require(bool(np.isfinite(replies).all()), "answer", replies.tolist(), "finite numbers")
            asked[active, turn], given[active, turn] = chosen, replies
            criterion[active, turn] = scores[np.arange(len(active)), chosen]
            values[active, chosen], known[active, chosen] = replies, True
            now = probabilities[-1].copy()
            now[active] = self._predict(values[active], known[active])
            probabilities.append(now)
        turns = len(probabilities)
        shown = np.full(turns, np.nan) if thresholds is None else thresholds[:turns]
        return Trace(
            asked[:, : turns - 1],
            given[:, : turns - 1],
            criterion[:, : turns - 1],
            np.stack(probabilities, axis=1),
            shown,
        )

    def _thresholds(self) -> Float[np.ndarray, " turns"]:
        if self.thresholds is None:
            raise ValueError("there are no thresholds yet: call calibrate first")
        return self.thresholds

    def _predict(
        self, values: Float[np.ndarray, "batch queries"], known: Bool[np.ndarray, "batch queries"]
    ) -> Float[np.ndarray, "batch classes"]:
        found = np.asarray(self.predict(np.where(known, values, 0.0), known), dtype=np.float64)
        require(found.ndim == 2 and len(found) == len(values), "predict", found.shape, f"{len(values)} rows of classes")
        fine = bool((found >= 0).all() and (np.abs(found.sum(axis=1) - 1) < 1e-3).all())  # False with NaN
        require(fine, "predict", "NaN, negative values or rows that do not add up to 1", "probabilities of the classes")
        return found

    def _require_answers(self, name: str, answers: Float[np.ndarray, "cases queries"]) -> None:
        require(answers.shape[1] == self.queries, name, answers.shape, f"{self.queries} columns, one a question")
        require(bool(np.isfinite(answers).all()), name, "not finite", "finite answers")


def random_histories(
    cases: int, queries: int, length: int, rng: np.random.Generator
) -> Bool[np.ndarray, "cases queries"]:
    """Masks of `length` different questions each, uniformly at random."""
    require(0 <= length <= queries, "length", length, f"0 to {queries}")
    return rng.random((cases, queries)).argsort(axis=1) < length
