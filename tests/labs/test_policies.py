"""Sampling with a cache against the full forward pass; copied prefixes, forced tokens, masks, determinism."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hartley.labs.policies import Sampled, SmallPolicy, sample

STOP, PAD = 9, 10


def _policy(stop_bias: float = 0.0, **options: object) -> SmallPolicy:
    """Random weights, larger than at the start of training so that the laws differ from token to token."""
    policy = SmallPolicy(11, 20, width=16, heads=2, seed=1, **options)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(2.0)
        policy.head.bias[STOP] += stop_bias
        policy.head.bias[PAD] = -30
    return policy


def _prompts(rows: int = 40) -> Tensor:
    return torch.randint(9, (rows, 6), generator=torch.Generator().manual_seed(3))


def _draw(policy: SmallPolicy, seed: int = 0, **options: object) -> Sampled:
    generator = torch.Generator().manual_seed(seed)
    return sample(policy, _prompts(), 14, generator=generator, stop=STOP, pad=PAD, **options)


def _full(policy: SmallPolicy, ids: Tensor, images: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Log-probabilities (batch, length, vocabulary) of the responses' tokens, without a cache."""
    with torch.no_grad():
        logits = policy(torch.cat([_prompts(), ids], 1), images)[:, 5:-1]
    return (logits / temperature).log_softmax(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_recorded_statistics_are_those_of_the_full_pass(temperature: float) -> None:
    policy = _policy()
    drawn = _draw(policy, temperature=temperature)
    law = _full(policy, drawn.ids, temperature=temperature)
    log_probs = law.gather(-1, drawn.ids[..., None])[..., 0]
    entropy = -(law.exp() * law).sum(-1)
    assert drawn.mask.any(1).all()
    torch.testing.assert_close(drawn.log_probs[drawn.mask], log_probs[drawn.mask], atol=1e-4, rtol=0)
    torch.testing.assert_close(drawn.entropy[drawn.mask], entropy[drawn.mask], atol=1e-4, rtol=0)
    assert (drawn.log_probs[~drawn.mask] == 0).all()
    assert (drawn.entropy[~drawn.mask] == 0).all()


def test_a_policy_with_images_reads_them_instead_of_the_tokens() -> None:
    policy = _policy(image_places=(0, 2), pixels=5)
    images = torch.randn(40, 2, 5, generator=torch.Generator().manual_seed(4))
    drawn = _draw(policy, images=images)
    law = _full(policy, drawn.ids, images).gather(-1, drawn.ids[..., None])[..., 0]
    torch.testing.assert_close(drawn.log_probs[drawn.mask], law[drawn.mask], atol=1e-4, rtol=0)
    prompts = _prompts()
    other = prompts.clone()
    other[:, [0, 2]] = (other[:, [0, 2]] + 1) % 9
    with torch.no_grad():
        torch.testing.assert_close(policy(prompts, images), policy(other, images))
        assert not torch.allclose(policy(prompts, images), policy(prompts, images + 1))


def test_rows_end_at_the_stop_and_pad_after_it() -> None:
    drawn = _draw(_policy(stop_bias=3.0))
    for ids, mask in zip(drawn.ids.tolist(), drawn.mask.tolist(), strict=True):
        length = ids.index(STOP) + 1 if STOP in ids else len(ids)
        assert mask == [place < length for place in range(len(ids))]
        assert set(ids[length:]) <= {PAD}


def test_sampling_stops_early() -> None:
    policy, calls = _policy(stop_bias=40.0), []
    policy.register_forward_hook(lambda *_: calls.append(1))
    assert (_draw(policy).ids[:, 1:] == PAD).all()
    assert len(calls) == 1


def test_same_seed_same_tokens() -> None:
    policy = _policy()
    first, again, other = _draw(policy), _draw(policy), _draw(policy, seed=1)
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.log_probs, again.log_probs)
    assert not torch.equal(first.ids, other.ids)


def test_prefixes_are_copied_and_not_trained() -> None:
    policy = _policy()
    parents = _draw(policy)
    length = parents.mask.sum(1)
    starts = (torch.arange(40) % 7).minimum(length)
    prefixes = parents.ids
    for extra in (0, 2):  # with and without a prefix that all rows share
        begins = (starts + extra).minimum(length)
        drawn = _draw(policy, seed=5, prefixes=prefixes, starts=begins)
        for row, start in enumerate(begins.tolist()):
            assert torch.equal(drawn.ids[row, :start], prefixes[row, :start])
            assert not drawn.mask[row, :start].any()
            assert drawn.mask[row, start] or STOP in prefixes[row, :start].tolist()
        law = _full(policy, drawn.ids).gather(-1, drawn.ids[..., None])[..., 0]
        torch.testing.assert_close(drawn.log_probs[drawn.mask], law[drawn.mask], atol=1e-4, rtol=0)


def test_greedy_continuation_is_the_greedy_response() -> None:
    policy = _policy()
    whole = _draw(policy, temperature=1e-6)
    starts = whole.mask.sum(1) // 2
    assert torch.equal(_draw(policy, seed=8, temperature=1e-6, prefixes=whole.ids, starts=starts).ids, whole.ids)


def test_forced_tokens_are_not_trained() -> None:
    def forced(ids: Tensor) -> Tensor:
        previous = ids[:, -1] if ids.shape[1] else torch.zeros(len(ids), dtype=torch.long)
        return torch.where(previous % 2 == 1, 8, -1)  # an odd token is answered by 8

    drawn = _draw(_policy(stop_bias=-9.0), forced=forced)
    follows = torch.zeros_like(drawn.mask)
    follows[:, 1:] = (drawn.ids[:, :-1] % 2 == 1) & (drawn.ids[:, :-1] != STOP)
    assert (drawn.ids[follows] == 8).all()
    assert not drawn.mask[follows].any()
    assert drawn.mask[~follows & (drawn.ids != PAD)].all()


def test_modulation_changes_the_draw_and_not_the_record() -> None:
    """A factor of almost 0 is greedy, while log-probabilities stay those at the policy's temperature."""
    policy = _policy()
    drawn = _draw(policy, modulation=lambda logits: torch.full((len(logits),), 1e-6))
    law = _full(policy, drawn.ids)
    assert torch.equal(law.argmax(-1)[drawn.mask], drawn.ids[drawn.mask])
    chosen = law.gather(-1, drawn.ids[..., None])[..., 0]
    torch.testing.assert_close(drawn.log_probs[drawn.mask], chosen[drawn.mask], atol=1e-4, rtol=0)


def test_draws_follow_the_law() -> None:
    """First tokens of 20 000 equal rows against the softmax; chi-square, false alarm 1e-4."""
    from scipy import stats

    policy = _policy()
    prompts = _prompts(1).expand(20000, -1)
    drawn = sample(policy, prompts, 1, generator=torch.Generator().manual_seed(0), stop=STOP, pad=PAD)
    with torch.no_grad():
        law = policy(prompts[:1])[0, -1].softmax(-1).double()[:10]
    counts = drawn.ids[:, 0].bincount(minlength=11)[:10]
    assert stats.chisquare(counts.numpy(), (law / law.sum() * counts.sum()).numpy()).pvalue > 1e-4


def test_gradients_reach_every_weight() -> None:
    policy = _policy(image_places=(1,), pixels=3)
    drawn = _draw(policy, images=torch.zeros(40, 1, 3))
    logits = policy(torch.cat([_prompts(), drawn.ids], 1), torch.ones(40, 1, 3))
    torch.nn.functional.cross_entropy(logits[:, 5:-1].flatten(0, 1), drawn.ids.flatten()).backward()
    assert all(math.isfinite(float(w.grad.abs().sum())) and w.grad.any() for w in policy.parameters())
