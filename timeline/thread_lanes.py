"""What host threads did, as lanes: ranges, marks, operators, calls, and when they had a core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.finding import Row
from analyzers.intervals import by_key
from analyzers.recorder import recorder_of
from collectors.schema import Array, OperatorKind
from timeline.colors import COLOR_CODE, OPERATOR, OS_CALL, OTHER_CALL, RANGE, RUNNING
from timeline.labels import NO_NAME, thread_titles
from timeline.lane import Group, Lane
from timeline.recording_tables import RecordingTables, narrow, texts_of

OPEN_THREADS = 6  # of those that matter most; the others are there, folded
_CALL_COLOR = {
    Call.LAUNCH: COLOR_CODE[Row.LAUNCH],
    Call.ENQUEUE: COLOR_CODE[Row.LAUNCH],
    Call.WAIT: COLOR_CODE[Row.SYNC],
    Call.POLL: COLOR_CODE[Row.SYNC],
    Call.COPY: COLOR_CODE[Row.SYNC],
    Call.FREE: COLOR_CODE[Row.MEMORY],
    Call.ALLOCATE: COLOR_CODE[Row.MEMORY],
    Call.SET_UP: COLOR_CODE[Row.SETUP],
}
# A thread with rows in one of these is worth a look at once.
_NOTABLE_TABLES = ("launches", "ranges", "operators", "api_calls")


def write_threads(tables: RecordingTables) -> None:
    """Write what each host thread did; those that launch most come first."""
    counts = _thread_counts(tables)
    matters = (counts[[c for c in _NOTABLE_TABLES if c in counts]] > 0).any(axis=1).to_numpy()
    first = np.arange(len(counts)) < OPEN_THREADS
    is_open = first & matters if matters.any() else first
    labels, group_of = thread_titles(tables.trace), {}
    for place, thread in enumerate(counts.index.tolist()):
        title = labels.get(thread, "thread")
        group = Group(id=f"thread:{place}", kind="thread", title=title, open=bool(is_open[place]))
        group_of[thread] = tables.writer.group(group)
    for table, write in _HOST_TRACKS.items():
        if tables.trace.count(table):
            write(tables, group_of)


def _thread_counts(tables: RecordingTables) -> pd.DataFrame:
    """Return how often each thread launched, and its rows by table; the busiest first."""
    api = tables.facts.thread_keys[tables.facts.api["thread_index"].to_numpy()]
    api_row = tables.facts.launches["api_row"].to_numpy()
    keys = {"launches": api[api_row[api_row >= 0]]}
    for table in _HOST_TRACKS:
        if tables.trace.count(table):
            keys[table] = (
                api if table == "api_calls" else tables.trace.columns(table, ["thread"])["thread"]
            )
    counts = pd.DataFrame({name: pd.Series(k).value_counts() for name, k in keys.items()})
    return counts.fillna(0).sort_values(list(keys), ascending=False, kind="stable")


def _by_thread(threads: Array, starts: Array) -> Iterator[tuple[int, Array]]:
    """Yield each thread with its rows, sorted by begin."""
    codes, keys = pd.factorize(threads)
    for code, rows in by_key(narrow(codes), np.arange(len(codes))):
        begins = starts[rows]
        if np.any(begins[1:] < begins[:-1]):
            rows = rows[np.argsort(begins, kind="stable")]
        yield int(keys[code]), rows


def _write_ranges(tables: RecordingTables, group_of: Mapping[int, int]) -> None:
    """Write ranges that the program marked, by domain and depth."""
    ranges = {str(name): column.to_numpy() for name, column in tables.facts.ranges.items()}
    ranges |= tables.trace.columns("ranges", ["domain_id"])
    name = tables.names.codes(ranges["name_id"])
    marked = _heading(recorder_of(tables.trace).ranges)
    domains = {int(d): str(t) for d, t in texts_of(tables.trace, ranges["domain_id"])}
    for thread, rows in _by_thread(ranges["thread_key"], ranges["start_ns"]):
        for domain, of_domain in by_key(ranges["domain_id"][rows], rows):
            label = f"{marked} {domains[domain]}" if domains.get(domain) else marked
            lane = Lane(group=group_of[thread], label=label, table="ranges")
            tables.track(lane, RANGE, _columns(ranges, name, of_domain))


def _heading(range_word: str) -> str:
    """Return the heading of a lane of ranges: "NVTX range" stands in the lane "NVTX"."""
    return range_word.removesuffix(" range") if " " in range_word else f"{range_word}s"


def _columns(table: Mapping[str, Array], name: Array, rows: Array) -> dict[str, Array]:
    return {
        "start": table["start_ns"][rows],
        "end": table["end_ns"][rows],
        "name": name[rows],
        "row": rows,
    }


def _write_marks(tables: RecordingTables, group_of: Mapping[int, int]) -> None:
    marks = tables.trace.columns("marks", ["time_ns", "thread", "name_id"])
    spans = {"start_ns": marks["time_ns"], "end_ns": marks["time_ns"]}
    name = tables.names.codes(marks["name_id"])
    for thread, rows in _by_thread(marks["thread"], marks["time_ns"]):
        # Marks of one moment do not overlap: they have no length.
        columns = _columns(spans, name, rows)
        tables.track(
            Lane(group=group_of[thread], label="NVTX marks", table="marks"), RANGE, columns
        )


def _write_calls(tables: RecordingTables, group_of: Mapping[int, int]) -> None:
    """Write API calls, coloured by the ledger row that they can cost."""
    facts, api = tables.facts, tables.facts.api
    paint = np.array([_CALL_COLOR.get(Call(c), OTHER_CALL) for c in facts.calls], np.uint8)
    texts = [tables.names.words(str(text) or NO_NAME) for text in facts.functions]
    code = api["name"].to_numpy()
    spans = {column: api[column].to_numpy() for column in ("start_ns", "end_ns")}
    order, bounds = facts.call_order
    label = f"{recorder_of(tables.trace).api} API"
    for place, thread in enumerate(facts.thread_keys.tolist()):
        rows = order[bounds[place] : bounds[place + 1]]
        columns = _columns(spans, np.array(texts, np.uint32)[code], rows)
        columns["color"] = paint[code[rows]]
        lane = Lane(group=group_of[thread], label=label, table="api_calls")
        tables.track(lane, 0, columns)


def _write_operators(tables: RecordingTables, group_of: Mapping[int, int]) -> None:
    """Write operators of a framework by depth, Python's functions apart."""
    operators = tables.trace.columns(
        "operators", ["start_ns", "end_ns", "thread", "name_id", "kind"]
    )
    name = tables.names.codes(operators["name_id"])
    for thread, rows in _by_thread(operators["thread"], operators["start_ns"]):
        for kind, of_kind in by_key(operators["kind"][rows], rows):
            label = "Python" if kind == OperatorKind.PYTHON else "operators"
            lane = Lane(group=group_of[thread], label=label, table="operators")
            tables.track(lane, OPERATOR, _columns(operators, name, of_kind))


def _write_os_calls(tables: RecordingTables, group_of: Mapping[int, int]) -> None:
    calls = tables.trace.columns("os_calls", ["start_ns", "end_ns", "thread", "name_id"])
    name = tables.names.codes(calls["name_id"])
    for thread, rows in _by_thread(calls["thread"], calls["start_ns"]):
        lane = Lane(group=group_of[thread], label="OS runtime", table="os_calls")
        tables.track(lane, OS_CALL, _columns(calls, name, rows))


def _write_states(tables: RecordingTables, group_of: Mapping[int, int]) -> None:
    """Write when each thread had a core: from each switch to it until the next away from it."""
    switches = tables.trace.columns("thread_switches", ["time_ns", "thread", "cpu", "is_in"])
    time, cpu = switches["time_ns"], switches["cpu"]
    last = int(time.max())
    for thread, rows in _by_thread(switches["thread"], time):
        is_in = switches["is_in"][rows].astype(bool)
        begins = np.flatnonzero(is_in & ~np.append(is_in[1:], False))
        if not len(begins):
            continue
        until = np.append(time[rows[1:]], last)  # who never left had the core to the end
        core = cpu[rows[begins]]
        words = {
            int(c): tables.names.words(f"on core {c}" if c >= 0 else "running") for c in set(core)
        }
        columns = {
            "start": time[rows[begins]],
            "end": until[begins],
            "name": np.array([words[int(c)] for c in core], np.uint32),
            "row": rows[begins],
        }
        lane = Lane(group=group_of[thread], label="on a core", table="thread_switches")
        tables.track(lane, RUNNING, columns)


_HOST_TRACKS: dict[str, Callable[[RecordingTables, Mapping[int, int]], None]] = {
    "ranges": _write_ranges,
    "marks": _write_marks,
    "operators": _write_operators,
    "api_calls": _write_calls,
    "os_calls": _write_os_calls,
    "thread_switches": _write_states,
}
"""Tables of what host threads did, in the order of their lanes under a thread."""
