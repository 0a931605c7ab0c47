"""Races of the Monte Carlo room; `python benchmarks/montecarlo.py [--quick]`.

Peers: DPPy (projection DPPs), scipy's BFGS for one row's sensitivity, plain networkx and numba walks. No maintained
package computes ℓ_p sensitivities.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numba import njit
from race import arguments, race, show
from scipy import optimize

from hartley.montecarlo import (
    Empirical,
    Legendre,
    SelfRepellentWalk,
    leverage_scores,
    lewis_weights,
    lp_sensitivities,
    multi_expectation,
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
    n, d, p = (1000 if quick else 4000), 8, 4.0
    a = rng.standard_normal((n, d))
    q = np.linalg.qr(a)[0]
    picked = rng.choice(n, size=10, replace=False)

    def per_row() -> None:
        """BFGS on 10 rows: the constraint a_i x = 1 is eliminated, the gradient is exact."""
        for i in picked:
            base = q[i] / (q[i] @ q[i])
            free = np.linalg.svd(q[i][None])[2][1:].T

            def norm(z: np.ndarray, base: np.ndarray = base, free: np.ndarray = free) -> tuple[float, np.ndarray]:
                y = q @ (base + free @ z)
                return float((y**4).sum()), 4 * (y**3) @ q @ free

            optimize.minimize(norm, np.zeros(d - 1), jac=True, method="BFGS")

    results = race(
        {
            "BFGS, 10 rows": per_row,
            "exact, all rows": lambda: lp_sensitivities(a, p),
            "sketch, all rows": lambda: lp_sensitivities(a, p, method="sketch", rng=rng),
            "Lewis weights": lambda: lewis_weights(a, p),
            "leverage (floor: one QR)": lambda: leverage_scores(a),
        },
        reference="BFGS, 10 rows",
        seconds=5 if quick else 30,
        rounds=(5, 100),
    )
    show(f"ℓ_4 sensitivities, n = {n}, d = {d}", results, note=f"per-row solver: 10 rows of {n}; multiply by {n // 10}")
    sizes = [500, 1000, 2000] if quick else [1000, 2000, 4000]
    exact = [seconds(lambda n=n: lp_sensitivities(rng.standard_normal((n, d)), p)) for n in sizes]
    many = [4000, 16000] if quick else [16000, 64000, 256000]
    sketch = [
        seconds(lambda n=n: lp_sensitivities(rng.standard_normal((n, 20)), 3, method="sketch", rng=rng)) for n in many
    ]
    print(f"cost grows as n^{slope(sizes, exact):.2f} (exact), n^{slope(many, sketch):.2f} (sketch)")
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
    n = 2000 if quick else 10_000

    def model(x: np.ndarray) -> np.ndarray:
        """Waits 0.1 ms a point, a tenth of the millisecond that the loop is measured against."""
        end = time.perf_counter() + 1e-4 * len(x)
        while time.perf_counter() < end:
            pass
        return np.exp(2 * x[:, :4])

    def law(x: np.ndarray) -> np.ndarray:
        return -0.5 * np.square(x).sum(axis=1)

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
    )
    extra = results[1].ratio - 1
    show(f"{n} evaluations of 0.1 ms, J = 4, d = 5", results, note=f"at 1 ms the loop adds {extra / 10:.2%}")


def main() -> None:
    options = arguments(__doc__ or "")
    sensitivities(options.quick)
    determinantal(options.quick)
    repellent(options.quick)
    importance(options.quick)


if __name__ == "__main__":
    main()
