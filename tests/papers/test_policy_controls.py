"""The controls of the papers on policy optimisation are what they say: the same amounts, at other places."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rl.batches import random_rollouts, random_tokens

from hartley.papers.d3s import RandomSelection
from hartley.papers.hapo import ForkingTokens
from hartley.papers.steer import Shuffled
from hartley.rl import DualDownSampling, SteerWeights, grpo


def test_shuffled_weights_are_the_same_weights() -> None:
    tokens = random_tokens(random_rollouts(1, prompts=4, answers=8), 1)
    weights, shuffled = SteerWeights(0.3)(tokens), Shuffled(SteerWeights(0.3))(tokens)
    assert (shuffled[~tokens.mask] == 0).all()
    torch.testing.assert_close(shuffled[tokens.mask].sort().values, weights[tokens.mask].sort().values)
    assert not torch.equal(shuffled, weights)
    assert Shuffled(SteerWeights(estimator="exact")).needs == ("second_moment",)


@pytest.mark.parametrize("informative", [False, True])
def test_random_selection_is_as_large(informative: bool) -> None:
    rollouts = replace(random_rollouts(2, prompts=6, answers=8, time=12), progress=0.2)
    selection = DualDownSampling()
    wanted = grpo().with_(select=selection).prepare(rollouts)
    found = grpo().with_(select=RandomSelection(selection, informative)).prepare(rollouts)
    assert int(found.mask.sum()) == int(wanted.mask.sum())
    assert int(found.mask.any(1).sum()) <= int(wanted.mask.any(1).sum())
    assert not (found.mask & ~rollouts.mask).any()
    assert not torch.equal(found.mask, wanted.mask)
    if informative:
        assert (found.advantages[found.mask] != 0).all()


def test_forking_tokens_are_the_most_uncertain_fifth() -> None:
    rollouts = random_rollouts(3)
    kept = ForkingTokens()(rollouts, torch.zeros(rollouts.mask.shape))
    assert int(kept.sum()) == int(rollouts.mask.sum()) // 5
    assert rollouts.entropy[kept].min() >= rollouts.entropy[rollouts.mask & ~kept].max()
