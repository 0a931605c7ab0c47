"""Training on op-search: what is sampled, what is trained on, budgets, determinism; and one real run (slow)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from hartley.labs.op_search import CHOICE, DIGITS, EOS, OPERATOR, PAD, PROMPT, RESPONSE, VALUE, VOCABULARY, token_kinds
from hartley.labs.policies import SmallPolicy
from hartley.labs.policy_gradient import PolicyLab
from hartley.labs.policy_training import Trainer
from hartley.rl import (
    EntropyTemperature,
    Recipe,
    Rollouts,
    Staged,
    acereason,
    ares,
    cure,
    d3s,
    dapo,
    dr_grpo,
    grpo,
    hapo,
    pear,
    steer,
    vogue,
)

LAB = PolicyLab(prompts=4, answers=8)


def _policy(lab: PolicyLab = LAB) -> SmallPolicy:
    """Random weights that keep to responses of some length."""
    policy = SmallPolicy(VOCABULARY, PROMPT + RESPONSE, width=16, image_places=DIGITS if lab.images else (), seed=3)
    with torch.no_grad():
        policy.head.bias[EOS] = -1.0
        policy.head.bias[PAD] = -30
    return policy


@pytest.fixture(autouse=True)
def _few_test_problems(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations of a tenth of a second."""
    if "slow" not in request.keywords:
        every = PolicyLab.test_problems
        monkeypatch.setattr(PolicyLab, "test_problems", lambda lab: every(lab)[:20])


def _trainer(recipe: Recipe | Staged, lab: PolicyLab = LAB, seed: int = 0) -> Trainer:
    return Trainer(lab, _policy(lab), recipe, 1e-3, seed)


@dataclass(frozen=True)
class Middle:
    """Continue each answer from its middle."""

    branches: int = 3

    def __call__(self, rollouts: Rollouts, generator: torch.Generator) -> Tensor:
        return rollouts.mask.sum(1) // 2


@dataclass(frozen=True)
class OddGroups:
    """Calls every group with an odd number uninformative."""

    def __call__(self, rollouts: Rollouts) -> Tensor:
        return rollouts.group % 2 == 0


def _right(rollouts: Rollouts) -> Rollouts:
    """Every other answer right, so that there is something to learn from an untrained policy."""
    correct = torch.arange(len(rollouts.ids)) % 2 == 0
    return replace(rollouts, correct=correct, rewards=correct.float())


def _teach(monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts = PolicyLab.rollouts
    monkeypatch.setattr(PolicyLab, "rollouts", lambda *args, **options: _right(rollouts(*args, **options)))


def test_groups_share_a_prompt() -> None:
    batch = _trainer(grpo()).gather(grpo(), 1.0)
    assert batch.ids.shape == (32, RESPONSE)
    for number in batch.group.unique():
        prompts = batch.fields["prompt"][batch.group == number]
        assert len(prompts) == 8
        assert len(prompts.unique(dim=0)) == 1
    test = {tuple(p) for p in LAB.test_problems().prompts.tolist()}
    assert not test & {tuple(p) for p in batch.fields["prompt"].tolist()}


def test_branches_copy_their_parents() -> None:
    recipe = grpo().with_(branching=Middle())
    trainer = _trainer(recipe)
    batch = trainer.gather(recipe, 1.0)
    assert batch.group.bincount()[batch.group.unique()].tolist() == [8] * 4
    for number in batch.group.unique():
        inside = (batch.group == number).nonzero()[:, 0]
        parents, twigs = inside[:2], inside[2:]
        assert (batch.fields["start"][parents] == 0).all()
        for k, twig in enumerate(twigs.tolist()):
            parent, start = int(parents[k // 3]), int(batch.fields["start"][twig])
            assert start == int(batch.mask[parent].sum()) // 2
            assert torch.equal(batch.ids[twig, :start], batch.ids[parent, :start])
            assert not batch.mask[twig, :start].any()
            assert batch.mask[twig, start]
    assert trainer.generated == int(batch.mask.sum())


def test_branches_must_fill_a_group() -> None:
    recipe = grpo().with_(branching=Middle(branches=4))
    with pytest.raises(ValueError, match="answers = 8: expected a multiple of 1 \\+ 4"):
        _trainer(recipe).gather(recipe, 1.0)


def test_dynamic_sampling_fills_the_batch() -> None:
    """Half of the groups are refused: 4 drawn, 2 kept, 2 drawn, 1 kept, 1 drawn and so on; all draws are counted."""
    recipe = grpo().with_(informative=OddGroups(), rounds=10)
    trainer = _trainer(recipe)
    batch = trainer.gather(recipe, 1.0)
    assert len(batch.group.unique()) == 4
    assert (batch.group % 2 == 0).all()
    assert trainer.generated > int(batch.mask.sum())
    once = grpo().with_(informative=OddGroups(), rounds=1)
    assert len(_trainer(once).gather(once, 1.0).group.unique()) == 2
    never = grpo().with_(informative=lambda rollouts: torch.zeros(len(rollouts.ids), dtype=torch.bool), rounds=2)
    assert len(_trainer(never).gather(never, 1.0).ids) == 32  # nothing informative: the last batch as it is


def test_prompts_do_not_depend_on_the_recipe() -> None:
    first, second = (_trainer(r, seed=5).gather(r, 1.0) for r in (grpo(), grpo().with_(temperature=0.5)))
    assert torch.equal(first.fields["prompt"], second.fields["prompt"])


def test_tool_results_are_right_and_not_trained() -> None:
    lab = PolicyLab(prompts=4, tool=True)
    problems = lab.draw(50, torch.Generator().manual_seed(0))
    batch = lab.rollouts(_policy(), problems, torch.arange(50), torch.Generator().manual_seed(1))
    kinds = token_kinds(batch.ids)
    follows = (kinds[:, :-1] == OPERATOR) & ~batch.mask[:, 1:] & (batch.ids[:, 1:] != PAD)
    assert follows.any()
    assert (kinds[:, 1:][follows] == VALUE).all()
    first = batch.ids[:, 0] - 10
    told = (first >= 0) & (first < 3)
    left, right = problems.prompts[told, 0], problems.prompts[told, 1]
    expected = torch.stack([left + right, left - right, left * right]) % 10
    assert told.any()
    assert torch.equal(batch.ids[told, 1], expected.gather(0, first[told][None])[0])
    assert not batch.mask[told, 1].any()
    assert (batch.entropy[~batch.mask] == 0).all()


@pytest.mark.parametrize(
    "recipe",
    [
        grpo(),
        grpo(kl=0.1),
        dr_grpo(RESPONSE),
        dapo(rounds=2, entropy_bonus=0.01),
        cure(top_k=3, exclude=frozenset({EOS}), switch=0.3),
        d3s(),
        hapo(),
        steer(estimator="exact"),
        pear(),
        ares(words=True),
        vogue(),
        acereason(temperature=EntropyTemperature(0.5), filter_overlong=True),
    ],
    ids=lambda r: r.name,
)
def test_every_recipe_takes_steps(recipe: Recipe | Staged, monkeypatch: pytest.MonkeyPatch) -> None:
    _teach(monkeypatch)
    trainer = _trainer(recipe, replace(LAB, images="visual_uncertainty" in recipe.needs))
    before = [w.clone() for w in trainer.policy.parameters()]
    optimizer = torch.optim.AdamW(trainer.policy.parameters(), lr=1e-3)
    for share in (0.0, 0.2, 0.5):
        entry = trainer.step(recipe.at(share), optimizer, share)
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.policy.parameters(), strict=True))
    assert all(w.isfinite().all() for w in trainer.policy.parameters())
    assert entry["reward"] == 0.5
    assert entry["generated"] == trainer.generated > 0
    assert 0 < entry["selected"] <= 1


def test_what_is_not_selected_is_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only answers that begin with an operator: the others get no gradient, and are not counted."""
    _teach(monkeypatch)
    kept = grpo().with_(
        select=lambda rollouts, _: (token_kinds(rollouts.ids)[:, :1] == OPERATOR).expand_as(rollouts.ids)
    )
    trainer = _trainer(kept)
    entry = trainer.step(kept, torch.optim.AdamW(trainer.policy.parameters(), lr=1e-3), 0.0)
    assert 0 < entry["selected"] < 1
    assert entry["updated"] == round(entry["selected"] * entry["generated"])
    none = grpo().with_(select=lambda rollouts, _: torch.zeros_like(rollouts.mask))
    trainer = _trainer(none)
    before = [w.clone() for w in trainer.policy.parameters()]
    assert trainer.step(none, torch.optim.AdamW(trainer.policy.parameters(), lr=1e-3), 0.0)["updated"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.policy.parameters(), strict=True))


def test_reinforcement_raises_what_is_rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reward for answers that begin with "retry": after twenty steps of GRPO most do."""
    rollouts = PolicyLab.rollouts

    def rewarded(*args: object, **options: object) -> Rollouts:
        batch = rollouts(*args, **options)  # type: ignore[arg-type]
        good = token_kinds(batch.ids)[:, 0] == CHOICE
        return replace(batch, rewards=good.float(), correct=good)

    monkeypatch.setattr(PolicyLab, "rollouts", rewarded)
    trainer = _trainer(grpo())
    optimizer = torch.optim.AdamW(trainer.policy.parameters(), lr=1e-2)
    rewards = [trainer.step(grpo(), optimizer, 0.0)["reward"] for _ in range(20)]
    assert rewards[0] < 0.4
    assert sum(rewards[-5:]) / 5 > 0.75


@dataclass(frozen=True)
class Branches:
    """Updates a fixed share of the prompts through the perturbed image."""

    share: float
    needs = ("visual_uncertainty",)

    def __call__(self, rollouts: Rollouts, generator: torch.Generator) -> Tensor:
        numbers = rollouts.group.unique(return_inverse=True)[1]
        return (torch.rand(int(numbers.max()) + 1, generator=generator) < self.share)[numbers]


def test_perturbed_images() -> None:
    """One noise a prompt; without noise nothing moves; the branch that is updated is the one that is recorded."""
    lab = PolicyLab(images=True, noise=0.5, prompts=4)
    recipe = grpo().with_(noisy=Branches(0.5))
    trainer = _trainer(recipe, lab)
    clean = trainer.gather(recipe, 1.0)
    batch = trainer.perturb(recipe, clean, 1.0)
    noisy, moved = batch.fields["noisy"], batch.fields["images"] - clean.fields["images"]
    assert noisy.any()
    assert not noisy.all()
    assert (moved[~noisy] == 0).all()
    for number in batch.group[noisy].unique():
        assert torch.allclose(moved[batch.group == number], moved[batch.group == number][:1], atol=1e-6)
    assert torch.equal(batch.log_probs[~noisy], clean.log_probs[~noisy])
    uncertainty = batch.fields["visual_uncertainty"]
    assert (uncertainty[batch.mask] > 0).float().mean() > 0.9
    assert (uncertainty[~batch.mask] == 0).all()
    # The ratio of the first update is 1 in both branches.
    tokens = trainer.tokens(recipe, recipe.prepare(batch), torch.arange(32), 1.0)
    torch.testing.assert_close(tokens.log_probs[tokens.mask], batch.log_probs[batch.mask], atol=1e-4, rtol=0)
    still = _trainer(recipe, replace(lab, noise=0.0))
    assert (still.perturb(recipe, still.gather(recipe, 1.0), 1.0).fields["visual_uncertainty"] == 0).all()


def test_a_need_that_the_lab_cannot_meet_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"visual_uncertainty|needs"):
        LAB.train(grpo().with_(noisy=Branches(0.5)), policy=_policy(), steps=1)
    with pytest.raises(ValueError, match="not in both"):
        LAB.train(grpo(), policy=_policy(), steps=1, tokens=1)


def test_runs_repeat_themselves_and_keep_a_history() -> None:
    seen: list[int] = []
    recipe = Staged((grpo(), dapo(rounds=2)), (0.5,))
    first, again = (
        LAB.train(recipe, steps=4, seed=1, every=2, policy=_policy(), progress=lambda step, _: seen.append(step))
        for _ in range(2)
    )
    assert seen == [1, 2, 3, 4] * 2
    assert all(torch.equal(a, b) for a, b in zip(first.policy.parameters(), again.policy.parameters(), strict=True))
    assert list(first.evaluations) == [0, 2, 4]
    assert all(len(values) == 4 for values in first.history.values())
    assert torch.equal(first.evaluation.correct, again.evaluation.correct)
    x, y = first.curve("pass@4")
    assert len(x) == len(y) == 3
    assert x[0] == 0 < x[1] < x[2] == first.generated / 1000
    assert first.curve("reward")[1] == first.history["reward"]


def test_a_budget_of_tokens_ends_with_the_step_that_spends_it() -> None:
    run = LAB.train(grpo(), tokens=1500, policy=_policy())
    spent = run.history["generated"]
    assert spent[-1] >= 1500 > spent[-2]
    run = LAB.train(d3s(), tokens=300, counted="updated", policy=_policy())
    spent = run.history["updated"]
    assert spent[-1] >= 300 > spent[-2]
    assert run.generated > 2 * run.updated
    assert run.curve("reward", "updated")[0][-1] == run.updated / 1000


def test_comparison_tunes_every_recipe_over_the_same_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PolicyLab, "policy", _policy)
    told: list[str] = []
    scores = iter([1.0, 0.0, 0.0, 0.5, 1.0, 0.5])
    runs = LAB.compare(
        {"a": grpo(), "b": (dapo(rounds=1), dapo(rounds=2))},
        seed=0,
        tokens=1000,
        rates=(1e-3, 1e-2),
        score=lambda _: next(scores),
        progress=told.append,
    )
    names = ["a, grpo", "b, dapo", "b, dapo"]
    assert told == [f"{name}, learning rate {rate}" for name in names for rate in ("0.001", "0.01")]
    assert {name: run.rate for name, run in runs.items()} == {"a": 1e-3, "b": 1e-3}
    assert all(run.generated >= 1000 for run in runs.values())


def test_evaluation_counts() -> None:
    evaluation = LAB.evaluate(_policy())
    assert evaluation.correct.shape == (20,)
    assert 0 <= float(evaluation.pass_at(1).mean()) <= float(evaluation.pass_at(16).mean()) <= 1
    assert sum(share for share, _ in evaluation.kinds.values()) <= 1
    made = replace(evaluation, correct=torch.tensor([16, 8, 0]), difficulty=torch.tensor([0, 1, 2]))
    assert made.by_difficulty() == (1.0, 0.5, 0.0)
    assert made.pass_at(16).tolist() == [1, 1, 0]


@pytest.mark.slow
def test_warm_start_and_grpo() -> None:
    """What every comparison rests on: the start is weak but able, and plain GRPO raises pass@1 and lowers entropy."""
    lab = PolicyLab()
    start = lab.evaluate(lab.policy())
    reward = float(start.pass_at(1).mean())
    assert 0.24 < reward < 0.34
    assert 0.38 < start.entropy < 0.46
    assert float(start.pass_at(16).mean()) > 0.93
    easy, medium, hard = start.by_difficulty()
    assert easy > medium > hard
    assert start.kinds["operator"][1] > 1.0
    assert start.kinds["value"][1] < 0.05
    run = lab.train(grpo(), steps=250)
    assert float(run.evaluation.pass_at(1).mean()) > reward + 0.08
    assert run.evaluation.entropy < 0.9 * start.entropy


@pytest.mark.slow
def test_image_warm_start_reads_its_images() -> None:
    lab = PolicyLab(images=True)
    clean, noisy = (lab.evaluate(lab.policy(), noise=noise) for noise in (0.0, lab.noise))
    assert clean.kinds["value"][1] < 0.2
    assert float(noisy.pass_at(1).mean()) < float(clean.pass_at(1).mean()) - 0.02
