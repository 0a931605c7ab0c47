"""Where restarts are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from hartley.dynamics.restarts import guided_restarts, restart_probabilities


def bump(at: int, length: int = 1000) -> np.ndarray:
    return np.exp(-(((np.arange(length) - at) / 30.0) ** 2))


@pytest.mark.parametrize("lead", [0, 50, 200])
def test_starts_lie_a_lead_before_the_error(lead: int) -> None:
    p = restart_probabilities(bump(600), lead=lead)
    assert p.sum() == pytest.approx(1)
    assert abs(int(p.argmax()) - (600 - lead)) <= 1


def test_power_sharpens_and_zero_draws_evenly() -> None:
    errors = bump(600) + 0.1
    drawn = [restart_probabilities(errors, power=power)[:-50] for power in (0.0, 1.0, 4.0)]
    entropy = [-(p * np.log(p)).sum() for p in drawn]
    assert entropy[0] == pytest.approx(np.log(950))
    assert entropy[0] > entropy[1] > entropy[2]


def test_draws_follow_the_probabilities() -> None:
    states = np.column_stack([np.arange(1000.0), np.zeros(1000)])
    points, times = guided_restarts(bump(600), states, 4000, rng=np.random.default_rng(0), jitter=0.0)
    np.testing.assert_array_equal(points[:, 0], times)
    # mean of a normal of spread 21: standard error 0.34; five of them
    assert times.mean() == pytest.approx(550, abs=1.7)
    moved, _ = guided_restarts(bump(600), states, 500, rng=np.random.default_rng(0), jitter=0.3)
    assert 0.25 < np.abs(moved[:, 1]).max() <= 0.3


def test_no_error_draws_evenly() -> None:
    assert restart_probabilities(np.zeros(100), lead=0)[3] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lead": 1000}, "lead = 1000"),
        ({"window": 50}, "odd"),
        ({"power": -1.0}, "power"),
        ({"window": 1001}, "window"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        restart_probabilities(bump(600), **arguments)
