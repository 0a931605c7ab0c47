"""Where reinforcement starts from: a policy that has learned to imitate a random searcher on op-search.

Trained once (a minute on one core, half a minute more for images) and kept in the cache folder.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hartley.labs import op_search
from hartley.labs.models import cache_folder, write_folder_once
from hartley.labs.op_search import PAD, PROMPT, RESPONSE, VOCABULARY, Problems, draw_problems
from hartley.labs.policies import SmallPolicy
from hartley.labs.training import announce, train

STEPS, IMAGE_STEPS = 1200, 300


@cache
def held_out(images: bool) -> Problems:
    """The 200 prompts of every evaluation."""
    return draw_problems(200, torch.Generator().manual_seed(2**31), images="test" if images else None)


def _fresh(width: int, images: bool) -> SmallPolicy:
    return SmallPolicy(VOCABULARY, PROMPT + RESPONSE, width=width, image_places=op_search.DIGITS if images else ())


def warm_started(width: int = 48, images: bool = False) -> SmallPolicy:
    """The policy that every run starts from, a copy of its own; trained once and kept in the cache folder."""
    policy = _fresh(width, images)
    policy.load_state_dict(_weights(width, images))
    return policy.eval()


@cache
def _weights(width: int, images: bool) -> dict[str, Tensor]:
    from safetensors.torch import load_file, save_file

    name = f"op-search-{'images' if images else 'text'}-{width}-{IMAGE_STEPS if images else STEPS}"

    def write(folder: Path) -> None:
        save_file(warm_start(width, images=images).state_dict(), folder / "policy.safetensors")

    return load_file(write_folder_once(cache_folder() / name, write) / "policy.safetensors")


def warm_start(width: int = 48, *, images: bool = False) -> SmallPolicy:
    """A policy that imitates the random searcher, from 1200 steps of 128 traces on fresh prompts outside the test.

    The image variant goes on from the weights of the text variant: its eye learns to see in each training picture the
    digit's embedding, then everything is trained on traces together.
    """
    policy = _fresh(width, images)
    if images:
        policy.load_state_dict(_weights(width, False), strict=False)
        _open_eye(policy)
    generator = torch.Generator().manual_seed(0)
    steps = IMAGE_STEPS if images else STEPS
    half = "train" if images else None
    problems = draw_problems(128 * steps, generator, avoid=held_out(images), images=half)
    traces = op_search.search_traces(problems, generator)

    def loss(rows: NDArray[Any]) -> Tensor:
        chosen, responses = problems[torch.from_numpy(rows)], traces[torch.from_numpy(rows)]
        logits = policy(torch.cat([chosen.prompts, responses[:, :-1]], 1), chosen.images, keep=RESPONSE)
        return F.cross_entropy(logits.flatten(0, 1), responses.flatten(), ignore_index=PAD)

    progress = announce("warm-starting a policy once", steps)
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
