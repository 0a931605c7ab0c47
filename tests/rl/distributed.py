"""Two processes on the CPU, started by `test_trl_distributed`: groups and selections reach across them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from rl.test_trl import even, trainer

from hartley.rl import Rollouts, combine, d3s, dapo, pear


class Seen:
    """Keeps what the recipe was shown."""

    def __init__(self) -> None:
        self.batches: list[Rollouts] = []

    def __call__(self, rollouts: Rollouts) -> torch.Tensor:
        self.batches.append(rollouts)
        return rollouts.rewards


def main(folder: Path) -> None:
    seen = Seen()
    settings: dict[str, Any] = {"per_device_train_batch_size": 4, "num_generations": 4, "num_iterations": 1}
    run = trainer(folder, dapo(rounds=3).with_(shape_reward=seen), **settings)
    run.train()
    batch = seen.batches[0]
    weights = [p.detach().double().sum().item() for p in run.model.parameters()]
    wide = trainer(folder, combine(pear(), d3s()), reward=even, **settings)
    wide.train()
    rank = run.accelerator.process_index
    record = {
        "group": batch.group.tolist(),
        "mask": batch.mask.sum(1).tolist(),
        "rewards": batch.rewards.tolist(),
        "weights": weights,
        "finite": all(bool(p.isfinite().all()) for p in wide.model.parameters()),
    }
    (folder / f"rank-{rank}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
