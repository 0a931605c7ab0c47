"""A tiny transformer that plays two-armed bandits as an overconfident agent taught it: steering it, and its regret.

A sequence is BOS, then action and reward twelve times; rewards of standard deviation 1 are tokens of width 2/3. The
teacher presses arm 1 with probability sigmoid(1.5 sqrt(n) c (m_1 - m_0)) after n steps, m the means so far (0 before
the first press), c = 1/2 until both arms were tried and 1 afterwards.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from hartley.labs.base import Lab
from hartley.labs.training import announce, kept_decoder, tiny_decoder, train
from hartley.measures import entropy
from hartley.reasoning import beta_for, block_outputs, steering, steering_vector

STEPS = 12
REWARDS = 9
BOS = 2 + REWARDS
VOCABULARY = BOS + 1
GAPS = (0.5, 0.1, -0.1, -0.5)
"""Half the difference of the two means in the informative bandits."""


@dataclass(frozen=True)
class TokenBanditLab(Lab):
    """Steering vectors from runs on equal arms, judged by action entropy and by regret on unequal ones.

    Attributes
    ----------
    layer : block that is steered, of 4, counted from 0.
    strength : length of the added vector relative to the activations.
    """

    layer: int = 1
    strength: float = 0.5

    def player(self, seed: int) -> Player:
        """The agent with its runs of this seed; kept."""
        return _player(self, seed)


@dataclass(frozen=True)
class Runs:
    """Games of the agent.

    Attributes
    ----------
    ids : tokens of the games.
    entropies : of each action, in nats.
    regret : of each step: how much the pressed arm's mean is below the better one's.
    mass : probability of the two action tokens at each step.
    """

    ids: Int[Tensor, "runs width"]
    entropies: Float[Tensor, "runs steps"]
    regret: Float[NDArray[Any], "runs steps"]
    mass: Float[Tensor, "runs steps"]


class Player:
    """The trained model, its steering vector, and games on bandits that all settings share."""

    def __init__(self, lab: TokenBanditLab, seed: int) -> None:
        self.model, self.lab, self.seed = base_model(), lab, seed
        rng = np.random.default_rng(seed)
        quiet = self.play(np.zeros((65, 2)), rng)
        self.activations = block_outputs(self.model, lab.layer, input_ids=quiet.ids)[:, : 2 * STEPS : 2]
        self.vector = steering_vector(self.activations, quiet.entropies)
        self.entropies = quiet.entropies

    def steered(self, strength: float, *, shuffled: bool = False, temperature: float = 1.0) -> Runs:
        """Games on the informative bandits; the same bandits, rewards and draws at every setting."""
        rng = np.random.default_rng([self.seed, 1])
        gaps = np.tile(GAPS, 100 if self.lab.quick else 400)
        u = self.vector
        if shuffled:
            u = u[torch.randperm(len(u), generator=torch.Generator().manual_seed(self.seed))]
        beta = beta_for(strength, u, self.activations)
        with steering(self.model, self.lab.layer, u, beta) if strength else nullcontext():
            return self.play(np.stack([-gaps, gaps], 1), rng, temperature)

    @torch.inference_mode()
    def play(self, means: Float[NDArray[Any], "runs 2"], rng: np.random.Generator, temperature: float = 1.0) -> Runs:
        """One game a row. Steered as in the source: the last token of each prompt, read afresh after each reward."""
        noise, uniform = rng.standard_normal((len(means), STEPS)), rng.random((len(means), STEPS))
        ids, rows = torch.full((len(means), 1), BOS), np.arange(len(means))
        entropies, regret, mass = [], [], []
        for step in range(STEPS):
            logits = self.model(input_ids=ids, use_cache=False).logits[:, -1].double()
            mass.append((logits[:, :2].logsumexp(-1) - logits.logsumexp(-1)).exp())
            law = logits[:, :2] / temperature
            entropies.append(entropy(law))
            action = (uniform[:, step] < law.softmax(-1)[:, 1].numpy()).astype(np.int64)
            reward = means[rows, action] + noise[:, step]
            regret.append(means.max(1) - means[rows, action])
            token = 2 + np.clip(np.rint(1.5 * reward) + REWARDS // 2, 0, REWARDS - 1).astype(np.int64)
            ids = torch.cat([ids, torch.from_numpy(np.stack([action, token], 1))], 1)
        return Runs(ids, torch.stack(entropies, 1), np.stack(regret, 1), torch.stack(mass, 1))


def teacher_games(count: int, rng: np.random.Generator) -> Int[NDArray[Any], "games width"]:
    """Token sequences of the overconfident agent on random bandits."""
    means = rng.standard_normal((count, 2))
    sums, presses = np.zeros((2, count, 2))
    rows, columns = np.arange(count), [np.full(count, BOS)]
    for step in range(STEPS):
        averages = sums / np.maximum(presses, 1)
        care = np.where(presses.min(1) > 0, 1.0, 0.5)
        pull = expit(1.5 * np.sqrt(step) * care * (averages[:, 1] - averages[:, 0]))
        action = (rng.random(count) < pull).astype(np.int64)
        reward = means[rows, action] + rng.standard_normal(count)
        token = np.clip(np.rint(1.5 * reward) + REWARDS // 2, 0, REWARDS - 1)
        sums[rows, action] += (token - REWARDS // 2) / 1.5
        presses[rows, action] += 1
        columns += [action, 2 + token.astype(np.int64)]
    return np.stack(columns, 1)


@cache
def base_model(steps: int = 400) -> Any:
    """The trained agent: about half a minute once a machine, then kept in the cache folder."""

    def trained() -> Any:
        rng = np.random.default_rng(0)
        games = torch.from_numpy(teacher_games(40_000, rng))
        model = tiny_decoder(VOCABULARY, width=32, layers=4, heads=4, seed=0)

        def loss(batch: NDArray[Any]) -> Tensor:
            rows = games[torch.from_numpy(batch)]
            logits = model(input_ids=rows[:, :-1]).logits
            return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

        progress = announce("training a bandit agent once", steps)
        train(model, loss, examples=len(games), steps=steps, batch=128, rate=4e-3, rng=rng, progress=progress)
        return model

    return kept_decoder(f"token-bandit-{steps}", trained)


@cache
def _player(lab: TokenBanditLab, seed: int) -> Player:
    return Player(lab, seed)
