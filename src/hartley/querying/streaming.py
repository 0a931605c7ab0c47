"""Maximum-entropy selection from a stream that does not fit into memory.

Only the sample is kept. A chunk of items joins it, and greedy selection among both leaves a new sample of k; a chunk of
m items costs what a table of k + m does. The utopian point follows the entities seen so far.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse

from hartley.checks import require
from hartley.querying.incidence import Incidence, as_incidence
from hartley.querying.max_entropy import MaxEntropySample, Selector, greedy_max_entropy


class StreamingMaxEntropy:
    """`update` takes chunks; `sample` is the current choice, with indices that count from the start of the stream.

    Parameters
    ----------
    k : size of the sample.
    selector, binary, decimals : as in `greedy_max_entropy`.

    When not to use: tables that fit into memory, where `greedy_max_entropy` sees all items at every step. Here an item
    that was dropped never comes back.
    """

    def __init__(
        self, k: int, *, selector: Selector = "utopia", binary: bool = False, decimals: int | None = 5
    ) -> None:
        require(k >= 1, "k", k, "at least 1")
        self.k, self.selector, self.binary, self.decimals = k, selector, binary, decimals
        self.seen = 0
        self._names: list[dict[Any, int]] = []
        self._kept: Incidence | None = None
        self._sample: MaxEntropySample | None = None

    def update(self, X: Any) -> StreamingMaxEntropy:
        """Take a chunk: anything that `greedy_max_entropy` takes, entities known by their names across chunks."""
        chunk = as_incidence(X)
        self._names = self._names or [{} for _ in chunk.matrices]
        require(len(chunk.matrices) == len(self._names), "X", len(chunk.matrices), f"{len(self._names)} variables")
        occurring = [np.unique(m.indices) for m in chunk.matrices]
        codes = []
        for known, entities, present in zip(self._names, chunk.entities, occurring, strict=True):
            code = np.zeros(len(entities), np.int64)
            code[present] = [known.setdefault(name, len(known)) for name in entities[present].tolist()]
            codes.append(code)
        moved = [
            sparse.csr_array((m.data, code[m.indices], m.indptr), shape=(m.shape[0], len(known)))
            for m, code, known in zip(chunk.matrices, codes, self._names, strict=True)
        ]
        labels = np.arange(self.seen, self.seen + len(chunk))
        if self._kept is not None:
            for j, (kept, new) in enumerate(zip(self._kept.matrices, moved, strict=True)):
                shape = (kept.shape[0], new.shape[1])
                wider = sparse.csr_array((kept.data, kept.indices, kept.indptr), shape=shape)
                moved[j] = sparse.csr_array(sparse.vstack([wider, new], format="csr"))
            labels = np.append(self._kept.labels, labels)
        self.seen += len(chunk)
        names = tuple(np.arange(m.shape[1]) for m in moved)
        joint = Incidence(tuple(moved), labels, names)
        found = greedy_max_entropy(
            joint,
            min(self.k, len(labels)),
            selector=self.selector,
            binary=self.binary,
            decimals=self.decimals,
            utopia=self.utopia,
        )
        self._kept = joint.rows(found.indices)
        self._sample = MaxEntropySample(labels[found.indices], labels[found.indices], found.entropies, self.utopia)
        return self

    @property
    def utopia(self) -> Float[np.ndarray, " variables"]:
        """Log of the number of entities seen so far, one value a variable."""
        return np.log([float(len(known)) for known in self._names])

    @property
    def sample(self) -> MaxEntropySample:
        """What is kept now."""
        if self._sample is None:
            raise ValueError("nothing was selected yet: call update with a chunk first")
        return self._sample
