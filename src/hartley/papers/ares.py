"""ARES (2025): brief thinking for easy prompts, long for hard ones, from counts of high-entropy windows."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from hartley.papers._policies import THOUSANDS
from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.policy_gradient import PolicyLab

paper = Paper(
    slug="ares",
    title="ARES: Multimodal Adaptive Reasoning via Difficulty-Aware Token-Level Entropy Shaping",
    published=date(2025, 10, 9),
    arxiv="2510.08457",
    repository="https://github.com/shawn0728/ARES",
    room="rl",
    methods=["hartley.rl.window_entropy", "hartley.rl.recipes"],
    topics=["policy optimisation", "reward", "reasoning length", "difficulty"],
    lab="hartley.labs.policy_gradient:PolicyLab",
    summary="Counts the windows of high entropy in an answer and rewards few of them where a prompt is easy, enough "
    "where it is hard, with a budget of divergence for each level of difficulty.",
    usage="from hartley.rl import ares\n"
    "from hartley.rl.trl import RecipeGRPOTrainer\n"
    "words = lambda ids, mask: torch.isin(ids, reasoning_words)   # however, wait, ...\n"
    "RecipeGRPOTrainer(model, reward, args=config, train_dataset=data,\n"
    '                  recipe=ares(words=True), fields={"triggers": words})',
)


def _shaped(**options: Any) -> Any:
    """ARES' reward for answers of 11 to 25 tokens: windows that start at a token, a threshold that keeps up."""
    from hartley.rl import HierarchicalEntropyReward

    return HierarchicalEntropyReward(align="starting", factor=0.7, decay=0.9, alpha_rate=0.0, **options)


@paper.claim(
    "Windows of high entropy tell hard prompts from easy ones: the answers to hard prompts hold at least 0.1 more of "
    "them",
    published="hard problems need more high-window-entropy tokens (figure)",
    metric="windows of high entropy an answer, mean over prompts",
    unit="",
    better="higher",
    margin=0.1,
    seeds=(4, 8),
)
def windows_follow_difficulty(lab: PolicyLab, seed: int) -> Trial:
    import torch

    from hartley.rl import count_windows, entropy_threshold, window_entropy

    generator = torch.Generator().manual_seed(seed)
    problems = lab.draw(300, generator)
    group = torch.arange(300).repeat_interleave(16)
    batch = lab.rollouts(lab.policy(), problems.repeat(16), group, generator)
    windows, valid = window_entropy(batch.entropy, batch.mask, 4, "starting")
    counts = count_windows(windows, valid, 0.7 * entropy_threshold(windows, valid)).view(-1, 16).mean(1)
    easy, hard = (float(counts[problems.difficulty == k].mean()) for k in (0, 2))
    return Trial(hard, {"easy prompts": easy}, details={"medium": float(counts[problems.difficulty == 1].mean())})


@paper.claim(
    "Trained with ARES, hard prompts get longer answers relative to easy ones: the gap in length exceeds that of GRPO, "
    "of DAPO and of GRPO with the same KL term by at least 0.3 tokens at equal generated tokens",
    published="about 4050 tokens on average against 5670 for GRPO and 5200 for DAPO; shorter on easy sets, longer on "
    "hard ones",
    metric="length on hard prompts less length on easy ones",
    unit="tokens",
    better="higher",
    margin=0.3,
    seeds=(1, 3),
    axes=(THOUSANDS, "mean length of a response, tokens"),
)
def adapts_length(lab: PolicyLab, seed: int) -> Trial:
    from hartley.rl import ares, dapo, grpo

    recipes: dict[str, Any] = {
        "ares": ares().with_("ares", shape_reward=_shaped()),
        "GRPO": grpo(),
        "DAPO": dapo(rounds=3),
        "GRPO with KL": grpo(kl=0.01),
    }
    runs = lab.compare(recipes, seed, tokens=60_000 if lab.quick else 400_000, rates=(3e-4,))
    gaps: dict[str, list[float]] = {}
    details: dict[str, float] = {}
    for name, run in runs.items():
        done = run.evaluation
        easy, hard = (done.lengths[done.difficulty == k] for k in (0, 2))
        gaps[name] = (hard - easy.mean()).tolist()  # one number a hard prompt, so that methods are paired
        details |= {f"easy, {name}": float(easy.mean()), f"hard, {name}": float(hard.mean())}
        details[f"pass@1, {name}"] = float(done.pass_at(1).mean())
    return Trial(gaps.pop("ares"), gaps, {n: r.curve("length") for n, r in runs.items()}, details)


@paper.claim(
    "It costs no accuracy: pass@1 is at most 0.03 below the better of GRPO and GRPO with the same KL term",
    published="accuracy 0.79 to 0.80 with both parts, 0.78 without KL, 0.77 without the reward, 0.74 DAPO, 0.65 GRPO "
    "(training curves)",
    metric="pass@1",
    unit="",
    better="higher",
    margin=-0.03,
    seeds=(1, 3),
    axes=(THOUSANDS, "reward"),
)
def keeps_accuracy(lab: PolicyLab, seed: int) -> Trial:
    from hartley.rl import ares, grpo

    recipes: dict[str, Any] = {
        "released form": ares().with_("released", shape_reward=_shaped()),
        "paper's form": ares().with_("paper", shape_reward=_shaped(form="paper")),
        "GRPO": grpo(),
        "GRPO with KL": grpo(kl=0.01),
    }
    runs = lab.compare(recipes, seed, tokens=60_000 if lab.quick else 400_000, rates=(3e-4,))
    right = {name: run.evaluation.pass_at(1).tolist() for name, run in runs.items()}
    other = right.pop("paper's form")
    return Trial(
        right.pop("released form"),
        right,
        {n: r.curve("reward") for n, r in runs.items()},
        {"pass@1, paper's form": sum(other) / len(other)},
    )
