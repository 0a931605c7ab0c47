"""Races: the same work done by several functions in one process, interleaved, compared by the median of ratios.

Interleaving makes a slow spell of the machine hit every candidate alike; the ratio of two timings of one round is
then steadier than the ratio of two medians. Intervals are percentile bootstraps over rounds.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Result:
    """One candidate's timing: median seconds a call, and its time over the reference's with a 95% interval."""

    name: str
    seconds: float
    ratio: float
    low: float
    high: float


def race(
    candidates: Mapping[str, Callable[[], object]],
    *,
    reference: str,
    seconds: float = 3.0,
    rounds: tuple[int, int] = (7, 200),
) -> list[Result]:
    """Time every candidate once a round, in an order that is shuffled each round, for about `seconds` in all.

    Each is called once first, unmeasured, so that compilation and caches are not counted. Ratios are to `reference`.
    """
    if reference not in candidates:
        raise ValueError(f"reference {reference!r}: expected one of {list(candidates)}")
    for function in candidates.values():
        function()
    order = list(candidates)
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in order}
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        while len(times[reference]) < rounds[0] or (
            len(times[reference]) < rounds[1] and time.perf_counter() - start < seconds
        ):
            for name in rng.permutation(order):
                begin = time.perf_counter()
                candidates[name]()
                times[name].append(time.perf_counter() - begin)
    finally:
        if collecting:
            gc.enable()
    base = np.array(times[reference])
    pick = rng.integers(len(base), size=(1000, len(base)))
    results = []
    for name in order:
        ratios = np.array(times[name]) / base
        low, high = np.quantile(np.median(ratios[pick], axis=1), [0.025, 0.975])
        results.append(Result(name, float(np.median(times[name])), float(np.median(ratios)), float(low), float(high)))
    return results


def show(title: str, results: list[Result], *, note: str = "") -> None:
    """Print one race as a table."""
    reference = next(r.name for r in results if r.low == r.high == 1.0)
    table = Table(title=title, caption=note or None, title_justify="left", caption_justify="left")
    table.add_column("candidate")
    table.add_column("time", justify="right")
    table.add_column(f"× {reference}", justify="right")
    table.add_column("95% interval", justify="right")
    for r in results:
        table.add_row(r.name, _duration(r.seconds), f"{r.ratio:.3g}", f"{r.low:.3g} to {r.high:.3g}")
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def arguments(description: str) -> argparse.Namespace:
    """The command line that every benchmark has: `--quick` for smaller sizes and `--threads`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and shorter races")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of torch and numba")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    return options


def _duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
