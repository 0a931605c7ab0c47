"""Self-repellent random walks on graphs: a token that avoids where it has been, and the SGD that it carries.

From node i the walk steps to j with probability proportional to P_ij (x_j / mu_j)^(-alpha), where P is a reversible
base chain with stationary law mu and x the (weighted) share of past visits. alpha = 0 is the base chain; the larger
alpha, the smaller the asymptotic variance of averages over the visited nodes.

    x <- x + gamma_n (e_X - x),  gamma_n = (n + 1)^(-gamma)          gamma = 1 counts visits

Source: Doshi, Hu and Eun (2023), arXiv 2305.05097, for the walk; Hu, Doshi and Eun (2024), arXiv 2401.09665, for the
optimisation. The walk keeps log x and one linear weight a node, so that no alpha overflows. `history_target=True` is
the variant of Hu, Ma and Eun (2025), arXiv 2505.18300.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, no_type_check

import numpy as np
from jaxtyping import Float, Int
from numba import njit
from numpy import ndarray
from scipy import linalg, sparse
from scipy.sparse import csgraph
from torch.utils.data import Sampler

from hartley.checks import require, require_between

Base = Literal["mhrw", "srw"]


def base_chain(graph: Any, base: Base = "mhrw") -> tuple[Any, Float[ndarray, " nodes"]]:
    """Transition matrix (scipy CSR) and stationary law of a memoryless walk on an undirected graph.

    Parameters
    ----------
    graph : a networkx graph or a symmetric adjacency matrix, dense or scipy.sparse; weights are edge weights.
    base : "mhrw", Metropolis-Hastings for the uniform law, P_ij = min(1/d_i, 1/d_j); "srw", the simple walk, whose law
        is proportional to the degree.

    Raises
    ------
    ValueError : negative weights, a directed graph, a node without edges, or several components (how many).
    """
    matrix: Any = graph
    if hasattr(graph, "nodes"):
        import networkx

        matrix = networkx.to_scipy_sparse_array(graph)
    adjacency = sparse.csr_array(matrix, dtype=float)
    require(adjacency.nnz > 0 and bool(np.all(adjacency.data >= 0)), "graph", "its weights", "edges with weights >= 0")
    require(abs(adjacency - adjacency.T).max() <= 1e-12 * adjacency.data.max(), "graph", "directed", "symmetric edges")
    parts, _ = csgraph.connected_components(adjacency, directed=False)
    require(parts == 1, "graph", f"{parts} components", "a connected graph")
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    if base == "srw":
        return sparse.csr_array(sparse.diags_array(1 / degree) @ adjacency), degree / degree.sum()
    entries = adjacency.tocoo()
    i, j = entries.coords
    move = np.where(i == j, 0.0, entries.data * np.minimum(1 / degree[i], 1 / degree[j]))
    off = sparse.csr_array((move, (i, j)), shape=adjacency.shape)
    stay = 1 - np.asarray(off.sum(axis=1)).ravel()
    chain = sparse.csr_array(off + sparse.diags_array(np.where(stay > 1e-15, stay, 0.0)))
    chain.eliminate_zeros()
    return chain, np.full(len(degree), 1 / len(degree))


@dataclass(frozen=True, eq=False)
class SelfRepellentWalk:
    """A walk that repels itself.

        walk = SelfRepellentWalk.on(networkx.karate_club_graph(), alpha=10)
        nodes = walk.sample(100_000, np.random.default_rng(0))
        estimate = f[nodes].mean()

    Attributes
    ----------
    chain, target : transition matrix (CSR) of the base and its stationary law, as `base_chain` gives them.
    alpha : repellence, >= 0.
    gamma : how fast the past is forgotten, in (0.5, 1]; 1 weighs all visits alike.
    fake : visits that every node has before the start, in shares of one visit: x_0 = 1 / nodes each.
    history_target : put the memory into the target of a Metropolis-Hastings step instead of into the kernel: propose j
        by the base chain, move with probability min(1, r_j / r_i), r = (x / mu)^(-alpha). It reads no neighbourhood, so
        that a step costs the same at every degree, and repels less: the variance falls by 2 alpha + 1 for every
        eigenvalue.

    When not to use: any node can be drawn directly (then draw independently); the base chain is not reversible.
    """

    chain: Any
    target: Float[ndarray, " nodes"]
    alpha: float = 5.0
    gamma: float = 1.0
    fake: float = 1.0
    history_target: bool = False

    def __post_init__(self) -> None:
        require_between("alpha", self.alpha, 0, closed="left")
        require_between("gamma", self.gamma, 0.5, 1, closed="right")
        require_between("fake", self.fake, 0)
        require(bool(np.all(self.target > 0)), "target", self.target, "a law that is positive at every node")
        flow = sparse.csr_array(sparse.diags_array(self.target) @ self.chain)
        require(
            abs(flow - flow.T).max() <= 1e-10 * self.target.max(), "chain", "not reversible", "mu_i P_ij = mu_j P_ji"
        )

    @classmethod
    def on(
        cls, graph: Any, base: Base = "mhrw", *, alpha: float = 5.0, gamma: float = 1.0, history_target: bool = False
    ) -> SelfRepellentWalk:
        """The walk on a graph, see `base_chain`."""
        chain, target = base_chain(graph, base)
        return cls(chain, target, alpha, gamma, history_target=history_target)

    @cached_property
    def _arrays(self) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        """Unsigned indices, so that compiled code need not look for negative ones."""
        chain = sparse.csr_array(self.chain)
        probability = chain.data.astype(float)
        if self.history_target:  # proposals by inverse CDF, row by row
            total = np.concatenate([[0.0], np.cumsum(probability)])
            probability = total[1:] - np.repeat(total[chain.indptr[:-1]], np.diff(chain.indptr))
        return chain.indptr.astype(np.uint64), chain.indices.astype(np.uint32), probability, np.log(self.target)

    def kernel(self, x: Float[ndarray, " nodes"]) -> Float[ndarray, "nodes nodes"]:
        """The transition matrix K[x] for a given share of visits; dense, for small graphs and checks."""
        dense = self.chain.toarray()
        log_r = -self.alpha * (np.log(x) - np.log(self.target))
        if self.history_target:
            moves = dense * np.exp(np.minimum(0.0, log_r - log_r[:, None]))
            np.fill_diagonal(moves, 0.0)
            return np.asarray(moves + np.diag(1 - moves.sum(axis=1)))
        weights = dense * np.exp(log_r - log_r.max())
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def sample(
        self, n: int, rng: np.random.Generator, *, chains: int | None = None, start: int | None = None
    ) -> Int[ndarray, "*chains n"]:
        """Nodes visited, after the start.

        Parameters
        ----------
        n : steps.
        chains : number of independent tokens, each with its own memory; one flat array without it.
        start : first node; drawn uniformly for each chain by default.
        """
        require(n >= 1, "n", n, "at least one step")
        count, nodes = chains or 1, len(self.target)
        require(start is None or 0 <= start < nodes, "start", start, f"a node in 0 .. {nodes - 1}")
        starts = (rng.integers(nodes, size=count) if start is None else np.full(count, start)).astype(np.uint32)
        visited = np.empty((count, n), dtype=np.int64)
        steps = _targeted_walk if self.history_target else _walk
        for c in range(count):
            steps(*self._arrays, self.alpha, self.gamma, self.fake / nodes, starts[c], visited[c], rng)
        return visited if chains else visited[0]

    def estimate(
        self, f: Float[ndarray, " nodes"], n: int, rng: np.random.Generator, *, chains: int = 1
    ) -> Float[ndarray, " chains"]:
        """Averages of `f` along each chain; their spread over chains is the error of one."""
        return np.asarray(f[self.sample(n, rng, chains=chains)].mean(axis=1))


def asymptotic_variance(
    chain: Any,
    target: Float[ndarray, " nodes"],
    f: Float[ndarray, " nodes"],
    alpha: float,
    *,
    gamma: float = 1.0,
    history_target: bool = False,
) -> float:
    """Limit of Var(x_n · f) / gamma_n for the self-repellent walk: n times the variance where gamma = 1.

    sum_i <f, v_i>² (1 + l_i) / (1 - l_i) / (2 alpha (1 + l_i) + c) over the eigenpairs of the base chain but the first,
    with c = 1 for gamma = 1 and 2 below; 2 alpha + c under the line for `history_target`. Cubic in the nodes.
    """
    values, vectors = _eigen(chain, target)
    base = np.square(vectors.T @ (np.sqrt(target) * f)) * (1 + values) / (1 - values)
    pull = np.ones_like(values) if history_target else 1 + values
    return float((base / (2 * alpha * pull + (1.0 if gamma == 1 else 2.0))).sum())


def sgd_covariance(
    chain: Any, target: Float[ndarray, " nodes"], gradients: Float[ndarray, "nodes d"], alpha: float
) -> Float[ndarray, "d d"]:
    """U(alpha), the noise that repellent sampling leaves in SGD whose step falls faster than gamma_n.

    sum_i (1 + l_i) / (1 - l_i) (alpha (1 + l_i) + 1)^-2 g_i g_i', g_i the coordinates of the gradients at the optimum
    in the eigenbasis: falls like 1 / alpha². For H = a_i - theta the variance of theta is beta_n U / 2.
    """
    values, vectors = _eigen(chain, target)
    g = vectors.T @ (np.sqrt(target)[:, None] * gradients)
    return np.asarray((g.T * ((1 + values) / (1 - values) / (alpha * (1 + values) + 1) ** 2)) @ g)


def token_sgd(
    walk: SelfRepellentWalk,
    gradient: Callable[[Float[ndarray, " d"], int], Float[ndarray, " d"]],
    theta: Float[ndarray, " d"],
    n: int,
    rng: np.random.Generator,
    *,
    beta: float = 0.9,
    step: float = 1.0,
    record: Int[ndarray, " times"] | None = None,
) -> Float[ndarray, "times d"]:
    """Gradient descent by a token: at the k-th visited node, theta -= step (k + 1)^(-beta) gradient(theta, node).

    Parameters
    ----------
    beta : in (0.5, 1]; repellence pays where beta > walk.gamma, that is where the walk adapts faster than theta.
    record : steps after which theta is kept (1-based, increasing); the last one by default.

    Returns
    -------
    theta at each recorded step.

    Raises
    ------
    ValueError : a gradient that is not finite (at which node and step).
    """
    require_between("beta", beta, 0.5, 1, closed="right")
    times = np.array([n]) if record is None else np.asarray(record)
    kept, theta, at = np.empty((len(times), len(theta))), theta.astype(float), 0
    for k, node in enumerate(walk.sample(n, rng), start=1):
        g = gradient(theta, int(node))
        require(bool(np.isfinite(g).all()), "gradient", f"NaN or inf at node {node}, step {k}", "finite numbers")
        theta = theta - step * (k + 1) ** -beta * g
        while at < len(times) and times[at] == k:
            kept[at] = theta
            at += 1
    return kept


def _eigen(
    chain: Any, target: Float[ndarray, " nodes"]
) -> tuple[Float[ndarray, " less"], Float[ndarray, "nodes less"]]:
    """Eigenpairs of the symmetrised chain, without the constant one."""
    root = np.sqrt(target)
    dense = sparse.csr_array(chain).toarray()
    values, vectors = linalg.eigh(root[:, None] * dense / root)
    return values[:-1], vectors[:, :-1]


class WalkOrder(Sampler[int]):
    """A data order for training over a graph: at each visited node, the next example that lives there.

        loader = DataLoader(data, sampler=WalkOrder(walk, shards, n=len(data), seed=0))

    Each node runs through its own examples in a fresh random order again and again.

    Parameters
    ----------
    shards : the examples of each node, indices into the data set; none may be empty.
    n : examples an epoch. The walk starts anew each epoch, with seed + epoch.
    """

    def __init__(self, walk: SelfRepellentWalk, shards: Sequence[Sequence[int]], n: int, seed: int = 0) -> None:
        require(len(shards) == len(walk.target), "shards", f"{len(shards)} lists", f"{len(walk.target)}, one a node")
        require(all(len(s) > 0 for s in shards), "shards", "with an empty one", "an example at every node")
        self.walk, self.shards, self.n, self.seed, self.epoch = walk, shards, n, seed, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng(self.seed + self.epoch)
        self.epoch += 1
        queues: list[list[int]] = [[] for _ in self.shards]
        for node in self.walk.sample(self.n, rng):
            if not queues[node]:
                queues[node] = rng.permutation(self.shards[node]).tolist()
            yield queues[node].pop()


@njit(cache=True, nogil=True)
@no_type_check  # the tests' import hook would wrap it, and numba cannot compile the wrapper
def _walk(start, neighbour, probability, log_mu, alpha, gamma, fake, node, visited, rng):
    """Fill `visited`. weight[j] = exp(log r_j - shift), log r_j = -alpha (log x_j - log mu_j), x up to a factor."""
    nodes = len(log_mu)
    log_x = np.full(nodes, np.log(fake))
    log_r = -alpha * (log_x - log_mu)
    shift = log_r.max()
    weight = np.exp(log_r - shift)
    count = np.zeros(nodes, dtype=np.uint32)
    log_count = np.log(fake + np.arange(min(len(visited), 10_000) + 1))
    log_scale = 0.0  # of x, so that forgetting costs nothing
    refreshed = 0
    partial = np.empty(np.diff(start).max())
    one = np.uint64(1)
    for n in range(len(visited)):
        first, last = start[node], start[node + one]
        total = 0.0
        for e in range(first, last):
            total += probability[e] * weight[neighbour[e]]
            partial[e - first] = total
        if not 1e-200 < total < 1e200:  # out of range here: the exact sum, in logs
            peak = -np.inf
            for e in range(first, last):
                peak = max(peak, log_r[neighbour[e]])
            total = 0.0
            for e in range(first, last):
                total += probability[e] * np.exp(log_r[neighbour[e]] - peak)
                partial[e - first] = total
            if n - refreshed >= nodes:
                shift, refreshed = peak, n
                for j in range(nodes):
                    weight[j] = np.exp(min(log_r[j] - shift, 600.0))
        point = rng.random() * total
        e = np.uint64(0)
        while e < last - first - one and partial[e] <= point:
            e += one
        node = neighbour[first + e]
        visited[n] = node
        if gamma == 1.0:
            count[node] += 1
            k = count[node]
            log_x[node] = log_count[k] if k < len(log_count) else np.log(fake + k)
        else:
            rate = (n + 2.0) ** -gamma
            log_scale += np.log1p(-rate)
            log_x[node] = np.logaddexp(log_x[node], np.log(rate) - log_scale)
        log_r[node] = -alpha * (log_x[node] - log_mu[node])
        weight[node] = np.exp(min(log_r[node] - shift, 600.0))


@njit(cache=True, nogil=True)
@no_type_check  # see above
def _targeted_walk(start, neighbour, cumulative, log_mu, alpha, gamma, fake, node, visited, rng):
    """Fill `visited` by Metropolis-Hastings towards mu r: two uniforms a step, the second unused where r grows."""
    log_x = np.full(len(log_mu), np.log(fake))
    log_r = -alpha * (log_x - log_mu)
    log_scale = 0.0
    one = np.uint64(1)
    for n in range(len(visited)):
        point, acceptance = rng.random(), rng.random()
        e, last = start[node], start[node + one] - one
        while e < last and cumulative[e] <= point:
            e += one
        ahead = log_r[neighbour[e]] - log_r[node]
        if ahead >= 0 or acceptance < np.exp(ahead):
            node = neighbour[e]
        visited[n] = node
        rate = (n + 2.0) ** -gamma
        if gamma == 1.0:
            log_x[node] = np.log(np.exp(log_x[node]) + 1)
        else:
            log_scale += np.log1p(-rate)
            log_x[node] = np.logaddexp(log_x[node], np.log(rate) - log_scale)
        log_r[node] = -alpha * (log_x[node] - log_mu[node])
