"""A telemetry file that is read, finished or not: current numbers, series, clocks.

The file may be written meanwhile, and its writer may have been killed. It is opened read-only,
without trusting its schema: what is read has to be a table, and no larger than it makes sense.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from collectors.errors import TraceError
from collectors.schema import Array
from collectors.telemetry.schema import SCHEMA, TABLES, throttle_words
from common.text import printable

MAX_ROWS = 4_000_000  # of one table: 100 hours at 10 Hz with one GPU, 2 s to read
MAX_TEXT_BYTES = 1 << 16  # a list of 256 cores takes 1 kB
MAX_STEPS_OF_1000 = 200_000  # of SQLite's machine; 4 million rows take a quarter of that
BUSY_TIMEOUT_S = 2.0
READ_ERRORS = (sqlite3.Error, OverflowError, UnicodeDecodeError)
_AT_REST = "mode=ro&immutable=1"
SILENT_NS = 5_000_000_000  # a sampler commits at least once a second


class TelemetryError(TraceError):
    """The file cannot be read; the message is one line."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class SamplingSession:
    """What a telemetry file says about itself; columns as in ``collectors.telemetry.schema``."""

    state: str
    rate_hz: float
    started_realtime_ns: int
    started_monotonic_ns: int
    seen_realtime_ns: int
    seen_monotonic_ns: int
    sampler_pid: int
    sampler_cpu_ns: int
    sampler_cpu_share: float
    root_pid: int
    cores: int

    def is_alive(self) -> bool:
        """Tell whether samples still arrive; only on the machine on which they are taken."""
        return self.state != "stopped" and time.monotonic_ns() - self.seen_monotonic_ns < SILENT_NS


@dataclass(frozen=True, kw_only=True)
class Latest:
    """The newest numbers; a column that was not asked in the last samples is None.

    Attributes:
        session: What the file says about itself.
        gpus: For each GPU its row of ``gpus`` and its newest values of ``gpu_samples``.
        host: Newest values of ``host_samples``.
        process: Newest values of ``process_samples``; empty before there is a process.
        notes: What could not be asked, each once.
    """

    session: SamplingSession
    gpus: tuple[dict[str, Any], ...]
    host: dict[str, Any]
    process: dict[str, Any]
    notes: tuple[str, ...]

    def throttled(self, gpu: int) -> tuple[str, ...]:
        """Return why the clocks of a GPU are held down now."""
        rows = [g for g in self.gpus if g["gpu"] == gpu]
        return throttle_words(int(rows[0].get("throttle_bits") or 0)) if rows else ()


@dataclass(frozen=True, kw_only=True)
class Series:
    """Down-sampled values of one column: the mean and the extremes of each stretch of time."""

    seconds: Array  # middle of the stretch, before the newest sample: never positive
    mean: Array
    low: Array
    high: Array


class TelemetryFile:
    """One open telemetry file.

    Raises:
        TelemetryError: It cannot be read, or is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = _connect(path)
        except (OSError, *READ_ERRORS) as error:
            raise TelemetryError(f"{path.name}: not a telemetry file ({_line(error)})") from error
        try:
            self._check()
        except (*READ_ERRORS, TelemetryError) as error:
            self._db.close()
            raise TelemetryError(f"{path.name}: not a telemetry file ({_line(error)})") from error

    def _check(self) -> None:
        kinds = dict(self._db.execute("SELECT name, type FROM sqlite_master LIMIT 200").fetchall())
        for table, columns in TABLES.items():
            if kinds.get(table) != "table":
                raise TelemetryError(f"no table {table}")
            # Generated columns, which could compute anything, are hidden from table_info.
            present = {row[1] for row in self._db.execute(f"PRAGMA table_info([{table}])")}
            if not {column.name for column in columns} <= present:
                raise TelemetryError(f"{table} lacks columns")
        schema = self._db.execute("SELECT schema FROM session").fetchone()
        if schema is None or schema[0] != SCHEMA:
            raise TelemetryError("of another version of whyslow")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except READ_ERRORS as error:
            raise TelemetryError(f"{self.path.name}: cannot be read ({_line(error)})") from error

    def session(self) -> SamplingSession:
        """Return what the file says about itself."""
        names, kinds = (
            list(SamplingSession.__dataclass_fields__),
            {str: "TEXT", float: "REAL", int: "INT"},
        )
        kind = {column.name: kinds[column.type] for column in TABLES["session"]}
        parts = ", ".join(f"CAST(coalesce({name}, 0) AS {kind[name]})" for name in names)
        (row,) = self._rows(f"SELECT {parts} FROM session LIMIT 1")
        return SamplingSession(**dict(zip(names, row, strict=True)))

    def notes(self) -> tuple[str, ...]:
        """Return what could not be asked, in the order in which it was noticed."""
        rows = self._rows("SELECT CAST(message AS TEXT) FROM notes ORDER BY rowid LIMIT 100")
        return tuple(str(message) for (message,) in rows)

    def gpus(self) -> list[dict[str, Any]]:
        """Return the rows of ``gpus``."""
        names = [column.name for column in TABLES["gpus"]]
        rows = self._rows(f"SELECT {', '.join(names)} FROM gpus ORDER BY gpu LIMIT 1024")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def latest(self) -> Latest:
        """Return the newest numbers; looks at the ends of the tables only."""
        gpus = self.gpus()
        session = self.session()
        second = 2 * max(int(min(session.rate_hz, 100.0)), 10)  # what is asked once a second, too
        newest = self._newest("gpu_samples", "gpu", most=second * max(len(gpus), 1))
        return Latest(
            session=session,
            gpus=tuple({**gpu, **newest.get(gpu["gpu"], {})} for gpu in gpus),
            host=self._newest("host_samples").get(0, {}),
            process=self._newest("process_samples", most=second).get(0, {}),
            notes=self.notes(),
        )

    def _newest(self, table: str, key: str = "", most: int = 40) -> dict[Any, dict[str, Any]]:
        """Return the newest known value of each column, by key; slow ones are some rows back."""
        names = [column.name for column in TABLES[table]]
        rows = self._rows(
            f"SELECT {', '.join(names)} FROM {table} ORDER BY rowid DESC LIMIT ?", most
        )
        newest: dict[Any, dict[str, Any]] = {}
        for row in rows:
            values = dict(zip(names, row, strict=True))
            latest = newest.setdefault(values[key] if key else 0, dict.fromkeys(names))
            latest |= {n: v for n, v in values.items() if latest[n] is None}
        return newest

    def series(
        self, table: str, column: str, *, gpu: int = -1, last_s: float = 120, points: int = 240
    ) -> Series:
        """Return one column of the last seconds, in no more than ``points`` stretches.

        Args:
            table: As in ``collectors.telemetry.schema``.
            column: A column of numbers.
            gpu: The GPU, for ``gpu_samples``.
            last_s: How far back from the newest sample.
            points: Stretches of time at most; those without a sample are left out.

        Raises:
            KeyError: There is no such column.
            TelemetryError: The file cannot be read.
        """
        if column not in {c.name for c in TABLES[table]}:
            raise KeyError(column)
        where = "WHERE gpu = ?" if table == "gpu_samples" else "WHERE ? IS NOT NULL"
        newest = self._rows(f"SELECT max(rowid), max(monotonic_ns) FROM {table}")[0]
        empty = np.empty(0)
        if newest[0] is None:
            return Series(seconds=empty, mean=empty, low=empty, high=empty)
        last_row, last_ns = int(newest[0]), int(newest[1])
        step_ns = max(int(last_s * 1e9 / points), 1)
        # No index over time is needed: rows stand in its order, so the last ones are enough.
        most = int(last_s * 100 * max(len(self.gpus()), 1)) + 1
        rows = self._rows(
            f"SELECT (? - monotonic_ns) / ? AS place, avg({column}), min({column}), max({column}) "
            f"FROM {table} {where} AND rowid > ? AND monotonic_ns > ? AND {column} IS NOT NULL "
            "GROUP BY place ORDER BY place DESC",
            *(last_ns, step_ns, gpu, last_row - most, last_ns - int(last_s * 1e9)),
        )
        place, mean, low, high = np.array(rows, float).reshape(-1, 4).T
        seconds = -(place + 0.5) * step_ns / 1e9
        return Series(seconds=seconds, mean=mean, low=low, high=high)

    def columns(self, table: str, names: Sequence[str], *, gpu: int = -1) -> dict[str, Array]:
        """Return whole columns by time; ``nan`` is what was not asked, times are integers.

        Args:
            table: As in ``collectors.telemetry.schema``.
            names: Columns; those that end in ``time_ns`` or ``monotonic_ns`` are times.
            gpu: The GPU, for ``gpu_samples``.

        Raises:
            TelemetryError: The file cannot be read, or has more rows than make sense.
        """
        parts = [f"CAST({n} AS {'INT' if _is_time(n) else 'REAL'})" for n in names]
        where = "gpu = ?" if table == "gpu_samples" else "? IS NOT NULL"
        rows = self._rows(
            f"SELECT {', '.join(parts)} FROM {table} WHERE {where} AND realtime_ns IS NOT NULL "
            "AND monotonic_ns IS NOT NULL ORDER BY rowid LIMIT ?",
            *(gpu, MAX_ROWS + 1),
        )
        if len(rows) > MAX_ROWS:
            raise TelemetryError(f"{self.path.name}: more than {MAX_ROWS:,} samples")
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        return {
            name: np.array(values, np.int64 if _is_time(name) else np.float64)
            for name, values in zip(names, columns, strict=True)
        }


def _line(error: Exception) -> str:
    """Return what went wrong on one line; a damaged file's own text may be in it."""
    return " ".join(printable(str(error), " ").split())[:160]


def _is_time(name: str) -> bool:
    return name in ("realtime_ns", "monotonic_ns")


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file read-only; also one whose writer was killed, in a folder we cannot write."""
    path.open("rb").close()  # SQLite says only that it is unable to
    real = path.resolve()
    name = quote(os.fsencode(real))
    # Where nobody writes, a plain connection would make the log of a writer beside the file.
    is_written = real.with_name(real.name + "-wal").exists()
    for how in ("mode=ro", _AT_REST) if is_written else (_AT_REST,):
        db = sqlite3.connect(
            f"file:{name}?{how}", uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        try:
            _prepare(db)
        except sqlite3.OperationalError:
            db.close()
            if how == _AT_REST:
                raise
        else:
            return db
    raise AssertionError


def _prepare(db: sqlite3.Connection) -> None:
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_TEXT_BYTES)
    steps = iter(range(MAX_STEPS_OF_1000))
    db.set_progress_handler(lambda: next(steps, None) is None, 1_000)
    for setting in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "query_only=ON"):
        db.execute(f"PRAGMA {setting}")
    db.execute("SELECT count(*) FROM sqlite_master").fetchone()


def latest(path: Path) -> Latest | None:
    """Return the newest numbers of the file at ``path``; None while there is none to read.

    Cheap enough for a page that asks each second.
    """
    with contextlib.suppress(TelemetryError), TelemetryFile(path) as file:
        return file.latest()
    return None
