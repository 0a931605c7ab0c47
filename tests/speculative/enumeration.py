"""All draft tuples of a small vocabulary with their probabilities, by each draft law: the oracle of losslessness."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from hartley.speculative import Draft, Verifier, output_law


def tuples(q: list[float], n: int, law: str) -> list[tuple[tuple[int, ...], float]]:
    support = [i for i, x in enumerate(q) if x > 0]
    if law == "with":
        return [(t, math.prod(q[i] for i in t)) for t in itertools.product(support, repeat=n)]
    n = min(n, len(support))
    found = []
    for t in itertools.permutations(support, n):
        weight, left = 1.0, set(support)
        for i in t:
            weight *= q[i] / math.fsum(q[j] for j in left)
            left.remove(i)
        found.append((t, weight))
    return found


def greedy_tuples(q: list[float], n: int) -> list[tuple[tuple[int, ...], float]]:
    top = tuple(sorted(range(len(q)), key=lambda i: (-q[i], i))[: n - 1])
    rest = [i for i in range(len(q)) if i not in top and q[i] > 0]
    total = math.fsum(q[i] for i in rest)
    return [((*top, i), q[i] / total) for i in rest]


def marginal(p: Tensor, q: Tensor, n: int, verifier: Verifier, law: str = "with") -> tuple[Tensor, float]:
    """Law of the emitted token over all drafts, and the probability that it is one of them."""
    cases = greedy_tuples(q.tolist(), n) if law == "greedy" else tuples(q.tolist(), n, law)
    tokens = torch.tensor([t for t, _ in cases])
    weights = torch.tensor([w for _, w in cases], dtype=torch.float64)
    draft = Draft(tokens, q.expand(len(cases), -1), law)  # type: ignore[arg-type]
    given = output_law(verifier(p.expand(len(cases), -1), draft), draft)
    missed = given.scatter(-1, tokens, 0.0).sum(-1)
    return (weights.unsqueeze(-1) * given).sum(0), 1 - float((weights * missed).sum())
