"""Policy optimisation on op-search: one warm-started policy of 60 000 parameters, and any recipe.

A full run, 250 steps of 128 responses, takes about twenty seconds on one core, so that recipes can be compared with
everything else equal: the same start, the same prompts, learning rates tuned over one ladder, and the same number of
generated tokens.

    lab = PolicyLab()
    run = lab.train(grpo(), steps=250, seed=0)
    run.evaluation.pass_at(1).mean(), run.evaluation.entropy
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hartley.checks import require
from hartley.labs import op_search
from hartley.labs.base import Lab
from hartley.labs.op_search import EOS, PAD, RESPONSE, Problems, draw_problems, verify
from hartley.labs.policies import Sampled, SmallPolicy, sample
from hartley.labs.policy_training import Counted, Run, Trainer
from hartley.labs.warm_starts import held_out, warm_started
from hartley.rl import Recipe, Rollouts, Staged, dapo, grpo, pass_at_k
from hartley.rl.recipe import STATISTICS

SAMPLES = 16
"""Answers to each test prompt."""


@dataclass(frozen=True)
class Evaluation:
    """What a policy does with the test prompts.

    Attributes
    ----------
    correct : right answers among `samples` to each prompt.
    samples : answers to each prompt.
    difficulty : of each prompt, 0 easy to 2 hard.
    entropy : mean over the tokens that the policy drew, nats.
    lengths : mean number of tokens of the responses to each prompt.
    right_length : the same over right responses.
    generated : tokens that the policy drew.
    kinds : share and mean entropy of operators, values, choices and answers among those tokens.
    """

    correct: Int[Tensor, "prompts"]
    samples: int
    difficulty: Int[Tensor, "prompts"]
    entropy: float
    lengths: Float[Tensor, "prompts"]
    right_length: float
    generated: int
    kinds: Mapping[str, tuple[float, float]]

    def pass_at(self, k: int) -> Float[Tensor, "prompts"]:
        """Pass@k of each prompt: the paired values of a trial."""
        return pass_at_k(self.correct, self.samples, k)

    @property
    def length(self) -> float:
        """Mean number of tokens of a response."""
        return float(self.lengths.mean())

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
    noise : standard deviation of the Gaussian noise that perturbs pixels in [0, 1].
    tool : an interpreter writes the value after each operator.
    tool_error : probability that it shows a wrong one.
    prompts, answers : of a training step: groups, and responses in a group.
    minibatches : updates from the responses of a step.
    """

    width: int = 48
    images: bool = False
    noise: float = 0.1
    tool: bool = False
    tool_error: float = 0.0
    prompts: int = 16
    answers: int = 8
    minibatches: int = 2

    @property
    def steps(self) -> int:
        """Length of a run where none is given."""
        return 50 if self.quick else 250

    @property
    def budget(self) -> int:
        """Generated tokens of a run that is compared with others: about `steps` steps of GRPO."""
        return 120_000 if self.quick else 640_000

    @property
    def baselines(self) -> dict[str, Recipe | tuple[Recipe, ...]]:
        """What every method has to beat: GRPO, DAPO, and DAPO with a bonus for entropy, its coefficient tuned too."""
        plain = dapo(rounds=3)
        bonuses = (0.01,) if self.quick else (0.003, 0.01, 0.03)
        return {
            "GRPO": grpo(),
            "DAPO": plain,
            "DAPO, entropy bonus": tuple(replace(plain, name=f"bonus {c:g}", entropy_bonus=c) for c in bonuses),
        }

    @property
    def rates(self) -> tuple[float, ...]:
        """The ladder that learning rates are tuned over."""
        return (3e-4,) if self.quick else (1e-4, 3e-4)

    def policy(self) -> SmallPolicy:
        """The policy that every run starts from, a copy of its own."""
        return warm_started(self.width, self.images)

    def test_problems(self) -> Problems:
        """The fixed test prompts."""
        return held_out(self.images)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Fresh problems to train on, none of them in the test."""
        return draw_problems(count, generator, avoid=self.test_problems(), images="train" if self.images else None)

    def sample(
        self,
        policy: SmallPolicy,
        problems: Problems,
        generator: torch.Generator,
        *,
        limit: int = RESPONSE,
        temperature: float = 1.0,
        modulation: Callable[[Tensor], Tensor] | None = None,
        prefixes: Int[Tensor, "batch length"] | None = None,
        starts: Int[Tensor, "batch"] | None = None,
    ) -> Sampled:
        """One response of at most `limit` tokens to each problem; see `policies.sample`."""

        def calculator(ids: Tensor) -> Tensor:
            return op_search.calculator(problems.prompts, ids, error=self.tool_error, generator=generator)

        return sample(
            policy,
            problems.prompts,
            min(limit, RESPONSE),
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

    def rollouts(
        self,
        policy: SmallPolicy,
        problems: Problems,
        group: Int[Tensor, "batch"],
        generator: torch.Generator,
        *,
        prefixes: Int[Tensor, "batch length"] | None = None,
        starts: Int[Tensor, "batch"] | None = None,
        **options: Any,
    ) -> Rollouts:
        """One response to each problem, with its reward; `options` are those of `sample`.

        Its fields: "prompt" and "images" (where there are any) lead back to the problem; "end_think", "truncated";
        "start", the first position that is not copied; "kinds" of token; "triggers", where the policy chooses between
        another attempt and its answer.
        """
        drawn = self.sample(policy, problems, generator, prefixes=prefixes, starts=starts, **options)
        verdict = verify(problems.prompts, drawn.ids)
        kinds = op_search.token_kinds(drawn.ids)
        extra = {
            "prompt": problems.prompts,
            "end_think": verdict.end_think,
            "truncated": verdict.truncated,
            "start": torch.zeros_like(group) if starts is None else starts,
            "kinds": kinds,
            "triggers": kinds == op_search.CHOICE,
        }
        if problems.images is not None:
            extra["images"] = problems.images
        return Rollouts(
            ids=drawn.ids,
            mask=drawn.mask,
            group=group,
            rewards=verdict.correct.float(),
            correct=verdict.correct,
            log_probs=drawn.log_probs,
            entropy=drawn.entropy,
            fields=extra,
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
        with _one_thread():
            drawn = self.sample(policy, problems.repeat(SAMPLES), generator)
        verdict = verify(problems.prompts.repeat_interleave(SAMPLES, 0), drawn.ids)
        lengths = (drawn.ids != PAD).sum(1).float()
        kinds = op_search.token_kinds(drawn.ids)
        return Evaluation(
            correct=verdict.correct.view(-1, SAMPLES).sum(1),
            samples=SAMPLES,
            difficulty=problems.difficulty,
            entropy=float(drawn.entropy[drawn.mask].mean()),
            lengths=lengths.view(-1, SAMPLES).mean(1),
            right_length=float(lengths[verdict.correct].mean()),
            generated=int(drawn.mask.sum()),
            kinds={
                name: (float((kinds == kind)[drawn.mask].float().mean()), float(drawn.entropy[which].mean()))
                for kind, name in enumerate(op_search.KINDS)
                if (which := drawn.mask & (kinds == kind)).any()
            },
        )

    def train(
        self,
        recipe: Recipe | Staged,
        *,
        rate: float = 3e-4,
        steps: int | None = None,
        tokens: int | None = None,
        counted: Counted = "generated",
        seed: int = 0,
        every: int = 0,
        policy: SmallPolicy | None = None,
        progress: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> Run:
        """Train a copy of the warm start: AdamW, ten steps of warm-up, gradients clipped at norm 1.

        Parameters
        ----------
        rate : learning rate.
        steps, tokens : the budget, in steps or in tokens; by default the lab's number of steps.
        counted : the tokens of the budget are those "generated", or those "updated", which selection saves.
        seed : of prompts, responses and mini-batches. Recipes see the same prompts.
        every : evaluate also at the start and after so many steps; 0: at the end alone.
        policy : start from this one, which is changed in place.
        progress : told the number of each finished step and its entry of the history.
        """
        require(steps is None or tokens is None, "tokens", tokens, "a budget in steps or in tokens, not in both")
        require(recipe.needs <= self._known(), "recipe", recipe.name, f"one that needs of {sorted(self._known())}")
        steps = self.steps if tokens is None and steps is None else steps
        policy = self.policy() if policy is None else policy
        with _one_thread():
            return Trainer(self, policy, recipe, rate, seed).run(steps, tokens, every, progress, counted)

    def _known(self) -> frozenset[str]:
        known = {"prompt", "end_think", "truncated", "start", "kinds", "triggers"}
        known |= STATISTICS | {"reference_log_probs"}
        return frozenset(known | ({"images", "visual_uncertainty", "noisy"} if self.images else set()))

    def compare(
        self,
        recipes: Mapping[str, Recipe | Staged | tuple[Recipe | Staged, ...]],
        seed: int,
        *,
        tokens: int | None = None,
        counted: Counted = "generated",
        rates: Sequence[float] = (),
        every: int = 0,
        score: Callable[[Evaluation], float] = lambda e: float(e.pass_at(1).mean()),
        progress: Callable[[str], None] | None = None,
    ) -> dict[str, Run]:
        """Train every recipe at every learning rate for as many tokens; the best run of each.

        Parameters
        ----------
        recipes : by name; of several recipes under one name the best is taken, as of several learning rates.
        tokens, counted : the budget of each run, see `train`; by default that of the lab, of generated tokens.
        rates : the ladder; by default that of the lab.
        score : what rates are chosen by, on fresh prompts, as many as in the test and none of them.
        progress : told what is about to run.
        """
        chosen: dict[str, Run] = {}
        ladder = tuple(rates) or self.rates
        validation = self.draw(len(self.test_problems()), torch.Generator().manual_seed(2**32 + seed))
        for name, family in recipes.items():
            runs = []
            for recipe, rate in itertools.product(family if isinstance(family, tuple) else (family,), ladder):
                if progress is not None:
                    progress(f"{name}, {recipe.name}, learning rate {rate:g}")
                budget = tokens or self.budget
                runs.append(self.train(recipe, rate=rate, tokens=budget, counted=counted, seed=seed, every=every))
            if len(runs) > 1:
                runs.sort(key=lambda run: score(self.evaluate(run.policy, seed=seed, problems=validation)))
            chosen[name] = runs[-1]
        return chosen


@contextmanager
def _one_thread() -> Any:
    """Networks this small lose more by sharing their work than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
