"""Any recipe on TRL's GRPOTrainer.

    recipe = dapo().with_(weights=steer())
    trainer = RecipeGRPOTrainer(model, reward, args=GRPOConfig(...), train_dataset=data, recipe=recipe)

TRL generates, scores and steps; the recipe decides what is sampled again, where answers are branched, the temperature,
rewards, advantages, selection, clip ranges, weights and the loss. `loss_type`, `epsilon`, `scale_rewards` and the other
options of the loss in `GRPOConfig` are not looked at; `num_iterations`, `steps_per_generation`, batch sizes, vLLM and
everything that is not the loss are. Written for trl 1.16; import it from here, it is not loaded with the room.

Under vLLM: weights, clip ranges, rewards, selection, dynamic sampling, branching and the temperature work alike, and
TRL's correction for the mismatch of engines multiplies the surrogate as it does there. What needs a distribution at
sampling time, `modulation`, does not: vLLM takes one temperature a request, and the trainer says so when it is made.
Entropies are always those of a forward pass through the trained model.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from hartley.checks import require
from hartley.rl._trl_batches import GROUP, completion_logits, extras, replace_groups, sequences
from hartley.rl.recipe import STATISTICS, Prepared, Recipe, Staged
from hartley.rl.recipes import dapo
from hartley.rl.rollouts import Rollouts, State, Tokens
from hartley.rl.statistics import token_statistics
from hartley.rl.trl_callbacks import set_temperature
from hartley.rl.visual_uncertainty import symmetric_kl

FieldFunction = Callable[[Tensor, Tensor], Tensor]
"""(completion ids, mask) -> a field of the rollouts, with the batch in front."""

_OWN, _FIELD = "recipe_", "field_"  # what the recipe keeps beside TRL's own tensors
_FIELDS = frozenset({"end_think", "truncated", "reference_log_probs"})  # that the trainer knows how to find
_NOISY = frozenset({"noisy", "visual_uncertainty"})  # and if it may perturb


class RecipeGRPOTrainer(GRPOTrainer):
    """A GRPOTrainer whose method is a recipe.

    Parameters
    ----------
    recipe : a `Recipe`, or `Staged` recipes.
    correct_above : an answer whose reward, before any shaping, lies above this counts as right.
    end_think : token, as text or number, that ends the thinking phase; looked up where a stage needs it.
    fields : further fields that stages need, each from completion ids and mask, as in
        ``fields={"triggers": lambda ids, mask: torch.isin(ids, words)}``.
    perturb : what a noisy branch does to the pixels of one answer's images, with randomness from the generator:
        ``lambda x, g: x + 0.4 * torch.randn(x.shape, generator=g, device=x.device)``. All answers of a group see the
        same noise.
    args, kwargs : as for `GRPOTrainer`. A recipe with a KL term makes the trainer keep a reference model.

    Raises
    ------
    ValueError : the recipe needs a field that nobody supplies, branches that do not divide `num_generations`, or
        something that the generation engine cannot do.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: Any = None,
        *,
        recipe: Recipe | Staged | None = None,
        correct_above: float = 0.5,
        end_think: str | int = "</think>",
        fields: Mapping[str, FieldFunction] | None = None,
        perturb: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        self.recipe = recipe or dapo()
        self.correct_above = correct_above
        self.recipe_state: State = {}
        self._end_think, self._field_functions, self._perturb = end_think, dict(fields or {}), perturb
        args = GRPOConfig(f"{self.recipe.name}-output") if args is None else copy.copy(args)
        first = self.recipe.at(0.0)
        # A positive beta makes TRL keep the reference model; how much it counts is up to the recipe.
        args.beta = 1.0 if "reference" in self.recipe.needs else 0.0
        args.temperature = first.policy_temperature({})
        super().__init__(model, reward_funcs, args, **kwargs)
        found = _FIELDS | (_NOISY if perturb is not None else set())
        missing = sorted(self.recipe.needs - STATISTICS - found - self._field_functions.keys())
        require(not missing, "fields", sorted(self._field_functions), f"functions for {missing}, for the recipe")
        for each in self.recipe.recipes if isinstance(self.recipe, Staged) else (self.recipe,):
            self._check(each)
        self._in_force = first  # while a batch is generated and used
        self._scores: tuple[Tensor, Tensor] | None = None  # log-probabilities and entropies of the latest answers
        self._starts: list[int] = []  # first token of each answer that is its own; empty without branches

    def _check(self, recipe: Recipe) -> None:
        """Refuse at once what would fail, or do nothing, hours later."""
        if recipe.branching is not None:
            share = 1 + recipe.branching.branches  # type: ignore[attr-defined]
            expected = f"a multiple of {share}: {share - 1} branches go with every answer"
            require(self.num_generations % share == 0, "num_generations", self.num_generations, expected)
            require(not self.tools, "tools", self.tools, "none, where answers are branched")
        if recipe.modulation is not None and (self.use_vllm or self.use_transformers_continuous_batching):
            raise ValueError(
                f"recipe {recipe.name!r} sets the temperature of every token, which vLLM and continuous batching "
                "cannot: use plain transformers generation, or leave it out with recipe.with_(modulation=None)"
            )
        if recipe.noisy is not None and self._perturb is None:
            raise ValueError(
                f"recipe {recipe.name!r} updates through perturbed images: give perturb, a function of them"
            )
        if recipe.informative is not None:
            require(
                hasattr(self.train_dataset, "__getitem__"),
                "train_dataset",
                type(self.train_dataset).__name__,
                "a dataset with random access: prompts are drawn from it to replace groups that teach nothing",
            )

    @property
    def _progress(self) -> float:
        return min(1.0, self.state.global_step / self.state.max_steps) if self.state.max_steps > 0 else 0.0

    # Sampling

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        weighted = (rewards * self.reward_weights.to(rewards.device)).nansum(1)
        # Where every reward function abstained there is nothing to learn from.
        weighted[rewards.isnan().all(1)] = torch.nan
        start = self.accelerator.process_index * len(prompts)
        self._rewards = weighted[start : start + len(prompts)]
        return rewards

    def _generate_single_turn(self, prompt_ids: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        with self._modulated():
            if self.model.training and self._in_force.branching is not None:
                return self._branched(prompt_ids, images, *args, **kwargs)
            return super()._generate_single_turn(prompt_ids, images, *args, **kwargs)

    def _branched(self, prompt_ids: list[list[int]], images: Any, *args: Any, **kwargs: Any) -> Any:
        """Of every group, sample a part from the prompt and continue each of those from inside."""
        if images is not None:
            raise ValueError("answers to prompts with images cannot be branched: the images would have to be repeated")
        branching: Any = self._in_force.branching
        size, count = self.num_generations, self.num_generations // (1 + branching.branches)
        whole = len(prompt_ids) % size == 0
        require(whole, "batch", len(prompt_ids), f"whole groups of {size} on every process, to branch their answers")
        roots = [i for i in range(len(prompt_ids)) if i % size < count]
        prompts = [prompt_ids[i] for i in roots]
        answers, log_probs = super()._generate_single_turn(prompts, None, *args, **kwargs)
        rollouts = self._unrewarded(prompts, answers, torch.tensor(roots) // size)
        generator = torch.Generator().manual_seed(self._seed())
        cuts = branching(rollouts, generator).tolist()
        copies = [(p, a[:c], c) for p, a, c in zip(prompts, answers, cuts, strict=True)]
        copies = [copy for copy in copies for _ in range(branching.branches)]
        more, more_log_probs = super()._generate_single_turn([p + a for p, a, _ in copies], None, *args, **kwargs)
        out, out_log_probs, starts, branch = [], [], [], 0
        limit = self.max_completion_length
        for g in range(len(prompt_ids) // size):
            own = range(g * count, (g + 1) * count)
            out += [answers[i] for i in own]
            out_log_probs += [log_probs[i] for i in own] if log_probs else []
            starts += [0] * count
            for i in own:
                for _ in range(branching.branches):
                    _, prefix, cut = copies[branch]
                    out.append((prefix + more[branch])[:limit])
                    if log_probs:
                        out_log_probs.append((log_probs[i][:cut] + more_log_probs[branch])[:limit])
                    starts.append(cut)
                    branch += 1
        self._starts = starts
        return out, out_log_probs if log_probs else None

    @torch.no_grad()
    def _unrewarded(self, prompts: list[list[int]], answers: list[list[int]], group: Tensor) -> Rollouts:
        """Entropies of answers that have just been sampled, before anything is rewarded."""
        device = self.accelerator.device
        left, right = max(map(len, prompts)), max(map(len, answers))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (left - len(p)) + p for p in prompts], device=device)
        seen = torch.tensor([[0] * (left - len(p)) + [1] * len(p) for p in prompts], device=device)
        answer = torch.tensor([a + [pad] * (right - len(a)) for a in answers], device=device)
        mask = torch.tensor([[1] * len(a) + [0] * (right - len(a)) for a in answers], device=device)
        log_probs, entropy = self._scored(
            {"prompt_ids": ids, "prompt_mask": seen, "completion_ids": answer, "completion_mask": mask}
        )
        zeros = torch.zeros(len(answers), device=device)
        return Rollouts(
            answer,
            mask.bool(),
            group.to(device),
            zeros,
            zeros.bool(),
            log_probs,
            entropy,
            state=self.recipe_state,
            progress=self._progress,
        )

    @contextlib.contextmanager
    def _modulated(self) -> Iterator[None]:
        """Let the recipe's modulation into `generate`, which TRL calls without logits processors."""
        modulation = self._in_force.modulation
        if modulation is None or not self.model.training:
            yield
            return
        model = self.accelerator.unwrap_model(self.model)
        plain, processors = model.generate, LogitsProcessorList([_Modulation(modulation, self.recipe_state)])
        model.generate = lambda *args, **kwargs: plain(*args, **kwargs, logits_processor=processors)
        try:
            yield
        finally:
            del model.generate  # the instance's; the class keeps its own

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None, Any]:
        # TRL's pass for the old log-probabilities yields the entropies at the time of sampling too. With adapters the
        # reference is the same model, its adapters off, so that a pass does not tell which of the two it was.
        adapters = self.beta != 0 and self.ref_model is None
        old = not torch.is_grad_enabled() and args[0] is self.model and not adapters
        if old:
            kwargs["compute_entropy"] = True
        result: tuple[Tensor, Tensor | None, Any] = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if old and result[1] is not None:
            self._scores = result[0], result[1]
        return result

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._in_force = recipe = self.recipe.at(self._progress)
        if self.model.training:
            self._limit_length(recipe)
            set_temperature(self, recipe.policy_temperature(self.recipe_state))
        batch = self._sample(inputs)
        if self.model.training and recipe.informative is not None:
            batch = self._fill(batch, recipe)
        if self.model.training and recipe.noisy is not None:
            batch = self._perturbed(batch, recipe)
        rollouts = self._rollouts(batch)
        everyone = self._gathered(rollouts)
        prepared = recipe.prepare(everyone)
        if self.model.training:
            self.recipe_state = prepared.rollouts.state
        start = self.accelerator.process_index * len(rollouts.group)
        mine = slice(start, start + len(rollouts.group))
        batch |= {
            "advantages": prepared.advantages[mine, : rollouts.ids.shape[1]],
            "tool_mask": prepared.mask[mine, : rollouts.ids.shape[1]].long(),
            "num_items_in_batch": prepared.mask.sum(),
            _OWN + "answers": torch.tensor(len(prepared.mask), device=rollouts.ids.device),
        }
        batch |= {
            _FIELD + name: value[mine, : rollouts.ids.shape[1]] if value.ndim > 1 else value[mine]
            for name, value in prepared.rollouts.fields.items()
        }
        self._log_prepared(everyone, prepared)
        if self.model.training and recipe.select is not None:
            batch = self._dropped(batch, prepared)
        return batch

    def _limit_length(self, recipe: Recipe) -> None:
        longest = self.args.max_completion_length
        self.max_completion_length = min(longest, recipe.max_length or longest)
        if self.use_vllm:
            self.vllm_generation.max_completion_length = self.max_completion_length
        else:
            self.generation_config.max_new_tokens = self.max_completion_length
            self.generation_kwargs["max_new_tokens"] = self.max_completion_length

    def _sample(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One call of TRL's sampling, with what a recipe needs of it kept beside its own tensors."""
        self._scores, self._starts = None, []
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        shape = batch["completion_ids"].shape
        if self._scores is not None and self._scores[0].shape == shape:
            log_probs, entropy = self._scores
        elif "entropy" in self.recipe.needs:
            log_probs, entropy = self._scored(batch)
        else:  # on policy, and nobody asks: NaN shows at once if a stage should not have said what it needs
            log_probs = entropy = torch.full(shape, torch.nan, device=batch["completion_ids"].device)
        mask = batch["completion_mask"] * batch.get("tool_mask", 1)
        starts = torch.tensor(self._starts or [0] * shape[0], device=mask.device)
        free = torch.arange(shape[1], device=mask.device) >= starts[:, None]
        size = self.num_generations if self.model.training else self.num_generations_eval
        place = self.accelerator.process_index * shape[0] + torch.arange(shape[0], device=mask.device)
        abstained = self._rewards.isnan()
        mask = mask * free * ~abstained[:, None]
        group = torch.where(abstained, -1 - place, place // size)  # alone: no advantage, and no share in a mean
        return batch | {
            _OWN + "mask": mask.bool(),
            GROUP: group,
            _OWN + "rewards": self._rewards.nan_to_num(nan=0.0),
            _OWN + "log_probs": log_probs,
            _OWN + "entropy": entropy,
        }

    @torch.no_grad()
    def _scored(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        size = self.args.per_device_train_batch_size
        log_probs, entropy, _ = self._get_per_token_logps_and_entropies(
            self.model, *sequences(batch), batch_size=size, compute_entropy=True, **extras(batch)
        )
        assert entropy is not None
        return log_probs, entropy

    def _fill(self, batch: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
        """Replace groups that teach nothing by groups of other prompts, as far as the rounds go."""
        if extras(batch):
            raise ValueError("groups with images cannot be sampled again: leave it out with with_(informative=None)")
        size = self.num_generations
        total = len(batch[GROUP])
        require(total % size == 0, "batch", total, f"whole groups of {size} on every process, to sample them again")
        generator = torch.Generator().manual_seed(self._seed())
        assert recipe.informative is not None
        kept = recipe.informative(self._rollouts(batch)).view(-1, size).all(1)
        log = self._metrics["train"]
        log["sampling/informative_share"].append(kept.float().mean().item())
        used = 1
        while used < recipe.rounds:
            missing = int(self.accelerator.gather((~kept).sum()).max())  # the same on every process
            if missing == 0:
                break
            picks = torch.randint(len(self.train_dataset), (missing,), generator=generator)
            inputs = [self.train_dataset[int(i)] for i in picks for _ in range(size)]
            fresh = self._sample(inputs)
            good = recipe.informative(self._rollouts(fresh)).view(-1, size).all(1)
            holes, filling = (~kept).nonzero().flatten(), good.nonzero().flatten()
            holes, filling = holes[: len(filling)], filling[: len(holes)]
            place = self.accelerator.process_index * total
            batch = replace_groups(batch, fresh, holes, filling, size, self._tokenizer.pad_token_id, place)
            kept[holes] = True
            used += 1
        log["sampling/rounds"].append(used)
        return batch

    @torch.no_grad()
    def _perturbed(self, batch: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
        """Measure where the answers read the image, and exchange images and log-probabilities in the noisy branch."""
        if "pixel_values" not in batch:
            raise ValueError(f"recipe {recipe.name!r} perturbs images: expected prompts with images")
        assert self._perturb is not None
        assert recipe.noisy is not None
        generator = torch.Generator(device=self.accelerator.device).manual_seed(self._seed())
        split = split_pixel_values_by_grid(batch)
        pixels, noise, group = list(split["pixel_values"]), {}, batch[GROUP].tolist()
        for image, number in zip(pixels, group, strict=True):
            if number not in noise:
                noise[number] = self._perturb(image, generator)
        other = [noise[number] for number in group]
        uncertainty, log_probs, entropy = [], [], []
        size = self.args.per_device_train_batch_size
        for start in range(0, len(pixels), size):
            part = {
                k: v if isinstance(v, Tensor) and v.ndim == 0 else v[start : start + size] for k, v in split.items()
            }
            raw, moved = (
                completion_logits(
                    self.model, *sequences(part), **extras(_with_pixels(part, images[start : start + size]))
                )
                for images in (pixels, other)
            )
            uncertainty.append(symmetric_kl(raw, moved))
            stats = token_statistics(moved, part["completion_ids"], temperature=self.temperature)
            log_probs.append(stats.log_probs)
            entropy.append(stats.entropy)
        noisy = recipe.noisy(self._rollouts(batch), generator)
        rows = noisy[:, None]
        changed = {
            _OWN + "log_probs": torch.where(rows, torch.cat(log_probs), batch[_OWN + "log_probs"]),
            _OWN + "entropy": torch.where(rows, torch.cat(entropy), batch[_OWN + "entropy"]),
            _FIELD + "visual_uncertainty": torch.cat(uncertainty),
            _FIELD + "noisy": noisy,
        }
        if "old_per_token_logps" in batch:
            changed["old_per_token_logps"] = torch.where(rows, torch.cat(log_probs), batch["old_per_token_logps"])
        images = [b if n else a for a, b, n in zip(pixels, other, noisy.tolist(), strict=True)]
        return {**batch, "pixel_values": _with_pixels(split, images)["pixel_values"], **changed}

    def _dropped(self, batch: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
        """Leave out answers of which nothing was selected, as far as the number of mini-batches allows."""
        used = batch["tool_mask"].any(1)
        steps = self.args.steps_per_generation
        most = int(self.accelerator.gather(used.sum()).max())
        count = max(steps, -(-most // steps) * steps)
        if count >= len(used) or extras(batch):
            return batch
        order = torch.argsort(~used, stable=True)[:count]
        answers = prepared.mask.any(1).sum()
        rows = {k: v[order] if isinstance(v, Tensor) and v.ndim else v for k, v in batch.items()}
        return rows | {_OWN + "answers": answers}

    def _rollouts(self, batch: dict[str, Any], *, fields: bool = True) -> Rollouts:
        """What the recipe is to see; fields are found once, for the whole batch, and carried along from there."""
        own = {k.removeprefix(_OWN): v for k, v in batch.items() if k.startswith(_OWN) and k != _OWN + "answers"}
        ids = batch["completion_ids"]
        found = {k.removeprefix(_FIELD): v for k, v in batch.items() if k.startswith(_FIELD)}
        for name in self.recipe.needs - STATISTICS - found.keys() if fields else ():
            if name == "visual_uncertainty":  # while sampling again, and in evaluation, nothing is perturbed
                found[name] = torch.zeros_like(own["entropy"])
            elif name == "noisy":
                found[name] = torch.zeros_like(own["group"], dtype=torch.bool)
            elif name in self._field_functions:
                found[name] = self._field_functions[name](ids, own["mask"])
            elif name == "end_think":
                ends = (ids == self._end_think_id()) & batch["completion_mask"].bool()
                found[name] = torch.where(ends.any(1), ends.int().argmax(1), -1)
            elif name == "reference_log_probs":
                found[name] = batch["ref_per_token_logps"]
            else:
                last = (batch["completion_mask"].sum(1) - 1).clamp(min=0)
                stops = torch.tensor(self.eos_token_ids, device=ids.device)
                found[name] = ~torch.isin(ids.gather(1, last[:, None]).squeeze(1), stops)
        mask = own["mask"]
        return Rollouts(
            ids,
            mask,
            own["group"],
            own["rewards"],
            own["rewards"] > self.correct_above,
            torch.where(mask, own["log_probs"], 0.0),
            torch.where(mask, own["entropy"], 0.0),
            self.recipe_state,
            self._progress,
            found,
        )

    def _end_think_id(self) -> int:
        if isinstance(self._end_think, int):
            return self._end_think
        ids: list[int] = self._tokenizer.encode(self._end_think, add_special_tokens=False)
        require(len(ids) == 1, "end_think", self._end_think, f"one token of this tokenizer, not {ids}")
        return ids[0]

    def _gathered(self, rollouts: Rollouts) -> Rollouts:
        """The answers of every process: groups and selections reach across them."""
        if self.accelerator.num_processes == 1:
            return rollouts

        def gather(value: Tensor) -> Tensor:
            padded = self.accelerator.pad_across_processes(value.long() if value.dtype == torch.bool else value, dim=1)
            out: Tensor = self.accelerator.gather(padded)
            return out.bool() if value.dtype == torch.bool else out

        names = ("ids", "mask", "group", "rewards", "correct", "log_probs", "entropy")
        everyone: dict[str, Any] = {name: gather(getattr(rollouts, name)) for name in names}
        return replace(rollouts, **everyone, fields={name: gather(v) for name, v in rollouts.fields.items()})

    def _seed(self) -> int:
        return (self.args.seed * 1_000_003 + self._step) * 4096 + self.accelerator.process_index

    # The update

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        recipe = self._in_force
        whole, more = sequences(inputs), extras(inputs)
        moment: Tensor | None = None
        aux_loss = None
        if "second_moment" in recipe.needs:
            logits = completion_logits(model, *whole, **more)
            stats = token_statistics(logits, inputs["completion_ids"], temperature=self.temperature, second_moment=True)
            log_probs, entropy, moment = stats.log_probs, stats.entropy, stats.second_moment
        else:
            log_probs, entropies, aux_loss = self._get_per_token_logps_and_entropies(
                model, *whole, compute_entropy=True, compute_aux_loss=self.aux_loss_enabled, **more
            )
            assert entropies is not None
            entropy = entropies
        old, advantages = inputs.get("old_per_token_logps"), inputs["advantages"]
        if "importance_sampling_ratio" in inputs:  # vLLM samples from slightly other probabilities
            advantages = advantages * inputs["importance_sampling_ratio"]
        tokens = Tokens(
            log_probs=log_probs,
            old_log_probs=log_probs.detach() if old is None else old,
            entropy=entropy,
            advantages=advantages,
            mask=inputs["tool_mask"].bool(),
            rollouts=self._rollouts(inputs, fields=False),
            second_moment=moment,
            reference_log_probs=inputs.get("ref_per_token_logps"),
        )
        mode = "train" if self.model.training else "eval"
        total = inputs["num_items_in_batch" if recipe.aggregate == "token-mean" else _OWN + "answers"].float()
        total = total / self.accelerator.num_processes
        if mode == "train":  # the totals are of all that was generated; a step accumulates over a part of it
            total = total * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        loss, log = recipe.loss(tokens, total=total)
        if aux_loss is not None and self.aux_loss_enabled:
            steps = self.current_gradient_accumulation_steps if mode == "train" else 1.0
            loss = loss + self.router_aux_loss_coef * aux_loss / steps
        count = tokens.mask.sum()
        for name, value in log.items():
            summed = self.accelerator.reduce(torch.stack([value * count, count.to(value)]), reduction="sum")
            self._metrics[mode][name].append((summed[0] / summed[1].clamp(min=1)).item())
        return loss

    def _log_prepared(self, before: Rollouts, prepared: Prepared) -> None:
        log = self._metrics["train" if self.model.training else "eval"]
        all_tokens = before.mask.sum().clamp(min=1)
        log["selected_share"].append((prepared.mask.sum() / all_tokens).item())
        useful = (prepared.advantages != 0).any(1) & prepared.mask.any(1)
        log["useful_share"].append((useful.sum() / prepared.mask.any(1).sum().clamp(min=1)).item())
        log["shaped_reward"].append(prepared.rollouts.rewards.mean().item())
        log["temperature"].append(float(self.temperature))

    # The recipe's memory is part of a checkpoint

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save and self.recipe_state:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            (folder / "recipe_state.json").write_text(json.dumps(dict(self.recipe_state)))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and (path := Path(checkpoint) / "recipe_state.json").exists():
            self.recipe_state = json.loads(path.read_text())


def _with_pixels(batch: dict[str, Any], images: list[Tensor]) -> dict[str, Any]:
    """A split batch with other images, in the form that the model takes."""
    whole = isinstance(batch["pixel_values"], Tensor)  # one row an answer
    joined: dict[str, Any] = unsplit_pixel_values_by_grid(
        {**batch, "pixel_values": torch.stack(images) if whole else images}
    )
    return joined


class _Modulation(LogitsProcessor):
    def __init__(self, modulation: Callable[[Tensor, State], Tensor], state: State) -> None:
        self.modulation, self.state = modulation, state

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores / self.modulation(scores, self.state)[:, None]
