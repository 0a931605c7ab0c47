"""Recipes: exchanging stages, what is refused, what is remembered, and an update from end to end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from rl.batches import random_rollouts, random_tokens

from hartley.rl import Recipe, Rollouts, Staged, SteerWeights, combine, dapo, dr_grpo, grpo, steer


@dataclass(frozen=True)
class Counting:
    """Adds a field to the reward and counts the batches."""

    needs = ("bonus",)

    def __call__(self, rollouts: Rollouts) -> torch.Tensor:
        return rollouts.rewards + rollouts.fields["bonus"]

    def observe(self, state: dict[str, float], rollouts: Rollouts) -> dict[str, float]:
        return {**state, "batches": state.get("batches", 0) + 1}


def test_a_stage_is_taken_from_another_recipe() -> None:
    mixed = dapo().with_(weights=steer(0.3), rounds=3)
    assert mixed.weights == SteerWeights(0.3)
    assert (mixed.clip_range, mixed.rounds, mixed.name) == ((0.2, 0.28), 3, "dapo+steer+rounds")
    assert dapo().with_("mine", weights=None) == replace(dapo(), name="mine")


def test_what_cannot_be_combined_says_so() -> None:
    with pytest.raises(ValueError, match=r"'steer' has no shape_reward of its own, but clip_range, weights"):
        dapo().with_(shape_reward=steer())
    with pytest.raises(ValueError, match="did you mean weights"):
        dapo().with_(weight=None)
    with pytest.raises(ValueError, match="both set aggregate"):
        combine(dapo(), dr_grpo(5))
    both = combine(dapo(), steer().with_(dual_clip=None))
    assert both.weights == SteerWeights()
    assert both.informative is not None


def test_a_recipe_is_checked_when_it_is_made(unchecked: None) -> None:
    with pytest.raises(ValueError, match="weights"):
        Recipe(weights=0.5)
    with pytest.raises(ValueError, match="longest answer"):
        Recipe(aggregate="constant")
    with pytest.raises(ValueError, match="rounds"):
        dapo(rounds=0)


def test_missing_fields_and_statistics_are_named() -> None:
    recipe = grpo().with_(shape_reward=Counting())
    assert recipe.needs == {"bonus"}
    with pytest.raises(ValueError, match="'bonus'"):
        recipe.prepare(random_rollouts())
    exact = steer(estimator="exact")
    assert exact.needs == {"second_moment"}
    with pytest.raises(ValueError, match="second_moment"):
        exact.loss(replace(random_tokens(random_rollouts()), second_moment=None))
    with pytest.raises(ValueError, match="reference"):
        grpo(kl=0.1).loss(replace(random_tokens(random_rollouts()), reference_log_probs=None))


def test_memory_goes_from_batch_to_batch() -> None:
    recipe = grpo().with_(shape_reward=Counting())
    state: dict[str, float] = {}
    for _ in range(3):
        state = recipe.prepare(random_rollouts(fields={"bonus": torch.ones(12)}, state=state)).rollouts.state
    assert state == {"batches": 3}


def test_prepare_masks_and_selects() -> None:
    rollouts = random_rollouts(1)
    plain = grpo().prepare(rollouts)
    assert (plain.advantages[~rollouts.mask] == 0).all()
    assert (plain.mask == rollouts.mask).all()
    first = torch.zeros_like(rollouts.mask)
    first[:, 0] = True
    assert (grpo().with_(select=lambda r, a: first).prepare(rollouts).mask == (first & rollouts.mask)).all()
    with pytest.raises(ValueError, match="advantages"):
        grpo().with_(advantages=lambda r: torch.full_like(r.rewards, torch.nan)).prepare(rollouts)


def test_the_loss_does_not_depend_on_the_order_of_answers_nor_on_padding() -> None:
    tokens = random_tokens(random_rollouts(2), 2)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    names = ("log_probs", "old_log_probs", "entropy", "advantages", "mask", "second_moment", "reference_log_probs")

    def pad(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(x, (0, 3))

    for recipe in (grpo(kl=0.1), dapo(entropy_bonus=0.01), steer(0.3, estimator="exact"), dr_grpo(8)):
        want = recipe.loss(tokens)[0]
        for change in (lambda x: x[order], pad):
            changed = replace(tokens, **{n: change(getattr(tokens, n)) for n in names})
            torch.testing.assert_close(recipe.loss(changed)[0], want, rtol=1e-5, atol=1e-6)


def test_empty_answers_and_empty_batches() -> None:
    rollouts = random_rollouts(3)
    empty = replace(rollouts, mask=torch.zeros_like(rollouts.mask))
    for recipe in (grpo(), dapo(), dr_grpo(8), steer()):
        prepared = recipe.prepare(empty)
        loss, _ = recipe.loss(replace(random_tokens(empty), mask=prepared.mask))
        assert loss == 0


def test_weights_do_not_see_the_gradient_and_a_unit_weight_changes_nothing() -> None:
    tokens = random_tokens(random_rollouts(6), 6)
    plain, same = dapo(dual_clip=10.0).loss(tokens)[0], steer(1.0).loss(tokens)[0]
    assert plain.item() == same.item()
    weighted = steer(0.3)
    (got,) = torch.autograd.grad(weighted.loss(tokens)[0], tokens.log_probs, retain_graph=True)
    (base,) = torch.autograd.grad(plain, tokens.log_probs)
    assert weighted.weights is not None
    torch.testing.assert_close(got, base * weighted.weights(tokens), rtol=1e-5, atol=1e-8)


def test_recipes_in_turn() -> None:
    staged = Staged((steer(), dapo()), (0.6,))
    assert [staged.at(p).name for p in (0.0, 0.59, 0.6, 1.0)] == ["steer", "steer", "dapo", "dapo"]
    assert staged.name == "steer then dapo"
    with pytest.raises(ValueError, match="rising"):
        Staged((steer(), dapo(), grpo()), (0.6, 0.5))
    with pytest.raises(ValueError, match="fewer"):
        Staged((steer(),), (0.6,))
