"""A small network on the digits, trained on true or on shuffled labels, with its hidden layer along the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from hartley.labs.base import Lab


@dataclass(frozen=True)
class RepresentationLab(Lab):
    """Hidden activations (64, ReLU) of 64-128-64-10 networks on 8 x 8 digits.

    Attributes
    ----------
    examples : training examples.
    """

    examples: int = 1200

    def history(self, seed: int, *, shuffled: bool) -> dict[int, tuple[Tensor, Tensor]]:
        """Epoch -> training activations and the labels that were trained on; at the start, on the way, at the end."""
        return _history(seed, self.examples, shuffled, 1 if self.quick else 2)


def binned_information(z: Float[np.ndarray, "n d"], y: Integer[np.ndarray, " n"], seed: int, bins: int = 2) -> float:
    """The competitor: the same subtraction with Shannon's entropy of binned activations, nats.

    Ranges are those of the whole set, where the authors' code takes each subset's own and can turn far negative.
    """
    rng = np.random.default_rng(seed)
    low, high = z.min(0), z.max(0)
    cells = np.clip((z - low) / np.maximum(high - low, 1e-12) * bins, 0, bins - 1).astype(np.int8)

    def entropy(rows: Float[np.ndarray, "n d"]) -> float:
        _, counts = np.unique(rows, axis=0, return_counts=True)
        p = counts / counts.sum()
        return float(-(p * np.log(p)).sum())

    total = 0.0
    for label, size in zip(*np.unique(y, return_counts=True), strict=True):
        anyone = np.mean([entropy(cells[rng.permutation(len(z))[:size]]) for _ in range(5)])
        total += size / len(z) * (float(anyone) - entropy(cells[y == label]))
    return total


def neighbour_information(z: Float[np.ndarray, "n d"], y: Integer[np.ndarray, " n"], seed: int) -> float:
    """The cheap competitor: log of classes times the excess of 5-nearest-neighbour accuracy over chance, nats."""
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    classes = len(np.unique(y))
    accuracy = float(cross_val_score(KNeighborsClassifier(5), z, y, cv=5).mean())
    return math.log(classes) * (accuracy - 1 / classes) / (1 - 1 / classes)


@cache
def _history(seed: int, examples: int, shuffled: bool, longer: int) -> dict[int, tuple[Tensor, Tensor]]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(x))[:examples]
    inputs = torch.from_numpy(x[chosen] / 16).float()
    labels = torch.from_numpy(rng.permutation(y[chosen]) if shuffled else y[chosen])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        head = nn.Linear(64, 10)
    optimiser = torch.optim.Adam([*hidden.parameters(), *head.parameters()], lr=3e-3 if shuffled else 1e-3)
    epochs = (100 if shuffled else 50) * longer
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    for epoch in range(epochs + 1):
        if epoch in (0, epochs // 10, epochs // 3, epochs):
            kept[epoch] = (hidden(inputs).detach(), labels)
        for batch in torch.split(torch.from_numpy(rng.permutation(examples)), 64):
            optimiser.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(head(hidden(inputs[batch])), labels[batch]))
            optimiser.step()
    return kept
