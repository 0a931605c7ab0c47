"""Top-p over several partial sequences at once: the nucleus is taken in the pooled path probabilities.

At most k paths (h_i, log P_i) are kept. All continuations are pooled with weight exp(log P_i) p(v | h_i); the nucleus
is the smallest set of them with share >= p of the pool; up to k members are drawn from it without replacement, by
Gumbel noise on the log weights. k = 1 is ordinary top-p; p = 1 is sampled beam search; small p and large k are greedy.

Source: K. Li and F. Li (2024), arXiv 2409.19790: the abstract's product of path probabilities and top-p with a beam;
the details are reconstructed. It finds likelier sequences than k separate top-p runs with the same number of model
calls. When not to use: only the likeliest sequence is wanted; deterministic beam search finds it more often.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hartley.checks import require, require_between


@dataclass(frozen=True)
class Paths:
    """Sequences and their log probabilities, likeliest first.

    Attributes
    ----------
    tokens : continuations, without the prefix; finished ones end with `eos`.
    log_probs : sums of the model's log-probabilities, in nats.
    """

    tokens: tuple[tuple[int, ...], ...]
    log_probs: Float[Tensor, " paths"]


def path_top_p(
    next_log_probs: Callable[[Int[Tensor, "paths length"]], Float[Tensor, "paths vocab"]],
    prefix: Int[Tensor, " prefix"],
    *,
    k: int = 4,
    p: float = 0.9,
    max_len: int,
    eos: int | None = None,
    length_power: float = 0.0,
    generator: torch.Generator | None = None,
) -> Paths:
    """Several sequences from a pooled nucleus.

    Parameters
    ----------
    next_log_probs : token ids of the unfinished paths, prefix included -> normalised log-probabilities of the next.
    k : paths kept.
    p : share of the pool's mass that may continue, in (0, 1].
    max_len : tokens after the prefix.
    eos : a path that ends with it waits in the pool, unchanged.
    length_power : paths compete by log P / length ** length_power; 0 is the plain product.
    """
    require(k >= 1, "k", k, "at least 1")
    require_between("p", p, 0, 1, closed="right")
    require(max_len >= 1, "max_len", max_len, "at least 1")
    live, live_log = prefix[None], torch.zeros(1, dtype=torch.float64, device=prefix.device)
    done: list[tuple[tuple[int, ...], float]] = []
    start = len(prefix)
    for length in range(1, max_len + 1):
        steps = next_log_probs(live).double()
        vocab = steps.shape[-1]
        joint = (live_log[:, None] + steps).flatten()
        waiting = torch.tensor([log for _, log in done], dtype=torch.float64, device=joint.device)
        lengths = torch.tensor([len(tokens) for tokens, _ in done], dtype=torch.float64, device=joint.device)
        pool = torch.cat([joint / length**length_power, waiting / lengths**length_power])
        chosen = _nucleus_draw(pool, k, p, generator)
        going = chosen[chosen < len(joint)]
        stays = (chosen[chosen >= len(joint)] - len(joint)).tolist()
        parents, tokens = going // vocab, going % vocab
        paths, logs = torch.cat([live[parents], tokens[:, None]], dim=1), joint[going]
        ended = tokens == eos if eos is not None else torch.zeros_like(tokens, dtype=torch.bool)
        done = [done[i] for i in stays] + [
            (tuple(path[start:].tolist()), float(log)) for path, log in zip(paths[ended], logs[ended], strict=True)
        ]
        live, live_log = paths[~ended], logs[~ended]
        if not len(live):
            break
    found = done + [(tuple(path[start:].tolist()), float(log)) for path, log in zip(live, live_log, strict=True)]
    found.sort(key=lambda item: -item[1])
    return Paths(tuple(t for t, _ in found), torch.tensor([log for _, log in found], dtype=torch.float64))


def _nucleus_draw(
    log_weights: Float[Tensor, " pool"], k: int, p: float, generator: torch.Generator | None
) -> Int[Tensor, " chosen"]:
    """Up to k distinct members of the nucleus, with probability proportional to their weights."""
    ordered, index = log_weights.log_softmax(-1).sort(descending=True, stable=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    inside = (before < p) & (ordered > -torch.inf)
    inside[0] = True
    nucleus, ordered = index[inside], ordered[inside]
    if len(nucleus) <= k:
        return nucleus
    noise = torch.rand(len(nucleus), generator=generator, dtype=torch.float64, device=ordered.device)
    gumbel = -torch.log(-torch.log(noise.clamp(min=1e-300)))
    return nucleus[(ordered + gumbel).topk(k).indices]
