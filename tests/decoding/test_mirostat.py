"""Mirostat: the feedback identity to rounding, Zipf's law in closed form, and control of a synthetic source."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hartley import decoding
from hartley.decoding import Mirostat


def zipf_logits(exponent: float, vocab: int) -> torch.Tensor:
    return -exponent * torch.arange(1, vocab + 1, dtype=torch.float64).log()


def run(sampler: Mirostat, logits: torch.Tensor, steps: int, batch: int, seed: int = 0) -> torch.Tensor:
    """Surprise in bits under the untruncated source, (steps, batch)."""
    g = torch.Generator().manual_seed(seed)
    z = logits.expand(batch, -1)
    log_partition = torch.logsumexp(logits, -1)
    out = []
    sampler.reset(batch)
    for _ in range(steps):
        ids = sampler.step(z, generator=g)
        out.append((log_partition - logits[ids]) / math.log(2))
    return torch.stack(out)


def test_threshold_is_in_bits() -> None:
    z = torch.tensor([[0.8, 0.2]]).log()
    for mu, size in ((2.0, 1), (2.33, 2), (-math.inf, 1), (0.0, 1), (1e9, 2)):
        band = decoding.mirostat_threshold(z, torch.tensor([mu]))
        assert decoding.kept_statistics(z, band).size.item() == size


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), tau=st.floats(0.5, 9), eta=st.floats(0.05, 2), version=st.sampled_from([1, 2]))
def test_average_surprise_identity(seed: int, tau: float, eta: float, version: int) -> None:
    """mean S = tau + (mu_0 - mu_T) / (eta T), whatever is drawn."""
    sampler = Mirostat(tau, eta, version=version)
    surprise = run(sampler, zipf_logits(1.1, 300), 25, 3, seed)
    assert sampler.state is not None
    predicted = tau + (2 * tau - sampler.state.mu) / (eta * 25)
    torch.testing.assert_close(surprise.mean(0), predicted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("version", [1, 2])
def test_reaches_a_reachable_target(version: int) -> None:
    """|mean - tau| < 0.05 bits after 400 steps: by the identity at most (|mu_0| + |mu_T|)/400, with mu below 10."""
    for tau in (3.5, 5.0):
        surprise = run(Mirostat(tau, 1.0, version=version), zipf_logits(1.1, 5000).float(), 400, 2)
        assert (surprise.mean(0) - tau).abs().max() < 0.05


def test_renormalized_feedback_controls_another_quantity() -> None:
    surprise = run(Mirostat(3.0, 1.0, surprise="renormalized"), zipf_logits(1.1, 5000).float(), 400, 2)
    assert (surprise.mean() - 3.0).abs() > 0.3


def test_range_stops_wind_up() -> None:
    z = zipf_logits(1.1, 200)
    free, held = Mirostat(30.0), Mirostat(30.0, mu_range=(0.0, math.log2(200)))
    run(free, z, 50, 2)
    run(held, z, 50, 2)
    assert free.state is not None
    assert held.state is not None
    assert (free.state.mu > 500).all()
    assert (held.state.mu <= math.log2(200)).all()


@pytest.mark.parametrize("exponent", [0.9, 1.05, 1.1, 1.3])
@pytest.mark.parametrize("m", [99, 100])
def test_zipf_exponent_is_recovered(exponent: float, m: int) -> None:
    assert decoding.zipf_exponent(zipf_logits(exponent, 5000), m).item() == pytest.approx(exponent, abs=1e-12)


def test_zipf_exponent_at_the_edges() -> None:
    assert decoding.zipf_exponent(torch.tensor([1.0, -math.inf, -math.inf])).item() == 0
    assert decoding.zipf_exponent(torch.tensor([1.0])).item() == 0
    z = torch.cat([zipf_logits(1.2, 20), torch.full((5,), -math.inf, dtype=torch.float64)])
    assert decoding.zipf_exponent(z).item() == pytest.approx(1.2)


def test_zipf_rank() -> None:
    n = 50257
    exponent, mu = torch.tensor([1.1] * 4, dtype=torch.float64), torch.tensor([4.0, 6, 8, 10], dtype=torch.float64)
    assert decoding.zipf_rank(exponent, mu, n).tolist() == [2, 8, 28, 98]
    near = decoding.zipf_rank(torch.tensor([1 + 1e-8, 1 - 1e-8, 1 + 1e-6], dtype=torch.float64), mu[:3] + 8, n)
    limit = (2 ** (mu[:3] + 8) / math.log(n)).round().long()
    assert ((near - limit).abs() <= 1).all()
    extreme = decoding.zipf_rank(exponent[:2], torch.tensor([-1e9, 1e9], dtype=torch.float64), n)
    assert extreme.tolist() == [1, n]


def test_version_one_keeps_zipfs_rank() -> None:
    z = zipf_logits(1.1, 50257)[None]
    band = decoding.mirostat_threshold(z, torch.tensor([8.0]), version=1)
    assert decoding.kept_statistics(z, band).size.item() == 28


def test_states_follow_their_sequences() -> None:
    z = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    sampler = Mirostat(2.0)
    sampler.step(z, generator=torch.Generator().manual_seed(1))
    assert sampler.state is not None
    mu = sampler.state.mu
    assert torch.equal(sampler.state.permute(torch.tensor([2, 0])).mu, mu[[2, 0]])
    sampler.reset(3)
    assert sampler.state.mu.tolist() == [4.0] * 3
    with pytest.raises(ValueError, match="batch = 2"):
        sampler.step(z[:2])
