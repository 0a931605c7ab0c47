"""The least non-negative signed sum of four digits, by chains of partial sums: a search that a single trace commits to.

Digits d_1..d_4 of 1 to 9, all 2^4 choices of signs; the state after t digits is a partial sum, the answer the smallest
final sum that is not negative. Prompts with the same digits in another order are never split between training and test.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from hartley.labs.base import Lab
from hartley.labs.training import tiny_decoder, train
from hartley.reasoning import (
    ContinuousTrace,
    continuous_generate,
    csft_loss,
    group_advantages,
    policy_loss,
    policy_rollout,
    trace_log_probs,
)

DIGITS = 4
BOS = 0
ZERO_DIGIT = 1
ZERO_SUM = 11 + 36
VOCABULARY = 11 + 73


@dataclass(frozen=True)
class SignedSums:
    """All prompts, their paths, and which prompts are for training.

    Attributes
    ----------
    prompts : BOS and the digits, as token ids.
    sums : (prompts, paths, steps), partial sums; paths from the most to the least wanted.
    first : (prompts, steps), the partial sums of the first best path, + before -.
    """

    prompts: Int[Tensor, "n prompt"]
    sums: Int[Tensor, "n paths steps"]
    first: Int[Tensor, "n steps"]

    def targets(self, paths: int) -> Float[Tensor, "n thoughts vocab"]:
        """Law of the partial sums over the most wanted `paths` paths, for all steps but the last."""
        rows = one_hot(self.sums[:, :paths, :-1] + ZERO_SUM, VOCABULARY).float()
        return rows.mean(1)

    @property
    def discrete(self) -> Float[Tensor, "n thoughts vocab"]:
        """The same for the one path that discrete training shows."""
        return one_hot(self.first[:, :-1] + ZERO_SUM, VOCABULARY).float()

    @property
    def answers(self) -> Int[Tensor, "n"]:
        """Tokens of the answers."""
        return self.first[:, -1] + ZERO_SUM


def signed_sums(digits: Int[NDArray[Any], "n m"]) -> SignedSums:
    """Paths and answers of the given digits."""
    signs = np.array(list(itertools.product([1, -1], repeat=digits.shape[1])))
    sums = np.cumsum(signs[None] * digits[:, None], axis=-1)
    final = sums[..., -1]
    best = np.where(final >= 0, final, 10**6).min(-1, keepdims=True)
    first = sums[np.arange(len(digits)), (final == best).argmax(-1)]
    # Nearest to zero first; of equals the non-negative one, then the sign patterns with -1 before +1.
    pattern = np.broadcast_to(np.arange(len(signs))[::-1], final.shape)
    order = np.lexsort((pattern, final < 0, np.abs(final)))
    prompts = np.concatenate([np.full((len(digits), 1), BOS), digits + ZERO_DIGIT], 1)
    return SignedSums(
        torch.from_numpy(prompts),
        torch.from_numpy(np.take_along_axis(sums, order[..., None], 1)),
        torch.from_numpy(first),
    )


@dataclass(frozen=True)
class SignedSumLab(Lab):
    """Tiny transformers, trained alike but for their targets.

    Attributes
    ----------
    width : of the model; it has two layers of two heads.
    rate : peak of the learning rate, the same for all.
    """

    width: int = 16
    rate: float = 4e-3

    @property
    def steps(self) -> int:
        return 900 if self.quick else 1500

    def trained(self, targets: str, seed: int) -> Trained:
        """A model trained on "soft" targets (16 paths), "soft8" (the 8 most wanted), "discrete" or "none"; kept."""
        return _trained(targets, self.width, self.steps, self.rate, seed)

    def rewarded(self, mode: Any, seed: int, **options: Any) -> tuple[Trained, Trained, list[float]]:
        """The model trained on soft targets, the same after policy gradients on the reward of right answers, and the
        mean reward of each policy step."""
        before = self.trained("soft", seed)
        return before, *_rewarded(before, mode, 40 if self.quick else 120, seed, **options)


@dataclass(frozen=True)
class Trained:
    """A model, the prompts and answers that it has not seen, and the task that it was trained on."""

    model: Any
    prompts: Int[Tensor, "n prompt"]
    answers: Int[Tensor, "n"]
    thoughts: int
    task: SignedSums

    def trace(self, mode: Any, **options: Any) -> ContinuousTrace:
        """Its chains for all those prompts."""
        return continuous_generate(self.model, self.prompts, self.thoughts + 1, mode, **options)

    def right(self, mode: Any, **options: Any) -> list[float]:
        """For each prompt 1 if the likeliest answer is right."""
        return (self.trace(mode, **options).answer_logits.argmax(-1) == self.answers).float().tolist()

    def sampled(self, chains: int, seed: int) -> Int[Tensor, "chains n"]:
        """Answers of chains whose tokens, answers included, are drawn at temperature 1."""
        generator = torch.Generator().manual_seed(seed)
        laws = [self.trace("mts", k=1, generator=generator).answer_logits.softmax(-1) for _ in range(chains)]
        return torch.stack([torch.multinomial(law, 1, generator=generator)[:, 0] for law in laws])


@cache
def _trained(targets: str, width: int, steps: int, rate: float, seed: int) -> Trained:
    rng = np.random.default_rng(seed)
    digits = np.array(list(itertools.product(range(1, 10), repeat=DIGITS)))
    _, group = np.unique(np.sort(digits, 1), axis=0, return_inverse=True)
    groups = rng.permutation(group.max() + 1)
    test = np.isin(group, groups[: len(groups) // 5])
    task, held_out = signed_sums(digits[~test]), signed_sums(digits[test])
    laws = {
        "soft": lambda: task.targets(2**DIGITS),
        "soft8": lambda: task.targets(8),
        "discrete": lambda: task.discrete,
        "none": lambda: torch.zeros(len(task.prompts), 0, VOCABULARY),
    }[targets]()
    model = tiny_decoder(VOCABULARY, width=width, layers=2, heads=2, seed=seed)

    def loss(batch: NDArray[Any]) -> Tensor:
        rows = torch.from_numpy(batch)
        return csft_loss(model, task.prompts[rows], laws[rows], task.answers[rows])

    train(model, loss, examples=len(laws), steps=steps, batch=96, rate=rate, rng=rng)
    return Trained(model, held_out.prompts, held_out.answers, laws.shape[1], task)


def _rewarded(
    before: Trained, mode: Any, steps: int, seed: int, *, k: int = 3, gamma: float = 1.0, group: int = 8
) -> tuple[Trained, list[float]]:
    model, task = copy.deepcopy(before.model), before.task
    rng, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.0)
    means = []
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(len(task.prompts), 32, replace=False))
        trace = policy_rollout(
            model, task.prompts[rows], before.thoughts + 1, group, mode, k=k, gamma=gamma, generator=generator
        )
        reward = (trace.answers == task.answers[rows].repeat_interleave(group)).float()
        advantages = group_advantages(reward.view(-1, group)).flatten()
        loss = policy_loss(trace_log_probs(model, trace), trace.log_probs, advantages)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        means.append(float(reward.mean()))
    return replace(before, model=model.eval()), means
