"""The adapters inside `model.generate`: batches, left padding, beams, reordering, and agreement with the functions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, TemperatureLogitsWarper

from hartley import decoding
from hartley.decoding import EntropyTopK, LocallyTypical, Mirostat, MirostatProcessor, TopH


@pytest.fixture(scope="module")
def tiny() -> Any:
    """A random two-layer Llama over 60 tokens: no download, and every code path of `generate`."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.4, pad_token_id=0, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def generate(model: Any, processors: list[Any], batch: int = 3, **options: Any) -> Any:
    ids = torch.randint(3, 60, (batch, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[0, :3], mask[0, :3] = 0, 0  # left padding
    with torch.random.fork_rng():
        torch.manual_seed(2)
        settings = {"do_sample": True, "max_new_tokens": 8, "top_k": 0, "output_logits": True, "output_scores": True}
        return model.generate(
            ids, attention_mask=mask, logits_processor=processors, return_dict_in_generate=True, **settings | options
        )


@pytest.mark.parametrize(
    ("processor", "band"),
    [
        (TopH(0.5), lambda z: decoding.top_h_threshold(z, 0.5)),
        (TopH(0.5, rule="partial"), lambda z: decoding.top_h_threshold(z, 0.5, rule="partial")),
        (LocallyTypical(0.3), lambda z: decoding.typical_band(z, 0.3)),
        (EntropyTopK(k_max=20, midpoint=2.0), lambda z: decoding.entropy_top_k_threshold(z, k_max=20, midpoint=2.0)),
    ],
)
def test_generate_filters_every_step(tiny: Any, processor: Any, band: Any) -> None:
    made = generate(tiny, [TemperatureLogitsWarper(1.5), processor])
    assert made.sequences.shape == (3, 14)
    for logits, scores in zip(made.logits, made.scores, strict=True):
        z = logits / 1.5
        assert torch.equal(scores, decoding.apply_band(z, band(z)))


def test_in_place_generates_the_same(tiny: Any) -> None:
    assert torch.equal(generate(tiny, [TopH(0.5)]).sequences, generate(tiny, [TopH(0.5, inplace=True)]).sequences)


def test_mirostat_follows_each_sequence(tiny: Any) -> None:
    """The processor, which sees a token one step late, has the bounds of the sampler that sees it at once."""
    processor = MirostatProcessor(3.0, 0.7)
    made = generate(tiny, [processor])
    sampler = Mirostat(3.0, 0.7)
    sampler.reset(3)
    tokens = made.sequences[:, 6:]
    for step, logits in enumerate(made.logits):
        band, log_total = sampler.threshold(logits)
        assert torch.equal(made.scores[step], decoding.apply_band(logits, band))
        if step + 1 < len(made.logits):
            sampler.update(logits, log_total, tokens[:, step])
    assert sampler.state is not None
    assert torch.equal(processor.state.mu, sampler.state.mu)
    assert len(set(processor.state.mu.tolist())) == 3


def test_mirostat_starts_anew_with_each_prompt(tiny: Any) -> None:
    processor = MirostatProcessor(3.0)
    first = generate(tiny, [processor])
    again = generate(tiny, [processor])
    assert torch.equal(first.sequences, again.sequences)
    assert generate(tiny, [processor], batch=2).sequences.shape == (2, 14)


def test_mirostat_survives_reordering_and_thinning() -> None:
    g = torch.Generator().manual_seed(0)
    z = torch.randn(4, 30, generator=g) * 2
    prompts = torch.arange(8).reshape(4, 2)
    processor = MirostatProcessor(2.0)
    processor(prompts, z)
    drawn = torch.tensor([3, 9, 14, 20])
    ids = torch.cat([prompts, drawn[:, None]], 1)
    order = torch.tensor([2, 0, 3])
    processor(ids[order], z[order])
    plain = MirostatProcessor(2.0)
    plain(prompts, z)
    plain(ids, z)
    assert torch.equal(processor.state.mu, plain.state.mu[order])


def test_mirostat_refuses_beams(tiny: Any) -> None:
    with pytest.raises(ValueError, match="num_beams > 1"):
        generate(tiny, [MirostatProcessor(3.0)], num_beams=4, do_sample=False, output_logits=False)


def test_entropy_top_k_in_a_token_range() -> None:
    z = torch.randn(5, 40, generator=torch.Generator().manual_seed(3))
    z[0, 35] = 9.0  # its mode is an image token, as the second row's is not
    z[1, 2] = 9.0
    processor = EntropyTopK(k_max=3, midpoint=0.1, scale=0.1, token_range=(20, 40))
    out = processor(torch.zeros(2, 1, dtype=torch.long), z[:2])
    assert (out[0, :20] == -math.inf).all()
    part = z[:1, 20:]
    assert torch.equal(
        out[:1, 20:],
        decoding.apply_band(part, decoding.entropy_top_k_threshold(part, k_max=3, midpoint=0.1, scale=0.1)),
    )
    assert torch.equal(out[1], z[1])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TopH(1.5), "alpha = 1.5"),
        (lambda: LocallyTypical(0.0), "mass = 0.0"),
        (lambda: EntropyTopK(k_min=0), "k_min = 0"),
        (lambda: EntropyTopK(token_range=(5, 5)), "token_range"),
        (lambda: MirostatProcessor(-1.0), "tau = -1.0"),
    ],
)
def test_settings_are_refused_at_construction(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
