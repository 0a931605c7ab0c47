"""Random batches that the tests of the rl room share."""

from __future__ import annotations

from dataclasses import replace

import torch

from hartley.rl import Rollouts, Tokens, token_statistics


def random_rollouts(
    seed: int = 0, *, prompts: int = 3, answers: int = 4, time: int = 6, vocabulary: int = 11, **changes: object
) -> Rollouts:
    """Groups of answers of random lengths with rewards 0 and 1; the first group has both."""
    generator = torch.Generator().manual_seed(seed)
    batch = prompts * answers
    logits = 2 * torch.randn(batch, time, vocabulary, generator=generator)
    ids = torch.randint(vocabulary, (batch, time), generator=generator)
    lengths = torch.randint(1, time + 1, (batch,), generator=generator)
    mask = torch.arange(time) < lengths[:, None]
    stats = token_statistics(logits, ids)
    correct = torch.rand(batch, generator=generator) < 0.5
    correct[:2] = torch.tensor([True, False])
    rollouts = Rollouts(
        ids=ids,
        mask=mask,
        group=torch.arange(prompts).repeat_interleave(answers),
        rewards=correct.float(),
        correct=correct,
        log_probs=stats.log_probs,
        entropy=torch.where(mask, stats.entropy, 0.0),
    )
    return replace(rollouts, **changes)  # type: ignore[arg-type]


def random_tokens(rollouts: Rollouts, seed: int = 0, *, drift: float = 0.3, vocabulary: int = 11) -> Tokens:
    """A mini-batch whose policy has moved from that of the rollouts, with gradients."""
    generator = torch.Generator().manual_seed(seed + 1)
    shape = rollouts.ids.shape
    logits = (2 * torch.randn(*shape, vocabulary, generator=generator)).requires_grad_()
    stats = token_statistics(logits, rollouts.ids, second_moment=True)
    noise = drift * torch.randn(*shape, generator=generator)
    return Tokens(
        log_probs=stats.log_probs,
        old_log_probs=stats.log_probs.detach() + noise,
        entropy=stats.entropy,
        second_moment=stats.second_moment,
        advantages=torch.randn(*shape, generator=generator),
        mask=rollouts.mask,
        rollouts=rollouts,
        reference_log_probs=stats.log_probs.detach() + noise.flip(0),
    )
