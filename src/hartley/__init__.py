"""Sampling guided by uncertainty.

Each room is imported when it is first used: ``import hartley`` costs milliseconds, ``hartley.decoding`` loads torch.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules={
        "adaptation",
        "auditing",
        "decoding",
        "diffusion",
        "dynamics",
        "importance",
        "measures",
        "montecarlo",
        "querying",
        "reasoning",
        "rl",
        "speculative",
        "training",
    },
)
