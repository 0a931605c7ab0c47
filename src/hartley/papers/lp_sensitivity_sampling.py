"""Woodruff and Yasuda (2023): how many rows a sample by ℓ_p sensitivities needs."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray

    from hartley.labs.matrices import RowLab

paper = Paper(
    slug="lp-sensitivity-sampling",
    title="Sharper Bounds for ℓ_p Sensitivity Sampling",
    published=date(2023, 6, 1),
    authors=2,
    arxiv="2306.00732",
    room="montecarlo",
    methods=["hartley.montecarlo.sensitivity"],
    topics=["row sampling", "coresets", "robust regression"],
    lab="hartley.labs.matrices:RowLab",
    summary="A few weighted rows stand for a tall matrix in every ℓ_p regression. Rows are kept in proportion to the "
    "largest share that each can take of ||Ax||_p^p; how many are needed follows the sum of these shares.",
    usage="from hartley.montecarlo import sample_rows\n"
    "sample = sample_rows(A, p=1.5, m=500, rng=np.random.default_rng(0), scheme='sensitivity', method='sketch')\n"
    "model.fit(X[sample.indices], y[sample.indices], sample_weight=sample.weights)",
)


def _distortions(
    lab: RowLab, a: Float[ndarray, "n d"], p: float, m: int, schemes: list[str], seed: int
) -> dict[str, float]:
    """Median distortion over draws of each scheme, all from one set of scores a scheme."""
    import numpy as np

    from hartley.montecarlo import SCHEMES, distortion, draw_rows, row_scores

    rng = np.random.default_rng([seed, m])
    draws, starts = (1, 3) if lab.quick else (3, 8)
    found: dict[str, float] = {}
    for scheme in SCHEMES:
        if scheme in schemes:
            scores = row_scores(a, p, scheme, method="sketch", rng=rng)
            samples = [draw_rows(scores, m, p, rng) for _ in range(draws)]
            found[scheme] = float(np.median([distortion(a, s, rng, starts=starts) for s in samples]))
    return found


@paper.claim(
    "With a few heavy rows and p = 1.2, 200 rows kept by sensitivity distort ||Ax||_p^p less than 200 uniform rows",
    published="about S^(2/p) rows suffice; no experiments",
    metric="worst found relative error of ||Ax||_p^p",
    unit="fraction",
    better="lower",
    margin=0.3,
)
def heavy_rows(lab: RowLab, seed: int) -> Trial:
    found = _distortions(lab, lab.heavy(seed), 1.2, 200, ["uniform", "sensitivity", "leverage", "lewis"], seed)
    return Trial(
        method=found["sensitivity"],
        baselines={"uniform": found["uniform"]},
        details={"leverage": found["leverage"], "Lewis weights": found["lewis"]},
    )


@paper.claim(
    "With a few heavy rows and p = 1.2, sensitivities also beat plain leverage scores, which cost one QR",
    published="S^(2/p) rows against n^(1-p/2) d^(p/2) for one round of root leverage scores",
    metric="worst found relative error of ||Ax||_p^p",
    unit="fraction",
    better="lower",
    margin=0.0,
    seeds=(3, 16),
)
def beats_leverage(lab: RowLab, seed: int) -> Trial:
    found = _distortions(lab, lab.heavy(seed), 1.2, 200, ["sensitivity", "leverage"], seed)
    return Trial(method=found["sensitivity"], baselines={"leverage": found["leverage"]})


@paper.claim(
    "At p = 4 and equal width, a matrix whose sensitivities sum to d needs at most half the rows of a Gaussian one",
    published="S^(2 - 2/p) rows instead of S d, hence fewer where S is small",
    metric="log2 of the smallest sample with distortion at most 0.5",
    unit="doublings",
    better="lower",
    margin=1.0,
    axes=("expected rows kept", "distortion"),
)
def size_follows_the_total(lab: RowLab, seed: int) -> Trial:
    import numpy as np

    from hartley.montecarlo import distortion, draw_rows, lp_sensitivities

    d, p = 16, 4.0
    rng = np.random.default_rng(seed)
    sizes = np.geomspace(40, 0.8 * lab.n, 12 if lab.quick else 24)
    draws, starts = (2, 2) if lab.quick else (5, 6)
    needed, totals, curves = {}, {}, {}
    for name, a in (("one-hot rows", lab.one_hot(d)), ("Gaussian rows", lab.gaussian(d, seed))):
        scores = lp_sensitivities(a, p, method="sketch", rng=rng)
        totals[f"S of {name}"] = float(scores.sum())
        curve: list[float] = []
        for m in sizes:
            found = [distortion(a, draw_rows(scores, m, p, rng), rng, starts=starts) for _ in range(draws)]
            curve.append(float(np.median(found)))
            if max(curve[-2:]) <= 0.5 and len(curve) > 1:
                break
        within = np.array(curve) <= 0.5
        last_bad = int(np.flatnonzero(~within)[-1]) if not within.all() else -1
        needed[name] = float(np.log2(sizes[min(last_bad + 1, len(sizes) - 1)]))
        curves[f"{name}, S = {scores.sum():.0f}"] = (sizes[: len(curve)].tolist(), curve)
    return Trial(
        method=needed["one-hot rows"],
        baselines={"Gaussian rows": needed["Gaussian rows"]},
        curves=curves,
        details=totals,
    )


@paper.claim(
    "On Legendre features with p = 4, the combined scores sigma / S + t / d distort less than Lewis weights",
    published="d^(2/p) S^(2 - 4/p) rows against d^(p/2) for Lewis weights",
    metric="worst found relative error of ||Ax||_p^p at 200 rows",
    unit="fraction",
    better="lower",
    margin=0.02,
    seeds=(3, 16),
)
def combined_scores(lab: RowLab, seed: int) -> Trial:
    found = _distortions(lab, lab.legendre(), 4.0, 200, ["combined", "lewis", "sensitivity", "uniform"], seed)
    return Trial(
        method=found["combined"],
        baselines={"Lewis weights": found["lewis"]},
        details={"sensitivity": found["sensitivity"], "uniform": found["uniform"]},
    )
