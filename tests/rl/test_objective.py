"""Advantages, surrogate and aggregation against hand-made numbers and a plain float64 reference."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rl.batches import random_rollouts, random_tokens

from hartley.rl import (
    aggregate,
    clipped_surrogate,
    dapo,
    dr_grpo,
    group_advantage,
    grpo,
    informative_groups,
    kl_estimate,
    overlong_penalty,
)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [((1, 0, 0, 1), (0.8660254, -0.8660254, -0.8660254, 0.8660254)), ((1, 0, 0, 0), (1.5, -0.5, -0.5, -0.5))],
)
def test_advantages_of_one_group(rewards: tuple[int, ...], expected: tuple[float, ...]) -> None:
    got = group_advantage(torch.tensor(rewards).float(), torch.zeros(4, dtype=torch.long), epsilon=0.0)
    torch.testing.assert_close(got, torch.tensor(expected))


def test_biased_deviation() -> None:
    got = group_advantage(torch.tensor([1.0, 0, 0, 0]), torch.zeros(4, dtype=torch.long), epsilon=1e-6, unbiased=False)
    torch.testing.assert_close(got, torch.tensor([1.7320, -0.5773, -0.5773, -0.5773]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_have_no_advantage_at_all(scale: str) -> None:
    rewards = torch.tensor([0.1, 0.1, 0.1, 0.7, 0.3])  # 0.1 * 3 / 3 differs from 0.1 in floating point
    got = group_advantage(rewards, torch.tensor([5, 5, 5, 2, 9]), scale)  # groups of one have none either
    assert got.tolist() == [0.0] * 5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-2, 2, width=32)), min_size=0, max_size=14), st.randoms())
def test_groups_of_any_size_in_any_order(pairs: list[tuple[int, float]], random: object) -> None:
    group = torch.tensor([g for g, _ in pairs], dtype=torch.long)
    rewards = torch.tensor([r for _, r in pairs], dtype=torch.float64)
    got = group_advantage(rewards, group, epsilon=1e-4)
    for i, g in enumerate(group.tolist()):
        peers = rewards[group == g]
        deviation = peers.std().item() if len(peers) > 1 else 0.0
        if bool((peers == peers[0]).all()):
            assert got[i] == 0
        else:
            assert got[i].item() == pytest.approx((rewards[i] - peers.mean()).item() / (deviation + 1e-4), abs=1e-6)


def test_rewards_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        group_advantage(torch.tensor([0.0, math.nan]), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"answers \[1\] \(1 in all\) are not finite"):
        random_rollouts(rewards=torch.tensor([0.0, math.inf] + [0.0] * 10))


def plain_loss(tokens: object, low: float, high: float, how: str, length: int) -> torch.Tensor:
    """Loops over answers and tokens."""
    total, per_answer, count = [], [], 0
    for i in range(tokens.mask.shape[0]):
        own = []
        for t in range(tokens.mask.shape[1]):
            if not tokens.mask[i, t]:
                continue
            ratio = (tokens.log_probs[i, t] - tokens.old_log_probs[i, t]).exp()
            a = tokens.advantages[i, t]
            own.append(-torch.min(a * ratio, a * ratio.clamp(1 - low, 1 + high)))
            count += 1
        total += own
        per_answer.append(sum(own) / max(len(own), 1))
    if how == "token-mean":
        return sum(total) / count
    return sum(per_answer) / len(per_answer) if how == "sequence-mean" else sum(total) / (len(per_answer) * length)


@pytest.mark.parametrize(
    ("recipe", "high"), [(grpo(), 0.2), (dapo(), 0.28), (dr_grpo(9), 0.2)], ids=lambda r: getattr(r, "name", None)
)
def test_loss_and_gradient_against_loops(recipe: object, high: float) -> None:
    tokens = random_tokens(random_rollouts(3), 3)
    loss, log = recipe.loss(tokens)
    expected = plain_loss(tokens, 0.2, high, recipe.aggregate, 9)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    got, want = (torch.autograd.grad(x, tokens.log_probs, retain_graph=True)[0] for x in (loss, expected))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)
    assert (got[~tokens.mask] == 0).all()
    assert 0 < log["clip_share_low"] + log["clip_share_high"] < 1


def test_the_first_update_is_the_policy_gradient_whatever_the_clip_range() -> None:
    rollouts = random_rollouts(4)
    tokens = random_tokens(rollouts, 4, drift=0.0)
    loss, _ = dapo().loss(tokens)
    (got,) = torch.autograd.grad(loss, tokens.log_probs)
    torch.testing.assert_close(got, torch.where(tokens.mask, -tokens.advantages, 0.0) / tokens.mask.sum())


def test_answers_of_equal_length_make_grpo_a_token_mean() -> None:
    rollouts = random_rollouts(5, mask=torch.ones(12, 6, dtype=torch.bool))
    tokens = random_tokens(rollouts, 5)
    torch.testing.assert_close(
        grpo().loss(tokens)[0], grpo().with_(aggregate="token-mean").loss(tokens)[0], rtol=1e-6, atol=1e-7
    )


def test_dual_clip_bounds_the_loss_where_the_advantage_is_negative() -> None:
    log_probs, old = torch.zeros(1, 2), torch.tensor([[-5.0, -5.0]])
    advantages = torch.tensor([[-1.0, 1.0]])
    assert clipped_surrogate(log_probs, old, advantages).tolist()[0] == pytest.approx([math.exp(5), -1.2], rel=1e-5)
    assert clipped_surrogate(log_probs, old, advantages, dual=3.0).tolist()[0] == pytest.approx([3.0, -1.2])
    with pytest.raises(ValueError, match="dual"):
        clipped_surrogate(log_probs, old, advantages, dual=0.5)


def test_parts_of_a_batch_add_up() -> None:
    loss = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(4) < torch.tensor([4, 1, 0, 2, 3, 4])[:, None]
    for how, total in (("token-mean", int(mask.sum())), ("sequence-mean", 6), ("constant", 6)):
        whole = aggregate(loss, mask, how, max_length=7)
        parts = sum(aggregate(loss[p], mask[p], how, max_length=7, total=total) for p in (slice(0, 2), slice(2, 6)))
        torch.testing.assert_close(whole, parts)
    assert aggregate(loss[:0], mask[:0]) == 0
    assert aggregate(loss, torch.zeros_like(mask), "sequence-mean") == 0


def test_aggregation_refuses_what_it_cannot_do(unchecked: None) -> None:
    with pytest.raises(ValueError, match="sequence-mean"):
        aggregate(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), "median")
    with pytest.raises(ValueError, match="max_length"):
        aggregate(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), "constant")


def test_overlong_penalty() -> None:
    assert overlong_penalty(torch.tensor([16, 17, 20, 21]), 20, 4).tolist() == [0.0, -0.25, -1.0, -1.0]
    with pytest.raises(ValueError, match="cache"):
        overlong_penalty(torch.tensor([1]), 20, 0)


def test_informative_groups() -> None:
    correct = torch.tensor([True, False, True, True, False, True])
    assert informative_groups(correct, torch.tensor([0, 0, 1, 1, 2, 3])).tolist() == [True, True] + [False] * 4


def test_kl_estimate_is_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    p, r = torch.log_softmax(torch.randn(2, 8, generator=generator, dtype=torch.float64), -1)
    expected = (p.exp() * (p - r)).sum()
    torch.testing.assert_close((p.exp() * kl_estimate(p[None], r[None])).sum(), expected)
