"""Choose, from the question alone, how a language model is to answer it: instruction, temperature and token budget.

The question is read once. A probe names its difficulty from the last hidden state at its end, the strategy of that
difficulty adds its instruction after the question, and generation goes on from the same key-value cache.

    adapt = DiffAdapt(model, tokenizer, max_tokens=512)
    seen = adapt.observe(questions, is_right, rng)                # several answers to each: the cost of this method
    labels = label_difficulty(seen.accuracy, seen.entropy, suggest_thresholds(seen.accuracy, seen.entropy))
    adapt = replace(adapt, probe=DifficultyProbe().fit(seen.states, labels))
    adapt.generate(others, rng).texts

Source: Liu, Hu, Chu, Choi (2025), arXiv 2510.19669. Temperatures and budgets are theirs, found by grid search; the
wording of the instructions is ours.

When not to use: questions of one difficulty; a model that follows no instructions. Beside every saving look at the
accuracy and at how many answers were cut off, by difficulty: `token_savings` gives all three.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from hartley.checks import require, require_between
from hartley.reasoning.difficulty import EntropyRecorder


@dataclass(frozen=True)
class Strategy:
    """How to answer: what is asked for after the question, at which temperature (0: greedy), in how many tokens.

    `max_tokens_fraction` is the share of `DiffAdapt.max_tokens` that an answer may take.
    """

    name: str
    instruction: str
    temperature: float
    max_tokens_fraction: float

    def __post_init__(self) -> None:
        require_between("temperature", self.temperature, 0, closed="left")
        require_between("max_tokens_fraction", self.max_tokens_fraction, 0, 1, closed="right")

    def budget(self, max_tokens: int) -> int:
        """Tokens that an answer may take, rounded down."""
        return floor(self.max_tokens_fraction * max_tokens + 1e-9)


EASY = Strategy("easy", "Solve this directly and verify the answer briefly.", 0.5, 0.4)
NORMAL = Strategy("normal", "Reason systematically, step by step, then give the answer.", 0.8, 1.0)
HARD = Strategy("hard", "Outline an approach with few resources. If it leads nowhere, stop and give a guess.", 0.4, 0.5)


@dataclass(frozen=True)
class AdaptiveAnswers:
    """Answers in the order of the questions.

    Attributes
    ----------
    texts : without special tokens.
    chosen : index of the strategy.
    n_tokens : generated, the end-of-sequence token included.
    truncated : the budget ran out before the answer ended.
    """

    texts: tuple[str, ...]
    chosen: Int[NDArray[Any], "questions"]
    n_tokens: Int[NDArray[Any], "questions"]
    truncated: Bool[NDArray[Any], "questions"]


@dataclass(frozen=True)
class Observations:
    """What several answers to each question say about it.

    Attributes
    ----------
    accuracy, entropy : share of right answers, and their mean generation entropy in nats.
    states : last hidden state at the end of the question.
    n_tokens : generated in all, the cost of observing.
    """

    accuracy: Float[NDArray[Any], "questions"]
    entropy: Float[NDArray[Any], "questions"]
    states: Float[NDArray[Any], "questions dim"]
    n_tokens: int


@dataclass(frozen=True)
class TokenSavings:
    """What choosing saved and cost against one fixed strategy: a row for each strategy chosen, the last for all.

    Attributes
    ----------
    questions : how many.
    accuracy, tokens, truncated : share of right answers, mean tokens, share cut off. NaN without questions.
    fixed_accuracy, fixed_tokens, fixed_truncated : the same of the fixed strategy on the same questions.
    """

    questions: Int[NDArray[Any], "rows"]
    accuracy: Float[NDArray[Any], "rows"]
    fixed_accuracy: Float[NDArray[Any], "rows"]
    tokens: Float[NDArray[Any], "rows"]
    fixed_tokens: Float[NDArray[Any], "rows"]
    truncated: Float[NDArray[Any], "rows"]
    fixed_truncated: Float[NDArray[Any], "rows"]

    @property
    def saving(self) -> Float[NDArray[Any], "rows"]:
        """Share of the fixed strategy's tokens that were not needed."""
        return 1 - self.tokens / self.fixed_tokens


def token_savings(
    adaptive: AdaptiveAnswers,
    right: Bool[NDArray[Any], "questions"],
    fixed: AdaptiveAnswers,
    fixed_right: Bool[NDArray[Any], "questions"],
    strategies: int = 3,
) -> TokenSavings:
    """Compare answers to the same questions; a truncated answer counts as wrong."""
    n = len(right)
    require(len(adaptive.texts) == len(fixed.texts) == len(fixed_right) == n, "fixed", len(fixed.texts), f"{n} answers")
    groups = [*(adaptive.chosen == k for k in range(strategies)), np.ones(n, bool)]

    def means(values: NDArray[Any]) -> NDArray[Any]:
        return np.array([values[g].mean() if g.any() else np.nan for g in groups])

    return TokenSavings(
        questions=np.array([int(g.sum()) for g in groups]),
        accuracy=means(right & ~adaptive.truncated),
        fixed_accuracy=means(fixed_right & ~fixed.truncated),
        tokens=means(adaptive.n_tokens),
        fixed_tokens=means(fixed.n_tokens),
        truncated=means(adaptive.truncated),
        fixed_truncated=means(fixed.truncated),
    )


def oracle_choice(
    accuracy: Float[NDArray[Any], "strategies questions"], tokens: Float[NDArray[Any], "strategies questions"]
) -> Int[NDArray[Any], "questions"]:
    """The most accurate strategy for each question, of equals the one with fewest tokens: what no probe can beat."""
    cost = np.where(accuracy == accuracy.max(0), tokens, np.inf)
    found: Int[NDArray[Any], "questions"] = cost.argmin(0)
    return found


@dataclass(frozen=True)
class DiffAdapt:
    """Answer questions with a causal language model of transformers, each by the strategy of its difficulty.

    Parameters
    ----------
    model, tokenizer : sequences are padded on the left here, whatever the tokenizer does.
    probe : anything with `predict(states)` that gives indices of strategies, for example `DifficultyProbe`.
    max_tokens : what a strategy with the whole budget may generate.
    strategies : easy, normal, hard; any number, in the order of the probe's labels.
    template : how a prompt is made; what stands up to the question is shared by all strategies. For a chat model:
        `tokenizer.apply_chat_template([{"role": "user", "content": "{question}\\n\\n{instruction}"}],
        tokenize=False, add_generation_prompt=True)`.
    batch_size : questions that are read together.
    generate_options : passed to `model.generate`, for example `top_p`.

    Raises
    ------
    ValueError : a budget that leaves a strategy without a token; a template without a question before the instruction.
    """

    model: Any
    tokenizer: Any
    probe: Any = None
    max_tokens: int = 1024
    strategies: tuple[Strategy, ...] = (EASY, NORMAL, HARD)
    template: str = "{question}\n\n{instruction}\n"
    batch_size: int = 16
    generate_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(self.strategies) >= 1, "strategies", self.strategies, "at least one")
        for s in self.strategies:
            require(
                s.budget(self.max_tokens) >= 1, "max_tokens", self.max_tokens, f"a token for the strategy {s.name!r}"
            )
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        ordered = 0 <= self.template.find("{question}") < self.template.find("{instruction}")
        require(ordered, "template", self.template, "{question} and then {instruction}")

    def states(self, questions: Sequence[str]) -> Float[NDArray[Any], "questions dim"]:
        """Last hidden states, after the final norm, at the last token of each question: what the probe sees."""
        found = [_Prefix(self, batch).states for batch in self._batches(questions)]
        return np.concatenate(found)

    def observe(
        self,
        questions: Sequence[str],
        right: Callable[[str, str], bool],
        rng: np.random.Generator,
        *,
        answers: int = 10,
        strategy: int = 1,
        callback: Callable[[int, int], None] | None = None,
    ) -> Observations:
        """Let the model answer each question several times by one strategy: what labels are made of.

        Parameters
        ----------
        right : question and answer -> whether it is right; not asked about answers that were cut off.
        answers : to each question.
        strategy : index of the strategy; 1 is normal.
        callback : told how many questions are done, and of how many.
        """
        require(answers >= 1, "answers", answers, "at least 1")
        self._require_choice("strategy", np.array([strategy]))
        accuracy: list[NDArray[Any]] = []
        entropy: list[NDArray[Any]] = []
        states: list[NDArray[Any]] = []
        total = 0
        for batch in self._batches(questions):
            prefix, recorder = _Prefix(self, batch), EntropyRecorder(self._stops)
            rows = np.repeat(np.arange(len(batch)), answers)
            texts, lengths, cut = prefix.answer(rows, self.strategies[strategy], rng, recorder)
            asked = [question for question in batch for _ in range(answers)]
            hits = [not c and bool(right(q, text)) for q, text, c in zip(asked, texts, cut, strict=True)]
            accuracy.append(np.reshape(hits, (-1, answers)).mean(1))
            entropy.append(recorder.mean.double().cpu().numpy().reshape(-1, answers).mean(1))
            states.append(prefix.states)
            total += int(lengths.sum())
            if callback is not None:
                callback(sum(map(len, accuracy)), len(questions))
        return Observations(np.concatenate(accuracy), np.concatenate(entropy), np.concatenate(states), total)

    def generate(
        self,
        questions: Sequence[str],
        rng: np.random.Generator,
        *,
        choice: Int[NDArray[Any], "questions"] | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> AdaptiveAnswers:
        """Answer each question once.

        Parameters
        ----------
        choice : strategies to take instead of what the probe says: a fixed one, a random one, an oracle's.
        callback : told how many questions are done, and of how many.
        """
        if choice is not None:
            require(len(choice) == len(questions), "choice", len(choice), f"one a question, {len(questions)}")
            self._require_choice("choice", choice)
        else:
            require(self.probe is not None, "probe", None, "a fitted probe, or strategies by `choice`")
        texts = np.empty(len(questions), object)
        chosen, lengths = np.zeros((2, len(questions)), np.int64)
        truncated = np.zeros(len(questions), bool)
        done = 0
        for batch in self._batches(questions):
            prefix, part = _Prefix(self, batch), slice(done, done + len(batch))
            if choice is None:
                chosen[part] = self.probe.predict(prefix.states)
                self._require_choice("probe.predict", chosen[part])
            else:
                chosen[part] = choice[part]
            for k in np.unique(chosen[part]):
                rows = np.flatnonzero(chosen[part] == k)
                at = done + rows
                texts[at], lengths[at], truncated[at] = prefix.answer(rows, self.strategies[k], rng)
            done += len(batch)
            if callback is not None:
                callback(done, len(questions))
        return AdaptiveAnswers(tuple(texts), chosen, lengths, truncated)

    def _batches(self, questions: Sequence[str]) -> list[Sequence[str]]:
        require(len(questions) >= 1, "questions", questions, "at least one")
        return [questions[i : i + self.batch_size] for i in range(0, len(questions), self.batch_size)]

    def _require_choice(self, name: str, chosen: NDArray[Any]) -> None:
        inside = bool(((chosen >= 0) & (chosen < len(self.strategies))).all())
        require(inside, name, chosen.tolist(), f"strategies 0 to {len(self.strategies) - 1}")

    @property
    def _stops(self) -> list[int]:
        stop = self.model.generation_config.eos_token_id
        stop = self.tokenizer.eos_token_id if stop is None else stop
        return stop if isinstance(stop, list) else [stop]


class _Prefix:
    """Questions that were read: their states, and the cache from which every strategy goes on."""

    @torch.inference_mode()
    def __init__(self, adapt: DiffAdapt, questions: Sequence[str]) -> None:
        self.adapt = adapt
        before, after = adapt.template.split("{question}", 1)
        self.after = after
        tokenizer, device = adapt.tokenizer, adapt.model.device
        bos = tokenizer.bos_token
        special = bos is None or not before.startswith(bos)
        rows = [tokenizer(before + q, add_special_tokens=special)["input_ids"] for q in questions]
        for question, row in zip(questions, rows, strict=True):
            require(len(row) >= 1, "question", question, "at least one token")
        width = max(map(len, rows))
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.pad = int(pad)
        self.ids = torch.tensor([[self.pad] * (width - len(r)) + r for r in rows], device=device)
        self.mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=device)
        out = adapt.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=(self.mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=True,
            output_hidden_states=True,
        )
        hidden: Any = getattr(out, "hidden_states", None)
        require(bool(hidden), "model", type(adapt.model).__name__, "a model that gives its hidden states")
        self.states: Float[NDArray[Any], "questions dim"] = hidden[-1][:, -1].double().cpu().numpy()
        self.cache = getattr(out, "past_key_values", None)

    @torch.inference_mode()
    def answer(
        self,
        rows: Int[NDArray[Any], "answers"],
        strategy: Strategy,
        rng: np.random.Generator,
        recorder: EntropyRecorder | None = None,
    ) -> tuple[list[str], Int[NDArray[Any], "answers"], Bool[NDArray[Any], "answers"]]:
        """Texts, token counts and truncation of answers to these rows by one strategy."""
        adapt, pick = self.adapt, torch.from_numpy(rows).to(self.ids.device)
        text = self.after.replace("{instruction}", strategy.instruction)
        tail = torch.tensor([adapt.tokenizer(text, add_special_tokens=False)["input_ids"]], device=self.ids.device)
        tail = tail.long().expand(len(rows), -1)
        require(tail.shape[1] >= 1, "instruction", text, "at least one token after the question")
        options: dict[str, Any] = {"do_sample": strategy.temperature > 0} | adapt.generate_options
        if strategy.temperature > 0:
            options = {"temperature": strategy.temperature, "top_k": 0} | options
        if recorder is not None:
            options["logits_processor"] = [recorder, *options.get("logits_processor", [])]
        if self.cache is not None:
            options["past_key_values"] = copy.deepcopy(self.cache)
            options["past_key_values"].batch_select_indices(pick)
        ids = torch.cat([self.ids[pick], tail], 1)
        # transformers draws from torch's global stream: seed a fork of it, and leave the stream as it was.
        with torch.random.fork_rng([ids.device] if ids.device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**63)))
            out: Tensor = adapt.model.generate(
                input_ids=ids,
                attention_mask=torch.cat([self.mask[pick], torch.ones_like(tail)], 1),
                max_new_tokens=strategy.budget(adapt.max_tokens),
                pad_token_id=self.pad,
                eos_token_id=adapt._stops,
                **options,
            )[:, ids.shape[1] :]
        ended = torch.isin(out, torch.tensor(adapt._stops, device=out.device))
        lengths = torch.where(ended.any(1), ended.int().argmax(1) + 1, out.shape[1]).cpu().numpy()
        texts = [adapt.tokenizer.decode(r[:n], skip_special_tokens=True) for r, n in zip(out, lengths, strict=True)]
        return texts, lengths, ~ended.any(1).cpu().numpy()
