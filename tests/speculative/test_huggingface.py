"""Causal models of transformers: tree masks and cut caches change nothing, and `generate` takes the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hartley.speculative import Speculative, Statistics, speculative_generate
from hartley.speculative.models import CausalModel

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3], [1, 1, 7, 7, 2]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])


def tiny(seed: int, vocabulary: int = 16, **options: Any) -> Any:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        **options,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.lm_head.weight.data.mul_(20)
    return model


def plain(model: Any) -> Callable[[Tensor], Tensor]:
    def probabilities(ids: Tensor) -> Tensor:
        with torch.no_grad():
            return model(ids).logits[:, -1].double().softmax(-1)  # type: ignore[no-any-return]

    return probabilities


@pytest.mark.parametrize(
    ("verifier", "branches", "attention"),
    [
        ("kseq", (3, 1, 1), "sdpa"),
        ("optimal", (2, 2, 1), "eager"),
        ("rrsw", (2, 2, 1), "sdpa"),
        ("greedy", (3, 1), "sdpa"),
    ],
)
def test_caches_and_tree_masks_change_nothing(verifier: str, branches: tuple[int, ...], attention: str) -> None:
    """The same tokens, draw for draw, as with fresh forward passes over each text; in a padded, ragged batch."""
    target, draft = tiny(0, attn_implementation=attention), tiny(1)
    runs = [
        speculative_generate(
            large,
            small,
            IDS,
            attention_mask=MASK,
            max_new_tokens=16,
            branches=branches,
            verifier=verifier,
            eos_token_id=11,
            generator=torch.Generator().manual_seed(5),
        )
        for large, small in ((target, draft), (plain(target), plain(draft)))
    ]
    assert runs[0].new_tokens == runs[1].new_tokens
    assert runs[0].statistics == runs[1].statistics
    assert runs[0].statistics.target_calls < runs[0].statistics.tokens


def test_the_cache_holds_the_text_and_nothing_else() -> None:
    model = CausalModel(tiny(0))
    model.start(IDS, MASK.bool())
    tokens = torch.tensor([[1, 2, 3]] * 3)
    model.extend(tokens, torch.tensor([-1, 0, -1]))
    model.commit(torch.tensor([[0, 1], [2, -1], [-1, -1]]), [[1, 2, 8], [3, 8], [8]], torch.tensor([0, 1, 2]))
    assert model.cache.get_seq_length() == 6  # 3 + 2, 5 + 1, 4 + 0: the longest row
    assert model.real.sum(1).tolist() == [5, 6, 4]
    model.commit(torch.zeros(3, 0, dtype=torch.long), [[], [], []], torch.tensor([2]))
    assert model.cache.get_seq_length() == 4


def test_custom_generate_follows_generate() -> None:
    target, draft = tiny(0), tiny(1)
    settings = {"do_sample": True, "temperature": 0.8, "top_k": 6, "max_new_tokens": 12, "pad_token_id": 0}
    decode = Speculative(draft, drafts=3, length=2, generator=torch.Generator().manual_seed(0))
    ids = target.generate(IDS, attention_mask=MASK, custom_generate=decode, eos_token_id=11, **settings)
    warpers = [transformers.TemperatureLogitsWarper(0.8), transformers.TopKLogitsWarper(6)]
    direct = speculative_generate(
        target,
        draft,
        IDS,
        attention_mask=MASK,
        max_new_tokens=12,
        logits_processor=warpers,
        drafts=3,
        length=2,
        eos_token_id=11,
        generator=torch.Generator().manual_seed(0),
    )
    assert ids.tolist() == direct.ids.tolist()
    assert decode.statistics == direct.statistics != Statistics()


def test_custom_generate_without_sampling_is_greedy() -> None:
    target, draft = tiny(0), tiny(1)
    settings = {"do_sample": False, "max_new_tokens": 10, "eos_token_id": None, "pad_token_id": 0}
    expected = target.generate(IDS[1:2], **settings)
    out = target.generate(IDS[1:2], custom_generate=Speculative(draft), return_dict_in_generate=True, **settings)
    assert out.sequences.tolist() == expected.tolist()


def test_streamer_receives_every_token() -> None:
    class Streamer:
        def __init__(self) -> None:
            self.tokens: list[int] = []
            self.ended = False

        def put(self, tokens: Tensor) -> None:
            self.tokens += tokens.tolist()

        def end(self) -> None:
            self.ended = True

    streamer = Streamer()
    decode = Speculative(tiny(1), streamer=streamer)
    ids = tiny(0).generate(IDS[:1], custom_generate=decode, do_sample=True, max_new_tokens=9, eos_token_id=None)
    assert streamer.tokens == ids[0, IDS.shape[1] :].tolist()
    assert streamer.ended
    with pytest.raises(ValueError, match="one prompt"):
        tiny(0).generate(IDS, custom_generate=decode, max_new_tokens=2, eos_token_id=None)


def test_padded_vocabularies_need_the_number_of_real_tokens() -> None:
    target, draft = tiny(0), tiny(1, vocabulary=20)
    with pytest.raises(ValueError, match=r"vocabulary = \(16, 20\).*real tokens"):
        speculative_generate(target, draft, IDS, max_new_tokens=4)
    out = speculative_generate(target, draft, IDS, max_new_tokens=20, vocabulary=15)
    assert max(map(max, out.new_tokens)) < 15


def test_models_that_cannot_be_masked_or_cut_are_refused() -> None:
    with pytest.raises(ValueError, match="sdpa"):
        CausalModel(tiny(0, attn_implementation="flex_attention"))
    config = transformers.MistralConfig(
        vocab_size=16, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=4,
    )  # fmt: skip
    with pytest.raises(ValueError, match="full attention"):
        speculative_generate(transformers.MistralForCausalLM(config), tiny(1), IDS, max_new_tokens=2)


def test_low_precision_models() -> None:
    target, draft = tiny(0).bfloat16(), tiny(1).bfloat16()
    out = speculative_generate(target, draft, IDS, attention_mask=MASK, max_new_tokens=8)
    assert [len(t) for t in out.new_tokens] == [8, 8, 8]
