"""`hartley audit`: was a text written by a model, and is a series of decisions fair?"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hartley.checks import nearest, require

if TYPE_CHECKING:
    from hartley.auditing import AuditResult

audit_app = typer.Typer(
    help="Test what a model, a text or a series of decisions is claimed to be.", no_args_is_help=True
)


@audit_app.command("text")
def text_command(
    file: Annotated[Path, typer.Argument(help="A text file (UTF-8).")],
    model: Annotated[str, typer.Option(help='"smollm2", or a folder or hub name of a causal model.')] = "smollm2",
    prompt: Annotated[str, typer.Option(help="What the model is claimed to have been given.")] = "",
    temperature: Annotated[float, typer.Option(help="At which it is claimed to have sampled.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus at which it is claimed to have sampled.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Was the text drawn from this model? A small p says: not from this model, sampling as stated. No more."""
    from hartley.auditing import e_process_test, martingale_test, score_text
    from hartley.labs.models import language_model

    text = file.read_text("utf-8").rstrip("\n")
    warpers: list[Any] = []
    if top_p < 1:
        from transformers import TopPLogitsWarper

        warpers = [TopPLogitsWarper(top_p)]
    stats = score_text(*language_model(model), text, prompt=prompt, temperature=temperature, warpers=warpers)
    _report([martingale_test(stats), e_process_test(stats)], as_json)


@audit_app.command("coin")
def coin_command(
    file: Annotated[Path, typer.Argument(help="A decision a line, or a CSV with a header.")],
    column: Annotated[str | None, typer.Option(help="The CSV's column of decisions; the first without it.")] = None,
    group: Annotated[str | None, typer.Option(help="The CSV's column that says which call a decision is of.")] = None,
    one: Annotated[str | None, typer.Option(help="The value that counts as 1; the later in the alphabet.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Is a series of binary decisions fair and without memory?"""
    import numpy as np

    from hartley.auditing import series_report

    values, groups = _decisions(file, column, group)
    kinds = sorted(set(values))
    require(len(kinds) <= 2, "file", str(file), f"two kinds of decision, not {', '.join(kinds[:4])}")
    require(one is None or one in kinds or len(kinds) == 1, "one", one, " or ".join(kinds))
    chosen = kinds[-1] if one is None else one
    report = series_report(
        np.array([value == chosen for value in values], dtype=np.int64),
        None if groups is None else np.array(groups),
    )
    extra = {
        "one": chosen,
        "share": report.share,
        "interval": report.interval,
        "alternation_rate": report.alternation_rate,
        "alternation_expected": report.alternation_expected,
        "recency": report.recency,
    }
    _report(list(report.tests), as_json, extra)


def _decisions(file: Path, column: str | None, group: str | None) -> tuple[list[str], list[str] | None]:
    if file.suffix == ".csv":
        import pandas as pd

        table = pd.read_csv(file, dtype=str, keep_default_na=False, skip_blank_lines=False)
        name = column or str(table.columns[0])
        for each in (name, *([group] if group else [])):
            require(each in table.columns, "column", each, f"a column of {file.name}; {nearest(each, table.columns)}")
        values = [value.strip() for value in table[name]]
        empty = values.index("") + 2 if "" in values else 0
        require(not empty, "file", str(file), f"a decision in every row; line {empty} has none")
        return values, table[group].tolist() if group else None
    require(column is None and group is None, "file", str(file), "a .csv file where columns are named")
    values = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    require(len(values) >= 2, "file", str(file), "at least two decisions, one a line")
    return values, None


def _report(results: list[AuditResult], as_json: bool, extra: dict[str, Any] | None = None) -> None:
    if not as_json:
        for result in results:
            typer.echo(str(result))
        return
    payload = {"tests": [asdict(result) for result in results], **(extra or {})}
    typer.echo(json.dumps(_finite(payload), indent=2))


def _finite(value: Any) -> Any:
    """JSON has neither infinities nor NaN: they become null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
