"""Policy gradients: ratios of one, hand-made advantages and clips, and the exact gradient of an expected reward."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from hartley.reasoning import (
    dirichlet_log_prob,
    group_advantages,
    policy_loss,
    policy_rollout,
    replay_logits,
    trace_log_probs,
)

VOCABULARY = 7


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("transformers")
    from hartley.labs.training import tiny_decoder

    return tiny_decoder(VOCABULARY, width=16, layers=1, heads=2, seed=0).eval()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


PROMPTS = torch.tensor([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("mode", ["mts", "dirichlet"])
def test_ratio_is_one_where_nothing_was_learnt(model: Any, mode: Any) -> None:
    trace = policy_rollout(model, PROMPTS, 3, 4, mode, k=2, gamma=2.0, generator=generator())
    assert trace.prompts.tolist() == PROMPTS.repeat_interleave(4, 0).tolist()
    assert trace.log_probs.shape == (8, 3)
    now = trace_log_probs(model, trace)
    torch.testing.assert_close(now.detach(), trace.log_probs)
    advantages = torch.randn(8, generator=generator())
    loss = policy_loss(now, trace.log_probs, advantages, kl=0.5, reference=trace.log_probs)
    assert float(loss.detach()) == pytest.approx(-float(advantages.mean()), abs=1e-5)  # and no KL


def test_log_probs_are_those_of_the_laws(model: Any) -> None:
    """Geometric mean over drawn tokens, Dirichlet density, and the answer, from the logits of one pass."""
    trace = policy_rollout(model, PROMPTS, 3, 2, "mts", k=2, generator=generator())
    assert trace.samples is not None
    logp = replay_logits(model, trace.prompts, trace.mixtures).detach().log_softmax(-1)
    for i in range(4):
        for t in range(2):
            expected = sum(float(logp[i, t, token]) for token in trace.samples[i, t]) / 2
            assert float(trace.log_probs[i, t]) == pytest.approx(expected, abs=1e-5)
        assert float(trace.log_probs[i, 2]) == pytest.approx(float(logp[i, 2, trace.answers[i]]), abs=1e-5)
    dirichlet = policy_rollout(model, PROMPTS, 3, 2, "dirichlet", gamma=3.0, generator=generator())
    logits = replay_logits(model, dirichlet.prompts, dirichlet.mixtures).detach()
    expected = dirichlet_log_prob(logits[:, :2], dirichlet.mixtures, 3.0)
    torch.testing.assert_close(dirichlet.log_probs[:, :2].double(), expected, atol=1e-4, rtol=1e-4)


def test_advantages_by_hand() -> None:
    found = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [3.0, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(found[0], torch.tensor([1.0, -1.0, -1.0, 1.0]))
    assert found[1].tolist() == [0.0] * 4
    torch.testing.assert_close(found[2], torch.tensor([3.0, -1.0, -1.0, -1.0]) / 3**0.5)


def test_equal_rewards_teach_nothing(model: Any) -> None:
    learner = copy.deepcopy(model)
    trace = policy_rollout(learner, PROMPTS, 3, 2, generator=generator())
    advantages = group_advantages(torch.ones(2, 2)).flatten()
    policy_loss(trace_log_probs(learner, trace), trace.log_probs, advantages).backward()
    assert all(p.grad is None or float(p.grad.abs().max()) == 0 for p in learner.parameters())


def test_clip_and_penalty_by_hand() -> None:
    old, ratio = torch.zeros(2, 2), torch.tensor([[1.5, 0.5], [1.5, 0.5]])
    loss = policy_loss(ratio.log(), old, torch.tensor([1.0, -1.0]), clip=0.1)
    assert float(loss) == pytest.approx(-(1.1 + 0.5 - 1.5 - 0.9) / 4)
    penalised = policy_loss(ratio.log(), old, torch.zeros(2), kl=2.0, reference=old)
    expected = 2 * sum(1 / r - 1 + torch.tensor(r).log().item() for r in (1.5, 0.5)) / 2
    assert float(penalised) == pytest.approx(expected, abs=1e-6)


def test_gradient_is_that_of_the_expected_reward(model: Any) -> None:
    """All answers of one prompt, each weighted by its chance: minus the gradient of the expected reward, exactly."""
    learner, reward = copy.deepcopy(model), torch.arange(float(VOCABULARY))
    prompt = PROMPTS[:1]
    law = learner(prompt).logits[0, -1].softmax(-1)
    (law @ reward).backward()
    exact = learner.model.embed_tokens.weight.grad.clone()
    learner.zero_grad()
    drawn = policy_rollout(learner, prompt, 1, VOCABULARY, generator=generator())
    every = replace(drawn, answers=torch.arange(VOCABULARY), samples=None)
    now = trace_log_probs(learner, every)
    weights = VOCABULARY * law.detach() * reward
    policy_loss(now, now.detach(), weights).backward()
    torch.testing.assert_close(learner.model.embed_tokens.weight.grad, -exact, atol=1e-6, rtol=1e-4)


def test_two_steps_raise_the_reward(model: Any) -> None:
    """Reward: the answer is token 3. The exact chance of it after random chains rises with each step."""
    learner = copy.deepcopy(model)
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.5)

    def chance() -> float:
        trace = policy_rollout(learner, PROMPTS, 2, 64, generator=generator())
        logits = replay_logits(learner, trace.prompts, trace.mixtures).detach()
        return float(logits[:, -1].softmax(-1)[:, 3].mean())

    chances = [chance()]
    for _ in range(2):
        trace = policy_rollout(learner, PROMPTS, 2, 64, generator=generator())
        advantages = group_advantages((trace.answers == 3).float().view(2, 64)).flatten()
        optimizer.zero_grad()
        policy_loss(trace_log_probs(learner, trace), trace.log_probs, advantages).backward()
        optimizer.step()
        chances.append(chance())
    assert chances[0] < chances[1] < chances[2]


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="group = 1"):
        policy_rollout(model, PROMPTS, 2, 1)
    with pytest.raises(ValueError, match="mode = 'soft'"):
        policy_rollout(model, PROMPTS, 2, 2, "soft")  # type: ignore[arg-type]
    rows = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="clip = 0"):
        policy_loss(rows, rows, torch.ones(2), clip=0.0)
    with pytest.raises(ValueError, match="reference = None"):
        policy_loss(rows, rows, torch.ones(2), kl=0.1)
