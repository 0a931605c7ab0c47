"""Diffusion spectral entropy: how many directions a representation has, watched while a network learns."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.representations import RepresentationLab

paper = Paper(
    slug="diffusion-spectral-entropy",
    title="Assessing Neural Network Representations During Training Using Noise-Resilient Diffusion Spectral Entropy",
    published=date(2023, 12, 4),
    room="measures",
    methods=["hartley.measures.diffusion_spectral_entropy"],
    summary="Measures how many directions a cloud of activations can be told apart in, and how much of that labels "
    "explain, where binned entropies see nothing: in tens to hundreds of dimensions.",
    usage="from hartley.measures import diffusion_spectral_entropy, diffusion_spectral_information\n\n"
    "diffusion_spectral_entropy(z)\ndiffusion_spectral_information(z, labels)",
    topics=["representations", "entropy", "training dynamics"],
    authors=9,
    arxiv="2312.04823",
    repository="https://github.com/ChenLiu-1996/DiffusionSpectralEntropy",
    lab="hartley.labs.representations:RepresentationLab",
)


@paper.claim(
    "The information of a hidden layer about the labels it was trained on is lost where these are shuffled, by more "
    "than two thirds, and more than binned information or nearest-neighbour accuracy is",
    published="DSMI with labels rises in generalising training and stagnates in overfitting (qualitative)",
    metric="1 - information with shuffled labels / information with true ones, after training",
    unit="share",
    better="higher",
    margin=0.0,
    headline=True,
)
def learning_or_memorising(lab: RepresentationLab, seed: int) -> Trial:
    """Both networks fit their labels; only one has something to learn."""
    import torch

    from hartley.labs.representations import binned_information, neighbour_information
    from hartley.measures import diffusion_spectral_information

    found: dict[str, list[float]] = {"method": [], "binned information": [], "5 nearest neighbours": []}
    for shuffled in (False, True):
        history = lab.history(seed, shuffled=shuffled)
        z, y = history[max(history)]
        generator = torch.Generator().manual_seed(seed)
        found["method"].append(float(diffusion_spectral_information(z, y, generator=generator)))
        found["binned information"].append(binned_information(z.numpy(), y.numpy(), seed))
        found["5 nearest neighbours"].append(neighbour_information(z.numpy(), y.numpy(), seed))
    # what sees nothing of the true labels (under 0.05 nats) has nothing to lose
    lost = {name: 1 - noise / true if true > 0.05 else 0.0 for name, (true, noise) in found.items()}
    true, noise = found["method"]
    return Trial(
        method=lost.pop("method"),
        baselines={**lost, "two thirds": 2 / 3},
        details={"true labels": true, "shuffled labels": noise},
    )


@paper.claim(
    "The entropy of a hidden layer rises by more than half a nat in training, with true labels and with shuffled ones",
    published="DSE rises during training: 6 backbones on MNIST, CIFAR-10, STL-10, right and wrong labels (qualitative)",
    metric="diffusion spectral entropy after training, the smaller of both networks",
    unit="nats",
    better="higher",
    margin=0.5,
    axes=("share of training", "diffusion spectral entropy, nats"),
)
def entropy_rises(lab: RepresentationLab, seed: int) -> Trial:
    """Training activations at fixed bandwidth sqrt(64)."""
    from hartley.measures import diffusion_spectral_entropy

    curves = {}
    for name, shuffled in (("true labels", False), ("shuffled labels", True)):
        history = lab.history(seed, shuffled=shuffled)
        values = [float(diffusion_spectral_entropy(z)) for z, _ in history.values()]
        curves[name] = ([epoch / max(history) for epoch in history], values)
    return Trial(
        method=min(values[-1] for _, values in curves.values()),
        baselines={"before training": max(values[0] for _, values in curves.values())},
        curves=curves,
    )


@paper.claim(
    "Three blobs in 20 and in 200 dimensions tell at least 0.3 nats about their labels and none about permuted ones, "
    "where binned information is blind or wrong",
    published="Robust to noise and dimension where binned entropies fail (toy figures, no numbers)",
    metric="information with true labels minus its size with permuted ones, the smaller of both dimensions",
    unit="nats",
    better="higher",
    margin=0.0,
    axes=("share of permuted labels", "information, nats"),
)
def blobs(lab: RepresentationLab, seed: int) -> Trial:
    """Bandwidth sqrt(d), as in the toy studies; binned with 2 and with 10 bins a dimension."""
    import numpy as np
    import torch
    from sklearn.datasets import make_blobs

    from hartley.labs.representations import binned_information
    from hartley.measures import diffusion_spectral_information

    rng, shares = np.random.default_rng(seed), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    gap: dict[str, list[float]] = {"method": [], "2 bins": [], "10 bins": []}
    curves = {}
    for d in (20, 200):
        z, y = make_blobs(600 if lab.quick else 1200, d, centers=3, random_state=seed)
        z = z + rng.uniform(-0.5, 0.5, z.shape)
        informed = []
        for share in shares:
            labels, moved = y.copy(), rng.random(len(y)) < share
            labels[moved] = rng.permutation(labels[moved])
            generator = torch.Generator().manual_seed(seed)
            informed.append(float(diffusion_spectral_information(z, labels, generator=generator)))
        gap["method"].append(informed[0] - abs(informed[-1]))
        curves[f"{d} dimensions"] = (shares, informed)
        shuffled = rng.permutation(y)
        for bins in (2, 10):
            true, none = (binned_information(z, labels, seed, bins) for labels in (y, shuffled))
            gap[f"{bins} bins"].append(true - abs(none))
    smallest = {name: min(values) for name, values in gap.items()}
    return Trial(method=smallest.pop("method"), baselines={**smallest, "0.3 nats": 0.3}, curves=curves)
