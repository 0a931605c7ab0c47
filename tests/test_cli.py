"""The command line as a user meets it: output, JSON, exit codes, one-line errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hartley import cli


@dataclass
class Done:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def hartley(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run the command line in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, code: int = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["hartley", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert (ended.value.code or 0) == code, err
        return Done(code, out, err)

    return call


def test_version_and_list(hartley) -> None:
    assert re.fullmatch(r"hartley \d+\.\d+\.\d+\n", hartley("--version").stdout)
    listing = hartley("list").stdout
    assert "top-h" in listing
    papers = json.loads(hartley("list", "--json", "--room", "decoding").stdout)
    assert {p["slug"] for p in papers} == {"top-h", "locally-typical", "mirostat", "pure"}
    assert {"slug", "room", "modules", "claims"} <= papers[0].keys()


def test_show(hartley) -> None:
    text = hartley("show", "mirostat").stdout
    assert "logits_processor" in text
    assert json.loads(hartley("show", "mirostat", "--json").stdout)["arxiv"] == "2007.14966"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "mirostad"), "unknown paper 'mirostad': did you mean mirostat"),
        (("reproduce", "top"), "unknown paper 'top'"),
        (("reproduce", "pure", "--engine", "jobli"), "did you mean joblib"),
        (("reproduce", "top-h", "--set", "model"), "expected KEY=VALUE"),
        (("reproduce", "top-h", "--set", "modell=x"), "did you mean model"),
        (("generate", "hello", "--sampler", "top-q"), "unknown sampler 'top-q'"),
        (("generate", "hello", "--sampler", "top-h", "--alfa", "1"), "did you mean alpha"),
        (("generate", "hello", "--sampler", "top-h", "--alpha", "3"), "alpha = 3"),
        (("generate", "hello", "--model", "/no/such/place"), "cannot be loaded"),
        (("list", "--room", "decodin"), "did you mean decoding"),
    ],
)
def test_bad_use_is_one_line_and_exit_2(hartley, arguments: tuple[str, ...], message: str) -> None:
    done = hartley(*arguments, code=2)
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback() -> None:
    command = [sys.executable, "-m", "hartley.cli", "--debug", "show", "mirostad"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_unusable_store_is_exit_1(hartley, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database" * 200)
    done = hartley("reproduce", "pure", "--store", str(tmp_path / "notes.txt"), code=1)
    assert "cannot be opened for writing" in " ".join(done.stderr.split())
    assert "has no runs" in hartley("report", code=2).stderr


def test_reproduce_report_and_json(hartley, tmp_path: Path) -> None:
    table = hartley("reproduce", "pure/released-constants", "--seeds", "2").stdout
    assert "released-constants" in table
    assert (tmp_path / "report" / "index.html").exists()
    done = json.loads(hartley("reproduce", "pure/released-constants", "--seeds", "2", "--json").stdout)
    (result,) = done["results"]
    assert result["verdict"] in ("confirmed", "refuted", "open")
    assert result["effects"][0]["low"] <= result["effects"][0]["advantage"] <= result["effects"][0]["high"]
    assert "released-constants" in hartley("report").stdout


@pytest.mark.model
@pytest.mark.slow
def test_generate(hartley) -> None:
    one = hartley("generate", "Once upon a time", "--sampler", "mirostat", "--tau", "3", "-n", "8").stdout
    assert one.startswith("Once upon a time")
    assert one == hartley("generate", "Once upon a time", "-s", "mirostat", "--tau=3", "-n", "8").stdout
    table = hartley("generate", "Once upon a time", "--compare", "-n", "6").stdout
    for name in ("top-p", "min-p", "top-h", "locally-typical", "mirostat", "distinct-2"):
        assert name in table
