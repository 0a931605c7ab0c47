"""What the papers on policy optimisation share: recipes trained alike, and groups of answers of the warm start.

A claim names a method and its baselines; all are trained from the same start for as many generated tokens, and the best
of the same learning rates is taken of each. Under `STRESS`, about three times what this policy bears, plain GRPO
collapses within the budget: methods against collapse are tried there. `LADDER` holds what trains well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hartley.papers.base import Trial

if TYPE_CHECKING:
    from hartley.labs.policy_gradient import PolicyLab
    from hartley.labs.policy_training import Counted
    from hartley.rl import Recipe, Rollouts, Staged

STRESS = (1e-3,)
LADDER = (3e-4, 1e-4)
THOUSANDS = "thousands of generated tokens"


def compared(
    lab: PolicyLab,
    recipes: Mapping[str, Recipe | Staged | tuple[Recipe | Staged, ...]],
    seed: int,
    *,
    k: int,
    rates: Sequence[float],
    curve: str,
    tokens: int = 240_000,
    counted: Counted = "generated",
) -> Trial:
    """Pass@k on the test prompts, paired by prompt: the first recipe is the method, the others are its baselines.

    Parameters
    ----------
    rates : the ladder; learning rates, and recipes that share a name, are chosen by pass@k on prompts of their own.
    curve : "entropy" or "pass@k", drawn over the tokens that count.
    tokens, counted : the budget of each run; a sixth of it in quick mode, with the first learning rate of the ladder.
    """
    tokens = tokens // 6 if lab.quick else tokens
    every = 0 if lab.quick or not curve.startswith("pass@") else 25
    runs = lab.compare(
        recipes,
        seed,
        tokens=tokens,
        counted=counted,
        rates=rates[:1] if lab.quick else rates,
        every=every,
        score=lambda e: float(e.pass_at(k).mean()),
    )
    values = {name: run.evaluation.pass_at(k).tolist() for name, run in runs.items()}
    other = 1 if k > 1 else 16
    details = {}
    for name, run in runs.items():
        details[f"entropy, {name}"] = run.evaluation.entropy
        details[f"pass@{other}, {name}"] = float(run.evaluation.pass_at(other).mean())
        details[f"tokens generated, {name}"] = float(run.generated)
        details[f"tokens updated, {name}"] = float(run.updated)
        if len(rates) > 1:
            details[f"learning rate, {name}"] = run.rate
    method = next(iter(recipes))
    return Trial(
        method=values.pop(method),
        baselines=values,
        curves={name: run.curve(curve, counted) for name, run in runs.items()} if every or curve == "entropy" else {},
        details=details,
    )


def warm_groups(lab: PolicyLab, seed: int, prompts: int) -> Rollouts:
    """`lab.answers` answers of the warm start to each of so many fresh prompts."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    problems = lab.draw(prompts, generator).repeat(lab.answers)
    group = torch.arange(prompts).repeat_interleave(lab.answers)
    return lab.rollouts(lab.policy(), problems, group, generator)
