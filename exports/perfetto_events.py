"""Events of a Chrome trace, written one by one, and the rows in which those of a track nest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np
import pandas as pd

from collectors.schema import Array
from collectors.trace import Trace

MAX_ROWS_OF_TRACK = 32  # events that overlap deeper are written as asynchronous ones
CHUNK_ROWS = 65_536
Place = tuple[int, int]  # numbers of a process and of one of its rows


@dataclass
class JsonTexts:
    """JSON text of the strings that events refer to."""

    trace: Trace
    _json: dict[int, str] = field(default_factory=dict)

    def of(self, ids: Array) -> list[str]:
        """Return the quoted JSON text of each id."""
        fresh = np.array([i for i in np.unique(ids).tolist() if i not in self._json])
        if len(fresh):
            for number, name in zip(fresh.tolist(), self.trace.names(fresh), strict=True):
                self._json[number] = json.dumps(name)
        return [self._json[i] for i in ids.tolist()]


@dataclass
class PerfettoOutput:
    """Writes events one by one and names every process and track when it first appears."""

    file: TextIO
    origin_ns: int
    texts: JsonTexts
    events: int = 0
    on_progress: Callable[[], None] | None = None
    _tracks: dict[tuple[int, object, int], int] = field(default_factory=dict)
    _processes: dict[object, int] = field(default_factory=dict)

    def write(self, event: str) -> None:
        """Write one event, given as JSON text."""
        self.file.write(",\n" + event if self.events else event)
        self.events += 1
        if self.on_progress is not None and self.events % CHUNK_ROWS == 0:
            self.on_progress()

    def time(self, ns: int) -> str:
        """Return a moment in microseconds, as exact decimal text."""
        return decimal_us(ns - self.origin_ns)

    def process(self, key: object, name: str) -> int:
        """Return the number of the process with ``key``."""
        if key not in self._processes:
            pid = self._processes[key] = len(self._processes) + 1
            self._describe("process_name", pid, 0, {"name": name})
            self._describe("process_sort_index", pid, 0, {"sort_index": pid})
        return self._processes[key]

    def track(self, pid: int, key: object, name: str, row: int = 0) -> Place:
        """Return where a row of the track with ``key`` is."""
        if (pid, key, row) not in self._tracks:
            tid = self._tracks[pid, key, row] = len(self._tracks) + 1
            title = f"{name} (overlapping {row})" if row else name
            self._describe("thread_name", pid, tid, {"name": title})
            self._describe("thread_sort_index", pid, tid, {"sort_index": tid})
        return pid, self._tracks[pid, key, row]

    def span(self, place: Place, span: tuple[int, int], text: str, rest: str = "") -> None:
        """Write a complete event; ``text`` is its quoted name, ``rest`` more JSON members."""
        self.write(
            f'{{"ph":"X","pid":{place[0]},"tid":{place[1]},"ts":{self.time(span[0])},'
            f'"dur":{decimal_us(span[1] - span[0])},"name":{text}{rest}}}'
        )

    def loose_span(self, place: Place, span: tuple[int, int], text: str) -> None:
        """Write an event that nests with nothing, as an asynchronous pair."""
        number = self.events
        for phase, ns in zip("be", span, strict=True):
            self.write(
                f'{{"ph":"{phase}","cat":"overlapping","id":{number},"pid":{place[0]},'
                f'"tid":{place[1]},"ts":{self.time(ns)},"name":{text}}}'
            )

    def _describe(self, name: str, pid: int, tid: int, what: dict[str, object]) -> None:
        event = {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": what}
        self.write(json.dumps(event))


def decimal_us(ns: int) -> str:
    """Return nanoseconds as microseconds, exactly."""
    sign = "-" if ns < 0 else ""
    return f"{sign}{abs(ns) // 1000}.{abs(ns) % 1000:03d}"


def nesting_rows(start_ns: Array, end_ns: Array) -> tuple[Array, Array]:
    """Distribute the events of one track over rows in which they nest.

    Args:
        start_ns: Begins, in any order.
        end_ns: Ends.

    Returns:
        The order in which to write the events (parents first), and the row of each event in
        that order; -1 when it overlaps too many others.
    """
    order = np.lexsort((-end_ns, start_ns))
    rows = np.zeros(len(order), dtype=np.int32)
    open_until: list[list[int]] = []
    # One event decides where the next may go, so this cannot be done by whole columns.
    pairs = zip(start_ns[order].tolist(), end_ns[order].tolist(), strict=True)
    for index, (start, end) in enumerate(pairs):
        for row, stack in enumerate(open_until):
            while stack and stack[-1] <= start:
                stack.pop()
            if not stack or stack[-1] >= end:
                stack.append(end)
                rows[index] = row
                break
        else:
            fits = len(open_until) < MAX_ROWS_OF_TRACK
            rows[index] = len(open_until) if fits else -1
            if fits:
                open_until.append([end])
    return order, rows


def touching(frame: pd.DataFrame, span: tuple[int, int] | None) -> pd.DataFrame:
    """Return the rows that touch ``span``, all without one; they keep their row numbers."""
    begin, end = ("time_ns", "time_ns") if "time_ns" in frame else ("start_ns", "end_ns")
    if span is not None:
        frame = frame[(frame[end] >= span[0]) & (frame[begin] <= span[1])]
    return frame


def chunks(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[list[list[Any]]]:
    """Give ``columns`` as lists, a bounded number of rows at a time."""
    for first in range(0, len(frame), CHUNK_ROWS):
        part = frame.iloc[first : first + CHUNK_ROWS]
        yield [part[c].tolist() for c in columns]


def nested(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, Array, Array]]:
    """Give, for each combination of ``columns``, its events' places in order and their rows."""
    starts, ends = frame["start_ns"].to_numpy(), frame["end_ns"].to_numpy()
    keys = [frame[c].to_numpy() for c in columns]
    group = frame.groupby(list(columns)).ngroup().to_numpy()
    by_group = np.argsort(group, kind="stable")
    for places in np.split(by_group, np.flatnonzero(np.diff(group[by_group])) + 1):
        if len(places):
            order, rows = nesting_rows(starts[places], ends[places])
            yield tuple(int(k[places[0]]) for k in keys), places[order], rows


def parts(frame: pd.DataFrame, order: Array, rows: Array) -> Iterator[pd.DataFrame]:
    """Give events in their order and with their row, a bounded number at a time."""
    for first in range(0, len(order), CHUNK_ROWS):
        chosen = slice(first, first + CHUNK_ROWS)
        yield frame.iloc[order[chosen]].assign(row=rows[chosen])


def by(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Group ``frame``; the keys are plain integers."""
    for key, group in frame.groupby(list(columns)):
        yield tuple(int(str(number)) for number in key), group
