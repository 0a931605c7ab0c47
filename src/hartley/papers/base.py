"""A paper is a record and its claims; a claim is one sentence that can turn out false, and the trial that tests it.

Paper modules are read by ``hartley list``, so they stay light: methods and labs are named by their dotted path, and
what a trial needs is imported inside it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, Literal

from hartley.checks import nearest, require

ROOMS = (
    "measures",
    "decoding",
    "speculative",
    "reasoning",
    "rl",
    "diffusion",
    "montecarlo",
    "querying",
    "training",
    "adaptation",
    "auditing",
    "dynamics",
)

Curve = tuple[Sequence[float], Sequence[float]]
"""x and y of one line of a figure."""


@dataclass(frozen=True)
class Trial:
    """One run of a claim's experiment: the method's value and each baseline's, measured on the same work.

    Attributes
    ----------
    method : the metric of the method, or its values on paired units (contexts, prompts, rows) of this seed.
    baselines : the same for each baseline, by name; units in the same order as the method's.
    curves : lines for the claim's figure, by label, for example reward over steps.
    details : diagnostics that stand beside the headline number (effective sample size, acceptance, mean length).
    """

    method: float | Sequence[float]
    baselines: Mapping[str, float | Sequence[float]]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """One sentence that can turn out false.

    Attributes
    ----------
    sentence : the claim, in words a reader understands without the paper.
    published : the figure as published, with its setting; "" where the paper gives none.
    metric, unit, better : what a trial measures and whether "higher" or "lower" is better.
    margin : fixed before the run, in the metric's unit, >= 0 unless the claim is "no worse than" (then negative).
        Confirmed: the interval of the advantage over the strongest baseline lies above it; refuted: below it.
    seeds : number of trials in quick and in full mode.
    deterministic : the trial has no randomness, so that one seed is the whole truth.
    headline : runs in the default `hartley reproduce`; one a room.
    axes : labels of the figure's axes where the trial returns curves.
    """

    name: str
    sentence: str
    published: str
    metric: str
    unit: str
    better: Literal["higher", "lower"]
    margin: float
    run: Callable[[Any, int], Trial]
    lab: str
    seeds: tuple[int, int] = (3, 8)
    deterministic: bool = False
    headline: bool = False
    axes: tuple[str, str] = ("", "")


@dataclass
class Paper:
    """A published system: where it comes from, which modules implement it, and its claims.

    Attributes
    ----------
    slug : the name on the command line, e.g. "top-h".
    room : the room of the house that holds its method, one of `ROOMS`.
    methods : dotted paths of the implementing modules.
    lab : dotted path "module:Class" of the laboratory its claims run on, unless a claim names its own.
    summary : what the method is for, one or two sentences.
    usage : how to call it, a few lines of Python.
    """

    slug: str
    title: str
    published: date
    room: str
    methods: Sequence[str]
    summary: str
    usage: str
    topics: Sequence[str] = ()
    authors: int | None = None
    arxiv: str | None = None
    repository: str | None = None
    lab: str = "hartley.labs.base:Lab"
    claims: list[Claim] = field(default_factory=list)

    def claim(
        self,
        sentence: str,
        *,
        published: str,
        metric: str,
        unit: str,
        better: Literal["higher", "lower"],
        margin: float,
        lab: str | None = None,
        seeds: tuple[int, int] = (3, 8),
        deterministic: bool = False,
        headline: bool = False,
        axes: tuple[str, str] = ("", ""),
    ) -> Callable[[Callable[[Any, int], Trial]], Callable[[Any, int], Trial]]:
        """Decorator: the function `(lab, seed) -> Trial` becomes the trial of this claim."""
        require(better in ("higher", "lower"), "better", better, '"higher" or "lower"')

        def add(run: Callable[[Any, int], Trial]) -> Callable[[Any, int], Trial]:
            self.claims.append(
                Claim(
                    name=run.__name__.replace("_", "-"),
                    sentence=sentence,
                    published=published,
                    metric=metric,
                    unit=unit,
                    better=better,
                    margin=margin,
                    run=run,
                    lab=lab or self.lab,
                    seeds=(1, 1) if deterministic else seeds,
                    deterministic=deterministic,
                    headline=headline,
                    axes=axes,
                )
            )
            return run

        return add

    def find(self, name: str) -> Claim:
        """The claim of that name."""
        for claim in self.claims:
            if claim.name == name:
                return claim
        raise ValueError(f"unknown claim {name!r} of {self.slug}: {nearest(name, [c.name for c in self.claims])}")


@cache
def load_papers() -> Mapping[str, Paper]:
    """All papers by slug, newest first: every module of this package that defines `paper`."""
    package = importlib.import_module("hartley.papers")
    modules = [importlib.import_module(f"hartley.papers.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    papers: list[Paper] = [module.paper for module in modules if hasattr(module, "paper")]
    return {p.slug: p for p in sorted(papers, key=lambda p: p.published, reverse=True)}


def find_paper(slug: str) -> Paper:
    """The paper of that slug; an unknown one raises `ValueError` that suggests the nearest."""
    papers = load_papers()
    if slug not in papers:
        raise ValueError(f"unknown paper {slug!r}: {nearest(slug, papers)}")
    return papers[slug]
