"""Ordinal patterns against ordpy, antropy and peccary; trajectories and Lyapunov spectra against dysts.

antropy computes the entropy alone; the others give entropy and complexity, as we do. The floor of a count is one
comparison of the series with its own shift, which every method makes at least order - 1 times.
"""

from __future__ import annotations

import antropy
import numpy as np
import ordpy
from peccary import peccary
from race import arguments, race, show

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


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    ordinal(options.quick)
