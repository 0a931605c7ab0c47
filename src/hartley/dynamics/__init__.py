"""Chaotic systems, complexity of time series, entropy production."""

from hartley.dynamics.invariants import (
    LyapunovSpectrum,
    audit,
    correlation_dimension,
    kaplan_yorke,
    lyapunov_spectrum,
    multiscale_entropy,
    pesin_entropy,
    power_law_dimension,
    sample_entropy,
)
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
    "LyapunovSpectrum",
    "System",
    "Trajectory",
    "audit",
    "classify",
    "complexity_curve",
    "correlation_dimension",
    "estimate_natural_time",
    "get_system",
    "initial_conditions",
    "integrate",
    "kaplan_yorke",
    "load_systems",
    "lyapunov_spectrum",
    "make_trajectory",
    "multiscale_entropy",
    "periodic_limits",
    "pesin_entropy",
    "power_law_dimension",
    "sample_entropy",
    "sampling_interval",
    "solve",
    "system_names",
]
