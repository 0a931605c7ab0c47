"""PEAR (2025): shorter reasoning from a reward that dislikes uncertain thinking."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from hartley.papers._policies import THOUSANDS, compared, warm_groups
from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.policy_gradient import PolicyLab

paper = Paper(
    slug="pear",
    title="PEAR: Phase Entropy Aware Reward for Efficient Reasoning",
    published=date(2025, 10, 9),
    arxiv="2510.08026",
    repository="https://github.com/iNLP-Lab/PEAR",
    room="rl",
    methods=["hartley.rl.phase_entropy", "hartley.rl.recipes"],
    topics=["policy optimisation", "reward", "reasoning length"],
    lab="hartley.labs.policy_gradient:PolicyLab",
    summary="Shortens chains of thought without a target length: a right answer earns less the more uncertain its "
    "thinking was beyond what its answer excuses.",
    usage="from hartley.rl import pear\n"
    "from hartley.rl.trl import RecipeGRPOTrainer\n"
    'RecipeGRPOTrainer(model, reward, args=config, train_dataset=data, recipe=pear(), end_think="</think>")',
)


@dataclass(frozen=True)
class LengthPenalty:
    """The cheap competitor: a right answer of T tokens earns 1 - weight T / longest."""

    weight: float
    longest: int

    def __call__(self, rollouts: Any) -> Any:
        return rollouts.rewards * (1 - self.weight * rollouts.lengths / self.longest)


@dataclass(frozen=True)
class ShuffledPenalty:
    """The control: PEAR's penalties, handed to other right answers of the batch than those that incurred them."""

    needs = ("entropy", "end_think")

    def __call__(self, rollouts: Any) -> Any:
        import torch

        from hartley.rl import PhaseEntropyReward

        reward = PhaseEntropyReward()(rollouts)
        right = rollouts.correct.nonzero().flatten()
        # Seeded by the answers themselves, so that a run repeats itself.
        generator = torch.Generator().manual_seed(int(rollouts.ids.sum()))
        reward[right] = reward[right[torch.randperm(len(right), generator=generator)]]
        return reward


@paper.claim(
    "Long thinking is uncertain thinking: among answers to one prompt, mean entropy while thinking and length have a "
    "rank correlation of at least 0.2",
    published="redundant steps carry high entropy; the lowest 60 to 80 % of thinking tokens suffice (Qwen3-4B)",
    metric="rank correlation within prompts",
    unit="",
    better="higher",
    margin=0.2,
    seeds=(2, 5),
)
def premise(lab: PolicyLab, seed: int) -> Trial:
    from scipy.stats import spearmanr

    from hartley.rl import phase_entropy

    batch = warm_groups(lab, seed, 100)
    think, answer = phase_entropy(batch.entropy, batch.mask, batch.fields["end_think"])
    lengths = batch.lengths.double()
    found = []
    for k in range(100):
        rows = batch.group == k
        if lengths[rows].min() < lengths[rows].max():
            found.append(float(spearmanr(think[rows], lengths[rows]).statistic))
    return Trial(
        found,
        {"no correlation": [0.0] * len(found)},
        details={"thinking": float(think.mean()), "answering": float(answer.mean())},
    )


def _recipes(lab: PolicyLab) -> dict[str, Any]:
    from hartley.labs.op_search import RESPONSE
    from hartley.rl import grpo, pear

    weights = (0.5,) if lab.quick else (0.25, 0.5, 1.0)
    return {
        "pear": pear(),
        "GRPO": grpo(),
        "length penalty": tuple(
            grpo().with_(f"length penalty {w}", shape_reward=LengthPenalty(w, RESPONSE)) for w in weights
        ),
        "shuffled penalties": grpo().with_("shuffled", shape_reward=ShuffledPenalty()),
    }


@paper.claim(
    "At equal generated tokens PEAR's answers are at least a token shorter than those of GRPO, of a tuned length "
    "penalty and of shuffled penalties",
    published="32 to 57 % fewer tokens than the model before, at the same accuracy (three models, six sets)",
    metric="mean length of a response",
    unit="tokens",
    better="lower",
    margin=1.0,
    seeds=(1, 3),
    axes=(THOUSANDS, "mean length of a response, tokens"),
)
def shorter(lab: PolicyLab, seed: int) -> Trial:
    runs = lab.compare(_recipes(lab), seed, tokens=60_000 if lab.quick else 400_000, rates=(3e-4,))
    lengths = {name: run.evaluation.lengths.tolist() for name, run in runs.items()}
    details = {f"pass@1, {name}": float(run.evaluation.pass_at(1).mean()) for name, run in runs.items()}
    return Trial(lengths.pop("pear"), lengths, {n: r.curve("length") for n, r in runs.items()}, details)


@paper.claim(
    "It costs no breadth: pass@16 is at most 0.02 below that of GRPO at equal generated tokens",
    published="accuracy within 0.6 points of the model before; pass@k not reported",
    metric="pass@16",
    unit="",
    better="higher",
    margin=-0.02,
    seeds=(1, 3),
    axes=(THOUSANDS, "entropy of the rollouts, nats"),
)
def keeps_breadth(lab: PolicyLab, seed: int) -> Trial:
    from hartley.rl import grpo, pear

    return compared(
        lab, {"pear": pear(), "GRPO": grpo()}, seed, k=16, rates=(3e-4, 1e-3), curve="entropy", tokens=480_000
    )
