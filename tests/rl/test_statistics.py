"""Token statistics against log_softmax, and their gradients against autograd's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley.rl import token_statistics


def reference(logits: torch.Tensor, ids: torch.Tensor, temperature: float) -> tuple[torch.Tensor, ...]:
    log_p = torch.log_softmax(logits.double() / temperature, -1)
    p = log_p.exp()
    log_p = log_p.clamp(min=-1e30)
    entropy = -(p * log_p).sum(-1)
    moment = (p**2 * (log_p + entropy[..., None])).sum(-1)
    return log_p.gather(-1, ids[..., None]).squeeze(-1), entropy, moment


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1,), (3,), (2, 4), (0,), (1, 3, 2)]),
    vocabulary=st.sampled_from([1, 2, 19, 3000]),
    scale=st.sampled_from([0.1, 3.0, 30.0]),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
)
def test_matches_log_softmax(
    seed: int, shape: tuple[int, ...], vocabulary: int, scale: float, temperature: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(*shape, vocabulary, generator=generator)).to(dtype)
    ids = torch.randint(vocabulary, shape, generator=generator)
    got = token_statistics(logits, ids, temperature=temperature, second_moment=True)
    want = reference(logits, ids, temperature)
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4 * max(1.0, scale / 10)
    for found, expected in zip((got.log_probs, got.entropy, got.second_moment), want, strict=True):
        assert found is not None
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance / 2)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradients(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, 40, generator=generator, dtype=torch.float64).requires_grad_()
    ids = torch.randint(40, (3, 5), generator=generator)
    a, b = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    got = token_statistics(logits, ids, temperature=temperature)
    (found,) = torch.autograd.grad((a * got.log_probs + b * got.entropy).sum(), logits)
    want = reference(logits, ids, temperature)
    (expected,) = torch.autograd.grad((a * want[0] + b * want[1]).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_impossible_tokens_have_no_mass_and_no_gradient() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    got = token_statistics(logits, torch.tensor([1]), second_moment=True)
    assert got.log_probs.item() == pytest.approx(-0.693147, abs=1e-6)
    assert got.entropy.item() == pytest.approx(0.693147, abs=1e-6)
    assert got.second_moment is not None
    assert got.second_moment.item() == pytest.approx(0.0, abs=1e-6)  # log p + H = 0 for either
    got.log_probs.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.5, 0.5, 0.0]]))


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="indices of the 4 outcomes"):
        token_statistics(torch.zeros(1, 4), torch.tensor([4]))
    with pytest.raises(ValueError, match="temperature"):
        token_statistics(torch.zeros(1, 4), torch.tensor([0]), temperature=0.0)
