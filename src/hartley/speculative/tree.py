"""The drafts of one block: a tree of tokens with the law of each node's children.

Independent sequences are a tree that branches once, (K, 1, 1, ...). Where several nodes hold the same text, they share
one law, and their children count together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hartley.speculative.draft import Draft, Law
from hartley.speculative.models import TreeModel


@dataclass
class Tree:
    """Drafts of one block. Nodes are numbered level by level; children of a node are neighbours.

    `levels` holds (first node, number of nodes, children each) and `q[l]` the laws, one a node of the level above.
    """

    tokens: Tensor
    parents: Tensor
    alive: Tensor
    levels: list[tuple[int, int, int]]
    q: list[Tensor]
    law: Law
    fed: int  # nodes that the draft model has seen

    def candidates(self, level: int, rows: Tensor, prefix: Tensor) -> tuple[Draft, Tensor]:
        """Drafts that continue the nodes `prefix` (all one and the same text), and their columns in the level."""
        first, count, width = self.levels[level]
        ours = prefix[rows]
        parent = ours.to(torch.uint8).argmax(1)
        q = self.q[level][rows, parent]
        if self.law == "with":  # several nodes may hold the same prefix: all their children are independent draws
            columns = torch.arange(count, device=rows.device).expand(len(rows), -1)
            alive = ours.repeat_interleave(width, 1)
        else:
            columns = parent.unsqueeze(1) * width + torch.arange(width, device=rows.device)
            alive = torch.ones_like(columns, dtype=torch.bool)
        index = rows.unsqueeze(1), first + columns
        return Draft(self.tokens[index], q, self.law, alive & self.alive[index]), columns


def grow(
    model: TreeModel,
    ids: Tensor,
    widths: list[int],
    law: Law,
    shape: Callable[[Tensor, Tensor], Tensor],
    generator: torch.Generator | None,
) -> Tree:
    """Let the draft model grow a tree below each context."""
    batch, device = len(ids), ids.device
    tree = Tree(ids[:, :0], ids[0, :0], ids[:, :0].bool(), [], [], law, 0)
    if not widths:
        return tree
    logits = model.extend(tree.tokens, tree.parents)
    paths = ids.unsqueeze(1)  # (batch, nodes of the level above, time)
    same = torch.zeros(batch, 1, dtype=torch.long, device=device)  # first node of the level with the same text
    for level, width in enumerate(widths):
        above = paths.shape[1]
        # Equal prefixes must have equal laws to the last bit, whatever the kernels did to their logits.
        logits = logits.gather(1, same.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))
        q = shape(paths.flatten(0, 1), logits.flatten(0, 1))
        drawn = Draft.sample(q, width, law, generator)
        tokens, count = drawn.tokens.reshape(batch, -1), above * width
        first = tree.tokens.shape[1]
        start = tree.levels[-1][0] if tree.levels else -1
        parents = start + torch.arange(above, device=device).repeat_interleave(width)
        tree.levels.append((first, count, width))
        tree.q.append(drawn.q.reshape(batch, above, -1))
        tree = replace(
            tree,
            tokens=torch.cat([tree.tokens, tokens], 1),
            parents=torch.cat([tree.parents, parents]),
            alive=torch.cat([tree.alive, drawn.mask.reshape(batch, -1)], 1),
        )
        if level + 1 == len(widths):
            break
        logits = model.extend(tokens, parents)
        tree.fed = tree.tokens.shape[1]
        paths = torch.cat([paths.repeat_interleave(width, 1), tokens.unsqueeze(-1)], -1)
        same = same.repeat_interleave(width, 1)
        equal = (same.unsqueeze(2) == same.unsqueeze(1)) & (tokens.unsqueeze(2) == tokens.unsqueeze(1))
        same = equal.to(torch.uint8).argmax(2)
    return tree
