"""A decoder of some 60 000 parameters, and sampling from it: one batched forward a token, with a key-value cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values (positions, head width, batch, heads) of each layer, allocated once.

In this order the one query of a row meets its keys in long vector operations; torch's attention is made for many.
"""


class Block(nn.Module):
    """Attention and a GELU layer four times as wide, each behind its own layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None, past: int = 0) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 1, 4, 0, 3)
        if cache is not None:
            for kept, fresh in zip(cache, (k, v), strict=True):
                kept[past : past + length] = fresh
        if past == 0:
            q, k, v = (part.permute(2, 3, 0, 1) for part in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        else:
            assert cache is not None
            assert length == 1, "a cache is extended by one token at a time"
            k, v = (kept[: past + 1] for kept in cache)
            weights = (q.contiguous() * k).sum(1).mul_(k.shape[1] ** -0.5).softmax(0)  # positions, batch, heads
            mixed = (weights[:, None] * v).sum(0).permute(1, 2, 0)
        x = x + self.out(mixed.reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class SmallPolicy(nn.Module):
    """A decoder with learned positions, over tokens or over tokens and images.

    Parameters
    ----------
    vocabulary : number of tokens.
    positions : longest sequence, prompt included.
    image_places : places of the prompt where an image stands instead of a token. Each image becomes one token through
        two linear layers; empty for a policy that reads text only.
    pixels : of an image.
    seed : of the first weights; torch's global stream is left as it was.
    """

    def __init__(
        self,
        vocabulary: int,
        positions: int,
        *,
        width: int = 48,
        layers: int = 2,
        heads: int = 4,
        image_places: tuple[int, ...] = (),
        pixels: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.heads, self.image_places = heads, image_places
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
            self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)
            for table in (self.tokens, self.positions):
                nn.init.normal_(table.weight, std=0.02)
            if image_places:
                self.eye = nn.Sequential(nn.Linear(pixels, width), nn.GELU(), nn.Linear(width, width))

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        images: Float[Tensor, "batch places pixels"] | None = None,
        *,
        cache: Cache | None = None,
        past: int = 0,
        keep: int = 0,
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Logits of the token after each of `ids`, or after each of the last `keep`.

        Parameters
        ----------
        images : what stands at `image_places`; wanted with the first tokens, and never later.
        cache, past : from `allocate`, and how many positions it holds already.
        """
        x = self.tokens(ids)
        if images is not None:
            assert self.image_places, "a policy without image_places reads no images"
            x = x.index_copy(1, torch.tensor(self.image_places), self.eye(images))
        x = x + self.positions.weight[past : past + ids.shape[1]]
        for number, block in enumerate(self.blocks):
            x = block(x, cache[number] if cache is not None else None, past)
        return self.head(self.norm(x[:, -keep:]))

    def allocate(self, batch: int, positions: int) -> Cache:
        """An empty cache."""
        width = self.tokens.embedding_dim
        shape = (positions, width // self.heads, batch, self.heads)
        return [(torch.empty(shape), torch.empty(shape)) for _ in self.blocks]


@dataclass(frozen=True)
class Sampled:
    """Responses, padded on the right to the length allowed, and what the policy thought of each token as it drew it.

    Attributes
    ----------
    ids : the responses, prefixes included.
    mask : tokens that the policy drew; not padding, prefixes, or what a tool said.
    log_probs, entropy : of the next-token distribution at the temperature asked for, before any modulation; 0 where
        `mask` is not set. Nats.
    """

    ids: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]
    log_probs: Float[Tensor, "batch length"]
    entropy: Float[Tensor, "batch length"]


def sample(
    policy: SmallPolicy,
    prompts: Int[Tensor, "batch prompt"],
    length: int,
    *,
    generator: torch.Generator,
    stop: int,
    pad: int,
    images: Float[Tensor, "batch places pixels"] | None = None,
    temperature: float = 1.0,
    modulation: Callable[[Tensor], Tensor] | None = None,
    prefixes: Int[Tensor, "batch length"] | None = None,
    starts: Int[Tensor, "batch"] | None = None,
    forced: Callable[[Tensor], Tensor] | None = None,
) -> Sampled:
    """Draw responses of at most `length` tokens, all rows at once, until each has drawn `stop`.

    Parameters
    ----------
    temperature : of the policy.
    modulation : logits (batch, vocabulary) -> factor (batch,) on the temperature of this draw alone.
    prefixes, starts : responses to continue, and where each leaves its prefix: `prefixes[i, :starts[i]]` is copied.
    forced : responses so far (batch, t) -> token (batch,) that comes next, or -1 where the policy may choose.
    """
    batch, prompt = prompts.shape
    # Outside of inference mode, or autograd would refuse them later.
    ids = torch.full((batch, length), pad)
    mask = torch.zeros(batch, length, dtype=torch.bool)
    log_probs, entropy = torch.zeros(batch, length), torch.zeros(batch, length)
    first = 0
    if prefixes is not None and starts is not None:
        first = int(starts.min())
        ids[:, :first] = prefixes[:, :first]
    with torch.inference_mode():
        cache = policy.allocate(batch, prompt + length)
        logits = torch.empty(batch, length, policy.head.out_features)
        finished = (ids[:, :first] == stop).any(1)
        fresh, past = torch.cat([prompts, ids[:, :first]], 1), 0
        for place in range(first, length):
            z = policy(fresh, images if past == 0 else None, cache=cache, past=past, keep=1)[:, 0]
            past += fresh.shape[1]
            logits[:, place] = z
            heat = temperature if modulation is None else temperature * modulation(z)[:, None]
            noise = torch.empty_like(z).exponential_(generator=generator)
            token, mine = (z / heat - noise.log_()).argmax(-1), ~finished
            if prefixes is not None and starts is not None:
                copied = place < starts
                token, mine = torch.where(copied, prefixes[:, place], token), mine & ~copied
            if forced is not None:
                told = forced(ids[:, :place])
                told = torch.where(mine, told, -1)
                token, mine = torch.where(told >= 0, told, token), mine & (told < 0)
            ids[:, place] = token.masked_fill_(finished, pad)
            mask[:, place] = mine
            finished |= token == stop
            fresh = ids[:, place : place + 1]
            if finished.all():
                break
        law = (logits[mask] / temperature).log_softmax(-1)
        log_probs[mask] = law.gather(-1, ids[mask][:, None])[:, 0]
        entropy[mask] = -(law.exp() * law).sum(-1)
    return Sampled(ids, mask, log_probs, entropy)
