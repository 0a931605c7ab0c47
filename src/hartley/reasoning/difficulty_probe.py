"""A small classifier of hidden states, with the interface of scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from hartley.checks import require


class DifficultyProbe(ClassifierMixin, BaseEstimator):
    """Difficulty of a question from the model's last hidden state at its end.

    Standardised features, one hidden layer of ReLUs, softmax, Adam. The source decays weights apart from the gradient;
    here the penalty is scikit-learn's.

    Parameters
    ----------
    hidden : units; 0 is logistic regression, the linear probe.
    learning_rate, epochs, batch_size, weight_decay : of the training; all epochs are run.
    random_state : of the first weights and the order of the examples.

    Attributes
    ----------
    classes_ : labels that occurred; with a single one it is always predicted, and fitting warns.

    When not to use: questions that differ in length above all. A probe of the length alone is the control.
    """

    def __init__(
        self,
        hidden: int = 256,
        learning_rate: float = 1e-3,
        epochs: int = 100,
        batch_size: int = 64,
        weight_decay: float = 1e-2,
        random_state: int | None = None,
    ) -> None:
        self.hidden, self.learning_rate, self.epochs = hidden, learning_rate, epochs
        self.batch_size, self.weight_decay, self.random_state = batch_size, weight_decay, random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> DifficultyProbe:
        """Learn the labels of states (questions x dimensions)."""
        require(self.hidden >= 0, "hidden", self.hidden, "at least 0")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        labels = np.unique(np.asarray(y))
        if len(labels) == 1:
            warnings.warn(f"all questions are labelled {labels[0]}: the probe says nothing else", stacklevel=2)
            classifier: Any = DummyClassifier()
        elif self.hidden == 0:
            classifier = LogisticRegression(max_iter=1000)
        else:
            classifier = MLPClassifier(
                (self.hidden,),
                alpha=self.weight_decay,
                batch_size=min(self.batch_size, len(np.asarray(y))),
                learning_rate_init=self.learning_rate,
                max_iter=self.epochs,
                n_iter_no_change=self.epochs,
                random_state=self.random_state,
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is a choice
            self.pipeline_ = make_pipeline(StandardScaler(), classifier).fit(X, y)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest label of each state."""
        check_is_fitted(self)
        return np.asarray(self.pipeline_.predict(X))

    def predict_proba(self, X: ArrayLike) -> Float[NDArray[Any], "questions labels"]:
        """Probabilities of the labels in `classes_`."""
        check_is_fitted(self)
        return np.asarray(self.pipeline_.predict_proba(X))
