"""The exact entropy change against finite differences, STEER's weights against the published numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rl.batches import random_rollouts, random_tokens
from scipy.stats import pearsonr

from hartley.rl import SteerWeights, entropy_change, steer_weights, token_statistics


@example(seed=224, vocabulary=200, scale=4.0, advantage=-2.0)  # a token of probability 3e-9
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    vocabulary=st.sampled_from([2, 5, 19, 200]),
    scale=st.sampled_from([0.5, 2.0, 4.0]),
    advantage=st.sampled_from([-2.0, -0.5, 1.0, 3.0]),
)
def test_exact_change_is_the_derivative(seed: int, vocabulary: int, scale: float, advantage: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(vocabulary, generator=generator, dtype=torch.float64)).requires_grad_()
    old = torch.log_softmax(logits.detach() + 0.1 * torch.randn(vocabulary, generator=generator), -1)
    token = int(torch.randint(vocabulary, (), generator=generator))
    stats = token_statistics(logits[None], torch.tensor([token]), second_moment=True)
    surrogate = advantage * torch.exp(stats.log_probs - old[token]).sum()
    (direction,) = torch.autograd.grad(surrogate, logits)

    def entropy(step: float) -> float:
        return torch.distributions.Categorical(logits=logits.detach() + step * direction).entropy().item()

    eta = 1e-4 / (1e-12 + direction.abs().max().item())
    want = (entropy(eta) - entropy(-eta)) / (2 * eta)
    a = torch.tensor([advantage], dtype=torch.float64)
    got = entropy_change(stats.log_probs.detach(), old[[token]], a, stats.entropy.detach(), stats.second_moment)
    assert got.item() == pytest.approx(want, rel=1e-5, abs=1e-7 * direction.abs().max().item() + 1e-12)


def test_average_over_actions_is_the_covariance() -> None:
    """On policy, sum_a p_a dH_a = -Cov_p(log p, p A) for advantages of mean zero."""
    generator = torch.Generator().manual_seed(3)
    log_p = torch.log_softmax(torch.randn(9, generator=generator, dtype=torch.float64), -1)
    p = log_p.exp()
    advantages = torch.randn(9, generator=generator, dtype=torch.float64)
    advantages -= p @ advantages
    stats = token_statistics(log_p.expand(9, 9), torch.arange(9), second_moment=True)
    change = entropy_change(stats.log_probs, stats.log_probs, advantages, stats.entropy, stats.second_moment)
    q = p * advantages
    torch.testing.assert_close(p @ change, -(p @ (log_p * q) - (p @ log_p) * (p @ q)))


def test_only_the_exact_estimate_predicts_the_change() -> None:
    """Over random softmaxes: correlation with a true small step, exact 1, the published ones clearly less."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3000, 19, generator=generator, dtype=torch.float64)
    old = torch.log_softmax(logits + 0.1 * torch.randn(3000, 19, generator=generator), -1)
    ids = torch.distributions.Categorical(logits=old).sample()
    advantages = torch.randn(3000, generator=generator, dtype=torch.float64)
    old = old.gather(-1, ids[:, None]).squeeze(-1)
    stats = token_statistics(logits, ids, second_moment=True)
    p = torch.softmax(logits, -1)
    step = -p * (advantages * torch.exp(stats.log_probs - old))[:, None]
    step.scatter_add_(1, ids[:, None], (advantages * torch.exp(stats.log_probs - old))[:, None])
    true = (token_statistics(logits + 1e-4 * step, ids).entropy - stats.entropy) / 1e-4
    found = {
        name: pearsonr(
            entropy_change(stats.log_probs, old, advantages, stats.entropy, stats.second_moment, estimator=name), true
        ).statistic
        for name in ("exact", "covariance", "steer")
    }
    assert found["exact"] > 0.999
    assert 0.5 < found["steer"] < 0.9
    assert 0.6 < found["covariance"] < 0.95


def test_worked_example() -> None:
    p, entropy = torch.tensor([[0.5, 0.9]]).log(), torch.tensor([[0.8, 0.4]])
    change = entropy_change(p, p, torch.ones(1, 2), entropy, estimator="steer")
    assert (-change).tolist()[0] == pytest.approx([0.0534264, 0.0294639], abs=1e-6)
    weights = steer_weights(change, torch.ones(1, 2, dtype=torch.bool))
    assert weights.tolist()[0] == pytest.approx([0.8, 0.884211], abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), low=st.sampled_from([0.3, 0.8, 1.0]), linear=st.booleans(), scale=st.floats(0, 5))
def test_weights_lie_where_they_should(seed: int, low: float, linear: bool, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    change = scale * torch.randn(3, 5, generator=generator)
    mask = torch.rand(3, 5, generator=generator) < 0.7
    mask[0, 0] = True
    change[1, 1] = torch.nan
    weights = steer_weights(change, mask, min_weight=low, max_weight=1.2, form="linear" if linear else "exponential")
    assert (weights[~mask] == 0).all()
    assert ((weights[mask] >= low - 1e-6) & (weights[mask] <= (1.2 if linear else 1.0) + 1e-6)).all()
    size = torch.where(mask & change.isfinite(), change.abs(), 0.0)
    if not linear and size.max() >= 0.02:
        assert weights.flatten()[size.argmax()].item() == pytest.approx(low, abs=1e-5)
        torch.testing.assert_close(steer_weights(3 * change, mask, min_weight=low), weights, atol=1e-5, rtol=1e-5)


def test_no_change_no_weighting() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert (steer_weights(torch.zeros(2, 3), mask) == 1).all()
    assert steer_weights(torch.zeros(2, 3), mask, form="linear", max_weight=1.2).tolist() == [[1.0] * 3] * 2
    assert (steer_weights(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)) == 0).all()
    tiny = steer_weights(torch.tensor([[1e-4, 5e-5]]), torch.ones(1, 2, dtype=torch.bool), min_weight=0.3)
    assert (tiny > 0.99).all()  # below the floor, next to nothing
    uniform = token_statistics(torch.zeros(1, 1, 8), torch.zeros(1, 1, dtype=torch.long), second_moment=True)
    for estimator in ("exact", "steer", "covariance"):
        change = entropy_change(
            uniform.log_probs,
            uniform.log_probs,
            torch.ones(1, 1),
            uniform.entropy,
            uniform.second_moment,
            estimator=estimator,
        )
        assert change.abs().item() < 1e-6


def test_weights_do_not_depend_on_order_or_padding() -> None:
    generator = torch.Generator().manual_seed(1)
    change, mask = torch.randn(3, 5, generator=generator), torch.rand(3, 5, generator=generator) < 0.7
    weights = steer_weights(change, mask, min_weight=0.3)
    order = torch.randperm(15, generator=generator)
    shuffled = steer_weights(change.flatten()[order][None], mask.flatten()[order][None], min_weight=0.3)
    torch.testing.assert_close(shuffled[0], weights.flatten()[order])
    padded = steer_weights(
        torch.cat([change, torch.full((3, 2), 9.0)], 1), torch.cat([mask, mask[:, :2] & False], 1), min_weight=0.3
    )
    torch.testing.assert_close(padded[:, :5], weights)


def test_certain_tokens_keep_their_weight() -> None:
    """A token of probability one moves nothing: by STEER's estimate and by the exact one, not by the covariance."""
    logits = torch.tensor([[[40.0, 0.0, 0.0], [1.0, 0.0, -1.0]]])
    stats = token_statistics(logits, torch.tensor([[0, 0]]), second_moment=True)
    one, yes = torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool)
    for estimator in ("exact", "steer"):
        change = entropy_change(
            stats.log_probs, stats.log_probs, one, stats.entropy, stats.second_moment, estimator=estimator
        )
        weights = steer_weights(change, yes, min_weight=0.3)
        assert weights.tolist()[0] == pytest.approx([1.0, 0.3], abs=1e-5)


def test_clipped_tokens_may_be_left_out_of_the_scale() -> None:
    tokens = random_tokens(random_rollouts(2), 2, drift=0.5)
    free = SteerWeights(0.3, respect_clip=True)(tokens)
    assert tokens.clipped.any()
    assert (free[tokens.clipped] == 1).all()
    assert free[tokens.mask].min().item() == pytest.approx(0.3, abs=1e-5)


def test_bad_arguments(unchecked: None) -> None:
    one, yes = torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="second_moment"):
        entropy_change(one, one, one, one)
    with pytest.raises(ValueError, match="estimator"):
        entropy_change(one, one, one, one, estimator="best")
    with pytest.raises(ValueError, match="min_weight"):
        steer_weights(one, yes, min_weight=0.0)
    with pytest.raises(ValueError, match="max_weight"):
        steer_weights(one, yes, max_weight=0.5)
    with pytest.raises(ValueError, match="form"):
        steer_weights(one, yes, form="cubic")
