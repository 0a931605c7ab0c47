"""What any GRPOTrainer of TRL can use: a log of the entropy, and a temperature that may change while it runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from hartley.checks import require
from hartley.rl.entropy_target import EntropyTemperature
from hartley.rl.rollouts import State


class EntropyLog(TrainerCallback):
    """Adds "entropy_change", since the log before, to what any GRPOTrainer logs, and keeps the history.

    Attributes
    ----------
    history : one record a log: step and every number in it.
    path : JSON-lines file that the records are appended to, or None.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.history: list[dict[str, float]] = []
        self.path = None if path is None else Path(path)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "entropy" not in logs:
            return
        if self.history:
            logs["entropy_change"] = logs["entropy"] - self.history[-1]["entropy"]
        record = {k: v for k, v in logs.items() if isinstance(v, (int, float)) and math.isfinite(v)}
        self.history.append({"step": state.global_step, **record})
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(self.history[-1]) + "\n")


class HoldEntropy(TrainerCallback):
    """Holds the entropy of any GRPOTrainer's rollouts at a target by moving the temperature after every log.

        trainer.add_callback(HoldEntropy(trainer, EntropyTemperature(target=0.3, initial=1.0)))

    With `logging_steps=1` it moves after every step. On a `RecipeGRPOTrainer` give the recipe the same rule instead,
    ``acereason(temperature=EntropyTemperature(...))``: then it is part of the checkpoint.

    Attributes
    ----------
    state : temperature and running mean entropy.
    """

    def __init__(self, trainer: GRPOTrainer, rule: EntropyTemperature) -> None:
        self.trainer, self.rule = trainer, rule
        self.state: State = {}
        set_temperature(trainer, rule.initial)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "entropy" in logs:
            self.state = self.rule.moved(self.state, logs["entropy"])
            logs["temperature"] = self.trainer.temperature
            set_temperature(self.trainer, self.rule(self.state))


def set_temperature(trainer: GRPOTrainer, temperature: float) -> None:
    """Change the temperature of a GRPOTrainer while it runs: in sampling and in the loss, which must agree.

    TRL bakes the temperature into the head of the model when the trainer is made; the head is put on anew.
    """
    require(temperature > 0 and math.isfinite(temperature), "temperature", temperature, "a positive number")
    if temperature == trainer.temperature:
        return
    trainer.temperature = trainer.args.temperature = temperature
    if trainer.use_vllm:
        trainer.vllm_generation.temperature = temperature
    else:
        trainer.generation_config.temperature = temperature
        trainer.generation_kwargs["temperature"] = temperature
    for model, outputs in ((trainer.model, ("log_probs", "entropy")), (trainer.ref_model, ("log_probs",))):
        if model is None:
            continue
        bare = trainer.accelerator.unwrap_model(model)
        bare = bare.get_base_model() if hasattr(bare, "get_base_model") else bare
        vars(bare).pop("forward", None)  # the patched one; the class keeps its own
        add_fused_lm_head(
            bare, temperature=temperature, cast_lm_head_to_fp32=trainer.args.cast_lm_head_to_fp32, outputs=outputs
        )
