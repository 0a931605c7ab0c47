"""Verdicts on known effects, the store across crashes and versions, the engine's resumption, the report."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from hartley.labs.base import Lab
from hartley.papers import Claim, Paper, Trial
from hartley.reproduction import engine, figures
from hartley.reproduction.report import render, write_report
from hartley.reproduction.store import Record, Store, StoreError
from hartley.reproduction.verdict import judge


def claim(**changes: Any) -> Claim:
    settings: dict[str, Any] = {
        "name": "works", "sentence": "It works", "published": "", "metric": "score", "unit": "", "better": "higher",
        "margin": 0.0, "run": lambda lab, seed: Trial(1.0, {"b": 0.0}), "lab": "hartley.labs.base:Lab",
    }  # fmt: skip
    return Claim(**settings | changes)


def trials(effect: float, count: int, noise: float = 0.1, seed: int = 0) -> list[Trial]:
    rng = np.random.default_rng(seed)
    return [Trial(effect + rng.normal(0, noise), {"b": 0.0, "weak": -9.0}) for _ in range(count)]


def test_verdicts_of_clear_effects() -> None:
    assert judge(claim(), trials(1.0, 5)).verdict == "confirmed"
    assert judge(claim(), trials(-1.0, 5)).verdict == "refuted"
    assert judge(claim(margin=2.0), trials(1.0, 5)).verdict == "refuted"
    assert judge(claim(better="lower"), trials(-1.0, 5)).verdict == "refuted"  # the weak baseline is now the strong one
    assert judge(claim(), trials(0.0, 5)).verdict == "open"


def test_the_strongest_baseline_decides() -> None:
    outcome = judge(claim(), [Trial(1.0 + 0.01 * i, {"weak": 0.0, "strong": 2.0}) for i in range(5)])
    assert outcome.effects[0].baseline == "strong"
    assert outcome.verdict == "refuted"


def test_one_seed_of_a_random_trial_is_open() -> None:
    assert judge(claim(), trials(1.0, 1)).verdict == "open"
    assert judge(claim(deterministic=True), [Trial(1.0, {"b": 0.0})]).verdict == "confirmed"


def test_intervals_cover() -> None:
    """Coverage of a known effect over 300 repetitions with 4 seeds: at least 91%; below has probability under 0.002."""
    hits = 0
    for repeat in range(300):
        e = judge(claim(), trials(0.3, 4, 1.0, seed=repeat)).effects[0]
        hits += e.low <= 0.3 <= e.high
    assert hits / 300 >= 0.91


def test_paired_units_are_paired() -> None:
    """Units that vary far more than the method's advantage over the baseline on the same unit."""
    rng = np.random.default_rng(0)
    paired = []
    for _ in range(4):
        base = rng.normal(0, 10, 200)
        paired.append(Trial((base + 0.5 + rng.normal(0, 0.1, 200)).tolist(), {"b": base.tolist()}))
    outcome = judge(claim(), paired)
    assert outcome.verdict == "confirmed"
    assert outcome.effects[0].high - outcome.effects[0].low < 0.1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "no trials"),
        ([Trial(1.0, {})], "at least one"),
        ([Trial([1.0, 2.0], {"b": [1.0]})], "2 values of the method, 1 of b"),
        ([Trial(float("nan"), {"b": 0.0})], "not finite"),
    ],
)
def test_trials_that_cannot_be_judged(bad: list[Trial], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(claim(), bad)


def test_store_round_trip_and_resume(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "deep" / "trials.sqlite"))
    run = store.start({"mode": "quick"})
    trial = Trial([1.0, 2.0], {"b": [0.5, 0.25]}, {"line": ([0, 1], [2.0, 3.0])}, {"size": 4.0})
    store.add(run.id, Record("p", "c", 0, 1.5, trial))
    store.add(run.id, Record("p", "c", 1, 0.5, error="boom"))
    again = Store(str(tmp_path / "deep" / "trials.sqlite")).start({"mode": "quick"})
    assert again.id == run.id
    assert again.records[0].trial == Trial([1.0, 2.0], {"b": [0.5, 0.25]}, {"line": ([0, 1], [2.0, 3.0])}, {"size": 4})
    assert again.records[1].error == "boom"
    store.add(run.id, Record("p", "c", 1, 0.5, trial))
    assert [r.error for r in store.load(run.id).records] == [None, None]
    assert store.start({"mode": "full"}).id != run.id
    store.finish(run.id)
    assert store.start({"mode": "quick"}).id != run.id
    assert store.start({"mode": "full"}, resume=False).records == []


def test_store_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    Store(str(path))
    with sa.create_engine(f"sqlite:///{path}").begin() as connection:
        connection.execute(sa.text("update hartley_schema set version = 0"))
    with pytest.raises(StoreError, match="has schema 0, this hartley writes schema 1"):
        Store(str(path))
    (tmp_path / "notes.sqlite").write_text("this is not a database, but long enough to be taken for one" * 20)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(str(tmp_path / "notes.sqlite"))
    with pytest.raises(StoreError, match="no driver for this kind of database"):
        Store("paper://nowhere/none")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store("postgresql://nobody@127.0.0.1:1/none")


def test_write_failures_are_one_line(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "t.sqlite"))
    run = store.start({"mode": "quick"})
    with sa.create_engine(store.url).begin() as connection:
        connection.execute(sa.text("drop table trials"))
    with pytest.raises(StoreError, match="no such table"):
        store.add(run.id, Record("p", "c", 0, 1.0, Trial(1.0, {"b": 0.0})))


calls: list[int] = []


def fake_paper(fail: int | None = None, interrupt: int | None = None) -> Paper:
    paper = Paper("fake", "A fake", date(2020, 1, 1), "decoding", [], "s", "u")

    @paper.claim("It works", published="", metric="score", unit="points", better="higher", margin=0.0, seeds=(4, 6))
    def works(lab: Lab, seed: int) -> Trial:
        calls.append(seed)
        if seed == fail:
            raise RuntimeError("no luck")
        if seed == interrupt:
            raise KeyboardInterrupt
        return Trial(1.0 + 0.1 * seed, {"b": 0.0}, {"line": ([0, 1], [seed, 1.0])}, {"size": 3.0})

    return paper


def run_fake(monkeypatch: pytest.MonkeyPatch, store: Store, paper: Paper) -> list[engine.Result]:
    """The engine with its processes replaced by this one, so that the fake paper is seen."""
    calls.clear()
    monkeypatch.setattr(engine, "find_paper", lambda slug: paper)
    monkeypatch.setattr(engine, "_execute", lambda jobs, kind, workers: map(engine.run_job, jobs))
    chosen = [(paper, c) for c in paper.claims]
    jobs = engine.plan(chosen, quick=True, seeds=None, settings={})
    run = engine.run(jobs, store, key={"mode": "quick", "claims": ["fake/works"]})
    return engine.results(chosen, run.records)


def test_one_failing_trial_does_not_stop_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (result,) = run_fake(monkeypatch, Store(str(tmp_path / "t.sqlite")), fake_paper(fail=2))
    assert calls == [0, 1, 2, 3]
    assert result.outcome is not None
    assert result.outcome.verdict == "confirmed"
    assert result.outcome.seeds == 3
    assert "no luck" in (result.errors[0].error or "")


def test_interruption_keeps_what_is_done_and_resumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "t.sqlite"))
    with pytest.raises(KeyboardInterrupt):
        run_fake(monkeypatch, store, fake_paper(interrupt=2))
    latest = store.latest()
    assert latest is not None
    assert [r.seed for r in latest.records] == [0, 1]
    assert latest.finished is None
    (result,) = run_fake(monkeypatch, store, fake_paper())
    assert calls == [2, 3]
    assert result.outcome is not None
    assert result.outcome.seeds == 4


def test_report_is_written_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "t.sqlite"))
    results = run_fake(monkeypatch, store, fake_paper(fail=1))
    run = store.latest()
    assert run is not None
    page = write_report(run, results, tmp_path / "out")
    text = page.read_text("utf-8")
    assert "It works" in text
    assert 'class="verdict confirmed"' in text
    assert "no luck" in text
    assert text.count("<svg") == 1
    assert "currentColor" in text
    assert not re.search(r"https?://(?!arxiv|www\.w3|purl|creativecommons|matplotlib)", text)
    monkeypatch.setattr("hartley.reproduction.report.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_report(run, results, tmp_path / "out")
    assert page.read_text("utf-8") == text
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["index.html"]


def test_report_escapes_and_shows_failures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paper = fake_paper()
    bad = claim(sentence="<script>alert(1)</script>", run=lambda lab, seed: 1 / 0)
    paper.claims.append(bad)
    store = Store(str(tmp_path / "t.sqlite"))
    results = run_fake(monkeypatch, store, paper)
    assert results[1].outcome is not None or results[1].errors
    run = store.latest()
    assert run is not None
    assert "<script>" not in render(run, results)


def test_choose_and_plan() -> None:
    headline = engine.choose([])
    assert all(c.headline for _, c in headline)
    assert len(engine.choose(["top-h", "top-h/entropy-bound"])) == len(engine.choose(["top-h"]))
    assert len(engine.choose(["all"])) >= 17
    with pytest.raises(ValueError, match="did you mean mirostat"):
        engine.choose(["mirostad"])
    with pytest.raises(ValueError, match="unknown setting 'modle'"):
        engine.plan(engine.choose(["top-h"]), quick=True, seeds=None, settings={"modle": "x"})
    jobs = engine.plan(engine.choose(["pure"]), quick=True, seeds=5, settings={})
    assert len(jobs) == 15


@pytest.mark.slow
def test_the_same_trials_on_a_ray_cluster(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    chosen = engine.choose(["pure/over-top-p"])
    jobs = engine.plan(chosen, quick=True, seeds=2, settings={})
    values = []
    for kind in engine.ENGINES:
        run = engine.run(jobs, Store(str(tmp_path / f"{kind}.sqlite")), key={"mode": "quick"}, engine=kind)
        assert [r.error for r in run.records] == [None, None]
        values.append(sorted(np.mean(r.trial.method) for r in run.records if r.trial))
    ray.shutdown()
    assert values[0] == values[1]


def test_lines_of_seeds_on_different_grids_share_a_band() -> None:
    x, y = figures._common_grid([(np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0])), (np.array([1.0, 5.0]),) * 2])
    assert (x[0], x[-1]) == (1.0, 4.0)
    np.testing.assert_allclose(y, [x, x])
    same = (np.array([3.0, 1.0]), np.array([5.0, 6.0]))
    x, y = figures._common_grid([same, same])
    assert x.tolist() == [3.0, 1.0]
    assert y.shape == (2, 2)
