"""`hartley series`: where the columns of a file lie in the complexity-entropy plane."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hartley.checks import nearest, require

if TYPE_CHECKING:
    from hartley.dynamics import Classification
    from hartley.measures.ordinal import Missing


def series(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file, one series a column.")],
    column: Annotated[list[str] | None, typer.Option(help="A column to classify; all numeric ones without it.")] = None,
    time: Annotated[str | None, typer.Option(help="The column of time stamps; must increase in even steps.")] = None,
    dt: Annotated[float, typer.Option(help="Time between two rows, where no column tells.")] = 1.0,
    natural_time: Annotated[float | None, typer.Option(help="The period of the motion; estimated without it.")] = None,
    order: Annotated[int, typer.Option(help="Values a pattern, 4 to 8.")] = 5,
    ratio: Annotated[float, typer.Option(help="Share of the natural time that a pattern spans, 0.3 to 0.5.")] = 0.4,
    skip_missing: Annotated[bool, typer.Option(help="Leave out windows with missing values.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the plane into this file (png, svg, pdf).")] = None,
) -> None:
    """Tell regular from complex from stochastic series, by permutation entropy and statistical complexity."""
    from hartley.dynamics import classify, sampling_interval

    columns = _read(file, column, time)
    step = dt if time is None else sampling_interval(columns.pop(time))
    missing: Missing = "skip" if skip_missing else "raise"
    results: dict[str, Classification] = {}
    for name, values in columns.items():
        try:
            results[name] = classify(values, step, natural_time=natural_time, order=order, ratio=ratio, missing=missing)
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from None
    if as_json:
        typer.echo(json.dumps({name: asdict(result) for name, result in results.items()}, indent=2))
    else:
        _print(results)
    if plot is not None:
        _draw(results, order, plot)


def _read(file: Path, chosen: list[str] | None, time: str | None) -> dict[str, Any]:
    import pandas as pd

    require(file.suffix in (".csv", ".parquet"), "file", str(file), "a .csv or .parquet file")
    table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    table.columns = table.columns.map(str)
    numeric = [name for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
    for name in [*(chosen or []), *([time] if time else [])]:
        require(name in table.columns, "column", name, f"a column of {file.name}; {nearest(name, table.columns)}")
        require(name in numeric, "column", name, f"a numeric column, not {table[name].dtype}")
    names = [*([time] if time else []), *(chosen or [name for name in numeric if name != time])]
    require(len(names) > (time is not None), "file", str(file), "at least one numeric column")
    return {name: table[name].to_numpy(dtype=float, na_value=float("nan")) for name in names}


def _print(results: dict[str, Classification]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("series", "verdict", "entropy", "complexity", "periodic limit", "delay", "natural time"):
        table.add_column(heading, justify="left" if heading in ("series", "verdict") else "right")
    for name, r in results.items():
        numbers = (f"{r.entropy:.4f}", f"{r.complexity:.4f}", f"{r.periodic_limit:.4f}")
        table.add_row(name, r.verdict, *numbers, str(r.delay), f"{r.natural_time:.4g}")
    console = Console()
    console.print(table)
    for name, r in results.items():
        for warning in r.warnings:
            console.print(f"{name}: {warning}", style="yellow")


def _draw(results: dict[str, Classification], order: int, path: Path) -> None:
    import math

    from matplotlib.figure import Figure

    from hartley.dynamics import periodic_limits
    from hartley.measures import complexity_bounds

    bounds = complexity_bounds(math.factorial(order))
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    for curve in (bounds.lower, bounds.upper):
        axes.plot(*curve, color="black", linewidth=1)
    for limit, label in zip(periodic_limits(order), ("least of a wave", "largest of a wave"), strict=True):
        axes.axvline(limit, color="grey", linestyle=":", linewidth=1)
        axes.text(limit, axes.get_ylim()[1], label, rotation=90, va="top", ha="right", fontsize=8, color="grey")
    for name, r in results.items():
        axes.plot(r.entropy, r.complexity, "o", label=f"{name}: {r.verdict}")
    axes.set(xlabel="normalised permutation entropy", ylabel="statistical complexity", title=f"order {order}")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    typer.echo(f"drew {path}")
