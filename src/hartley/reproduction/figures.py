"""One figure a claim, as SVG that takes the page's text colour, so that it reads in light and in dark."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hartley.papers import Claim, Curve
from hartley.reproduction.engine import Result
from hartley.reproduction.verdict import Outcome

# Okabe and Ito's palette: distinct for colour-blind readers, on white and on black.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A8A8A", "#B8A000")
_INK = "#010203"  # stands for the page's text colour


def draw(result: Result) -> str:
    """SVG of the claim's curves where its trials return some, else of its advantages with their intervals."""
    import matplotlib as mpl

    mpl.use("svg")
    from cycler import cycler
    from matplotlib import pyplot as plt

    style = {
        "font.size": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": result.claim.name,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "axes.prop_cycle": cycler(color=COLOURS),
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    }
    assert result.outcome is not None
    with mpl.rc_context(style):
        trials = [r.trial for r in result.records if r.trial is not None]
        if any(t.curves for t in trials):
            figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
            _curves(axes, result.claim, [dict(t.curves) for t in trials])
        else:
            height = 1.1 + 0.38 * len(result.outcome.effects)
            figure, axes = plt.subplots(figsize=(6.4, height), layout="constrained")
            _advantages(axes, result.claim, result.outcome)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(_INK, "currentColor")


def _curves(axes: Any, claim: Claim, trials: list[dict[str, Curve]]) -> None:
    """Mean line over seeds with a band of one standard deviation, on the range that all of them cover."""
    for index, label in enumerate(dict.fromkeys(name for trial in trials for name in trial)):
        lines = [tuple(np.asarray(v, float) for v in trial[label]) for trial in trials if label in trial]
        colour = COLOURS[index % len(COLOURS)]
        x, y = _common_grid(lines)
        axes.plot(x, y.mean(0), color=colour, label=label)
        if len(y) > 1:
            spread = y.std(0, ddof=1)
            axes.fill_between(x, y.mean(0) - spread, y.mean(0) + spread, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel=claim.axes[0], ylabel=claim.axes[1])
    axes.legend()


def _common_grid(lines: list[tuple[NDArray[np.float64], ...]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lines (lines, points) on one grid: their own if they share it, else linearly between their points."""
    first = lines[0][0]
    if all(len(x) == len(first) and np.allclose(x, first, equal_nan=True) for x, _ in lines):
        return first, np.stack([y for _, y in lines])
    low, high = max(x.min() for x, _ in lines), min(x.max() for x, _ in lines)
    grid = np.linspace(low, max(low, high), max(len(x) for x, _ in lines))
    return grid, np.stack([np.interp(grid, x[order := np.argsort(x, kind="stable")], y[order]) for x, y in lines])


def _advantages(axes: Any, claim: Claim, outcome: Outcome) -> None:
    """Advantage over each baseline with its interval, and the margin that the claim has to clear."""
    for row, effect in enumerate(outcome.effects):
        axes.plot(
            np.clip([effect.low, effect.high], -1e300, 1e300), [row, row], color=COLOURS[0], lw=2, solid_capstyle="butt"
        )
        axes.plot(effect.advantage, row, "o", color=COLOURS[0])
    ends = [v for e in outcome.effects for v in (e.low, e.high, e.advantage) if np.isfinite(v)] + [claim.margin, 0.0]
    room = 0.08 * (max(ends) - min(ends) or 1.0)
    axes.set_xlim(min(ends) - room, max(ends) + room)
    axes.axvline(claim.margin, color=COLOURS[5], ls="--", lw=1)
    axes.set_yticks(range(len(outcome.effects)), [f"over {e.baseline}" for e in outcome.effects])
    axes.set_ylim(len(outcome.effects) - 0.5, -0.5)
    axes.set_xlabel(f"advantage, {claim.unit or claim.metric} (dashed: margin)")
