"""The report: one HTML file with everything in it, written whole or not at all."""

from __future__ import annotations

import importlib.resources
import math
import os
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import hartley
from hartley.reproduction.engine import Result
from hartley.reproduction.figures import draw
from hartley.reproduction.store import Run


def write_report(run: Run, results: Sequence[Result], folder: Path) -> Path:
    """Write `index.html` into the folder: to a temporary file first, then moved into place.

    Raises
    ------
    OSError : the folder cannot be written or the disk is full; an earlier report stays as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = render(run, results)
    handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(name, 0o644)
        os.replace(name, folder / "index.html")
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return folder / "index.html"


def render(run: Run, results: Sequence[Result]) -> str:
    """The report as a string of HTML."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = figure
    template = environment.from_string(
        importlib.resources.files("hartley.reproduction").joinpath("report.html.j2").read_text("utf-8")
    )
    views = [
        SimpleNamespace(
            claim=r.claim,
            paper=r.paper,
            outcome=r.outcome,
            errors=r.errors,
            verdict=verdict(r),
            details=_details(r),
            svg=draw(r) if r.outcome else "",
        )
        for r in results
    ]
    counts = {name: sum(v.verdict == name for v in views) for name in ("confirmed", "refuted", "open", "failed")}
    return template.render(
        papers=[(paper, list(group)) for paper, group in groupby(views, key=lambda v: v.paper)],
        counts=counts,
        mode=run.settings.get("mode", "quick"),
        started=f"{run.started:%d %B %Y, %H:%M} UTC",
        version=hartley.__version__,
    )


def verdict(result: Result) -> str:
    """The verdict, or "failed" where no trial succeeded."""
    return result.outcome.verdict if result.outcome else "failed"


def figure(value: float) -> str:
    """A number as one would say it: three significant digits, true minus sign."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}".replace("-", "−")


def _details(result: Result) -> list[tuple[str, float]]:
    trials = [r.trial for r in result.records if r.trial is not None]
    names = dict.fromkeys(name for t in trials for name in t.details)
    return [(name, float(np.mean([t.details[name] for t in trials if name in t.details]))) for name in names]
