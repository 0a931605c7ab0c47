"""Entropy production of active matter: what needs no learned score."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hartley.papers.base import Paper, Trial

if TYPE_CHECKING:
    from hartley.labs.base import Lab
    from hartley.labs.chaos import RingLab

paper = Paper(
    slug="entropy-production",
    title="Deep learning probability flows and entropy production rates in active matter",
    published=date(2023, 9, 22),
    room="dynamics",
    methods=["hartley.dynamics.entropy_production"],
    summary="How fast a driven stochastic system with known drift and noise produces entropy. The total needs samples "
    "only; where it is produced needs the score of the stationary density.",
    usage="from hartley.dynamics import ActiveParticles\n\nsystem = ActiveParticles(particles=3, dimension=1)\n"
    "z = system.simulate(1000, time=20.0, dt=0.01, rng=rng, every=200)[:, 5:]\nsystem.entropy_production(z)",
    topics=["entropy production", "active matter", "Langevin"],
    authors=2,
    arxiv="2309.12991",
    repository="https://github.com/nmboffi/active_pflows",
    lab="hartley.labs.chaos:RingLab",
)


@paper.claim(
    "Samples and the drift give the ring's total entropy production without a score, nearer to the exact value than "
    "the Gaussian score and than the bound by the fluctuations of the current",
    published="Total and local rates by a learned score (figures); the total by parts is not in the paper",
    metric="relative error of the rate",
    unit="percent",
    better="lower",
    margin=5.0,
)
def ring_total(lab: RingLab, seed: int) -> Trial:
    """One self-propelled particle on a ring, against a finite-volume solution."""
    import numpy as np

    from hartley.dynamics.entropy_production import from_samples, gaussian_plug_in, simulate, uncertainty_bound

    rng = np.random.default_rng(seed)
    z = lab.samples(10_000 if lab.quick else 40_000, rng)
    path = simulate(lab.drift, lab.diffusion, z[:2000], dt=0.01, steps=100, rng=rng, wrap=lab.wrap)
    bound = uncertainty_bound(lab.drift, lab.diffusion, path, 0.01, displacement=lab.wrap)
    found = from_samples(lab.drift, lab.divergence, lab.diffusion, z)
    return Trial(
        method=lab.exact_error(found.rate),
        baselines={
            "Gaussian score": lab.exact_error(gaussian_plug_in(lab.drift, lab.diffusion, z).rate),
            "uncertainty bound": lab.exact_error(bound),
        },
        details={"rate": found.rate, "standard error": found.standard_error, "exact": lab.exact_rate, "bound": bound},
    )


@paper.claim(
    "For interacting active particles, the form in self-propulsion and force alone has a smaller standard error than "
    "the general score-free form and than the heat measured along trajectories",
    published="",
    metric="logarithm of the standard error at equal samples",
    unit="nats",
    better="lower",
    margin=0.0,
    lab="hartley.labs.base:Lab",
)
def low_variance(lab: Lab, seed: int) -> Trial:
    """Three particles in a trap."""
    import numpy as np

    from hartley.dynamics import ActiveParticles
    from hartley.dynamics.entropy_production import from_samples, from_trajectories, simulate

    rng = np.random.default_rng(seed)
    system = ActiveParticles(3, 1)
    z = system.simulate(1000 if lab.quick else 4000, time=12.0, dt=0.01, rng=rng, every=1200)[:, -1]
    path = simulate(system.drift, system.diffusion, z, dt=0.01, steps=20, rng=rng)
    found = {
        "method": system.entropy_production(z),
        "general form": from_samples(system.drift, system.divergence, system.diffusion, z),
        "heat along 20 steps": from_trajectories(system.drift, system.diffusion, path, 0.01),
    }
    errors = {name: float(np.log(estimate.standard_error)) for name, estimate in found.items()}
    return Trial(
        method=errors.pop("method"),
        baselines=errors,
        details={name: estimate.rate for name, estimate in found.items()},
    )
