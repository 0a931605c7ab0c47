"""Statistics of texts against a plain log-softmax; the order test at a million documents; spectra against their peer.

The peer of the diffusion spectral entropy is the authors' package, dse-dsmi.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import torch
from dse_dsmi.dse import diffusion_spectral_entropy as authors
from race import arguments, race, show
from scipy.stats import spearmanr

from hartley.auditing import order_test, text_statistics
from hartley.measures import diffusion_spectral_entropy, diffusion_spectrum


def texts(quick: bool) -> None:
    """Surprisal, entropy and varentropy of every token."""
    shape = (2, 64, 49_152) if quick else (8, 256, 49_152)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator) * 3
    ids = torch.randint(shape[-1], shape[:2], generator=generator)

    def plain() -> None:
        logp = logits.log_softmax(-1)
        p = logp.exp()
        entropy = -(p * logp).sum(-1)
        (p * logp.square()).sum(-1) - entropy.square()
        logp.gather(-1, ids[..., None])

    candidates = {
        "hartley": lambda: text_statistics(logits, ids),
        "log-softmax": plain,
        "floor: logsumexp alone": lambda: logits.logsumexp(-1),
    }
    results = race(candidates, reference="hartley", rounds=(3, 20))
    show(f"text statistics, {shape}", results, note="ranks of the tokens included in hartley's")


def orders(quick: bool) -> None:
    n = 10**5 if quick else 10**6
    rng = np.random.default_rng(0)
    loglik, position = rng.standard_normal(n), rng.permutation(n)
    candidates = {
        "hartley": lambda: order_test(loglik, position),
        "hartley, 20 permutations": lambda: order_test(loglik, position, permutations=20, rng=rng),
        "scipy spearmanr": lambda: spearmanr(loglik, position, alternative="greater"),
        "floor: two sorts": lambda: (np.argsort(loglik), np.argsort(position)),
    }
    show(f"order test, {n:.0e} documents", race(candidates, reference="hartley", rounds=(3, 20)))


def spectra(quick: bool) -> None:
    for n in (300, 600) if quick else (500, 2000):
        z = np.random.default_rng(0).standard_normal((n, 64))
        candidates = {
            "hartley": lambda z=z: diffusion_spectral_entropy(z),
            "hartley, 300 landmarks": lambda z=z: diffusion_spectral_entropy(
                z, landmarks=300, generator=torch.Generator().manual_seed(0)
            ),
            "dse-dsmi": lambda z=z: authors(z, gaussian_kernel_sigma=8.0),
        }
        ours = float(diffusion_spectral_entropy(z)) / np.log(2)
        note = f"bits: hartley {ours:.6f}, dse-dsmi {authors(z, gaussian_kernel_sigma=8.0):.6f}"
        show(f"diffusion spectral entropy, n = {n}", race(candidates, reference="hartley", rounds=(3, 50)), note=note)


def large(quick: bool) -> None:
    """Beyond exact reach: seconds and peak memory of the whole process."""
    n = 5_000 if quick else 50_000
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((n, 64)).astype(np.float32))
    begin = time.perf_counter()
    spectrum = diffusion_spectrum(z, landmarks=1000, generator=torch.Generator().manual_seed(0))
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"n = {n}, 1000 landmarks: {seconds:.1f} s, {spectrum.missing:.1%} of the trace missed, peak {peak:.2f} GiB")


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    large(options.quick)  # first, so that the peak is its own
    orders(options.quick)
    spectra(options.quick)
    texts(options.quick)
