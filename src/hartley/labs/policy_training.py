"""One training run of a policy on op-search: sample, prepare, update, as any recipe asks."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from hartley.checks import require
from hartley.labs.op_search import PAD
from hartley.labs.policies import SmallPolicy
from hartley.rl import Prepared, Recipe, Rollouts, Staged, State, Tokens, symmetric_kl, token_statistics

if TYPE_CHECKING:
    from hartley.labs.policy_gradient import Evaluation, PolicyLab

Counted = Literal["generated", "updated"]
"""Which tokens a budget counts: those that the policy drew, or those that it was trained on."""


@dataclass(frozen=True)
class Run:
    """A trained policy and its history.

    Attributes
    ----------
    recipe : its name.
    rate : learning rate.
    policy : as training left it.
    history : by name, one number a step: "reward", "entropy" (of what was sampled), "length", "generated" (tokens so
        far), "updated" (tokens so far), "selected" (share of tokens trained on), and what the recipe logs, such as
        "clip_share_high".
    evaluations : by number of steps taken, the last one after all of them.
    seconds : processor time of training, evaluations not counted.
    """

    recipe: str
    rate: float
    policy: SmallPolicy
    history: Mapping[str, Sequence[float]]
    evaluations: Mapping[int, Evaluation]
    seconds: float

    @property
    def evaluation(self) -> Evaluation:
        """After all steps."""
        return self.evaluations[max(self.evaluations)]

    @property
    def generated(self) -> int:
        """Tokens that the policy drew, also those of groups that were thrown away."""
        return int(self.history["generated"][-1])

    @property
    def updated(self) -> int:
        """Tokens that it was trained on."""
        return int(self.history["updated"][-1])

    def curve(self, name: str, over: Counted = "generated") -> tuple[Sequence[float], Sequence[float]]:
        """A line for a figure: thousands of generated (or updated) tokens, and an entry of the history or "pass@k"."""
        tokens = [count / 1000 for count in self.history[over]]
        if not name.startswith("pass@"):
            return tokens, self.history[name]
        values = [float(e.pass_at(int(name[5:])).mean()) for e in self.evaluations.values()]
        return [tokens[step - 1] if step else 0.0 for step in self.evaluations], values


class Trainer:
    """One run: its policy, optimiser, streams of random numbers and history."""

    def __init__(self, lab: PolicyLab, policy: SmallPolicy, recipe: Recipe | Staged, rate: float, seed: int) -> None:
        self.lab, self.policy, self.recipe, self.rate, self.seed = lab, policy, recipe, rate, seed
        self.reference = copy.deepcopy(policy) if "reference" in recipe.needs else None
        # Prompts have a stream of their own, so that recipes that draw more or fewer tokens meet the same ones.
        self.prompts, self.generator = (torch.Generator().manual_seed(2 * seed + k) for k in range(2))
        self.state: State = {}
        self.generated = self.updated = self.numbered = 0
        self.history: dict[str, list[float]] = {}

    def run(
        self,
        steps: int | None,
        tokens: int | None,
        every: int,
        progress: Callable[[int, Mapping[str, float]], None] | None,
        counted: Counted = "generated",
    ) -> Run:
        evaluations = {0: self.lab.evaluate(self.policy, seed=self.seed)} if every else {}
        step, seconds, current = 0, 0.0, None
        while (share := step / steps if steps is not None else getattr(self, counted) / (tokens or 1)) < 1:
            recipe, began = self.recipe.at(share), time.process_time()
            if recipe is not current:  # each stage has an optimiser of its own
                current, first = recipe, step
                optimizer = torch.optim.AdamW(
                    self.policy.parameters(), lr=self.rate, betas=(0.9, 0.95), weight_decay=0, fused=True
                )
            for setting in optimizer.param_groups:
                setting["lr"] = self.rate * min(1.0, (step - first + 1) / 10)
            entry = self.step(recipe, optimizer, share)
            for name in entry.keys() | self.history.keys():
                self.history.setdefault(name, [float("nan")] * step).append(entry.get(name, float("nan")))
            step += 1
            seconds += time.process_time() - began
            if progress is not None:
                progress(step, entry)
            if every and step % every == 0:
                evaluations[step] = self.lab.evaluate(self.policy, seed=self.seed)
        if step not in evaluations:
            evaluations[step] = self.lab.evaluate(self.policy, seed=self.seed)
        return Run(self.recipe.name, self.rate, self.policy, self.history, evaluations, seconds)

    def step(self, recipe: Recipe, optimizer: torch.optim.Optimizer, share: float) -> dict[str, float]:
        """Sample, prepare, update."""
        temperature = recipe.policy_temperature(self.state)
        sampled = replace(self.gather(recipe, temperature), state=self.state, progress=share)
        if recipe.noisy is not None or "visual_uncertainty" in recipe.needs:
            sampled = self.perturb(recipe, sampled, temperature)
        if self.reference is not None:
            with torch.no_grad():
                known = token_statistics(token_logits(self.reference, sampled), sampled.ids, temperature=temperature)
            sampled = replace(sampled, fields={**sampled.fields, "reference_log_probs": known.log_probs})
        prepared = recipe.prepare(sampled)
        self.state = prepared.rollouts.state
        log: dict[str, list[Tensor]] = {}
        learned = prepared.mask.any(1)  # what nothing is learned from need not be computed
        groups = torch.unique(prepared.rollouts.group[learned])
        groups = groups[torch.randperm(len(groups), generator=self.generator)]
        for part in groups.tensor_split(self.lab.minibatches):
            rows = (learned & torch.isin(prepared.rollouts.group, part)).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            tokens = self.tokens(recipe, prepared, rows, temperature)
            loss, logged = recipe.loss(tokens)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
            optimizer.step()
            for name, value in logged.items():
                log.setdefault(name, []).append(value)
        trained, drawn = int(prepared.mask.sum()), sampled.mask
        self.updated += trained
        return {name: float(torch.stack(values).mean()) for name, values in log.items() if name != "entropy"} | {
            "reward": float(sampled.rewards.mean()),
            "entropy": float(sampled.entropy[drawn].mean()),
            "length": float((sampled.ids != PAD).sum(1).float().mean()),
            "selected": trained / max(int(drawn.sum()), 1),
            "generated": self.generated,
            "updated": self.updated,
        }

    def gather(self, recipe: Recipe, temperature: float) -> Rollouts:
        """The groups of a step; those that teach nothing are replaced for as many rounds as the recipe grants."""
        wanted, kept, drawn = self.lab.prompts, [], 0
        for _ in range(recipe.rounds if recipe.informative is not None else 1):
            batch = self.groups(recipe, temperature, wanted - drawn)
            if recipe.informative is None:
                return batch
            keep = recipe.informative(batch)
            kept.append(_take(batch, keep))
            drawn = sum(len(torch.unique(part.group)) for part in kept)
            if drawn == wanted:
                break
        return _join(kept) if drawn else batch

    def groups(self, recipe: Recipe, temperature: float, count: int) -> Rollouts:
        """`count` groups of answers to fresh prompts, branches included."""
        lab, modulation = self.lab, recipe.modulation
        options: dict[str, Any] = {"temperature": temperature}
        if recipe.max_length is not None:
            options["limit"] = recipe.max_length
        if modulation is not None:
            state = self.state
            options["modulation"] = lambda logits: modulation(logits, state)
        branches = getattr(recipe.branching, "branches", 0)
        require(
            lab.answers % (1 + branches) == 0, "answers", lab.answers, f"a multiple of 1 + {branches}, for its branches"
        )
        roots = lab.answers // (1 + branches)
        problems = lab.draw(count, self.prompts).repeat(roots)
        group = (self.numbered + torch.arange(count)).repeat_interleave(roots)
        self.numbered += count
        batch = lab.rollouts(self.policy, problems, group, self.generator, **options)
        self.generated += int(batch.mask.sum())
        if recipe.branching is not None and branches:
            starts = recipe.branching(batch, self.generator).repeat_interleave(branches)
            twigs = lab.rollouts(
                self.policy,
                problems.repeat(branches),
                group.repeat_interleave(branches),
                self.generator,
                prefixes=batch.ids.repeat_interleave(branches, 0),
                starts=starts,
                **options,
            )
            self.generated += int(twigs.mask.sum())
            batch = _join([batch, twigs])
            batch = _take(batch, batch.group.argsort(stable=True))
        return batch

    @torch.no_grad()
    def perturb(self, recipe: Recipe, batch: Rollouts, temperature: float) -> Rollouts:
        """How far the perturbed images move each token's law; the answers in "noisy" are updated as if seen so."""
        require(
            "images" in batch.fields, "noisy", recipe.name, "no perturbed input, for prompts are text here: images=True"
        )
        clean = batch.fields["images"]
        member = torch.unique(batch.group, return_inverse=True)[1]
        noise = torch.randn(int(member.max()) + 1, *clean.shape[1:], generator=self.generator)
        images = clean + self.lab.noise * noise[member]  # one draw a prompt
        blurred, extra = token_logits(self.policy, batch, images), dict(batch.fields)
        if "visual_uncertainty" in recipe.needs:
            uncertainty = symmetric_kl(token_logits(self.policy, batch) / temperature, blurred / temperature)
            extra["visual_uncertainty"] = torch.where(batch.mask, uncertainty, 0.0)
        if recipe.noisy is None:
            return replace(batch, fields=extra)
        noisy = recipe.noisy(replace(batch, fields=extra), self.generator)
        seen = token_statistics(blurred, batch.ids, temperature=temperature)
        branch = noisy[:, None] & batch.mask
        extra |= {"noisy": noisy, "images": torch.where(noisy[:, None, None], images, clean)}
        return replace(
            batch,
            log_probs=torch.where(branch, seen.log_probs, batch.log_probs),
            entropy=torch.where(branch, seen.entropy, batch.entropy),
            fields=extra,
        )

    def tokens(self, recipe: Recipe, prepared: Prepared, rows: Tensor, temperature: float) -> Tokens:
        """One mini-batch under the current policy."""
        part = _take(prepared.rollouts, rows)
        moment = "second_moment" in recipe.needs
        now = token_statistics(token_logits(self.policy, part), part.ids, temperature=temperature, second_moment=moment)
        return Tokens(
            log_probs=now.log_probs,
            old_log_probs=part.log_probs,
            entropy=now.entropy,
            advantages=prepared.advantages[rows],
            mask=prepared.mask[rows],
            rollouts=part,
            second_moment=now.second_moment,
            reference_log_probs=part.fields.get("reference_log_probs"),
        )


def token_logits(policy: SmallPolicy, batch: Rollouts, images: Tensor | None = None) -> Tensor:
    """Next-token logits at every token of the responses; `images` in place of the batch's own."""
    ids = torch.cat([batch.fields["prompt"], batch.ids[:, :-1]], 1)
    return policy(ids, batch.fields.get("images") if images is None else images, keep=batch.ids.shape[1])


_TENSORS = tuple(f.name for f in fields(Rollouts) if f.name not in ("state", "progress", "fields"))


def _take(batch: Rollouts, rows: Tensor) -> Rollouts:
    extra = {name: value[rows] for name, value in batch.fields.items()}
    return replace(batch, fields=extra, **{name: getattr(batch, name)[rows] for name in _TENSORS})


def _join(batches: Sequence[Rollouts]) -> Rollouts:
    extra = {name: torch.cat([b.fields[name] for b in batches]) for name in batches[0].fields}
    joined: dict[str, Any] = {name: torch.cat([getattr(b, name) for b in batches]) for name in _TENSORS}
    return replace(batches[0], fields=extra, **joined)
