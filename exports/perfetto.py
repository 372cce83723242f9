"""Chrome trace JSON, which Perfetto opens: the recording, the ledger and the findings as tracks.

Format: the "Trace Event Format" document of the Chromium project. Events of one track must nest,
so those that only overlap move to another row of the same track. Times are decimal text in
microseconds with three places: nothing is lost to floating point. Only strings that an event
refers to are written, and ``otherData`` says what was left out.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from analyzers.facts.facts import COPY, MEMSET, holds_counters_only
from analyzers.finding import Finding
from analyzers.ledger.ledger import DETAILS, ROWS
from analyzers.report import Report
from collectors.errors import RefusedError
from collectors.schema import DEVICE_TABLES, LAUNCH_SHAPE, Array, CopyKind, MemoryKind, OperatorKind
from collectors.trace import Trace
from library.analyses import Stored
from library.output_files import check_files

MAX_ROWS_OF_TRACK = 32  # events that overlap deeper are written as asynchronous ones
CHUNK_ROWS = 65_536
GZIP_LEVEL = 4  # twice as fast as the default and 5 % larger
# A double, which readers parse into, still tells nanoseconds apart below 2^53 ns.
MAX_UNSHIFTED_NS = 1 << 52

Place = tuple[int, int]  # numbers of a process and of one of its rows

_KINDS = ("kernel", "communication", "copy", "memset", "graph")
_SHOWN = (  # columns of a GPU operation that are worth a line in Perfetto's details
    *LAUNCH_SHAPE,
    "bytes",
    "queue_ns",
    "idle_before_ns",
)


_LEFT_OUT = {  # tables without a track; the CSV and Parquet exports have them
    "syncs": "waits as CUPTI records them",
    "graph_nodes": "CUDA graph nodes",
    "thread_switches": "thread switches",
    "cpu_samples": "CPU samples",
    "page_faults": "page faults",
    "overheads": "stretches of profiler overhead",
    "diagnostics": "messages of the profiler",
}


def export(
    trace: Trace,
    stored: Stored,
    target: Path,
    *,
    only_window: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> int:
    """Write ``trace`` and what the analysis found to ``target``; gzip when it ends in ``.gz``.

    Args:
        trace: The recording.
        stored: Its analysis.
        target: File to write; appears only when complete.
        only_window: Leave out what does not touch the analysed window.
        on_progress: Called now and then with the part that is written, 0 to 1.

    Returns:
        The number of events written.

    Raises:
        RefusedError: The recording has no timeline, or ``target`` is a recording, or no plain
            file; see ``check_files``.
        OSError: The file cannot be written.
    """
    if holds_counters_only(trace):
        raise RefusedError(
            f"{trace.source.name}: counters of single launches, without a timeline to draw. "
            "Write tables instead: --csv DIR or --parquet DIR"
        )
    check_files([target], trace.source)
    report = stored.report
    span = (report.window.start_ns, report.window.end_ns) if only_window else None
    with _replacing(target) as file:
        out = _Output(file, _origin_ns(trace, report), _Texts(trace))
        if on_progress is not None:
            expected = _expected_events(trace)
            out.on_progress = lambda: on_progress(min(1.0, out.events / expected))
        file.write('{"displayTimeUnit":"ns","otherData":')
        file.write(json.dumps(_about(trace, report, out.origin_ns)))
        file.write(',"traceEvents":[\n')
        _write_findings(out, report)
        _write_ledger(out, report, stored.segments())
        calls = _write_host(out, trace, span)
        _write_device_work(out, report, _touching(stored.launches(), span), calls)
        _write_metrics(out, trace, span)
        _write_memory(out, trace, span)
        file.write("\n]}\n")
    return out.events


def _expected_events(trace: Trace) -> int:
    """Return about how many events will be written, for the progress."""
    # Of each operation: itself, two ends of an arrow, and a gap and a busy stretch of the ledger.
    work = sum(trace.count(table) for table in DEVICE_TABLES)
    others = (*_WHAT, "marks", "gpu_metrics", "memory_events")
    return 1 + 5 * work + sum(trace.count(t) for t in others)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[TextIO]:
    """Open a file that takes the place of ``target`` when all went well."""
    fresh = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        if target.suffix == ".gz":
            with gzip.open(fresh, "wt", GZIP_LEVEL, encoding="ascii") as file:
                yield file
        else:
            with fresh.open("w", encoding="ascii") as file:
                yield file
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _about(trace: Trace, report: Report, origin_ns: int) -> dict[str, Any]:
    left_out = [f"{trace.count(t):,} {words}" for t, words in _LEFT_OUT.items() if trace.count(t)]
    excluded = sum(rows.excluded for rows in trace.row_counts)
    left_out += [f"{excluded:,} rows that could not be used"] if excluded else []
    return {
        "recording": str(report.source.get("name", "")),
        "verdict": report.verdict.sentence,
        "window": f"{report.window.start_ns}-{report.window.end_ns} ns",
        "origin_ns": str(origin_ns),
        "not_exported": ", ".join(left_out) or "nothing",
    }


def _origin_ns(trace: Trace, report: Report) -> int:
    """Return the time that is written as 0; not 0 itself only for clocks that need a shift."""
    first = report.window.start_ns
    for table in ("ranges", "operators", "api_calls", "os_calls", "kernels", "copies", "memsets"):
        if trace.count(table):
            first = min(first, int(trace.columns(table, ["start_ns"])["start_ns"].min()))
    return first if first < 0 or first > MAX_UNSHIFTED_NS else 0


@dataclass
class _Texts:
    """JSON text of the strings that events refer to."""

    trace: Trace
    _known: dict[int, str] = field(default_factory=dict)

    def of(self, ids: Array) -> list[str]:
        """Return the quoted JSON text of each id."""
        fresh = np.array([i for i in np.unique(ids).tolist() if i not in self._known])
        if len(fresh):
            for number, name in zip(fresh.tolist(), self.trace.names(fresh), strict=True):
                self._known[number] = json.dumps(name)
        known = self._known
        return [known[i] for i in ids.tolist()]


@dataclass
class _Output:
    """Writes events one by one and names every process and track when it first appears."""

    file: TextIO
    origin_ns: int
    texts: _Texts
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
            shown = f"{name} (overlapping {row})" if row else name
            self._describe("thread_name", pid, tid, {"name": shown})
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


def _touching(frame: pd.DataFrame, span: tuple[int, int] | None) -> pd.DataFrame:
    """Return the rows that touch ``span``, all without one; they keep their row numbers."""
    begin, end = ("time_ns", "time_ns") if "time_ns" in frame else ("start_ns", "end_ns")
    if span is not None:
        frame = frame[(frame[end] >= span[0]) & (frame[begin] <= span[1])]
    return frame


def _write_findings(out: _Output, report: Report) -> None:
    if not report.findings:
        return
    pid = out.process("findings", "whyslow: findings")
    for number, finding in enumerate(report.findings):
        name = f"{number + 1}. {finding.id}"
        spans = _spans_of(finding, report)
        starts, ends = (np.array([s[i] for s in spans], dtype=np.int64) for i in (0, 1))
        for index, row in zip(*nesting_rows(starts, ends), strict=True):
            start, end, text, args = spans[index]
            place = out.track(pid, number, name, max(0, row))
            if row < 0:
                out.loose_span(place, (start, end), json.dumps(text))
            else:
                rest = f',"cat":"finding","args":{json.dumps(args)}'
                out.span(place, (start, end), json.dumps(text), rest)


def _spans_of(finding: Finding, report: Report) -> list[tuple[int, int, str, dict[str, Any]]]:
    """Return the finding over the whole window, and its evidence where it has a place."""
    about: dict[str, Any] = {
        "cause": finding.cause.value,
        "lost_ns": finding.lost_ns,
        "confidence": finding.confidence.value,
        "advice": finding.advice,
        "does_not_apply_when": finding.does_not_apply_when,
    }
    spans = [(report.window.start_ns, report.window.end_ns, finding.title, about)]
    for seen in finding.evidence:
        if seen.start_ns >= 0 and seen.end_ns >= seen.start_ns:
            what = {"value": seen.value, "unit": seen.unit}
            spans.append((seen.start_ns, seen.end_ns, seen.name, what))
    return spans


def _write_ledger(out: _Output, report: Report, segments: pd.DataFrame) -> None:
    names = [json.dumps(row.value) for row in ROWS]
    details = [json.dumps(text) for text in DETAILS]
    for device in report.devices:
        pid = out.process(("device", device.key), _device_name(report, device.key))
        place = out.track(pid, "ledger", "Ledger: what each nanosecond went to")
        mine = segments[segments["device"] == device.key]
        for chunk in _chunks(mine, ["start_ns", "end_ns", "row", "detail"]):
            for start, end, row, detail in zip(*chunk, strict=True):
                args = f',"args":{{"detail":{details[detail]}}}' if detail > 0 else ""
                out.span(place, (start, end), names[row], f',"cat":"ledger"{args}')


def _device_name(report: Report, key: int) -> str:
    for device in report.devices:
        if device.key == key:
            owner = f", process {device.process}" if device.process >= 0 else ""
            return f"GPU {device.device} {device.name}".rstrip() + owner
    return f"GPU ({key})"


def _chunks(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[list[list[Any]]]:
    """Give ``columns`` as lists, a bounded number of rows at a time."""
    for first in range(0, len(frame), CHUNK_ROWS):
        part = frame.iloc[first : first + CHUNK_ROWS]
        yield [part[c].tolist() for c in columns]


@dataclass(frozen=True)
class _Calls:
    """Where each API call was written: its process and track, 0 when it nests nowhere."""

    pid: Array
    tid: Array


def _write_host(out: _Output, trace: Trace, span: tuple[int, int] | None) -> _Calls:
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

    def track_of(self, out: _Output, thread: tuple[int, int], what: str, row: int = 0) -> Place:
        """Return where a row for ``what`` is, of the thread given as process and thread key."""
        process, number = thread
        pid = out.process(("host", process), self.processes.get(process, f"process {process}"))
        name = self.threads.get(number, f"thread {number}")
        return out.track(pid, (number, what), f"{name} {what}", row)


_WHAT = {
    "ranges": "NVTX",
    "operators": "operators",
    "api_calls": "CUDA calls",
    "os_calls": "OS calls",
}
_PYTHON = "Python"


def _write_host_table(
    out: _Output, trace: Trace, names: _HostNames, table: str, span: tuple[int, int] | None
) -> _Calls:
    """Write every event of a table that lives on threads."""
    count = trace.count(table)
    calls = _Calls(np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.int32))
    if not count:
        return calls
    frame = trace.frame(table, ["start_ns", "end_ns", "process", "thread", "name_id"])
    _write_on_threads(out, names, _touching(frame, span), _WHAT[table], calls)
    return calls


def _write_operators(
    out: _Output, trace: Trace, names: _HostNames, span: tuple[int, int] | None
) -> None:
    """Write operators of a framework, and Python's functions on tracks of their own."""
    count = trace.count("operators")
    if not count:
        return
    frame = trace.frame("operators", ["start_ns", "end_ns", "process", "thread", "name_id", "kind"])
    frame = _touching(frame, span)
    is_python = (frame["kind"] == OperatorKind.PYTHON).to_numpy()
    unused = _Calls(np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.int32))
    for what, mine in ((_PYTHON, frame[is_python]), (_WHAT["operators"], frame[~is_python])):
        _write_on_threads(out, names, mine, what, unused)


def _write_on_threads(
    out: _Output, names: _HostNames, frame: pd.DataFrame, what: str, calls: _Calls
) -> None:
    """Write events by thread, and keep in ``calls`` where each was written."""
    for thread, order, rows in _nested(frame, "process", "thread"):
        numbers = frame.index.to_numpy()[order]
        places = {
            row: names.track_of(out, thread, what, max(0, row)) for row in np.unique(rows).tolist()
        }
        tids = np.array([places.get(r, (0, 0))[1] for r in range(MAX_ROWS_OF_TRACK)])
        calls.pid[numbers] = next(iter(places.values()))[0]
        calls.tid[numbers] = np.where(rows < 0, 0, tids[rows])
        for part in _parts(frame, order, rows):
            _write_spans(out, part, places, what)


def _nested(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, Array, Array]]:
    """Give, for each combination of ``columns``, its events' places in order and their rows."""
    starts, ends = frame["start_ns"].to_numpy(), frame["end_ns"].to_numpy()
    keys = [frame[c].to_numpy() for c in columns]
    group = frame.groupby(list(columns)).ngroup().to_numpy()
    by_group = np.argsort(group, kind="stable")
    for places in np.split(by_group, np.flatnonzero(np.diff(group[by_group])) + 1):
        if len(places):
            order, rows = nesting_rows(starts[places], ends[places])
            yield tuple(int(k[places[0]]) for k in keys), places[order], rows


def _parts(frame: pd.DataFrame, order: Array, rows: Array) -> Iterator[pd.DataFrame]:
    """Give events in their order and with their row, a bounded number at a time."""
    for first in range(0, len(order), CHUNK_ROWS):
        chosen = slice(first, first + CHUNK_ROWS)
        yield frame.iloc[order[chosen]].assign(row=rows[chosen])


def _by(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Group ``frame``; the keys are plain integers."""
    for key, group in frame.groupby(list(columns)):
        yield tuple(int(str(number)) for number in key), group


def _write_spans(out: _Output, events: pd.DataFrame, places: dict[int, Place], what: str) -> None:
    rest = f',"cat":"{what}"'
    texts = out.texts.of(events["name_id"].to_numpy())
    columns = (events[c].tolist() for c in ("start_ns", "end_ns", "row"))
    for start, end, row, text in zip(*columns, texts, strict=True):
        if row < 0:
            out.loose_span(places[row], (start, end), text)
        else:
            out.span(places[row], (start, end), text, rest)


def _write_marks(
    out: _Output, trace: Trace, names: _HostNames, span: tuple[int, int] | None
) -> None:
    frame = trace.frame("marks", ["time_ns", "process", "thread", "name_id"])
    for thread, group in _by(_touching(frame, span), "process", "thread"):
        pid, tid = names.track_of(out, thread, _WHAT["ranges"])
        texts = out.texts.of(group["name_id"].to_numpy())
        for time_ns, text in zip(group["time_ns"].tolist(), texts, strict=True):
            out.write(
                f'{{"ph":"i","s":"t","cat":"NVTX","pid":{pid},"tid":{tid},'
                f'"ts":{out.time(time_ns)},"name":{text}}}'
            )


def _write_device_work(out: _Output, report: Report, launches: pd.DataFrame, calls: _Calls) -> None:
    """Write kernels and copies by stream, each joined to the call that submitted it."""
    for key, order, rows in _nested(launches, "device", "process", "stream"):
        device, process, stream = key
        pid = out.process(("device", device), _device_name(report, device))
        name = f"Stream {stream}" if stream >= 0 else "Stream unknown"
        places = {
            row: out.track(pid, (process, stream), name, max(0, row))
            for row in np.unique(rows).tolist()
        }
        for part in _parts(launches, order, rows):
            _write_work(out, part, places)
            _write_arrows(out, part, places, calls)


def _write_work(out: _Output, work: pd.DataFrame, places: dict[int, Place]) -> None:
    labels, details = _labels(out, work), _details(out, work)
    columns = (work[c].tolist() for c in ("start_ns", "end_ns", "row", "kind"))
    for start, end, row, kind, text, args in zip(*columns, labels, details, strict=True):
        if row < 0:
            out.loose_span(places[row], (start, end), text)
        else:
            rest = f',"cat":"{_KINDS[kind]}","args":{{{args}}}'
            out.span(places[row], (start, end), text, rest)


def _labels(out: _Output, work: pd.DataFrame) -> list[str]:
    """Return the quoted name of each operation."""
    kinds = work["kind"].tolist()
    texts = out.texts.of(work["short_name_id"].to_numpy())
    directions = work["copy_kind"].tolist() if "copy_kind" in work else [-1] * len(work)
    return [
        _copy_label(direction)
        if kind == COPY
        else '"memset"'
        if kind == MEMSET
        else text
        if text != '""'
        else f'"{_KINDS[kind]}"'
        for kind, text, direction in zip(kinds, texts, directions, strict=True)
    ]


def _copy_label(direction: int) -> str:
    names = {k.value: k.name.lower().replace("_", " ") for k in CopyKind}
    return json.dumps(f"copy {names.get(direction, '')}".rstrip())


def _details(out: _Output, work: pd.DataFrame) -> list[str]:
    """Return the JSON members that describe each operation."""
    texts = out.texts.of(work["name_id"].to_numpy())
    members = [f'"name":{text}' if text != '""' else "" for text in texts]
    for column in (c for c in _SHOWN if c in work):
        values = work[column].tolist()
        members = [
            f'{m},"{column}":{v}' if v >= 0 else m for m, v in zip(members, values, strict=True)
        ]
    for column in (c for c in ("source_kind", "destination_kind") if c in work):
        words = {k.value: f',"{column}":"{k.name.lower()}"' for k in MemoryKind}
        values = work[column].tolist()
        members = [m + words.get(v, "") for m, v in zip(members, values, strict=True)]
    return [m.removeprefix(",") for m in members]


def _write_arrows(
    out: _Output, work: pd.DataFrame, places: dict[int, Place], calls: _Calls
) -> None:
    """Write an arrow from each launching call to what it put on the device."""
    known = work[(work["api_row"] >= 0) & (work["row"] >= 0)]
    columns = (known[c].tolist() for c in ("api_row", "api_start_ns", "start_ns", "row"))
    for call, call_ns, start, row in zip(*columns, strict=True):
        source = (int(calls.pid[call]), int(calls.tid[call]))
        if not source[1]:  # the call was left out, or nests nowhere
            continue
        number = out.events
        for phase, (pid, tid), ns in (("s", source, call_ns), ("f", places[row], start)):
            binding = ',"bp":"e"' if phase == "f" else ""
            out.write(
                f'{{"ph":"{phase}"{binding},"cat":"launch","name":"launch","id":{number},'
                f'"pid":{pid},"tid":{tid},"ts":{out.time(ns)}}}'
            )


def _write_metrics(out: _Output, trace: Trace, span: tuple[int, int] | None) -> None:
    """Write sampled GPU counters as counter tracks."""
    frame = _touching(trace.frame("gpu_metrics"), span)
    frame = frame[np.isfinite(frame["value"])]
    for (gpu,), group in _by(frame, "gpu"):
        pid = out.process(("metrics", gpu), f"GPU {gpu}: sampled metrics")
        for times, values, names in _chunks(group, ["time_ns", "value", "name_id"]):
            texts = out.texts.of(np.array(names))
            for time_ns, value, text in zip(times, values, texts, strict=True):
                out.write(
                    f'{{"ph":"C","pid":{pid},"tid":0,"ts":{out.time(time_ns)},'
                    f'"name":{text},"args":{{"value":{value!r}}}}}'
                )


def _write_memory(out: _Output, trace: Trace, span: tuple[int, int] | None) -> None:
    """Write what a framework's allocator holds of each device, as counter tracks."""
    columns = ["time_ns", "process", "device", "allocated_bytes", "reserved_bytes"]
    frame = _touching(trace.frame("memory_events", columns), span)
    frame = frame[(frame["device"] >= 0) & (frame["allocated_bytes"] >= 0)]
    for (process, device), group in _by(frame, "process", "device"):
        pid = out.process(("memory", process, device), f"GPU {device}: memory of the allocator")
        for chunk in _chunks(group, ["time_ns", "allocated_bytes", "reserved_bytes"]):
            for time_ns, allocated, reserved in zip(*chunk, strict=True):
                more = f',"reserved":{reserved}' if reserved >= 0 else ""
                out.write(
                    f'{{"ph":"C","pid":{pid},"tid":0,"ts":{out.time(time_ns)},"name":'
                    f'"memory in bytes","args":{{"allocated":{allocated}{more}}}}}'
                )
