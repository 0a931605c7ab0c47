"""Selecting one token among drafts, and the optimum of a row: against one pass over p and q, a sort, a linear program.

    python benchmarks/speculative.py [--quick]

The floor of a verifier is one fused pass over p and q; the floor of the optimum is an indirect sort of the row.
Selection is timed as `verify`: checking p, deciding, and drawing the token, with the drafts given. No peer with a
multi-draft verifier installs from the registry (SpecHub, SpecInfer and Sequoia are research repositories, vLLM verifies
single chains on a GPU), so recursive rejection stands for them, in this library's own batched version.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numba import njit
from race import arguments, race, show

from hartley.speculative import (
    Draft,
    greedy,
    kseq,
    optimal,
    optimal_acceptance,
    optimal_acceptance_lp,
    recursive_rejection,
    verify,
)


@njit(fastmath=True)
def overlap(p: np.ndarray, q: np.ndarray) -> float:
    total = 0.0
    for j in range(len(p)):
        total += min(p[j], q[j])
    return total


def rows(vocab: int, noise: float = 0.7, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(batch, vocab, dtype=torch.float64, generator=generator)
    other = logits + noise * torch.randn(batch, vocab, dtype=torch.float64, generator=generator)
    return logits.softmax(-1), other.softmax(-1)


def select(vocab: int, k: int, batch: int, seconds: float) -> None:
    generator = torch.Generator().manual_seed(1)
    p, q = rows(vocab, batch=batch)
    flat_p, flat_q = p.numpy().ravel(), q.numpy().ravel()
    independent, first = Draft.sample(q, k, "with", generator), Draft.sample(q, k, "greedy", generator)
    distinct = Draft.sample(q, k, "without", generator)
    results = race(
        {
            "one pass over p and q": lambda: overlap(flat_p, flat_q),
            "sort": lambda: np.argsort(p.numpy() / q.numpy()),
            "K-SEQ": lambda: verify(p, independent, kseq, generator),
            "optimal": lambda: verify(p, independent, optimal, generator),
            "greedy": lambda: verify(p, first, greedy, generator),
            "recursive rejection, with": lambda: verify(p, independent, recursive_rejection, generator),
            "recursive rejection, without": lambda: verify(p, distinct, recursive_rejection, generator),
        },
        reference="one pass over p and q",
        seconds=seconds,
    )
    show(f"Select one token in each of {batch} rows: V = {vocab}, {k} drafts", results)


def optimum(vocab: int, seconds: float) -> None:
    p, q = rows(vocab)
    candidates = {
        "sort": lambda: np.argsort(p.numpy() / q.numpy()),
        "with replacement, n = 4": lambda: optimal_acceptance(p, q, 4),
        "without, n = 2": lambda: optimal_acceptance(p, q, 2, "without"),
        "without, n = 4": lambda: optimal_acceptance(p, q, 4, "without"),
        "rejective, n = 4": lambda: optimal_acceptance(p, q, 4, "rejective"),
        "greedy, n = 4": lambda: optimal_acceptance(p, q, 4, "greedy"),
    }
    show(f"Optimal acceptance of a row: V = {vocab}", race(candidates, reference="sort", seconds=seconds))


def linear_program(seconds: float) -> None:
    p, q = rows(8)
    small_p, small_q = p[0].numpy(), q[0].tolist()
    tuples = list(itertools.product(range(8), repeat=3))
    weights = [math.prod(small_q[i] for i in t) for t in tuples]
    results = race(
        {
            "prefixes": lambda: optimal_acceptance(p, q, 3),
            "linear program (HiGHS)": lambda: optimal_acceptance_lp(small_p, tuples, weights),
        },
        reference="prefixes",
        seconds=seconds,
    )
    error = abs(float(optimal_acceptance(p, q, 3)) - optimal_acceptance_lp(small_p, tuples, weights))
    show("Optimal acceptance: V = 8, 3 drafts", results, note=f"difference of the two: {error:.1e}")


def main() -> None:
    options = arguments(__doc__ or "")
    seconds = 1.0 if options.quick else 5.0
    for vocab, k in itertools.product((32_768, 131_072), (4,) if options.quick else (4, 8)):
        select(vocab, k, 1, seconds)
    select(32_768, 4, 16, seconds)
    for vocab in (32_768, 131_072):
        optimum(vocab, seconds)
    linear_program(seconds)


if __name__ == "__main__":
    main()
