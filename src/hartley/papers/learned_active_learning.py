"""Learning to actively learn: one query policy that competes with the best of each difficulty."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.exploration import ThresholdLab

paper = Paper(
    slug="learned-active-learning",
    title="Learning to Actively Learn: A Robust Approach",
    published=date(2020, 10, 29),
    authors=4,
    arxiv="2010.15382",
    room="querying",
    methods=["hartley.querying.active_learning", "hartley.querying.learned_policy"],
    topics=["active learning", "pure exploration", "minimax"],
    lab="hartley.labs.exploration:ThresholdLab",
    summary="For budgets of a few questions, where confidence bounds say nothing: a query policy that loses little "
    "against the best policy of every difficulty. Exact by linear programming for small games, trained against an "
    "adversary for larger ones.",
    usage="from hartley.querying import exact_robust, threshold_problem\n\n"
    "found = exact_robust(threshold_problem(4), thetas, radii=[1, 4], rounds=3)\n"
    "found.robust.value, found.values",
)


@paper.claim(
    "One policy loses less than half as much over the best of each difficulty as the best policy of any one difficulty",
    published="one policy competes with the best policy of each difficulty class (abstract)",
    metric="largest excess over the minimax loss of each class; the margin is half the best single policy's",
    unit="excess error",
    better="lower",
    margin=0.0,
    deterministic=True,
)
def one_policy_for_all(lab: ThresholdLab, seed: int) -> Trial:
    """Exact values of the game; the baselines are half of what each single policy loses."""
    _, exact = lab.solved()
    single = [lab.excess(policy) / 2 for policy in exact.single]
    return Trial(
        method=lab.excess(exact.robust),
        baselines={f"half of class {k + 1} alone": value for k, value in enumerate(single)},
        details={f"minimax loss of class {k + 1}": float(value) for k, value in enumerate(exact.values)},
    )


@paper.claim(
    "A network trained against the adversary loses less than the exact policy of any one difficulty and than LUCB, "
    "successive elimination, top-two Thompson sampling, the Bayes policy, binary search and asking evenly",
    published="the learned policy beats hand-designed algorithms at small budgets (abstract)",
    metric="largest excess over the minimax loss of each class, exact",
    unit="excess error",
    better="lower",
    margin=0.0,
    seeds=(2, 4),
)
def trained_policy(lab: ThresholdLab, seed: int) -> Trial:
    """Training knows the minimax losses; the excess is computed over all states, not on training episodes."""
    from hartley.labs.exploration import PlugIn
    from hartley.querying import Lucb, SuccessiveElimination, TopTwoThompson, bayes_policy

    problem, exact = lab.solved()
    return Trial(
        method=lab.excess(lab.trained(seed)),
        baselines={
            **{f"class {k + 1} alone, exact": lab.excess(p) for k, p in enumerate(exact.single)},
            "LUCB": lab.excess(Lucb(problem)),
            "successive elimination": lab.excess(SuccessiveElimination(problem)),
            "top-two Thompson, uniform prior": lab.excess(TopTwoThompson(problem, exact.thetas)),
            "Bayes policy, uniform prior": lab.excess(bayes_policy(problem, exact.thetas, lab.rounds)),
            "binary search": lab.excess(PlugIn(problem, bisect=True)),
            "even": lab.excess(PlugIn(problem)),
        },
        details={"linear programme": exact.robust.value},
    )


@paper.claim(
    "The trained network's largest excess is below twice that of the exact policy",
    published="",
    metric="largest excess over the minimax loss of each class, exact",
    unit="excess error",
    better="lower",
    margin=0.0,
    seeds=(2, 4),
)
def near_the_optimum(lab: ThresholdLab, seed: int) -> Trial:
    """What training leaves of the best that is possible; the adversary is run again over all parameters."""
    import numpy as np

    from hartley.querying import adversarial_loss

    problem, exact = lab.solved()
    policy = lab.trained(seed)
    rng = np.random.default_rng(seed)
    worst, _ = adversarial_loss(policy, problem, lab.hard, lab.rounds, rng, restarts=4, start=exact.thetas)
    return Trial(
        method=lab.excess(policy),
        baselines={"twice the linear programme": 2 * exact.robust.value},
        details={
            "largest loss, any parameter": worst,
            "largest loss, trained on": float((lab.losses(policy)).max()),
        },
    )
