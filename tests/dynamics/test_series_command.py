"""The command reads what people have and prints what the library says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from hartley.commands.series import series
from hartley.dynamics import classify


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(series)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def table() -> pd.DataFrame:
    time = np.arange(4000) * 0.05
    noise = np.random.default_rng(0).standard_normal(4000)
    return pd.DataFrame({"t": time, "wave": np.sin(time), "noise": noise, "name": "a"})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_json_is_what_the_library_says(run, table: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"data.{kind}"
    table.to_csv(file, index=False) if kind == "csv" else table.to_parquet(file)
    out = run(file, "--time", "t", "--json", "--natural-time", 6.2832)
    assert out.exit_code == 0
    read = json.loads(out.output)
    assert set(read) == {"wave", "noise"}
    assert read["wave"]["verdict"] == "regular"
    assert read["noise"]["verdict"] == "stochastic"
    expected = classify(table["noise"].to_numpy(), 0.05, natural_time=6.2832)
    assert read["noise"]["entropy"] == pytest.approx(expected.entropy, abs=1e-9)


def test_table_and_plane(run, table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "data.csv", index=False)
    out = run(tmp_path / "data.csv", "--column", "wave", "--plot", tmp_path / "plane.png")
    assert out.exit_code == 0
    assert "regular" in out.output
    assert "noise" not in out.output
    assert (tmp_path / "plane.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column", "wav"], "did you mean wave"),
        (["--column", "name"], "a numeric column"),
        (["--time", "noise"], "expected an increasing time"),
        (["--column", "wave", "--order", "12"], "order = 12"),
        (["--column", "flat"], "column 'flat'"),
        (["--column", "holes"], "nan"),
    ],
)
def test_errors_say_what_is_wrong(run, table: pd.DataFrame, tmp_path: Path, arguments: list[str], message: str) -> None:
    table["flat"] = 1.0
    table["holes"] = table["wave"].where(table.index != 7)
    table.to_csv(tmp_path / "data.csv", index=False)
    out = run(tmp_path / "data.csv", *arguments)
    assert isinstance(out.exception, ValueError)  # which the command line prints as one line
    assert message in str(out.exception)


def test_files_that_cannot_be_read(run, tmp_path: Path) -> None:
    assert "expected a .csv or .parquet file" in str(run(tmp_path / "data.xlsx").exception)
    assert isinstance(run(tmp_path / "none.csv").exception, FileNotFoundError)
