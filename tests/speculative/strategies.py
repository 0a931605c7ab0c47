"""Pairs of small probability rows with the corners that matter: zeros, ties, equal rows, disjoint supports."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

weights = st.one_of(st.sampled_from([0.0, 1.0, 1.0, 2.0]), st.floats(1e-9, 1.0), st.floats(0.05, 1.0))


@st.composite
def row(draw: st.DrawFn, vocab: int) -> list[float]:
    values = draw(st.lists(weights, min_size=vocab, max_size=vocab))
    if sum(values) == 0:
        values[draw(st.integers(0, vocab - 1))] = 1.0
    return values


@st.composite
def pairs(draw: st.DrawFn, largest: int = 6) -> tuple[Tensor, Tensor]:
    vocab = draw(st.integers(1, largest))
    p = torch.tensor(draw(row(vocab)), dtype=torch.float64)
    q = p if draw(st.integers(0, 9)) == 0 else torch.tensor(draw(row(vocab)), dtype=torch.float64)
    return p / p.sum(), q / q.sum()
