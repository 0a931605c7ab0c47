"""Losslessness on a real language model: texts drafted with a short context against the model's exact law."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from hartley.speculative import speculative_generate

pytestmark = [pytest.mark.slow, pytest.mark.model]

PROMPT = "The three primary colours are red, yellow and"


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    pytest.importorskip("transformers")
    from hartley.labs.models import language_model

    try:
        return language_model()
    except ValueError as error:
        pytest.skip(str(error))


def short_sighted(model: Any, window: int) -> Any:
    def probabilities(ids: Tensor) -> Tensor:
        with torch.no_grad():
            return model(input_ids=ids[:, -window:], logits_to_keep=1).logits[:, -1].double().softmax(-1)  # type: ignore[no-any-return]

    return probabilities


@pytest.mark.parametrize(("verifier", "branches"), [("kseq", (4, 1)), ("optimal", (4, 1)), ("rrsw", (3, 2))])
def test_two_tokens_of_smollm2_follow_its_own_law(
    pair: tuple[Any, Any], verifier: str, branches: tuple[int, ...]
) -> None:
    """Each text's bucket (first token, second token) against the target's exact law, top-k 4 at temperature 1.

    One chi-square test a verifier over at most 16 cells, fixed seed; false alarms at 1e-4 each if it were redrawn.
    The draft sees three tokens only, so that about half of its tokens are refused.
    """
    model, tokenizer = pair
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]

    def top4(_: Tensor, logits: Tensor) -> Tensor:
        return logits.masked_fill(logits < logits.topk(4).values[..., -1:], -torch.inf)

    rows, per_call = 160, 32
    generator = torch.Generator().manual_seed(0)
    texts: list[tuple[int, ...]] = []
    calls = tokens = 0
    for _ in range(rows // per_call):
        out = speculative_generate(
            model,
            short_sighted(model, 3),
            ids.expand(per_call, -1),
            max_new_tokens=3,
            branches=branches,
            verifier=verifier,
            logits_processor=[top4],
            generator=generator,
        )
        texts += [tuple(t[:2]) for t in out.new_tokens]
        calls, tokens = calls + out.statistics.blocks, tokens + out.statistics.tokens
    with torch.no_grad():
        first = top4(ids, model(input_ids=ids).logits[0, -1].double()).softmax(-1)
        starts = first.nonzero().squeeze(-1)
        longer = torch.cat([ids.expand(len(starts), -1), starts.unsqueeze(-1)], 1)
        second = top4(ids, model(input_ids=longer).logits[:, -1].double()).softmax(-1)
    joint = {
        (int(a), int(b)): float(first[a] * second[i, b]) for i, a in enumerate(starts) for b in second[i].nonzero()
    }
    assert set(texts) <= set(joint)
    common = [t for t in joint if joint[t] * rows >= 5]
    observed = [texts.count(t) for t in common] + [sum(t not in common for t in texts)]
    expected = [joint[t] * rows for t in common] + [rows * (1 - sum(joint[t] for t in common))]
    if expected[-1] < 5:  # pool what is too rare with the rarest common cell
        observed, expected = [*observed[:-2], sum(observed[-2:])], [*expected[:-2], sum(expected[-2:])]
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-4
    assert calls < tokens


def test_caches_of_smollm2_hold_the_same_text(pair: tuple[Any, Any]) -> None:
    """Greedy decoding with drafts from a short context, cached and in trees, is `generate`'s greedy text."""
    model, tokenizer = pair
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    expected = model.generate(ids, max_new_tokens=24, do_sample=False, eos_token_id=None)[0, ids.shape[1] :].tolist()
    out = speculative_generate(model, short_sighted(model, 6), ids, max_new_tokens=24, temperature=0, drafts=1)
    assert out.new_tokens == [expected]
    assert out.statistics.target_calls < 24
