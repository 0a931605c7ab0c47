"""The steering vector against hand sums and a covariance; the context against hidden states and full passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from hartley.reasoning import action_entropy, beta_for, block_outputs, decoder_blocks, steering, steering_vector


def tiny(kind: str) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=19, n_embd=12, n_layer=3, n_head=2, n_positions=32, initializer_range=0.4
        )
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.LlamaConfig(
            vocab_size=19,
            hidden_size=12,
            intermediate_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            initializer_range=0.4,
        )
        model = transformers.LlamaForCausalLM(config)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    return model.eval()


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_hand_sums() -> None:
    assert steering_vector([rows(0, 2)[:, None]], [rows(1, 3)]).tolist() == [0.5]
    a, b = rows(0, 2)[:, None], rows(10, 14)[:, None]
    assert steering_vector([a, b], [rows(1, 3), rows(2, 2)]).tolist() == [0.25]
    assert steering_vector([a, b], [rows(1, 3), rows(2, 2)], centred=False).tolist() == [(6 + 48) / 8]
    assert steering_vector([torch.cat([b, a])], [rows(9, 9, 1, 3)], skip_first=2).tolist() == [0.5]


def test_vector_is_a_covariance_within_runs() -> None:
    generator = torch.Generator().manual_seed(0)
    zs = [torch.randn(n, 5, dtype=torch.float64, generator=generator) for n in (3, 7, 4)]
    hs = [torch.rand(len(z), dtype=torch.float64, generator=generator) for z in zs]
    covariance = sum((h - h.mean()) @ (z - z.mean(0)) for z, h in zip(zs, hs, strict=True))
    u = steering_vector(zs, hs)
    torch.testing.assert_close(u, covariance / sum(h.sum() for h in hs), atol=1e-12, rtol=0)  # type: ignore[operator]
    moved = [z + 10 * i for i, z in enumerate(zs)]
    torch.testing.assert_close(steering_vector(moved, [3 * h for h in hs]), u)
    torch.testing.assert_close(steering_vector(zs, [torch.ones_like(h) for h in hs]), torch.zeros_like(u))


def test_zero_entropies_warn() -> None:
    with pytest.warns(UserWarning, match="all action entropies are zero"):
        assert steering_vector([torch.ones(3, 2)], [torch.zeros(3)]).tolist() == [0, 0]


def test_action_entropy() -> None:
    assert action_entropy(["a", "a", "b", None]) == pytest.approx(0.636514, abs=1e-6)
    assert math.isnan(action_entropy([None, None]))
    assert action_entropy(["a"]) == 0


def test_strength_is_relative_to_the_activations() -> None:
    u, z = torch.tensor([3.0, 4.0]), torch.tensor([[[6.0, 8.0], [0.0, 30.0]]])
    assert beta_for(0.5, u, z) == pytest.approx(0.5 * 20 / 5)
    with pytest.raises(ValueError, match=r"vector = 0.0"):
        beta_for(0.5, torch.zeros(2), z)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_only_the_last_position_changes(kind: str) -> None:
    model, u = tiny(kind), torch.randn(12)
    ids = torch.randint(19, (2, 6), generator=torch.Generator().manual_seed(0))
    plain = block_outputs(model, 1, input_ids=ids)
    earlier = block_outputs(model, 0, input_ids=ids)
    with torch.no_grad():
        torch.testing.assert_close(plain, model(ids, output_hidden_states=True).hidden_states[2])
    with steering(model, 1, u, 2.0):
        steered = block_outputs(model, 1, input_ids=ids)
        torch.testing.assert_close(block_outputs(model, 0, input_ids=ids), earlier, atol=0, rtol=0)
    torch.testing.assert_close(steered[:, :-1], plain[:, :-1], atol=0, rtol=0)
    torch.testing.assert_close(steered[:, -1], plain[:, -1] + 2 * u)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_with_and_without_cache_agree(kind: str) -> None:
    model, u = tiny(kind), torch.randn(12, generator=torch.Generator().manual_seed(1))
    ids = torch.randint(19, (2, 5), generator=torch.Generator().manual_seed(0))
    options = {"max_new_tokens": 6, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with steering(model, 1, u, 3.0):
        cached = model.generate(ids, **options)
    with steering(model, 1, u, 3.0, prompt_length=5):
        full = model.generate(ids, use_cache=False, **options)
    with steering(model, 1, u, 3.0):
        forgetful = model.generate(ids, use_cache=False, **options)
    plain = model.generate(ids, **options)
    a, b, c, d = (torch.stack(out.logits) for out in (cached, full, forgetful, plain))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    assert (a[1:] - c[1:]).abs().max() > 1e-3  # steering the last position only is another thing
    assert (a[0] - d[0]).abs().max() > 1e-3


def test_left_padding_changes_nothing() -> None:
    model, u = tiny("llama"), torch.ones(12)
    ids = torch.tensor([[0, 0, 3, 4, 5], [1, 2, 3, 4, 5]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    with steering(model, 0, u), torch.no_grad():
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        together = model(ids, attention_mask=mask, position_ids=positions).logits[0, -1]
        alone = model(ids[:1, 2:]).logits[0, -1]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_model_is_left_as_found() -> None:
    model, ids = tiny("llama"), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        before = model(ids).logits
        with steering(model, 1, torch.randn(12), 0.0):
            assert torch.equal(model(ids).logits, before)
        with pytest.raises(KeyboardInterrupt), steering(model, 1, torch.ones(12)):
            raise KeyboardInterrupt
        assert torch.equal(model(ids).logits, before)
    assert all(not block._forward_hooks for block in decoder_blocks(model))


def test_bad_input_is_refused() -> None:
    model = tiny("llama")
    with pytest.raises(ValueError, match="layer = 3: expected 0 to 2"), steering(model, 3, torch.ones(12)):
        pass
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match="vector = 5: expected 12 entries"),
        steering(model, 1, torch.ones(5)),
    ):
        model(torch.tensor([[1]]))
    with pytest.raises(ValueError, match="finite numbers"), steering(model, 1, torch.full((12,), torch.nan)):
        pass
    with pytest.raises(ValueError, match="model = Linear: expected a decoder"):
        decoder_blocks(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="entropies = 1: expected one for each of the run's 2 steps"):
        steering_vector([torch.ones(2, 3)], [torch.ones(1)])
    with pytest.raises(ValueError, match="skip_first = 2"):
        steering_vector([torch.ones(2, 3)], [torch.ones(2)], skip_first=2)
    with pytest.raises(ValueError, match="numbers >= 0"):
        steering_vector([torch.ones(2, 3)], [torch.tensor([1.0, torch.nan])])


@pytest.mark.slow
@pytest.mark.model
def test_smollm2_explores_more_when_steered() -> None:
    """The claim's direction on one seed; the claim itself is measured by its trials."""
    from hartley.labs.bandits import BanditLab

    lab = BanditLab()
    agent = lab.agent(0)
    u = agent.vector(lab.layer)
    assert agent.effect(lab.layer, u, 0.4).entropy.mean() > agent.effect(lab.layer, u, 0.0).entropy.mean() + 0.05


def test_teacher_of_the_small_agent() -> None:
    """Token ranges; and the teacher commits: late in a game it presses mostly the arm with the better mean so far."""
    from hartley.labs.token_bandits import BOS, REWARDS, STEPS, teacher_games

    games = teacher_games(2000, np.random.default_rng(0))
    actions, rewards = games[:, 1::2], games[:, 2::2] - 2
    assert games.shape == (2000, 1 + 2 * STEPS)
    assert (games[:, 0] == BOS).all()
    assert set(np.unique(actions)) == {0, 1}
    assert rewards.min() >= 0
    assert rewards.max() < REWARDS
    values, pressed = (rewards - REWARDS // 2) / 1.5, np.stack([actions == 0, actions == 1])
    sums, counts = (pressed * values).cumsum(2)[:, :, -2], pressed.cumsum(2)[:, :, -2]
    better = (sums / np.maximum(counts, 1)).argmax(0)
    assert (actions[:, -1] == better).mean() > 0.85
    assert abs(actions[:, 0].mean() - 0.5) < 0.05  # nothing is known at first


@pytest.mark.slow
@pytest.mark.parametrize("layer", [1, 3])
def test_steering_an_agent_trained_from_scratch(layer: int) -> None:
    """Both signs move the entropy by more than 0.03 nats, five shuffled vectors by less."""
    from hartley.labs.token_bandits import TokenBanditLab

    player = TokenBanditLab(layer=layer).player(0)
    base = float(player.steered(0.0).entropies.mean())
    up = float(player.steered(0.5).entropies.mean())
    assert up > base + 0.03
    assert float(player.steered(-0.5).entropies.mean()) < base - 0.03
    u, shuffled = player.vector, []
    for i in range(5):
        player.vector = u[torch.randperm(len(u), generator=torch.Generator().manual_seed(i))]
        shuffled.append(float(player.steered(0.5).entropies.mean()))
    assert up > np.mean(shuffled) + 2 * np.std(shuffled)
