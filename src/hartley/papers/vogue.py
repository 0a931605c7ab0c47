"""VOGUE (2025): exploration where a perturbed image would change the next token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from hartley.papers._policies import THOUSANDS, compared
from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.policy_gradient import PolicyLab

paper = Paper(
    slug="vogue",
    title="VOGUE: Guiding Exploration with Visual Uncertainty Improves Multimodal Reasoning",
    published=date(2025, 10, 1),
    arxiv="2510.01444",
    room="rl",
    methods=["hartley.rl.visual_uncertainty", "hartley.rl.recipes"],
    topics=["policy optimisation", "exploration", "images"],
    lab="hartley.labs.policy_gradient:PolicyLab",
    summary="For models that read an image: perturb it, see where the next-token distribution moves, and give those "
    "tokens a bonus, in a noisy branch that fades as training goes on.",
    usage="from hartley.rl import vogue\n"
    "from hartley.rl.trl import RecipeGRPOTrainer\n"
    "noise = lambda x, g: x + 0.4 * torch.randn(x.shape, generator=g, device=x.device)\n"
    "RecipeGRPOTrainer(model, reward, args=config, train_dataset=data, recipe=vogue(), perturb=noise)",
)


@dataclass(frozen=True)
class ShuffledUncertainty:
    """The control: VOGUE's advantages with the visual uncertainties of other tokens."""

    needs = ("entropy", "visual_uncertainty", "noisy")

    def __call__(self, rollouts: Any) -> Any:
        import torch

        from hartley.rl import VisualUncertaintyAdvantage

        u = rollouts.fields["visual_uncertainty"].clone()
        inside = u[rollouts.mask]
        generator = torch.Generator().manual_seed(int(rollouts.ids.sum()))
        u[rollouts.mask] = inside[torch.randperm(len(inside), generator=generator)]
        return VisualUncertaintyAdvantage()(replace(rollouts, fields={**rollouts.fields, "visual_uncertainty": u}))


@paper.claim(
    "Visual uncertainty marks the tokens that read the image: values, which need an operand, have at least 0.2 nats "
    "more of it than operators, choices and answers",
    published="tokens that depend on the image show it (figure)",
    metric="visual uncertainty, mean over tokens of the kind",
    unit="nats",
    better="higher",
    margin=0.2,
    seeds=(2, 4),
)
def marks_reading_tokens(lab: PolicyLab, seed: int) -> Trial:
    import torch

    from hartley.labs import op_search
    from hartley.rl import symmetric_kl

    lab = replace(lab, images=True)
    generator = torch.Generator().manual_seed(seed)
    problems = lab.draw(200, generator)
    policy = lab.policy()
    batch = lab.rollouts(policy, problems, torch.arange(200), generator)
    ids = torch.cat([problems.prompts, batch.ids[:, :-1]], 1)
    other = problems.perturbed(lab.noise, generator)
    with torch.no_grad():
        clean, noisy = (policy(ids, p.images, keep=batch.ids.shape[1]) for p in (problems, other))
    u = symmetric_kl(clean, noisy)
    means, details = {}, {}
    for kind, name in enumerate(op_search.KINDS):
        which = batch.mask & (batch.fields["kinds"] == kind)
        means[name] = float(u[which].mean())
        details[f"entropy, {name}"] = float(batch.entropy[which].mean())
    return Trial(means.pop("value"), means, details=details)


def _recipes() -> dict[str, Any]:
    from hartley.rl import NoisyBranch, VisualUncertaintyAdvantage, grpo, vogue

    return {
        "vogue": vogue(),
        "GRPO": grpo(),
        "augmentation": grpo().with_("augmentation", noisy=NoisyBranch()),
        "entropy bonus": grpo().with_("entropy bonus", advantages=VisualUncertaintyAdvantage(alpha_v=0.0)),
        "shuffled U": vogue().with_("shuffled", advantages=ShuffledUncertainty()),
    }


@paper.claim(
    "On noisy images VOGUE's policy is right more often than that of GRPO, of plain augmentation with the same "
    "schedule, of the entropy bonus alone and of shuffled uncertainties: pass@1 at least 0.01 higher",
    published="+2.6 points pass@1 over GRPO on three visual maths sets (3B and 7B, one seed)",
    metric="pass@1 on perturbed test images",
    unit="",
    better="higher",
    margin=0.01,
    seeds=(1, 3),
    axes=(THOUSANDS, "reward"),
)
def robust(lab: PolicyLab, seed: int) -> Trial:
    seen = replace(lab, images=True)
    runs = seen.compare(_recipes(), seed, tokens=50_000 if lab.quick else 300_000, rates=(3e-4,))
    right = {
        name: seen.evaluate(run.policy, seed=seed, noise=seen.noise).pass_at(1).tolist() for name, run in runs.items()
    }
    details = {f"clean, {n}": float(r.evaluation.pass_at(1).mean()) for n, r in runs.items()}
    return Trial(right.pop("vogue"), right, {n: r.curve("reward") for n, r in runs.items()}, details)


@paper.claim(
    "Exploration does not decay: pass@4 on clean images is at least 0.01 higher than that of GRPO and of plain "
    "augmentation with the same schedule",
    published="pass@4 up on average over GRPO, on some sets below the model before training",
    metric="pass@4",
    unit="",
    better="higher",
    margin=0.01,
    seeds=(1, 3),
    axes=(THOUSANDS, "entropy of the rollouts, nats"),
)
def keeps_exploring(lab: PolicyLab, seed: int) -> Trial:
    recipes = {name: recipe for name, recipe in _recipes().items() if name in ("vogue", "GRPO", "augmentation")}
    return compared(replace(lab, images=True), recipes, seed, k=4, rates=(3e-4,), curve="entropy", tokens=300_000)
