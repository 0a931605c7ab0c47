"""CURE (2025): answers are continued once more from before their critical tokens, then plain DAPO takes over."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Literal

from hartley.papers._policies import LADDER, STRESS, THOUSANDS, compared, warm_groups
from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from torch import Tensor

    from hartley.labs.policy_gradient import PolicyLab
    from hartley.rl import CriticalTokens, Recipe, Rollouts, Staged

paper = Paper(
    slug="cure",
    title="CURE: Critical-Token-Guided Re-Concatenation for Entropy-Collapse Prevention",
    published=date(2025, 8, 14),
    authors=11,
    arxiv="2508.11016",
    repository="https://github.com/bytedance/CURE",
    room="rl",
    methods=["hartley.rl.branching", "hartley.rl.recipes"],
    topics=["policy optimisation", "entropy collapse", "branch rollouts"],
    lab="hartley.labs.policy_gradient:PolicyLab",
    summary="Restarts generation from inside the model's own answers, right before an uncertain token, and trains on "
    "both; later plain DAPO makes use of the entropy that was kept.",
    usage="from hartley.rl import cure\nfrom hartley.rl.trl import RecipeGRPOTrainer\n"
    "recipe = cure(exclude=frozenset({tokenizer.eos_token_id}))\n"
    "RecipeGRPOTrainer(model, reward_funcs=reward, args=args, train_dataset=data, recipe=recipe).train()",
)

_BRANCHES = 3


def _cuts(order: Literal["entropy", "random"] = "entropy", top_k: int = 3) -> CriticalTokens:
    """Of answers of 17 tokens the three most uncertain; the paper's 20 of 2600 would be all of them."""
    from hartley.labs.op_search import EOS
    from hartley.rl import CriticalTokens

    return CriticalTokens(_BRANCHES, top_k, order, frozenset({EOS}))


def _starts(batch: Rollouts, cuts: CriticalTokens, seed: int) -> Tensor:
    import torch

    return cuts(batch, torch.Generator().manual_seed(seed))


@paper.claim(
    "An answer's three most uncertain tokens are choices (operators, another attempt or the answer) more often than "
    "tokens taken at random, by 30 points",
    published="critical tokens are where the model decides between lines of thought (examples)",
    metric="share of cuts at a choice",
    unit="",
    better="higher",
    margin=0.3,
)
def cuts_at_choices(lab: PolicyLab, seed: int) -> Trial:
    import torch

    from hartley.labs.op_search import CHOICE, OPERATOR

    batch = warm_groups(lab, seed, 100)
    kinds = batch.fields["kinds"]
    choice = (kinds == OPERATOR) | (kinds == CHOICE)

    def share(cuts: CriticalTokens) -> float:
        return float(choice.gather(1, _starts(batch, cuts, seed)[:, None]).float().mean())

    starts = _starts(batch, _cuts(), seed)
    thinking = (starts <= batch.fields["end_think"]) | (batch.fields["end_think"] < 0)
    return Trial(
        share(_cuts()),
        {"random positions": share(_cuts("random"))},
        details={
            **{f"of the {k} most uncertain": share(_cuts(top_k=k)) for k in (5, 20)},
            "share of cuts while thinking": float(thinking.float().mean()),
            "mean entropy at a cut": float(batch.entropy.gather(1, starts[:, None]).mean()),
            "mean entropy": float(batch.entropy[batch.mask].mean()),
            "share of tokens that are choices": float(torch.where(batch.mask, choice, False).sum() / batch.mask.sum()),
        },
    )


@paper.claim(
    "An answer and its three continuations from a critical token are more often partly right and partly wrong, so that "
    "they teach something, than continuations from a random token, or from where another answer is cut, by 3 points",
    published="not given: the reason why branches help, namely that siblings differ where it matters",
    metric="share of answers whose outcome its continuations do not all share",
    unit="",
    better="higher",
    margin=0.03,
)
def siblings_differ(lab: PolicyLab, seed: int) -> Trial:
    import torch

    policy, prompts = lab.policy(), 60 if lab.quick else 200
    generator = torch.Generator().manual_seed(seed)
    problems = lab.draw(prompts, generator).repeat(lab.answers)
    group = torch.arange(len(problems))
    batch = lab.rollouts(policy, problems, group, generator)

    def siblings(starts: Tensor) -> tuple[list[float], float]:
        twigs = lab.rollouts(
            policy,
            problems.repeat(_BRANCHES),
            group.repeat_interleave(_BRANCHES),
            torch.Generator().manual_seed(seed),
            prefixes=batch.ids.repeat_interleave(_BRANCHES, 0),
            starts=starts.repeat_interleave(_BRANCHES),
        )
        right = batch.correct.long() + twigs.correct.view(-1, _BRANCHES).sum(1)
        mixed = ((right > 0) & (right <= _BRANCHES)).float()
        return mixed.view(prompts, -1).mean(1).tolist(), float(twigs.mask.sum() / len(twigs.ids))

    starts = _starts(batch, _cuts(), seed)
    critical, length = siblings(starts)
    anywhere, random_length = siblings(_starts(batch, _cuts("random"), seed))
    swapped, swapped_length = siblings(starts.roll(1).minimum(batch.lengths - 2))  # the same places, not the end
    whole, whole_length = siblings(torch.zeros_like(group))
    return Trial(
        critical,
        {"random positions": anywhere, "positions of another answer": swapped},
        details={
            "from the prompt": sum(whole) / prompts,
            "tokens of a continuation": length,
            "tokens from a random position": random_length,
            "tokens from another answer's position": swapped_length,
            "tokens from the prompt": whole_length,
        },
    )


def _staged(order: Literal["entropy", "random"] = "entropy") -> Staged:
    from hartley.labs.op_search import EOS
    from hartley.rl import cure

    recipe = cure(branches=_BRANCHES, top_k=3, exclude=frozenset({EOS}), rounds=3)
    first, second = recipe.recipes
    return replace(recipe, recipes=(first.with_(f"cure {order}", branching=_cuts(order)), second))


@paper.claim(
    "At a learning rate under which GRPO collapses, CURE's pass@16 is 3 points above that of GRPO, DAPO with and "
    "without a bonus for entropy, and of branches at random positions, at equally many generated tokens",
    published="entropy at the end 0.76 after stage 1 against 0.42 for DAPO and 0.03 for GRPO (Qwen2.5-Math-7B)",
    metric="pass@16",
    unit="",
    better="higher",
    margin=0.03,
    seeds=(1, 3),
    axes=(THOUSANDS, "pass@16"),
)
def withstands_collapse(lab: PolicyLab, seed: int) -> Trial:
    recipes = {"CURE": _staged(), **lab.baselines, "random positions": _staged("random")}
    return compared(lab, recipes, seed, k=16, rates=STRESS, curve="pass@16")


@paper.claim(
    "With the learning rate of each tuned, CURE has a higher pass@1 than GRPO, DAPO with and without a bonus for "
    "entropy, branches at random positions, and its first stage alone, at equally many generated tokens",
    published="average of six sets 54.3 after both stages, 52.1 after the first; Clip-Cov 50.9 (Qwen2.5-Math-7B)",
    metric="pass@1",
    unit="",
    better="higher",
    margin=0.0,
    seeds=(1, 3),
    axes=(THOUSANDS, "entropy, nats"),
)
def accuracy(lab: PolicyLab, seed: int) -> Trial:
    recipes: dict[str, Recipe | Staged | tuple[Recipe, ...]] = {
        "CURE": _staged(),
        **lab.baselines,
        "random positions": _staged("random"),
        "first stage alone": _staged().recipes[0],
    }
    return compared(lab, recipes, seed, k=1, rates=LADDER, curve="entropy", tokens=150_000)
