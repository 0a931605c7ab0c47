"""D3S (2025): updates on the answers whose advantages vary most, and on their most uncertain tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from hartley.papers._policies import LADDER, THOUSANDS, compared, warm_groups
from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from torch import Tensor

    from hartley.labs.policy_gradient import PolicyLab
    from hartley.rl import DualDownSampling, Recipe, Rollouts

paper = Paper(
    slug="d3s",
    title="Learning More with Less: A Dynamic Dual-Level Down-Sampling Framework for Efficient Policy Optimization",
    published=date(2025, 9, 26),
    authors=8,
    arxiv="2509.22115",
    room="rl",
    methods=["hartley.rl.down_sampling", "hartley.rl.recipes"],
    topics=["policy optimisation", "data selection", "efficiency"],
    lab="hartley.labs.policy_gradient:PolicyLab",
    summary="Saves updates: trains on the answers whose advantages vary most, within a group and across groups, and in "
    "them on the tokens with the largest |A| H; the selection is relaxed as training goes on.",
    usage="from hartley.rl import d3s\nfrom hartley.rl.trl import RecipeGRPOTrainer\n"
    "RecipeGRPOTrainer(model, reward_funcs=reward, args=args, train_dataset=data, recipe=d3s()).train()",
)


@dataclass(frozen=True)
class RandomSelection:
    """As many answers and tokens as another selection keeps, at random.

    Parameters
    ----------
    informative : draw the answers from those with a signal, where there are enough.
    """

    selection: DualDownSampling
    informative: bool = False

    needs = ("entropy",)

    def __call__(self, rollouts: Rollouts, advantages: Tensor) -> Tensor:
        import torch

        kept = self.selection(rollouts, advantages)
        # Stages draw no random numbers of their own: the choice is a function of the batch.
        generator = torch.Generator().manual_seed(int(rollouts.group[0]))
        score = torch.rand(len(kept), generator=generator)
        if self.informative:
            score += (advantages != 0).any(1)
        rows = torch.zeros(len(kept), dtype=torch.bool)
        rows[score.topk(int(kept.any(1).sum())).indices] = True
        pool = (rollouts.mask & rows[:, None]).flatten().nonzero()[:, 0]
        chosen = pool[torch.randperm(len(pool), generator=generator)[: int(kept.sum())]]
        return torch.zeros(kept.numel(), dtype=torch.bool).index_fill(0, chosen, True).view_as(kept)


@paper.claim(
    "Over the course of its schedule at least 10 points more of the answers trained on carry a signal than of all "
    "answers, of as many random ones, and of the most varied ones of each group",
    published="useful samples from about 70% to nearly 100%",
    metric="share of trained answers with an advantage that is not zero",
    unit="",
    better="higher",
    margin=0.1,
)
def useful_answers(lab: PolicyLab, seed: int) -> Trial:
    from hartley.rl import DualDownSampling, grpo

    batch, dynamic = warm_groups(lab, seed, 100), DualDownSampling()
    selections = {
        "D3S": dynamic,
        "random answers": RandomSelection(dynamic),
        "most varied of each group": DualDownSampling(tokens=(1.0, 1.0), across=False),
    }
    found = {}
    for name, selection in selections.items():
        shares = []
        for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
            prepared = grpo().with_(select=selection).prepare(replace(batch, progress=progress))
            trained = prepared.mask.any(1)
            shares.append(float((prepared.advantages != 0).any(1)[trained].float().mean()))
        found[name] = sum(shares) / len(shares)
    plain = grpo().prepare(batch)
    found["all answers"] = float((plain.advantages != 0).any(1).float().mean())
    return Trial(found.pop("D3S"), found)


@paper.claim(
    "At the start of its schedule, where a twentieth of the tokens is kept, the gradient of D3S points closer to the "
    "true one than that of as many random answers and tokens, also if the answers are drawn from those with a signal",
    published="more variance of the advantages raises a bound on the norm of the gradient; no word on its direction",
    metric="cosine with the gradient of 3200 answers",
    unit="",
    better="higher",
    margin=0.02,
)
def gradient_direction(lab: PolicyLab, seed: int) -> Trial:
    import torch

    from hartley.labs.policy_training import token_logits
    from hartley.rl import DualDownSampling, Tokens, grpo, token_statistics

    policy, batches = lab.policy(), 16 if lab.quick else 40

    def gradient(recipe: Recipe, batch: Rollouts) -> Tensor:
        prepared = recipe.prepare(batch)
        now = token_statistics(token_logits(policy, batch), batch.ids)
        tokens = Tokens(now.log_probs, batch.log_probs, now.entropy, prepared.advantages, prepared.mask, batch)
        loss, _ = recipe.loss(tokens)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(policy.parameters()))])

    true = gradient(grpo(), warm_groups(lab, seed, 400))
    selection = DualDownSampling()
    recipes = {
        "D3S": grpo().with_(select=selection),
        "random": grpo().with_(select=RandomSelection(selection)),
        "random, with a signal": grpo().with_(select=RandomSelection(selection, informative=True)),
        "all tokens": grpo(),
    }
    found: dict[str, list[float]] = {name: [] for name in recipes}
    for k in range(batches):
        batch = warm_groups(lab, 1000 * (seed + 1) + k, lab.prompts)
        for name, recipe in recipes.items():
            found[name].append(float(torch.cosine_similarity(gradient(recipe, batch), true, dim=0)))
    whole = found.pop("all tokens")
    return Trial(found.pop("D3S"), found, details={"all tokens": sum(whole) / batches})


def _recipes(lab: PolicyLab) -> dict[str, Recipe | tuple[Recipe, ...]]:
    """Half of each group by variance is PODS (Xu et al. 2025); static shares are the middle of the schedule."""
    from hartley.rl import DualDownSampling, d3s, grpo

    per_group = DualDownSampling((0.5, 0.5), (1.0, 1.0), across=False)
    return {
        "D3S": d3s(),
        **lab.baselines,
        "random selection": grpo().with_("random", select=RandomSelection(DualDownSampling())),
        "PODS": grpo().with_("PODS", select=per_group),
        "static shares": grpo().with_("static", select=DualDownSampling((0.5, 0.5), (0.6, 0.6))),
    }


@paper.claim(
    "With the learning rate of each tuned, D3S has a pass@1 2 points above that of GRPO, DAPO with and without a bonus "
    "for entropy, PODS, static shares, and random selection of the same size, at equally many updated tokens",
    published="2.04 times as fast as GRPO to equal accuracy, with less than 20% of the tokens (Qwen2.5-Math-7B)",
    metric="pass@1",
    unit="",
    better="higher",
    margin=0.02,
    seeds=(1, 3),
    axes=("thousands of updated tokens", "entropy, nats"),
)
def equal_updates(lab: PolicyLab, seed: int) -> Trial:
    """GRPO takes a sixth of the steps for as many updated tokens, so that the ladder reaches higher."""
    rates = (3e-4, 1e-3)
    return compared(lab, _recipes(lab), seed, k=1, rates=rates, curve="entropy", tokens=60_000, counted="updated")


@paper.claim(
    "With the learning rate of each tuned, D3S has a higher pass@1 than GRPO, DAPO with and without a bonus for "
    "entropy, PODS, static shares, and random selection of the same size, at equally many generated tokens",
    published="average of seven sets 34.3 against 29.8 for GRPO (Qwen2.5-Math-7B); static shares 31.3",
    metric="pass@1",
    unit="",
    better="higher",
    margin=0.0,
    seeds=(1, 3),
    axes=(THOUSANDS, "entropy, nats"),
)
def equal_samples(lab: PolicyLab, seed: int) -> Trial:
    return compared(lab, _recipes(lab), seed, k=1, rates=LADDER, curve="entropy", tokens=150_000)
