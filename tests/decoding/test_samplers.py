"""Every truncation rule against an independent, sort-based float64 reference, and the worked numbers of each method."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from transformers import TopHLogitsWarper, TypicalLogitsWarper

from hartley import decoding
from hartley.decoding import Band

P5 = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
INF = math.inf


def rows(seed: int, count: int, vocab: int, kind: str) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(count, vocab, generator=g)
    if kind == "peaked":
        z = z * 12
    elif kind == "flat":
        z = z * 0.01
    elif kind == "tied":
        z = z.round()
    elif kind == "masked":
        z[torch.rand(z.shape, generator=g) < 0.8] = -INF
        z[:, -1] = 0.5
    else:
        z = z * 3
    return z


def kept(logits: torch.Tensor, band: Band) -> list[set[int]]:
    mask = decoding.kept_mask(logits, band)
    filtered = decoding.apply_band(logits, band)
    assert torch.equal(filtered > -INF, mask & (logits > -INF))
    assert torch.equal(filtered[filtered > -INF], logits[filtered > -INF])
    return [set(row.nonzero().flatten().tolist()) for row in filtered > -INF]


def reference_top_h(z: np.ndarray, alpha: float, rule: str, top_n: int) -> tuple[set[int], float]:
    """Greedy set by a stable sort in float64, and how close any decision was, in nats."""
    z = z.astype(np.float64)
    p = special.softmax(z)
    order = np.argsort(-z, kind="stable")[:top_n]
    order = order[p[order] > 0]
    terms = special.entr(p)
    chosen, closest = [order[0]], INF
    for j in order[1:]:
        trial = p[[*chosen, j]]
        if rule == "entropy":
            gap = stats.entropy(trial) - alpha * terms.sum()
        else:
            gap = terms[[*chosen, j]].sum() - alpha * terms[order].sum()
        closest = min(closest, abs(gap))
        if gap > 0:
            break
        chosen.append(j)
    return set(map(int, chosen)), closest


def reference_typical(z: np.ndarray, mass: float) -> tuple[set[int], float]:
    z = z.astype(np.float64)
    p = special.softmax(z)
    information = -special.log_softmax(z)
    d = np.abs(information - special.entr(p).sum())
    d[p == 0] = INF
    order = np.argsort(d, kind="stable")
    running = p[order].cumsum()
    first = min(int((running < mass).sum()), int((p > 0).sum()) - 1)
    cut = d[order[first]]
    near = np.abs(np.delete(running, first) - mass).min(initial=INF)
    gap = np.abs(d - cut)
    return set(np.flatnonzero(d <= cut).tolist()), min(near, gap[gap > 0].min(initial=INF))


KINDS = st.sampled_from(["normal", "peaked", "flat", "tied", "masked"])
VOCABS = st.sampled_from([1, 2, 5, 100, 3000])


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6), kind=KINDS, vocab=VOCABS, alpha=st.sampled_from([0.1, 0.4, 0.6, 0.9]),
    rule=st.sampled_from(["entropy", "partial"]), double=st.booleans(),
)  # fmt: skip
def test_top_h_is_the_greedy_set(seed: int, kind: str, vocab: int, alpha: float, rule: str, double: bool) -> None:
    z = rows(seed, 3, vocab, kind)
    z = z.double() if double else z
    top_n = 100 if rule == "partial" else vocab
    sets = kept(z, decoding.top_h_threshold(z, alpha, rule=rule))
    for row, got in zip(z.numpy(), sets, strict=True):
        expected, closest = reference_top_h(row, alpha, rule, top_n)
        if closest > (1e-9 if double else 1e-5):
            assert got == expected


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), kind=KINDS, vocab=VOCABS, alpha=st.floats(0.05, 0.95))
def test_top_h_keeps_its_promise(seed: int, kind: str, vocab: int, alpha: float) -> None:
    """H(q) <= alpha H(p), and one more token breaks it; shifts and permutations change nothing."""
    z = rows(seed, 2, vocab, kind).double()
    band = decoding.top_h_threshold(z, alpha)
    info = decoding.kept_statistics(z, band)
    budget = alpha * torch.special.entr(z.softmax(-1)).sum(-1)
    single = info.size == 1
    assert ((info.entropy <= budget + 1e-9) | single).all()
    for row, size, limit in zip(z, info.size, budget, strict=True):
        finite = int((row > -INF).sum())
        if size < finite:
            longer = row.sort(descending=True).values[: size + 1].softmax(-1)
            assert torch.special.entr(longer).sum() > limit - 1e-9
    assert torch.equal(decoding.kept_statistics(z + 7, decoding.top_h_threshold(z + 7, alpha)).size, info.size)
    order = torch.randperm(vocab, generator=torch.Generator().manual_seed(seed))
    permuted = decoding.kept_statistics(z[:, order], decoding.top_h_threshold(z[:, order], alpha))
    assert torch.equal(permuted.size, info.size)


def test_top_h_worked_example() -> None:
    z = P5.log()[None]
    for alpha, expected in ((0.2, {0}), (0.4, {0}), (0.6, {0, 1}), (0.8, {0, 1, 2})):
        assert kept(z, decoding.top_h_threshold(z, alpha)) == [expected]
    info = decoding.kept_statistics(z, decoding.top_h_threshold(z, 0.8))
    assert info.entropy.item() == pytest.approx(0.958692, abs=1e-6)
    assert info.mass.item() == pytest.approx(0.85)
    uniform = torch.zeros(1, 1000)
    assert kept(uniform, decoding.top_h_threshold(uniform, 0.5)) == [set(range(31))]
    one_hot = torch.full((1, 50), -INF)
    one_hot[0, 7] = 3.0
    assert kept(one_hot, decoding.top_h_threshold(one_hot)) == [{7}]


SUBSETS = (np.arange(1, 1 << 12)[:, None] >> np.arange(12)) & 1


def best_set(p: np.ndarray, alpha: float) -> float:
    """Largest mass of any of the 4095 sets within the entropy bound, by exhaustion."""
    mass = SUBSETS @ p
    entropy = np.log(mass) + SUBSETS @ special.entr(p) / mass
    return float(mass[entropy <= alpha * stats.entropy(p) + 1e-12].max())


def test_top_h_against_the_exhaustive_optimum() -> None:
    """The greedy set never beats the optimum, and on 40 random vocabularies of 12 holds most of its mass."""
    shares = []
    for seed in range(40):
        p = np.random.default_rng(seed).dirichlet(np.full(12, 0.5))
        z = torch.from_numpy(np.log(p))[None]
        for alpha in (0.4, 0.7):
            mass = decoding.kept_statistics(z, decoding.top_h_threshold(z, alpha)).mass.item()
            optimum = best_set(p, alpha)
            assert mass <= optimum + 1e-9
            shares.append(mass / optimum)
    assert np.mean(shares) > 0.85
    assert min(shares) < 1 - 1e-6  # the greedy rule is not optimal


def test_partial_rule_equals_transformers() -> None:
    """Where all mass lies in the top 100 the programs agree; transformers renormalises within those."""
    z = torch.full((64, 500), -INF)
    z[:, :90] = torch.randn(64, 90, generator=torch.Generator().manual_seed(0)) * 2
    ours = decoding.apply_band(z, decoding.top_h_threshold(z, 0.4, rule="partial"))
    theirs = TopHLogitsWarper(0.4)(None, z.clone())
    assert torch.equal(ours > -INF, theirs > -INF)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6), kind=KINDS, vocab=VOCABS, mass=st.sampled_from([0.05, 0.2, 0.5, 0.9, 0.99]),
    double=st.booleans(),
)  # fmt: skip
def test_typical_is_the_sorted_set(seed: int, kind: str, vocab: int, mass: float, double: bool) -> None:
    z = rows(seed, 3, vocab, kind)
    z = z.double() if double else z
    sets = kept(z, decoding.typical_band(z, mass))
    for row, got in zip(z.numpy(), sets, strict=True):
        expected, margin = reference_typical(row, mass)
        if margin > (1e-12 if double else 1e-5):
            assert got == expected


@pytest.mark.parametrize("kind", ["normal", "tied", "masked"])
@pytest.mark.parametrize("mass", [0.2, 0.9])
def test_typical_equals_transformers_in_float64(kind: str, mass: float) -> None:
    z = rows(3, 40, 300, kind).double()
    theirs = TypicalLogitsWarper(mass)(None, z.clone()) > -INF
    assert torch.equal(decoding.apply_band(z, decoding.typical_band(z, mass)) > -INF, theirs)


def test_typical_worked_example() -> None:
    z = P5.log()[None]
    for mass, expected in ((0.2, {1}), (0.4, {0, 1, 2}), (0.9, {0, 1, 2, 3}), (0.95, {0, 1, 2, 3})):
        assert kept(z, decoding.typical_band(z, mass)) == [expected]
    assert kept(z, decoding.typical_band(z, 0.2, min_tokens_to_keep=3)) == [{0, 1, 2}]
    uniform = torch.zeros(1, 40)
    assert kept(uniform, decoding.typical_band(uniform, 0.1)) == [set(range(40))]


def test_typical_is_a_nucleus_when_the_mode_must_be_in() -> None:
    z = rows(5, 200, 400, "peaked")
    mass = 0.9
    p_max = z.softmax(-1).amax(-1)
    band, nucleus = decoding.typical_band(z, mass), decoding.top_p_threshold(z, mass)
    forced = p_max > 1 - mass + 1e-4
    assert forced.sum() > 100
    assert (band.high >= z.amax(-1))[forced].all()
    assert (band.low <= nucleus.low)[forced].all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), kind=KINDS, vocab=VOCABS, share=st.floats(0.01, 1.0), double=st.booleans())
def test_top_k_and_top_p_against_sorting(seed: int, kind: str, vocab: int, share: float, double: bool) -> None:
    z = rows(seed, 3, vocab, kind)
    z = z.double() if double else z
    k = torch.tensor([1, max(1, int(share * vocab)), vocab])
    for row, got, size in zip(z, kept(z, decoding.top_k_threshold(z, k)), k.tolist(), strict=True):
        edge = row.sort(descending=True).values[size - 1]
        assert got == set(((row >= edge) & (row > -INF)).nonzero().flatten().tolist())
    mass = share * 0.98 + 0.01
    p = z.double().softmax(-1)
    for row, got, probabilities in zip(z, kept(z, decoding.top_p_threshold(z, mass)), p, strict=True):
        ordered = row.double().sort(descending=True).values
        running = ordered.softmax(-1).cumsum(-1)
        if (running - mass).abs().min() < 1e-5:
            continue
        edge = ordered[min(int((running < mass).sum()), vocab - 1)]
        assert got == set(((row >= edge) & (probabilities > 0)).nonzero().flatten().tolist())


def test_min_p_is_relative_to_the_mode() -> None:
    z = P5.log()[None]
    assert kept(z, decoding.min_p_threshold(z, 0.25)) == [{0, 1, 2}]
    assert kept(z, decoding.min_p_threshold(z, 0.0)) == [{0, 1, 2, 3, 4}]


def test_entropy_top_k_table() -> None:
    h = torch.arange(11.0)
    expected = [14, 37, 96, 239, 539, 1000, 1462, 1762, 1905, 1964, 1987]
    assert decoding.entropy_top_k(h).tolist() == expected
    assert decoding.entropy_top_k(torch.tensor([-5.0, 20.0])).tolist() == [14, 1987]
    assert decoding.entropy_top_k(torch.tensor(2.0), k_min=1, k_max=4, midpoint=2.0).item() == 2  # half to even
    assert decoding.entropy_top_k(h, k_min=7, k_max=7).unique().tolist() == [7]


def test_entropy_top_k_worked_example() -> None:
    z = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    for settings_, size in (
        ({"k_min": 1, "k_max": 4, "midpoint": 1.0, "scale": 0.5}, 2),
        ({"k_min": 1, "k_max": 4, "midpoint": 0.5, "scale": 0.1}, 4),
        ({}, 4),
    ):
        assert len(kept(z, decoding.entropy_top_k_threshold(z, **settings_))[0]) == size
    tied = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert len(kept(tied, decoding.top_k_threshold(tied, 2))[0]) == 3


def test_entropy_top_k_is_each_rows_own() -> None:
    z = rows(9, 6, 500, "normal") * torch.tensor([0.1, 0.3, 0.5, 1, 2, 4])[:, None]
    options = {"k_max": 100, "midpoint": 4.0}
    together = decoding.entropy_top_k_threshold(z, **options).low
    alone = torch.cat([decoding.entropy_top_k_threshold(z[i : i + 1], **options).low for i in range(6)])
    assert torch.equal(together, alone)


def test_bands_intersect() -> None:
    z = rows(11, 20, 200, "tied")
    a, b = decoding.top_h_threshold(z, 0.7), decoding.typical_band(z, 0.6)
    both = a & b
    assert torch.equal(
        decoding.kept_mask(z, both), decoding.kept_mask(z, a) & (z >= b.low[:, None]) & (z <= b.high[:, None])
    )
    limited = decoding.top_k_threshold(z, 50) & decoding.top_h_threshold(z, 0.4)
    assert torch.equal(decoding.kept_mask(z, limited), decoding.kept_mask(z, decoding.top_h_threshold(z, 0.4)))


def test_half_precision_and_leading_dimensions() -> None:
    z = rows(13, 6, 700, "normal").reshape(2, 3, 700)
    for dtype in (torch.bfloat16, torch.float16):
        low = z.to(dtype)
        for rule in (decoding.top_h_threshold, decoding.typical_band, decoding.top_p_threshold):
            assert torch.equal(decoding.kept_mask(low, rule(low)), decoding.kept_mask(low.float(), rule(low.float())))
            assert rule(low).low.shape == (2, 3)


def test_in_place_writes_the_same() -> None:
    z = rows(14, 4, 300, "normal")
    band = decoding.top_h_threshold(z)
    copy = z.clone()
    out = decoding.apply_band(copy, band, inplace=True)
    assert out is copy
    assert torch.equal(out, decoding.apply_band(z, band))
    assert (decoding.apply_band(z, band, filter_value=-9.0)[~decoding.kept_mask(z, band)] == -9.0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sampling_from_a_band(dtype: torch.dtype) -> None:
    """Chi-square of 40000 draws against the renormalised distribution; false-alarm rate 1e-3 each."""
    z = rows(15, 1, 60, "normal").to(dtype)
    band = decoding.typical_band(z, 0.7)
    many = Band(band.low.expand(40_000), band.high.expand(40_000))
    ids = decoding.sample_band(z.expand(40_000, 60), many, generator=torch.Generator().manual_seed(0))
    q = decoding.apply_band(z, band).double().softmax(-1)[0].numpy()
    counts = np.bincount(ids.numpy(), minlength=60)
    assert counts[q == 0].sum() == 0
    likely = q * 40_000 >= 5
    observed = np.append(counts[likely], counts[~likely].sum())
    expected = np.append(q[likely], q[~likely].sum()) * 40_000
    used = expected > 0
    assert stats.chisquare(observed[used], expected[used]).pvalue > 1e-3


def test_sampling_respects_limited_ties_and_empty_bands() -> None:
    z = torch.zeros(200, 10)
    band = decoding.top_h_threshold(z, 0.5)  # three of ten equal logits
    ids = decoding.sample_band(z, band, generator=torch.Generator().manual_seed(0))
    assert set(ids.tolist()) == {0, 1, 2}
    nothing = Band(torch.full((200,), 5.0), torch.full((200,), INF))
    assert decoding.sample_band(z, nothing).unique().tolist() == [0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [math.nan, INF, -INF])
def test_unusable_logits_are_refused(dtype: torch.dtype, bad: float) -> None:
    z = torch.zeros(2, 4, dtype=dtype)
    z[1] = bad
    mu = torch.ones(2)
    for rule in (
        decoding.top_h_threshold,
        decoding.typical_band,
        decoding.top_p_threshold,
        decoding.min_p_threshold,
        lambda x: decoding.mirostat_threshold(x, mu),
    ):
        with pytest.raises(ValueError, match="row 1: expected a finite maximum"):
            rule(z)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: decoding.top_h_threshold(z, 1.0), r"alpha = 1.0: expected a number in \(0, 1\)"),
        (lambda z: decoding.top_h_threshold(z, rule="best"), "rule = 'best'"),
        (lambda z: decoding.top_h_threshold(z, top_n=0), "top_n = 0"),
        (lambda z: decoding.typical_band(z, 0.0), "mass = 0.0"),
        (lambda z: decoding.typical_band(z, min_tokens_to_keep=0), "min_tokens_to_keep = 0"),
        (lambda z: decoding.top_k_threshold(z, 0), "k = 0"),
        (lambda z: decoding.top_k_threshold(z, torch.tensor([0])), "k = "),
        (lambda z: decoding.top_p_threshold(z, math.nan), "mass = nan"),
        (lambda z: decoding.min_p_threshold(z, 2.0), "min_p = 2.0"),
        (lambda z: decoding.entropy_top_k_threshold(z, k_min=0), "k_min = 0"),
        (lambda z: decoding.entropy_top_k_threshold(z, k_max=0), "k_max = 0"),
        (lambda z: decoding.entropy_top_k_threshold(z, scale=0.0), "scale = 0.0"),
        (lambda z: decoding.mirostat_threshold(z, torch.ones(1), version=3), "version = 3"),
        (lambda z: decoding.Mirostat(tau=0.0), "tau = 0.0"),
        (lambda z: decoding.Mirostat(eta=-1.0), "eta = -1.0"),
        (lambda z: decoding.Mirostat(mu_range=(3.0, 1.0)), "mu_range"),
    ],
)
def test_parameters_out_of_range(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 4))  # type: ignore[operator]
