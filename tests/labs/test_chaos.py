"""The room's problems: what they promise the claims."""

from __future__ import annotations

import numpy as np
import pytest

from hartley.dynamics import get_system, load_systems
from hartley.labs.chaos import ChaosLab, RestartLab, RingLab
from hartley.labs.surrogates import LENGTH, SurrogateLab


def test_every_chosen_system_gives_a_series() -> None:
    assert len(ChaosLab(quick=True).chosen) == 24
    assert len(ChaosLab(quick=False).chosen) == 100
    assert len(ChaosLab(systems=5).chosen) == 5
    lab, rng = ChaosLab(), np.random.default_rng(0)
    angles = [s for s in load_systems(delayed=False).values() if len(s.unbounded) == s.dimension]
    for system in [*angles, get_system("Duffing"), get_system("Lorenz")]:
        x = lab.first_coordinate(system, 2, 50, rng)
        assert x.shape == (100,)
        assert np.abs(x).max() < 100


def test_ring_force_is_odd_and_its_divergence_is_the_slope() -> None:
    ring, x = RingLab(), np.linspace(0.2, 3.8, 50)
    np.testing.assert_allclose(ring.force(-x), -ring.force(x))
    slope = (ring.force(x + 1e-6) - ring.force(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(ring.divergence(np.stack([x, 0 * x], 1)), slope - ring.gamma, atol=1e-6)
    np.testing.assert_allclose(ring.wrap(np.array([4.5, 9.0])), [-3.5, 9.0])


@pytest.mark.parametrize(("task", "kinds"), [("cylinder-bell-funnel", 3), ("control charts", 6), ("two patterns", 4)])
def test_tasks(task: str, kinds: int) -> None:
    x, kind = SurrogateLab().task(task, 300, np.random.default_rng(0))
    assert x.shape == (300, LENGTH)
    assert set(kind.tolist()) == set(range(kinds))
    np.testing.assert_allclose(x.std(1), 1)
    centres = np.stack([x[kind == k].mean(0) for k in range(kinds)])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)[~np.eye(kinds, dtype=bool)]
    assert apart.min() > 1  # the classes differ


def test_an_encoder_learns_and_leaves_the_global_seed_alone() -> None:
    import torch

    lab, rng = SurrogateLab(steps=5), np.random.default_rng(0)
    state = torch.get_rng_state()
    windows = rng.standard_normal((64, LENGTH))
    trained, drawn = lab.encoder(windows, 0), lab.encoder(None, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert any(not torch.equal(a, b) for a, b in zip(trained.parameters(), drawn.parameters(), strict=True))
    train, test = (lab.task("control charts", n, rng) for n in (60, 100))
    assert lab.accuracy(None, train, test) > 0.6


def test_training_reduces_the_one_step_error() -> None:
    lab = RestartLab(rounds=2)
    few, many = (RestartLab(rounds=2, steps=n).one_step_error(get_system("Rossler"), "guided", 0) for n in (1, 80))
    assert many < 0.5 * few
    assert lab.one_step_error(get_system("Rossler"), "static", 0) == lab.one_step_error(
        get_system("Rossler"), "static", 0
    )
