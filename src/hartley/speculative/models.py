"""Models as the loop sees them: a committed context, a tree of drafts on top of it, and logits at every node.

`extend` feeds nodes and returns the next-token logits behind each; `commit` keeps the path that was accepted and drops
the rest. A causal model of transformers keeps one cache row a prompt, which all drafts share: nodes attend to their own
ancestors by a mask of their own, rejected nodes are cut out of the cache, and rows of a batch may advance by different
numbers of tokens. A plain function of the ids needs no cache.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hartley.checks import require
from hartley.speculative.draft import check_rows


@runtime_checkable
class TreeModel(Protocol):
    """What the loop asks of a target or a draft model."""

    vocabulary: int | None

    def start(self, ids: Int[Tensor, "batch time"], real: Bool[Tensor, "batch time"]) -> None:
        """Begin with prompts that are padded on the left; `real` marks what is no padding."""

    def extend(
        self, tokens: Int[Tensor, "batch nodes"], parents: Int[Tensor, " nodes"]
    ) -> Float[Tensor, "batch fed vocab"]:
        """Feed nodes of the tree and return the logits behind them.

        Parameters
        ----------
        parents : number of each node's parent among all nodes fed since the last commit, -1 for the context itself.

        Returns
        -------
        Logits behind each of the nodes; the first call after `start` or `commit` puts those behind the context first.
        """

    def commit(self, path: Int[Tensor, "batch depth"], emitted: list[list[int]], rows: Int[Tensor, " left"]) -> None:
        """Extend the contexts by the emitted tokens and go on with the given rows only.

        Parameters
        ----------
        path : the nodes that were emitted, from the root; -1 where a row has fewer or they were not fed.
        emitted : all tokens of this block, row by row; their first ones are those on the path.
        rows : indices of the rows that go on.
        """


class CausalModel:
    """A causal language model of transformers, with one growing cache row a prompt.

    Needs full attention ("sdpa" or "eager") and the ordinary dynamic cache.

    Raises
    ------
    ValueError : another attention implementation, or a cache that cannot be cut (sliding window, recurrent layers).
    """

    def __init__(self, model: Any) -> None:
        attention = model.config._attn_implementation
        require(attention in ("sdpa", "eager"), "attn_implementation", attention, '"sdpa" or "eager"')
        self.model = model
        self.vocabulary: int | None = model.get_output_embeddings().weight.shape[0]

    def start(self, ids: Tensor, real: Tensor) -> None:
        from transformers import DynamicCache

        self.cache = DynamicCache(config=self.model.config)
        kinds = {type(layer).__name__ for layer in self.cache.layers}
        require(kinds <= {"DynamicLayer"}, "model", self.model.config.model_type, f"full attention only, not {kinds}")
        self.real = real.new_zeros(len(ids), 0)  # which cached columns count
        self.pending, self.pending_real = ids, real  # committed, not yet cached; the last column always counts
        self._clear_tree()

    def _clear_tree(self) -> None:
        # above[i, j]: node j is i or an ancestor of i
        self.above = torch.zeros(0, 0, dtype=torch.bool, device=self.pending.device)

    @torch.no_grad()
    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        batch, nodes = tokens.shape
        before, waiting = self.above.shape[0], self.pending.shape[1]
        above = torch.zeros(before + nodes, before + nodes, dtype=torch.bool, device=tokens.device)
        above[:before, :before] = self.above
        for i, parent in enumerate(parents.tolist(), before):
            if parent >= 0:
                above[i] = above[parent]
            above[i, i] = True
        context = torch.cat([self.real, self.pending_real], 1)  # every committed column
        length = context.sum(1, keepdim=True)
        order = torch.arange(waiting, device=tokens.device)
        earlier = self.pending_real.unsqueeze(1) & (order[:, None] >= order)
        causal = torch.cat([self.real.unsqueeze(1).expand(-1, waiting, -1), earlier], 2)
        causal[:, order, self.real.shape[1] + order] = True  # padding attends to itself, lest its softmax be empty
        causal = torch.cat([causal, causal.new_zeros(batch, waiting, before + nodes)], 2)
        branch = above[before:].expand(batch, -1, -1)
        seen = torch.cat([causal, torch.cat([context.unsqueeze(1).expand(-1, nodes, -1), branch], 2)], 1)
        dtype = self.model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=tokens.device).masked_fill_(~seen, torch.finfo(dtype).min)
        cached = self.real.sum(1, keepdim=True)
        positions = torch.cat(
            [cached + self.pending_real.cumsum(1) - 1, length + above[before:].sum(1) - 1],
            1,
        ).clamp_min(0)
        keep = nodes + (waiting > 0)
        output = self.model(
            input_ids=torch.cat([self.pending, tokens], 1),
            attention_mask=mask.unsqueeze(1),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        self.real, self.above = context, above
        self.pending = self.pending[:, :0]
        self.pending_real = self.pending_real[:, :0]
        logits: Tensor = output.logits[:, -keep:]
        return logits

    def commit(self, path: Tensor, emitted: list[list[int]], rows: Tensor) -> None:
        batch, nodes, device = len(path), self.above.shape[0], path.device
        on_path = torch.zeros(batch, nodes + 1, dtype=torch.bool, device=device)
        on_path = on_path.scatter(1, path + 1, True)[:, 1:]  # column 0 collects the -1s
        kept = torch.cat([self.real, on_path], 1)[rows]
        if len(rows) < batch:
            self.cache.batch_select_indices(rows)
        width = int(kept.sum(1).max()) if len(rows) else 0
        # Columns that count, in their order, then as many others as the longest row needs.
        columns = (~kept).to(torch.uint8).sort(dim=1, stable=True).indices[:, :width]
        if bool((columns == torch.arange(width, device=device)).all()):
            self.cache.crop(width - kept.shape[1])
        else:
            for layer in self.cache.layers:
                index = columns[:, None, :, None].expand(-1, layer.keys.shape[1], -1, layer.keys.shape[3])
                layer.keys, layer.values = layer.keys.gather(2, index), layer.values.gather(2, index)
        self.real = kept.gather(1, columns)
        fed = (path >= 0).sum(1).tolist()
        waiting = [emitted[row][fed[row] :] for row in rows.tolist()]
        most = max(map(len, waiting), default=0)
        self.pending = path.new_tensor([[0] * (most - len(w)) + w for w in waiting]).reshape(len(rows), most)
        ends = torch.tensor([len(w) for w in waiting], device=device)
        self.pending_real = torch.arange(most, device=device) >= most - ends.unsqueeze(1)
        self._clear_tree()


class CallableModel:
    """A function `ids (rows, time) -> probabilities (rows, vocab)`, called on all rows of one length at once.

    Raises
    ------
    ValueError : the function returns rows that are no probabilities.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function
        self.vocabulary: int | None = None

    def start(self, ids: Tensor, real: Tensor) -> None:
        self._begin([row[mask] for row, mask in zip(ids, real, strict=True)])

    def _begin(self, contexts: list[Tensor]) -> None:
        self.contexts, self.tokens = contexts, torch.stack([c[:0] for c in contexts])
        self.paths: list[list[int]] = []  # the nodes above and including each node
        self.fresh = True

    @torch.no_grad()
    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        asked: list[list[int]] = [[]] if self.fresh else []  # the context itself comes first
        self.fresh = False
        for parent in parents.tolist():
            self.paths.append([*(self.paths[parent] if parent >= 0 else []), len(self.paths)])
            asked.append(self.paths[-1])
        self.tokens = torch.cat([self.tokens, tokens], 1)
        by_depth: dict[int, list[int]] = defaultdict(list)
        for j, path in enumerate(asked):
            by_depth[len(path)].append(j)
        by_length: dict[int, list[tuple[int, list[int], Tensor]]] = defaultdict(list)
        for depth, places in by_depth.items():
            nodes = torch.tensor([asked[j] for j in places], dtype=torch.long, device=tokens.device)
            for r, context in enumerate(self.contexts):
                ids = torch.cat([context.expand(len(places), -1), self.tokens[r, nodes]], 1)
                by_length[len(context) + depth].append((r, places, ids))
        logits: Tensor | None = None
        for parts in by_length.values():
            rows = check_rows("probabilities", self.function(torch.cat([ids for _, _, ids in parts]))).log()
            if logits is None:
                logits = rows.new_empty(len(self.contexts), len(asked), rows.shape[-1])
            row = 0
            for r, places, _ in parts:
                logits[r, places] = rows[row : row + len(places)]
                row += len(places)
        assert logits is not None
        return logits

    def commit(self, path: Tensor, emitted: list[list[int]], rows: Tensor) -> None:
        self._begin([torch.cat([self.contexts[r], path.new_tensor(emitted[r])]) for r in rows.tolist()])


def as_tree_model(model: Any) -> TreeModel:
    """`model` itself if it is a tree model, an adapter around a transformers model or a plain function otherwise."""
    if isinstance(model, TreeModel):
        return model
    if hasattr(model, "get_output_embeddings"):
        return CausalModel(model)
    require(callable(model), "model", model, "a causal model of transformers or a function ids -> probabilities")
    return CallableModel(model)
