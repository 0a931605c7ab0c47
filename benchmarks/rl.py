"""Token statistics against TRL's own two calls, forward and backward, time and memory; what a recipe adds to a step.

TRL's are `selective_log_softmax` and `entropy_from_logits`; its fused head, which never forms logits, is a different
trade and not raced here. Peak memory is that of the process above what it held before the call (Linux).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from race import arguments, race, show
from rich.console import Console
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from hartley import rl


def peak_mebibytes(function: Callable[[], object]) -> float:
    """Growth of the resident memory's high-water mark during one call, the second: the first compiles."""
    function()
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def field(name: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    reset.write_text("5")
    before = field("VmRSS")
    kept = function()
    after = field("VmHWM")
    del kept
    return (after - before) / 1024


def statistics(quick: bool) -> None:
    shape = (2, 128, 32_000) if quick else (4, 512, 152_000)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(shape[-1], shape[:2], generator=generator)
    for dtype in (torch.bfloat16, torch.float32):
        logits = torch.empty(shape, dtype=dtype)
        for row in logits:
            row.copy_(3 * torch.randn(shape[1:], generator=generator))
        candidates: dict[str, Callable[[], object]] = {
            "hartley": lambda logits=logits: rl.token_statistics(logits, ids),
            "hartley, second moment too": lambda logits=logits: rl.token_statistics(logits, ids, second_moment=True),
            "trl, two calls": lambda logits=logits: (selective_log_softmax(logits, ids), entropy_from_logits(logits)),
            "floor: one logsumexp": lambda logits=logits: [row.logsumexp(-1) for row in logits],
        }
        memory = ", ".join(f"{name} {peak_mebibytes(function):.0f}" for name, function in candidates.items())
        results = race(candidates, reference="hartley", rounds=(3, 15))
        name = str(dtype).removeprefix("torch.")
        show(f"token statistics {shape}, {name}", results, note=f"peak memory, MiB: {memory}")
        del logits


def gradients(quick: bool) -> None:
    shape = (2, 64, 32_000) if quick else (2, 128, 152_000)
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(shape, generator=generator)).requires_grad_()
    ids = torch.randint(shape[-1], shape[:2], generator=generator)

    def ours() -> torch.Tensor:
        stats = rl.token_statistics(logits, ids)
        return torch.autograd.grad(stats.log_probs.sum() + stats.entropy.sum(), logits)[0]

    def theirs() -> torch.Tensor:
        total = selective_log_softmax(logits, ids).sum() + entropy_from_logits(logits).sum()
        return torch.autograd.grad(total, logits)[0]

    memory = f"hartley {peak_mebibytes(ours):.0f}, trl {peak_mebibytes(theirs):.0f}"
    results = race({"hartley": ours, "trl, two calls": theirs}, reference="hartley", rounds=(3, 15))
    show(f"forward and backward {shape}, float32", results, note=f"peak memory, MiB: {memory}, the gradient included")


def overhead(quick: bool) -> None:
    """Preparing a batch and taking its loss and gradient, over plain DAPO; no model, so that nothing hides it."""
    answers, time = (128, 64) if quick else (512, 1024)
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(time) < torch.randint(1, time + 1, (answers,), generator=generator)[:, None]
    log_probs = -3 * torch.rand(answers, time, generator=generator)
    entropy = 2 * torch.rand(answers, time, generator=generator)
    correct = torch.rand(answers, generator=generator) < 0.5
    rollouts = rl.Rollouts(
        ids=torch.randint(1000, (answers, time), generator=generator),
        mask=mask,
        group=torch.arange(answers) // 8,
        rewards=correct.float(),
        correct=correct,
        log_probs=log_probs,
        entropy=entropy,
        fields={
            "end_think": torch.full((answers,), time // 2),
            "visual_uncertainty": entropy,
            "noisy": correct,
            "reference_log_probs": log_probs,
        },
    )
    current = (log_probs + 0.1 * torch.randn(answers, time, generator=generator)).requires_grad_()

    def step(recipe: rl.Recipe) -> None:
        prepared = recipe.prepare(rollouts)
        tokens = rl.Tokens(
            current, log_probs, entropy, prepared.advantages, prepared.mask, prepared.rollouts, entropy, log_probs
        )
        torch.autograd.grad(recipe.loss(tokens)[0], current)

    recipes = [rl.dapo(), rl.grpo(), rl.steer(), rl.steer(estimator="exact"), rl.pear(), rl.d3s(), rl.hapo()]
    recipes += [rl.ares(), rl.vogue(), rl.acereason(), rl.cure().at(0.0)]
    recipes[3] = replace(recipes[3], name="steer, exact")
    candidates = {recipe.name: lambda recipe=recipe: step(recipe) for recipe in recipes}
    show(f"a recipe's own work, no model, {answers} answers of {time}", race(candidates, reference="dapo"))


def main() -> None:
    options = arguments(__doc__ or "")
    statistics(options.quick)
    gradients(options.quick)
    overhead(options.quick)
    Console().print("Targets: no slower than TRL's two calls, at half of their peak memory or less.")


if __name__ == "__main__":
    main()
