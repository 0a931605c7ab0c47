"""Entropies of spectra and volumes from log-determinants.

One eigenvalue core serves von Neumann and Rényi entropies and the Vendi score; log-determinants come from a Cholesky
factor or singular values, never from a determinant.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hartley.arrays import numpy_too
from hartley.checks import require

_FLOOR = 1e-12  # eigenvalues below this share of the largest are rounding


@numpy_too
def spectrum_entropy(eigenvalues: Float[Tensor, "*batch n"], alpha: float = 1.0) -> Float[Tensor, "*batch"]:
    """Rényi entropy of order alpha (1: Shannon) of non-negative eigenvalues normalised to sum to one, in nats.

    Values below 1e-12 of the largest are dropped; an all-zero spectrum gives NaN.
    """
    require(alpha >= 0, "alpha", alpha, "an order in [0, inf]")
    kept = torch.where(eigenvalues > _FLOOR * eigenvalues.amax(-1, keepdim=True), eigenvalues, 0.0)
    weights = kept / kept.sum(-1, keepdim=True)
    if alpha == 1:
        return torch.special.entr(weights).sum(-1)
    if math.isinf(alpha):
        return -weights.amax(-1).log()
    powers = torch.where(weights > 0, weights.clamp(min=torch.finfo(weights.dtype).tiny) ** alpha, 0.0)
    return powers.sum(-1).log() / (1 - alpha)


@numpy_too
def von_neumann_entropy(matrix: Float[Tensor, "*batch n n"], alpha: float = 1.0) -> Float[Tensor, "*batch"]:
    """Entropy of the eigenvalues of a symmetric positive semidefinite matrix over its trace; Rényi's for alpha != 1."""
    return spectrum_entropy(torch.linalg.eigvalsh(matrix).clamp(min=0.0), alpha)


@numpy_too
def vendi_score(kernel: Float[Tensor, "*batch n n"], alpha: float = 1.0) -> Float[Tensor, "*batch"]:
    """Effective number of distinct items of a similarity kernel with unit diagonal: exp of its von Neumann entropy.

    Source: Friedman and Dieng (2023).
    """
    return von_neumann_entropy(kernel, alpha).exp()


@numpy_too
def log_volume(vectors: Float[Tensor, "*batch n d"], floor: float = 1e-10) -> Float[Tensor, "*batch"]:
    """Sum of log(sigma^2 + floor) over the singular values sigma of a set of vectors.

    The logarithm of the determinant of the Gram matrix on the smaller side, floored: with floor 0 and full rank it is
    log det. `floor` bounds what a missing direction costs and is part of the number: quote it.
    """
    require(floor >= 0, "floor", floor, "a number >= 0")
    return (torch.linalg.svdvals(vectors).square() + floor).log().sum(-1)


@numpy_too
def gaussian_information(kernel: Float[Tensor, "*batch n n"], noise: float = 1.0) -> Float[Tensor, "*batch"]:
    """log det(I + K / noise^2) / 2: what n noisy readings tell about a Gaussian process with covariance K."""
    require(noise > 0, "noise", noise, "a positive number")
    eye = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    return _log_det(eye + kernel / noise**2) / 2


@numpy_too
def gaussian_entropy(covariance: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch"]:
    """Differential entropy (d log(2 pi e) + log det) / 2 of a Gaussian with positive definite covariance."""
    return (covariance.shape[-1] * math.log(2 * math.pi * math.e) + _log_det(covariance)) / 2


@numpy_too
def log_det_gains(kernel: Float[Tensor, "n n"], chosen: list[int]) -> Float[Tensor, "n"]:
    """log det K[S + i] - log det K[S] for every item i: the Schur complement log(K_ii - K_iS K_SS^-1 K_Si).

    Already chosen items, and those that add nothing beyond rounding, give -inf.
    """
    variance = kernel.diagonal().clone()
    if chosen:
        factor = torch.linalg.cholesky(kernel[chosen][:, chosen])
        projected = torch.linalg.solve_triangular(factor, kernel[chosen], upper=False)
        variance -= projected.square().sum(0)
        variance[chosen] = 0.0
    significant = variance > _FLOOR * kernel.diagonal()
    return torch.where(significant, variance.clamp(min=torch.finfo(kernel.dtype).tiny).log(), -torch.inf)


def _log_det(matrix: Tensor) -> Tensor:
    return 2 * torch.linalg.cholesky(matrix).diagonal(dim1=-2, dim2=-1).log().sum(-1)
