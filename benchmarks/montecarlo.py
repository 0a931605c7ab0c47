"""Races of the Monte Carlo room; `python benchmarks/montecarlo.py [--quick]`.

Peers: DPPy (projection DPPs), scipy's BFGS for one row's sensitivity, plain networkx and numba walks, dynesty alone,
CMA-ES (cma), OpenTURNS (rare events). No maintained package computes ℓ_p sensitivities.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numba import njit
from race import arguments, race, show
from scipy import optimize

from hartley.montecarlo import (
    Empirical,
    Exponential,
    Legendre,
    SelfRepellentWalk,
    leverage_scores,
    lewis_weights,
    lp_sensitivities,
    minimize,
    multi_expectation,
    nested_sample,
    rare_event,
    sample_dpp,
)


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def slope(sizes: list[int], times: list[float]) -> float:
    """Exponent of the cost: the slope of log time over log size."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def sensitivities(quick: bool) -> None:
    rng = np.random.default_rng(0)
    n, d = (1000 if quick else 4000), 8
    a = rng.standard_normal((n, d))
    q = np.linalg.qr(a)[0]
    picked = rng.choice(n, size=10, replace=False)

    def per_row(p: float, gradient: bool) -> None:
        """BFGS on 10 rows; the constraint a_i x = 1 is eliminated."""
        for i in picked:
            base = q[i] / (q[i] @ q[i])
            free = np.linalg.svd(q[i][None])[2][1:].T

            def norm(z: np.ndarray, base: np.ndarray = base, free: np.ndarray = free) -> object:
                y = q @ (base + free @ z)
                value = float((np.abs(y) ** p).sum())
                return (value, p * (np.abs(y) ** (p - 1) * np.sign(y)) @ q @ free) if gradient else value

            optimize.minimize(norm, np.zeros(d - 1), jac=gradient or None, method="BFGS")

    for p in (4.0, 3.0):
        results = race(
            {
                "BFGS with gradient, 10 rows": lambda p=p: per_row(p, True),
                "BFGS without, 10 rows": lambda p=p: per_row(p, False),
                "exact, all rows": lambda p=p: lp_sensitivities(a, p),
                "sketch, all rows": lambda p=p: lp_sensitivities(a, p, method="sketch", rng=rng),
                "Lewis weights": lambda p=p: lewis_weights(a, p),
                "leverage (floor: one QR)": lambda: leverage_scores(a),
            },
            reference="BFGS with gradient, 10 rows",
            seconds=5 if quick else 20,
            rounds=(5, 100),
        )
        note = "; ".join(f"{r.name[:6].strip(', ')} {n / 10 / r.ratio:.0f} times" for r in results[2:4])
        show(
            f"ℓ_{p:g} sensitivities, n = {n}, d = {d}", results, note=f"against {n} rows by BFGS with gradient: {note}"
        )
    p = 4.0
    sizes = [500, 1000, 2000] if quick else [1000, 2000, 4000]
    exact = [seconds(lambda n=n: lp_sensitivities(rng.standard_normal((n, d)), p)) for n in sizes]
    many = [4000, 16000] if quick else [16000, 64000, 256000]
    sketch = [
        seconds(lambda n=n: lp_sensitivities(rng.standard_normal((n, 20)), 3, method="sketch", rng=rng)) for n in many
    ]
    print(f"cost grows as n^{slope(sizes, exact):.2f} (exact), n^{slope(many, sketch):.2f} (sketch)")
    wide = [5, 10, 20]
    across = [
        [seconds(lambda k=k, m=m: lp_sensitivities(rng.standard_normal((4000, k)), 3, method=m, rng=rng)) for k in wide]
        for m in ("exact", "sketch")
    ]
    print(f"and as d^{slope(wide, across[0]):.2f} (exact), d^{slope(wide, across[1]):.2f} (sketch), p = 3")
    if not quick:
        big = rng.standard_normal((1_000_000, 20))
        spent = seconds(lambda: lp_sensitivities(big, 3, method="sketch", rng=rng))
        print(f"n = 1e6, d = 20, p = 3, sketch of 1000 rows: {spent:.0f} s")


def determinantal(quick: bool) -> None:
    from dppy.finite_dpps import FiniteDPP
    from dppy.multivariate_jacobi_ope import MultivariateJacobiOPE

    rng = np.random.default_rng(0)
    for candidates, m in [(1000, 20)] if quick else [(1000, 20), (10_000, 50)]:
        space = Empirical(rng.standard_normal((candidates, m)))
        peer = FiniteDPP("correlation", projection=True, K_eig_dec=(np.ones(m), space.orthonormal))
        floor = rng.choice(candidates, size=m, replace=False)

        def read_and_orthogonalise(space: Empirical = space, floor: np.ndarray = floor) -> object:
            return np.linalg.qr(space.orthonormal[floor].T)

        results = race(
            {
                "hartley": lambda space=space: sample_dpp(space, rng),
                "DPPy, exact GS": lambda peer=peer: peer.sample_exact(mode="GS"),
                "floor: QR of m rows": read_and_orthogonalise,
                "preparing: QR of all": lambda space=space: Empirical(space.raw).cumulative,
            },
            reference="hartley",
            seconds=2 if quick else 10,
        )
        show(f"projection DPP, {m} of {candidates} candidates", results)
    for m in (20, 100):
        peer = MultivariateJacobiOPE(m, np.zeros((1, 2)))
        results = race(
            {"hartley": lambda m=m: sample_dpp(Legendre(m), rng), "DPPy": lambda peer=peer: peer.sample()},
            reference="hartley",
            seconds=2,
        )
        show(f"Legendre DPP of {m} points (both: eigenvalues of a tridiagonal matrix)", results)
    sizes, widths = [1000, 10_000, 100_000], [20, 40, 80]
    spaces = [Empirical(rng.standard_normal((n, 20))) for n in sizes] + [
        Empirical(rng.standard_normal((2000, m))) for m in widths
    ]
    times = [min(seconds(lambda s=s: sample_dpp(s, rng)) for _ in range(30)) for s in spaces]
    print(f"a draw grows as M^{slope(sizes, times[:3]):.2f} and m^{slope(widths, times[3:]):.2f}")


@njit(cache=True)
def plain_walk(start, neighbour, cumulative, node, visited, rng):
    """A memoryless compiled walk, by inverse CDF over the neighbours."""
    for n in range(len(visited)):
        point, e = rng.random(), start[node]
        while e < start[node + 1] - 1 and cumulative[e] <= point:
            e += 1
        node = neighbour[e]
        visited[n] = node


def repellent(quick: bool) -> None:
    import networkx

    graph = networkx.barabasi_albert_graph(2000, 6, seed=0)
    walk = SelfRepellentWalk.on(graph, alpha=5.0)
    chain = walk.chain
    cumulative = np.concatenate([np.cumsum(chain.data[a:b]) for a, b in pairwise(chain.indptr)])
    n, rng = 100_000, np.random.default_rng(0)
    visited = np.empty(n, np.int64)

    def loop() -> None:
        """1/100 of the steps, as one writes it over networkx: neighbours, weights, a choice."""
        degree, count, node = dict(graph.degree), dict.fromkeys(graph, 1.0), 0
        for _ in range(n // 100):
            near = list(graph[node])
            p = [min(1 / degree[node], 1 / degree[j]) for j in near]
            near.append(node)
            p.append(max(0.0, 1 - sum(p)))
            w = np.array([q * count[j] ** -5.0 for q, j in zip(p, near, strict=True)])
            node = near[rng.choice(len(near), p=w / w.sum())]
            count[node] += 1

    results = race(
        {
            "hartley, alpha = 5": lambda: walk.sample(n, rng),
            "compiled walk without memory (floor)": lambda: plain_walk(
                chain.indptr, chain.indices, cumulative, 0, visited, rng
            ),
            "networkx loop, 1/100 of the steps": loop,
        },
        reference="hartley, alpha = 5",
        seconds=2 if quick else 10,
    )
    show(f"{n} steps on a Barabasi-Albert graph, 2000 nodes, 12 neighbours", results)


def importance(quick: bool) -> None:
    n = 500 if quick else 2000

    def model(x: np.ndarray) -> np.ndarray:
        """Takes 1 ms a point."""
        end = time.perf_counter() + 1e-3 * len(x)
        while time.perf_counter() < end:
            pass
        return np.exp(x[:, :4])

    def law(x: np.ndarray) -> np.ndarray:
        return -0.5 * np.square(x).sum(axis=1) - 2.5 * np.log(2 * np.pi)

    points = np.random.default_rng(0).standard_normal((n, 5))
    results = race(
        {
            "the function alone": lambda: model(points),
            "with the adaptive loop": lambda: multi_expectation(
                model, law, lambda n, rng: rng.standard_normal((n, 5)), n_max=n, rng=np.random.default_rng(0)
            ),
        },
        reference="the function alone",
        seconds=5,
        rounds=(5, 50),
    )
    show(f"{n} evaluations of 1 ms, J = 4, d = 5", results, note=f"the loop adds {results[1].ratio - 1:.2%}")


def nested(quick: bool) -> None:
    """Wall-clock of a slow likelihood, with the surrogate and without; each evidence within its own error."""
    from hartley.labs.cosmology import LOGZ_LCDM, loglike, prior_transform

    pause, found = (1e-3 if quick else 5e-3), {}

    def slow(theta: np.ndarray) -> float:
        time.sleep(pause)
        return float(loglike(theta))

    def run(surrogate: str | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that "replace" certifies no evidence
            found[surrogate] = nested_sample(
                slow, prior_transform, 2, np.random.default_rng(1000), n_live=150, dlogz=0.1, surrogate=surrogate
            )

    results = race(
        {
            "dynesty alone": lambda: run(None),
            "screened": lambda: run("screen"),
            "replaced (evidence not certified)": lambda: run("replace"),
        },
        reference="dynesty alone",
        seconds=1,
        rounds=(1, 1) if quick else (3, 3),
    )
    note = "; ".join(
        f"{mode or 'alone'}: {r.n_true} calls, log Z off by {r.logz - LOGZ_LCDM:+.2f} +- {r.logzerr:.2f}"
        for mode, r in found.items()
    )
    show(f"nested sampling, two parameters, {pause * 1e3:.0f} ms a call", results, note=note)


def rare(quick: bool) -> None:
    """Relative error over seeds of P(shortest path > 2) on the bridge network, and the time for it."""
    import openturns as ot

    from hartley.labs.rare_events import BRIDGE_MEANS, BRIDGE_PROBABILITY, bridge

    calls, size = 0, 4000 if quick else 20_000

    def counted(x: object) -> np.ndarray:
        nonlocal calls
        values = bridge(np.asarray(x))
        calls += len(values)
        return values[:, None]

    law = ot.JointDistribution([ot.Exponential(1 / m) for m in BRIDGE_MEANS])
    event = ot.ThresholdEvent(
        ot.CompositeRandomVector(ot.PythonFunction(5, 1, func_sample=counted), ot.RandomVector(law)), ot.Greater(), 2.0
    )

    def hartley(seed: int) -> float:
        nonlocal calls
        found = rare_event(
            bridge,
            2.0,
            Exponential(BRIDGE_MEANS),
            np.random.default_rng(seed),
            n=size // 10,
            n_final=size // 2,
        )
        calls += found.evaluations
        return found.probability

    def peer(algorithm: object, outer: int) -> float:
        algorithm.setMaximumOuterSampling(outer)
        algorithm.setBlockSize(size // 10)
        algorithm.setMaximumStandardDeviation(1e-15)  # the size ends the run
        algorithm.run()
        return algorithm.getResult().getProbabilityEstimate()

    def cross_entropy() -> object:
        algorithm = ot.StandardSpaceCrossEntropyImportanceSampling(event, 0.1)
        algorithm.setMaximumCoefficientOfVariation(1e-9)
        return algorithm

    candidates = {
        "hartley, cross-entropy": hartley,
        # Both use one size for levels and estimate; 0.1 is the share that a level keeps.
        "OpenTURNS, cross-entropy": lambda seed: peer(cross_entropy(), 3),
        "OpenTURNS, subset sampling": lambda seed: peer(ot.SubsetSampling(event), 2),
    }
    seeds = 20 if quick else 60
    print(f"P = {BRIDGE_PROBABILITY:.3g} on the bridge network, {seeds} seeds")
    for name, estimate in candidates.items():
        calls, start, errors = 0, time.perf_counter(), []
        for seed in range(seeds):
            ot.RandomGenerator.SetSeed(seed)
            errors.append(estimate(seed) / BRIDGE_PROBABILITY - 1)
        spent, each = (time.perf_counter() - start) / seeds, calls / seeds
        error = float(np.sqrt(np.mean(np.square(errors))))
        print(
            f"  {name:28} {each:7.0f} calls, relative error {error:.3f}, error x sqrt(calls) {error * each**0.5:5.1f}, "
            f"{spent * 1e3:.0f} ms"
        )


def optimisers(quick: bool) -> None:
    """Evaluations and seconds to bring a shifted function of ten variables to 1e-6, CMA-ES beside."""
    import cma

    def sphere(x: np.ndarray) -> np.ndarray:
        return np.square(x - 1).sum(axis=-1)

    def valley(x: np.ndarray) -> np.ndarray:
        return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(axis=-1)

    for name, fun in {"sphere": sphere, "Rosenbrock's valley": valley}.items():
        rows: dict[str, list[tuple[int, float, float]]] = {"hartley": [], "cma": []}
        for seed in range(3 if quick else 10):
            start = time.perf_counter()
            ours = minimize(
                fun,
                np.full(10, 3.0),
                np.full(10, 3.0),
                rng=np.random.default_rng(seed),
                patience=50,
                max_iterations=300,
                callback=lambda state: state.fun < 1e-6,
            )
            rows["hartley"].append((ours.nfev, time.perf_counter() - start, ours.fun))
            start = time.perf_counter()
            options = {"verbose": -9, "seed": seed + 1, "ftarget": 1e-6, "maxfevals": 30_000}
            best = cma.fmin2(lambda x, fun=fun: float(fun(np.asarray(x))), np.full(10, 3.0), 3.0, options)[1].result
            rows["cma"].append((best.evaluations, time.perf_counter() - start, best.fbest))
        for who, runs in rows.items():
            calls, spent, value = np.median(np.array(runs), axis=0)
            print(f"{name}, ten variables: {who:8} {calls:6.0f} evaluations, {spent:.2f} s, value {value:.1e}")


def main() -> None:
    options = arguments(__doc__ or "")
    sensitivities(options.quick)
    determinantal(options.quick)
    repellent(options.quick)
    importance(options.quick)
    nested(options.quick)
    rare(options.quick)
    optimisers(options.quick)


if __name__ == "__main__":
    main()
