"""Which entities each item carries: a table of relations, columns of categories or sparse matrices, all read alike."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int
from scipy import sparse

from hartley.checks import require

Values: TypeAlias = Collection[Hashable] | np.ndarray
"""A column: a list, an array or a pandas Series."""


@dataclass(frozen=True)
class Incidence:
    """How often each item carries each entity, one matrix (items x entities) a variable.

    Attributes
    ----------
    matrices : counts, in compressed rows.
    labels : name of each item.
    entities : name of each column, one array a variable.
    """

    matrices: tuple[sparse.csr_array, ...]
    labels: np.ndarray
    entities: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        require(len(self.matrices) > 0, "matrices", 0, "at least one variable")
        rows = self.matrices[0].shape[0]
        for matrix in self.matrices:
            require(matrix.shape[0] == rows, "matrices", matrix.shape, f"{rows} rows in each, one an item")
            fine = bool(np.isfinite(matrix.data).all() and (matrix.data >= 0).all())
            require(fine, "matrices", "a negative count or one that is not finite", "counts >= 0")
        empty = np.flatnonzero(sum(np.asarray(m.sum(axis=1)).ravel() for m in self.matrices) == 0)
        if len(empty):
            more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
            require(False, "matrices", f"row {empty[0]}{more} empty", "at least one entity an item; drop empty rows")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, indices: Int[np.ndarray, " chosen"]) -> Incidence:
        """The incidence of some items."""
        return Incidence(tuple(m[indices] for m in self.matrices), self.labels[indices], self.entities)

    def binary(self) -> Incidence:
        """Every count > 0 becomes 1: it no longer matters how often an item names an entity."""
        return Incidence(tuple(_canonical(m, binary=True) for m in self.matrices), self.labels, self.entities)


def from_relations(items: Values, *variables: Values) -> Incidence:
    """Read a table of relations: row r says that `items[r]` carries `variables[j][r]` for each j.

    Items come out sorted, and rows of one item are merged. A missing value (None, NaN) is the entity "".
    """
    require(len(variables) > 0, "variables", variables, "at least one column of entities")
    labels, rows = factorise(items)
    require(len(labels) > 0, "items", "nothing", "at least one row")
    matrices, entities = [], []
    for column in variables:
        require(len(column) == len(rows), "variables", len(column), f"{len(rows)} values, one a row")
        names, codes = factorise(column)
        shape = (len(labels), len(names))
        matrices.append(_canonical(sparse.coo_array((np.ones(len(rows)), (rows, codes)), shape=shape)))
        entities.append(names)
    return Incidence(tuple(matrices), labels, tuple(entities))


def as_incidence(X: Any) -> Incidence:
    """Read what `greedy_max_entropy` takes: an `Incidence`, sparse matrices, or columns of categories.

    Parameters
    ----------
    X : an `Incidence`; one sparse matrix or a list of them (items x entities, counts); or a table, a data frame or
        two-dimensional array, in which each row is an item and each column a categorical variable.
    """
    if isinstance(X, Incidence):
        return X
    if sparse.issparse(X):
        X = [X]
    if isinstance(X, (list, tuple)) and X and all(sparse.issparse(m) for m in X):
        matrices = tuple(_canonical(m) for m in X)
        names = tuple(np.arange(m.shape[1]) for m in matrices)
        return Incidence(matrices, np.arange(matrices[0].shape[0]), names)
    if hasattr(X, "columns"):  # a data frame, of any kind
        columns = [np.asarray(X[name]) for name in X.columns]
    else:
        table = np.asarray(X)
        require(table.ndim == 2, "X", f"{table.ndim} dimensions", "rows of items and columns of categories")
        columns = list(table.T)
    require(len(columns) > 0 and len(columns[0]) > 0, "X", "an empty table", "at least one row and one column")
    return from_relations(np.arange(len(columns[0])), *columns)


def factorise(values: Values) -> tuple[np.ndarray, Int[np.ndarray, " rows"]]:
    """Sorted distinct values, and the position of each value among them; None and NaN are read as ""."""
    array = np.asarray(values) if hasattr(values, "__array__") else _objects(values)
    if array.dtype != object:
        names, codes = np.unique(array, return_inverse=True)
        return names, codes.ravel().astype(np.int64)
    seen: dict[Any, int] = {}
    first_codes = np.fromiter(
        (seen.setdefault("" if v is None or v != v else v, len(seen)) for v in array), np.int64, len(array)
    )
    keys = list(seen)
    try:
        order = sorted(range(len(keys)), key=keys.__getitem__)
    except TypeError:  # mixed types have no order of their own
        order = sorted(range(len(keys)), key=lambda i: (type(keys[i]).__name__, str(keys[i])))
    position = np.empty(len(keys), np.int64)
    position[order] = np.arange(len(keys))
    return _objects([keys[i] for i in order]), position[first_codes]


def _objects(values: Collection[Hashable]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def _canonical(matrix: Any, *, binary: bool = False) -> sparse.csr_array:
    """Compressed rows of float64 with sorted, summed, non-zero entries."""
    result = sparse.csr_array(matrix, dtype=np.float64, copy=True)
    result.sum_duplicates()
    result.eliminate_zeros()
    if binary:
        result.data[:] = 1.0
    return result
