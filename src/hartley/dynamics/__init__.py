"""Chaotic systems, complexity of time series, entropy production."""

from hartley.dynamics.peccary import (
    Classification,
    ComplexityCurve,
    classify,
    complexity_curve,
    estimate_natural_time,
    periodic_limits,
    sampling_interval,
)

__all__ = [
    "Classification",
    "ComplexityCurve",
    "classify",
    "complexity_curve",
    "estimate_natural_time",
    "periodic_limits",
    "sampling_interval",
]
