"""Every paper is well formed: its modules exist, its lab is one, its room has one headline, its names are unique."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from collections import Counter

import pytest

from hartley.labs.base import Lab
from hartley.papers import Paper, find_paper, load_papers
from hartley.papers.base import ROOMS
from hartley.reproduction.engine import lab_class

PAPERS = list(load_papers().values())


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: p.slug)
def test_paper_is_complete(paper: Paper) -> None:
    assert paper.room in ROOMS
    assert len(paper.claims) >= 2
    assert paper.summary
    assert paper.usage
    for module in paper.methods:
        importlib.import_module(module)
    for name, count in Counter(c.name for c in paper.claims).items():
        assert count == 1, name
    for claim in paper.claims:
        assert issubclass(lab_class(claim), Lab)
        assert dataclasses.is_dataclass(lab_class(claim))
        assert claim.metric
        assert not claim.sentence.endswith(".")


def test_every_room_has_one_headline() -> None:
    headlines = Counter(p.room for p in PAPERS for c in p.claims if c.headline)
    assert headlines == dict.fromkeys({p.room for p in PAPERS if p.claims}, 1)


def test_listing_papers_loads_nothing_heavy() -> None:
    code = "import sys, hartley.papers as p; p.load_papers(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numba", "scipy", "sklearn", "transformers", "matplotlib", "pandas"} & set(loaded)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown paper 'top-j': did you mean top-h"):
        find_paper("top-j")
    with pytest.raises(ValueError, match="unknown claim 'entropy-bond' of top-h: did you mean entropy-bound"):
        find_paper("top-h").find("entropy-bond")


def test_lab_settings_are_read_as_their_types() -> None:
    @dataclasses.dataclass(frozen=True)
    class Example(Lab):
        size: int = 3
        rate: float = 0.5
        name: str | None = None
        flag: bool = False

    lab = Example.from_settings({"size": "7", "rate": "2", "name": "x", "flag": "true"}, quick=False)
    assert lab == Example(quick=False, size=7, rate=2.0, name="x", flag=True)
    with pytest.raises(ValueError, match="unknown setting 'sise' of Example: did you mean size"):
        Example.from_settings({"sise": "7"}, quick=True)
    with pytest.raises(ValueError, match="setting size = 'many'"):
        Example.from_settings({"size": "many"}, quick=True)
