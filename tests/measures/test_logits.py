"""Row statistics against float64 references, closed forms and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from hartley import measures
from hartley.measures import _moments, row_statistics

EXAMPLE = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()


def reference(row: np.ndarray) -> tuple[float, float, float]:
    """Log-partition, entropy and varentropy by scipy in float64."""
    z = row.astype(np.float64)
    q = special.softmax(z)
    entropy = float(stats.entropy(q))
    information = np.where(q > 0, -np.log(np.where(q > 0, q, 1)), 0)
    return float(special.logsumexp(z)), entropy, float(q @ (information - entropy) ** 2)


def random_rows(seed: int, rows: int, outcomes: int, scale: float, masked: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, outcomes, generator=generator) * scale
    z[torch.rand(rows, outcomes, generator=generator) < masked] = -torch.inf
    z[:, 0] = 0.0
    return z


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 4),
    outcomes=st.sampled_from([1, 2, 10, 1000, 5000]),
    scale=st.sampled_from([0.1, 1.0, 10.0, 100.0]),
    masked=st.sampled_from([0.0, 0.3, 0.99]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_matches_float64_reference(
    seed: int, rows: int, outcomes: int, scale: float, masked: float, dtype: torch.dtype
) -> None:
    z = random_rows(seed, rows, outcomes, scale, masked).to(dtype)
    got = row_statistics(z)
    for i in range(rows):
        log_partition, entropy, varentropy = reference(z[i].double().numpy())
        tolerance = 1e-10 if dtype == torch.float64 else 4e-6
        assert got.log_partition[i].item() == pytest.approx(log_partition, abs=tolerance, rel=tolerance)
        assert got.entropy[i].item() == pytest.approx(entropy, abs=tolerance * max(1.0, math.log(outcomes)))
        assert got.varentropy[i].item() == pytest.approx(varentropy, abs=tolerance * 30, rel=1e-4)


def test_worked_example() -> None:
    got = row_statistics(EXAMPLE, torch.tensor(1))
    assert got.entropy.item() == pytest.approx(1.213008, abs=1e-6)
    assert got.varentropy.item() == pytest.approx(0.330311, abs=1e-6)
    assert got.max_probability.item() == pytest.approx(0.5)
    assert got.surprisal is not None
    assert got.surprisal.item() == pytest.approx(math.log(4))
    assert got.rank is not None
    assert got.rank.item() == 1
    assert measures.renyi_entropy(EXAMPLE, 2.0).item() == pytest.approx(1.067841, abs=1e-6)
    assert measures.renyi_entropy(EXAMPLE, 0.5).item() == pytest.approx(1.298614, abs=1e-6)
    assert measures.renyi_entropy(EXAMPLE, math.inf).item() == pytest.approx(math.log(2), abs=1e-6)
    assert measures.tsallis_entropy(EXAMPLE, 2.0).item() == pytest.approx(0.65625, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_rows(dtype: torch.dtype) -> None:
    inf = math.inf
    z = torch.tensor([[7.0] * 4, [-inf, 3.0, -inf, -inf], [-inf] * 4, [0.0, math.nan, 1.0, 2.0], [inf, 1, 2, 3]])
    got = row_statistics(z.to(dtype))
    assert got.entropy[0].item() == pytest.approx(math.log(4), abs=1e-6)
    assert got.varentropy[0].item() == pytest.approx(0.0, abs=1e-6)
    assert got.entropy[1].item() == pytest.approx(0.0, abs=1e-30)
    assert got.log_partition[1].item() == 3.0
    assert got.entropy[2:4].isnan().all()
    assert got.varentropy[2:4].isnan().all()
    assert got.entropy[4].item() == 0.0  # all the mass on the +inf logit


def test_shift_changes_only_rounding() -> None:
    z = random_rows(0, 3, 500, 3.0, 0.1).double()
    for shift in (1e4, -1e4):
        torch.testing.assert_close(measures.entropy(z + shift), measures.entropy(z), atol=1e-9, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1 - 1e-6, 1.0, 1 + 1e-6, 2.0, 5.0, math.inf])
def test_renyi_against_the_definition(alpha: float) -> None:
    z = random_rows(1, 5, 40, 2.0, 0.3).double()
    q = z.softmax(-1)
    if alpha == 0:
        expected = (q > 0).sum(-1).double().log()
    elif math.isinf(alpha):
        expected = -q.amax(-1).log()
    elif abs(alpha - 1) < 1e-3:
        expected = torch.special.entr(q).sum(-1)
    else:
        expected = (q**alpha).sum(-1).log() / (1 - alpha)
    torch.testing.assert_close(measures.renyi_entropy(z, alpha), expected, atol=3e-6, rtol=0)


def test_orders_are_monotone() -> None:
    z = random_rows(2, 6, 100, 3.0, 0.0).double()
    values = torch.stack([measures.renyi_entropy(z, a) for a in (0, 0.5, 0.999, 1 - 1e-6, 1, 1 + 1e-6, 2, 8, math.inf)])
    assert (values.diff(dim=0) <= 1e-7).all()


def test_tiles_and_slabs_agree_with_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    z = random_rows(3, 300, 5000, 3.0, 0.2).double()
    whole = [_moments._statistics_torch(row[None], 1.0) for row in z[:5]]
    tiled = _moments._statistics_torch(z, 1.0)
    for i, parts in enumerate(whole):
        for a, b in zip(parts, tiled, strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    threaded = measures.entropy(z.float())
    torch.testing.assert_close(threaded, measures.entropy(z).float(), atol=1e-5, rtol=0)


def test_gradients_match_finite_differences() -> None:
    z = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    temperature = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).requires_grad_()

    def statistics(logits: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        got = row_statistics(logits, torch.tensor([0, 1, 2]), temperature=t)
        assert got.surprisal is not None
        return got.log_partition, got.entropy, got.varentropy, got.surprisal

    assert torch.autograd.gradcheck(statistics, (z, temperature))


def test_gradient_is_zero_and_finite_at_minus_infinity() -> None:
    z = torch.tensor([[-math.inf, 0.5, 1.0, -math.inf, -200.0]]).requires_grad_()
    got = row_statistics(z)
    (got.entropy + got.varentropy + got.log_partition).sum().backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert z.grad[0, 0] == z.grad[0, 3] == 0


def test_half_precision_is_read_as_float32() -> None:
    z = random_rows(4, 8, 3000, 3.0, 0.0).bfloat16()
    torch.testing.assert_close(measures.entropy(z), measures.entropy(z.float()))
    assert measures.entropy(z).dtype == torch.float32


def test_numpy_in_numpy_out() -> None:
    z = np.random.default_rng(0).normal(size=(2, 3, 50))
    got = measures.entropy(z)
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, stats.entropy(special.softmax(z, -1), axis=-1), atol=1e-12)
    assert isinstance(measures.surprisal(z, np.zeros((2, 3), np.int64)), np.ndarray)


def test_head_and_normalized_entropy() -> None:
    head = measures.head_entropy(EXAMPLE, 2)
    assert head.mass.item() == pytest.approx(0.75)
    q = np.array([2 / 3, 1 / 3])
    assert head.entropy.item() == pytest.approx(-(q * np.log(q)).sum(), abs=1e-6)
    assert measures.normalized_entropy(torch.zeros(9)).item() == pytest.approx(1.0, abs=1e-6)
    assert measures.normalized_entropy(torch.zeros(1)).item() == 0.0


def test_temperature_is_a_division_of_the_logits() -> None:
    z = random_rows(5, 4, 200, 2.0, 0.1)
    t = torch.tensor([0.3, 1.0, 2.0, 7.0])
    scaled, direct = row_statistics(z, temperature=t), row_statistics(z / t[:, None])
    torch.testing.assert_close(scaled.entropy, direct.entropy, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(scaled.maximum, direct.maximum)
    torch.testing.assert_close(scaled.log_partition, direct.log_partition, atol=1e-5, rtol=1e-5)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="temperature = 0"):
        row_statistics(EXAMPLE, temperature=0.0)
    with pytest.raises(ValueError, match="at least one outcome"):
        row_statistics(torch.empty(2, 0))
    with pytest.raises(ValueError, match="targets"):
        row_statistics(EXAMPLE, torch.tensor(4))
    with pytest.raises(ValueError, match="alpha = -1"):
        measures.renyi_entropy(EXAMPLE, -1.0)
    with pytest.raises(ValueError, match="k = 0"):
        measures.head_entropy(EXAMPLE, 0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), outcomes=st.sampled_from([2, 5, 300]), part=st.floats(0.02, 0.98))
def test_temperature_for_entropy_round_trip(seed: int, outcomes: int, part: float) -> None:
    z = random_rows(seed, 3, outcomes, 3.0, 0.0).double()
    target = part * math.log(outcomes)
    t = measures.temperature_for_entropy(z, target)
    torch.testing.assert_close(
        measures.entropy(z, temperature=t), torch.full((3,), target, dtype=torch.float64), atol=2e-6, rtol=0
    )


def test_temperature_for_entropy_out_of_reach() -> None:
    z = torch.tensor([[2.0, 2.0, 0.0, -math.inf], [3.0, 1.0, 0.0, 0.0]])
    assert measures.temperature_for_entropy(z, torch.tensor([math.log(3), 1.5])).tolist() == [math.inf, math.inf]
    assert measures.temperature_for_entropy(z, torch.tensor([math.log(2) - 0.01, 0.0])).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="target"):
        measures.temperature_for_entropy(z, -1.0)
