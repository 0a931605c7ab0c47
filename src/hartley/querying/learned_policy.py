"""Query policies for small budgets, trained against an adversary: for games with too many states to solve exactly.

A network sees how often each query was answered with 1 and -1, and gives probabilities of the next query and, at the
end, of each hypothesis. The adversary mixes over given parameters. The policy descends on

    sum_i w_i (loss(policy, theta_i) - offset_i),   w = softmax(sharpness * running mean of the excess)

by score functions for its queries (the mean over other episodes of the same parameter is the baseline) and by exact
gradients for its recommendation. An adversary that answers the recent past, ever more sharply, settles where the same
steps against exponentiated gradients turn in circles. The result averages the network's weights over the second half.

Source: Zhang, Katz-Samuels, Jain, Jamieson (2020), arXiv 2010.15382. Theirs moves parameter particles and mixes them by
gradient ascent; here the candidates are given, so that the largest excess can be checked exactly with `policy_losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from hartley.checks import require, require_between
from hartley.querying.active_learning import History, QueryProblem, Thetas, history_counts

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], bool | None]
"""Called with steps done and steps in all; returning False ends the training early."""


@dataclass(frozen=True)
class LearnedPolicy:
    """A trained network; needs numpy alone.

    Attributes
    ----------
    problem, rounds : what it was trained for.
    layers : weights and biases; the last layer gives logits of queries, then of hypotheses.
    weights : of the adversary's mixture over the parameters, averaged as the network is.
    """

    problem: QueryProblem
    rounds: int
    layers: tuple[tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, " _"]], ...]
    weights: Float[np.ndarray, " parameters"]

    def ask(self, counts: Int[np.ndarray, "states answers"]) -> Float[np.ndarray, "states queries"]:
        """Probability of each query."""
        return np.asarray(softmax(self._logits(counts)[:, : len(self.problem.queries)], axis=1))

    def recommend(self, counts: Int[np.ndarray, "states answers"]) -> Float[np.ndarray, "states hypotheses"]:
        """Probability of each hypothesis."""
        return np.asarray(softmax(self._logits(counts)[:, len(self.problem.queries) :], axis=1))

    def next_query(self, history: History, rng: np.random.Generator) -> int:
        """Draw the next query after a history of (query, answer) pairs; their order does not matter."""
        chances = self.ask(history_counts(history, len(self.problem.queries)))[0]
        return int(rng.choice(len(chances), p=chances))

    def final_hypothesis(self, history: History, rng: np.random.Generator) -> int:
        """Draw the recommendation."""
        chances = self.recommend(history_counts(history, len(self.problem.queries)))[0]
        return int(rng.choice(len(chances), p=chances))

    def _logits(self, counts: Int[np.ndarray, "states answers"]) -> Float[np.ndarray, "states choices"]:
        x = counts @ _features(self.problem, self.rounds)
        for weight, bias in self.layers[:-1]:
            x = np.maximum(x @ weight.T + bias, 0.0)
        found: Float[np.ndarray, "states choices"] = x @ self.layers[-1][0].T + self.layers[-1][1]
        return found


def train_policy(
    problem: QueryProblem,
    thetas: Thetas,
    rounds: int,
    offsets: Float[np.ndarray, " parameters"] | None = None,
    *,
    generator: torch.Generator,
    steps: int = 1500,
    episodes: int = 8,
    width: int = 64,
    learning_rate: float = 3e-3,
    sharpness: float = 300.0,
    memory: float = 10.0,
    exploration: float = 0.03,
    progress: Progress | None = None,
) -> LearnedPolicy:
    """Train a policy for the smallest largest excess over `offsets`, 0 for plain minimax loss.

    Parameters
    ----------
    thetas : the adversary's candidates.
    episodes : a step and parameter, at least 2.
    sharpness, memory : of the adversary's softmax, relative to the largest loss there is, reached after half the steps;
        and steps that its running mean looks back.
    exploration : weight of an entropy bonus, relative to the same, that falls to 0 in the first half.

    When not to use: few states (`exact_minimax` is exact and faster); symmetric problems with many arms, where a
    network that does not share its weights among the arms learns poorly.
    """
    import torch

    require(len(thetas) > 0, "thetas", thetas.shape, "at least one parameter")
    require(rounds >= 1, "rounds", rounds, "at least 1")
    require(steps >= 2, "steps", steps, "at least 2")
    require(episodes >= 2, "episodes", episodes, "at least 2")
    require_between("learning_rate", learning_rate, 0)
    offset = np.zeros(len(thetas)) if offsets is None else offsets
    require(len(offset) == len(thetas), "offsets", len(offset), f"one a parameter, {len(thetas)}")
    n, m, count = len(problem.queries), len(problem.hypotheses), len(thetas)

    def tensor(array: Float[np.ndarray, ...]) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32).repeat_interleave(episodes, 0)

    loss_of, up = tensor(problem.losses(thetas)), tensor(problem.positive(thetas))
    largest = float(problem.losses(thetas).max()) or 1.0
    features = torch.tensor(_features(problem, rounds), dtype=torch.float32)
    widths = (features.shape[1], width, width, n + m)
    layers = [
        [torch.empty(b, a).uniform_(-(a**-0.5), a**-0.5, generator=generator), torch.zeros(b)]
        for a, b in pairwise(widths)
    ]
    parameters = [p.requires_grad_() for layer in layers for p in layer]
    mean = [torch.zeros_like(p) for p in parameters]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    mixture, running, mixtures, averaged = np.zeros(count), np.zeros(count), np.zeros(count), 0

    def logits(counts: torch.Tensor) -> torch.Tensor:
        x = counts @ features
        for weight, bias in layers[:-1]:
            x = torch.relu(torch.nn.functional.linear(x, weight, bias))
        return torch.nn.functional.linear(x, *layers[-1])

    rows = torch.arange(count * episodes)
    for step in range(steps):
        counts = torch.zeros(count * episodes, 2 * n)
        log_chance, entropy = torch.zeros(count * episodes), torch.zeros(count * episodes)
        for _ in range(rounds):
            log_p = torch.log_softmax(logits(counts)[:, :n], dim=1)
            query = torch.multinomial(log_p.detach().exp(), 1, generator=generator)[:, 0]
            negative = torch.rand(len(rows), generator=generator) >= up[rows, query]
            log_chance = log_chance + log_p[rows, query]
            entropy = entropy - (log_p.exp() * log_p).sum(1)
            counts = counts.clone()
            counts[rows, query + n * negative] += 1
        loss = (torch.softmax(logits(counts)[:, n:], dim=1) * loss_of).sum(1)
        seen = loss.detach().reshape(count, episodes)
        others = (seen.sum(1, keepdim=True) - seen) / (episodes - 1)
        share = np.asarray(softmax(mixture))
        weight = torch.tensor(share, dtype=torch.float32).repeat_interleave(episodes) / episodes
        bonus = exploration * largest * max(0.0, 1 - 2 * step / steps)
        objective = (weight * (loss + (seen - others).reshape(-1) * log_chance - bonus * entropy)).sum()
        optimiser.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        excess = (seen.mean(1).double().numpy() - offset) / largest
        running = excess if step == 0 else running + (excess - running) / memory
        mixture = sharpness * min(1.0, 2 * step / steps) * running
        if step >= steps // 2:
            averaged += 1
            mixtures += share
            for total, p in zip(mean, parameters, strict=True):
                total += p.detach()
        if progress is not None and progress(step + 1, steps) is False and averaged:
            break
    arrays = [(total / averaged).double().numpy() for total in mean]
    pairs = tuple((arrays[i], arrays[i + 1]) for i in range(0, len(arrays), 2))
    return LearnedPolicy(problem, rounds, pairs, mixtures / averaged)


def train_robust(
    problem: QueryProblem,
    thetas: Thetas,
    radii: Sequence[float],
    rounds: int,
    *,
    evaluate: Callable[[LearnedPolicy, Thetas], Float[np.ndarray, " parameters"]],
    generator: torch.Generator,
    **settings: float,
) -> tuple[LearnedPolicy, Float[np.ndarray, " classes"]]:
    """Both phases: a policy for each class of difficulty, then one whose largest excess over their values is small.

    Parameters
    ----------
    evaluate : losses of a policy at parameters, exact (`policy_losses`) or simulated on fresh episodes; an estimate
        that is too low makes the second phase chase that class.

    Returns
    -------
    The policy, and the largest loss of the best policy found for each class.
    """
    require(len(radii) > 0 and list(radii) == sorted(radii), "radii", list(radii), "increasing radii")
    levels = np.searchsorted(np.array(radii) * (1 + 1e-9), problem.difficulty(thetas))
    values = []
    for k in range(len(radii)):
        inside = thetas[levels <= k]
        policy = train_policy(problem, inside, rounds, generator=generator, **settings)  # type: ignore[arg-type]
        values.append(float(evaluate(policy, inside).max()))
    found = np.maximum.accumulate(values)  # the classes are nested
    used = levels < len(radii)
    policy = train_policy(
        problem,
        thetas[used],
        rounds,
        found[levels[used]],
        generator=generator,
        **settings,  # type: ignore[arg-type]
    )
    return policy, found


def _features(problem: QueryProblem, rounds: int) -> Float[np.ndarray, "answers features"]:
    """Linear in the counts: they themselves, the time, and each hypothesis' score <z, sum of y x>, by the rounds."""
    evidence = problem.queries @ problem.hypotheses.T
    time = np.ones((2 * len(problem.queries), 1))
    return np.concatenate([np.eye(len(time)), time, np.concatenate([evidence, -evidence])], axis=1) / rounds
