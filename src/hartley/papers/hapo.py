"""HAPO (2025): temperature, advantage and clip range of every token by its own entropy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from hartley.papers._policies import LADDER, STRESS, THOUSANDS, compared, warm_groups
from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from torch import Tensor

    from hartley.labs.policy_gradient import PolicyLab
    from hartley.rl import Recipe, Rollouts

paper = Paper(
    slug="hapo",
    title="From Uniform to Heterogeneous: Tailoring Policy Optimization to Every Token's Nature",
    published=date(2025, 9, 20),
    authors=7,
    arxiv="2509.16591",
    repository="https://github.com/starriver030515/HAPO",
    room="rl",
    methods=["hartley.rl.heterogeneous", "hartley.rl.recipes"],
    topics=["policy optimisation", "token entropy", "exploration"],
    lab="hartley.labs.policy_gradient:PolicyLab",
    summary="Makes sampling temperature, advantage and clip range smooth functions of each token's entropy, so that "
    "the few tokens that decide are explored and the many that follow are left alone.",
    usage="from hartley.rl import hapo\nfrom hartley.rl.trl import RecipeGRPOTrainer\n"
    "RecipeGRPOTrainer(model, reward_funcs=reward, args=args, train_dataset=data, recipe=hapo()).train()",
)


@dataclass(frozen=True)
class ForkingTokens:
    """Trains on the most uncertain tokens alone: the plain form of the same idea (Wang et al. 2025, "80/20")."""

    share: float = 0.2

    needs = ("entropy",)

    def __call__(self, rollouts: Rollouts, advantages: Tensor) -> Tensor:
        import torch

        from hartley.rl import token_keep_mask

        return token_keep_mask(torch.ones_like(advantages), rollouts.entropy, rollouts.mask, self.share)


@paper.claim(
    "Where the policy chooses (operators, another attempt or the answer) HAPO weighs the first update by 0.2 more than "
    "where it only follows (values, copied answers); the released code, with its sign error, does not",
    published="tokens of low entropy are damped, those of high entropy are not (figure); the code never gets there",
    metric="mean factor on the advantage, choices less consequences",
    unit="",
    better="higher",
    margin=0.2,
)
def weighs_choices(lab: PolicyLab, seed: int) -> Trial:
    import torch

    from hartley.labs.op_search import ANSWER, CHOICE, OPERATOR, VALUE
    from hartley.rl import Redistribution, TokenGroupAdvantage, Tokens, normalised_entropy

    batch = warm_groups(lab, seed, 100)
    kinds = torch.where(batch.mask, batch.fields["kinds"], -1)
    tokens = Tokens(
        batch.log_probs, batch.log_probs, batch.entropy, TokenGroupAdvantage()(batch), batch.mask, batch
    )  # before the first update: all ratios are 1

    def difference(factor: Tensor) -> float:
        means = [factor[(kinds == a) | (kinds == b)].mean() for a, b in ((OPERATOR, CHOICE), (VALUE, ANSWER))]
        return float(means[0] - means[1])

    h = normalised_entropy(batch.entropy, batch.mask)
    forks = ForkingTokens()(batch, tokens.advantages).float()
    return Trial(
        difference(Redistribution()(tokens)),
        {"released sign": difference(Redistribution(released_sign=True)(tokens))},
        details={
            "mean h": float(h[batch.mask].mean()),
            "share of tokens with h above 0": float((h[batch.mask] > 0).float().mean()),
            "difference, forking tokens": difference(forks),
        },
    )


def _recipes(lab: PolicyLab) -> dict[str, Recipe | tuple[Recipe, ...]]:
    from hartley.rl import dapo, hapo

    return {
        "HAPO": hapo(rounds=3),
        **lab.baselines,
        "DAPO, clip 0.2": dapo(rounds=3).with_("symmetric", clip_range=(0.2, 0.2)),
        "released sign": hapo(rounds=3, released_sign=True),
        "forking tokens": dapo(rounds=3).with_("forking", select=ForkingTokens()),
    }


@paper.claim(
    "At a learning rate under which GRPO collapses, HAPO's pass@16 is 3 points above that of GRPO, DAPO with and "
    "without a bonus for entropy, its release with the wrong sign, and training on forking tokens alone, at equally "
    "many generated tokens",
    published="higher entropy than DAPO throughout (curves, Qwen2.5-Math-7B)",
    metric="pass@16",
    unit="",
    better="higher",
    margin=0.03,
    seeds=(1, 3),
    axes=(THOUSANDS, "pass@16"),
)
def withstands_collapse(lab: PolicyLab, seed: int) -> Trial:
    return compared(lab, _recipes(lab), seed, k=16, rates=STRESS, curve="pass@16", tokens=200_000)


@paper.claim(
    "With the learning rate of each tuned, HAPO has a higher pass@1 than GRPO, DAPO with and without a bonus for "
    "entropy, its release with the wrong sign, and training on forking tokens alone, at equally many generated tokens",
    published="average of six sets 50.04 against 46.97 for DAPO (Qwen2.5-Math-7B); forking tokens below it",
    metric="pass@1",
    unit="",
    better="higher",
    margin=0.0,
    seeds=(1, 3),
    axes=(THOUSANDS, "entropy, nats"),
)
def accuracy(lab: PolicyLab, seed: int) -> Trial:
    return compared(lab, _recipes(lab), seed, k=1, rates=LADDER, curve="entropy", tokens=150_000)


@paper.claim(
    "Each part matters: under the same stress, with four updates a step so that ratios move, pass@16 falls without the "
    "temperature, without the advantage over tokens, without the clip range or without the redistribution",
    published="each of the four parts adds to the average accuracy",
    metric="pass@16",
    unit="",
    better="higher",
    margin=0.0,
    seeds=(1, 3),
    axes=(THOUSANDS, "pass@16"),
)
def every_part(lab: PolicyLab, seed: int) -> Trial:
    from hartley.rl import GroupAdvantage, hapo

    recipes = {
        "HAPO": hapo(rounds=3),
        "without temperature": hapo(tau=0, rounds=3),
        "without token advantage": hapo(rounds=3).with_(advantages=GroupAdvantage()),
        "without clip range": hapo(alpha=0, rounds=3),
        "without redistribution": hapo(beta=0, rounds=3),
    }
    return compared(replace(lab, minibatches=4), recipes, seed, k=16, rates=STRESS, curve="pass@16")
