"""Surrogates of an expensive likelihood: fitted on the way, judged on held-out points, dropped where they fail.

`SurrogateLikelihood` wraps the user's function; `nested_sample` puts it into dynesty. Any regressor of scikit-learn or
torch will do, and `tune_architecture` searches the layers of the default one.

Source: Gómez-Vargas and Vázquez (2024), arXiv 2405.03293.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import nn

from hartley.checks import require, require_between


@dataclass
class SurrogateLikelihood:
    """A log-likelihood that learns itself; wraps the user's and stands in its place in `dynesty`.

    Attributes
    ----------
    loglike : theta (d,) -> log-likelihood; -inf is legal.
    regressor : anything with scikit-learn's fit and predict, or a torch module (n, d) -> (n,) or (n, 1), trained as
        `TorchRegressor` says; a small neural network by default. Inputs and targets are standardised for it.
    mode : "screen" or "replace".
    val_rmse : largest error on held-out points, in nats, with which the regressor is used.
    update : true evaluations between two fits.
    audit : share of turned-away (or replaced) proposals that are evaluated all the same.
    search : networks in each generation of the genetic search that chooses the default regressor's layers at the first
        fit (`tune_architecture`); 0 takes it as it is.
    threshold : the present likelihood threshold; the sampling loop keeps it current, and sets `tries` to 0.
    excess : calls at one threshold after which "replace" is `stuck`: its live points may claim more than any point has.
    """

    loglike: Callable[[ndarray], float]
    rng: np.random.Generator
    regressor: Any = None
    mode: Literal["screen", "replace"] = "screen"
    val_rmse: float = 0.3
    update: int = 300
    audit: float = 0.05
    search: int = 0
    excess: int = 1000
    threshold: float = -np.inf
    tries: int = 0
    stuck: bool = False
    active: bool = False
    rmse: float = np.inf
    n_true: int = 0
    n_surrogate: int = 0
    n_trainings: int = 0
    audited: int = 0
    wrong: int = 0
    screened: int = 0
    failed: bool = False
    theta: list[ndarray] = field(default_factory=list, repr=False)
    values: list[float] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        require(self.mode in ("screen", "replace"), "mode", self.mode, '"screen" or "replace"')
        require_between("val_rmse", self.val_rmse, 0)
        require_between("audit", self.audit, 0, 1)
        searchable = self.search == 0 or (self.search >= 2 and self.regressor is None)
        require(searchable, "search", self.search, "0, or at least 2 networks and no regressor of your own")
        if self.regressor is None:
            self.regressor = network()
        elif isinstance(self.regressor, nn.Module):
            self.regressor = TorchRegressor(self.regressor)

    def __call__(self, theta: Float[ndarray, " d"]) -> float:
        self.tries += 1
        if self.mode == "replace" and self.tries > self.excess and self.n_surrogate and not self.failed:
            self.stuck = True  # any point will do, for `settle` to put right
            return float(np.nextafter(self.threshold, np.inf))
        if not self.active:
            return self._true(theta)
        guess = self._predict(theta)
        if self.mode == "replace":
            self.n_surrogate += 1
            if self.rng.random() < self.audit:
                truth = self._true(theta)
                if max(truth, guess) > self.threshold - 3:  # farther down nothing hangs on it
                    self.audited += 1
                    self.wrong += abs(truth - guess) > 0.3 + 2 * self.rmse
                    self._judge(0.2)
                return truth
            return min(guess, max(self.values) + self.rmse)
        if guess >= self.threshold - 3 * self.rmse:
            return self._true(theta)
        self.n_surrogate += 1
        self.screened += 1
        if self.rng.random() < self.audit:
            truth = self._true(theta)
            self.audited += 1
            self.wrong += truth > self.threshold
            self._judge(0.02)
            return truth
        return min(guess, self.threshold - 1e-9)

    def train(self) -> None:
        """Fit on four fifths of the true values around and above the threshold, and open or close the gate."""
        self._trained_at = self.n_true
        theta, values = np.array(self.theta), np.array(self.values)
        live = values[values > self.threshold]
        reach = float(np.ptp(live)) if len(live) else np.inf
        near = np.isfinite(values) & (values > self.threshold - max(reach, 3.0))
        if near.sum() < 50 or self.failed:
            return
        theta, values = theta[near][-1000:], values[near][-1000:]
        self._centre, self._scale = theta.mean(axis=0), theta.std(axis=0) + 1e-300
        self._middle, self._spread = float(values.mean()), float(values.std()) + 1e-300
        order = self.rng.permutation(len(theta))
        held, rest = order[: len(order) // 5], order[len(order) // 5 :]
        x, y = (theta - self._centre) / self._scale, (values - self._middle) / self._spread
        self.n_trainings += 1
        if self.search and self.n_trainings == 1:
            self.regressor = tune_architecture(x[rest], y[rest], self.rng, population=self.search)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of networks that have not converged: the held-out error judges them
                self.regressor.fit(x[rest], y[rest])
            errors = (self.regressor.predict(x[held]) - y[held]) * self._spread
        except (ValueError, FloatingPointError) as reason:
            warnings.warn(f"the surrogate cannot be fitted ({reason}); the true likelihood goes on", stacklevel=2)
            self.active, self.failed = False, True
            return
        self.rmse = float(np.sqrt(np.mean(np.square(errors))))
        self.active = bool(np.isfinite(self.rmse) and self.rmse <= self.val_rmse)

    def settle(self, live: Float[ndarray, "n d"], values: Float[ndarray, " n"]) -> None:
        """Give live points their true values, in place, and go on without the surrogate."""
        warnings.warn(
            f"no point in {self.excess} passed a threshold that the surrogate had set: its live points were evaluated "
            "truly, and the true likelihood goes on",
            stacklevel=3,
        )
        known = {theta.tobytes(): value for theta, value in zip(self.theta, self.values, strict=True)}
        values[:] = [known[t.tobytes()] if t.tobytes() in known else self._true(t) for t in live]
        self.active, self.failed, self.stuck = False, True, False

    @property
    def due(self) -> bool:
        """Whether enough true values came in since the last fit; twice as many while it is good."""
        return self.n_true - getattr(self, "_trained_at", 0) >= self.update * (2 if self.active else 1)

    def _predict(self, theta: Float[ndarray, " d"]) -> float:
        y = self.regressor.predict(((theta - self._centre) / self._scale)[None])
        return float(np.ravel(y)[0]) * self._spread + self._middle

    def _true(self, theta: Float[ndarray, " d"]) -> float:
        value = float(self.loglike(theta))
        require(value < np.inf, "loglike", f"{value} at theta = {np.asarray(theta).tolist()}", "a number or -inf")
        self.n_true += 1
        self.theta.append(np.array(theta))
        self.values.append(value)
        return value

    def _judge(self, tolerance: float) -> None:
        if self.audited >= 20 and self.wrong > tolerance * self.audited + 2 * np.sqrt(tolerance * self.audited):
            self.active, self._trained_at = False, self.n_true


def network(hidden: tuple[int, ...] = (32, 32), decay: float = 1e-3, seed: int = 0) -> Any:
    """The default surrogate: a small network of scikit-learn, trained by L-BFGS, which suits a thousand points."""
    from sklearn.neural_network import MLPRegressor

    return MLPRegressor(
        hidden_layer_sizes=hidden, activation="tanh", solver="lbfgs", alpha=decay, max_iter=200, random_state=seed
    )


class TorchRegressor:
    """A torch module with scikit-learn's `fit` and `predict`: full-batch L-BFGS on the squared error.

    Parameters
    ----------
    module : (n, d) -> (n,) or (n, 1), without dropout: each step is deterministic. A further fit starts from the
        weights of the last one.
    iterations : of L-BFGS, at most, a fit.
    decay : of the weights, per row.
    """

    def __init__(self, module: nn.Module, iterations: int = 200, decay: float = 1e-3) -> None:
        self.module, self.iterations, self.decay = module, iterations, decay

    def fit(self, x: Float[ndarray, "n d"], y: Float[ndarray, " n"]) -> TorchRegressor:
        weights = list(self.module.parameters())
        target = torch.as_tensor(y).to(weights[0])
        rows = torch.as_tensor(x).to(weights[0])
        optimiser: Any = torch.optim.LBFGS(weights, max_iter=self.iterations, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimiser.zero_grad()
            penalty = sum((w.square().sum() for w in weights), torch.zeros_like(weights[0].sum()))
            value = (self.module(rows).flatten() - target).square().mean() + self.decay / len(x) * penalty
            torch.autograd.backward(value)
            return value.detach()

        optimiser.step(loss)
        return self

    @torch.no_grad()
    def predict(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        rows = torch.as_tensor(x).to(next(self.module.parameters()))
        return np.asarray(self.module(rows).flatten().double().cpu())


def tune_architecture(
    theta: Float[ndarray, "n d"],
    logl: Float[ndarray, " n"],
    rng: np.random.Generator,
    *,
    population: int = 8,
    generations: int = 4,
) -> Any:
    """Genetic search of the network: layers 1 to 3, neurons 8 to 64, weight decay; by held-out squared error.

    Tournament selection, uniform crossover, one mutation in three, the best survives. Returns the unfitted network.
    """
    layers, neurons, decays = [1, 2, 3], [8, 16, 32, 64], [1e-4, 1e-3, 1e-2]
    choices: tuple[list[Any], ...] = (layers, neurons, decays)
    x = (theta - theta.mean(axis=0)) / (theta.std(axis=0) + 1e-300)
    y = (logl - logl.mean()) / (logl.std() + 1e-300)
    held = rng.permutation(len(x)) < len(x) // 5
    scores: dict[tuple[int, ...], float] = {}

    def build(genes: tuple[int, ...]) -> Any:
        return network((neurons[genes[1]],) * layers[genes[0]], decays[genes[2]])

    def loss(genes: tuple[int, ...]) -> float:
        if genes not in scores:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = build(genes).fit(x[~held], y[~held])
            scores[genes] = float(np.square(model.predict(x[held]) - y[held]).mean())
        return scores[genes]

    def pick() -> tuple[int, ...]:
        pair = [pool[i] for i in rng.integers(len(pool), size=2)]
        return min(pair, key=loss)

    pool: list[tuple[int, ...]] = [tuple(int(rng.integers(len(c))) for c in choices) for _ in range(population)]
    for _ in range(generations):
        best = min(pool, key=loss)
        children = [best]
        while len(children) < population:
            mother, father = pick(), pick()
            child = [m if rng.random() < 0.5 else f for m, f in zip(mother, father, strict=True)]
            for g, choice in enumerate(choices):
                if rng.random() < 1 / 3:
                    child[g] = int(rng.integers(len(choice)))
            children.append(tuple(child))
        pool = children
    return build(min(pool, key=loss))
