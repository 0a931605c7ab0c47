"""Ordinal patterns against ordpy, antropy and peccary; trajectories and Lyapunov spectra against dysts.

antropy computes the entropy alone; the others give entropy and complexity, as we do. The floor of a count is one
comparison of the series with its own shift, which every method makes at least order - 1 times.
"""

from __future__ import annotations

import antropy
import dysts.analysis
import dysts.flows
import numpy as np
import ordpy
from peccary import peccary
from race import arguments, race, show

from hartley.dynamics import (
    get_system,
    initial_conditions,
    integrate,
    load_systems,
    lyapunov_spectrum,
    make_trajectory,
)
from hartley.measures import entropy_complexity


def ordinal(quick: bool) -> None:
    for length in (10**4, 10**5) if quick else (10**4, 10**6, 10**7):
        x = np.random.default_rng(0).standard_normal(length)
        for order in (3, 5) if quick else (3, 4, 5, 6, 7):
            candidates = {
                "hartley": lambda x=x, n=order: entropy_complexity(x, n),
                "floor: order - 1 comparisons": lambda x=x, n=order: [x[k:] < x[:-k] for k in range(1, n)],
                "antropy (entropy alone)": lambda x=x, n=order: antropy.perm_entropy(x, order=n),
            }
            if length <= 10**5 or (length == 10**6 and order == 5):  # seconds a call beyond
                candidates["ordpy"] = lambda x=x, n=order: ordpy.complexity_entropy(x, dx=n)
                candidates["peccary"] = lambda x=x, n=order: peccary(x, n=n).calcHC()
            rounds = (3, 200) if length >= 10**6 else (7, 200)
            show(
                f"entropy and complexity, {length:.0e} points, order {order}",
                race(candidates, reference="hartley", seconds=2.0, rounds=rounds),
            )


def trajectories(quick: bool) -> None:
    """1000 points, 100 a period. Error: after one period, against steps at tolerance 1e-13, in standard deviations."""
    for name in ("Lorenz",) if quick else ("Lorenz", "Rossler", "Chua", "CellCycle"):
        system, peer = get_system(name), getattr(dysts.flows, name)()
        truth = integrate(system, np.array([0.0, system.period]), tolerance=1e-13)[-1]

        def theirs(n: int = 1000, peer=peer, **settings: object) -> np.ndarray:
            return np.asarray(peer.make_trajectory(n, pts_per_period=100, postprocess=False, **settings))

        def error(values: np.ndarray, system=system, truth=truth) -> float:
            return float(np.abs((values - truth) / system.scale).max())

        accuracy = {
            "hartley 1e-9": error(integrate(system, np.array([0.0, system.period]), tolerance=1e-9)[-1]),
            # 100 points at spacing period / 99 end after 100/99 of 99 steps: exactly one period
            "dysts DOP853 1e-9": error(theirs(100, method="DOP853", rtol=1e-9, atol=1e-9)[-1]),
        }
        candidates = {
            "hartley 1e-9": lambda s=system: make_trajectory(s, 1000, tolerance=1e-9),
            "hartley 1e-12": lambda s=system: make_trajectory(s, 1000, tolerance=1e-12),
            "hartley rk4, 20 substeps": lambda s=system: make_trajectory(s, 1000, method="rk4"),
            "dysts DOP853 1e-9": lambda run=theirs: run(method="DOP853", rtol=1e-9, atol=1e-9),
        }
        note = ", ".join(f"{who}: {size:.1e}" for who, size in accuracy.items())
        show(f"{name}, 1000 points", race(candidates, reference="hartley 1e-9", rounds=(3, 50)), note=f"error {note}")
        default = {"hartley 1e-12": candidates["hartley 1e-12"], "dysts default, Radau 1e-12": lambda run=theirs: run()}
        show(f"{name}, 1000 points", race(default, reference="hartley 1e-12", seconds=0, rounds=(1, 1)))
    lorenz, systems = get_system("Lorenz"), list(load_systems(delayed=False).values())
    starts = initial_conditions(lorenz, 1000, np.random.default_rng(0))
    grid = np.arange(1000) * lorenz.period / 100
    many = {
        "1000 starts, 1000 points": lambda: integrate(lorenz, grid, starts),
        "129 systems, 1000 points": lambda: [make_trajectory(system, 1000) for system in systems],
        "1 start": lambda: integrate(lorenz, grid, starts[0]),
    }
    show("ensembles", race(many, reference="1 start", rounds=(3, 20)))


def exponents(quick: bool) -> None:
    """Lorenz, largest exponent 0.9056: seconds and error of each."""
    system, peer = get_system("Lorenz"), dysts.flows.Lorenz()
    length = 5_000 if quick else 20_000
    settings = {"pts_per_period": 200, "method": "DOP853", "rtol": 1e-9, "atol": 1e-9}
    candidates = {
        "hartley": lambda: lyapunov_spectrum(system, 25.0, 8, rng=np.random.default_rng(0)).largest,
        f"dysts, {length} points": lambda: dysts.analysis.find_lyapunov_exponents(peer, length, **settings)[0],
    }
    errors = ", ".join(f"{name}: {abs(run() - 0.9056):.4f}" for name, run in candidates.items())
    show("Lyapunov spectrum of Lorenz", race(candidates, reference="hartley", rounds=(2, 20)), note=f"error {errors}")


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    ordinal(options.quick)
    trajectories(options.quick)
    exponents(options.quick)
