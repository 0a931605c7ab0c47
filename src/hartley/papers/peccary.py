"""PECCARY: one short series told regular, complex or stochastic."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    import numpy as np

    from hartley.labs.chaos import ChaosLab

paper = Paper(
    slug="peccary",
    title="PECCARY: A novel approach for characterizing orbital complexity, stochasticity, and regularity",
    published=date(2024, 7, 16),
    room="dynamics",
    methods=["hartley.dynamics.peccary", "hartley.measures.ordinal"],
    summary="Tells from one short scalar series whether a system moves regularly, chaotically or like noise: "
    "permutation entropy and statistical complexity, at a delay chosen by the natural period of the motion.",
    usage="from hartley.dynamics import classify\n\nresult = classify(x, dt=0.01)\nresult.verdict, result.entropy",
    topics=["time series", "chaos", "permutation entropy"],
    authors=3,
    arxiv="2407.11970",
    repository="https://github.com/soleyhyman/peccary",
    lab="hartley.labs.chaos:ChaosLab",
)


@paper.claim(
    "At the delay that the natural period sets, the complexity-entropy plane names waves, chaotic flows and noise "
    "right more often than at delay 1, and than spectral entropy with the best thresholds for these very series",
    published="Pattern times of 0.3 to 0.5 natural times tell regular, complex and stochastic motion apart (section 3)",
    metric="series named right, each kind weighing the same",
    unit="share",
    better="higher",
    margin=0.05,
    headline=True,
    seeds=(3, 6),
)
def verdicts(lab: ChaosLab, seed: int) -> Trial:
    """Method against the same plane without its time scale, and against a tuned spectral competitor."""
    import numpy as np

    from hartley.dynamics import classify

    series, kinds = _zoo(lab, seed)
    weight = np.array([1 / kinds.count(kind) for kind in kinds])
    weight *= len(kinds) / weight.sum()
    right: dict[str, list[float]] = {"scale": [], "delay 1": []}
    for x, kind in zip(series, kinds, strict=True):
        period = lab.natural_time(x)
        for name, ratio in (("scale", 0.4), ("delay 1", 4 / period)):
            right[name].append(float(classify(x, natural_time=period, ratio=ratio).verdict == kind))
    spectral = np.array([_spectral_entropy(x) for x in series])
    labels = np.array(kinds)
    best = np.zeros(len(kinds))
    cuts = np.quantile(spectral, np.linspace(0, 1, 60))
    for i, low in enumerate(cuts):
        for high in cuts[i:]:
            named = np.where(spectral <= low, "regular", np.where(spectral <= high, "complex", "stochastic"))
            hit = (named == labels) * 1.0
            best = hit if (hit * weight).sum() > (best * weight).sum() else best
    return Trial(
        method=list(weight * right["scale"]),
        baselines={"delay 1": list(weight * right["delay 1"]), "spectral entropy, tuned": list(weight * best)},
        details={kind: float(np.mean(np.array(right["scale"])[labels == kind])) for kind in sorted(set(kinds))},
    )


@paper.claim(
    "No pure wave exceeds the periodic entropy limit anywhere in the recommended range of pattern times",
    published="H_max,per(n = 5) = 0.551 bounds periodic motion (section 2.4)",
    metric="largest normalised entropy of 400 waves",
    unit="of log 120",
    better="lower",
    margin=0.0,
    lab="hartley.labs.base:Lab",
)
def periodic_limit(lab: object, seed: int) -> Trial:
    """Waves of random period and phase against the closed-form limit."""
    import numpy as np

    from hartley.dynamics import classify, periodic_limits

    rng = np.random.default_rng(seed)
    largest = 0.0
    for _ in range(400):
        period = rng.uniform(100, 300)  # long enough that rounding the delay hardly moves the ratio
        wave = np.sin(2 * np.pi * np.arange(5000) / period + rng.uniform(0, 6.28))
        largest = max(largest, classify(wave, natural_time=period, ratio=rng.uniform(0.3, 0.5)).entropy)
    return Trial(method=largest, baselines={"closed-form limit": periodic_limits(5)[1]})


@paper.claim(
    "A series of 1.5 natural times shows chaotic flows above the periodic limit almost as often as one of 50",
    published="Durations of at least 1.5 natural times suffice (section 3)",
    metric="chaotic flows above the periodic limit",
    unit="share",
    better="higher",
    margin=-0.1,
    seeds=(3, 4),
    axes=("duration, natural times", "share above the limit"),
)
def short_series(lab: ChaosLab, seed: int) -> Trial:
    """The same flows, cut to several durations at 1000 samples a period."""
    import numpy as np

    from hartley.dynamics import classify, periodic_limits

    rng = np.random.default_rng(seed)
    durations = [1.0, 1.5, 3.0, 10.0, 50.0]
    above: list[list[float]] = []
    for system in lab.chosen:
        x = lab.first_coordinate(system, 60, 1000, rng)
        period = lab.natural_time(x)
        above.append([])
        for duration in durations:
            piece = x[: min(len(x), round(duration * period) + 1)]
            above[-1].append(float(classify(piece, natural_time=period).entropy > periodic_limits(5)[1]))
    table = np.array(above)
    return Trial(
        method=list(table[:, 1]),
        baselines={"50 natural times": list(table[:, -1])},
        curves={"chaotic flows": (durations, list(table.mean(0)))},
    )


@paper.claim(
    "At the recommended delay, entropy tells chaotic flows from quasi-periodic motion better than spectral entropy",
    published="Regular orbits lie left of the periodic limit, chaotic ones right of it (sections 3 and 4)",
    metric="area under the ROC curve, chaos against sums of two incommensurate waves",
    unit="AUC",
    better="higher",
    margin=0.0,
)
def quasi_periodic(lab: ChaosLab, seed: int) -> Trial:
    """Ranks of both entropies on the same series."""
    import numpy as np
    from scipy.stats import mannwhitneyu

    from hartley.dynamics import classify

    rng = np.random.default_rng(seed)
    chaos = [lab.first_coordinate(system, 90, 100, rng) for system in lab.chosen]
    time = np.arange(9000) * 2 * np.pi / 100
    waves = []
    for _ in chaos:
        ratio, size = np.sqrt(rng.choice([2.0, 3.0, 5.0, 7.0])), rng.uniform(0.5, 2.0)
        waves.append(np.sin(time + rng.uniform(0, 6.28)) + size * np.sin(ratio * time + rng.uniform(0, 6.28)))

    def entropy(x: np.ndarray) -> float:
        return classify(x, natural_time=lab.natural_time(x)).entropy

    areas = {}
    for name, value in (("plane", entropy), ("spectral entropy", _spectral_entropy)):
        ranks = mannwhitneyu([value(x) for x in chaos], [value(x) for x in waves]).statistic
        areas[name] = float(ranks / len(chaos) ** 2)
    return Trial(method=areas.pop("plane"), baselines=areas)


def _zoo(lab: ChaosLab, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Waves (some with 1% noise), chaotic flows, white noise and random walks, of 90 periods of 100 samples."""
    import numpy as np

    rng = np.random.default_rng(seed)
    flows = [lab.first_coordinate(system, 90, 100, rng) for system in lab.chosen]
    time = np.arange(9000)
    waves = []
    for i in range(len(flows)):
        wave = np.sin(2 * np.pi * time / rng.uniform(60, 140) + rng.uniform(0, 6.28))
        waves.append(wave + (0.01 * rng.standard_normal(9000) if i % 2 else 0.0))
    noise = [rng.standard_normal(9000) for _ in range(len(flows) // 2)]
    walks = [np.cumsum(rng.standard_normal(9000)) for _ in range(len(flows) - len(noise))]
    kinds = ["regular"] * len(waves) + ["complex"] * len(flows) + ["stochastic"] * len(flows)
    return [*waves, *flows, *noise, *walks], kinds


def _spectral_entropy(x: np.ndarray) -> float:
    """Entropy of the normalised power spectrum, under a Hann window."""
    import numpy as np
    from scipy.special import entr

    power = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(len(x)))[1:]) ** 2
    return float(entr(power / power.sum()).sum() / np.log(len(power)))
