"""`hartley select`: rows, items, output files, JSON and errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from hartley.commands.select import _Progress, select
from hartley.querying import from_relations, greedy_max_entropy

app = typer.Typer()
app.command()(select)


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "paper": [f"p{i}" for i in rng.integers(0, 40, 200)],
            "species": rng.zipf(1.6, 200),
            "drug": rng.zipf(1.4, 200),
        }
    )
    frame.loc[3, "drug"] = np.nan
    frame.to_csv(tmp_path / "relations.csv", index=False)
    frame.to_parquet(tmp_path / "relations.parquet")
    return frame


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows(table: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    file = str(tmp_path / f"relations.{suffix}")
    out = run(file, "--column", "species", "--column", "drug", "-k", "12")
    expected = greedy_max_entropy(table[["species", "drug"]].fillna(-1), 12).indices
    assert [int(line) for line in out.split()] == list(expected)
    written = tmp_path / f"chosen.{suffix}"
    assert run(file, "--column", "species", "--column", "drug", "-k", "12", "-o", str(written)) == ""
    back = pd.read_parquet(written) if suffix == "parquet" else pd.read_csv(written)
    pd.testing.assert_frame_equal(
        back.reset_index(drop=True), table.iloc[expected].reset_index(drop=True), check_dtype=False
    )


def test_items_and_json(table: pd.DataFrame, tmp_path: Path) -> None:
    file, written = str(tmp_path / "relations.csv"), tmp_path / "chosen.csv"
    arguments = ["--column", "species", "--item", "paper", "-k", "7", "--binary", "--selector", "sum"]
    found = json.loads(run(file, *arguments, "--json"))
    sample = greedy_max_entropy(
        from_relations(table["paper"].tolist(), table["species"]), 7, selector="sum", binary=True
    )
    assert found["items"] == list(sample.labels)
    np.testing.assert_allclose(found["entropies"], sample.entropies)
    assert found["stopping_point"] == 7
    run(file, *arguments, "-o", str(written))
    rows = pd.read_csv(written)
    assert list(rows["paper"].drop_duplicates()) == found["items"]
    assert len(rows) == table["paper"].isin(found["items"]).sum()


@pytest.mark.usefixtures("unchecked")
def test_errors(table: pd.DataFrame, tmp_path: Path) -> None:
    file = str(tmp_path / "relations.csv")
    for arguments, message in [
        ((file, "--column", "specie", "-k", "3"), "did you mean species"),
        ((file, "--column", "species", "-k", "300"), "k = 300: expected 1 to 200"),
        ((file, "--column", "species", "-k", "3", "--selector", "best"), "selector = 'best'"),
        ((file, "--column", "species", "-k", "3", "-o", "rows.txt"), "output = 'rows.txt'"),
        ((file, "--column", "species", "-k", "3", "--item", "drug"), "without missing values, not 1"),
        (("relations.txt", "--column", "species"), "a .csv or .parquet file"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(*arguments)


def test_interrupt_keeps_what_was_chosen(table: pd.DataFrame) -> None:
    import os
    import signal

    before, calls = signal.getsignal(signal.SIGINT), 0
    with _Progress(10) as progress:

        def interrupted(done: int, total: int) -> bool:
            nonlocal calls
            calls += 1
            if done == 4:
                os.kill(os.getpid(), signal.SIGINT)
            return progress(done, total)

        sample = greedy_max_entropy(table[["species"]].to_numpy(), 10, progress=interrupted)
    assert 4 <= len(sample.indices) <= 5
    assert calls == len(sample.indices)
    assert signal.getsignal(signal.SIGINT) is before
