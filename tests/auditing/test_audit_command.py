"""The commands read what people have and print what the library says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hartley.auditing import series_report
from hartley.commands.audit import audit_app


def run(*arguments: object):
    return CliRunner().invoke(audit_app, [str(a) for a in arguments])


def test_coin_from_lines(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 2, 80)
    file = tmp_path / "flips.txt"
    file.write_text("\n".join("heads" if v else "tails" for v in x) + "\n")
    plain = run("coin", file, "--one", "heads")
    assert plain.exit_code == 0
    assert plain.output.strip() == str(series_report(x))
    read = json.loads(run("coin", file, "--one", "heads", "--json").output)
    assert read["share"] == pytest.approx(x.mean())
    assert [t["test"] for t in read["tests"]] == ["uniformity", "independence", "alternation"]


def test_coin_from_a_table_with_calls(tmp_path: Path) -> None:
    file = tmp_path / "flips.csv"
    file.write_text("call,answer\n" + "".join(f"{i // 3},{a}\n" for i, a in enumerate("yyynnnyyy")))
    read = json.loads(run("coin", file, "--column", "answer", "--group", "call", "--json").output)
    assert read["one"] == "y"
    assert read["share"] == pytest.approx(2 / 3)
    assert read["tests"][2]["pvalue"] is None  # every call is constant: nothing can be told
    assert "did you mean answer" in str(run("coin", file, "--column", "answr").exception)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "yes\nno\nmaybe\n", "two kinds of decision"),
        ("a.txt", "yes\n", "at least two decisions"),
        ("a.csv", "answer\nyes\n \nno\n", "line 3 has none"),
    ],
)
def test_coin_refuses(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    out = run("coin", tmp_path / name)
    assert isinstance(out.exception, ValueError)
    assert message in str(out.exception)


@pytest.mark.model
def test_text(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("zebra quantum lamp the the of seventeen purple marmalade\n")
    read = json.loads(run("text", file, "--json").output)
    assert [t["test"] for t in read["tests"]] == ["martingale test", "e-process"]
    assert read["tests"][0]["pvalue"] < 1e-3
    excluded = json.loads(run("text", file, "--top-p", "0.3", "--json").output)
    assert excluded["tests"][0]["pvalue"] == 0
    assert excluded["tests"][0]["statistic"] is None
    file.write_text("\n")
    assert "not empty" in str(run("text", file).exception)
