"""A tiny transformer that sums digits modulo five in one of three styles, as a control token after the question says.

The easy style answers at once, the hard one after every third partial sum, the normal one after all of them. For three
digits or fewer the normal style also checks itself in random order: more tokens, more entropy, no more accuracy. That
habit is planted here. The laboratory tests how labels, probe and strategies work together, not whether models have such
a habit; for that `sum_entropies` asks a real one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from hartley.labs.base import Lab
from hartley.labs.models import language_model
from hartley.labs.training import announce, kept_decoder, tiny_decoder, train
from hartley.reasoning import (
    EASY,
    HARD,
    NORMAL,
    DiffAdapt,
    DifficultyProbe,
    Strategy,
    label_difficulty,
    oracle_choice,
    suggest_thresholds,
)

TOKENS = ("0", "1", "2", "3", "4", "=", "<bos>", "<eos>", "<pad>", "check", "<easy>", "<normal>", "<hard>")
STRATEGIES = tuple(replace(s, instruction=f"<{s.name}>") for s in (EASY, NORMAL, HARD))
MAX_TOKENS = 24


@dataclass(frozen=True)
class DigitSumLab(Lab):
    """Questions of 1 to `longest` digits to a model that has seen those of 7 digits and fewer.

    Attributes
    ----------
    longest : digits of the longest question; beyond 7 the model knows no answer.
    rule : how the bound on entropy is set, "split" or "median"; by eye one would part the two clusters.
    model : asked by `sum_entropies`, see `hartley.labs.models.language_model`.
    """

    longest: int = 9
    rule: Literal["median", "split"] = "split"
    model: str = "smollm2"

    def outcome(self, seed: int) -> Outcome:
        """Labels and probes from some questions, and what each strategy makes of others; kept."""
        return _outcome(self, seed)

    def entropies(self, seed: int) -> tuple[Float[NDArray[Any], "levels"], Float[NDArray[Any], "levels"]]:
        """Generation entropy and accuracy of a real model on sums of three levels."""
        return sum_entropies(self.model, *((4, 2, 16) if self.quick else (8, 2, 24)), seed=seed)


@dataclass(frozen=True)
class Outcome:
    """What was measured on the test questions.

    Attributes
    ----------
    right, tokens, truncated : (strategies, questions, draws).
    choices : strategy of each question, by policy: "network", "linear" and "length" are probes.
    labels : of the training questions, and `lengths` and `profile`, their digits and generation entropies.
    observed_tokens : generated to label the training questions.
    """

    right: Bool[NDArray[Any], "strategies questions draws"]
    tokens: Int[NDArray[Any], "strategies questions draws"]
    truncated: Bool[NDArray[Any], "strategies questions draws"]
    choices: dict[str, Int[NDArray[Any], "questions"]]
    labels: Int[NDArray[Any], "training"]
    lengths: Int[NDArray[Any], "training"]
    profile: Float[NDArray[Any], "training"]
    observed_tokens: int

    def of(self, what: str, policy: str) -> Float[NDArray[Any], "questions"]:
        """Mean over the draws of "right", "tokens" or "truncated" for each question under a policy."""
        each: Float[NDArray[Any], "questions"] = getattr(self, what).mean(2)[
            self.choices[policy], np.arange(self.right.shape[1])
        ]
        return each

    def at_random(self, what: str, policy: str) -> Float[NDArray[Any], "questions"]:
        """The same in expectation if the policy's choices are dealt out at random."""
        shares = np.bincount(self.choices[policy], minlength=3) / self.right.shape[1]
        each: Float[NDArray[Any], "questions"] = np.tensordot(shares, getattr(self, what).mean(2), 1)
        return each


def is_right(question: str, answer: str) -> bool:
    """Whether the answer ends with the sum."""
    digits = [int(d) for d in question.split()[1:-1]]
    return answer.split()[-1:] == [str(sum(digits) % 5)]


def response(digits: list[int], style: int, rng: np.random.Generator) -> list[str]:
    """A training response in the easy (0), normal (1) or hard (2) style."""
    sums = list(itertools.accumulate(digits, _add))
    steps: list[Any] = [] if style == 0 else sums[2::3][:3] if style == 2 else list(sums)
    if style == 1 and len(digits) <= 3:
        for _ in range(int(rng.integers(1, 3))):
            steps += ["check", *itertools.accumulate(rng.permutation(digits).tolist(), _add)]
    return [str(token) for token in (*steps, sums[-1], "<eos>")]


@cache
def base_model(seed: int = 0, steps: int = 1400) -> tuple[Any, Any]:
    """The trained model of a seed, and its tokenizer: trained once (about 40 s), then kept in the cache folder."""

    def trained() -> Any:
        model = _train(seed, steps)
        adapt = DiffAdapt(model, tokenizer(), max_tokens=MAX_TOKENS, strategies=STRATEGIES, **_OPTIONS)
        asked = _questions(np.random.default_rng(seed + 1), 7, 20)
        seen = adapt.observe(asked, is_right, np.random.default_rng(seed), answers=1)
        if seen.accuracy.mean() < 0.95:
            raise ArithmeticError(f"the base model of seed {seed} answers only {seen.accuracy.mean():.0%} rightly")
        return model

    return kept_decoder(f"digit-sums-{steps}-{seed}", trained), tokenizer()


def tokenizer() -> Any:
    """One token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({token: i for i, token in enumerate(TOKENS)}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )


def sum_entropies(
    model: str, questions: int, answers: int, max_tokens: int, *, seed: int
) -> tuple[Float[NDArray[Any], "levels"], Float[NDArray[Any], "levels"]]:
    """Generation entropy and accuracy on sums of two digits, of a number below 50 and a digit, of three such numbers.

    The mean over `questions` of each level, `answers` to each; those that take more than `max_tokens` are wrong.
    """
    network, tokens = language_model(model)
    rng = np.random.default_rng(seed)
    chat = [{"role": "user", "content": "{question}\n\n{instruction}"}]
    template = tokens.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    direct = Strategy("direct", "Give only the result.", NORMAL.temperature, 1.0)
    adapt = DiffAdapt(
        network, tokens, strategies=(direct,), max_tokens=max_tokens, template=template, batch_size=3 * questions
    )
    levels = [((2, 10), (2, 10)), ((10, 50), (2, 10)), ((10, 50), (10, 50), (10, 50))]
    asked: dict[str, str] = {}
    for count, level in enumerate(levels, 1):
        while len(asked) < count * questions:  # no question twice
            terms = [int(rng.integers(*bounds)) for bounds in level]
            asked[f"What is {' + '.join(map(str, terms))}?"] = str(sum(terms))
    names = list(asked)

    def right(question: str, answer: str) -> bool:
        return asked[question] in answer.replace(".", " ").replace(",", " ").split()

    seen = adapt.observe(names, right, rng, answers=answers, strategy=0)
    return seen.entropy.reshape(3, -1).mean(1), seen.accuracy.reshape(3, -1).mean(1)


_OPTIONS: dict[str, Any] = {"template": "{question} {instruction}", "batch_size": 512}


def _add(a: int, b: int) -> int:
    return (a + b) % 5


def _questions(rng: np.random.Generator, longest: int, each: int) -> list[str]:
    return [
        " ".join(["<bos>", *map(str, rng.integers(0, 5, n)), "="])
        for n in np.repeat(np.arange(1, longest + 1), each).tolist()
    ]


def _train(seed: int, steps: int) -> Any:
    rng = np.random.default_rng(seed)
    code = {token: i for i, token in enumerate(TOKENS)}
    rows, starts = [], []
    for style in rng.choice(3, 40_000, p=[0.25, 0.5, 0.25]).tolist():
        digits = rng.integers(0, 5, rng.integers(1, 8)).tolist()
        words = ["<bos>", *map(str, digits), "=", STRATEGIES[style].instruction, *response(digits, style, rng)]
        rows.append([code[word] for word in words])
        starts.append(len(digits) + 3)
    lengths = np.array([len(row) for row in rows])
    ids = torch.tensor([row + [code["<pad>"]] * (lengths.max() - len(row)) for row in rows])
    place = torch.arange(ids.shape[1])
    answers = (place >= torch.tensor(starts)[:, None]) & (place < torch.from_numpy(lengths)[:, None])
    targets = torch.where(answers, ids, -100)
    model = tiny_decoder(len(TOKENS), width=32, layers=2, heads=4, seed=seed)

    def loss(batch: NDArray[Any]) -> Tensor:
        width = int(lengths[batch].max())
        logits = model(input_ids=ids[batch, : width - 1]).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[batch, 1:width].flatten())

    progress = announce("training a model of digit sums once", steps)
    train(model, loss, examples=len(ids), steps=steps, batch=64, rate=6e-3, rng=rng, progress=progress)
    return model


@cache
def _outcome(lab: DigitSumLab, seed: int) -> Outcome:
    import warnings

    model, words = base_model(0 if lab.quick else seed % 2)
    adapt = DiffAdapt(model, words, max_tokens=MAX_TOKENS, strategies=STRATEGIES, **_OPTIONS)
    rng = np.random.default_rng([seed, 1])
    known, asked = (_questions(rng, lab.longest, each) for each in (40, 24 if lab.quick else 40))
    seen = adapt.observe(known, is_right, rng, answers=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of absent labels: probes then choose among the rest
        thresholds = suggest_thresholds(seen.accuracy, seen.entropy, rule=lab.rule)
        labels = label_difficulty(seen.accuracy, seen.entropy, thresholds)
    lengths, length = (np.array([len(q.split()) - 2 for q in part]) for part in (known, asked))
    states = adapt.states(asked)
    choices = {"network": DifficultyProbe(random_state=seed).fit(seen.states, labels).predict(states)}
    choices["linear"] = DifficultyProbe(0).fit(seen.states, labels).predict(states)
    choices["length"] = DifficultyProbe(random_state=seed).fit(lengths[:, None], labels).predict(length[:, None])
    draws = 4
    shape = (3, len(asked), draws)
    right, cut = np.zeros((2, *shape), bool)
    tokens = np.zeros(shape, np.int64)
    for k, draw in itertools.product(range(3), range(draws)):
        found = adapt.generate(asked, rng, choice=np.full(len(asked), k))
        hits = [is_right(q, text) for q, text in zip(asked, found.texts, strict=True)]
        right[k, :, draw] = np.array(hits) & ~found.truncated
        tokens[k, :, draw], cut[k, :, draw] = found.n_tokens, found.truncated
    for k, strategy in enumerate(STRATEGIES):
        choices[f"always {strategy.name}"] = np.full(len(asked), k)
    choices["oracle"] = oracle_choice(right.mean(2), tokens.mean(2))
    return Outcome(right, tokens, cut, choices, labels, lengths, seen.entropy, seen.n_tokens)
