"""Recipes on TRL's own trainer: a tiny causal language model, trained for a few steps on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from hartley.rl import (
    EntropyTemperature,
    Recipe,
    Rollouts,
    Staged,
    TokenStatistics,
    acereason,
    ares,
    combine,
    cure,
    d3s,
    dapo,
    dr_grpo,
    grpo,
    hapo,
    pear,
    steer,
    token_statistics,
)
from hartley.rl.trl import RecipeGRPOTrainer
from hartley.rl.trl_callbacks import EntropyLog, HoldEntropy, set_temperature

WORDS = ["<pad>", "<eos>", "</think>", *"0123456789+-*=abcdefghij"]


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


def model() -> LlamaForCausalLM:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(WORDS),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                pad_token_id=0,
                eos_token_id=1,
                bos_token_id=None,
                initializer_range=0.5,
            )
        )


DATA = Dataset.from_dict({"prompt": [f"{a} + {b} =" for a in range(4) for b in range(4)]})


def even(completions: list[str], **kwargs: Any) -> list[float]:
    """Right if the number of words is even, about half of the time."""
    return [float(len(text.split()) % 2 == 0) for text in completions]


def config(folder: Path, **changes: Any) -> GRPOConfig:
    values: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "seed": 3,
        "disable_tqdm": True,
        "num_iterations": 2,
    }
    return GRPOConfig(str(folder), **(values | changes))


def trainer(folder: Path, recipe: Recipe | Staged, *, reward: Any = even, **changes: Any) -> RecipeGRPOTrainer:
    own = {k: changes.pop(k) for k in ("fields", "end_think", "callbacks") if k in changes}
    policy: Any = model()
    if "reference" in recipe.needs:  # TRL loads the reference from where the policy came from
        policy.save_pretrained(folder / "policy")
        policy = str(folder / "policy")
    return RecipeGRPOTrainer(
        policy,
        reward,
        config(folder, **changes),
        train_dataset=DATA,
        processing_class=tokenizer(),
        recipe=recipe,
        **own,
    )


def sampled(run: RecipeGRPOTrainer) -> dict[str, Any]:
    """The first batch of training, as the update would see it."""
    run.model.train()
    return run._generate_and_score_completions(next(iter(run.get_train_dataloader())))


def rescored(run: RecipeGRPOTrainer, batch: dict[str, Any], temperature: float = 1.0) -> TokenStatistics:
    """Statistics of the answers from a plain forward pass over prompt and answer."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    keep = batch["completion_ids"].shape[1]
    logits = run.model(input_ids=ids, attention_mask=seen).logits[:, -keep - 1 : -1]
    return token_statistics(logits.detach(), batch["completion_ids"], temperature=temperature)


RECIPES: list[Callable[[], Recipe | Staged]] = [
    grpo,
    lambda: grpo(kl=0.04),
    lambda: dr_grpo(8),
    lambda: dapo(overlong=(8, 2), entropy_bonus=0.01, rounds=2),
    lambda: steer(0.3),
    lambda: steer(0.3, estimator="exact"),
    lambda: dapo(rounds=2).with_(weights=steer(0.3)),
    lambda: cure(branches=1, top_k=3, rounds=2),
    d3s,
    lambda: hapo(rounds=2),
    pear,
    lambda: pear(alpha=-1.0, kl=0.01).with_(weights=steer(0.3)),
    lambda: ares(kl=0.01),
    lambda: acereason(temperature=EntropyTemperature(target=1.0), filter_overlong=True),
    lambda: Staged((dapo(rounds=1), grpo()), (0.5,)),
]


@pytest.mark.parametrize("make", RECIPES, ids=lambda make: make().name)
def test_every_recipe_trains(make: Callable[[], Recipe | Staged], tmp_path: Path) -> None:
    log = EntropyLog(tmp_path / "log.jsonl")
    run = trainer(tmp_path, make(), callbacks=[log])
    before = [p.clone() for p in run.model.parameters()]
    run.train()
    assert any(not torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
    assert all(p.isfinite().all() for p in run.model.parameters())
    assert {"entropy", "clip_share_low", "selected_share", "useful_share"} <= log.history[0].keys()
    assert log.history[1]["entropy_change"] == pytest.approx(log.history[1]["entropy"] - log.history[0]["entropy"])
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(log.history)


@pytest.mark.parametrize(
    ("loss_type", "recipe"),
    [
        ("dapo", dapo().with_(informative=None)),
        ("grpo", grpo().with_(clip_range=(0.2, 0.28))),
        ("dr_grpo", dr_grpo(8).with_(clip_range=(0.2, 0.28))),
    ],
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_losses_and_gradients_equal_those_of_trl(
    loss_type: str, recipe: Recipe, accumulation: int, tmp_path: Path
) -> None:
    """On the same batch, after a drift of the policy, including the split of a batch over several steps."""
    settings = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": 4,
        "loss_type": loss_type,
        "epsilon": 0.2,
        "epsilon_high": 0.28,
        "scale_rewards": "none" if loss_type == "dr_grpo" else "group",
    }
    theirs = GRPOTrainer(model(), even, config(tmp_path, **settings), train_dataset=DATA, processing_class=tokenizer())
    ours = trainer(tmp_path, recipe, **settings)
    losses = []
    for each in (theirs, ours):
        torch.manual_seed(5)
        each.model.train()
        each.current_gradient_accumulation_steps = accumulation
        batch = next(iter(each.get_train_dataloader()))
        parts = [each._prepare_inputs(batch)]
        for each._step in range(1, 4):
            parts.append(each._prepare_inputs(batch))
        with torch.no_grad():
            for p in each.model.parameters():
                p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
        values = [each._compute_loss(each.model, part) for part in parts]
        gradient = torch.autograd.grad(sum(values), list(each.model.parameters()))
        losses.append((torch.stack(values).detach(), gradient))
    torch.testing.assert_close(losses[0][0], losses[1][0], rtol=1e-6, atol=1e-6)
    assert losses[0][0].abs().max() > 1e-3
    for a, b in zip(losses[0][1], losses[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_groups_that_teach_nothing_are_sampled_again(tmp_path: Path) -> None:
    calls = []

    def first_wrong(completions: list[str], **kwargs: Any) -> list[float]:
        calls.append(len(completions))
        return [0.0] * len(completions) if len(calls) == 1 else [float(i % 2) for i in range(len(completions))]

    run = trainer(tmp_path, dapo(), reward=first_wrong)
    batch = sampled(run)
    assert calls == [8, 8]
    assert (batch["advantages"].abs().amax(1) > 0).all()
    assert batch["recipe_group"].tolist() == [0] * 4 + [1] * 4
    assert batch["prompt_ids"].shape[0] == batch["completion_ids"].shape[0] == 8
    run._metrics["train"].clear()
    calls.clear()
    hopeless = trainer(
        tmp_path, dapo(rounds=3), reward=lambda completions, **_: calls.append(1) or [1.0] * len(completions)
    )
    hopeless.current_gradient_accumulation_steps = 1
    batch = sampled(hopeless)
    assert len(calls) == 3
    assert (batch["advantages"] == 0).all()
    assert hopeless._compute_loss(hopeless.model, batch).item() == 0.0


def test_filled_groups_are_whole(tmp_path: Path) -> None:
    """What is replaced is replaced in every tensor: log-probabilities still belong to their tokens."""
    run = trainer(tmp_path, dapo().with_(aggregate="sequence-mean"), max_completion_length=7)
    batch = sampled(run)
    stats = rescored(run, batch)
    mask = batch["recipe_mask"]
    torch.testing.assert_close(batch["recipe_log_probs"][mask], stats.log_probs[mask], atol=1e-4, rtol=1e-4)


class Halves:
    """Branches in the middle of every answer."""

    branches = 1
    needs = ("entropy",)

    def __call__(self, rollouts: Rollouts, generator: torch.Generator) -> torch.Tensor:
        assert (rollouts.entropy[rollouts.mask] > 0).all()
        return rollouts.lengths // 2


def test_branches_share_a_prefix_that_is_not_trained(tmp_path: Path) -> None:
    run = trainer(tmp_path, grpo().with_(branching=Halves()))
    batch = sampled(run)
    for g in (0, 4):
        for parent, child in ((g, g + 2), (g + 1, g + 3)):
            length = int(batch["completion_mask"][parent].sum())
            cut = length // 2
            assert torch.equal(batch["completion_ids"][parent, :cut], batch["completion_ids"][child, :cut])
            assert not batch["tool_mask"][child, :cut].any()
            own = int(batch["completion_mask"][child].sum())
            assert batch["tool_mask"][child, cut:own].all()
            assert batch["tool_mask"][parent, :length].all()
    assert batch["completion_ids"].shape[1] <= 8
    with pytest.raises(ValueError, match="multiple of 2"):
        trainer(tmp_path, grpo().with_(branching=Halves()), num_generations=3, per_device_train_batch_size=9)


def test_modulation_reaches_the_sampler_and_leaves_no_trace(tmp_path: Path) -> None:
    seen = []

    def freeze(logits: torch.Tensor, state: Any) -> torch.Tensor:
        seen.append(logits.shape)
        return torch.full((len(logits),), 1e-4)

    run = trainer(tmp_path, grpo().with_(modulation=freeze))
    batch = sampled(run)
    assert seen
    first = batch["completion_ids"].view(-1, 4, batch["completion_ids"].shape[1])
    assert (first == first[:, :1]).all()  # greedy: every answer of a group is the same
    assert "generate" not in vars(run.model)


def test_temperature_is_that_of_sampling_and_loss(tmp_path: Path) -> None:
    recipe = replace(grpo(), temperature=lambda state: state.get("t", 0.5))
    run = trainer(tmp_path, recipe)
    assert run.temperature == run.generation_config.temperature == 0.5
    run.model.train()
    for temperature in (0.5, 0.8):
        run.recipe_state = {"t": temperature}
        batch = sampled(run)
        stats = rescored(run, batch, temperature)
        mask = batch["tool_mask"].bool()
        torch.testing.assert_close(batch["recipe_entropy"][mask], stats.entropy[mask], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="temperature"):
        set_temperature(run, 0.0)


def test_a_curriculum_of_lengths(tmp_path: Path) -> None:
    recipe = Staged((acereason(max_length=3, filter_overlong=True), acereason()), (0.5,))
    run = trainer(tmp_path, recipe, num_iterations=1)
    run.model.train()
    run.state.max_steps = 2
    for step, longest in ((0, 3), (1, 8)):
        run.state.global_step = step
        batch = sampled(run)
        assert batch["completion_ids"].shape[1] == longest
        ended = torch.isin(batch["completion_ids"], torch.tensor(run.eos_token_ids)).any(1)
        if step == 0:
            assert not batch["tool_mask"][~ended[: len(batch["tool_mask"])]].any()


def test_any_trainer_can_hold_an_entropy(tmp_path: Path) -> None:
    settings = {"max_steps": 25, "num_iterations": 1, "learning_rate": 0.0, "max_completion_length": 4}
    run = GRPOTrainer(model(), even, config(tmp_path, **settings), train_dataset=DATA, processing_class=tokenizer())
    hold = HoldEntropy(run, EntropyTemperature(target=0.8, initial=1.0, gain=0.7, decay=0.0))
    log = EntropyLog()
    run.add_callback(hold)
    run.add_callback(log)
    run.train()
    entropies = [record["entropy"] for record in log.history]
    assert entropies[0] > 1.4
    assert abs(sum(entropies[-10:]) / 10 - 0.8) < 0.15
    assert run.temperature == run.generation_config.temperature == hold.state["temperature"] < 0.9
    assert log.history[3]["temperature"] < 1.0


class KeepFirst:
    """Selects the answers of the first group alone."""

    def __call__(self, rollouts: Rollouts, advantages: torch.Tensor) -> torch.Tensor:
        return (rollouts.group == rollouts.group.min())[:, None].expand(rollouts.mask.shape)


def test_answers_that_are_not_selected_cost_no_update(tmp_path: Path) -> None:
    run = trainer(tmp_path, grpo().with_(select=KeepFirst()))
    batch = sampled(run)
    assert len(batch["completion_ids"]) == 4
    assert batch["recipe_answers"].item() == 4
    assert batch["tool_mask"].any(1).all()


class Remember:
    """Counts batches in the state."""

    def __call__(self, rollouts: Rollouts) -> torch.Tensor:
        return rollouts.rewards

    def observe(self, state: Any, rollouts: Rollouts) -> dict[str, float]:
        return {"batches": state.get("batches", 0) + 1}


def test_the_memory_of_a_recipe_survives_a_restart(tmp_path: Path) -> None:
    recipe = grpo().with_(shape_reward=Remember())
    run = trainer(tmp_path, recipe, save_strategy="steps", save_steps=2, num_iterations=1)
    run.train()
    assert run.recipe_state == {"batches": 2}
    again = trainer(tmp_path, recipe, save_strategy="no", max_steps=3, num_iterations=1)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.recipe_state == {"batches": 3}


def test_fields_and_what_is_missing(tmp_path: Path) -> None:
    class Needy:
        needs = ("end_think", "triggers")

        def __call__(self, rollouts: Rollouts) -> torch.Tensor:
            assert set(rollouts.fields) == {"end_think", "triggers"}
            position = rollouts.fields["end_think"]
            for row, at in zip(rollouts.ids, position.tolist(), strict=True):
                assert (row == 2).nonzero().flatten().tolist()[:1] == ([at] if at >= 0 else [])
            return rollouts.rewards + rollouts.fields["triggers"].float().mean(1)

    recipe = grpo().with_(shape_reward=Needy())
    with pytest.raises(ValueError, match="triggers"):
        trainer(tmp_path, recipe)
    trainer(tmp_path, recipe, fields={"triggers": lambda ids, mask: ids == 5}).train()
    with pytest.raises(ValueError, match="one token"):
        trainer(tmp_path, recipe, fields={"triggers": lambda ids, mask: ids == 5}, end_think="0 1").train()


def test_an_answer_that_nobody_rewards_teaches_nothing(tmp_path: Path) -> None:
    def abstain(completions: list[str], **kwargs: Any) -> list[float | None]:
        return [None if i == 0 else float(i % 2) for i in range(len(completions))]

    run = trainer(tmp_path, combine(grpo()), reward=abstain)
    batch = sampled(run)
    assert (batch["advantages"][0] == 0).all()
    assert not batch["tool_mask"][0].any()
    lengths = batch["tool_mask"].sum(1)
    present = batch["advantages"].gather(1, (lengths - 1).clamp(min=0)[:, None]).squeeze(1)[1:4]
    assert present.sum().abs() < 1e-5  # the mean is that of the three that count
