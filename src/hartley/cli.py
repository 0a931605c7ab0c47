"""The command line: list and show papers, reproduce their claims, and use the methods from a shell.

Modules that load torch are imported inside the commands, so that `hartley --version` and `hartley list` are quick.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import hartley
from hartley.checks import nearest
from hartley.commands.audit import audit_app
from hartley.commands.generate import generate
from hartley.commands.select import select
from hartley.commands.series import series
from hartley.papers import Claim, Paper, find_paper, load_papers

if TYPE_CHECKING:
    from hartley.reproduction.engine import Result
    from hartley.reproduction.store import Run

app = typer.Typer(
    help="Sampling guided by uncertainty: methods, and the evidence for the papers they come from.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(generate)
app.command()(select)
app.command()(series)
app.add_typer(audit_app, name="audit")

# A pipe has no width of its own; a table squeezed into 80 columns is hard to read.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True, highlight=False)
COLOURS = {"confirmed": "green", "refuted": "red", "open": "yellow", "failed": "magenta"}

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
StorePlace = Annotated[
    str,
    typer.Option("--store", metavar="URL", envvar="HARTLEY_STORE", help="SQLite file or database URL with the trials."),
]
ReportFolder = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where index.html is written.")]


def version(value: bool) -> None:
    if value:
        out.print(f"hartley {hartley.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where a command fails.")] = False,
) -> None:
    """Sampling guided by uncertainty: methods, and the evidence for the papers they come from."""


@app.command("list")
def list_papers(
    room: Annotated[str | None, typer.Option(help="Only papers of this room, e.g. decoding.")] = None,
    as_json: AsJson = False,
) -> None:
    """The papers, newest first, with their claims."""
    papers = list(load_papers().values())
    rooms = {p.room for p in papers}
    if room is not None and room not in rooms:
        raise ValueError(f"unknown room {room!r}: {nearest(room, rooms)}")
    papers = [p for p in papers if room in (None, p.room)]
    if as_json:
        print_json([describe(p) for p in papers])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("paper", "room", "year", "claims", "title"):
        table.add_column(column, justify="right" if column == "claims" else "left", no_wrap=column != "title")
    for p in papers:
        table.add_row(p.slug, p.room, str(p.published.year), str(len(p.claims)), escape(p.title))
    out.print(table)
    out.print("[dim]hartley show PAPER tells more, hartley reproduce PAPER tests its claims[/dim]")


@app.command()
def show(
    paper: Annotated[str, typer.Argument(help="A paper's name, as `hartley list` gives it.")], as_json: AsJson = False
) -> None:
    """One paper: what it is for, how to call the method, what it claims."""
    found = find_paper(paper)
    if as_json:
        print_json(describe(found))
        return
    out.print(f"[bold]{escape(found.title)}[/bold]")
    link = f", arXiv {found.arxiv}" if found.arxiv else ""
    out.print(f"[dim]{found.published.year}, {found.room}{link}[/dim]")
    out.print(f"\n{escape(found.summary)}\n")
    out.print(escape(found.usage), style="cyan")
    out.print(f"\n[dim]implemented in {', '.join(found.methods)}[/dim]\n")
    for claim in found.claims:
        out.print(f"[bold]{claim.name}[/bold]: {escape(claim.sentence)}")
        if claim.published:
            out.print(f"  [dim]published:[/dim] {escape(claim.published)}")
        out.print(f"  [dim]measured:[/dim] {escape(claim.metric)}, {claim.better} is better, margin {claim.margin:g}")


@app.command()
def reproduce(
    papers: Annotated[
        list[str] | None,
        typer.Argument(help="Papers, PAPER/CLAIM, or 'all'; nothing: the headline claim of every room."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick/--full", help="Seconds a claim, or minutes with more seeds.")] = True,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trials a claim, instead of the claim's own number.")] = None,
    engine: Annotated[str, typer.Option(help="joblib: processes on this machine; ray: a Ray cluster.")] = "joblib",
    workers: Annotated[int | None, typer.Option(min=1, help="Parallel processes; default one a core.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help="Go on with an interrupted run of the same.")] = True,
    store: StorePlace = "report/trials.sqlite",
    output: ReportFolder = Path("report"),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the laboratory, e.g. model=PATH; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put claims to the test: run their trials, store them, print verdicts and write the report.

    An interrupted run keeps its finished trials, and the same command goes on with it.
    """
    from hartley.reproduction import engine as runner
    from hartley.reproduction.report import write_report
    from hartley.reproduction.store import Store

    if engine not in runner.ENGINES:
        raise ValueError(f"unknown engine {engine!r}: {nearest(engine, runner.ENGINES)}")
    chosen = runner.choose(papers or [])
    given = dict(pair(text) for text in settings or [])
    jobs = runner.plan(chosen, quick=quick, seeds=seeds, settings=given)
    place = Store(store)
    key = {
        "claims": [f"{p.slug}/{c.name}" for p, c in chosen],
        "mode": "quick" if quick else "full",
        "seeds": seeds,
        "set": given,
    }
    with Progress(len(jobs), quiet=as_json) as progress:
        run = runner.run(
            jobs,
            place,
            key=key,
            engine=engine,
            workers=workers,
            resume=resume,
            on_start=progress.start,
            on_record=progress.advance,
        )
    results = runner.results(chosen, run.records)
    page = write_report(run, results, output)
    present(run, results, page, as_json)
    if any(r.outcome is None for r in results):
        raise typer.Exit(1)


@app.command()
def report(
    store: StorePlace = "report/trials.sqlite", output: ReportFolder = Path("report"), as_json: AsJson = False
) -> None:
    """Write the report of the latest run in the store again, complete or not."""
    from hartley.reproduction import engine as runner
    from hartley.reproduction.report import write_report
    from hartley.reproduction.store import Store

    run = Store(store).latest()
    if run is None:
        raise ValueError(f"store {store} has no runs: hartley reproduce makes one")
    results = runner.results(runner.choose(run.settings["claims"]), run.records)
    present(run, results, write_report(run, results, output), as_json)


class Progress:
    """A bar with the time left, on standard error; failed trials are named above it as they happen."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        from rich import progress

        self._bar = progress.Progress(
            progress.TextColumn("trials"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("[dim]{task.description}"),
            console=err,
            disable=quiet,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
        if done:
            self._bar.console.print(f"{done} of {total} trials are there already")

    def advance(self, record: Any) -> None:
        self._bar.update(self._task, advance=1, description=f"{record.paper}/{record.claim}")
        if record.error:
            last = record.error.strip().splitlines()[-1]
            self._bar.console.print(
                f"[red]failed[/red] {record.paper}/{record.claim} seed {record.seed}: {escape(last)}"
            )


def present(run: Run, results: list[Result], page: Path, as_json: bool) -> None:
    """Print the verdicts as a table, or all numbers as JSON."""
    from hartley.reproduction.report import figure, verdict

    if as_json:
        print_json(
            {
                "mode": run.settings["mode"],
                "report": str(page),
                "results": [
                    {
                        "paper": r.paper.slug,
                        "room": r.paper.room,
                        "modules": list(r.paper.methods),
                        "claim": r.claim.name,
                        "sentence": r.claim.sentence,
                        "verdict": verdict(r),
                        "margin": r.claim.margin,
                        "unit": r.claim.unit,
                        "method": r.outcome.method if r.outcome else None,
                        "seeds": r.outcome.seeds if r.outcome else 0,
                        "effects": [vars(e) for e in r.outcome.effects] if r.outcome else [],
                        "errors": [e.error for e in r.errors],
                    }
                    for r in results
                ],
            }
        )
        return
    table = Table(title=f"Claims, {run.settings['mode']} mode", title_justify="left", box=None, pad_edge=False)
    for column in ("paper", "claim", "verdict", "advantage", "95% interval", "over"):
        table.add_column(column, no_wrap=column in ("paper", "verdict", "advantage"))
    for r in results:
        name = verdict(r)
        cells = ["", "", ""]
        if r.outcome:
            e = r.outcome.effects[0]
            cells = [f"{figure(e.advantage)} {r.claim.unit}", f"{figure(e.low)} to {figure(e.high)}", e.baseline]
        table.add_row(r.paper.slug, r.claim.name, f"[{COLOURS[name]}]{name}[/]", *map(escape, cells))
    out.print(table)
    out.print(f"report: {page}")


def describe(paper: Paper) -> dict[str, Any]:
    """A paper as JSON has it."""

    def claim(c: Claim) -> dict[str, Any]:
        keys = ("name", "sentence", "published", "metric", "unit", "better", "margin", "headline")
        return {key: getattr(c, key) for key in keys}

    return {
        "slug": paper.slug,
        "title": paper.title,
        "published": paper.published.isoformat(),
        "authors": paper.authors,
        "arxiv": paper.arxiv,
        "repository": paper.repository,
        "room": paper.room,
        "topics": list(paper.topics),
        "modules": list(paper.methods),
        "summary": paper.summary,
        "usage": paper.usage,
        "claims": [claim(c) for c in paper.claims],
    }


def pair(text: str) -> tuple[str, str]:
    """ "key=value" as its two parts."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(f"--set {text!r}: expected KEY=VALUE")
    return key.strip(), value.strip()


def print_json(value: object) -> None:
    # Infinity is not JSON; an interval without an end is null.
    text = json.dumps(value, ensure_ascii=False, indent=2)
    print(text.replace(": -Infinity", ": null").replace(": Infinity", ": null").replace(": NaN", ": null"))


def fail(message: str, code: int) -> NoReturn:
    err.print(f"[red]error:[/red] {escape(message)}")
    raise SystemExit(code)


def main() -> None:
    """Entry point: errors are one line, exit code 2 for bad use and 1 for failure; `--debug` shows the traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        code = app(standalone_mode=False) or 0
        if code != 130:  # what typer makes of Ctrl-C
            sys.exit(code)
        fail("interrupted; finished trials are kept, and the same command goes on", code)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # the parser's own: usage and where to find help
            error.show()
            sys.exit(error.exit_code)
        fail(str(error).strip() or type(error).__name__, 2 if isinstance(error, ValueError) else 1)


if __name__ == "__main__":
    main()
