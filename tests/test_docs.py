"""Examples of the book run, and the README shows the two commands."""

from __future__ import annotations

import doctest
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_examples_of_the_book() -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        failures, _ = doctest.testfile(str(page), module_relative=False)
        assert failures == 0, page


def test_readme_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert "make reproduce" in text[:1500]
    assert "make test" in text[:1500]
