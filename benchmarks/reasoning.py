"""Bookkeeping of the searches against the generation that it accompanies, and parallel against sequential training.

    python benchmarks/reasoning.py [--quick]

The floor of a particle filter is the same model calls without any resampling: best-of-N through the same loop, and bare
calls of `extend` and `score`. The generation is SmolLM2's, a step of 16 tokens for 16 particles (skipped where the
model is not installed). The peer, its-hub, talks to a server only and has no interface to time; its resampling loop,
one `random.choices` and one deep copy a particle, stands for it. The release of continuous tokens trains by a loop over
steps; the same loop on this library's model is the reference of the second race.
"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
from race import arguments, race, show

from hartley.labs.signed_sums import VOCABULARY, signed_sums
from hartley.labs.training import tiny_decoder
from hartley.reasoning import (
    NORMAL,
    DiffAdapt,
    DifficultyProbe,
    StepGenerator,
    best_of_n,
    csft_loss,
    particle_filter,
)

STEPS = 20


def extend(states: list[tuple[int, ...]], rng: np.random.Generator) -> list[tuple[tuple[int, ...], bool]]:
    return [((*s, 1), len(s) + 1 >= STEPS) for s in states]


def score(states: list[tuple[int, ...]]) -> np.ndarray:
    return 0.5 + 0.4 * np.sin(np.arange(len(states)))


def calls(n: int) -> None:
    states, rng = [()] * n, np.random.default_rng(0)
    for _ in range(STEPS):
        states = [s for s, _ in extend(states, rng)]
        score(states)


def peer(n: int) -> None:
    states: list[list[int]] = [[] for _ in range(n)]
    for _ in range(STEPS):
        states = [[*s, 1] for s in states]
        r = score(states)
        w = np.exp(np.log(r / (1 - r)))
        states = [copy.deepcopy(states[i]) for i in random.choices(range(n), weights=(w / w.sum()).tolist(), k=n)]


def bookkeeping(n: int, seconds: float) -> float:
    """Race of one search with 20 steps; seconds a step of the filter."""
    settings = {"max_steps": STEPS, "rng": np.random.default_rng(0)}
    results = race(
        {
            "bare calls": lambda: calls(n),
            "best of N": lambda: best_of_n(extend, score, [()], n=n, **settings),
            "particle filter": lambda: particle_filter(extend, score, [()], n_particles=n, **settings),
            "loop with deep copies": lambda: peer(n),
        },
        reference="particle filter",
        seconds=seconds,
    )
    show(f"A search of {STEPS} steps with {n} particles, free model", results)
    return next(r.seconds for r in results if r.name == "particle filter") / STEPS


def share_of_generation(step_seconds: float) -> None:
    from hartley.labs.models import language_model

    try:
        model, tokenizer = language_model()
    except ValueError as error:
        print(f"no generation timed: {error}")
        return
    step = StepGenerator(model, tokenizer, delimiter="\n\n", max_step_tokens=16)
    states = [step.start("Question: what is the sum of 17, 25 and 9?\nLet us think step by step.\n")] * 16
    result = race({"one step": lambda: step(states, np.random.default_rng(0))}, reference="one step", rounds=(3, 3))
    show("SmolLM2, a step of 16 tokens for 16 particles", result)
    print(f"bookkeeping of a step: {step_seconds * 1e6:.0f} µs, {step_seconds / result[0].seconds:.3%} of generation")


def training(batch: int, seconds: float) -> None:
    digits = np.random.default_rng(0).integers(1, 10, (batch, 4))
    task = signed_sums(digits)
    targets, model = task.targets(16), tiny_decoder(VOCABULARY, width=16, layers=2, heads=2, seed=0)

    def parallel() -> None:
        csft_loss(model, task.prompts, targets, task.answers).backward()

    def sequential() -> None:
        table = model.get_input_embeddings()
        embeddings, loss = table(task.prompts), torch.zeros(())
        for t in range(targets.shape[1] + 1):
            logits = model(inputs_embeds=embeddings).logits[:, -1]
            if t == targets.shape[1]:
                loss = loss + torch.nn.functional.cross_entropy(logits, task.answers)
            else:
                loss = loss - (targets[:, t] * logits.log_softmax(-1)).sum(-1).mean()
                embeddings = torch.cat([embeddings, (targets[:, t] @ table.weight)[:, None]], 1)
        loss.backward()

    results = race({"one pass": parallel, "a pass a step": sequential}, reference="one pass", seconds=seconds)
    show(f"Gradient of the continuous training loss, batch {batch}, 3 thoughts", results)


def choosing(seconds: float) -> None:
    """The probe on 256 states, and answers from the question's cache against reading the question again."""
    from hartley.labs.models import language_model

    rng = np.random.default_rng(0)
    states = rng.normal(size=(256, 576))
    probe = DifficultyProbe(epochs=5, random_state=0).fit(states, rng.integers(0, 3, 256))
    results = race({"256 states": lambda: probe.predict(states)}, reference="256 states", seconds=seconds)
    show("Reading difficulty off SmolLM2's states", results)
    try:
        model, tokenizer = language_model()
    except ValueError as error:
        print(f"no generation timed: {error}")
        return
    question = " ".join(f"Item {i} costs {3 * i} coins and weighs {i} stones." for i in range(12))
    adapt = DiffAdapt(model, tokenizer, max_tokens=4, strategies=(NORMAL,), template="{question} {instruction}")

    def twice() -> None:
        adapt.states([question])
        ids = tokenizer(f"{question} {NORMAL.instruction}", return_tensors="pt")
        model.generate(**ids, do_sample=True, temperature=NORMAL.temperature, max_new_tokens=4, pad_token_id=0)

    once = np.zeros(1, int)
    functions = {"one reading": lambda: adapt.generate([question], rng, choice=once), "two readings": twice}
    show("A question of 200 tokens, its state and 4 tokens", race(functions, reference="one reading", rounds=(3, 3)))


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    budget = 1.0 if options.quick else 4.0
    per_step = bookkeeping(16, budget)
    if not options.quick:
        bookkeeping(1024, budget)
    training(64 if options.quick else 256, budget)
    share_of_generation(per_step)
    choosing(budget)
