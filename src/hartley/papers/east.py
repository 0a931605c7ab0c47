"""Rahn, D'Oro, Bellemare (2024): one steering vector makes a language model that plays a bandit explore."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.bandits import BanditLab
    from hartley.labs.token_bandits import TokenBanditLab

paper = Paper(
    slug="east",
    title="Controlling Large Language Model Agents with Entropic Activation Steering",
    published=date(2024, 6, 1),
    authors=3,
    arxiv="2406.00244",
    room="reasoning",
    methods=["hartley.reasoning.activation_steering"],
    topics=["activation steering", "agents", "exploration"],
    lab="hartley.labs.bandits:BanditLab",
    summary="An agent that commits to one action too early is made to explore by adding one vector, the "
    "entropy-weighted mean of its own activations, to one block while it answers.",
    usage="from hartley.reasoning import beta_for, steering, steering_vector\n"
    "u = steering_vector(activations, entropies)\n"
    "with steering(model, 13, u, beta_for(0.4, u, activations)):\n"
    "    model.generate(**inputs)",
)

_METRIC = "action entropy, mean over prompts"


@paper.claim(
    "At equal length the vector raises a language model's action entropy by 0.05 nats more than nothing and than "
    "itself with shuffled entries",
    published="entropy well above what temperature reaches; a shuffled vector has no effect (Mixtral-8x7B, curves)",
    metric=_METRIC,
    unit="nats",
    better="higher",
    margin=0.05,
    axes=("relative strength", "action entropy, nats"),
)
def raises_entropy(lab: BanditLab, seed: int) -> Trial:
    agent = lab.agent(seed)
    u, shuffled = agent.vector(lab.layer), agent.shuffled(lab.layer)
    base, steered = agent.effect(lab.layer, u, 0.0), agent.effect(lab.layer, u, lab.strength)
    control = agent.mean_effect(lab.layer, shuffled, lab.strength)
    backward = agent.effect(lab.layer, u, -lab.strength)
    means = [float(e.entropy.mean()) for e in (backward, base, steered, control)]
    return Trial(
        method=steered.entropy.tolist(),
        baselines={"unsteered": base.entropy.tolist(), "shuffled vector": control.entropy.tolist()},
        curves={
            "steered": ([-lab.strength, 0.0, lab.strength], means[:3]),
            "shuffled": ([0.0, lab.strength], [means[1], means[3]]),
        },
        details={"action mass": float(steered.mass.mean()), "action mass, unsteered": float(base.mass.mean())},
    )


@paper.claim(
    "Steering keeps the answers valid: the probability of an action token falls by 0.1 at most",
    published="valid up to a strength at which entropy is 0.4 to 0.5 nats",
    metric="probability that the next token is an action",
    unit="",
    better="higher",
    margin=-0.1,
)
def stays_valid(lab: BanditLab, seed: int) -> Trial:
    agent = lab.agent(seed)
    u = agent.vector(lab.layer)
    steered, base = (agent.effect(lab.layer, u, s).mass.tolist() for s in (lab.strength, 0.0))
    return Trial(steered, {"unsteered": base})


@paper.claim(
    "With the sign reversed the vector makes the agent exploit: action entropy falls by 0.02 nats",
    published="negative strengths lower the entropy",
    metric=_METRIC,
    unit="nats",
    better="lower",
    margin=0.02,
)
def reversed_sign_exploits(lab: BanditLab, seed: int) -> Trial:
    agent = lab.agent(seed)
    u = agent.vector(lab.layer)
    steered, base = (agent.effect(lab.layer, u, s).entropy.tolist() for s in (-lab.strength, 0.0))
    return Trial(steered, {"unsteered": base})


@paper.claim(
    "Centring within the run is essential: without it, at equal length, the entropy is 0.02 nats lower",
    published="centring within the run is essential",
    metric=_METRIC,
    unit="nats",
    better="higher",
    margin=0.02,
)
def centring_matters(lab: BanditLab, seed: int) -> Trial:
    agent = lab.agent(seed)
    steered, other = (
        agent.effect(lab.layer, agent.vector(lab.layer, centred=c), lab.strength).entropy.tolist()
        for c in (True, False)
    )
    return Trial(steered, {"not centred": other})


@paper.claim(
    "At equal length it beats the plain contrast of uncertain and certain prompts by 0.02 nats",
    published="not in the paper: the usual contrastive vector, split at the median entropy",
    metric=_METRIC,
    unit="nats",
    better="higher",
    margin=0.02,
)
def against_contrast(lab: BanditLab, seed: int) -> Trial:
    agent = lab.agent(seed)
    vectors = agent.vector(lab.layer), agent.contrast(lab.layer)
    steered, other = (agent.effect(lab.layer, v, lab.strength).entropy.tolist() for v in vectors)
    return Trial(steered, {"contrast": other})


@paper.claim(
    "A middle block works and others do not: the entropy is 0.05 nats above that of an early and of a late block",
    published="block 16 of 32 works, early and late ones do not",
    metric=_METRIC,
    unit="nats",
    better="higher",
    margin=0.05,
)
def middle_block(lab: BanditLab, seed: int) -> Trial:
    from hartley.reasoning import decoder_blocks

    agent = lab.agent(seed)
    blocks = len(decoder_blocks(agent.model))
    layers = {"early block": blocks // 10, "late block": blocks - blocks // 10}
    entropies = {
        name: agent.effect(layer, agent.vector(layer), lab.strength).entropy.tolist()
        for name, layer in {"middle block": lab.layer, **layers}.items()
    }
    return Trial(entropies.pop("middle block"), entropies)


_SCRATCH = "hartley.labs.token_bandits:TokenBanditLab"


@paper.claim(
    "In a small agent trained from scratch as well, the vector raises action entropy by 0.03 nats more than nothing "
    "and than itself with shuffled entries",
    published="entropy well above what temperature reaches; a shuffled vector has no effect (Mixtral-8x7B, curves)",
    metric="action entropy, mean over games",
    unit="nats",
    better="higher",
    margin=0.03,
    lab=_SCRATCH,
    axes=("step", "action entropy, nats"),
)
def raises_entropy_of_a_small_agent(lab: TokenBanditLab, seed: int) -> Trial:
    player = lab.player(seed)
    runs = {
        "steered": player.steered(lab.strength),
        "unsteered": player.steered(0.0),
        "shuffled vector": player.steered(lab.strength, shuffled=True),
        "reversed sign": player.steered(-lab.strength),
    }
    steps = list(range(1, runs["steered"].entropies.shape[1] + 1))
    return Trial(
        method=runs["steered"].entropies.mean(1).tolist(),
        baselines={k: runs[k].entropies.mean(1).tolist() for k in ("unsteered", "shuffled vector")},
        curves={name: (steps, run.entropies.mean(0).tolist()) for name, run in runs.items()},
        details={"action mass": float(runs["steered"].mass.mean())},
    )


@paper.claim(
    "In that agent the reversed sign lowers action entropy by 0.03 nats",
    published="negative strengths lower the entropy",
    metric="action entropy, mean over games",
    unit="nats",
    better="lower",
    margin=0.03,
    lab=_SCRATCH,
)
def reversed_sign_in_a_small_agent(lab: TokenBanditLab, seed: int) -> Trial:
    player = lab.player(seed)
    backward, base = (player.steered(s).entropies.mean(1).tolist() for s in (-lab.strength, 0.0))
    return Trial(backward, {"unsteered": base})


@paper.claim(
    "Exploring more pays: that agent's regret over twelve steps is lower when it is steered",
    published="not in the paper, which reports entropies",
    metric="regret of a game",
    unit="standard deviations of a reward",
    better="lower",
    margin=0.0,
    lab=_SCRATCH,
    axes=("step", "regret so far"),
)
def regret_of_a_small_agent(lab: TokenBanditLab, seed: int) -> Trial:
    """Arms, rewards and random draws are the same for all; the temperature acts on the action alone."""
    player = lab.player(seed)
    runs = {
        "steered": player.steered(lab.strength),
        "unsteered": player.steered(0.0),
        "temperature 1.5": player.steered(0.0, temperature=1.5),
    }
    steps = list(range(1, runs["steered"].regret.shape[1] + 1))
    return Trial(
        method=runs["steered"].regret.sum(1).tolist(),
        baselines={k: runs[k].regret.sum(1).tolist() for k in ("unsteered", "temperature 1.5")},
        curves={name: (steps, run.regret.mean(0).cumsum().tolist()) for name, run in runs.items()},
        details={f"action entropy, {name}": float(run.entropies.mean()) for name, run in runs.items()},
    )
