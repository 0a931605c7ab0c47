"""Continuous tokens: the cached loop against one causal pass, limits, moments, and the task's hand examples."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Dirichlet
from torch.nn.functional import cross_entropy, one_hot

from hartley.reasoning import (
    continuous_generate,
    csft_loss,
    dirichlet_log_prob,
    dirichlet_sample,
    mts_log_prob,
    replay_logits,
)

VOCABULARY = 17


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("transformers")
    from hartley.labs.training import tiny_decoder

    return tiny_decoder(VOCABULARY, width=16, layers=2, heads=2, seed=0).eval()


@pytest.fixture(scope="module")
def prompts() -> torch.Tensor:
    return torch.randint(VOCABULARY, (3, 5), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["soft", "mts", "dirichlet", "discrete"])
def test_cached_loop_is_one_causal_pass(model: Any, prompts: torch.Tensor, mode: Any) -> None:
    trace = continuous_generate(model, prompts, 4, mode, k=3, generator=torch.Generator().manual_seed(0))
    logits = replay_logits(model, prompts, trace.mixtures)
    torch.testing.assert_close(logits[:, -1], trace.answer_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[:, :-1].softmax(-1), trace.alphas, atol=1e-5, rtol=0)
    torch.testing.assert_close(trace.mixtures.sum(-1), torch.ones(3, 3))


def test_discrete_mode_is_greedy_generation(model: Any, prompts: torch.Tensor) -> None:
    trace = continuous_generate(model, prompts, 4, "discrete")
    greedy = model.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=4, do_sample=False, pad_token_id=0
    )
    tokens = torch.cat([trace.mixtures.argmax(-1), trace.answer_logits.argmax(-1, keepdim=True)], 1)
    assert torch.equal(tokens, greedy[:, 5:])
    cold = continuous_generate(model, prompts, 4, "soft", temperature=1e-6)
    torch.testing.assert_close(cold.answer_logits, trace.answer_logits, atol=1e-4, rtol=0)


def test_left_padding_changes_nothing(model: Any, prompts: torch.Tensor) -> None:
    padded = torch.cat([torch.zeros(3, 2, dtype=torch.long), prompts], 1)
    mask = torch.cat([torch.zeros(3, 2, dtype=torch.long), torch.ones_like(prompts)], 1)
    with_mask = continuous_generate(model, padded, 3, attention_mask=mask).answer_logits
    torch.testing.assert_close(with_mask, continuous_generate(model, prompts, 3).answer_logits, atol=1e-5, rtol=0)


def test_no_thoughts_answer_at_once(model: Any, prompts: torch.Tensor) -> None:
    trace = continuous_generate(model, prompts, 1)
    assert trace.alphas.shape == (3, 0, VOCABULARY)
    torch.testing.assert_close(trace.answer_logits, model(prompts).logits[:, -1])


def test_averaged_tokens_have_the_law_as_mean(model: Any, prompts: torch.Tensor) -> None:
    """Mean over draws within five standard errors of alpha; the variance is alpha (1 - alpha) / k."""
    rows, k = 4000, 4
    trace = continuous_generate(
        model, prompts[:1].expand(rows, -1), 2, "mts", k=k, generator=torch.Generator().manual_seed(0)
    )
    alpha, drawn = trace.alphas[0, 0], trace.mixtures[:, 0]
    variance = alpha * (1 - alpha) / k
    assert ((drawn.mean(0) - alpha).abs() <= 5 * (variance / rows).sqrt() + 1e-6).all()
    # A variance estimate from 4000 draws has a relative deviation of about 4 percent at these probabilities.
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.25, atol=1e-4)
    assert trace.samples is not None
    counts = one_hot(trace.samples[:, 0], VOCABULARY).float().mean(1)
    torch.testing.assert_close(counts, drawn)


def test_dirichlet_moments_and_density() -> None:
    """Mean alpha, variance alpha (1 - alpha) / (1 + gamma); the density is that of torch.distributions."""
    alpha, gamma, rows = torch.tensor([0.6, 0.3, 0.0999, 0.0001]), 5.0, 20_000
    draws = dirichlet_sample(alpha.expand(rows, -1), gamma, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.sum(-1), torch.ones(rows))
    assert (draws[:, 3] == 0).all()  # below the floor
    kept = alpha[:3] / alpha[:3].sum()
    variance = kept * (1 - kept) / (1 + gamma)
    assert ((draws[:, :3].mean(0) - kept).abs() < 5 * (variance / rows).sqrt()).all()
    torch.testing.assert_close(draws[:, :3].var(0), variance, rtol=0.1, atol=0)
    reference = Dirichlet(gamma * kept.double()).log_prob(draws[:50, :3].double())
    logits = alpha.log().expand(50, -1)
    torch.testing.assert_close(dirichlet_log_prob(logits, draws[:50], gamma), reference, atol=1e-3, rtol=1e-4)


def test_tiny_concentrations_stay_on_the_simplex() -> None:
    alpha = torch.full((2000, 80), 1 / 80)
    draws = dirichlet_sample(alpha, 0.05, generator=torch.Generator().manual_seed(0))
    assert draws.isfinite().all()
    torch.testing.assert_close(draws.sum(-1), torch.ones(2000))


def test_policy_ratios() -> None:
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    samples = torch.tensor([[[0, 0, 6]] * 3] * 2)
    logp = logits.log_softmax(-1)
    expected = (2 * logp[..., 0] + logp[..., 6]) / 3
    torch.testing.assert_close(mts_log_prob(logits, samples), expected)
    flat = (logits / 3).log_softmax(-1)
    torch.testing.assert_close(mts_log_prob(logits, samples, variant="release"), 2 * flat[..., 0] + flat[..., 6])


def test_loss_of_one_hot_targets_is_cross_entropy(model: Any, prompts: torch.Tensor) -> None:
    """The whole text in one ordinary pass, labels shifted by hand."""
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    loss = csft_loss(model, prompts, one_hot(tokens[:, :2], VOCABULARY).float(), tokens[:, 2])
    logits = model(torch.cat([prompts, tokens[:, :2]], 1)).logits[:, 4:]
    torch.testing.assert_close(loss, 3 * cross_entropy(logits.flatten(0, 1), tokens.flatten()))


def test_loss_is_least_at_the_targets(model: Any, prompts: torch.Tensor) -> None:
    """KL vanishes where the targets are the model's own laws."""
    trace = continuous_generate(model, prompts, 3)
    answers = trace.answer_logits.argmax(-1)
    loss = csft_loss(model, prompts, trace.mixtures, answers)
    torch.testing.assert_close(loss, cross_entropy(trace.answer_logits, answers), atol=1e-5, rtol=0)
    loss.backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0
    model.zero_grad()


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(model: Any, prompts: torch.Tensor) -> None:
    for change, message in (
        ({"steps": 0}, "steps = 0"),
        ({"mode": "hard"}, "mode = 'hard'"),
        ({"mode": "mts"}, "k = None"),
        ({"gamma": 0.0}, "gamma = 0"),
        ({"temperature": float("nan")}, "temperature = nan"),
    ):
        options: dict[str, Any] = {"steps": 2} | change
        with pytest.raises(ValueError, match=message):
            continuous_generate(model, prompts, **options)
    with pytest.raises(ValueError, match="rows of probabilities that sum to one"):
        csft_loss(model, prompts, torch.ones(3, 1, VOCABULARY), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one token in every row"):
        dirichlet_log_prob(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="variant = 'both'"):
        mts_log_prob(torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.long), variant="both")  # type: ignore[arg-type]


def test_signed_sums_by_hand() -> None:
    from hartley.labs.signed_sums import ZERO_SUM, signed_sums

    task = signed_sums(np.array([[3, 1, 2, 2], [9, 1, 1, 1], [5, 5, 5, 5]]))
    assert (task.answers - ZERO_SUM).tolist() == [0, 6, 0]
    laws = task.targets(16)
    second = [{int(s) - ZERO_SUM: float(p[s]) for s in p.nonzero().flatten()} for p in laws[:, 1]]
    assert second[0] == {4: 0.25, 2: 0.25, -2: 0.25, -4: 0.25}
    assert second[2] == {10: 0.25, 0: 0.5, -10: 0.25}
    torch.testing.assert_close(laws.sum(-1), torch.ones(3, 3))
    assert set(task.discrete.sum(-1).flatten().tolist()) == {1.0}
    finals = task.sums[1, :, -1].tolist()
    assert finals == sorted(finals, key=lambda s: (abs(s), s < 0))
    assert Counter(finals) == Counter({6: 1, -6: 1, 8: 3, -8: 3, 10: 3, -10: 3, 12: 1, -12: 1})
    assert [len(row.nonzero()) for row in task.targets(1)[0]] == [1, 1, 1]


@pytest.mark.slow
def test_a_continuous_chain_beats_a_discrete_one() -> None:
    from hartley.labs.signed_sums import SignedSumLab

    lab = SignedSumLab()
    soft, discrete = lab.trained("soft", 0), lab.trained("discrete", 0)
    assert np.mean(soft.right("soft")) > np.mean(discrete.right("discrete"))
