"""The controls of the papers on policy optimisation are what they say: the same amounts, at other places."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rl.batches import random_rollouts, random_tokens

from hartley.labs.op_search import EOS, PROMPT, RESPONSE, VOCABULARY
from hartley.labs.policies import SmallPolicy
from hartley.labs.policy_gradient import PolicyLab
from hartley.papers._policies import compared, warm_groups
from hartley.papers.cure import _staged
from hartley.papers.d3s import RandomSelection
from hartley.papers.hapo import ForkingTokens
from hartley.papers.steer import Shuffled
from hartley.rl import DualDownSampling, SteerWeights, d3s, grpo


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> PolicyLab:
    """Twenty test prompts and an untrained policy, so that runs take a second."""
    every = PolicyLab.test_problems
    monkeypatch.setattr(PolicyLab, "test_problems", lambda lab: every(lab)[:20])
    monkeypatch.setattr(PolicyLab, "policy", lambda lab: SmallPolicy(VOCABULARY, PROMPT + RESPONSE, width=16, seed=3))
    return PolicyLab(prompts=4)


def test_comparisons_are_paired_by_prompt_at_the_same_budget(lab: PolicyLab) -> None:
    recipes = {"method": d3s(), "rival": (grpo(), grpo(clip=0.1))}
    quick = compared(lab, recipes, 0, k=1, rates=(1e-3, 1e-2), curve="entropy", tokens=6000)
    assert len(quick.method) == len(quick.baselines["rival"]) == 20
    for name in recipes:
        assert quick.curves[name][0][-1] == quick.details[f"tokens generated, {name}"] / 1000 >= 1
        assert quick.details[f"learning rate, {name}"] == 1e-3
    full = compared(
        replace(lab, quick=False), recipes, 0, k=16, rates=(1e-3, 1e-2), curve="pass@16", tokens=1000, counted="updated"
    )
    assert set(full.baselines) == {"rival"}
    for name in recipes:
        assert full.curves[name][0][-1] == full.details[f"tokens updated, {name}"] / 1000 >= 1
    assert full.details["tokens generated, method"] > 1.5 * full.details["tokens updated, method"]


def test_groups_of_the_warm_start(lab: PolicyLab) -> None:
    batch, again = (warm_groups(lab, 3, 5) for _ in range(2))
    assert batch.group.bincount().tolist() == [8] * 5
    assert torch.equal(batch.ids, again.ids)
    for number in range(5):
        assert len(batch.fields["prompt"][batch.group == number].unique(dim=0)) == 1


def test_cuts_are_at_uncertain_tokens_or_anywhere() -> None:
    staged, random = _staged(), _staged("random")
    assert staged.at(0.9) == random.at(0.9)
    assert (staged.at(0).branching.order, random.at(0).branching.order) == ("entropy", "random")
    assert staged.at(0).branching.exclude == {EOS}


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
