"""Greedy maximum entropy against the released algorithm's way of computing it, and against submodlib and apricot.

The table is a synthetic literature: 1 to 15 relations a document, Zipf frequencies over 5000 chemicals and 800
organisms. "Every entropy anew" is what the released sampler does at each step: for each candidate a dense vector of
counts of the whole vocabulary and its entropies, here in one process on 100 candidates of one step, and multiplied by
what a whole selection needs; the release itself also pickles the data for its worker processes at every step.

submodlib and apricot cannot express this objective, which is not submodular. Raced are the nearest that they have, both
lazy: apricot's feature-based selection (a sum over entities of the log of counts) and submodlib's set cover (distinct
entities); submodlib's feature-based function turns all features into dense Python lists, which 10 000 documents of 5800
entities already make too large.

The floor reads the gains of all items once a step: any exact selection without bounds must.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import apricot
import numpy as np
import submodlib
from race import arguments, race, show
from scipy import sparse

from hartley.labs.queries import LiteratureLab
from hartley.querying import Incidence, coverage_greedy, greedy_max_entropy, sample_entropies


def every_entropy_anew(table: Incidence, candidates: int) -> Callable[[], float]:
    """Part of one step of the release: dense counts, entropies and distance for some candidates, each on its own."""
    matrices = [matrix.tocsr() for matrix in table.matrices]
    utopia = np.log([np.unique(matrix.indices).size for matrix in matrices])
    counts = [np.asarray(matrix[:50].sum(axis=0)).ravel() for matrix in matrices]

    def step() -> float:
        lowest = np.inf
        for d in range(50, 50 + candidates):
            entropies = []
            for matrix, c in zip(matrices, counts, strict=True):
                total = c.copy()
                row = slice(matrix.indptr[d], matrix.indptr[d + 1])
                total[matrix.indices[row]] += matrix.data[row]
                shares = total / total.sum()
                shares = shares[shares > 0]
                entropies.append(round(-float(shares @ np.log(shares)), 5))
            lowest = min(lowest, float(np.linalg.norm(entropies - utopia)))
        return lowest

    return step


def selection(size: int, k: int, quick: bool) -> None:
    table = LiteratureLab(affinity=0.0).literature(np.random.default_rng(0), documents=size).table
    joint = sparse.csr_matrix(sparse.hstack(table.matrices, format="csr"))
    joint.indices, joint.indptr = joint.indices.astype(np.int32), joint.indptr.astype(np.int32)  # apricot's types
    gains = np.random.default_rng(0).random((2, size))
    part = every_entropy_anew(table, 100)
    candidates: dict[str, Callable[[], object]] = {
        "hartley": lambda: greedy_max_entropy(table, k),
        "hartley, sum": lambda: greedy_max_entropy(table, k, selector="sum"),
        "hartley, subsample 1000": lambda: greedy_max_entropy(table, k, subsample=1000, rng=np.random.default_rng(0)),
        "coverage, lazy": lambda: coverage_greedy(table, k),
        "floor: read the gains each step": lambda: [gains.min() for _ in range(k)],
        "every entropy anew, 100 candidates": part,
    }
    if size <= 100_000:
        candidates["apricot, feature-based"] = lambda: apricot.FeatureBasedSelection(
            k, concave_func="log", optimizer="lazy"
        ).fit(joint)
        covered = [set(joint.indices[a:b].tolist()) for a, b in pairwise(joint.indptr)]
        candidates["submodlib, set cover"] = lambda: submodlib.SetCoverFunction(
            n=size, cover_set=covered, num_concepts=joint.shape[1]
        ).maximize(budget=k, optimizer="LazyGreedy", show_progress=False)
    results = race(candidates, reference="hartley", seconds=2.0 if quick else 10.0, rounds=(1 if quick else 3, 20))
    seconds = {result.name: result.seconds for result in results}
    whole = seconds["every entropy anew, 100 candidates"] / 100 * size * k
    note = f"every entropy anew, whole selection: {whole:.3g} s, {whole / seconds['hartley']:.3g} x hartley"
    show(f"{k} of {size:.0e} documents", results, note=note)
    if size <= 10_000:  # what the nearest peers reach, by this objective's own measure
        start = time.perf_counter()
        chosen = np.asarray(apricot.FeatureBasedSelection(k, concave_func="log").fit(joint).ranking)
        apricot_seconds = time.perf_counter() - start
        ours = greedy_max_entropy(table, k)
        theirs = float(np.linalg.norm(sample_entropies(table, chosen) - ours.utopia))
        print(f"distance from utopia: hartley {ours.distances[-1]:.3f}, apricot {theirs:.3f} ({apricot_seconds:.2g} s)")


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    for documents in (10_000, 100_000) if options.quick else (10_000, 100_000, 1_000_000):
        selection(documents, 100, options.quick)
