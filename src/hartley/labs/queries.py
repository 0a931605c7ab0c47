"""Problems in which someone chooses what to look at next: a synthetic literature, digits asked about, arms to pull."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from hartley.labs.base import Lab

if TYPE_CHECKING:
    from hartley.querying import Incidence


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
