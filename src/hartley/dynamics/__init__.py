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
from hartley.dynamics.systems import System, get_system, load_systems, system_names
from hartley.dynamics.trajectories import (
    IntegrationError,
    Trajectory,
    initial_conditions,
    integrate,
    make_trajectory,
    solve,
)

__all__ = [
    "Classification",
    "ComplexityCurve",
    "IntegrationError",
    "System",
    "Trajectory",
    "classify",
    "complexity_curve",
    "estimate_natural_time",
    "get_system",
    "initial_conditions",
    "integrate",
    "load_systems",
    "make_trajectory",
    "periodic_limits",
    "sampling_interval",
    "solve",
    "system_names",
]
