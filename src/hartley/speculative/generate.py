"""Generation with drafts: one loop for every verifier, every draft law and every pair of models.

A block: the draft model grows a tree of tokens, level by level; the target scores all of it in one call; the verifier
walks down from the root, emits at each level a token with exactly the target's law, and goes on as long as that token
was drafted. The last token of a block comes from the target alone. Temperature and logits processors shape both models
by the same function of the same context, so that q is always the law the drafts were drawn from.

The output has the law of plain sampling from the target as far as the target's own logits do not depend on how many
tokens are scored at once; with kernels in low precision they do, in their last bits.

Sources: Sun et al. (2023), SpecTr, for independent sequences; Miao et al. (2023), SpecInfer, for trees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hartley.checks import nearest, require
from hartley.speculative.decision import Verifier, verify
from hartley.speculative.draft import LAWS, Draft, Law
from hartley.speculative.greedy import greedy
from hartley.speculative.kseq import kseq
from hartley.speculative.models import as_tree_model
from hartley.speculative.optimal import optimal
from hartley.speculative.optimum import optimal_acceptance
from hartley.speculative.rejection import recursive_rejection, single
from hartley.speculative.tree import grow

VERIFIERS: dict[str, tuple[Verifier, Law]] = {
    "single": (single, "with"),
    "rrs": (recursive_rejection, "with"),
    "rrsw": (recursive_rejection, "without"),
    "kseq": (kseq, "with"),
    "optimal": (optimal, "with"),
    "greedy": (greedy, "greedy"),
}
"""By name: the verifier and the law of drafts it serves."""

Processor = Callable[[Tensor, Tensor], Tensor]
"""`(ids, logits) -> logits`, as transformers' logits processors."""


@dataclass(frozen=True)
class Statistics:
    """What a generation did.

    Attributes
    ----------
    tokens : tokens emitted in all.
    target_calls : forward passes of the target, each for all prompts that were still open.
    blocks : the same counted once a prompt: with one prompt, equal to `target_calls`.
    tried, accepted : how often a draft of each level was verified, and how often the emitted token was drafted.
    optimum : sum over the same verifications of the highest acceptance that any lossless verifier has for the draft
        law; None unless asked for.
    """

    tokens: int = 0
    target_calls: int = 0
    blocks: int = 0
    tried: tuple[int, ...] = ()
    accepted: tuple[int, ...] = ()
    optimum: tuple[float, ...] | None = None

    @property
    def block_efficiency(self) -> float:
        """Tokens a target call and prompt; 1 is plain sampling, one more than the depth of the drafts the limit."""
        return self.tokens / self.blocks if self.blocks else math.nan

    @property
    def acceptance(self) -> tuple[float, ...]:
        """Accepted over tried, level by level; NaN where nothing was tried."""
        return tuple(a / t if t else math.nan for a, t in zip(self.accepted, self.tried, strict=True))

    @property
    def optimal_acceptance(self) -> tuple[float, ...]:
        """The certified optimum beside `acceptance`: its mean over the same positions."""
        require(self.optimum is not None, "optimum", None, "a generation with certify=True")
        assert self.optimum is not None
        return tuple(a / t if t else math.nan for a, t in zip(self.optimum, self.tried, strict=True))


@dataclass(frozen=True)
class Block:
    """The tokens of one target call: prompt number -> what it gained, and the statistics so far."""

    tokens: dict[int, list[int]]
    statistics: Statistics


@dataclass(frozen=True)
class Generation:
    """What `speculative_generate` returns.

    Attributes
    ----------
    ids : prompts and continuations, padded on the right.
    new_tokens : the continuations alone, row by row, unpadded.
    """

    ids: Int[Tensor, "batch time"]
    new_tokens: list[list[int]]
    statistics: Statistics


def speculative_generate(
    target: Any,
    draft: Any,
    input_ids: Int[Tensor, "batch time"],
    *,
    max_new_tokens: int,
    pad_token_id: int = 0,
    **options: Any,
) -> Generation:
    """Sample continuations with the target's law, several tokens a target call.

    Parameters
    ----------
    pad_token_id : fills rows that stopped early.
    options : those of `speculative_blocks`.

    Examples
    --------
    >>> import torch
    >>> target = lambda ids: torch.tensor([[0.7, 0.2, 0.1]]).expand(len(ids), -1)
    >>> draft = lambda ids: torch.tensor([[0.5, 0.3, 0.2]]).expand(len(ids), -1)
    >>> prompt = torch.tensor([[0]])
    >>> out = speculative_generate(target, draft, prompt, max_new_tokens=5, generator=torch.Generator().manual_seed(0))
    >>> out.ids.shape, out.statistics.target_calls < 5
    (torch.Size([1, 6]), True)
    """
    rows: list[list[int]] = [[] for _ in input_ids]
    statistics = Statistics()
    for block in speculative_blocks(target, draft, input_ids, max_new_tokens=max_new_tokens, **options):
        for row, tokens in block.tokens.items():
            rows[row] += tokens
        statistics = block.statistics
    longest = max(map(len, rows))
    padded = torch.tensor([row + [pad_token_id] * (longest - len(row)) for row in rows], dtype=torch.long)
    return Generation(torch.cat([input_ids, padded.reshape(-1, longest).to(input_ids.device)], 1), rows, statistics)


def speculative_blocks(
    target: Any,
    draft: Any,
    input_ids: Int[Tensor, "batch time"],
    *,
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
    drafts: int = 4,
    length: int = 4,
    branches: Sequence[int] | None = None,
    verifier: str | Verifier = "kseq",
    law: Law | None = None,
    temperature: float = 1.0,
    logits_processor: Sequence[Processor] = (),
    eos_token_id: int | Collection[int] | None = None,
    stop: Callable[[Tensor], bool] | None = None,
    vocabulary: int | None = None,
    tokenizers: tuple[Any, Any] | None = None,
    certify: bool = False,
    generator: torch.Generator | None = None,
) -> Iterator[Block]:
    """The same, block by block as they are decided: for streaming, and for stopping whenever you like.

    Parameters
    ----------
    target, draft : causal models of transformers, or functions `ids (rows, time) -> probabilities (rows, vocab)`.
    input_ids, attention_mask : prompts, padded on the left where the mask is 0.
    drafts, length : how many sequences are drafted and how long; the tree branches at its first level.
    branches : children of each node, level by level, in place of `drafts` and `length`; (3, 2, 1) drafts 6 sequences.
    verifier : "single", "rrs", "rrsw", "kseq", "optimal", "greedy", or a function `(p, Draft) -> Decision`.
    law : how children are drawn; by default the law that the named verifier serves, "with" for a function.
    temperature : divides the logits of both models, before the processors; 0 takes the most probable token.
    logits_processor : functions `(ids, logits) -> logits`, applied to both models in the same contexts.
    eos_token_id : a row ends after any of these.
    stop : called with the ids (1, time) of a row after each token; True ends the row.
    vocabulary : number of real tokens, where models pad their vocabularies differently.
    tokenizers : those of target and draft, to be checked for being the same.
    certify : also sum up the optimal acceptance of every verified position (one sort of the row each).

    Raises
    ------
    ValueError : models of different vocabularies or tokenizers, options out of range, an unknown verifier.

    When not to use: where scoring K·L tokens costs K·L times one token (a CPU at full load, large batches), or with
    drafts that are rarely right; the statistics tell.
    """
    check, default_law = _verifier(verifier)
    law = default_law if law is None else law
    require(law in LAWS, "law", law, f"one of {LAWS}")
    require(drafts >= 1, "drafts", drafts, "at least one")
    require(length >= 1, "length", length, "at least one")
    widths = list(branches) if branches is not None else [drafts] + [1] * (length - 1)
    require(bool(widths) and min(widths) >= 1, "branches", branches, "at least one child at each level")
    require(max_new_tokens >= 1, "max_new_tokens", max_new_tokens, "at least one")
    require(temperature >= 0, "temperature", temperature, "0 or more")
    real = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    require(real.shape == input_ids.shape, "attention_mask", tuple(real.shape), f"{tuple(input_ids.shape)}, as the ids")
    require(bool(real[:, -1:].all()) and input_ids.shape[1] > 0, "input_ids", tuple(input_ids.shape), "left padding")
    if tokenizers is not None:
        check_tokenizers(*tokenizers)
    large, small = as_tree_model(target), as_tree_model(draft)
    if vocabulary is None:
        sizes = (large.vocabulary, small.vocabulary)
        same = None in sizes or sizes[0] == sizes[1]
        require(same, "vocabulary", sizes, "equal sizes; where padding differs, pass the number of real tokens")
    stops = {eos_token_id} if isinstance(eos_token_id, int) else set(eos_token_id or ())

    def shape(ids: Tensor, logits: Tensor) -> Tensor:
        """Rows of probabilities; the one place where logits of either model become a law."""
        logits = logits[..., :vocabulary].double()
        if temperature > 0:
            logits = logits / temperature
        for processor in logits_processor:
            logits = processor(ids, logits)
        if temperature == 0:
            return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
        return logits.softmax(-1)

    device = input_ids.device
    open_rows = list(range(len(input_ids)))
    contexts = [ids[mask].tolist() for ids, mask in zip(input_ids, real, strict=True)]
    gained: list[int] = [0] * len(input_ids)
    large.start(input_ids, real)
    small.start(input_ids, real)
    zeros = (0,) * len(widths)
    statistics = Statistics(tried=zeros, accepted=zeros, optimum=tuple(map(float, zeros)) if certify else None)
    while open_rows:
        budget = max(max_new_tokens - gained[row] for row in open_rows)
        ids = _padded([contexts[row] for row in open_rows], device)
        tree = grow(small, ids, widths[: budget - 1], law, shape, generator)
        logits = large.extend(tree.tokens, tree.parents)
        batch = len(open_rows)
        emitted: list[list[int]] = [[] for _ in range(batch)]
        path = torch.full((batch, len(tree.levels)), -1, device=device)
        node = torch.zeros(batch, dtype=torch.long, device=device)  # index into logits: 0 is the root
        survivors = torch.ones(
            batch, 1, dtype=torch.bool, device=device
        )  # which nodes of the last level are the prefix
        walking = torch.arange(batch, device=device)
        ended = [False] * batch
        tried, accepted = list(statistics.tried), list(statistics.accepted)
        optimum = list(statistics.optimum) if statistics.optimum is not None else None
        for level in range(len(tree.levels) + 1):
            where = [contexts[open_rows[r]] + emitted[r] for r in walking.tolist()]
            p = shape(_padded(where, device), logits[walking, node[walking]])
            if level == len(tree.levels):  # all drafts accepted: a bonus token from the row behind the last of them
                verdict_tokens = Draft.sample(p, 1, "with", generator).tokens[:, 0]
                went_on = torch.zeros_like(walking, dtype=torch.bool)
            else:
                candidates, columns = tree.candidates(level, walking, survivors)
                verdict = verify(p, candidates, check, generator)
                verdict_tokens, went_on = verdict.token, verdict.accepted
                tried[level] += len(walking)
                accepted[level] += int(went_on.sum())
                if optimum is not None:
                    optimum[level] += _certified(p, candidates)
                alive = torch.zeros(len(walking), tree.levels[level][1], dtype=torch.bool, device=device)
                alive = alive.scatter(1, columns, verdict.survivors)
                survivors = torch.zeros(batch, alive.shape[1], dtype=torch.bool, device=device)
                survivors[walking] = alive
                first = tree.levels[level][0] + alive.to(torch.uint8).argmax(1)
                node[walking] = first + 1
                path[walking, level] = torch.where(went_on, first, -1)
            for r, token in zip(walking.tolist(), verdict_tokens.tolist(), strict=True):
                row = open_rows[r]
                emitted[r].append(token)
                gained[row] += 1
                ended[r] = token in stops or gained[row] >= max_new_tokens
                if stop is not None and not ended[r]:
                    ended[r] = stop(torch.tensor([contexts[row] + emitted[r]], device=device))
            walking = walking[went_on & ~torch.tensor([ended[r] for r in walking.tolist()], device=device)]
            if not len(walking):
                break
        for r, row in enumerate(open_rows):
            contexts[row] += emitted[r]
        statistics = Statistics(
            tokens=statistics.tokens + sum(map(len, emitted)),
            target_calls=statistics.target_calls + 1,
            blocks=statistics.blocks + batch,
            tried=tuple(tried),
            accepted=tuple(accepted),
            optimum=None if optimum is None else tuple(optimum),
        )
        yield Block(dict(zip(open_rows, emitted, strict=True)), statistics)
        left = torch.tensor([r for r in range(batch) if not ended[r]], dtype=torch.long, device=device)
        if len(left):
            large.commit(path, emitted, left)
            small.commit(torch.where(path < tree.fed, path, -1), emitted, left)
        open_rows = [open_rows[r] for r in left.tolist()]


def _padded(rows: list[list[int]], device: Any) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[row[0]] * (longest - len(row)) + row for row in rows], device=device)


def _certified(p: Tensor, draft: Draft) -> float:
    """Sum over the rows of the optimal acceptance for the number of drafts that each has."""
    count = draft.count
    total = 0.0
    for n in sorted(set(count.tolist())):
        rows = count == n
        if n:
            total += float(optimal_acceptance(p[rows], draft.q[rows], n, draft.law).sum())
    return total


def _verifier(name: str | Verifier) -> tuple[Verifier, Law]:
    if not isinstance(name, str):
        return name, "with"
    require(name in VERIFIERS, "verifier", name, nearest(name, VERIFIERS))
    return VERIFIERS[name]


def check_tokenizers(target: Any, draft: Any) -> None:
    """Refuse a pair of tokenizers whose ids mean different texts.

    Raises
    ------
    ValueError : naming a token that they number differently.
    """
    ours, theirs = target.get_vocab(), draft.get_vocab()
    if ours != theirs:
        token = min(t for t in ours.keys() | theirs.keys() if ours.get(t) != theirs.get(t))
        found = f"{token!r} is {ours.get(token)} in the target's and {theirs.get(token)} in the draft's"
        require(False, "tokenizers", found, "the same tokenizer for both models")
