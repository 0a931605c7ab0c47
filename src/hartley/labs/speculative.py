"""Two pairs of a large and a small model that speculative decoding is measured on.

- Rows of a real language model: SmolLM2 on its own samples, against the same weights that see only the last few tokens.
- A random trigram chain against the bigram model fitted to its text: V = 32, contexts without end, exact laws known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hartley.labs.base import Lab
from hartley.speculative import Draft, Statistics, Verifier, acceptance, optimal_acceptance, speculative_generate

PROMPTS = (
    "The lighthouse at the end of the peninsula was built after three ships were lost in one winter, and its keeper",
    "To make a good vegetable soup, first cut the onions and the carrots into small pieces, and then",
    "In the middle of the night the telephone rang, and when she picked it up she heard a voice that said",
    "The main difference between a virus and a bacterium is that the latter can reproduce by itself, while",
    "def running_mean(values, window):\n    '''Mean of the last values, at each position.'''\n    total = 0.0\n    for",
    "When the price of oil doubled within a year, most governments decided that the best answer would be to",
    "My grandmother used to tell us that the river had once been so wide that nobody could swim across it, but",
    "A triangle whose sides are three, four and five units long has a right angle, because the square of",
)


@dataclass(frozen=True)
class Pair:
    """A trigram target and a bigram draft, as tables."""

    law: Tensor
    "of the target: law[a, b] is the distribution behind the tokens a, b"
    draft_law: Tensor
    "of the draft, which sees b only: draft_law[b]"


class Trigram:
    """A table as a tree model: the law at a node is looked up by its token and its parent's, all nodes at once."""

    def __init__(self, law: Tensor) -> None:
        self.logits, self.vocabulary = law.log(), law.shape[-1]

    def start(self, ids: Tensor, real: Tensor) -> None:
        self.nodes, self.fresh = ids[:, -2:], True

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        self.nodes = torch.cat([self.nodes, tokens], 1)
        before = torch.cat([self.nodes[:, :1], self.nodes[:, parents + 2]], 1)  # two columns hold the context
        last = torch.cat([self.nodes[:, 1:2], tokens], 1)
        first = 0 if self.fresh else 1
        self.fresh = False
        return self.logits[before[:, first:], last[:, first:]]

    def commit(self, path: Tensor, emitted: list[list[int]], rows: Tensor) -> None:
        contexts = [[*self.nodes[r, :2].tolist(), *emitted[r]][-2:] for r in rows.tolist()]
        self.nodes, self.fresh = path.new_tensor(contexts), True


@dataclass(frozen=True)
class SpeculativeLab(Lab):
    """Speculative decoding without a graphics card: acceptance on real rows, blocks on an exactly known chain.

    Attributes
    ----------
    model : language model of the rows: "smollm2", or anything that transformers loads.
    draft : "window", the same weights on the last `window` tokens, or a causal model with the same tokenizer.
    window : tokens that the windowed draft sees.
    vocabulary : of the trigram chain.
    tokens : emitted per prompt and run on the chain; 0 chooses by mode.
    """

    model: str = "smollm2"
    draft: str = "window"
    window: int = 8
    vocabulary: int = 32
    tokens: int = 0

    def rows(self, seed: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Paired next-token laws (rows, vocab) of target and draft, at every second position of sampled text."""
        target, draft = _logits(self, seed)
        return (target / temperature).softmax(-1), (draft / temperature).softmax(-1)

    def acceptances(self, seed: int, temperature: float, n: int, *names: str) -> dict[str, list[float]]:
        """Exact acceptance of verifiers and optima, row by row; "rrsw" by three random paths a row.

        `names`: those of `hartley.speculative.acceptance`, and "optimum with" or "optimum without" (replacement).
        """
        p, q = self.rows(seed, temperature)
        found = {}
        for name in names:
            if name.startswith("optimum "):
                values = optimal_acceptance(p, q, n, name.removeprefix("optimum "))  # type: ignore[arg-type]
            else:
                paths = {"draws": 3, "generator": torch.Generator().manual_seed(seed)} if name == "rrsw" else {}
                values = acceptance(p, q, n, name, **paths)  # type: ignore[arg-type]
            found[name] = values.tolist()
        return found

    def sampled_acceptance(
        self, seed: int, temperature: float, n: int, verifiers: dict[str, Verifier], draws: int = 4
    ) -> dict[str, list[float]]:
        """Acceptance of verifiers of independent drafts, measured on the same drawn drafts, row by row."""
        p, q = self.rows(seed, temperature)
        generator = torch.Generator().manual_seed(seed)
        found: dict[str, Tensor] = {name: torch.zeros(len(p), dtype=torch.float64) for name in verifiers}
        for _ in range(draws):
            drafts = Draft.sample(q, n, "with", generator)
            for name, verifier in verifiers.items():
                found[name] += verifier(p, drafts).emit.sum(-1) / draws
        return {name: values.tolist() for name, values in found.items()}

    def pair(self, seed: int) -> Pair:
        """The trigram chain and its bigram draft, both drawn from the seed."""
        return _ngrams(self.vocabulary, seed)

    def generate(self, seed: int, verifier: str, drafts: int, length: int) -> tuple[list[list[int]], Statistics]:
        """Texts of the chain by speculative decoding, and what it took."""
        pair = self.pair(seed)
        prompts, tokens = 64, self.tokens or (128 if self.quick else 512)
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randint(self.vocabulary, (prompts, 2), generator=generator)
        out = speculative_generate(
            Trigram(pair.law),
            Trigram(pair.draft_law.expand_as(pair.law)),
            starts,
            max_new_tokens=tokens,
            drafts=drafts,
            length=length,
            verifier=verifier,
            generator=generator,
        )
        return [s + t for s, t in zip(starts.tolist(), out.new_tokens, strict=True)], out.statistics

    def plain_text(self, seed: int, model: str = "target") -> list[list[int]]:
        """As much text, sampled token by token from the target, or from the draft model alone."""
        tokens = self.tokens or (128 if self.quick else 512)
        rng = np.random.default_rng((seed, 1))
        pair = self.pair(seed)
        law = pair.law.numpy()
        if model == "draft":
            law = np.broadcast_to(pair.draft_law.numpy(), law.shape)
        text: list[list[int]] = _chain(law, rng.integers(self.vocabulary, size=(64, 2)), tokens, rng).tolist()
        return text

    def excess_surprisal(self, seed: int, texts: list[list[int]]) -> float:
        """Distance of the texts' mean surprisal under the chain's law from the entropy of their contexts, nats/token.

        Zero in expectation for text of the target, whatever path it takes; the noise is about one over the root of the
        number of tokens.
        """
        text = torch.tensor(texts)
        log_p = self.pair(seed).law[text[:, :-2], text[:, 1:-1]].clamp_min(1e-30).log()
        surprisal = -log_p.gather(-1, text[:, 2:].unsqueeze(-1)).squeeze(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        return abs(float((surprisal - entropy).mean()))


@lru_cache(maxsize=4)
def _ngrams(vocabulary: int, seed: int) -> Pair:
    rng = np.random.default_rng((seed, 0))
    base = rng.dirichlet(np.full(vocabulary, 0.3), size=vocabulary)
    law = 0.5 * base[None] + 0.5 * rng.dirichlet(np.full(vocabulary, 0.08), size=(vocabulary, vocabulary))
    text = _chain(law, rng.integers(vocabulary, size=(200, 2)), 1000, rng)
    counts = np.full((vocabulary, vocabulary), 0.01)
    np.add.at(counts, (text[:, :-1].ravel(), text[:, 1:].ravel()), 1)
    return Pair(torch.from_numpy(law), torch.from_numpy(counts / counts.sum(-1, keepdims=True)))


def _chain(law: np.ndarray, starts: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    text = np.concatenate([starts, np.empty((len(starts), steps), starts.dtype)], 1)
    cumulative = law.cumsum(-1)
    for t in range(2, steps + 2):
        rows = cumulative[text[:, t - 2], text[:, t - 1]]
        text[:, t] = (rows < rng.random(len(starts))[:, None] * rows[:, -1:]).sum(-1)
    return text


@lru_cache(maxsize=4)
@torch.inference_mode()
def _logits(lab: SpeculativeLab, seed: int) -> tuple[Tensor, Tensor]:
    from hartley.labs.models import language_model

    model, tokenizer = language_model(lab.model)
    prompts, steps = (PROMPTS[:4], 12) if lab.quick else (PROMPTS, 20)
    batch = tokenizer(list(prompts), padding=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    generator = torch.Generator().manual_seed(seed)
    cache: Any = None
    feed, target = ids, []
    for _ in range(steps):
        positions = (mask.cumsum(1) - 1).clamp_min(0)[:, -feed.shape[1] :]
        output = model(
            input_ids=feed,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        target.append(output.logits[:, -1].double())
        feed = torch.multinomial(target[-1].softmax(-1), 1, generator=generator)
        ids, mask = torch.cat([ids, feed], 1), torch.cat([mask, torch.ones_like(feed)], 1)
    picked = range(0, steps, 2)
    ends = [ids.shape[1] - steps + i for i in picked]
    if lab.draft == "window":
        windows = torch.cat([ids[:, end - lab.window : end] for end in ends])
        parts = [windows[i : i + 16] for i in range(0, len(windows), 16)]
        small = torch.cat([model(input_ids=part, logits_to_keep=1).logits[:, -1].double() for part in parts])
    else:
        other, _ = language_model(lab.draft)
        logits = other(
            input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp_min(0)
        ).logits.double()
        small = torch.cat([logits[:, end - 1] for end in ends])
    return torch.cat([target[i] for i in picked]).clone(), small.clone()
