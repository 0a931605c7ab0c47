"""Language models trained from scratch in a recorded order, small enough for a laptop."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from hartley.labs.base import Lab
from hartley.labs.decoding import source_text

_LENGTH, _VOCAB = 48, 1024


@dataclass(frozen=True)
class ProvenanceLab(Lab):
    """Two-layer transformers on sequences of 48 tokens, one epoch each in an order of its own.

    Attributes
    ----------
    text : a text file to train on; default the documentation topics of Python's `pydoc`.
    sequences : how many.
    """

    text: str | None = None
    sequences: int = 600

    def trained(self, order_seed: int, tuned_on: int = 0) -> TinyModel:
        """A model that saw the sequences in the order of that seed; then fine-tuned on so many unseen ones."""
        return _trained(self.text, self.sequences, order_seed, tuned_on)

    def rerun(self, order_seed: int, shuffle: int | None = None) -> TinyModel:
        """The same run, its last tenth once more from weights and optimiser kept: in the true or in another order."""
        return _rerun(self.text, self.sequences, order_seed, shuffle)

    def unseen(self, count: int) -> Integer[Tensor, "count time"]:
        """Sequences of the same text that no model was trained on."""
        return _sequences(self.text)[-count:]

    def position(self, order_seed: int) -> Integer[np.ndarray, " sequences"]:
        """When each sequence was shown."""
        return np.argsort(np.random.default_rng(order_seed).permutation(self.sequences))

    def loglik(self, model: TinyModel) -> Float[np.ndarray, " sequences"]:
        """Mean log-likelihood of a token of each training sequence."""
        return model.loglik(_sequences(self.text)[: self.sequences])


class TinyModel(nn.Module):
    """A causal transformer with tied embeddings."""

    def __init__(self, width: int = 96, layers: int = 2, heads: int = 4):
        super().__init__()
        self.tokens, self.places = nn.Embedding(_VOCAB, width), nn.Embedding(_LENGTH, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of the next token at each place."""
        time = ids.shape[1]
        x = self.tokens(ids) + self.places.weight[:time]
        mask = nn.Transformer.generate_square_subsequent_mask(time)
        return self.body(x, mask, is_causal=True) @ self.tokens.weight.T

    def losses(self, ids: Tensor) -> Tensor:
        """Mean surprisal of each sequence, nats a token."""
        logits = self(ids[:, :-1])
        return nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").mean(1)

    @torch.no_grad()
    def loglik(self, ids: Tensor) -> Float[np.ndarray, " n"]:
        """Minus that, as an array."""
        return -torch.cat([self.losses(part) for part in torch.split(ids, 100)]).double().numpy()

    @torch.no_grad()
    def write(self, first: Integer[Tensor, " n"], generator: torch.Generator) -> Integer[Tensor, "n time"]:
        """Sequences sampled at temperature 1 after their first tokens."""
        ids = first[:, None]
        while ids.shape[1] < _LENGTH:
            ids = torch.cat([ids, torch.multinomial(self(ids)[:, -1].softmax(-1), 1, generator=generator)], dim=1)
        return ids


@cache
def _trained(text: str | None, sequences: int, order_seed: int, tuned_on: int) -> TinyModel:
    model = _rerun(text, sequences, order_seed, None)
    if tuned_on:
        ids = _sequences(text)[sequences : sequences + tuned_on]
        _train(model, _optimiser(model, 3e-3 / 4), ids)
    return model


@cache
def _checkpoint(text: str | None, sequences: int, order_seed: int) -> tuple[TinyModel, torch.optim.Optimizer, Tensor]:
    """Model and optimiser after nine tenths of the epoch, and what remains, in order."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(order_seed)  # of the weights; the library itself never touches the global generator
        model = TinyModel()
    order = torch.from_numpy(np.random.default_rng(order_seed).permutation(sequences))
    ids, done = _sequences(text)[:sequences][order], sequences * 9 // 10 // 4 * 4
    optimiser = _optimiser(model, 3e-3)
    _train(model, optimiser, ids[:done])
    return model, optimiser, ids[done:]


def _rerun(text: str | None, sequences: int, order_seed: int, shuffle: int | None) -> TinyModel:
    model, optimiser, rest = copy.deepcopy(_checkpoint(text, sequences, order_seed))
    if shuffle is not None:
        rest = rest[torch.from_numpy(np.random.default_rng([order_seed, shuffle]).permutation(len(rest)))]
    _train(model, optimiser, rest)
    return model


def _optimiser(model: TinyModel, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99))


def _train(model: TinyModel, optimiser: torch.optim.Optimizer, ids: Tensor) -> None:
    for batch in torch.split(ids, 4):
        optimiser.zero_grad()
        torch.autograd.backward(model.losses(batch).mean())
        optimiser.step()


@cache
def _sequences(text: str | None) -> Tensor:
    from tokenizers import ByteLevelBPETokenizer

    source = source_text(text)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([source[:200_000]], vocab_size=_VOCAB, show_progress=False)
    ids = torch.tensor(tokenizer.encode(source).ids)
    rows = ids[: len(ids) // _LENGTH * _LENGTH].reshape(-1, _LENGTH)
    # neighbouring passages are alike: without this the first n would be of one topic
    return rows[torch.from_numpy(np.random.default_rng(0).permutation(len(rows)))]
