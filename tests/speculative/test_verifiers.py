"""Every verifier is lossless: summed over all drafts, the emitted token has the law p."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speculative.enumeration import marginal
from speculative.strategies import pairs
from torch import Tensor

from hartley.speculative import (
    Draft,
    Verifier,
    acceptance,
    greedy,
    kseq,
    kseq_guarantee,
    kseq_rho,
    optimal,
    optimal_acceptance,
    output_law,
    recursive_rejection,
    single,
    verify,
)
from hartley.speculative.kseq import root_by_bisection

WITH: dict[str, Verifier] = {"single": single, "rrs": recursive_rejection, "kseq": kseq, "optimal": optimal}
P3, Q3 = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], dtype=torch.float64)
P4, Q4 = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)


@pytest.mark.parametrize("name", WITH)
@settings(max_examples=30, deadline=None)
@given(pairs(), st.integers(1, 3))
def test_lossless_with_replacement(name: str, rows: tuple[Tensor, Tensor], n: int) -> None:
    p, q = rows
    law, accepted = marginal(p, q, n, WITH[name])
    torch.testing.assert_close(law, p, atol=1e-12, rtol=0)
    assert (
        accepted == pytest.approx(float(acceptance(p, q, n, name)), abs=1e-9 if n == 1 else 1e-12) or name == "single"
    )


@settings(max_examples=30, deadline=None)
@given(pairs(5), st.integers(1, 3))
def test_lossless_without_replacement(rows: tuple[Tensor, Tensor], n: int) -> None:
    p, q = rows
    n = min(n, int((q > 0).sum()))
    law, accepted = marginal(p, q, n, recursive_rejection, "without")
    torch.testing.assert_close(law, p, atol=1e-12, rtol=0)
    assert accepted == pytest.approx(float(acceptance(p, q, n, "rrsw")), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(pairs(), st.integers(1, 3))
def test_lossless_and_optimal_with_greedy_drafts(rows: tuple[Tensor, Tensor], n: int) -> None:
    p, q = rows
    n = min(n, int((q > 0).sum()))
    law, accepted = marginal(p, q, n, greedy, "greedy")
    torch.testing.assert_close(law, p, atol=1e-12, rtol=0)
    assert accepted == pytest.approx(float(optimal_acceptance(p, q, n, "greedy")), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(pairs(6), st.integers(1, 3))
def test_the_optimal_verifier_attains_the_optimum(rows: tuple[Tensor, Tensor], n: int) -> None:
    p, q = rows
    law, accepted = marginal(p, q, n, optimal)
    torch.testing.assert_close(law, p, atol=1e-12, rtol=0)
    assert accepted == pytest.approx(float(optimal_acceptance(p, q, n)), abs=1e-12)


def test_one_draft_is_the_maximal_coupling_for_every_verifier() -> None:
    overlap = float(torch.minimum(P4, Q4).sum())
    for name, verifier in WITH.items():
        assert marginal(P4, Q4, 1, verifier)[1] == pytest.approx(overlap, abs=1e-12), name
    assert marginal(P4, Q4, 1, recursive_rejection, "without")[1] == pytest.approx(overlap, abs=1e-12)
    assert marginal(P4, Q4, 1, greedy, "greedy")[1] == pytest.approx(overlap, abs=1e-12)


@pytest.mark.parametrize(
    ("k", "rho", "accepted", "best", "rrs"),
    [(2, 1.456776436, 0.791355287, 0.86, 0.76), (3, 1.792593028, 0.858518606, 0.988, 0.808)],
)
def test_worked_example(k: int, rho: float, accepted: float, best: float, rrs: float) -> None:
    root, beta = kseq_rho(P3[None], Q3[None], torch.tensor([k]))
    assert float(root) == pytest.approx(rho, abs=1e-8)
    assert 1 - (1 - float(beta)) ** k == pytest.approx(accepted, abs=1e-8)
    assert marginal(P3, Q3, k, kseq)[1] == pytest.approx(accepted, abs=1e-8)
    assert marginal(P3, Q3, k, optimal)[1] == pytest.approx(best, abs=1e-12)
    assert marginal(P3, Q3, k, recursive_rejection)[1] == pytest.approx(rrs, abs=1e-12)


def test_kseq_residual_of_the_worked_example_is_one_token() -> None:
    draft = Draft(torch.tensor([[2, 2]]), Q3[None])
    rest = kseq(P3[None], draft).residual(torch.tensor([0]))
    torch.testing.assert_close(rest / rest.sum(), torch.tensor([[1.0, 0, 0]], dtype=torch.float64), atol=1e-12, rtol=0)


def test_kseq_reaches_the_optimum_on_a_point_mass() -> None:
    p, q = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    root, beta = kseq_rho(p[None], q[None], torch.tensor([2]))
    assert (float(root), float(beta)) == pytest.approx((1.5, 0.5), abs=1e-12)
    assert float(acceptance(p, q, 2, "kseq")) == pytest.approx(float(optimal_acceptance(p, q, 2)), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(pairs(8), st.integers(1, 8))
def test_kseq_root_by_segments_is_the_root_by_bisection(rows: tuple[Tensor, Tensor], k: int) -> None:
    p, q = rows[0][None], rows[1][None]
    root, beta = kseq_rho(p, q, torch.tensor([k]))
    _, other_beta = root_by_bisection(p, q, torch.tensor([k]))
    accepted = 1 - (1 - float(beta)) ** k
    assert accepted == pytest.approx(1 - (1 - float(other_beta)) ** k, abs=1e-12)
    assert accepted <= float(root * beta) + 1e-15  # valid: the bracket's upper end
    assert accepted == pytest.approx(float(root * beta), abs=1e-12)  # and the root


@settings(max_examples=50, deadline=None)
@given(pairs(8), st.integers(1, 8))
def test_kseq_lies_between_its_guarantee_and_the_optimum(rows: tuple[Tensor, Tensor], k: int) -> None:
    p, q = rows
    best, found = float(optimal_acceptance(p, q, k)), float(acceptance(p, q, k, "kseq"))
    assert kseq_guarantee(k) * best - 1e-12 <= found <= best + 1e-12
    assert found <= float(acceptance(p, q, k + 1, "kseq")) + 1e-12
    order = torch.randperm(len(p), generator=torch.Generator().manual_seed(0))
    assert float(acceptance(p[order], q[order], k, "kseq")) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("name", WITH)
def test_rows_with_fewer_live_drafts_are_decided_as_if_alone(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    p, q = torch.rand(2, 5, 7, dtype=torch.float64, generator=generator).softmax(-1)
    tokens = Draft.sample(q, 4, generator=generator).tokens
    alive = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    together = output_law(WITH[name](p, Draft(tokens, q, "with", alive)), Draft(tokens, q, "with", alive))
    for i in range(4):
        draft = Draft(tokens[i : i + 1, alive[i]], q[i : i + 1])
        torch.testing.assert_close(together[i], output_law(WITH[name](p[i : i + 1], draft), draft)[0])
    torch.testing.assert_close(together[4], p[4])


@pytest.mark.parametrize(
    ("name", "law"), [*((name, "with") for name in WITH), ("rrs", "without"), ("greedy", "greedy")]
)
def test_sampled_tokens_follow_the_target(name: str, law: str) -> None:
    # One chi-square test a case with a fixed seed; false alarms at 1e-4 if the seed were redrawn.
    generator = torch.Generator().manual_seed(7)
    p, q = torch.randn(2, 6, dtype=torch.float64, generator=generator).softmax(-1)
    rows = 30_000
    draft = Draft.sample(q.expand(rows, -1), 3, law, generator)  # type: ignore[arg-type]
    verdict = verify(p.expand(rows, -1), draft, (WITH | {"greedy": greedy})[name], generator)
    observed = verdict.token.bincount(minlength=6).numpy()
    assert scipy.stats.chisquare(observed, p.numpy() * rows).pvalue > 1e-4
    expected = float(acceptance(p, q, 3, "rrsw" if law == "without" else name)) if name != "single" else None
    if expected is not None:  # four standard errors
        rate = float(verdict.accepted.double().mean())
        assert abs(rate - expected) <= 4 * (expected * (1 - expected) / rows) ** 0.5


def test_optimal_verifier_is_exact_at_real_vocabulary_sizes() -> None:
    """The accepted mass of each token, recomputed from the pieces that tokens draw, is the mass that was promised."""
    from hartley.speculative.optimal import accepted_mass, chain, pieces
    from hartley.speculative.optimum import order_by_ratio

    generator = torch.Generator().manual_seed(0)
    for k, noise in ((2, 0.7), (4, 0.1), (8, 2.0)):
        logits = 3 * torch.randn(1, 8_000, dtype=torch.float64, generator=generator)
        shift = noise * torch.randn(1, 8_000, dtype=torch.float64, generator=generator)
        p, q = logits.softmax(-1), (logits + shift).softmax(-1)
        mass, t, top = accepted_mass(p[0].numpy(), q[0].numpy(), order_by_ratio(p.numpy(), q.numpy())[0], k)
        slopes, keep = chain(t, top, k)
        drawn = torch.zeros(len(slopes) + 1, dtype=torch.float64)
        parts = []
        for token, (m, x) in enumerate(zip(mass, q[0].tolist(), strict=True)):
            j, here, after = pieces(m / x, slopes)
            drawn[j] += x * here
            drawn[j + 1] += x * after
            parts.append((token, j, x * here, x * after))
        drawn = drawn[:-1]
        reached = torch.cat([torch.zeros(1), drawn.cumsum(0)])
        won = (1 - (1 - reached) ** k).diff() * torch.from_numpy(keep)
        share = torch.cat([torch.where(drawn > 0, won / drawn.clamp_min(1e-300), 0), torch.zeros(1)])
        emitted = torch.zeros_like(p[0])
        for token, j, here, after in parts:
            emitted[token] = here * share[j] + after * share[j + 1]
        assert float((emitted - torch.from_numpy(mass)).abs().sum()) < 1e-9
        assert float(emitted.sum()) == pytest.approx(float(optimal_acceptance(p[0], q[0], k)), abs=1e-9)
        assert bool((torch.from_numpy(mass) <= p[0] + 1e-15).all())


def test_equal_rows_always_accept_and_disjoint_rows_never() -> None:
    p, q = torch.tensor([[0.6, 0.4, 0.0, 0.0], [0.0, 0.0, 0.3, 0.7]], dtype=torch.float64)
    for name, verifier in WITH.items():
        assert marginal(p, p, 2, verifier)[1] == pytest.approx(1, abs=1e-12), name
        law, accepted = marginal(p, q, 2, verifier)
        assert accepted == pytest.approx(0, abs=1e-12)
        torch.testing.assert_close(law, p)


def test_low_precision_rows_are_renormalised() -> None:
    """bf16 probabilities sum to 0.99 or 1.01; what they stand for is the row divided by its sum."""
    generator = torch.Generator().manual_seed(3)
    p, q = torch.randn(2, 200, generator=generator).softmax(-1).bfloat16()
    exact_p, exact_q = p.double() / p.double().sum(), q.double() / q.double().sum()
    assert abs(float(p.double().sum()) - 1) > 1e-4
    law, _ = marginal(p, exact_q, 1, kseq)
    torch.testing.assert_close(law, exact_p, atol=1e-12, rtol=0)
    torch.testing.assert_close(Draft.sample(q[None], 1).q[0], exact_q, atol=1e-15, rtol=0)


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([0.5, 0.5], "shape of q"),
        ([0.5, 0.6, -0.1], "negative or NaN"),
        ([0.5, 0.5, float("nan")], "negative or NaN"),
        ([0.5, 0.5, 0.1], "sum to one"),
    ],
)
def test_bad_targets(p: list[float], message: str) -> None:
    draft = Draft(torch.tensor([[0]]), Q3[None])
    for verifier in WITH.values():
        with pytest.raises(ValueError, match=message):
            verify(torch.tensor([p], dtype=torch.float64), draft, verifier)


def test_verifiers_refuse_drafts_of_another_law(unchecked: None) -> None:
    drafts = {law: Draft.sample(Q4[None], 2, law) for law in ("with", "without", "greedy")}  # type: ignore[arg-type]
    for law, verifier in (("without", kseq), ("without", optimal), ("greedy", recursive_rejection), ("with", greedy)):
        with pytest.raises(ValueError, match="law"):
            verifier(P4[None], drafts[law])
    with pytest.raises(ValueError, match="verifier"):
        acceptance(P4, Q4, 2, "beam")  # type: ignore[arg-type]
