"""Many expectations from one sample: adaptive importance sampling with one control variate for each.

For I_j = E_{f_j}[phi_j(X)] one draws from a mixture g_a = sum_k a_k g_k, g_k fitted to f_k phi_k / I_k, and takes

    I_j ~ mean(v_j - b_j u_j) + b_j,   v_j = f_j phi_j / g_a,   u_j = g_j / g_a   (mean 1)

With the exact g_k the variance is zero for every j at once. The fits, the mixture weights a (which minimise the sum of
variances) and the coefficients b are learnt from small batches, until a further batch would cost more than it gains;
the estimate then comes from an independent sample, so that it is unbiased and its standard errors are honest.

Source: Demange-Chryst, Bachoc and Morio (2023), arXiv 2212.00568, and their released code.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from hartley.checks import require, require_between
from hartley.importance import effective_sample_size
from hartley.montecarlo.proposals import Family, Mixture, fit_component, logsumexp, mixture_weights


@dataclass(frozen=True)
class MultiExpectation:
    """Estimates from one sample.

    Attributes
    ----------
    estimate, stderr : one for each quantity.
    n_adapt, n_final : evaluations spent on learning the proposal and on the estimate.
    mixture : the proposal of the final sample.
    control : the coefficients b_j; where phi_j takes both signs, its two parts have one each.
    effective : effective sample size of the final weights f_j |phi_j| / g, smallest over the quantities.
    largest_share : largest share of one point in these weights.
    history : sum of weighted variances after each batch.
    """

    estimate: Float[ndarray, " j"]
    stderr: Float[ndarray, " j"]
    n_adapt: int
    n_final: int
    mixture: Mixture
    control: Float[ndarray, " k"]
    effective: float
    largest_share: float
    history: tuple[float, ...]


class ImportanceSampler:
    """The same by `ask` and `tell`, for functions that are evaluated elsewhere: a simulator, a cluster.

        sampler = ImportanceSampler(law.logpdf, lambda n, rng: law.rvs(n, random_state=rng), n_max=20_000, rng=rng)
        while (x := sampler.ask()) is not None:
            sampler.tell(simulate(x))
        result = sampler.result()

    Parameters
    ----------
    logpdf : log-density of the input, (n, d) -> (n,); or of several input laws, (n, d) -> (n, J), with one function.
    sample : (n, rng) -> (n, d), from the input law, or from the equal mixture of the several.
    n_max : evaluations in all.
    weights : importance of each quantity's variance; 1 / I_j² makes errors relative. Ones by default.
    family : of the fitted components, "gaussian" with full or "diagonal" covariance, or "two-gaussians", an EM fit of a
        mixture of two to each quantity: for a function with two bumps.
    rounds : the budget is cut into so many batches; at most half of them adapt.
    defensive : share of the input law in the proposal; 0.05 to 0.1 guards against tails that the fits miss.
    keep : on stopping, use the parameters of the "last" batch (as the released code does) or of the "best".
    least : effective points a dimension that each component must have been fitted to before the stop rule counts. A law
        fitted to fewer is often too narrow, its next batch then has a large variance, and the rule takes that for the
        end of learning. 0 is the released code.
    """

    def __init__(
        self,
        logpdf: Callable[[ndarray], ndarray],
        sample: Callable[[int, np.random.Generator], ndarray],
        *,
        n_max: int,
        rng: np.random.Generator,
        weights: Float[ndarray, " j"] | None = None,
        family: Family = "gaussian",
        rounds: int = 10,
        defensive: float = 0.0,
        keep: Literal["last", "best"] = "last",
        least: float = 20.0,
    ) -> None:
        require(rounds >= 2, "rounds", rounds, "at least 2")
        require(n_max >= 4 * rounds, "n_max", n_max, f"at least {4 * rounds}, four points a batch")
        require_between("defensive", defensive, 0, 1, closed="left")
        require_between("least", least, 0, closed="left")
        self.logpdf, self.sample, self.n_max, self.rng = logpdf, sample, n_max, rng
        self.user_weights, self.family, self.defensive, self.keep = weights, family, defensive, keep
        self.least = least
        self.batch = n_max // 2 // (rounds // 2)
        self.evaluated = 0
        self.history: list[float] = []
        self.points: list[ndarray] = []
        self._phi: list[ndarray] = []
        self._mixtures: list[Mixture | None] = []  # the law of each batch; None is the input law
        self._mass = 1.0, 0.0
        self._fs: list[ndarray] = []  # log-densities of the input law, a batch each
        self._log_gs: list[ndarray] = []  # log-density of each batch's law at all points
        self._asked: ndarray | None = None
        self._final = False
        self._states: list[tuple[Float[ndarray, " k"], Mixture | None, Float[ndarray, " k"]]] = []

    def ask(self) -> Float[ndarray, "n d"] | None:
        """The next points to evaluate; the same until they are told, None once the budget is spent."""
        if self._asked is None and self.evaluated < self.n_max:
            size = self.n_max - self.evaluated if self._final else min(self.batch, self.n_max - self.evaluated)
            mixture = self._mixtures[-1] if self._mixtures else None
            x = self.sample(size, self.rng) if mixture is None else self._draw(mixture, size)
            self._asked = np.asarray(x, dtype=float).reshape(size, -1)
        return self._asked

    def tell(self, phi: Float[ndarray, "n *j"]) -> None:
        """The function's values at the points asked for, (n, J), or (n,) for one quantity or several input laws.

        Raises
        ------
        ValueError : nothing was asked, a wrong number of rows, or values that are not finite (how many, and where).
        """
        x = self._asked
        if x is None:
            raise ValueError("tell without ask: expected values for points that were asked for")
        values = np.asarray(phi, dtype=float)
        require(values.ndim in (1, 2) and len(values) == len(x), "phi", values.shape, f"{len(x)} rows, one a point")
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        first = x[np.argmax(bad)].tolist()
        require(not bad.any(), "phi", f"not finite at {bad.sum()} of {len(x)} points, first at x = {first}", "numbers")
        self.points.append(x)
        self._phi.append(values.reshape(len(values), -1))
        self._asked = None
        self.evaluated += len(x)
        if not self._final:
            self._learn()

    def result(self) -> MultiExpectation:
        """The estimates; ValueError before the last `tell`."""
        require(self.evaluated == self.n_max, "evaluated", self.evaluated, f"{self.n_max}: ask and tell go on")
        _, mixture, control = self._chosen
        parts = self._parts(self._phi[-1])
        v, u = self._ratios(self.points[-1], self._log_f(self.points[-1]), parts, mixture)
        terms = v - control * u
        estimate = self._join(terms.mean(axis=0) + control)
        stderr = self._join(terms, signed=True).std(axis=0, ddof=1) / np.sqrt(len(terms))
        with np.errstate(divide="ignore"):
            logs = np.log(np.abs(self._join(v))).T
        alive = np.isfinite(logs.max(axis=1))
        shares = torch.from_numpy(logs[alive]) if alive.any() else torch.zeros((1, 1), dtype=torch.float64)
        size = float(effective_sample_size(shares).min())
        if size < max(30, 2 * self.points[-1].shape[1]):
            warnings.warn(
                f"only {size:.1f} of {len(terms)} final points carry a quantity: the proposal misses a part of "
                "the target, and the standard errors are too small. Take more points, or defensive = 0.1.",
                stacklevel=2,
            )
        mass, error = self._mass
        if abs(mass - 1) > 6 * error + 1e-9:
            warnings.warn(
                f"the input law's mass is {mass:.3g} +- {error:.2g} by importance weights: logpdf is not normalised, "
                "or not the density that sample draws from",
                stacklevel=2,
            )
        return MultiExpectation(
            estimate,
            stderr,
            self.evaluated - len(terms),
            len(terms),
            mixture if mixture is not None else Mixture((), np.empty(0), 1.0),
            control,
            size,
            float(1 / effective_sample_size(shares, order=np.inf).min()),
            tuple(self.history),
        )

    @property
    def _chosen(self) -> tuple[Float[ndarray, " k"], Mixture | None, Float[ndarray, " k"]]:
        if self.keep == "last":
            return self._states[-1]
        return min(self._states, key=lambda s: float(self._w @ s[0]))

    def _log_f(self, x: Float[ndarray, "n d"]) -> Float[ndarray, "n laws"]:
        f = np.asarray(self.logpdf(x), dtype=float).reshape(len(x), -1)
        require(not np.isnan(f).any(), "logpdf", "NaN", "numbers or -inf")
        return f

    def _parts(self, phi: Float[ndarray, "n j"]) -> Float[ndarray, "n k"]:
        """phi, and beside it the negative part of those quantities that were seen to take both signs."""
        if not hasattr(self, "_signed"):
            self._signed = np.flatnonzero((phi < 0).any(axis=0))
        positive = phi.copy()
        positive[:, self._signed] = np.maximum(phi[:, self._signed], 0)
        return np.hstack([positive, np.maximum(-phi[:, self._signed], 0)])

    def _join(self, parts: ndarray, signed: bool = False) -> ndarray:
        """Quantities from their parts."""
        j = parts.shape[-1] - len(self._signed)
        if self._phi[0].shape[1] == 1 and j > 1:  # several laws, one function
            j = parts.shape[-1] // (1 + len(self._signed))
        joined = parts[..., :j].copy()
        if len(self._signed):
            columns = self._signed if self._phi[0].shape[1] > 1 else np.arange(j)
            joined[..., columns] -= parts[..., j:]
        return joined

    def _expand(self, f: Float[ndarray, "n laws"], parts: Float[ndarray, "n k"]) -> tuple[ndarray, ndarray]:
        """One log-density and one function a quantity, whichever of them came single."""
        laws = f.shape[1]
        if laws == 1:
            return np.broadcast_to(f, parts.shape), parts
        require(self._phi[0].shape[1] in (1, laws), "phi", self._phi[0].shape, f"1 or {laws} quantities, one a law")
        if self._phi[0].shape[1] == 1:
            return np.tile(f, parts.shape[1]), np.repeat(parts, laws, axis=1)
        return np.hstack([f, f[:, self._signed]]), parts

    def _log_g(self, x: Float[ndarray, "n d"], mixture: Mixture | None, f: Float[ndarray, "n laws"]) -> ndarray:
        if mixture is None:
            return np.asarray(logsumexp(f, axis=1) - np.log(f.shape[1]))
        logs = np.column_stack([c.logpdf(x) for c in mixture.components]) + np.log(mixture.weights)
        inner = logsumexp(logs, axis=1) + np.log1p(-mixture.defensive)
        if not mixture.defensive:
            return np.asarray(inner)
        return np.asarray(np.logaddexp(inner, self._log_g(x, None, f) + np.log(mixture.defensive)))

    def _draw(self, mixture: Mixture, n: int) -> ndarray:
        k = len(mixture.components)
        p = np.append(mixture.weights / mixture.weights.sum() * (1 - mixture.defensive), mixture.defensive)
        counts = self.rng.multinomial(n, p / p.sum())
        parts = [c.sample(int(m), self.rng) for c, m in zip(mixture.components, counts[:k], strict=True) if m]
        if counts[k]:
            parts.append(np.asarray(self.sample(int(counts[k]), self.rng), dtype=float).reshape(counts[k], -1))
        return np.asarray(self.rng.permutation(np.concatenate(parts)))

    def _ratios(
        self, x: Float[ndarray, "n d"], f: ndarray, parts: ndarray, mixture: Mixture | None
    ) -> tuple[Float[ndarray, "n k"], Float[ndarray, "n k"]]:
        """v = f phi / g and u = g_k / g at points of the proposal."""
        log_g, (log_f, values) = self._log_g(x, mixture, f), self._expand(f, parts)
        v = values * np.exp(log_f - log_g[:, None])
        if mixture is None:
            return v, np.zeros_like(v)
        return v, np.exp(np.column_stack([c.logpdf(x) for c in mixture.components]) - log_g[:, None])

    def _learn(self) -> None:
        """After a batch: its variances, the stop rule, and the next proposal."""
        if not self._mixtures:
            self._mixtures.append(None)
        x, f, parts = self.points[-1], self._log_f(self.points[-1]), self._parts(self._phi[-1])
        self._fs.append(f)
        v, u = self._ratios(x, f, parts, self._mixtures[-1])
        spread = u.var(axis=0, ddof=1)
        centred = (u - u.mean(axis=0)) * (v - v.mean(axis=0))
        b = np.where(spread > 1e-12, centred.mean(axis=0) / np.maximum(spread, 1e-300), 0.0)
        variance = (v - b * u).var(axis=0, ddof=1)
        if not self._states:
            self._b0 = np.maximum(v.mean(axis=0), 0.0)
            self._w = self._weights(v.shape[1])
        self._states.append((variance, self._mixtures[-1], b))
        self.history.append(float(self._w @ variance))
        if len(self._states) > 1:
            before, after = self.history[-2], self.history[-1]
            left = self.n_max - self.evaluated
            fitted = self._support >= self.least * x.shape[1]
            self._final = fitted and before / (left + len(x)) <= after / left
        self._final |= self.evaluated + self.batch > self.n_max // 2 + self.batch // 2
        self._mixtures.append(self._chosen[1] if self._final else self._fit(b))

    def _weights(self, k: int) -> Float[ndarray, " k"]:
        if self.user_weights is None:
            return np.ones(k)
        j = len(self._join(np.zeros(k)))
        weights = np.asarray(self.user_weights, dtype=float)
        require(weights.shape == (j,) and bool(np.all(weights >= 0)), "weights", weights, f"{j} numbers >= 0")
        columns = self._signed if self._phi[0].shape[1] > 1 else np.arange(k - j)
        return np.concatenate([weights, weights[columns]])

    def _fit(self, b: Float[ndarray, " k"]) -> Mixture:
        """Components by weighted moments over all points so far, then the weights that minimise the variances."""
        x = np.concatenate(self.points)
        f = np.concatenate(self._fs)
        log_f, values = self._expand(f, self._parts(np.concatenate(self._phi)))
        self._log_gs.append(np.empty(0))
        # The law of every batch at every point; only new pairs are missing.
        for r, mixture in enumerate(self._mixtures):
            done = len(self._log_gs[r])
            self._log_gs[r] = np.append(self._log_gs[r], self._log_g(x[done:], mixture, f[done:]))
        sizes = np.array([len(p) for p in self.points])
        log_h = logsumexp(np.log(sizes / len(x))[:, None] + np.array(self._log_gs))
        with np.errstate(divide="ignore"):
            log_w = log_f - log_h[:, None] + np.log(np.maximum(values, 0.0))
        weight = np.exp(self._log_gs[0] - log_h)  # of the input law: bounded, as h has a share of it; mean 1
        self._mass = float(weight.mean()), float(weight.std() / np.sqrt(len(x)))
        self._support = float(effective_sample_size(torch.from_numpy(log_w.T.copy())).min())
        components = tuple(
            # While no point carries a quantity, its component is the input law's.
            fit_component(x, log_w[:, k] if log_w[:, k].max() > -np.inf else log_f[:, k] - log_h, self.family)
            for k in range(log_w.shape[1])
        )
        log_k = np.column_stack([c.logpdf(x) for c in components])
        b = self._b0 if len(self._states) == 1 else b
        # Logs all the way: a point far from every component has a tiny g and a huge ratio.
        top = log_k.max(axis=1)
        with np.errstate(divide="ignore"):
            scale = np.maximum((log_f + np.log(np.abs(values))).max(axis=1), top)
            difference = np.sign(values) * np.exp(log_f + np.log(np.abs(values)) - scale[:, None])
            difference -= b * np.exp(log_k - scale[:, None])
            log_numerator = np.log(np.square(difference) @ self._w) + 2 * scale - top - log_h
        peak = log_numerator.max()  # -inf while no point carries a quantity
        numerator = np.exp(log_numerator - peak) if np.isfinite(peak) else np.zeros(len(x))
        g = np.exp(log_k - top[:, None])
        start = np.sqrt(self._w) * self._b0
        return Mixture(components, mixture_weights(numerator, g, start), self.defensive)


def multi_expectation(
    phi: Callable[[ndarray], ndarray],
    logpdf: Callable[[ndarray], ndarray],
    sample: Callable[[int, np.random.Generator], ndarray],
    *,
    n_max: int,
    rng: np.random.Generator,
    weights: Float[ndarray, " j"] | None = None,
    family: Family = "gaussian",
    rounds: int = 10,
    defensive: float = 0.0,
    keep: Literal["last", "best"] = "last",
    least: float = 20.0,
    progress: bool = False,
    checkpoint: str | Path | None = None,
) -> MultiExpectation:
    """Several expectations of one expensive function, unbiased and with standard errors, from `n_max` evaluations.

    Parameters
    ----------
    phi : vectorised, (n, d) -> (n, J), or (n, d) -> (n,). The other parameters are those of `ImportanceSampler`.
    progress : show evaluations, time and the present variance on the standard error stream after each batch.
    checkpoint : an .npz file that every batch is added to. A run that was interrupted goes on from there, if called
        again with the same arguments and a generator of the same seed.

    Raises
    ------
    ValueError : values of phi that are not finite; a checkpoint of another run.

    When not to use: smooth functions of a dozen variables without rare regions; there scrambled Sobol' points
    (`scipy.stats.qmc`) win, four times over on the cantilever beam of the paper.
    """
    sampler = ImportanceSampler(
        logpdf,
        sample,
        n_max=n_max,
        rng=rng,
        weights=weights,
        family=family,
        rounds=rounds,
        defensive=defensive,
        keep=keep,
        least=least,
    )
    path = None if checkpoint is None else Path(checkpoint)
    saved: dict[str, ndarray] = {}
    if path is not None and path.exists():
        with np.load(path, allow_pickle=False) as file:
            saved = dict(file)
    begin = time.perf_counter()
    while (x := sampler.ask()) is not None:
        key = str(len(sampler.points))
        if f"x{key}" in saved:
            same = saved[f"x{key}"].shape == x.shape and np.array_equal(saved[f"x{key}"], x)
            require(same, "checkpoint", str(checkpoint), "a file of the same run: its points differ from this run's")
        else:
            saved |= {f"x{key}": x, f"phi{key}": np.asarray(phi(x), dtype=float)}
            if path is not None:
                part = path.with_name(path.name + ".part.npz")
                np.savez(part, **saved)  # type: ignore[arg-type]
                part.replace(path)
        sampler.tell(saved[f"phi{key}"])
        if progress:
            spent = time.perf_counter() - begin
            print(
                f"{sampler.evaluated}/{n_max} evaluations, {spent:.1f} s, variance {sampler.history[-1]:.3g}",
                file=sys.stderr,
            )
    return sampler.result()


@dataclass(frozen=True)
class SobolIndices:
    """First-order (or closed, for groups) Sobol' indices, and the run behind them."""

    first: Float[ndarray, " groups"]
    mean: float
    variance: float
    run: MultiExpectation


def sobol_indices(
    model: Callable[[Float[ndarray, "n d"]], Float[ndarray, " n"]],
    d: int,
    *,
    n_max: int,
    rng: np.random.Generator,
    groups: list[list[int]] | None = None,
    **settings: Any,
) -> SobolIndices:
    """Sobol' indices of a model with independent standard normal inputs, all from one adaptive sample.

    Works on pairs (x, x'): S_u = (E[m(x) m(x_u, x'_-u)] - E[m]²) / Var[m]. A pair costs 1 + len(groups) model calls.

    Parameters
    ----------
    model : (n, d) -> (n,). Transform other input laws to standard normal inside it, x -> law.ppf(ndtr(x)).
    n_max : pairs. `settings` go to `multi_expectation`.
    groups : sets of inputs; each input alone by default.
    """
    sets = [[i] for i in range(d)] if groups is None else groups

    def phi(pairs: Float[ndarray, "n dd"]) -> Float[ndarray, "n j"]:
        x, other = pairs[:, :d], pairs[:, d:]
        y = model(x)
        columns = []
        for group in sets:
            mixed = other.copy()
            mixed[:, group] = x[:, group]
            columns.append(y * model(mixed))
        return np.column_stack([*columns, y, y * y])

    run = multi_expectation(
        phi,
        lambda z: -0.5 * np.square(z).sum(axis=1) - d * np.log(2 * np.pi),
        lambda n, generator: generator.standard_normal((n, 2 * d)),
        n_max=n_max,
        rng=rng,
        **settings,
    )
    *products, mean, square = run.estimate
    variance = float(square - mean**2)
    return SobolIndices((np.array(products) - mean**2) / variance, float(mean), variance, run)
