"""A language model plays a two-armed bandit: its prompt is the record of what it pressed and what it got.

The action is the next token, "1" or "2", so that its entropy and the mass of valid actions are exact. Rewards have
three digits, one token each: all runs are equally long in tokens, and each prompt is a prefix of its run.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hartley.labs.base import Lab
from hartley.measures import entropy
from hartley.reasoning import beta_for, block_outputs, steering, steering_vector

HEADER = "There are two buttons. Pressing a button gives a random number of points. Press the better one.\n"
GAPS = (5.0, 1.0, -1.0, -5.0)
"""Half the difference of the two means in the informative bandits."""


@dataclass(frozen=True)
class BanditLab(Lab):
    """Steering vectors from runs on equal arms, judged on the prompts of other runs.

    Attributes
    ----------
    model : see `hartley.labs.models.language_model`.
    layer : block that is steered, counted from 0.
    strength : length of the added vector relative to the activations.
    mean, sd : of the rewards.
    """

    model: str = "smollm2"
    layer: int = 13
    strength: float = 0.4
    mean: float = 150.0
    sd: float = 10.0

    @property
    def runs(self) -> int:
        return 8 if self.quick else 40

    def agent(self, seed: int) -> Agent:
        """The played runs of this seed; kept, since all claims look at the same ones."""
        return _agent(self.model, self.runs, self.mean, self.sd, seed)


@dataclass(frozen=True)
class Effect:
    """Action entropy in nats, and the probability that the next token is an action, for each evaluation prompt."""

    entropy: Float[Tensor, "prompts"]
    mass: Float[Tensor, "prompts"]


class Agent:
    """Runs of the model on uninformative arms, for the vector, and on informative ones, for the evaluation.

    Attributes
    ----------
    entropies : (runs, steps), of the action, along the uninformative runs.
    """

    steps = 8
    evaluated = (2, 4, 7)

    def __init__(self, model: str, runs: int, mean: float, sd: float, seed: int) -> None:
        from hartley.labs.models import language_model

        self.model, self.tokenizer = language_model(model)
        self.seed = seed
        rng = np.random.default_rng(seed)
        self.actions = [self._ids(a)[0] for a in "12"]
        self.ids, self.ends, self.entropies, _ = self._play(np.full((runs, 2), mean), sd, rng)
        gaps = np.tile(GAPS, max(2, runs // 8))
        ids, ends, _, past = self._play(mean + np.stack([gaps, -gaps], 1), sd, rng)
        self._last = [ids[:, ends[t], None] for t in self.evaluated]
        self._pasts = [copy.deepcopy(past) for _ in self.evaluated]
        for kept, t in zip(self._pasts, self.evaluated, strict=True):
            kept.crop(ends[t] - ids.shape[1])  # all of the prompt but its last token, unsteered
        self._activations: dict[int, Tensor] = {}

    def activations(self, layer: int) -> Float[Tensor, "runs steps d"]:
        """Block outputs at the last token of each prompt of the uninformative runs."""
        if layer not in self._activations:
            self._activations[layer] = block_outputs(self.model, layer, input_ids=self.ids)[:, self.ends]
        return self._activations[layer]

    def vector(self, layer: int, **options: Any) -> Float[Tensor, "d"]:
        """The steering vector of these runs."""
        return steering_vector(self.activations(layer), self.entropies, **options)

    def contrast(self, layer: int) -> Float[Tensor, "d"]:
        """Mean activation of the more uncertain half of the prompts less that of the other: the usual contrast."""
        z, h = self.activations(layer).flatten(0, 1), self.entropies.flatten()
        high = h > h.median()
        return z[high].mean(0) - z[~high].mean(0)

    def shuffled(self, layer: int, count: int = 3) -> list[Float[Tensor, "d"]]:
        """The steering vector with its entries permuted."""
        generator = torch.Generator().manual_seed(self.seed)
        u = self.vector(layer)
        return [u[torch.randperm(len(u), generator=generator)] for _ in range(count)]

    def effect(self, layer: int, vector: Float[Tensor, "d"], strength: float) -> Effect:
        """Action entropies on the evaluation prompts under steering; the prompts' other tokens are not steered."""
        beta = beta_for(strength, vector, self.activations(layer))
        logits = []
        with steering(self.model, layer, vector, beta), torch.inference_mode():
            for token, kept in zip(self._last, self._pasts, strict=True):
                logits.append(self.model(input_ids=token, past_key_values=copy.deepcopy(kept)).logits[:, -1])
        return Effect(*self._policy(torch.cat(logits)))

    def mean_effect(self, layer: int, vectors: Sequence[Float[Tensor, "d"]], strength: float) -> Effect:
        """Mean over several vectors."""
        effects = [self.effect(layer, v, strength) for v in vectors]
        return Effect(torch.stack([e.entropy for e in effects]).mean(0), torch.stack([e.mass for e in effects]).mean(0))

    def _policy(self, logits: Float[Tensor, "n vocab"]) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        valid = logits[:, self.actions].double()
        return entropy(valid), (valid.logsumexp(-1) - logits.double().logsumexp(-1)).exp()

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @torch.inference_mode()
    def _play(
        self, means: np.ndarray, sd: float, rng: np.random.Generator
    ) -> tuple[Int[Tensor, "runs width"], list[int], Float[Tensor, "runs steps"], Any]:
        """Token ids of the runs, the positions where prompts end, the action entropy at each, and the cache."""
        fresh = torch.tensor([self._ids(HEADER + "Button ")] * len(means))
        pieces, ends, entropies, past = [fresh], [], [], None
        for step in range(self.steps):
            result = self.model(input_ids=fresh, past_key_values=past, use_cache=True, logits_to_keep=1)
            past, logits = result.past_key_values, result.logits[:, -1]
            ends.append(sum(p.shape[1] for p in pieces) - 1)
            entropies.append(self._policy(logits)[0])
            if step == self.steps - 1:
                break
            p = logits[:, self.actions].double().softmax(-1)[:, 1].numpy()
            action = (rng.random(len(means)) < p).astype(int)
            rewards = rng.normal(means[np.arange(len(means)), action], sd).round().clip(100, 199).astype(int)
            rows = [
                [self.actions[a], *self._ids(f": {r} points\nButton ")]
                for a, r in zip(action.tolist(), rewards.tolist(), strict=True)
            ]
            fresh = torch.tensor(rows)
            pieces.append(fresh)
        return torch.cat(pieces, 1), ends, torch.stack(entropies, 1), past


@cache
def _agent(model: str, runs: int, mean: float, sd: float, seed: int) -> Agent:
    return Agent(model, runs, mean, sd, seed)
