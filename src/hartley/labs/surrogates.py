"""Classifying series by features that were learned on chaos: three classic generated tasks, a small autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from hartley.labs.base import Lab

if TYPE_CHECKING:
    import torch

LENGTH = 128
Labelled = tuple[Float[np.ndarray, "series time"], Int[np.ndarray, " series"]]


@dataclass(frozen=True)
class SurrogateLab(Lab):
    """Few labels, many unlabelled surrogate series.

    Attributes
    ----------
    labels, tests : labelled series to train the classifier on, and series to test it on.
    channels, steps : of the autoencoder, and steps of Adam on batches of 32 surrogate windows.
    """

    labels: int = 30
    tests: int = 600
    channels: int = 16
    steps: int = 0

    def task(self, name: str, count: int, rng: np.random.Generator) -> Labelled:
        """Standardised series of cylinder-bell-funnel (3 classes), control charts (6) or two patterns (4)."""
        time = np.arange(LENGTH)
        noise = rng.standard_normal((count, LENGTH))
        if name == "cylinder-bell-funnel":  # Saito 1994
            kind = rng.integers(3, size=count)
            start, size = rng.integers(16, 33, (count, 1)), rng.integers(32, 97, (count, 1))
            inside = (time >= start) & (time <= start + size)
            ramp = (time - start) / size
            shape = np.stack([np.ones_like(ramp), ramp, 1 - ramp])[kind, np.arange(count)]
            x = (6 + rng.standard_normal((count, 1))) * shape * inside + noise
        elif name == "control charts":  # Alcock and Manolopoulos 1999
            kind = rng.integers(6, size=count)
            period, height = rng.uniform(10, 15, (count, 1)), rng.uniform(10, 15, (count, 1))
            trend, jump = rng.uniform(0.2, 0.5, (count, 1)), rng.uniform(7.5, 20, (count, 1))
            after = time >= rng.integers(LENGTH // 3, 2 * LENGTH // 3, (count, 1))
            slope = trend * time * 60 / LENGTH
            wave = height * np.sin(2 * np.pi * time / period)
            shapes = np.stack([0 * slope, wave, slope, -slope, jump * after, -jump * after])
            x = shapes[kind, np.arange(count)] + 2 * noise
        else:  # two patterns, Geurts 2002: an up or down step, then another
            kind = rng.integers(4, size=count)
            x = noise.copy()
            for i, k in enumerate(kind):
                first, width = int(rng.integers(4, 40)), int(rng.integers(16, 32))
                second = first + width + int(rng.integers(4, 24))
                for place, up in ((first, k % 2), (second, k // 2)):
                    step = np.where(np.arange(width) < width // 2, -5.0, 5.0) * (1 if up else -1)
                    x[i, place : place + width] = step[: LENGTH - place]
        x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
        return x, kind

    def surrogates(
        self, periods: Float[np.ndarray, " count"], rng: np.random.Generator
    ) -> Float[np.ndarray, "count 128"]:
        """Windows of chaotic series, one each period given, which is the number of samples in a dominant period."""
        windows = np.empty((len(periods), LENGTH))
        for i, period in enumerate(periods):
            series = self._pool[rng.integers(len(self._pool))]
            reach = 100 / period * (LENGTH - 1)
            at = rng.uniform(0, len(series) - 1 - reach) + np.linspace(0, reach, LENGTH)
            windows[i] = np.interp(at, np.arange(len(series)), series[:, rng.integers(series.shape[1])])
        spread = windows.std(1, keepdims=True)
        centred: Float[np.ndarray, "count 128"] = windows - windows.mean(1, keepdims=True)
        return centred / np.where(spread > 0, spread, 1)

    @cached_property
    def _pool(self) -> list[Float[np.ndarray, "time dim"]]:
        from hartley.dynamics import load_systems, make_trajectory

        systems = [s for s in load_systems(delayed=False, chaotic=True).values() if not s.unbounded]
        systems = [s for s in systems if s.name != "MacArthur"][:: 4 if self.quick else 2]
        return [make_trajectory(s, 4000, 100, tolerance=1e-6).values for s in systems]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, two in quick mode."""
        return ["cylinder-bell-funnel", "control charts", "two patterns"][: 2 if self.quick else 3]

    def encoder(self, windows: Float[np.ndarray, "count 128"] | None, seed: int) -> torch.nn.Module:
        """A causal convolutional encoder, trained to let a decoder restore the windows; untrained where None."""
        import torch
        from torch import nn

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            c = self.channels
            encode = nn.Sequential(
                nn.ConstantPad1d((8, 0), 0.0),
                nn.Conv1d(1, c, 9),
                nn.GELU(),
                nn.ConstantPad1d((16, 0), 0.0),
                nn.Conv1d(c, c, 9, dilation=2, stride=4),
                nn.GELU(),
                nn.ConstantPad1d((8, 0), 0.0),
                nn.Conv1d(c, c // 2, 9, stride=4),
            )
            decode = nn.Sequential(nn.Flatten(), nn.Linear(c // 2 * LENGTH // 16, LENGTH))
            if windows is None:
                return encode
            data = torch.tensor(windows, dtype=torch.float32)[:, None]
            optimiser = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=3e-3)
            for _ in range(self.steps or (100 if self.quick else 250)):
                batch = data[torch.randint(len(data), (32,))]
                optimiser.zero_grad()
                torch.autograd.backward((decode(encode(batch)) - batch[:, 0]).square().mean())
                optimiser.step()
        return encode

    def accuracy(self, encoder: torch.nn.Module | None, train: Labelled, test: Labelled) -> float:
        """Of a ridge classifier on the encoder's features, their means and spreads; on a few statistics where None."""
        import torch
        from sklearn.linear_model import RidgeClassifierCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        def features(x: Float[np.ndarray, "series time"]) -> Float[np.ndarray, "series features"]:
            if encoder is None:
                return _statistics(x)
            with torch.no_grad():
                codes = encoder(torch.tensor(x, dtype=torch.float32)[:, None])
            return torch.cat([codes.flatten(1), codes.mean(-1), codes.std(-1)], 1).double().numpy()

        model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-2, 4, 13)))
        return float(model.fit(features(train[0]), train[1]).score(features(test[0]), test[1]))


def _statistics(x: Float[np.ndarray, "series time"]) -> Float[np.ndarray, "series features"]:
    """What feature libraries find most useful: moments, trend, autocorrelations, energies by frequency, quantiles."""
    time = np.linspace(-1, 1, x.shape[1])
    spectrum = np.log1p(np.abs(np.fft.rfft(x)) ** 2)
    bands = [band.mean(1) for band in np.array_split(spectrum[:, 1:33], 8, axis=1)]
    lags = [(x[:, k:] * x[:, :-k]).mean(1) for k in (1, 2, 4, 8, 16, 32)]
    chunks = [chunk.mean(1) for chunk in np.array_split(x, 16, axis=1)]
    shape = [
        (x**3).mean(1),
        (x**4).mean(1),
        x @ time,
        x @ time**2,
        *np.quantile(x, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1),
    ]
    return np.stack([*bands, *lags, *chunks, *shape], axis=1)
