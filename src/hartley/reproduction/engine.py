"""Run claims: trials in parallel processes, each stored as it finishes, a failing one reported and passed over."""

from __future__ import annotations

import importlib
import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hartley.papers import Claim, Paper, find_paper, load_papers
from hartley.reproduction.store import Record, Run, Store
from hartley.reproduction.verdict import Outcome, judge

ENGINES = ("joblib", "ray")


@dataclass(frozen=True)
class Job:
    """One trial to run; everything in it can be sent to another process."""

    paper: str
    claim: str
    seed: int
    quick: bool
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Result:
    """A claim with its trials so far. `outcome` is None while none of them succeeded."""

    paper: Paper
    claim: Claim
    records: list[Record]
    outcome: Outcome | None

    @property
    def errors(self) -> list[Record]:
        return [r for r in self.records if r.error is not None]


def choose(papers: Sequence[str]) -> list[tuple[Paper, Claim]]:
    """The claims that the given names stand for, in the order of papers.

    Parameters
    ----------
    papers : slugs, "slug/claim", or "all"; none at all means the headline claim of every room.

    Raises
    ------
    ValueError : an unknown name; the nearest are suggested.
    """
    if not papers:
        return [(p, c) for p in load_papers().values() for c in p.claims if c.headline]
    chosen: list[tuple[Paper, Claim]] = []
    for name in papers:
        if name == "all":
            chosen += [(p, c) for p in load_papers().values() for c in p.claims]
            continue
        slug, _, claim = name.partition("/")
        paper = find_paper(slug)
        chosen += [(paper, paper.find(claim))] if claim else [(paper, c) for c in paper.claims]
    return list({(p.slug, c.name): (p, c) for p, c in chosen}.values())


def plan(
    claims: Sequence[tuple[Paper, Claim]], *, quick: bool, seeds: int | None, settings: Mapping[str, str]
) -> list[Job]:
    """The trials of the claims. Settings are checked against every lab before anything runs.

    Raises
    ------
    ValueError : a setting that some chosen lab does not have or cannot read.
    """
    jobs = []
    for paper, claim in claims:
        lab_class(claim).from_settings(settings, quick=quick)
        count = 1 if claim.deterministic else seeds or claim.seeds[0 if quick else 1]
        jobs += [Job(paper.slug, claim.name, seed, quick, tuple(sorted(settings.items()))) for seed in range(count)]
    return jobs


def run(
    jobs: Sequence[Job],
    store: Store,
    *,
    key: dict[str, Any],
    engine: str = "joblib",
    workers: int | None = None,
    resume: bool = True,
    on_start: Callable[[int, int], None] = lambda done, total: None,
    on_record: Callable[[Record], None] = lambda record: None,
) -> Run:
    """Run the trials that the store does not have yet and store each as it finishes.

    Parameters
    ----------
    key : what makes two calls the same work, for resuming an unfinished run.
    engine : "joblib" (processes on this machine) or "ray" (the cluster that `ray.init` reaches, or a local one).
    workers : processes; default the number of cores. Each uses one thread.
    on_start : called with the number of trials already there and in all.
    on_record : called with every new trial, failed or not.

    An interruption (Ctrl-C) leaves the run unfinished with all its stored trials; the same call goes on from there.
    """
    started = store.start(key, resume=resume)
    done = {(r.paper, r.claim, r.seed) for r in started.records if r.error is None}
    waiting = [job for job in jobs if (job.paper, job.claim, job.seed) not in done]
    on_start(len(jobs) - len(waiting), len(jobs))
    # Long trials first keep the processes busy to the end; trials of one claim are equally long, so mix the claims.
    for record in _execute(sorted(waiting, key=lambda job: job.seed), engine, workers or os.cpu_count() or 1):
        store.add(started.id, record)
        on_record(record)
    store.finish(started.id)
    return store.load(started.id)


def results(claims: Sequence[tuple[Paper, Claim]], records: Sequence[Record]) -> list[Result]:
    """Verdicts of the claims over the stored trials."""
    out = []
    for paper, claim in claims:
        mine = sorted((r for r in records if (r.paper, r.claim) == (paper.slug, claim.name)), key=lambda r: r.seed)
        trials = [r.trial for r in mine if r.trial is not None]
        out.append(Result(paper, claim, mine, judge(claim, trials) if trials else None))
    return out


def run_job(job: Job) -> Record:
    """Run one trial; an error becomes part of the record."""
    start = time.perf_counter()
    try:
        import torch

        torch.set_num_threads(1)  # processes share the cores already
        claim = find_paper(job.paper).find(job.claim)
        lab = lab_class(claim).from_settings(dict(job.settings), quick=job.quick)
        trial = claim.run(lab, job.seed)
        judge(claim, [trial])  # values that cannot be judged are an error of this trial
        return Record(job.paper, job.claim, job.seed, time.perf_counter() - start, trial)
    except Exception:
        return Record(job.paper, job.claim, job.seed, time.perf_counter() - start, error=traceback.format_exc())


def lab_class(claim: Claim) -> Any:
    """The laboratory that the claim names."""
    module, _, name = claim.lab.partition(":")
    return getattr(importlib.import_module(module), name)


def _execute(jobs: Sequence[Job], engine: str, workers: int) -> Iterator[Record]:
    if not jobs:
        return
    if engine == "ray":
        yield from _execute_on_ray(jobs)
        return
    from joblib import Parallel, delayed, parallel_config

    # A worker that idled is replaced; that is no news.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given", category=UserWarning)
    with parallel_config(backend="loky", n_jobs=min(workers, len(jobs)), inner_max_num_threads=1):
        # Interrupted, joblib's own threads trip over the jobs that it drops; nobody wants to read their tracebacks.
        hook, threading.excepthook = threading.excepthook, lambda _: None
        yield from Parallel(return_as="generator_unordered", pre_dispatch="all")(delayed(run_job)(j) for j in jobs)
        threading.excepthook = hook


def _execute_on_ray(jobs: Sequence[Job]) -> Iterator[Record]:
    try:
        import ray
    except ImportError as error:
        raise ValueError("--engine ray needs Ray: pip install 'hartley[ray]'") from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    remote = ray.remote(run_job)
    waiting = [remote.remote(job) for job in jobs]
    while waiting:
        ready, waiting = ray.wait(waiting)
        yield from ray.get(ready)
