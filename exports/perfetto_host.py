"""Tracks of what threads did: ranges, marks, operators, calls of CUDA and of the system."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from collectors.schema import Array, OperatorKind
from collectors.trace import Trace
from exports.perfetto_events import (
    MAX_ROWS_OF_TRACK,
    PerfettoOutput,
    Place,
    by,
    nested,
    parts,
    touching,
)


@dataclass(frozen=True)
class CallPlaces:
    """Where each API call was written: its process and track, 0 when it nests nowhere."""

    pid: Array
    tid: Array


def write_host(out: PerfettoOutput, trace: Trace, span: tuple[int, int] | None) -> CallPlaces:
    """Write what threads did within ``span``; return where each CUDA call was written."""
    names = _HostNames.of(trace)
    _write_host_table(out, trace, names, "ranges", span)
    _write_marks(out, trace, names, span)
    _write_operators(out, trace, names, span)
    calls = _write_host_table(out, trace, names, "api_calls", span)
    _write_host_table(out, trace, names, "os_calls", span)
    return calls


@dataclass(frozen=True)
class _HostNames:
    """Process names, and thread names without the process."""

    processes: dict[int, str]
    threads: dict[int, str]

    @classmethod
    def of(cls, trace: Trace) -> _HostNames:
        """Read the names of ``trace``."""
        processes = trace.arrow("processes", ["process", "pid", "name"]).to_pylist()
        threads = trace.arrow("threads", ["thread", "tid", "name"]).to_pylist()
        return cls(
            {p["process"]: f"{p['name']} ({p['pid']})" for p in processes},
            {
                t["thread"]: f"{t['name']} ({t['tid']})" if t["name"] else f"thread {t['tid']}"
                for t in threads
            },
        )

    def track_of(
        self, out: PerfettoOutput, thread: tuple[int, int], what: str, row: int = 0
    ) -> Place:
        """Return where a row for ``what`` is, of the thread given as process and thread key."""
        process, number = thread
        pid = out.process(("host", process), self.processes.get(process, f"process {process}"))
        name = self.threads.get(number, f"thread {number}")
        return out.track(pid, (number, what), f"{name} {what}", row)


TRACK_KINDS = {
    "ranges": "NVTX",
    "operators": "operators",
    "api_calls": "CUDA calls",
    "os_calls": "OS calls",
}

_PYTHON = "Python"


def _write_host_table(
    out: PerfettoOutput, trace: Trace, names: _HostNames, table: str, span: tuple[int, int] | None
) -> CallPlaces:
    """Write every event of a table that lives on threads."""
    count = trace.count(table)
    calls = CallPlaces(np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.int32))
    if not count:
        return calls
    frame = trace.frame(table, ["start_ns", "end_ns", "process", "thread", "name_id"])
    _write_on_threads(out, names, touching(frame, span), TRACK_KINDS[table], calls)
    return calls


def _write_operators(
    out: PerfettoOutput, trace: Trace, names: _HostNames, span: tuple[int, int] | None
) -> None:
    """Write operators of a framework, and Python's functions on tracks of their own."""
    count = trace.count("operators")
    if not count:
        return
    frame = trace.frame("operators", ["start_ns", "end_ns", "process", "thread", "name_id", "kind"])
    frame = touching(frame, span)
    is_python = (frame["kind"] == OperatorKind.PYTHON).to_numpy()
    unused = CallPlaces(np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.int32))
    for what, events in (
        (_PYTHON, frame[is_python]),
        (TRACK_KINDS["operators"], frame[~is_python]),
    ):
        _write_on_threads(out, names, events, what, unused)


def _write_on_threads(
    out: PerfettoOutput, names: _HostNames, frame: pd.DataFrame, what: str, calls: CallPlaces
) -> None:
    """Write events by thread, and keep in ``calls`` where each was written."""
    for thread, order, rows in nested(frame, "process", "thread"):
        numbers = frame.index.to_numpy()[order]
        places = {
            row: names.track_of(out, thread, what, max(0, row)) for row in np.unique(rows).tolist()
        }
        tids = np.array([places.get(r, (0, 0))[1] for r in range(MAX_ROWS_OF_TRACK)])
        calls.pid[numbers] = next(iter(places.values()))[0]
        calls.tid[numbers] = np.where(rows < 0, 0, tids[rows])
        for part in parts(frame, order, rows):
            _write_spans(out, part, places, what)


def _write_spans(
    out: PerfettoOutput, events: pd.DataFrame, places: dict[int, Place], what: str
) -> None:
    rest = f',"cat":"{what}"'
    texts = out.texts.of(events["name_id"].to_numpy())
    columns = (events[c].tolist() for c in ("start_ns", "end_ns", "row"))
    for start, end, row, text in zip(*columns, texts, strict=True):
        if row < 0:
            out.loose_span(places[row], (start, end), text)
        else:
            out.span(places[row], (start, end), text, rest)


def _write_marks(
    out: PerfettoOutput, trace: Trace, names: _HostNames, span: tuple[int, int] | None
) -> None:
    frame = trace.frame("marks", ["time_ns", "process", "thread", "name_id"])
    for thread, group in by(touching(frame, span), "process", "thread"):
        pid, tid = names.track_of(out, thread, TRACK_KINDS["ranges"])
        texts = out.texts.of(group["name_id"].to_numpy())
        for time_ns, text in zip(group["time_ns"].tolist(), texts, strict=True):
            out.write(
                f'{{"ph":"i","s":"t","cat":"NVTX","pid":{pid},"tid":{tid},'
                f'"ts":{out.time(time_ns)},"name":{text}}}'
            )
