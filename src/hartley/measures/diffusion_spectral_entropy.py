"""How many directions a cloud of vectors has, by the spectrum of a diffusion on it; and what labels explain of them.

    G_ij = exp(-|z_i - z_j|^2 / (2 sigma^2)),   g = G 1
    K = diag(g)^-1/2 G diag(g)^-1/2             eigenvalues of the random walk on the cloud, in [0, 1]
    DSE = H(lambda^t / sum lambda^t)            0 (one point) to log n (points far apart)
    DSMI = sum_y n_y / n (DSE of random n_y rows - DSE of the rows of class y)

Source: Liao, Liu, Christensen, Tong, Huguet, Wolf, Nickel, Adelstein, Krishnaswamy (2023), arXiv 2312.04823. Their code
has this kernel (`alpha=0`); the text describes an anisotropic one, which is `alpha=1/2` or 1 here and has other
eigenvalues. They count in bits: divide by log 2.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from hartley.arrays import numpy_too
from hartley.checks import require, require_between
from hartley.measures.spectral import spectrum_entropy

_CHUNK = 4096  # rows of a kernel against the landmarks that are held at a time


@dataclass(frozen=True)
class DiffusionSpectrum:
    """Eigenvalues of the diffusion operator, largest first, and the share of their sum that is approximated.

    Attributes
    ----------
    missing : 0 for the exact spectrum; with landmarks the share of the trace that they do not capture and that stands
        in `eigenvalues` as if each point's remainder were a direction of its own. Measured on Gaussian clouds, the
        entropy at t = 1 is over by one to four times this share, in nats.
    """

    eigenvalues: Float[Tensor, "k"]
    missing: float


def diffusion_spectrum(
    z: Float[Tensor, "n d"],
    *,
    sigma: float | None = None,
    alpha: float = 0.0,
    landmarks: int | None = None,
    generator: torch.Generator | None = None,
) -> DiffusionSpectrum:
    """Spectrum of the diffusion operator of n vectors; arguments as in `diffusion_spectral_entropy`."""
    n, d = z.shape
    require(n >= 2, "z", f"{n} rows", "at least two vectors")
    if z.device.type == "cpu":
        require(bool(z.isfinite().all()), "z", "not finite", "finite vectors")
    require(alpha >= 0, "alpha", alpha, "a number >= 0")
    width = math.sqrt(d) if sigma is None else sigma
    require_between("sigma", width, 0)
    require(landmarks is None or landmarks >= 1, "landmarks", landmarks, "at least 1")
    points = z if z.dtype == torch.float64 else z.float()
    points = points - points.mean(0)  # distances by products lose digits far from the origin
    if landmarks is None or landmarks >= n:
        kernel = _kernel(points, points, width)
        kernel = kernel - torch.diag(kernel.diagonal() - 1)  # rounding: a point's distance to itself is zero
        if alpha:
            inverse = kernel.sum(1) ** -alpha
            kernel = inverse[:, None] * kernel * inverse
        scale = kernel.sum(1).rsqrt()
        return DiffusionSpectrum(torch.linalg.eigvalsh(scale[:, None] * kernel * scale).flip(0).clamp(min=0.0), 0.0)
    return _nystrom(points.detach().double(), width, alpha, landmarks, generator)


@numpy_too
def diffusion_spectral_entropy(
    z: Float[Tensor, "n d"],
    *,
    sigma: float | None = None,
    t: float = 1.0,
    alpha: float = 0.0,
    landmarks: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Entropy of the diffusion spectrum of n vectors, nats: how many directions they can be told apart in.

    Parameters
    ----------
    z : one vector a row, such as activations of a probe set. Exact for n up to a few thousand: the time is that of the
        eigenvalues of an n by n matrix.
    sigma : bandwidth; default sqrt(d). Keep it fixed over training, or growth of scale cancels.
    t : diffusion time; larger keeps fewer directions.
    alpha : density normalisation, see the module.
    landmarks : approximate through so many random rows (Nyström, the remainder kept on the diagonal), in time
        n landmarks^2 and memory landmarks^2: for n beyond a few thousand. `diffusion_spectrum` reports what it misses.
    generator : chooses the landmarks.

    Returns
    -------
    0 to log n. Differentiable in z without landmarks.

    Raises
    ------
    ValueError : fewer than two rows, NaN, a bandwidth that is not positive.

    When not to use: to compare sets of different n (it grows with n), or representations of different scale at one
    sigma; its sign of change in training depends on both.
    """
    require_between("t", t, 0)
    found = diffusion_spectrum(z, sigma=sigma, alpha=alpha, landmarks=landmarks, generator=generator)
    return spectrum_entropy(found.eigenvalues**t)


@numpy_too
def diffusion_spectral_information(
    z: Float[Tensor, "n d"],
    y: Shaped[Tensor, "n *features"],
    *,
    sigma: float | None = None,
    t: float = 1.0,
    alpha: float = 0.0,
    repeats: int = 5,
    bins: int = 10,
    landmarks: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """What y explains of the diffusion spectral entropy of z, nats: the paper's DSMI.

    Parameters
    ----------
    y : classes (integers), a continuous number that is cut into `bins` bins of equal width, or vectors such as the
        inputs, which `cluster_vectors` sorts into `bins` clusters. Over several calls with the same vectors, cluster
        them once and pass the classes.
    repeats : random subsets of each class's size that its entropy is compared with.

    Returns
    -------
    About 0 where y says nothing; may be slightly negative, and is not bounded by the entropy of y.

    Raises
    ------
    ValueError : y with NaN, or every class a single row.
    """
    require(repeats >= 1, "repeats", repeats, "at least 1")
    require(bins >= 1, "bins", bins, "at least 1")
    if y.ndim > 1:
        y = cluster_vectors(y.flatten(1), bins)
    elif y.is_floating_point():
        require(bool(y.isfinite().all()), "y", "not finite", "finite values")
        span = (y.max() - y.min()).clamp(min=torch.finfo(y.dtype).tiny)
        y = ((y - y.min()) / span * bins).long().clamp(max=bins - 1)
    total = z.new_zeros(())
    classes, sizes = torch.unique(y, return_counts=True)
    require(int(sizes.max()) >= 2, "y", f"{len(classes)} classes of one row", "a class of at least two rows")

    def entropy(rows: Tensor) -> Tensor:
        return diffusion_spectral_entropy(
            z[rows], sigma=sigma, t=t, alpha=alpha, landmarks=landmarks, generator=generator
        ).to(z.dtype)

    n = len(z)
    for label, size in zip(classes, sizes.tolist(), strict=True):
        if size < 2:  # one row has entropy 0, like any other row
            continue
        subsets = [torch.randperm(n, generator=generator)[:size].to(z.device) for _ in range(repeats)]
        anyone = torch.stack([entropy(rows) for rows in subsets]).mean()
        total = total + size / n * (anyone - entropy((y == label).nonzero().squeeze(-1)))
    return total


@numpy_too
def cluster_vectors(y: Shaped[Tensor, "n d"], clusters: int = 10) -> Int[Tensor, "n"]:
    """Classes for vectors: scikit-learn's spectral clustering on nearest neighbours, as the authors' code has it.

    Raises
    ------
    ValueError : fewer vectors than clusters, NaN.

    When not to use: more than some ten thousand vectors; cluster a sample of them.
    """
    from sklearn.cluster import SpectralClustering

    require(2 <= clusters <= len(y), "clusters", clusters, f"2 to {len(y)}, the number of vectors")
    rows = y.detach().double().cpu().numpy()
    require(bool(np.isfinite(rows).all()), "y", "not finite", "finite vectors")
    sorter = SpectralClustering(
        clusters,
        affinity="nearest_neighbors",
        n_neighbors=min(10, len(y)),
        assign_labels="cluster_qr",
        random_state=0,  # of the eigensolver's start
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # clusters far apart are no fault of the graph
        return torch.from_numpy(sorter.fit_predict(rows)).to(y.device, torch.long)


class SpectralMonitor:
    """Follows the diffusion spectral entropy of a model's layers on a fixed probe batch while it trains.

    Parameters
    ----------
    layers : names of modules, as in ``model.named_modules()``; their outputs are flattened per example.
    probe : what the model is called with.
    labels : classes of the probe, for the mutual information as well.

    Call it with the step wherever training offers a callback; read `history`: step -> layer -> (entropy, information).
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str], probe: Tensor, labels: Tensor | None = None, *, t: float = 1.0
    ):
        known = dict(model.named_modules())
        for name in layers:
            require(name in known, "layers", name, f"names of modules such as {', '.join(list(known)[1:4])}")
        self.model, self.probe, self.labels, self.t = model, probe, labels, t
        self.layers = {name: known[name] for name in layers}
        self.history: dict[int, dict[str, tuple[float, float | None]]] = {}

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, tuple[float, float | None]]:
        """Measure now; the model's mode is left as it was."""
        outputs: dict[str, Tensor] = {}
        hooks = [
            layer.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out.flatten(1)))
            for name, layer in self.layers.items()
        ]
        training = self.model.training
        try:
            self.model.eval()(self.probe)
        finally:
            self.model.train(training)
            for hook in hooks:
                hook.remove()
        found: dict[str, tuple[float, float | None]] = {}
        for name, z in outputs.items():
            information = None
            if self.labels is not None:
                fixed = torch.Generator().manual_seed(0)  # the same subsets at every step
                information = float(diffusion_spectral_information(z, self.labels, t=self.t, generator=fixed))
            found[name] = (float(diffusion_spectral_entropy(z, t=self.t)), information)
        self.history[step] = found
        return found


def _kernel(a: Tensor, b: Tensor, sigma: float) -> Tensor:
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return (squares.clamp(min=0.0) / (-2 * sigma**2)).exp()


def _nystrom(z: Tensor, sigma: float, alpha: float, count: int, generator: torch.Generator | None) -> DiffusionSpectrum:
    """G = F F' + diag(1 - |F|^2) with F = C W^-1/2: right on the diagonal, so that far points keep their degree."""
    chosen = torch.randperm(len(z), generator=generator)[:count].to(z.device)
    values, vectors = torch.linalg.eigh(_kernel(z[chosen], z[chosen], sigma))
    kept = values > 1e-10 * values[-1]
    root = vectors[:, kept] * values[kept].rsqrt()

    def features() -> Iterator[tuple[slice, Tensor, Tensor]]:
        for start in range(0, len(z), _CHUNK):
            part = slice(start, start + _CHUNK)
            f = _kernel(z[part], z[chosen], sigma) @ root
            yield part, f, (1 - f.square().sum(1)).clamp(min=0.0)

    def times(x: Tensor) -> Tensor:
        inner = sum((f.T @ x[part] for part, f, _ in features()), z.new_zeros(root.shape[1]))
        return torch.cat([f @ inner + rest * x[part] for part, f, rest in features()]).clamp(min=1e-12)

    scale = torch.ones_like(z[:, 0])
    if alpha:
        scale = times(scale) ** -alpha
    scale = scale * (scale * times(scale)).rsqrt()
    small, remainder = z.new_zeros(root.shape[1], root.shape[1]), []
    for part, f, rest in features():
        f = f * scale[part, None]
        small += f.T @ f
        remainder.append(rest * scale[part].square())
    left = torch.cat(remainder)
    found = torch.cat([torch.linalg.eigvalsh(small).clamp(min=0.0), left])
    return DiffusionSpectrum(found.sort(descending=True).values, float(left.sum() / found.sum()))
