"""Running sums mod 10: a recurrent policy that was taught by flawed demonstrations, and what reinforcement makes of it.

Eight digits are read one by one; after each the policy says a digit, and the reward asks whether the last one is the
sum of all, mod 10. Demonstrations add 7, 8 and 9 off by one most of the time, and replace a step by a random digit with
probability `blur`, so that the policy starts at an accuracy of a few percent with an entropy that depends on the blur.
A run takes seconds, so that temperatures can be swept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from hartley.labs.base import Lab
from hartley.rl import Recipe, Rollouts, State, Tokens, token_statistics

DIGITS, LENGTH, START = 10, 8, 10
_OFF_BY_ONE = torch.tensor([0.0] * 7 + [0.8, 0.9, 0.97])


class SumPolicy(nn.Module):
    """A GRU of width 64 over (digit, what was said before), and a small head."""

    def __init__(self) -> None:
        super().__init__()
        self.digit, self.said = nn.Embedding(DIGITS, 32), nn.Embedding(DIGITS + 1, 32)
        self.memory = nn.GRU(64, 64, batch_first=True)
        self.head = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, DIGITS))

    def forward(
        self, digits: Int[Tensor, "batch time"], before: Int[Tensor, "batch time"], memory: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch time 10"], Tensor]:
        """Logits of what is said next, and the memory."""
        seen, memory = self.memory(torch.cat([self.digit(digits), self.said(before)], -1), memory)
        return self.head(seen), memory


def before(said: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """What had been said when each step was taken."""
    return torch.cat([torch.full_like(said[:, :1], START), said[:, :-1]], 1)


@torch.no_grad()
def say(
    policy: SumPolicy, digits: Int[Tensor, "batch time"], generator: torch.Generator | None, temperature: float = 1.0
) -> tuple[Int[Tensor, "batch time"], Float[Tensor, "batch time 10"]]:
    """Sampled answers, greedy without a generator, and their logits, not yet divided by the temperature."""
    said, memory = torch.full_like(digits[:, :1], START), None
    out, logits = [], []
    for t in range(digits.shape[1]):
        z, memory = policy(digits[:, t : t + 1], said, memory)
        if generator is None:
            said = z[:, 0].argmax(-1, keepdim=True)
        else:
            said = torch.multinomial((z[:, 0] / temperature).softmax(-1), 1, generator=generator)
        out.append(said)
        logits.append(z)
    return torch.cat(out, 1), torch.cat(logits, 1)


def right(digits: Int[Tensor, "batch time"], said: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch"]:
    """Whether the last digit is the sum of all, mod 10."""
    return said[:, -1] == digits.sum(1) % DIGITS


def demonstrations(count: int, blur: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Digits and flawed running sums; an error is carried along."""
    digits = torch.randint(DIGITS, (count, LENGTH), generator=generator)
    off = torch.rand(count, LENGTH, generator=generator) < _OFF_BY_ONE[digits]
    wild = torch.rand(count, LENGTH, generator=generator) < blur
    noise = torch.randint(DIGITS, (count, LENGTH), generator=generator)
    said, last = torch.empty_like(digits), torch.zeros(count, dtype=torch.long)
    for t in range(LENGTH):
        last = torch.where(wild[:, t], noise[:, t], (last + digits[:, t] + off[:, t].long()) % DIGITS)
        said[:, t] = last
    return digits, said


@cache
def _taught(blur: float, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        policy = SumPolicy()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3, fused=True)
    for _ in range(600):
        digits, said = demonstrations(128, blur, generator)
        logits, _ = policy(digits, before(said))
        loss = F.cross_entropy(logits.flatten(0, 1), said.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return policy.state_dict()


@dataclass(frozen=True)
class SumRun:
    """What reinforcement made of the policy.

    Attributes
    ----------
    correct : of 2000 fresh problems, greedily.
    entropy, reward, temperature : of the rollouts of each step.
    """

    correct: Bool[Tensor, "problems"]
    entropy: list[float]
    reward: list[float]
    temperature: list[float]

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.correct.float().mean())


@dataclass(frozen=True)
class RunningSumLab(Lab):
    """Policies taught with several amounts of blur, reinforced at any temperature.

    Attributes
    ----------
    steps : of reinforcement: few, so that how fast a temperature learns shows.
    prompts, answers : groups of a step, and answers in a group.
    """

    steps: int = 70
    prompts: int = 32
    answers: int = 8

    @property
    def blurs(self) -> tuple[float, ...]:
        """How much the demonstrations were blurred: the policies that a rule is to hold for."""
        return (0.05, 0.15) if self.quick else (0.02, 0.05, 0.15)

    @property
    def rates(self) -> tuple[float, ...]:
        """The ladder that learning rates are tuned over."""
        return (1e-3,) if self.quick else (1e-3, 2e-3)

    def taught(self, blur: float) -> SumPolicy:
        """The policy before reinforcement, a copy of its own."""
        policy = SumPolicy()
        policy.load_state_dict(_taught(blur, 0))
        return policy

    def logits(self, policy: SumPolicy, seed: int, *, rounds: int = 3, target: float) -> tuple[Tensor, float]:
        """Logits along the policy's own answers at the temperature that gives them the target entropy, and that one.

        Contexts depend on the temperature: sample, solve, sample again.
        """
        from hartley.rl import solve_temperature

        temperature, logits = 1.0, torch.empty(0)
        for k in range(rounds):
            generator = torch.Generator().manual_seed(seed + k)
            digits = torch.randint(DIGITS, (512, LENGTH), generator=generator)
            _, logits = say(policy, digits, generator, temperature)
            temperature = solve_temperature(logits, target).temperature
        return logits, temperature

    def reinforce(
        self,
        policy: SumPolicy,
        recipe: Recipe,
        seed: int,
        *,
        rate: float = 1e-3,
        progress: Callable[[int], None] | None = None,
    ) -> SumRun:
        """Train the policy in place: one update for each batch of answers, Adam."""
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(policy.parameters(), lr=rate, fused=True)
        group = torch.arange(self.prompts).repeat_interleave(self.answers)
        entropy, reward, temperatures = [], [], []
        state: State = {}
        for step in range(self.steps):
            temperature = recipe.policy_temperature(state)
            digits = torch.randint(DIGITS, (self.prompts, LENGTH), generator=generator)
            digits = digits.repeat_interleave(self.answers, 0)
            said, logits = say(policy, digits, generator, temperature)
            sampled = token_statistics(logits, said, temperature=temperature)
            correct = right(digits, said)
            prepared = recipe.prepare(
                Rollouts(
                    ids=said,
                    mask=torch.ones_like(said, dtype=torch.bool),
                    group=group,
                    rewards=correct.float(),
                    correct=correct,
                    log_probs=sampled.log_probs,
                    entropy=sampled.entropy,
                    state=state,
                    progress=step / self.steps,
                )
            )
            state = prepared.rollouts.state
            now = token_statistics(policy(digits, before(said))[0], said, temperature=temperature)
            loss, _ = recipe.loss(
                Tokens(
                    now.log_probs,
                    sampled.log_probs,
                    now.entropy,
                    prepared.advantages,
                    prepared.mask,
                    prepared.rollouts,
                )
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            entropy.append(float(sampled.entropy.mean()))
            reward.append(float(correct.float().mean()))
            temperatures.append(temperature)
            if progress is not None:
                progress(step + 1)
        test = torch.randint(DIGITS, (2000, LENGTH), generator=torch.Generator().manual_seed(2**31 + seed))
        said, _ = say(policy, test, None)
        return SumRun(right(test, said), entropy, reward, temperatures)

    def tuned(self, blur: float, recipe: Recipe, seed: int) -> SumRun:
        """The best run over the learning rates, each from the policy of that blur."""
        runs = [self.reinforce(self.taught(blur), recipe, seed, rate=rate) for rate in self.rates]
        return max(runs, key=lambda run: run.accuracy)


def at(recipe: Recipe, temperature: float) -> Recipe:
    """The recipe at a fixed temperature."""
    return replace(recipe, name=f"T = {temperature:.2f}", temperature=temperature)
