"""The stages of the papers against brute force, hand-made numbers and limiting cases."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rl.batches import random_rollouts, random_tokens
from scipy.stats import chisquare

from hartley.rl import (
    CriticalTokens,
    DualDownSampling,
    EntropyClip,
    EntropyTemperature,
    NoisyBranch,
    OverlongFilter,
    PhaseEntropyReward,
    Redistribution,
    TokenTemperature,
    VisualUncertaintyAdvantage,
    adaptive_clip,
    capped_bonus,
    critical_positions,
    cure,
    d3s,
    dapo,
    downsample,
    entropy_scale,
    group_advantage,
    grpo,
    hapo,
    max_variance_subset,
    normalised_entropy,
    phase_entropy,
    phase_entropy_reward,
    redistribution,
    sampled_symmetric_kl,
    solve_temperature,
    symmetric_kl,
    token_group_advantage,
    token_keep_mask,
    unsolved,
    visual_uncertainty_advantage,
)

YES = torch.ones(1, 5, dtype=torch.bool)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestCriticalTokens:
    entropy = torch.tensor([[5.0, 1.0, 4.0, 3.0, 2.0]])

    def draws(self, count: int = 10_000, **options: object) -> list[int]:
        many = self.entropy.expand(count, 5)
        got = critical_positions(many, YES.expand(count, 5), generator=seeded(), **options)
        return torch.bincount(got, minlength=5).tolist()

    def test_uniform_among_the_most_uncertain_but_the_first(self) -> None:
        counts = self.draws(top_k=2)
        assert counts[0] == counts[1] == counts[4] == 0
        assert chisquare(counts[2:4]).pvalue > 1e-3  # fixed seed; false alarm in one seed of a thousand

    def test_excluded_tokens_and_short_answers(self) -> None:
        branchable = torch.tensor([[True, True, False, True, True]]).expand(100, 5)
        got = critical_positions(
            self.entropy.expand(100, 5), YES.expand(100, 5), top_k=2, branchable=branchable, generator=seeded()
        )
        assert set(got.tolist()) == {3, 4}
        assert set(self.draws(1000, top_k=99)[1:]) != {0}
        assert self.draws(1000, top_k=99)[0] == 0
        alone = critical_positions(self.entropy, torch.tensor([[True, False, False, False, False]]), top_k=3)
        assert alone.tolist() == [0]
        assert critical_positions(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).tolist() == [0, 0]

    def test_random_order_is_uniform_over_positions(self) -> None:
        counts = self.draws(top_k=1, order="random")
        assert counts[0] == 0
        assert chisquare(counts[1:]).pvalue > 1e-3  # as above

    def test_branches_until_plain_dapo_takes_over(self) -> None:
        recipe = cure(branches=2, top_k=7, exclude=frozenset({3}), switch=0.5, rounds=4)
        assert recipe.at(0.49).branching == CriticalTokens(2, 7, exclude=frozenset({3}))
        assert recipe.at(0.49).with_(branching=None).changes() == dapo(rounds=4, dual_clip=10.0).changes()
        assert recipe.at(0.5).changes() == dapo(rounds=4, dual_clip=10.0).changes()

    def test_stage_and_bad_input(self, unchecked: None) -> None:
        rollouts = random_rollouts(1)
        got = CriticalTokens(top_k=2, exclude=frozenset(range(11)))(rollouts, seeded())
        assert got.tolist() == [0] * 12  # nothing may be cut at
        with pytest.raises(ValueError, match="top_k"):
            critical_positions(self.entropy, YES, top_k=0)
        with pytest.raises(ValueError, match="order"):
            critical_positions(self.entropy, YES, order="best")
        with pytest.raises(ValueError, match="branches"):
            CriticalTokens(branches=0)


class TestDownSampling:
    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.floats(-3, 3, width=32) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=9), st.data())
    def test_subset_against_brute_force(self, values: list[float], data: st.DataObject) -> None:
        n = data.draw(st.integers(1, len(values)))
        x = torch.tensor(values, dtype=torch.float64)
        got = max_variance_subset(x, n)
        assert got.tolist() == sorted(set(got.tolist()))
        assert len(got) == n
        best = max(x[list(s)].var(correction=0).item() for s in itertools.combinations(range(len(values)), n))
        assert x[got].var(correction=0).item() == pytest.approx(best, abs=1e-9)
        # The unbiased variance averages to that of the whole over all subsets, so the largest is no smaller.
        assert n == 1 or best * n / (n - 1) >= x.var().item() - 1e-9
        for changed in (x + 3, -2 * x):
            again = x[max_variance_subset(changed, n)].var(correction=0).item()
            assert again == pytest.approx(best, abs=1e-7)

    def test_worked_examples(self) -> None:
        def kept(values: list[float], n: int) -> list[float]:
            x = torch.tensor(values).float()
            return sorted(x[max_variance_subset(x, n)].tolist())

        assert kept([-1, -1, -1, 3], 2) == [-1, 3]
        assert kept([1, 1, 1, -1, -1, -1], 4) == [-1, -1, 1, 1]
        one = group_advantage(torch.tensor([1.0] + [0.0] * 7), torch.zeros(8, dtype=torch.long), epsilon=0.0)
        assert kept(one.tolist(), 2) == pytest.approx([-0.3535534, 2.4748737])
        assert max_variance_subset(torch.zeros(0), 0).tolist() == []
        with pytest.raises(ValueError, match="n = 3"):
            max_variance_subset(torch.zeros(2), 3)

    def test_groups_without_signal_drop_out(self) -> None:
        rewards = torch.tensor([1.0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1])
        group = torch.arange(3).repeat_interleave(4)
        a = group_advantage(rewards, group)
        kept = downsample(a, group, keep_in_group=2, keep_total=4)
        assert (a[kept] != 0).all()
        assert set(group[kept].tolist()) == {0, 2}

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6), within=st.integers(2, 6), total=st.integers(2, 12))
    def test_answers_without_signal_go_first(self, seed: int, within: int, total: int) -> None:
        """Where either sign alone would fill the batch. Else a zero may stand in for a missing one, see below."""
        group = torch.arange(6).repeat_interleave(6)
        a = group_advantage((torch.rand(36, generator=seeded(seed)) < 0.4).float(), group)
        union = downsample(a, group, keep_in_group=within, keep_total=36)
        kept = downsample(a, group, keep_in_group=within, keep_total=total)
        assert len(set(kept.tolist())) == len(kept) == min(total, len(union))
        assert set(kept.tolist()) <= set(union.tolist())
        if min((a[union] > 0).sum(), (a[union] < 0).sum()) >= total:
            assert (a[kept] != 0).all()

    def test_an_answer_without_signal_may_raise_the_variance(self) -> None:
        """Five of one small negative, a zero and four large ones: the zero is worth more than the fourth."""
        values = torch.tensor([-0.35, 0.0, 2.47, 2.47, 2.47, 2.47])
        assert 1 in max_variance_subset(values, 5).tolist()

    def test_half_way_through_the_schedule(self) -> None:
        """From 4 of 8 answers and 20% of tokens to all of both: 6 of 8 and 60% in the middle."""
        full = torch.ones(16, 10, dtype=torch.bool)
        alternate = (torch.arange(16) % 2 == 0).float()
        rollouts = random_rollouts(
            1, prompts=2, answers=8, time=10, progress=0.5, mask=full, rewards=alternate, correct=alternate > 0
        )
        stage = DualDownSampling(answers=(0.5, 1.0), tokens=(0.2, 1.0), across=False)
        prepared = grpo().with_(select=stage).prepare(rollouts)
        assert int(prepared.mask.sum()) == math.floor(0.6 * 2 * 6 * 10)
        rows = grpo().with_(select=DualDownSampling((0.5, 1.0), (1.0, 1.0), across=False)).prepare(rollouts)
        assert rows.mask.any(1).view(2, 8).sum(1).tolist() == [6, 6]

    def test_tokens_with_the_largest_signal(self) -> None:
        a, h = torch.tensor([[1.0, -3.0, 1.0], [2.0, 2.0, 0.0]]), torch.ones(2, 3)
        mask = torch.tensor([[True, True, True], [True, False, True]])
        assert token_keep_mask(a, h, mask, 0.4).tolist() == [[False, True, False], [True, False, False]]
        assert token_keep_mask(a, h, mask, 0.0).sum() == 1
        assert torch.equal(token_keep_mask(a, h, mask, 1.0), mask)
        assert token_keep_mask(a, h, torch.zeros_like(mask), 0.5).sum() == 0

    def test_schedule_and_the_whole(self) -> None:
        everything = DualDownSampling(answers=(1.0, 1.0), tokens=(1.0, 1.0))
        rollouts = random_rollouts(2, prompts=4, answers=8)
        prepared = grpo().with_(select=everything).prepare(rollouts)
        assert torch.equal(prepared.mask, rollouts.mask)
        shares = []
        for progress in (0.0, 0.5, 1.0):
            stage = DualDownSampling(answers=(0.25, 0.75), tokens=(1.0, 1.0))
            later = grpo().with_(select=stage).prepare(random_rollouts(2, prompts=4, answers=8, progress=progress))
            shares.append(int(later.mask.any(1).sum()))
        assert shares[0] < shares[1] < shares[2] <= 24
        assert shares[0] == 8
        tokens = d3s().prepare(rollouts)
        assert 0 < tokens.mask.sum() < 0.25 * rollouts.mask.sum()


class TestHeterogeneous:
    entropy = torch.tensor([[0.01, 0.05, 0.2, 0.7, 1.5, 2.5]])
    mask = torch.ones(1, 6, dtype=torch.bool)

    def test_published_example_signed_and_as_released(self) -> None:
        signed = normalised_entropy(self.entropy, self.mask)
        assert signed.tolist()[0] == pytest.approx([-1, -0.6788, -0.4021, -0.1521, 0, 1], abs=1e-4)
        released = normalised_entropy(self.entropy, self.mask, released_sign=True)
        assert released.tolist()[0] == pytest.approx([1, 0.6788, 0.4021, 0.1521, 0, 1], abs=1e-4)

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6), factor=st.floats(0.1, 10))
    def test_bounds_scale_and_padding(self, seed: int, factor: float) -> None:
        entropy = torch.rand(3, 5, generator=seeded(seed)) + 0.01
        mask = torch.rand(3, 5, generator=seeded(seed + 1)) < 0.7
        h = normalised_entropy(entropy, mask)
        assert (h.abs() <= 1).all()
        assert (h[~mask] == 0).all()
        torch.testing.assert_close(normalised_entropy(factor * entropy, mask), h, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(normalised_entropy(torch.where(mask, entropy, 99.0), mask), h)

    def test_equal_entropies_are_neutral(self) -> None:
        assert (normalised_entropy(torch.full((2, 3), 0.4), torch.ones(2, 3, dtype=torch.bool)) == 0).all()
        assert (normalised_entropy(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)) == 0).all()

    def test_token_group_advantage(self) -> None:
        group = torch.zeros(4, dtype=torch.long)
        equal = token_group_advantage(torch.tensor([1.0, 0, 0, 1]), torch.ones(4, 3, dtype=torch.bool), group)
        torch.testing.assert_close(equal, torch.tensor([1.0, -1, -1, 1])[:, None].expand(4, 3), atol=1e-4, rtol=0)
        lengths = torch.tensor([1, 5, 2, 4])
        mask = torch.arange(5) < lengths[:, None]
        uneven = token_group_advantage(torch.tensor([1.0, 0, 0, 1]), mask, group)
        assert uneven.sum().abs() < 1e-5
        assert uneven[mask].square().mean().item() == pytest.approx(1, abs=1e-4)
        assert (token_group_advantage(torch.ones(4), mask, group) == 0).all()

    def test_one_short_success_falls_back_to_the_group(self) -> None:
        mask = torch.arange(8) < torch.tensor([2] + [8] * 15)[:, None]
        rewards = torch.tensor([1.0] + [0.0] * 15)
        got = token_group_advantage(rewards, mask, torch.zeros(16, dtype=torch.long))
        assert got[0, 0].item() == pytest.approx(3.75, abs=2e-3)
        assert got[1, 0].item() == pytest.approx(-0.25, abs=2e-3)

    def test_clip_and_redistribution(self) -> None:
        h = torch.tensor([[-1.0, -0.5, 0.0, 0.5, 1.0]])
        low, high = adaptive_clip(h)
        assert low.tolist()[0] == pytest.approx([0.4, 0.3, 0.2, 0.2, 0.2])
        assert high.tolist()[0] == pytest.approx([0.2, 0.2, 0.2, 0.3, 0.4])
        for ratio, expected in ((1.0, [0, 0.5, 1, 1, 1]), (2.0, [1, 1, 1, 1.5, 2])):
            got = redistribution(h, torch.full_like(h, ratio), low, high)
            assert got.tolist()[0] == pytest.approx(expected)

    def test_without_its_three_knobs_only_the_token_mean_is_left(self) -> None:
        rollouts = random_rollouts(3, mask=torch.ones(12, 6, dtype=torch.bool))
        tokens = random_tokens(rollouts, 3)
        plain = dapo().with_(clip_range=(0.2, 0.2), dual_clip=10.0)
        torch.testing.assert_close(hapo(alpha=0.0, beta=0.0).loss(tokens)[0], plain.loss(tokens)[0])
        assert not torch.isclose(hapo().loss(tokens)[0], plain.loss(tokens)[0])

    def test_temperature_by_the_scale_of_the_batch_before(self) -> None:
        stage, rollouts = TokenTemperature(), random_rollouts(4)
        logits = 3 * torch.randn(50, 11, generator=seeded())
        assert (stage(logits, {}) == 1).all()
        state = stage.observe({"other": 1.0}, rollouts)
        assert state["other"] == 1.0
        factor = stage(logits, state)
        assert ((factor >= 0.95 - 1e-6) & (factor <= 1.05 + 1e-6)).all()
        assert factor.max() > 1.01
        assert (TokenTemperature(tau=0.0)(logits, state) == 1).all()
        scale = entropy_scale(rollouts.entropy, rollouts.mask)
        assert scale(rollouts.entropy[rollouts.mask]).max() == 1

    def test_bad_input(self) -> None:
        with pytest.raises(ValueError, match="quantile"):
            entropy_scale(self.entropy, self.mask, quantile=1.5)
        with pytest.raises(ValueError, match="beta"):
            Redistribution(beta=2.0)
        low, high = EntropyClip()(random_tokens(random_rollouts()))
        assert ((low >= 0.2) & (high >= 0.2)).all()
        assert ((low == 0.2) | (high == 0.2)).all()


class TestPhaseEntropy:
    entropy = torch.tensor([[0.2, 0.4, 0.6, 0.9, 0.1, 0.1, 7.0]])
    mask = torch.tensor([[True] * 6 + [False]])

    def reward(self, end: int, correct: bool = True, **options: float) -> float:
        return phase_entropy_reward(
            torch.tensor([correct]), self.entropy, self.mask, torch.tensor([end]), **options
        ).item()

    def test_worked_example(self) -> None:
        think, answer = phase_entropy(self.entropy, self.mask, torch.tensor([3]))
        assert (think.item(), answer.item()) == pytest.approx((0.4, 0.1))
        assert self.reward(3) == pytest.approx(0.7)
        assert self.reward(3, alpha=-1.0) == pytest.approx(0.5)
        assert self.reward(3, alpha=5.0) == pytest.approx(1.0)
        assert self.reward(3, correct=False, wrong=0.1) == pytest.approx(0.1)
        assert self.reward(3, floor=0.9) == pytest.approx(0.9)

    def test_edges(self) -> None:
        assert self.reward(-1) == pytest.approx(1 - 2.3 / 6)  # all was thinking
        assert self.reward(0) == 1.0  # no thinking
        assert self.reward(5) == pytest.approx(1 - 2.2 / 5)  # no answer
        with pytest.raises(ValueError, match="base"):
            self.reward(3, base=1.5)

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6), end=st.integers(-1, 5), where=st.integers(0, 5))
    def test_monotone_and_without_gradient(self, seed: int, end: int, where: int) -> None:
        entropy = torch.rand(1, 6, generator=seeded(seed)).requires_grad_()
        mask, yes = torch.ones(1, 6, dtype=torch.bool), torch.tensor([True])
        at = torch.tensor([end])
        reward = phase_entropy_reward(yes, entropy, mask, at)
        assert reward.item() <= 1
        assert not reward.requires_grad
        raised = entropy.detach().clone()
        raised[0, where] += 0.5
        change = (phase_entropy_reward(yes, raised, mask, at) - reward).item()
        if end < 0 or where < end:
            assert change <= 1e-6
        else:
            assert change >= -1e-6
            assert where != end or change == 0

    def test_a_large_alpha_is_the_plain_reward(self) -> None:
        rollouts = random_rollouts(5, fields={"end_think": torch.ones(12, dtype=torch.long)}, entropy=torch.ones(12, 6))
        rollouts.mask[:, :4] = True
        shaped = PhaseEntropyReward(alpha=100.0)(rollouts)
        assert torch.equal(shaped, rollouts.rewards)


class TestEntropyTarget:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]], dtype=torch.float64)

    def test_published_numbers(self) -> None:
        got = solve_temperature(self.logits, 0.3)
        assert got.reached
        assert got.temperature == pytest.approx(0.394236, abs=1e-5)
        assert got.entropy == pytest.approx(0.3, abs=1e-6)

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10**6), target=st.floats(0.05, 1.8), scale=st.floats(0.2, 20))
    def test_inverse_shift_and_scale(self, seed: int, target: float, scale: float) -> None:
        logits = torch.randn(20, 8, generator=seeded(seed), dtype=torch.float64)
        wide = (1e-6, 1e6)
        got = solve_temperature(logits, target, tolerance=1e-10, bounds=wide)
        stats = torch.distributions.Categorical(logits=logits / got.temperature).entropy().mean().item()
        assert stats == pytest.approx(target, abs=1e-9)
        moved = solve_temperature(scale * logits + 7, target, tolerance=1e-10, bounds=wide)
        assert moved.temperature == pytest.approx(scale * got.temperature, rel=1e-6)

    def test_out_of_reach_and_masked(self) -> None:
        high = solve_temperature(self.logits, 5.0)
        assert (high.reached, high.temperature) == (False, pytest.approx(100.0))
        ties = solve_temperature(torch.zeros(1, 4), 0.5)
        assert not ties.reached
        assert ties.entropy == pytest.approx(math.log(4), abs=1e-6)
        both = torch.cat([self.logits, 50 * self.logits])
        alone = solve_temperature(both, 0.3, mask=torch.tensor([True, False]))
        assert alone.temperature == pytest.approx(0.394236, abs=1e-5)
        impossible = torch.tensor([[2.0, 1.0, 0.0, -1.0, -math.inf]])
        assert solve_temperature(impossible, 0.3).temperature == pytest.approx(0.394236, abs=1e-4)
        with pytest.raises(ValueError, match="at least one token"):
            solve_temperature(self.logits, 0.3, mask=torch.tensor([False]))
        with pytest.raises(ValueError, match="target"):
            solve_temperature(self.logits, 0.0)

    def test_controller_moves_towards_the_target_and_stays_in_bounds(self) -> None:
        stage = EntropyTemperature(target=0.3, initial=1.0, gain=0.5, bounds=(0.5, 1.5))
        state: dict[str, float] = {}
        for _ in range(60):  # a policy whose entropy is 0.4 T
            entropy = torch.full((12, 6), 0.4 * stage(state))
            state = dict(stage.observe(state, random_rollouts(entropy=entropy)))
        assert 0.4 * stage(state) == pytest.approx(0.3, abs=0.01)
        for _ in range(60):
            state = dict(stage.observe(state, random_rollouts(entropy=torch.full((12, 6), 3.0))))
        assert stage(state) == pytest.approx(0.5)
        fixed = EntropyTemperature(gain=0.0, initial=0.7)
        assert fixed(fixed.observe({}, random_rollouts())) == pytest.approx(0.7)
        with pytest.raises(ValueError, match="initial"):
            EntropyTemperature(initial=5.0)

    def test_cut_answers_and_solved_prompts(self) -> None:
        truncated = torch.zeros(12, dtype=torch.bool)
        truncated[3] = True
        rollouts = random_rollouts(2, fields={"truncated": truncated})
        recipe = grpo().with_(select=OverlongFilter(), aggregate="token-mean")
        prepared = recipe.prepare(rollouts)
        assert not prepared.mask[3].any()
        assert torch.equal(prepared.mask[:3], rollouts.mask[:3])
        assert unsolved(torch.tensor([0.0, 0.99, 1.0])).tolist() == [True, True, False]
        with pytest.raises(ValueError, match="pass_rates"):
            unsolved(torch.tensor([1.5]))


class TestVisualUncertainty:
    def test_worked_example(self) -> None:
        p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
        assert symmetric_kl(p, q).item() == pytest.approx(0.439445, abs=1e-5)
        assert symmetric_kl(q, p + 3).item() == pytest.approx(0.439445, abs=1e-5)
        assert symmetric_kl(p, p).item() == 0
        impossible = torch.tensor([0.0, -math.inf])
        assert symmetric_kl(impossible, impossible).item() == 0
        assert symmetric_kl(impossible, p).item() == pytest.approx(1e4)

    def test_chunks_make_no_difference(self) -> None:
        a, b = torch.randn(2, 3, 7, 13, generator=seeded())
        torch.testing.assert_close(symmetric_kl(a, b, chunk=20), symmetric_kl(a, b))

    def test_one_token_is_enough_on_average(self) -> None:
        a, b = torch.log_softmax(torch.randn(2, 9, generator=seeded(), dtype=torch.float64), -1)
        expected = (a.exp() * sampled_symmetric_kl(a, b)).sum().item()
        assert expected == pytest.approx(symmetric_kl(a, b).item(), abs=1e-6)

    def test_bonuses(self) -> None:
        one = torch.ones(1, 1)
        assert capped_bonus(0.3 * one, one, 1.0, 2.0).item() == pytest.approx(0.3)
        assert capped_bonus(3 * one, one, 1.0, 2.0).item() == pytest.approx(0.5)
        noisy = torch.tensor([True])
        assert visual_uncertainty_advantage(-one, 9 * one, 2 * one, noisy).item() == 0
        assert visual_uncertainty_advantage(-one, 9 * one, 2 * one, ~noisy).item() == pytest.approx(-0.5)
        assert visual_uncertainty_advantage(0 * one, 9 * one, 2 * one, noisy).item() == 0

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_the_sign_of_an_advantage_never_turns(self, seed: int) -> None:
        a, u, h = torch.randn(3, 4, 5, generator=seeded(seed))
        noisy = torch.rand(4, generator=seeded(seed)) < 0.5
        got = visual_uncertainty_advantage(a, 10 * u.abs(), 5 * h.abs(), noisy)
        assert (got * a >= -1e-6).all()
        assert (got >= a).all()

    def test_without_weights_it_is_grpo(self) -> None:
        rollouts = random_rollouts(3)
        plain = grpo().prepare(rollouts).advantages
        stage = VisualUncertaintyAdvantage(alpha_v=0.0, alpha_e=0.0)
        assert torch.equal(grpo().with_(advantages=stage).prepare(rollouts).advantages, plain)

    def test_branches_follow_the_schedule_and_keep_groups_together(self) -> None:
        rollouts = random_rollouts(prompts=4000, answers=2)
        for progress, share in ((0.0, 0.5), (0.5, 0.25), (1.0, 0.0)):
            later = random_rollouts(prompts=4000, answers=2, progress=progress)
            noisy = NoisyBranch()(later, seeded(5)).view(-1, 2)
            assert torch.equal(noisy[:, 0], noisy[:, 1])
            # 3.3 standard deviations: a false alarm in one seed of a thousand
            assert abs(noisy[:, 0].float().mean() - share) <= 3.3 * math.sqrt(share * (1 - share) / 4000) + 1e-9
        assert rollouts.group.max() == 3999
        with pytest.raises(ValueError, match="start"):
            NoisyBranch(start=1.5)
