"""The running sum: demonstrations, sampling, and that reinforcement at a sensible temperature repairs the policy."""

from __future__ import annotations

import torch

from hartley.labs.running_sum import LENGTH, RunningSumLab, SumPolicy, at, before, demonstrations, right, say
from hartley.rl import acereason, solve_temperature, token_statistics


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_demonstrations_are_flawed_as_said() -> None:
    digits, said = demonstrations(20_000, 0.0, seeded())
    steps = (said - torch.cat([torch.zeros_like(said[:, :1]), said[:, :-1]], 1) - digits) % 10
    for digit, share in ((3, 0.0), (7, 0.8), (8, 0.9), (9, 0.97)):
        found = (steps[digits == digit] == 1).double().mean().item()
        assert abs(found - share) < 4 * (share * (1 - share) / 16_000) ** 0.5 + 1e-9  # one seed in ten thousand fails
    assert set(steps.unique().tolist()) == {0, 1}
    perfect = digits.cumsum(1) % 10
    assert right(digits, perfect).all()


def test_one_step_at_a_time_is_the_whole_sequence() -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        policy = SumPolicy()
    digits = torch.randint(10, (5, LENGTH), generator=seeded())
    said, logits = say(policy, digits, seeded(1), 0.7)
    torch.testing.assert_close(policy(digits, before(said))[0], logits, atol=1e-5, rtol=1e-5)
    greedy, z = say(policy, digits, None)
    assert torch.equal(greedy, z.argmax(-1))


def test_reinforcement_with_a_solved_temperature() -> None:
    lab = RunningSumLab(steps=15)
    policy = lab.taught(0.05)
    logits, temperature = lab.logits(policy, 0, target=0.3)
    assert abs(solve_temperature(logits, 0.3).temperature - temperature) < 1e-6
    assert abs(token_statistics(logits, logits.argmax(-1), temperature=temperature).entropy.mean() - 0.3) < 1e-4
    run = lab.reinforce(policy, at(acereason(), temperature), 0)
    again = lab.reinforce(lab.taught(0.05), at(acereason(), temperature), 0)
    assert run.reward == again.reward
    assert torch.equal(run.correct, again.correct)
    assert abs(run.entropy[0] - 0.3) < 0.1
    assert run.correct.shape == (2000,)
    assert run.temperature == [temperature] * 15
