"""Policy optimisation on op-search: a warm-started policy of 60 000 parameters, and what became of it.

A full run, 250 steps of 128 responses, takes about twenty seconds on one core, so recipes can be compared with
everything else equal: the same warm start, the same prompts, learning rates tuned over one ladder, and the same number
of generated tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hartley.labs import op_search
from hartley.labs.base import Lab
from hartley.labs.models import cache_folder, write_folder_once
from hartley.labs.op_search import EOS, PAD, PROMPT, RESPONSE, VOCABULARY, Problems, draw_problems, verify
from hartley.labs.policies import Sampled, SmallPolicy, sample
from hartley.labs.training import train
from hartley.rl.passes import pass_at_k

TEST = 200
"""Fixed test prompts."""
SAMPLES = 16
"""Answers to each of them."""
WARM_STEPS, WARM_IMAGE_STEPS = 1200, 300


@dataclass(frozen=True)
class Evaluation:
    """What a policy does with the test prompts.

    Attributes
    ----------
    correct : right answers among `samples` to each prompt.
    samples : answers to each prompt.
    difficulty : of each prompt, 0 easy to 2 hard.
    entropy : mean over the tokens that the policy drew, nats.
    length : mean number of tokens of a response.
    right_length : the same over right responses.
    generated : tokens that the policy drew.
    kinds : share and mean entropy of operators, values, choices and answers among those tokens.
    """

    correct: Int[Tensor, "prompts"]
    samples: int
    difficulty: Int[Tensor, "prompts"]
    entropy: float
    length: float
    right_length: float
    generated: int
    kinds: dict[str, tuple[float, float]]

    def pass_at(self, k: int) -> Float[Tensor, "prompts"]:
        """Pass@k of each prompt: the paired values of a trial."""
        return pass_at_k(self.correct, self.samples, k)

    def by_difficulty(self, k: int = 1) -> tuple[float, float, float]:
        """Mean pass@k of easy, medium and hard prompts."""
        values = self.pass_at(k)
        easy, medium, hard = (float(values[self.difficulty == level].mean()) for level in range(3))
        return easy, medium, hard


@dataclass(frozen=True)
class PolicyLab(Lab):
    """The op-search task, its warm-started policy, and training by any recipe.

    Attributes
    ----------
    width : of the policy: 48, or 64 where collapse is to be seen clearly.
    images : the digits come as 8 x 8 pictures instead of tokens; those of the test are never trained on.
    noise : standard deviation of Gaussian noise on pixels in [0, 1], where a method perturbs its images.
    tool : an interpreter writes the value after each operator.
    tool_error : probability that it shows a wrong one.
    """

    width: int = 48
    images: bool = False
    noise: float = 0.1
    tool: bool = False
    tool_error: float = 0.0

    def policy(self) -> SmallPolicy:
        """The warm-started policy, a copy of its own; trained once and kept in the cache folder."""
        policy = _fresh(self.width, self.images)
        policy.load_state_dict(_warm_start(self.width, self.images))
        return policy.eval()

    def test_problems(self) -> Problems:
        """The fixed test prompts."""
        return _test_problems(self.images)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Fresh problems to train on, none of them in the test."""
        return draw_problems(count, generator, avoid=self.test_problems(), images="train" if self.images else None)

    def sample(
        self,
        policy: SmallPolicy,
        problems: Problems,
        generator: torch.Generator,
        *,
        length: int = RESPONSE,
        temperature: float = 1.0,
        modulation: Callable[[Tensor], Tensor] | None = None,
        prefixes: Int[Tensor, "batch length"] | None = None,
        starts: Int[Tensor, "batch"] | None = None,
    ) -> Sampled:
        """One response to each problem; see `policies.sample`."""

        def calculator(ids: Tensor) -> Tensor:
            return op_search.calculator(problems.prompts, ids, error=self.tool_error, generator=generator)

        return sample(
            policy,
            problems.prompts,
            length,
            generator=generator,
            stop=EOS,
            pad=PAD,
            images=problems.images,
            temperature=temperature,
            modulation=modulation,
            prefixes=prefixes,
            starts=starts,
            forced=calculator if self.tool else None,
        )

    def evaluate(
        self, policy: SmallPolicy, *, seed: int = 0, noise: float = 0.0, problems: Problems | None = None
    ) -> Evaluation:
        """Sixteen answers at temperature 1 to each test prompt.

        Parameters
        ----------
        noise : standard deviation of Gaussian noise on the test images.
        problems : others than those of the test.
        """
        problems = problems or self.test_problems()
        generator = torch.Generator().manual_seed(seed)
        if noise:
            problems = problems.perturbed(noise, generator)
        answered = self.sample(policy, problems.repeat(SAMPLES), generator)
        verdict = verify(problems.prompts.repeat_interleave(SAMPLES, 0), answered.ids)
        lengths = (answered.ids != PAD).sum(1).float()
        kinds = op_search.token_kinds(answered.ids)
        drawn = answered.mask
        return Evaluation(
            correct=verdict.correct.view(-1, SAMPLES).sum(1),
            samples=SAMPLES,
            difficulty=problems.difficulty,
            entropy=float(answered.entropy[drawn].mean()),
            length=float(lengths.mean()),
            right_length=float(lengths[verdict.correct].mean()),
            generated=int(drawn.sum()),
            kinds={
                name: (
                    float((kinds[drawn] == kind).float().mean()),
                    float(answered.entropy[drawn & (kinds == kind)].mean()),
                )
                for kind, name in enumerate(op_search.KINDS)
            },
        )


def _share_and_mean(values: Tensor, among: Tensor, which: Tensor) -> tuple[float, float]:
    return float(which[among].float().mean()), float(values[among & which].mean())


@cache
def _test_problems(images: bool) -> Problems:
    return draw_problems(TEST, torch.Generator().manual_seed(2**31), images="test" if images else None)


def _fresh(width: int, images: bool) -> SmallPolicy:
    return SmallPolicy(VOCABULARY, PROMPT + RESPONSE, width=width, image_places=op_search.DIGITS if images else ())


@cache
def _warm_start(width: int, images: bool) -> dict[str, Tensor]:
    """Weights from the cache folder, trained on first use."""
    from safetensors.torch import load_file, save_file

    name = f"op-search-{'images' if images else 'text'}-{width}-{WARM_IMAGE_STEPS if images else WARM_STEPS}"

    def write(folder: Path) -> None:
        save_file(warm_start(width, images=images, announce=True).state_dict(), folder / "policy.safetensors")

    return load_file(write_folder_once(cache_folder() / name, write) / "policy.safetensors")


def warm_start(width: int = 48, *, images: bool = False, announce: bool = False) -> SmallPolicy:
    """A policy that imitates the random searcher, from 1200 steps of 128 traces on fresh prompts outside the test.

    The image variant goes on from the weights of the text variant: its eye learns to see in each training picture the
    digit's embedding, then everything is trained on traces together.
    """
    policy = _fresh(width, images)
    if images:
        policy.load_state_dict(_warm_start(width, False), strict=False)
        _open_eye(policy)
    generator = torch.Generator().manual_seed(0)
    steps = WARM_IMAGE_STEPS if images else WARM_STEPS
    half = "train" if images else None
    problems = draw_problems(128 * steps, generator, avoid=_test_problems(images), images=half)
    traces = op_search.search_traces(problems, generator)

    def loss(rows: NDArray[Any]) -> Tensor:
        chosen, responses = problems[torch.from_numpy(rows)], traces[torch.from_numpy(rows)]
        logits = policy(torch.cat([chosen.prompts, responses[:, :-1]], 1), chosen.images, keep=RESPONSE)
        return F.cross_entropy(logits.flatten(0, 1), responses.flatten(), ignore_index=PAD)

    def progress(step: int) -> None:
        if announce and step % 50 == 0:
            done = "\n" if step + 50 >= steps else ""
            print(f"\rwarm-starting a policy once: step {step} of {steps}", end=done, file=sys.stderr, flush=True)

    rate, rng = 1e-3 if images else 3e-3, np.random.default_rng(0)
    train(
        policy, loss, examples=len(problems), steps=steps, batch=128, rate=rate, rng=rng, rising=0.1, progress=progress
    )
    return policy


def _open_eye(policy: SmallPolicy) -> None:
    """Teach the eye that each training picture of a digit looks like the digit's token."""
    digits = torch.arange(10).repeat_interleave(400)
    pictures = op_search.draw_images(digits, "train", torch.Generator().manual_seed(0))
    meanings = policy.tokens.weight[:10].detach()

    def loss(rows: NDArray[Any]) -> Tensor:
        seen = policy.eye(pictures[torch.from_numpy(rows)])
        return F.mse_loss(seen, meanings[digits[torch.from_numpy(rows)]])

    train(policy.eye, loss, examples=len(digits), steps=1500, batch=256, rate=3e-3, rng=np.random.default_rng(0))
