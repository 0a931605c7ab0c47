"""Liu et al. (2025): the rollout temperature of reinforcement learning from the entropy it gives, about 0.3 nats."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from hartley.papers._policies import THOUSANDS, compared
from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.policy_gradient import PolicyLab
    from hartley.labs.running_sum import RunningSumLab

paper = Paper(
    slug="acereason",
    title="AceReason-Nemotron 1.1: Advancing Math and Code Reasoning through SFT and RL Synergy",
    published=date(2025, 6, 16),
    arxiv="2506.13284",
    room="rl",
    methods=["hartley.rl.entropy_target", "hartley.rl.recipes"],
    topics=["policy optimisation", "temperature", "entropy"],
    lab="hartley.labs.running_sum:RunningSumLab",
    summary="Chooses the sampling temperature of policy optimisation from a measurable quantity, the mean token "
    "entropy at that temperature, instead of guessing it anew for every model.",
    usage="from hartley.rl import EntropyTemperature, acereason, solve_temperature\n"
    "found = solve_temperature(logits, target=0.3)      # logits of sampled answers\n"
    "recipe = acereason(temperature=found.temperature)  # or EntropyTemperature(0.3, found.temperature)",
)

TARGET = 0.3
_METRIC = "right answers, greedily, after reinforcement"


@paper.claim(
    "The temperature at which the taught policy has 0.3 nats learns more than temperature 1 and temperature 0.6: at "
    "least 0.03 more right answers, averaged over policies of different confidence",
    published="AIME24 67.6 at T = 0.85, where the entropy is 0.26 to 0.38; 65.3 at 1.0 and 64.6 at 0.6 (7B, one stage)",
    metric=_METRIC,
    unit="",
    better="higher",
    margin=0.03,
    seeds=(1, 4),
    headline=True,
    axes=("step", "entropy of the rollouts, nats"),
)
def solved_temperature(lab: RunningSumLab, seed: int) -> Trial:
    from hartley.labs.running_sum import at
    from hartley.rl import acereason

    correct: dict[str, list[float]] = {"solved": [], "T = 1": [], "T = 0.6": []}
    curves, details = {}, {}
    for blur in lab.blurs:
        _, temperature = lab.logits(lab.taught(blur), seed, target=TARGET)
        details[f"solved temperature, blur {blur}"] = temperature
        for name, value in (("solved", temperature), ("T = 1", 1.0), ("T = 0.6", 0.6)):
            run = lab.tuned(blur, at(acereason(), value), seed)
            correct[name] += run.correct.float().tolist()
            details[f"{name}, blur {blur}"] = run.accuracy
            curves[f"{name}, blur {blur}"] = (list(range(lab.steps)), run.entropy)
    return Trial(correct.pop("solved"), correct, curves, details)


@paper.claim(
    "Over policies of different confidence the best entropy moves less than the best temperature does: the same "
    "temperature for all costs at least 0.02 right answers against the same starting entropy for all",
    published="the rule is stated for the entropy, not for the temperature",
    metric="right answers, greedily, at the best common setting",
    unit="",
    better="higher",
    margin=0.02,
    seeds=(1, 3),
    axes=("temperature", "right answers"),
)
def entropy_transfers(lab: RunningSumLab, seed: int) -> Trial:
    """The best setting common to all policies, among temperatures and among entropies: as many of either."""
    from hartley.labs.running_sum import at
    from hartley.rl import acereason

    def best(temperatures: list[list[float]]) -> tuple[list[float], int]:
        results = []
        for setting in temperatures:
            runs = [
                lab.tuned(blur, at(acereason(), t), seed).correct.float()
                for blur, t in zip(lab.blurs, setting, strict=True)
            ]
            results.append([x for run in runs for x in run.tolist()])
        means = [sum(r) / len(r) for r in results]
        curves.append(means)
        top = max(range(len(means)), key=means.__getitem__)
        return results[top], top

    curves: list[list[float]] = []
    entropies = (0.1, 0.3, 0.6) if lab.quick else (0.1, 0.2, 0.35, 0.6)
    fixed = (0.6, 0.8, 1.0) if lab.quick else (0.55, 0.7, 0.85, 1.0)
    solved = [[lab.logits(lab.taught(blur), seed, target=h)[1] for blur in lab.blurs] for h in entropies]
    by_entropy, best_h = best(solved)
    by_temperature, best_t = best([[t] * len(lab.blurs) for t in fixed])
    mean_solved = [sum(s) / len(s) for s in solved]
    return Trial(
        by_entropy,
        {"one temperature for all": by_temperature},
        curves={"one entropy for all": (mean_solved, curves[0]), "one temperature for all": (list(fixed), curves[1])},
        details={"best entropy": entropies[best_h], "best temperature": fixed[best_t]},
    )


@paper.claim(
    "Held at 0.3 nats by a controller, training loses nothing against the temperature solved once: no more than 0.03 "
    "right answers",
    published="not in the paper, which keeps the temperature of a run",
    metric=_METRIC,
    unit="",
    better="higher",
    margin=-0.03,
    seeds=(1, 4),
    axes=("step", "entropy of the rollouts, nats"),
)
def held_entropy(lab: RunningSumLab, seed: int) -> Trial:
    from hartley.labs.running_sum import at
    from hartley.rl import EntropyTemperature, acereason

    held: list[float] = []
    solved: list[float] = []
    curves = {}
    for blur in lab.blurs:
        _, temperature = lab.logits(lab.taught(blur), seed, target=TARGET)
        controller = EntropyTemperature(TARGET, initial=temperature, gain=0.3, decay=0.5)
        for name, recipe, out in (
            ("held", acereason(temperature=controller), held),
            ("solved once", at(acereason(), temperature), solved),
        ):
            run = lab.tuned(blur, recipe, seed)
            out += run.correct.float().tolist()
            curves[f"{name}, blur {blur}"] = (list(range(lab.steps)), run.entropy)
    return Trial(held, {"solved once": solved}, curves)


@paper.claim(
    "A short budget first, with cut answers filtered out of the loss, loses nothing: pass@1 at most 0.02 below the "
    "full budget throughout, and below the same stages without the filter, at equal generated tokens",
    published="the first stage (8 thousand tokens) brings no gain of its own, but skipping it hurts; filtering helps "
    "at 8 and 16 thousand tokens, and costs 1.2 points on AIME24 at 32",
    metric="pass@1",
    unit="",
    better="higher",
    margin=-0.02,
    lab="hartley.labs.policy_gradient:PolicyLab",
    seeds=(1, 3),
    axes=(THOUSANDS, "entropy of the rollouts, nats"),
)
def length_curriculum(lab: PolicyLab, seed: int) -> Trial:
    """Two attempts fit into the short budget of 18 tokens, three into the full one."""
    from dataclasses import replace

    from hartley.rl import Staged, acereason

    lab = replace(lab, minibatches=1)
    full = acereason()
    recipes: dict[str, Any] = {
        "staged": Staged((acereason(max_length=18, filter_overlong=True), full), (0.4,)),
        "full budget": full,
        "staged, unfiltered": Staged((acereason(max_length=18), full), (0.4,)),
    }
    return compared(lab, recipes, seed, k=1, rates=(3e-4,), curve="entropy", tokens=360_000)
