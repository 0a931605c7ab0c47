"""The loop: the target's law over whole continuations, in as few target calls as theory says, for every verifier."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from torch import Tensor

from hartley.speculative import Draft, kseq, output_law
from hartley.speculative.generate import (
    VERIFIERS,
    check_tokenizers,
    speculative_blocks,
    speculative_generate,
)

P = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], dtype=torch.float64)
Q = torch.tensor([[0.4, 0.4, 0.2], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4]], dtype=torch.float64)


def bigram(table: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda ids: table[ids[:, -1]]


def walk(state: int, drafts: list[tuple[int, ...]], emitted: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Exact law of one K-SEQ block given its drafts, by the recursion of the paper."""
    if not drafts[0]:
        return {(*emitted, y): float(P[state, y]) for y in range(3)}
    draft = Draft(torch.tensor([[d[0] for d in drafts]]), Q[state][None])
    law = output_law(kseq(P[state][None], draft), draft)[0]
    found: dict[tuple[int, ...], float] = {}
    for y in range(3):
        left = [d[1:] for d in drafts if d[0] == y]
        below = walk(y, left, (*emitted, y)) if left else {(*emitted, y): 1.0}
        for text, weight in below.items():
            found[text] = found.get(text, 0.0) + float(law[y]) * weight
    return found


@functools.cache
def block_law(k: int, length: int) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], float] = {}
    sequences = list(itertools.product(range(3), repeat=length))
    chance = {s: math.prod(float(Q[a, b]) for a, b in itertools.pairwise((0, *s))) for s in sequences}
    for drafts in itertools.product(sequences, repeat=k):
        weight = math.prod(chance[d] for d in drafts)
        for text, share in walk(0, list(drafts), ()).items():
            found[text] = found.get(text, 0.0) + weight * share
    return found


def test_two_levels_are_lossless_exactly() -> None:
    """V = 3, K = 2, L = 2: texts that start a block have the target's probability, or the target ends them."""
    law = block_law(2, 2)
    for a, b in itertools.product(range(3), repeat=2):
        seen = sum(w for t, w in law.items() if t[:2] == (a, b))
        ended = law.get((a,), 0.0) * float(P[a, b])  # blocks of one token: the next block goes on from the target's law
        assert seen + ended == pytest.approx(float(P[0, a] * P[a, b]), abs=1e-12)


@pytest.mark.parametrize(
    ("k", "length", "expected"), [(1, 1, 1.8), (1, 3, 2.917), (2, 1, 1.915959179), (2, 2, 2.673847272)]
)
def test_exact_block_efficiency(k: int, length: int, expected: float) -> None:
    law = block_law(k, length)
    assert sum(law.values()) == pytest.approx(1, abs=1e-12)
    assert sum(len(t) * w for t, w in law.items()) == pytest.approx(expected, abs=1e-8)


def first_block_lengths(verifier: str, rows: int, k: int, length: int) -> Tensor:
    prompts = torch.zeros(rows, 1, dtype=torch.long)
    options = {"drafts": k, "length": length, "verifier": verifier, "generator": torch.Generator().manual_seed(0)}
    block = next(speculative_blocks(bigram(P), bigram(Q), prompts, max_new_tokens=9, **options))  # type: ignore[arg-type]
    return torch.tensor([len(t) for t in block.tokens.values()], dtype=torch.float64)


@pytest.mark.parametrize(("k", "length", "expected"), [(2, 3, 3.272932336), (3, 3, 3.471300991)])
def test_the_loop_has_the_exact_block_efficiency(k: int, length: int, expected: float) -> None:
    lengths = first_block_lengths("kseq", 2000, k, length)
    assert abs(float(lengths.mean()) - expected) < 4 * float(lengths.std()) / len(lengths) ** 0.5  # 1 in 16,000


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_texts_follow_the_target(verifier: str) -> None:
    # Joint law of three tokens, chi-square; false alarms at 1e-4 a verifier if the seed were redrawn.
    prompts = torch.zeros(1200, 1, dtype=torch.long)
    out = speculative_generate(
        bigram(P),
        bigram(Q),
        prompts,
        max_new_tokens=3,
        branches=(2, 2),
        verifier=verifier,
        generator=torch.Generator().manual_seed(1),
    )
    texts = list(itertools.product(range(3), repeat=3))
    index = {t: i for i, t in enumerate(texts)}
    counts = torch.tensor([index[tuple(t)] for t in out.new_tokens]).bincount(minlength=27)
    expected = [1200 * float(P[0, a] * P[a, b] * P[b, c]) for a, b, c in texts]
    assert scipy.stats.chisquare(counts.numpy(), expected).pvalue > 1e-4
    assert out.statistics.tokens == 3600


def test_acceptance_stands_beside_its_optimum() -> None:
    p, q = (bigram(torch.tensor([row] * 3, dtype=torch.float64)) for row in ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]))
    prompts = torch.zeros(1200, 1, dtype=torch.long)
    generator = torch.Generator().manual_seed(2)
    options = {"drafts": 2, "length": 1, "verifier": "optimal", "certify": True, "generator": generator}
    statistics = speculative_generate(p, q, prompts, max_new_tokens=2, **options).statistics
    (found,), (best,) = statistics.acceptance, statistics.optimal_acceptance
    assert best == pytest.approx(0.86, abs=1e-12)
    assert abs(found - best) < 4 * (best * (1 - best) / statistics.tried[0]) ** 0.5
    with pytest.raises(ValueError, match="certify"):
        _ = speculative_generate(p, q, prompts[:1], max_new_tokens=2).statistics.optimal_acceptance


def test_every_token_comes_from_its_own_row() -> None:
    """A target that counts upwards: one row read off by one, the bonus token's included, breaks the count."""
    ring = torch.roll(torch.eye(7, dtype=torch.float64), 1, 1)
    noisy = 0.5 * ring + 0.5 / 7
    for verifier in VERIFIERS:
        out = speculative_generate(
            bigram(ring),
            bigram(noisy),
            torch.tensor([[0], [3]]),
            max_new_tokens=15,
            branches=(2, 2, 1),
            verifier=verifier,
            generator=torch.Generator().manual_seed(0),
        )
        assert out.new_tokens == [[(s + i) % 7 for i in range(1, 16)] for s in (0, 3)]


def test_a_perfect_draft_fills_every_block() -> None:
    out = speculative_generate(bigram(P), bigram(P), torch.zeros(1, 1, dtype=torch.long), max_new_tokens=20, length=4)
    assert out.statistics.block_efficiency == 5
    assert out.statistics.acceptance == (1, 1, 1, 1)


def test_temperature_zero_is_greedy_decoding() -> None:
    generator = torch.Generator().manual_seed(0)
    tables = torch.rand(2, 9, 9, dtype=torch.float64, generator=generator)
    table, other = tables / tables.sum(-1, keepdim=True)
    out = speculative_generate(bigram(table), bigram(other), torch.tensor([[4]]), max_new_tokens=12, temperature=0)
    state, expected = 4, []
    for _ in range(12):
        state = int(table[state].argmax())
        expected.append(state)
    assert out.new_tokens == [expected]


def test_end_of_sequence_inside_a_draft_ends_the_row() -> None:
    ring = torch.roll(torch.eye(9, dtype=torch.float64), 1, 1)
    out = speculative_generate(
        bigram(ring),
        bigram(ring),
        torch.tensor([[0], [4]]),
        max_new_tokens=12,
        length=4,
        eos_token_id=[6, 7],
        pad_token_id=8,
    )
    assert out.new_tokens == [[1, 2, 3, 4, 5, 6], [5, 6]]
    assert out.ids[1].tolist() == [4, 5, 6, 8, 8, 8, 8]
    assert out.statistics.tokens == 8


def test_stop_sees_the_text_after_each_token() -> None:
    ring = torch.roll(torch.eye(9, dtype=torch.float64), 1, 1)
    out = speculative_generate(
        bigram(ring), bigram(ring), torch.tensor([[0, 1]]), max_new_tokens=8, stop=lambda ids: ids.shape[1] == 5
    )
    assert out.new_tokens == [[2, 3, 4]]


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    """Two prompts of different length: the padded row is never read, and each row is counted for itself."""
    ring = torch.roll(torch.eye(9, dtype=torch.float64), 1, 1)
    ids, mask = torch.tensor([[7, 7, 2], [0, 1, 2]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    seen: set[int] = set()

    def watching(x: Tensor) -> Tensor:
        seen.update(x.flatten().tolist())
        return ring[x[:, -1]]

    out = speculative_generate(watching, bigram(ring), ids, attention_mask=mask, max_new_tokens=4, length=2)
    assert out.new_tokens == [[3, 4, 5, 6]] * 2
    assert 7 not in seen


def test_processors_shape_both_models_in_the_same_contexts() -> None:
    asked: list[tuple[int, ...]] = []

    def no_repeats(ids: Tensor, logits: Tensor) -> Tensor:
        asked.extend(tuple(row) for row in ids.tolist())
        return logits.scatter(1, ids[:, -1:], -math.inf)

    prompts = torch.zeros(1200, 1, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    out = speculative_generate(
        bigram(P),
        bigram(Q),
        prompts,
        max_new_tokens=2,
        drafts=2,
        length=1,
        temperature=0.5,
        logits_processor=[no_repeats],
        generator=generator,
    )
    shaped = (P.log() / 0.5).masked_fill(torch.eye(3, dtype=torch.bool), -math.inf).softmax(-1)
    texts = [(a, b) for a in (1, 2) for b in range(3) if b != a]
    counts = [sum(tuple(t) == text for t in out.new_tokens) for text in texts]
    assert sum(counts) == 1200
    expected = [1200 * float(shaped[0, a] * shaped[a, b]) for a, b in texts]
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-4
    assert {len(ids) for ids in asked} == {1, 2}


def test_ratios_with_another_law_than_the_drafts_are_visibly_biased() -> None:
    """The trap that a Draft closes: sampled at temperature 0.5, verified as if at temperature 1."""
    sharp = (Q[0].log() / 0.5).softmax(-1)
    for q, biased in ((sharp, False), (Q[0], True)):
        law = torch.zeros(3, dtype=torch.float64)
        for tokens in itertools.product(range(3), repeat=2):
            draft = Draft(torch.tensor([tokens]), q[None])
            law += sharp[list(tokens)].prod() * output_law(kseq(P[0][None], draft), draft)[0]
        assert (float((law - P[0]).abs().max()) > 0.01) == biased


def test_equal_prefixes_share_one_law_to_the_last_bit() -> None:
    """Kernels give equal prefixes of one batch slightly different logits; the drafts must still come from one law."""
    calls = itertools.count()

    def jittery(ids: Tensor) -> Tensor:
        noise = torch.rand(len(ids), 3, generator=torch.Generator().manual_seed(next(calls)), dtype=torch.float64)
        rows = Q[ids[:, -1]] * (1 + 0.5 * noise)
        return rows / rows.sum(-1, keepdim=True)

    prompts = torch.zeros(1200, 1, dtype=torch.long)
    generator = torch.Generator().manual_seed(3)
    out = speculative_generate(bigram(P), jittery, prompts, max_new_tokens=3, drafts=3, length=2, generator=generator)
    counts = torch.tensor([9 * a + 3 * b + c for a, b, c in out.new_tokens]).bincount(minlength=27)
    expected = [1200 * float(P[0, a] * P[a, b] * P[b, c]) for a, b, c in itertools.product(range(3), repeat=3)]
    assert scipy.stats.chisquare(counts.numpy(), expected).pvalue > 1e-4


def test_the_lab_chain_is_the_same_as_functions_of_the_text() -> None:
    from hartley.labs.speculative import SpeculativeLab, Trigram

    pair = SpeculativeLab(vocabulary=5).pair(0)
    models = (
        (Trigram(pair.law), Trigram(pair.draft_law.expand_as(pair.law))),
        (lambda ids: pair.law[ids[:, -2], ids[:, -1]], lambda ids: pair.draft_law[ids[:, -1]]),
    )
    prompts = torch.tensor([[1, 2], [3, 4]])
    runs = [
        speculative_generate(
            *pair_of_models,
            prompts,
            max_new_tokens=20,
            branches=(2, 2, 1),
            generator=torch.Generator().manual_seed(0),
        )
        for pair_of_models in models
    ]
    assert runs[0].new_tokens == runs[1].new_tokens


def test_streaming_yields_blocks_as_they_come() -> None:
    blocks = list(speculative_blocks(bigram(P), bigram(Q), torch.tensor([[0], [1]]), max_new_tokens=10, length=2))
    assert [b.statistics.target_calls for b in blocks] == list(range(1, len(blocks) + 1))
    assert all(1 <= len(t) <= 3 for b in blocks for t in b.tokens.values())
    for row in (0, 1):
        assert sum(len(b.tokens.get(row, [])) for b in blocks) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drafts": 0}, "drafts = 0"),
        ({"length": 0}, "length = 0"),
        ({"branches": (2, 0)}, "at least one child"),
        ({"verifier": "ksec"}, "kseq"),
        ({"law": "without", "drafts": 2}, "independent drafts"),
        ({"temperature": -1.0}, "temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"attention_mask": torch.tensor([[1, 0]])}, "left padding"),
        ({"attention_mask": torch.tensor([[1]])}, "as the ids"),
        ({"draft": lambda ids: torch.full((len(ids), 2), 0.5)}, "shape of q"),
        ({"draft": lambda ids: torch.full((len(ids), 3), 0.25)}, "sum to one"),
        ({"draft": "gpt"}, "causal model"),
    ],
)
def test_bad_options(unchecked: None, options: dict[str, object], message: str) -> None:
    arguments = {
        "target": bigram(P),
        "draft": bigram(Q),
        "input_ids": torch.tensor([[0, 1]]),
        "max_new_tokens": 4,
    } | options
    with pytest.raises(ValueError, match=message):
        speculative_generate(**arguments)  # type: ignore[arg-type]


def test_different_tokenizers_are_refused() -> None:
    class Tokenizer:
        def __init__(self, vocabulary: dict[str, int]) -> None:
            self.get_vocab = lambda: vocabulary

    ours, theirs = Tokenizer({"a": 0, "b": 1}), Tokenizer({"a": 1, "b": 0})
    check_tokenizers(ours, ours)
    with pytest.raises(ValueError, match="'a' is 0 in the target's and 1 in the draft's"):
        speculative_generate(bigram(P), bigram(Q), torch.tensor([[0]]), max_new_tokens=1, tokenizers=(ours, theirs))
