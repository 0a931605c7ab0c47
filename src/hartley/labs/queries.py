"""Problems in which someone chooses what to look at next: a synthetic literature, digits asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from hartley.labs.base import Lab

if TYPE_CHECKING:
    from hartley.querying import Incidence, Trace
    from hartley.querying.information_pursuit import Criterion


@dataclass(frozen=True)
class Literature:
    """Documents and the relations "organism produces chemical" that they report.

    Attributes
    ----------
    table : documents with chemicals (variable 0) and organisms (variable 1).
    document, chemical, organism : of each relation, as codes; documents count from 0.
    """

    table: Incidence
    document: Int[np.ndarray, " relations"]
    chemical: Int[np.ndarray, " relations"]
    organism: Int[np.ndarray, " relations"]


@dataclass(frozen=True)
class LiteratureLab(Lab):
    """A literature in which a few organisms and chemicals fill most papers, and most are rare.

    Documents report 1 to 15 relations on one or two organisms. Frequencies follow Zipf's law.

    Attributes
    ----------
    documents, budget : how many there are, and how many are chosen; 0 takes 2000 and 5000 documents, one in 20 chosen.
    chemicals, organisms : kinds.
    exponent : of Zipf's law.
    affinity : share of relations in which the chemical is one of the 30 that are typical of the organism.
    """

    documents: int = 0
    budget: int = 0
    chemicals: int = 5000
    organisms: int = 800
    exponent: float = 1.1
    affinity: float = 0.7

    @property
    def size(self) -> int:
        """Documents there are."""
        return self.documents or (2000 if self.quick else 5000)

    @property
    def chosen(self) -> int:
        """Documents to choose."""
        return self.budget or self.size // 20

    def literature(self, rng: np.random.Generator, documents: int = 0, typical: int = 0) -> Literature:
        """Draw a literature; `typical` seeds which chemicals are typical of which organism."""
        from hartley.querying import from_relations

        count = documents or self.size
        document = np.repeat(np.arange(count), rng.integers(1, 16, count))
        pairs = np.stack([self._zipf(self.organisms, count, rng) for _ in range(2)])
        second = (rng.random(len(document)) < 0.3) & (rng.random(count) < 0.5)[document]
        organism = pairs[second.astype(int), document]
        favourites = np.random.default_rng(typical).integers(self.chemicals, size=(self.organisms, 30))
        typical_of = favourites[organism, rng.integers(30, size=len(document))]
        chemical = self._zipf(self.chemicals, len(document), rng)
        chemical = np.where(rng.random(len(document)) < self.affinity, typical_of, chemical)
        return Literature(from_relations(document, chemical, organism), document, chemical, organism)

    def _zipf(self, kinds: int, size: int, rng: np.random.Generator) -> Int[np.ndarray, " size"]:
        weights = np.arange(1, kinds + 1) ** -self.exponent
        return rng.choice(kinds, size, p=weights / weights.sum())

    def competitors(self, table: Incidence, rng: np.random.Generator) -> dict[str, Int[np.ndarray, " chosen"]]:
        """What else one could choose: at random, the longest or richest documents, the best coverage."""
        from hartley.querying import coverage_greedy

        relations = np.asarray(table.matrices[0].sum(axis=1)).ravel()
        kinds = [np.diff(matrix.indptr) for matrix in table.matrices]

        def top(score: Float[np.ndarray, " documents"] | Int[np.ndarray, " documents"]) -> Int[np.ndarray, " chosen"]:
            return np.argsort(-score, kind="stable")[: self.chosen]

        return {
            "random": rng.choice(len(table), self.chosen, replace=False),
            "most relations": top(relations),
            "most chemicals": top(kinds[0]),
            "most chemicals and organisms": top(kinds[0] + kinds[1]),
            "coverage": coverage_greedy(table, self.chosen),
        }

    def recall(self, train: Literature, test: Literature, chosen: Int[np.ndarray, " chosen"]) -> tuple[float, float]:
        """Macro-averaged recall and precision of naive Bayes that names the organism of each unseen relation.

        It learns from the relations of the chosen documents. Averages are over the organisms of the test relations.
        """
        used = np.isin(train.document, chosen)
        joint = np.zeros((self.organisms, self.chemicals))
        np.add.at(joint, (train.organism[used], train.chemical[used]), 1.0)
        known = joint.sum(1) > 0
        likelihood = np.log((joint + 0.01) / (joint + 0.01).sum(1, keepdims=True))
        prior = np.log(np.where(known, joint.sum(1), 1.0) / joint.sum())
        score = np.where(known, prior, -np.inf)[:, None] + likelihood
        named = score.argmax(0)[test.chemical]
        there = np.bincount(test.organism, minlength=self.organisms)
        hits = np.bincount(test.organism[named == test.organism], minlength=self.organisms)
        told = np.bincount(named, minlength=self.organisms)
        present = there > 0
        precision = hits[present] / np.maximum(told[present], 1)
        return float((hits[present] / there[present]).mean()), float(precision.mean())

    def lit_pixels(self) -> tuple[Incidence, Int[np.ndarray, " images"]]:
        """Real items: scikit-learn's digits, each the set of its lit pixels (ink of at least 8 of 16), and labels."""
        from scipy import sparse

        from hartley.querying.incidence import as_incidence

        images, digits = _digits()
        return as_incidence(sparse.csr_array((images >= 8).astype(float))), digits


@cache
def _digits() -> tuple[Float[np.ndarray, "images 64"], Int[np.ndarray, " images"]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data, data.target.astype(np.int64)


@dataclass(frozen=True)
class QuestionsLab(Lab):
    """Which digit is it? Sixteen questions, each answered by the mean ink of one block of 2 x 2 pixels.

    The predictor is a small network trained on random subsets of the answers; `gain` multiplies its logits afterwards,
    so that it is too sure of itself (above 1) or too cautious (below 1) by a known factor.

    Attributes
    ----------
    turns : questions asked at most.
    draws : estimation cases that stand for each unknown answer.
    steps : of AdamW; 0 takes 600 and 2500.
    tests : digits guessed; 0 takes 150 and 200.
    """

    turns: int = 6
    draws: int = 8
    steps: int = 0
    tests: int = 0

    def split(self, seed: int) -> dict[str, tuple[Float[np.ndarray, "cases 16"], Int[np.ndarray, " cases"]]]:
        """Answers and digits for training, calibration, estimation and testing, apart from each other."""
        images, digits = _digits()
        answers = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16) / 16
        order = np.random.default_rng(seed).permutation(len(digits))
        tests = self.tests or (150 if self.quick else 200)
        parts = np.split(order, np.cumsum([600, 300, 300, tests]))
        names = ("train", "calibration", "estimation", "test")
        return {name: (answers[part], digits[part]) for name, part in zip(names, parts, strict=False)}

    def logits(self, seed: int) -> Callable[[Float[np.ndarray, "n 16"], Bool[np.ndarray, "n 16"]], np.ndarray]:
        """The trained network, as a function of answers and mask."""
        return _network(self, seed)

    def predict(
        self, seed: int, gain: float, temperatures: Float[np.ndarray, " lengths"] | None = None
    ) -> Callable[[Float[np.ndarray, "n 16"], Bool[np.ndarray, "n 16"]], Float[np.ndarray, "n 10"]]:
        """Probabilities at a gain, divided by a temperature for each number of known answers."""
        from scipy.special import softmax

        network = self.logits(seed)

        def probabilities(values: Float[np.ndarray, "n 16"], known: Bool[np.ndarray, "n 16"]) -> np.ndarray:
            scale = gain if temperatures is None else gain / temperatures[known.sum(1)][:, None]
            return np.asarray(softmax(scale * network(values, known), axis=1))

        return probabilities

    def temperatures(self, seed: int, gain: float) -> Float[np.ndarray, " lengths"]:
        """The strong competitor: one temperature for each length, fitted to the calibration cases by likelihood."""
        from scipy.optimize import minimize_scalar
        from scipy.special import log_softmax

        from hartley.querying import random_histories

        answers, digits = self.split(seed)["calibration"]
        rng = np.random.default_rng(seed)
        fitted = np.ones(17)
        for length in range(self.turns + 1):
            known = random_histories(len(digits), 16, length, rng)
            logits = gain * self.logits(seed)(answers * known, known)

            def loss(log_t: float, logits: np.ndarray = logits) -> float:
                scores = log_softmax(logits / np.exp(log_t), axis=1)
                return -float(scores[np.arange(len(digits)), digits].mean())

            fitted[length] = np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x)
        return fitted

    def play(
        self, seed: int, gain: float, criterion: Criterion, *, alpha: float = 0.1, tempered: bool = False
    ) -> tuple[Trace, Float[np.ndarray, "tests turns"]]:
        """Games of all test digits, and after each answer whether the guess is right."""
        from hartley.querying import InformationPursuit

        parts, rng = self.split(seed), np.random.default_rng([seed, 1])
        predict = self.predict(seed, gain, self.temperatures(seed, gain) if tempered else None)
        game = InformationPursuit(
            predict, 16, criterion=criterion, alpha=alpha, max_queries=self.turns, draws=self.draws
        ).calibrate(*parts["calibration"], rng)
        answers, digits = parts["test"]
        trace = game.run_many(answers, parts["estimation"][0], rng)
        return trace, (trace.predictions == digits[:, None]).astype(float)


@cache
def _network(
    lab: QuestionsLab, seed: int
) -> Callable[[Float[np.ndarray, "n 16"], Bool[np.ndarray, "n 16"]], np.ndarray]:
    import torch
    from torch import nn

    answers, digits = lab.split(seed)["train"]
    generator = torch.Generator().manual_seed(seed)
    widths = (32, 128, 128, 10)
    layers = [
        (
            torch.empty(b, a).uniform_(-(a**-0.5), a**-0.5, generator=generator).requires_grad_(),
            torch.zeros(b).requires_grad_(),
        )
        for a, b in pairwise(widths)
    ]

    def forward(x: torch.Tensor) -> torch.Tensor:
        for weight, bias in layers[:-1]:
            x = torch.relu(nn.functional.linear(x, weight, bias))
        return nn.functional.linear(x, *layers[-1])

    values, labels = torch.tensor(answers, dtype=torch.float32), torch.tensor(digits)
    optimiser = torch.optim.AdamW([p for layer in layers for p in layer], lr=2e-3)
    for _ in range(lab.steps or (600 if lab.quick else 2500)):
        batch = torch.randint(len(labels), (128,), generator=generator)
        share = torch.rand((128, 1), generator=generator)
        known = (torch.rand((128, 16), generator=generator) < share).float()
        loss = nn.functional.cross_entropy(forward(torch.cat([values[batch] * known, known], 1)), labels[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def logits(values: Float[np.ndarray, "n 16"], known: Bool[np.ndarray, "n 16"]) -> np.ndarray:
        with torch.no_grad():
            x = torch.from_numpy(np.concatenate([values * known, known], axis=1).astype(np.float32))
            return forward(x).double().numpy()

    return logits
