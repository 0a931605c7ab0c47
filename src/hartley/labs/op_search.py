"""Op-search: find three operators that turn four digits into a fifth, thinking aloud.

Given digits a1..a4 and a target t, all modulo 10, find o1, o2, o3 in {+, -, *} with ((a1 o1 a2) o2 a3) o3 a4 = t.

    prompt      a1 a2 a3 a4 > t <think>
    response    op v op v op v  (retry  op v op v op v)  </think>  op op op  <eos>

Each v is the running value, at most three attempts are made, and only the answer after ``</think>`` is scored. The
operators and the choice to try again are uncertain, the values follow from them: both kinds of token that entropy
tells apart are there, the thinking phase is explicit, and the number of solutions says beforehand how hard a prompt is.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PLUS, MINUS, TIMES, RETRY, END_THINK, EOS, ARROW, THINK, PAD = range(10, 19)
"""Tokens 0 to 9 are the digits."""
VOCABULARY = 19
PROMPT = 7
ATTEMPTS = 3
RESPONSE = 7 * ATTEMPTS + 4
"""Longest response, in tokens."""
DIGITS = (0, 1, 2, 3, 5)
"""Places of the prompt that hold a digit; images stand there in the image variant."""
OPERATOR, VALUE, CHOICE, ANSWER = range(4)
"""Kinds of token: operators and values of the thinking phase, retry or stop, and the answer with its end."""
KINDS = ("operator", "value", "choice", "answer")

_left, _right = torch.arange(10)[:, None], torch.arange(10)[None, :]
_RESULTS = torch.stack([_left + _right, _left - _right, _left * _right]) % 10  # operator, left, right
CANDIDATES = torch.tensor(list(itertools.product((PLUS, MINUS, TIMES), repeat=3)))
"""All 27 answers."""


@dataclass(frozen=True)
class Problems:
    """Prompts and what is known about them.

    Attributes
    ----------
    prompts : token ids.
    solutions : which of `CANDIDATES` are right.
    images : pictures of the five digits, pixels in [0, 1]; a policy that gets them does not see the digits.
    """

    prompts: Int[Tensor, "n prompt"]
    solutions: Bool[Tensor, "n candidates"]
    images: Float[Tensor, "n digits pixels"] | None = None

    @property
    def difficulty(self) -> Int[Tensor, "n"]:
        """0: at least five solutions, 1: three or four, 2: one or two."""
        count = self.solutions.sum(-1)
        return (count < 5).long() + (count < 3).long()

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: Tensor | slice) -> Problems:
        return Problems(self.prompts[rows], self.solutions[rows], None if self.images is None else self.images[rows])

    def __add__(self, other: Problems) -> Problems:
        images = None if self.images is None or other.images is None else torch.cat([self.images, other.images])
        return Problems(torch.cat([self.prompts, other.prompts]), torch.cat([self.solutions, other.solutions]), images)

    def perturbed(self, noise: float, generator: torch.Generator) -> Problems:
        """Gaussian noise of that standard deviation on the images."""
        assert self.images is not None, "these problems have no images"
        return replace(self, images=self.images + noise * torch.randn(self.images.shape, generator=generator))

    def repeat(self, times: int) -> Problems:
        """Each problem `times` in a row."""
        return self[torch.arange(len(self)).repeat_interleave(times)]


def running_values(digits: Int[Tensor, "*batch 4"], operators: Int[Tensor, "*batch 3"]) -> Int[Tensor, "*batch 3"]:
    """The value after each operator, left to right."""
    value, values = digits[..., 0], []
    for place in range(3):
        value = _RESULTS[operators[..., place] - PLUS, value, digits[..., place + 1]]
        values.append(value)
    return torch.stack(values, -1)


def draw_problems(
    count: int, generator: torch.Generator, *, avoid: Problems | None = None, images: str | None = None
) -> Problems:
    """Random digits, with a target that random operators reach, so that every prompt has a solution.

    Parameters
    ----------
    avoid : prompts that must not be drawn (those of the test).
    images : "train" or "test" gives each digit a picture of that half of the data; None gives none.
    """
    taken = torch.zeros(10**5, dtype=torch.bool)
    if avoid is not None:
        taken[_number(avoid.prompts)] = True
    prompts = torch.empty(0, PROMPT, dtype=torch.long)
    while len(prompts) < count:
        digits = torch.randint(10, (count, 4), generator=generator)
        operators = CANDIDATES[torch.randint(27, (count,), generator=generator)]
        target = running_values(digits, operators)[:, -1:]
        arrow, think = (torch.full((count, 1), token) for token in (ARROW, THINK))
        fresh = torch.cat([digits, arrow, target, think], 1)
        prompts = torch.cat([prompts, fresh[~taken[_number(fresh)]]])
    prompts = prompts[:count]
    every = CANDIDATES.expand(count, -1, -1)
    solutions = running_values(prompts[:, None, :4].expand(-1, 27, -1), every)[..., -1] == prompts[:, 5:6]
    problems = Problems(prompts, solutions)
    return problems if images is None else replace(problems, images=draw_images(prompts[:, DIGITS], images, generator))


def _number(prompts: Tensor) -> Tensor:
    return prompts[:, DIGITS] @ torch.tensor([10**4, 10**3, 10**2, 10, 1])


def draw_images(digits: Int[Tensor, "*batch"], half: str, generator: torch.Generator) -> Float[Tensor, "*batch pixels"]:
    """A random 8 x 8 picture of each digit, from scikit-learn's set: the first 1200 to train on, the others to test."""
    pixels, starts, sizes = _pictures(half)
    place = torch.rand(digits.shape, generator=generator) * sizes[digits]
    return pixels[starts[digits] + place.long()]


@cache
def _pictures(half: str) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures ordered by their digit; where each digit starts, and how many it has."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    part = slice(None, 1200) if half == "train" else slice(1200, None)
    x, y = x[part] / 16, y[part]
    sizes = np.bincount(y, minlength=10)
    order = torch.from_numpy(x[np.argsort(y, kind="stable")]).float()
    return order, torch.from_numpy(np.cumsum(sizes) - sizes), torch.from_numpy(sizes)


@dataclass(frozen=True)
class Verdict:
    """What a response is worth.

    Attributes
    ----------
    correct : one ``</think>`` before the first ``<eos>``, then exactly three operators that reach the target.
    truncated : there is no ``<eos>``.
    end_think : place of the first ``</think>`` before the end, -1 where there is none.
    """

    correct: Bool[Tensor, "n"]
    truncated: Bool[Tensor, "n"]
    end_think: Int[Tensor, "n"]


def verify(prompts: Int[Tensor, "n prompt"], ids: Int[Tensor, "n length"]) -> Verdict:
    """Check responses, padded on the right."""
    length = ids.shape[1]
    ended = ids == EOS
    truncated = ~ended.any(1)
    end = torch.where(truncated, length, ended.int().argmax(1))
    marks = (ids == END_THINK) & (torch.arange(length) < end[:, None])
    first = torch.where(marks.any(1), marks.int().argmax(1), -1)
    whole = ~truncated & (marks.sum(1) == 1) & (end - first == 4)
    places = (first[:, None] + torch.arange(1, 4)).clamp(max=length - 1)
    answer = ids.gather(1, places)
    legal = ((answer >= PLUS) & (answer <= TIMES)).all(1)
    reached = running_values(prompts[:, :4], answer.clamp(PLUS, TIMES))[:, -1]
    return Verdict(whole & legal & (reached == prompts[:, 5]), truncated, first)


def token_kinds(ids: Int[Tensor, "n length"]) -> Int[Tensor, "n length"]:
    """`OPERATOR`, `VALUE`, `CHOICE` or `ANSWER` of each token of a response; -1 for padding and what fits nowhere."""
    answering = (ids == END_THINK).cumsum(1) - (ids == END_THINK).int() > 0
    kinds = torch.full_like(ids, -1)
    kinds[(ids >= PLUS) & (ids <= TIMES)] = OPERATOR
    kinds[ids < PLUS] = VALUE
    kinds[(ids == RETRY) | (ids == END_THINK)] = CHOICE
    kinds[answering & (ids != PAD)] = ANSWER
    return kinds


def search_traces(
    problems: Problems, generator: torch.Generator, *, expert: float = 0.3, give_up: float = 0.35
) -> Int[Tensor, "n length"]:
    """Responses of a random searcher, padded to `RESPONSE`: what a policy is warm-started on.

    Parameters
    ----------
    expert : share of traces whose first attempt is drawn from the solutions, others are drawn blindly. Without any,
        reinforcement finds no skill to amplify.
    give_up : probability of answering with an attempt that failed.
    """
    count = len(problems)
    rows = torch.arange(count)
    attempts = CANDIDATES[torch.randint(27, (count, ATTEMPTS), generator=generator)]
    knows = torch.rand(count, generator=generator) < expert
    known = CANDIDATES[torch.multinomial(problems.solutions.float(), 1, generator=generator)[:, 0]]
    attempts[:, 0] = torch.where(knows[:, None], known, attempts[:, 0])
    values = running_values(problems.prompts[:, None, :4].expand(-1, ATTEMPTS, -1), attempts)
    stops = values[..., -1] == problems.prompts[:, 5:6]
    stops |= torch.rand(count, ATTEMPTS, generator=generator) < give_up
    stops[:, -1] = True
    last = stops.int().argmax(1)

    search = torch.stack([attempts, values], -1).flatten(-2)
    search = torch.cat([search, torch.full((count, ATTEMPTS, 1), RETRY)], -1).flatten(1)
    traces = torch.cat([search, torch.full((count, 4), PAD)], 1)
    end = 7 * last + 6
    answer = torch.cat([torch.full((count, 1), END_THINK), attempts[rows, last], torch.full((count, 1), EOS)], 1)
    traces.scatter_(1, end[:, None] + torch.arange(5), answer)
    traces[torch.arange(RESPONSE) > end[:, None] + 4] = PAD
    return traces


def calculator(
    prompts: Int[Tensor, "n prompt"],
    ids: Int[Tensor, "n length"],
    *,
    error: float = 0.0,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "n"]:
    """The interpreter of the tool variant: the value that must follow an operator of the thinking phase, else -1.

    It computes from the value that it showed before, the first digit after a `RETRY`, and says nothing after a fourth
    operator or one that follows no value.

    Parameters
    ----------
    ids : the responses so far.
    error : probability that the tool shows one of the nine wrong values.
    """
    count, length = ids.shape
    silent = torch.full((count,), -1)
    if length == 0:
        return silent
    operator = ids[:, -1]
    start = ((ids == RETRY) * torch.arange(1, length + 1)).amax(1)
    since = length - 1 - start
    before = ids[:, -2] if length > 1 else operator
    value = torch.where(since == 0, prompts[:, 0], before)
    speaks = (operator >= PLUS) & (operator <= TIMES) & (value < PLUS) & (since % 2 == 0) & (since < 6)
    speaks &= ~(ids == END_THINK).any(1)
    operand = prompts.gather(1, (since // 2 + 1).clamp(0, 3)[:, None])[:, 0]
    result = _RESULTS[(operator - PLUS).clamp(0, 2), value.clamp(max=9), operand]
    if error > 0:
        wrong = torch.rand(count, generator=generator) < error
        result = torch.where(wrong, (result + torch.randint(1, 10, (count,), generator=generator)) % 10, result)
    return torch.where(speaks, result, silent)
