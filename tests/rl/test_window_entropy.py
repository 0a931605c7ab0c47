"""ARES: windows, thresholds, levels and the reward against a table written by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rl.batches import random_rollouts

from hartley.rl import (
    HierarchicalEntropyReward,
    WindowKL,
    ares,
    count_windows,
    difficulty,
    entropy_threshold,
    grpo,
    hierarchical_entropy_reward,
    window_entropy,
)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    time=st.integers(0, 9),
    width=st.integers(1, 5),
    align=st.sampled_from(["following", "starting"]),
)
def test_windows_against_loops(seed: int, time: int, width: int, align: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    entropy = torch.rand(2, time, generator=generator)
    lengths = torch.randint(0, time + 1, (2,), generator=generator)
    start = torch.randint(0, 3, (2,), generator=generator)
    mask = (torch.arange(time) < lengths[:, None]) & (torch.arange(time) >= start[:, None])
    means, valid = window_entropy(torch.where(mask, entropy, 9.0), mask, width, align)
    for i in range(2):
        for t in range(time):
            first = t + 1 if align == "following" else t
            inside = range(first, first + width)
            complete = bool(mask[i, t]) and first + width <= time and all(mask[i, j] for j in inside)
            assert bool(valid[i, t]) == complete
            expected = sum(float(entropy[i, j]) for j in inside) / width if complete else 0.0
            assert means[i, t].item() == pytest.approx(expected, abs=1e-5)


def test_thresholds_and_counts() -> None:
    windows = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 99.0, 99.0]])
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    assert entropy_threshold(windows[:1], valid[:1], 0.95) == pytest.approx(3.8)
    assert entropy_threshold(windows[1:], valid[1:], 0.95) == pytest.approx(1.0)
    assert math.isnan(entropy_threshold(windows, torch.zeros_like(valid)))
    assert count_windows(windows, valid, 1.0).tolist() == [4, 3]
    triggers = torch.tensor([[False, True, False, False, True], [True] * 5])
    assert count_windows(windows, valid, 2.0, triggers).tolist() == [1, 0]


def test_levels() -> None:
    correct = torch.tensor([True, True, False] + [True, False, False] + [False] * 3)
    assert difficulty(correct, torch.arange(3).repeat_interleave(3)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert difficulty(torch.tensor([True, False]), torch.tensor([4, 4])).tolist() == [1, 1]


def by_hand(correct: bool, count: float, target: float, level: int, alpha: float) -> float:
    """The released table, in plain Python."""
    share, kappa, width = ((0.15, 2.0, 2.0), (0.25, 3.0, 2.5), (0.35, 4.0, 3.0))[level]
    margin, cap = max(1.0, share * max(target, 1.0)), alpha * (1.2 if level == 2 else 1.0)
    d = count - target

    def huber(x: float) -> float:
        x = max(x, 0.0)
        return x * x / (2 * kappa) if x <= kappa else x - kappa / 2

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x / width))

    if level == 2:
        if not correct:
            return cap * sigmoid(max(d - margin, 0.0))
        if d >= -margin:
            return 1 + cap * sigmoid(d + margin)
        return 1 - min(cap, 0.5 * cap * huber(-d - margin) / (margin + kappa))
    if correct:
        return 1 - min(cap, cap * huber((d if level == 0 else abs(d)) - margin) / (margin + kappa))
    return cap * sigmoid(max(d - margin, 0.0)) * (0.6, 0.8)[level]


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("correct", [False, True])
def test_released_reward(level: int, correct: bool) -> None:
    for target in (0.0, 3.0, 8.0):
        for count in (0.0, 2.0, 7.0, 8.0, 9.0, 12.0, 20.0):
            got = hierarchical_entropy_reward(
                torch.tensor([correct]), torch.tensor([count]), torch.tensor([target]), torch.tensor([level])
            )
            assert got.item() == pytest.approx(by_hand(correct, count, target, level, 0.5), abs=1e-6)


def test_released_numbers() -> None:
    def term(count: float, level: int) -> float:
        args = torch.tensor([True]), torch.tensor([count]), torch.tensor([8.0]), torch.tensor([level])
        return hierarchical_entropy_reward(*args).item() - 1

    assert term(20.0, 0) == pytest.approx(-0.5)  # the cap
    assert term(9.0, 0) == 0  # within the margin
    assert term(8.0 - 2.79, 2) == pytest.approx(0.3, abs=1e-3)  # hard, right, at the lower end of the margin of 2.8
    assert term(8.0 - 2.81, 2) == pytest.approx(0.0, abs=1e-3)  # and beyond it, where the release jumps


def test_paper_reward() -> None:
    def reward(correct: bool, count: float, level: int) -> float:
        args = torch.tensor([correct]), torch.tensor([count]), torch.tensor([5.0]), torch.tensor([level])
        return hierarchical_entropy_reward(*args, form="paper", weight=torch.tensor([0.1])).item()

    assert [reward(True, c, k) for c in (1.0, 9.0) for k in range(3)] == [1.0] * 6
    assert [reward(False, 9.0, k) for k in range(3)] == pytest.approx([-0.4, -0.4, 0.0])
    assert [reward(False, 1.0, k) for k in range(3)] == pytest.approx([0.0, -0.4, -0.4])


def test_the_first_batch_aims_at_itself_and_later_ones_at_the_past() -> None:
    stage = HierarchicalEntropyReward(width=2, factor=0.7, form="paper")
    rollouts = random_rollouts(7, prompts=6, answers=4, time=12)
    assert torch.equal(stage(rollouts), rollouts.rewards)  # no excess over one's own mean: nothing to punish
    state = stage.observe({}, rollouts)
    assert {"ares.threshold", "ares.target.1", "ares.alpha.1"} <= state.keys()
    low = {**state, **{f"ares.target.{k}": 0.0 for k in range(3)}}
    assert (stage(replace(rollouts, state=low)) <= rollouts.rewards).all()
    assert (stage(replace(rollouts, state=low)) < rollouts.rewards).any()


def test_the_kl_coefficient_is_that_of_whole_groups_and_follows_the_target() -> None:
    rollouts = random_rollouts(8, prompts=6, answers=4, time=12)
    reference = rollouts.log_probs + 0.5
    rollouts = replace(rollouts, fields={"reference_log_probs": reference})
    stage = WindowKL(0.02, relief=0.5, width=2, gain=0.5)
    prepared = grpo().with_(kl_coefficient=stage).prepare(rollouts)
    coefficient = prepared.rollouts.fields["ares.kl"]
    assert coefficient.shape == rollouts.mask.shape
    assert coefficient.unique().tolist() == pytest.approx([0.01, 0.02])
    state = prepared.rollouts.state
    level = difficulty(rollouts.correct, rollouts.group)
    for k in level.unique().tolist():
        assert state[f"ares.kl.{k}"] == pytest.approx(math.exp(0.1), rel=1e-5)  # far above the target: the full step


def test_ares_is_a_recipe_with_everything_it_needs() -> None:
    assert ares().needs == {"entropy", "reference", "reference_log_probs"}
    assert ares(kl=0.0, words=True).needs == {"entropy", "triggers"}


def test_bad_input(unchecked: None) -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="width"):
        window_entropy(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), 0)
    with pytest.raises(ValueError, match="align"):
        window_entropy(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), 2, "middle")
    with pytest.raises(ValueError, match="form"):
        hierarchical_entropy_reward(one > 0, one, one, one.long(), form="third")
    with pytest.raises(ValueError, match="level"):
        hierarchical_entropy_reward(one > 0, one, one, 3 * one.long())
