"""Greedy maximum-entropy sampling: a small, balanced, diverse subset of items that carry categorical entities.

    c_e = how often the sample S carries entity e,   T = sum_e c_e,   H_j(S) = -sum_e (c_e / T) log(c_e / T)

one entropy for each variable j (organism, chemical, ...). Each step adds the item that leaves the entropies nearest to
the utopian point (log |V_1|, ..., log |V_J|), or their sum largest. Every prefix of the result is a sample, and the
curve of the entropies says when to stop.

With S = sum_e c_e log c_e, kept up to date together with its change D_d for every item d, an entropy is

    H(S + d) = log(T + n_d) - (S + D_d) / (T + n_d)

in constant time, and adding an item changes D only where entities are shared. That is exact: the order is that of
computing every entropy anew, which takes time proportional to the number of entities for every candidate.

The objective is not submodular: an item's gain may grow later, so lazy (CELF) evaluation would choose wrongly.

Source: Delmas, Wysocka, Freitas (2024), Computational Linguistics 50(3), arXiv 2311.06364; the algorithm is ours, the
order that of their released sampler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.special import gammaln

from hartley.checks import require, require_between
from hartley.querying import _max_entropy as kernel
from hartley.querying.incidence import Incidence, as_incidence

Selector = Literal["utopia", "sum"]
Progress = Callable[[int, int], bool | None]
"""Called with items chosen and items asked for; returning False stops, and what was chosen so far comes back."""

_REFRESH = 500  # steps after which running sums are computed anew, against rounding errors


@dataclass(frozen=True)
class MaxEntropySample:
    """Items in the order in which they were chosen.

    Attributes
    ----------
    indices, labels : of the items; every prefix is a sample of its own.
    entropies : of each variable after each addition, in nats, not rounded.
    utopia : log of the number of entities of each variable in the whole table.
    """

    indices: Int[np.ndarray, " chosen"]
    labels: np.ndarray
    entropies: Float[np.ndarray, "chosen variables"]
    utopia: Float[np.ndarray, " variables"]

    @property
    def distances(self) -> Float[np.ndarray, " chosen"]:
        """From the utopian point, after each addition."""
        return np.linalg.norm(self.entropies - self.utopia, axis=1)


def greedy_max_entropy(
    X: Any,
    k: int | None = None,
    *,
    selector: Selector = "utopia",
    binary: bool = False,
    decimals: int | None = 5,
    subsample: int | None = None,
    utopia: Float[np.ndarray, " variables"] | None = None,
    rng: np.random.Generator | None = None,
    progress: Progress | None = None,
) -> MaxEntropySample:
    """Choose `k` items, one after another, so that the entropies of their entities are high.

    Parameters
    ----------
    X : columns of categories (a data frame or array, one row an item), sparse incidence matrices (items x entities, one
        or a list of them), or an `Incidence`, which `from_relations` makes from a table of relations.
    k : how many; all of them, as a ranking, where None.
    selector : "utopia", nearest to the utopian point, in which the variable with more entities weighs more; or "sum".
    binary : count an entity once an item, however often the item carries it.
    decimals : entropies are rounded before they are compared, and of ties the first item wins. The release's 5 makes
        the order independent of rounding errors; None compares as they are.
    subsample : evaluate only so many random remaining items a step; needs `rng`. See `top_fraction_probability`.
    utopia : another point to aim for, for example that of a larger table.
    progress : called once a step.

    Raises
    ------
    ValueError : k beyond the number of items, an item without any entity, negative counts.

    When not to use: where items have features that say more than their entities (use a kernel or k-center method), and
    where the natural frequencies must be kept: the sample is far from random. If only the number of distinct entities
    counts, `coverage_greedy` finds more of them.
    """
    require(selector in ("utopia", "sum"), "selector", selector, '"utopia" or "sum"')
    incidence = as_incidence(X)
    table = _Table(incidence.binary() if binary else incidence)
    k = len(incidence) if k is None else k
    require(1 <= k <= len(incidence), "k", k, f"1 to {len(incidence)}, the number of items")
    if utopia is None:
        utopia = table.utopia
    require(len(utopia) == table.variables, "utopia", len(utopia), f"{table.variables} values, one a variable")
    if subsample is not None:
        require(subsample >= 1, "subsample", subsample, "at least 1")
        require(rng is not None, "rng", rng, "a numpy Generator, for subsample")
    step = table.steps(utopia, selector == "utopia", 0.0 if decimals is None else 10.0**decimals, subsample, rng)
    chosen, entropies = [], np.empty((k, table.variables))
    for done in range(k):
        chosen.append(next(step))
        entropies[done] = table.entropies()
        if progress is not None and progress(done + 1, k) is False:
            break
    indices = np.array(chosen)
    return MaxEntropySample(indices, incidence.labels[indices], entropies[: len(chosen)], utopia)


@dataclass(frozen=True)
class GreedyMaxEntropy:
    """The settings of `greedy_max_entropy` as an object: `GreedyMaxEntropy().select(X, 100).indices`."""

    selector: Selector = "utopia"
    binary: bool = False
    decimals: int | None = 5
    subsample: int | None = None

    def select(
        self, X: Any, k: int | None = None, *, rng: np.random.Generator | None = None, progress: Progress | None = None
    ) -> MaxEntropySample:
        """Choose `k` items of `X`."""
        settings: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return greedy_max_entropy(X, k, rng=rng, progress=progress, **settings)


class _Table:
    """All variables in one compressed matrix, and the state of the sample."""

    def __init__(self, incidence: Incidence) -> None:
        joint = sparse.csr_array(sparse.hstack(incidence.matrices, format="csr"))
        self.variables = len(incidence.matrices)
        self.start, self.entity, self.amount = _arrays(joint)
        self.variable = np.repeat(np.arange(self.variables), [m.shape[1] for m in incidence.matrices])
        self.joint = joint
        occurring = [np.unique(m.indices).size for m in incidence.matrices]
        self.utopia = np.log(np.maximum(occurring, 1))
        distinct = [np.unique(np.asarray(m.sum(axis=1)).ravel(), return_inverse=True) for m in incidence.matrices]
        self.sizes = np.ones((self.variables, max(len(sizes) for sizes, _ in distinct)))
        self.code = np.empty((self.variables, joint.shape[0]), np.uint32)
        for j, (sizes, code) in enumerate(distinct):
            self.sizes[j, : len(sizes)], self.code[j] = sizes, code.ravel()
        self.counts = np.zeros(joint.shape[1])
        self.totals, self.sums = np.zeros(self.variables), np.zeros(self.variables)

    def gains(self, items: Int[np.ndarray, " some"]) -> Float[np.ndarray, "variables some"]:
        found: Float[np.ndarray, "variables some"] = kernel.gains(
            items, self.start, self.entity, self.amount, self.variable, self.counts, self.variables
        )
        return found

    def entropies(self) -> Float[np.ndarray, " variables"]:
        """From the running sums; a variable of which the sample has no entity yet has entropy 0."""
        totals = np.where(self.totals > 0, self.totals, 1.0)
        return np.maximum(np.log(totals) - self.sums / totals, 0.0)

    def steps(
        self,
        utopia: Float[np.ndarray, " variables"],
        distance: bool,
        scale: float,
        subsample: int | None,
        rng: np.random.Generator | None,
    ) -> Any:
        """Add one item after another and tell which."""
        count = self.joint.shape[0]
        row = (self.start, self.entity, self.amount, self.variable, self.counts)
        if subsample is None:
            inverted = _arrays(self.joint.tocsc())
            everything = np.arange(count)
            gain = self.gains(everything)
        remaining, out = np.arange(count), np.zeros(count, bool)
        for done in range(count):
            if subsample is None:
                item = kernel.best(gain, self.code, self.sizes, self.totals, self.sums, utopia, scale, distance)
            else:
                assert rng is not None
                places = rng.choice(len(remaining), min(subsample, len(remaining)), replace=False, shuffle=False)
                some = np.sort(remaining[places])
                some_code = np.ascontiguousarray(self.code[:, some])
                state = (self.sizes, self.totals, self.sums)
                item = int(some[kernel.best(self.gains(some), some_code, *state, utopia, scale, distance)])
                place = places[remaining[places] == item][0]
                remaining[place] = remaining[-1]
                remaining = remaining[:-1]
            kernel.add(item, *row, self.totals, self.sums)
            out[item] = True
            if subsample is None:
                kernel.update(item, *row, *inverted, gain)
            if (done + 1) % _REFRESH == 0:
                terms = self.counts * np.log(np.where(self.counts > 0, self.counts, 1.0))
                self.sums[:] = np.bincount(self.variable, terms, self.variables)
                if subsample is None:
                    gain = self.gains(everything)
                    gain[:, out] = np.inf
            yield int(item)


def _arrays(
    matrix: sparse.csr_array | sparse.csc_array,
) -> tuple[Int[np.ndarray, " pointers"], Int[np.ndarray, " entries"], Float[np.ndarray, " entries"]]:
    """A compressed matrix in the one set of types that the kernels are compiled for."""
    return matrix.indptr.astype(np.int64, copy=False), matrix.indices.astype(np.int32, copy=False), matrix.data


def coverage_greedy(X: Any, k: int) -> Int[np.ndarray, " k"]:
    """Choose items that each add the most entities not seen before; the competitor for the number of distinct ones.

    Lazy evaluation is exact here: coverage is submodular. Of ties the first item wins; items that add nothing more
    follow in order.
    """
    import heapq

    incidence = as_incidence(X)
    require(1 <= k <= len(incidence), "k", k, f"1 to {len(incidence)}, the number of items")
    joint = sparse.csr_array(sparse.hstack(incidence.matrices, format="csr"))
    seen = np.zeros(joint.shape[1], bool)
    heap = [(-int(size), item) for item, size in enumerate(np.diff(joint.indptr))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < k:
        bound, item = heapq.heappop(heap)
        entities = joint.indices[joint.indptr[item] : joint.indptr[item + 1]]
        new = int(np.count_nonzero(~seen[entities]))
        if new == -bound:
            chosen.append(item)
            seen[entities] = True
        else:
            heapq.heappush(heap, (-new, item))
    return np.array(chosen)


def sample_entropies(X: Any, indices: Int[np.ndarray, " chosen"]) -> Float[np.ndarray, " variables"]:
    """Entropy of each variable over a sample, in nats, from its counts."""
    values = []
    for matrix in as_incidence(X).matrices:
        counts = np.asarray(matrix[indices].sum(axis=0)).ravel()
        shares = counts[counts > 0] / max(counts.sum(), 1.0)
        values.append(-float(np.sum(shares * np.log(shares))))
    return np.abs(values)  # -0.0 of a single entity


def top_fraction_probability(total: int, subsample: int, top: int) -> float:
    """Probability that the best of `subsample` random items is among the `top` best of all: what `subsample` risks.

    1 - C(total - top, subsample) / C(total, subsample)
    """
    require(1 <= subsample <= total, "subsample", subsample, f"1 to {total}")
    require(1 <= top <= total, "top", top, f"1 to {total}")
    if subsample > total - top:
        return 1.0
    missed = gammaln(total - top + 1) + gammaln(total - subsample + 1)
    missed -= gammaln(total - top - subsample + 1) + gammaln(total + 1)
    return float(-np.expm1(missed))


def stopping_point(entropies: Float[np.ndarray, "chosen variables"], patience: int = 10) -> int:
    """How many items to keep: up to the first after which the summed entropies stay lower for `patience` additions.

    All of them if there is none. A single fall says nothing: one item with many entities makes the curve drop.
    """
    require_between("patience", patience, 1, closed="left")
    curve = entropies.sum(axis=1)
    for i in range(len(curve) - patience):
        if (curve[i + 1 : i + 1 + patience] < curve[i]).all():
            return i + 1
    return len(curve)
