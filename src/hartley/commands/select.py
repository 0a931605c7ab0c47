"""`hartley select`: a small, diverse subset of the rows of a file, by greedy maximum entropy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hartley.checks import nearest, require

if TYPE_CHECKING:
    from hartley.querying import Incidence, MaxEntropySample


def select(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file with categorical columns.")],
    column: Annotated[list[str], typer.Option(help="A categorical column to diversify; repeatable.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many to choose.")] = 100,
    item: Annotated[str | None, typer.Option(help="Rows with the same value here are one item.")] = None,
    selector: Annotated[str, typer.Option(help="utopia (nearest to the utopian point) or sum.")] = "utopia",
    binary: Annotated[bool, typer.Option("--binary", help="Count an entity once an item.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the rows (.csv, .parquet).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: items, entropies, stopping point.")] = False,
) -> None:
    """Choose K rows (or items) of FILE whose categories are diverse and balanced; prints them in order of choice.

    Rows are numbered from 0. Ctrl-C keeps what was chosen so far. With --output the chosen rows are written, in
    order of choice.
    """
    from hartley.querying import greedy_max_entropy, stopping_point

    table = _read(file, [*column, *([item] if item else [])])
    require(output is None or output.suffix in (".csv", ".parquet"), "output", str(output), "a .csv or .parquet file")
    require(len(table) > 0, "file", str(file), "at least one row")
    incidence = _incidence(table, column, item)
    kind: Literal["utopia", "sum"] = selector  # type: ignore[assignment] # checked at the door of the method
    with _Progress(k) as progress:
        sample = greedy_max_entropy(incidence, k, selector=kind, binary=binary, progress=progress)
    if output is not None:
        rows = _rows(table, sample, item)
        rows.to_parquet(output) if output.suffix == ".parquet" else rows.to_csv(output, index=False)
        typer.echo(f"wrote {len(rows)} rows to {output}", err=True)
    chosen = [value.item() if hasattr(value, "item") else value for value in sample.labels]
    if as_json:
        content = {
            "item": item or "row",
            "items": chosen,
            "columns": column,
            "entropies": sample.entropies.tolist(),
            "utopia": sample.utopia.tolist(),
            "stopping_point": stopping_point(sample.entropies),
        }
        typer.echo(json.dumps(content, indent=2, default=str))
    elif output is None:
        typer.echo("\n".join(map(str, chosen)))


class _Progress:
    """A bar on standard error; the first Ctrl-C ends the selection and keeps its result."""

    def __init__(self, total: int) -> None:
        import time

        from rich.console import Console
        from rich.progress import Progress

        self.bar = Progress(console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("selecting", total=total)
        self.clock, self.shown, self.stopped = time.monotonic, time.monotonic(), False

    def __enter__(self) -> _Progress:
        import signal

        self.previous = signal.signal(signal.SIGINT, self._stop)
        if self.bar.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        import signal

        signal.signal(signal.SIGINT, self.previous)
        self.bar.stop()

    def __call__(self, done: int, total: int) -> bool:
        if self.clock() - self.shown > 0.1 or done == total:
            self.shown = self.clock()
            self.bar.update(self.task, completed=done)
        if self.stopped and done < total:
            typer.echo(f"stopped after {done} of {total}", err=True)
        return not self.stopped

    def _stop(self, *_: object) -> None:
        self.stopped = True


def _read(file: Path, needed: list[str]) -> Any:
    import pandas as pd

    require(file.suffix in (".csv", ".parquet"), "file", str(file), "a .csv or .parquet file")
    table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, low_memory=False)
    table.columns = table.columns.map(str)
    for name in needed:
        require(name in table.columns, "column", name, f"a column of {file.name}; {nearest(name, table.columns)}")
    return table


def _incidence(table: Any, columns: list[str], item: str | None) -> Incidence:
    """Categories as codes, missing ones a category of their own; items in the order of their names, rows by number."""
    import numpy as np
    import pandas as pd

    from hartley.querying import from_relations

    codes = [pd.factorize(table[name], use_na_sentinel=False)[0] for name in columns]
    if item is None:
        return from_relations(np.arange(len(table)), *codes)
    missing = int(table[item].isna().sum())
    require(missing == 0, "item", item, f"a column without missing values, not {missing} of them")
    return from_relations(table[item].to_numpy(), *codes)


def _rows(table: Any, sample: MaxEntropySample, item: str | None) -> Any:
    """The rows of the chosen items, items in order of choice."""
    if item is None:
        return table.iloc[sample.labels]
    rank = table[item].map({label: place for place, label in enumerate(sample.labels)})
    return table.loc[rank.dropna().sort_values(kind="stable").index]
