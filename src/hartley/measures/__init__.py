"""How uncertain: entropies, divergences, spectra, volumes, ordinal patterns."""

from hartley.measures.ordinal import (
    Bounds,
    OrdinalCounter,
    PlanePoint,
    complexity_bounds,
    entropy_complexity,
    ordinal_counts,
    ordinal_patterns,
    permutation_entropy,
    plane_point,
)

__all__ = [
    "Bounds",
    "OrdinalCounter",
    "PlanePoint",
    "complexity_bounds",
    "entropy_complexity",
    "ordinal_counts",
    "ordinal_patterns",
    "permutation_entropy",
    "plane_point",
]
