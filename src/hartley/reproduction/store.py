"""Every trial in a database: SQLite by default, any other that SQLAlchemy reaches by its URL.

A run is one call of `hartley reproduce`; its trials are written one transaction each, so that whatever finished before
a crash is there. The schema has a version; a store of another version is refused with what to do about it.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import hartley
from hartley.papers import Trial

SCHEMA = 1


class StoreError(RuntimeError):
    """The store cannot be opened, read or written; the message says what to do."""


class _Base(DeclarativeBase):
    pass


class _Version(_Base):
    __tablename__ = "hartley_schema"
    version: Mapped[int] = mapped_column(primary_key=True)


class _Run(_Base):
    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(sa.Text, index=True)
    started: Mapped[str] = mapped_column(sa.String(32))
    finished: Mapped[str | None] = mapped_column(sa.String(32))


class _Trial(_Base):
    __tablename__ = "trials"
    __table_args__ = (sa.UniqueConstraint("run", "paper", "claim", "seed"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[int] = mapped_column(sa.ForeignKey("runs.id"), index=True)
    paper: Mapped[str] = mapped_column(sa.String(80))
    claim: Mapped[str] = mapped_column(sa.String(120))
    seed: Mapped[int]
    seconds: Mapped[float]
    values: Mapped[str | None] = mapped_column(sa.Text)
    error: Mapped[str | None] = mapped_column(sa.Text)
    version: Mapped[str] = mapped_column(sa.String(40))
    machine: Mapped[str] = mapped_column(sa.String(200))


@dataclass(frozen=True)
class Record:
    """One trial as it is stored: either its values or the error that ended it."""

    paper: str
    claim: str
    seed: int
    seconds: float
    trial: Trial | None = None
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """A run and its trials."""

    id: int
    started: datetime
    finished: datetime | None
    settings: dict[str, Any]
    records: list[Record] = field(default_factory=list)


class Store:
    """Runs and their trials behind a database URL; a plain path means SQLite.

    Raises
    ------
    StoreError : not reachable, not writable, or of another schema version.
    """

    def __init__(self, url: str) -> None:
        self.url = url if "://" in url else f"sqlite:///{Path(url).expanduser()}"
        if self.url.startswith("postgresql://"):
            self.url = self.url.replace("://", "+psycopg://", 1)  # the driver of the extra `postgres`
        if self.url.startswith("sqlite:///"):
            Path(self.url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._engine = sa.create_engine(self.url)
            tables = sa.inspect(self._engine).get_table_names()
            if "hartley_schema" not in tables:
                if "trials" in tables:
                    raise StoreError(f"{url} has tables that are not hartley's: give --store another place")
                _Base.metadata.create_all(self._engine)
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(_Version).values(version=SCHEMA))
            with self._engine.connect() as connection:
                found = connection.scalar(sa.select(_Version.version))
        except sa.exc.NoSuchModuleError as error:
            raise StoreError(f"store {url}: no driver for this kind of database ({error})") from error
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            raise StoreError(f"store {url} cannot be opened for writing: {_short(error)}") from error
        if found != SCHEMA:
            raise StoreError(
                f"store {url} has schema {found}, this hartley writes schema {SCHEMA}: move it away or give --store "
                "another place"
            )

    def start(self, settings: dict[str, Any], *, resume: bool = True) -> Run:
        """The latest unfinished run with the same settings, or a new one."""
        key = json.dumps({**settings, "version": hartley.__version__}, sort_keys=True)
        with self._write() as connection:
            if resume:
                query = sa.select(_Run.id).where(_Run.key == key, _Run.finished.is_(None)).order_by(_Run.id.desc())
                if (run := connection.scalar(query.limit(1))) is not None:
                    return self.load(run)
            result = connection.execute(sa.insert(_Run).values(key=key, started=_now()))
            assert result.inserted_primary_key is not None
            run = int(result.inserted_primary_key[0])
        return self.load(run)

    def add(self, run: int, record: Record) -> None:
        """Store a trial, replacing an earlier failure of it; one transaction."""
        values = None
        if record.trial is not None:
            values = json.dumps(
                {
                    "method": _plain(record.trial.method),
                    "baselines": {k: _plain(v) for k, v in record.trial.baselines.items()},
                    "curves": {k: [_plain(x), _plain(y)] for k, (x, y) in record.trial.curves.items()},
                    "details": {k: float(v) for k, v in record.trial.details.items()},
                }
            )
        same = (
            _Trial.run == run,
            _Trial.paper == record.paper,
            _Trial.claim == record.claim,
            _Trial.seed == record.seed,
        )
        with self._write() as connection:
            connection.execute(sa.delete(_Trial).where(*same))
            connection.execute(
                sa.insert(_Trial).values(
                    run=run,
                    paper=record.paper,
                    claim=record.claim,
                    seed=record.seed,
                    seconds=record.seconds,
                    values=values,
                    error=record.error,
                    version=hartley.__version__,
                    machine=f"{platform.machine()} {platform.system()} Python {platform.python_version()}",
                )
            )

    def finish(self, run: int) -> None:
        """Mark a run as complete: it will not be resumed."""
        with self._write() as connection:
            connection.execute(sa.update(_Run).where(_Run.id == run).values(finished=_now()))

    def load(self, run: int) -> Run:
        """A run with all its trials so far."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_Run.__table__).where(_Run.id == run)).one()
            records = list(map(_record, connection.execute(sa.select(_Trial.__table__).where(_Trial.run == run))))
        finished = datetime.fromisoformat(row.finished) if row.finished else None
        return Run(row.id, datetime.fromisoformat(row.started), finished, json.loads(row.key), records)

    def latest(self) -> Run | None:
        """The run started last, complete or not."""
        with self._engine.connect() as connection:
            run = connection.scalar(sa.select(sa.func.max(_Run.id)))
        return None if run is None else self.load(run)

    def _write(self) -> Any:
        return _Transaction(self._engine, self.url)


class _Transaction:
    """`engine.begin()` whose failures, a full disk among them, are one clear line."""

    def __init__(self, engine: sa.Engine, url: str) -> None:
        self._context, self._url = engine.begin(), url

    def __enter__(self) -> sa.Connection:
        try:
            return self._context.__enter__()
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"store {self._url}: {_short(error)}") from error

    def __exit__(self, *details: Any) -> bool | None:
        try:
            done = self._context.__exit__(*details)
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"store {self._url}: {_short(error)}") from error
        if isinstance(details[1], sa.exc.SQLAlchemyError):
            raise StoreError(f"store {self._url}: {_short(details[1])}") from details[1]
        return done


def _record(row: Any) -> Record:
    trial = None
    if row.values is not None:
        values = json.loads(row.values)
        curves = {k: (x, y) for k, (x, y) in values["curves"].items()}
        trial = Trial(values["method"], values["baselines"], curves, values["details"])
    return Record(row.paper, row.claim, row.seed, row.seconds, trial, row.error)


def _plain(value: float | Iterable[float]) -> float | list[float]:
    return [float(v) for v in value] if isinstance(value, Iterable) else float(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _short(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
