"""The room's methods in scikit-learn's clothes; needs scikit-learn.

rows, targets, weights = RowSampler(p=1, m=2000, random_state=0).fit_resample(X, y)
QuantileRegressor(alpha=0).fit(rows, targets, sample_weight=weights)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from hartley.montecarlo import sensitivity
from hartley.montecarlo.determinantal import fit_weighted
from hartley.montecarlo.sensitivity import Rows, Scheme
from hartley.montecarlo.spaces import Product, Space


class RowSampler(BaseEstimator):
    """A weighted subset of the rows on which an ℓ_p regression is nearly the regression on all of them.

    Scores are those of the columns of X together with an intercept and y, so that the residuals of every linear model
    are preserved, not only its predictions.

    Parameters
    ----------
    p, m, scheme, method, exact_size : see `hartley.montecarlo.sample_rows`. p = 2 for least squares, 1 for quantiles.
    random_state : seed.

    Attributes
    ----------
    sample_ : the `RowSample` of the last `fit_resample`.
    """

    def __init__(
        self,
        p: float = 2.0,
        m: int = 1000,
        scheme: Scheme = "l2_augmented",
        method: str = "sketch",
        exact_size: bool = False,
        random_state: int | None = None,
    ) -> None:
        self.p = p
        self.m = m
        self.scheme = scheme
        self.method = method
        self.exact_size = exact_size
        self.random_state = random_state

    def fit_resample(self, X: Rows, y: Float[ndarray, " rows"]) -> tuple[Rows, ndarray, ndarray]:
        """The kept rows of X, their targets, and the weights to pass as `sample_weight`."""
        columns = [X, np.ones((X.shape[0], 1)), np.reshape(y, (-1, 1))]
        a = sparse.hstack(columns, format="csr") if sparse.issparse(X) else np.hstack(columns)
        self.sample_ = sensitivity.sample_rows(
            a,
            self.p,
            self.m,
            np.random.default_rng(self.random_state),
            scheme=self.scheme,
            method=self.method,  # type: ignore[arg-type]
            exact_size=self.exact_size,
        )
        kept = self.sample_.indices
        return X[kept], np.asarray(y)[kept], self.sample_.weights


class SpaceRegressor(RegressorMixin, BaseEstimator):
    """Weighted least squares in a function space, on the points of a design.

        design = sample_design(space, 3 * space.dimension, rng)
        SpaceRegressor(space).fit(design.x, f(design.x), sample_weight=design.weights).predict(x)

    Parameters
    ----------
    space : `Legendre(20)`, `Product.total_degree(Legendre, 2, 8)` or any other space of this room.

    Attributes
    ----------
    coef_ : coefficients in the orthonormal basis; coef_[0] is the fitted mean for polynomial spaces, and the sum of
        their squares the fitted second moment.
    """

    def __init__(self, space: Space) -> None:
        self.space = space

    def fit(self, X: ndarray, y: ndarray, sample_weight: ndarray | None = None) -> SpaceRegressor:
        """Least squares with the given weights, 1 by default."""
        weights = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        self.coef_ = fit_weighted(self.space, self._points(X), np.asarray(y, dtype=float), weights)
        return self

    def predict(self, X: ndarray) -> ndarray:
        """Values of the fit."""
        check_is_fitted(self)
        return np.asarray(self.space.features(self._points(X)) @ self.coef_)

    def _points(self, X: ndarray) -> ndarray:
        """A single column is a variable, as the spaces of one variable expect it."""
        x = np.asarray(X)
        return x[:, 0] if x.ndim == 2 and x.shape[1] == 1 and not isinstance(self.space, Product) else x
