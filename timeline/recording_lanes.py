"""Which lanes a timeline has, and what stands in them.

Two indexes make up a timeline. That of the *recording* holds what devices and threads did; it is
written when the recording is read. That of a *window* holds what the analysis says about it:
ledger, findings, iterations; it lies beside the analysis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from analyzers.cuda_names import Call
from analyzers.facts.extent import first_event_ns, last_event_ns
from analyzers.facts.facts import COMMUNICATION, COPY, GRAPH, KERNEL, MEMSET, Facts
from analyzers.finding import Row
from analyzers.intervals import by_key
from analyzers.recorder import recorder_of
from collectors.schema import Array, CopyKind, OperatorKind
from collectors.trace import Trace
from timeline.colors import (
    COLOR_CODE,
    OPERATIONS,
    OPERATOR,
    OS_CALL,
    OTHER_CALL,
    PROGRAM,
    RANGE,
    RUNNING,
)
from timeline.index import NOTHING, Group, IndexWriter, Lane

if TYPE_CHECKING:
    pass

OPEN_THREADS = 6  # of those that matter most; the others are there, folded
OPEN_METRICS = 6
MIN_DURATION_NS = 100
MAX_MHZ = 100_000  # a clock above this is given in Hz, whatever the metric's name says
MAX_TABLE_SPREAD, MIN_TABLE = 8, 1 << 16  # places of a look-up table for each id

_KIND_COLOR = {
    KERNEL: COLOR_CODE[Row.KERNEL],
    GRAPH: COLOR_CODE[Row.KERNEL],
    COMMUNICATION: COLOR_CODE[Row.COMMUNICATION],
    COPY: COLOR_CODE[Row.TRANSFER],
    MEMSET: COLOR_CODE[Row.TRANSFER],
}
_COLOR_OF_KIND = np.array([_KIND_COLOR[kind] for kind in range(len(_KIND_COLOR))], np.uint8)
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
_COPY_WORDS = {
    CopyKind.HOST_TO_DEVICE: "copy HtoD",
    CopyKind.DEVICE_TO_HOST: "copy DtoH",
    CopyKind.DEVICE_TO_DEVICE: "copy DtoD",
    CopyKind.HOST_TO_HOST: "copy HtoH",
    CopyKind.PEER_TO_PEER: "copy peer to peer",
    CopyKind.MANAGED_HOST_TO_DEVICE: "managed memory HtoD",
    CopyKind.MANAGED_DEVICE_TO_HOST: "managed memory DtoH",
    CopyKind.MANAGED_DEVICE_TO_DEVICE: "managed memory DtoD",
}
_TELLING = (
    "launches",
    "ranges",
    "operators",
    "api_calls",
)  # what makes a thread worth a look at once
_NO_NAME = "(name not recorded)"
_UNIT = re.compile(r"\[(?:.*\s)?([^\]\s]+)\]\s*$")  # "SM Active [Throughput %]"


def operation_words(kind: int, copy_kind: int, name: str) -> str:
    """Return what an operation is called: the kernel's name, or what was copied where."""
    if kind in (KERNEL, COMMUNICATION):
        return name or _NO_NAME
    return {MEMSET: "memset", GRAPH: "CUDA graph"}.get(kind) or _copy_words(copy_kind)


def _copy_words(kind: int) -> str:
    return _COPY_WORDS.get(kind, "copy")  # type: ignore[call-overload, no-any-return]


def thread_labels(trace: Trace) -> dict[int, str]:
    """Return what to call each thread, by key."""
    threads = trace.frame("threads", ["thread", "tid", "name"])
    return {
        int(key): f"{name} {tid}" if name else f"thread {tid}"
        for key, tid, name in zip(threads["thread"], threads["tid"], threads["name"], strict=True)
    }


@dataclass
class _Names:
    """Numbers for texts: those of the recording first, then words of ours."""

    strings: pa.Table
    own: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = self.strings["id"].to_numpy()

    @classmethod
    def of(cls, trace: Trace) -> _Names:
        return cls(trace.arrow("strings"))

    def words(self, text: str) -> int:
        """Return the number of a text of ours."""
        return self.own.setdefault(text, len(self._ids) + len(self.own))

    def codes(self, ids: Array) -> Array:
        """Return the number of each string id's text."""
        unknown = self.words(_NO_NAME)
        low, high = (int(self._ids.min()), int(self._ids.max())) if len(self._ids) else (0, -1)
        if high - low < MAX_TABLE_SPREAD * max(len(self._ids), MIN_TABLE):
            table = np.full(high - low + 2, unknown, np.uint32)  # the last stands for all others
            table[self._ids - low] = np.arange(len(self._ids))
            known = (ids >= low) & (ids <= high)
            return table[np.where(known, ids - low, -1)]
        place, unique = pd.factorize(ids)
        at = dict(zip(self._ids.tolist(), range(len(self._ids)), strict=True))
        codes = np.array([at.get(i, unknown) for i in unique.tolist()], np.uint32)
        return codes[place]

    def texts(self) -> pa.Array:
        """Return all texts by number."""
        recorded = self.strings["value"].cast(pa.large_string()).chunks
        return pa.concat_arrays([*recorded, pa.array(list(self.own), pa.large_string())])


@dataclass
class _RecordingTables:
    """What the lanes of a recording are made of."""

    facts: Facts
    writer: IndexWriter
    names: _Names
    origin: int

    @property
    def trace(self) -> Trace:
        return self.facts.trace

    def track(self, lane: Lane, color: int, columns: Mapping[str, Array]) -> None:
        """Write a lane, and further ones where its events overlap; sorted by begin."""
        moved = {k: columns[k] - self.origin for k in ("start", "end")}
        self.writer.track(lane, color, {**columns, **moved})


def write_recording(facts: Facts, writer: IndexWriter) -> None:
    """Write everything that devices and threads did."""
    trace = facts.trace
    at = _RecordingTables(facts, writer, _Names.of(trace), first_event_ns(facts))
    writer.group(PROGRAM)
    _write_devices(at)
    _write_threads(at)
    _write_metrics(at)
    _write_memory(at)
    writer.names(at.names.texts())
    writer.relink(lambda link, row: _link(writer.lanes, facts, link, row))
    end = last_event_ns(facts)
    writer.finish(
        origin_ns=at.origin,
        duration_ns=max(end - at.origin, MIN_DURATION_NS),
        range_word=recorder_of(trace).ranges,
    )


def _write_devices(at: _RecordingTables) -> None:
    """Write a lane for each stream, then each direction of copies and the collectives once more."""
    launches = at.facts.launches
    name = _operation_names(at)
    columns = {
        "start": launches["start_ns"].to_numpy(),
        "end": launches["end_ns"].to_numpy(),
        "name": name,
        "color": _COLOR_OF_KIND[launches["kind"].to_numpy()],
        "link": launches["api_row"].to_numpy(),  # of the table; becomes the event's number
    }
    for device, rows in by_key(_small(launches["device"].to_numpy()), np.arange(len(launches))):
        processes = launches["process_index"].to_numpy()[rows]
        several = len(np.unique(processes)) > 1
        for process, mine in by_key(_small(processes), rows):
            group = at.writer.group(_device_group(at.facts, device, process if several else -1))
            for stream, its in by_key(_small(launches["stream"].to_numpy()[mine]), mine):
                label = f"stream {stream}" if stream >= 0 else "stream not recorded"
                _write_operations(
                    at, Lane(group=group, label=label, table=OPERATIONS), columns, its
                )
            _write_mirrors(at, group, columns, mine)


def _small(keys: Array) -> Array:
    """Return integers in the narrowest type; few bits sort many times faster."""
    narrow: Array = keys.astype(np.int16) if len(keys) and _fits_16_bits(keys) else keys
    return narrow


def _fits_16_bits(keys: Array) -> bool:
    return bool(keys.min() >= -(1 << 15) and keys.max() < 1 << 15)


def _device_group(facts: Facts, device: int, process: int) -> Group:
    """Return the group of a device, or of what one of its processes does on it."""
    if device < 0:
        return Group(id="gpu:unknown", kind="device", title="GPU that the recording does not name")
    if process < 0:
        return Group(id=f"gpu:{device}", kind="device", title="", device=device)
    known = facts.trace.columns("processes", ["process", "pid"])
    pids = dict(zip(known["process"].tolist(), known["pid"].tolist(), strict=True))
    key = int(facts.process_keys[process])
    title = f" · process {pids.get(key, key)}"
    return Group(id=f"gpu:{device}:{process}", kind="device", title=title, device=device)


def _write_operations(
    at: _RecordingTables, lane: Lane, columns: Mapping[str, Array], rows: Array
) -> None:
    at.track(lane, 0, {**{k: v[rows] for k, v in columns.items()}, "row": rows})


def _write_mirrors(
    at: _RecordingTables, group: int, columns: Mapping[str, Array], rows: Array
) -> None:
    kind = at.facts.launches["kind"].to_numpy()[rows]
    lane = Lane(group=group, label="", table=OPERATIONS, mirror=True)
    copies = rows[kind == COPY]
    # The names of copies are words of ours: one for each direction.
    for name, mine in by_key(columns["name"][copies], copies):
        label = next(text for text, code in at.names.own.items() if code == name)
        _write_operations(at, replace(lane, label=label), columns, mine)
    if (collectives := rows[kind == COMMUNICATION]).size:
        _write_operations(at, replace(lane, label="communication"), columns, collectives)


def _operation_names(at: _RecordingTables) -> Array:
    """Return the number of each operation's name: the kernel's, or what was copied where."""
    launches = at.facts.launches
    kind = launches["kind"].to_numpy()
    names = np.full(len(launches), at.names.words("memset"), np.uint32)
    names[kind == GRAPH] = at.names.words("CUDA graph")
    kernels = np.isin(kind, (KERNEL, COMMUNICATION))
    names[kernels] = at.names.codes(launches["name_id"].to_numpy()[kernels])
    copies = at.facts.of_table("copies", ["kind"]) if at.trace.count("copies") else None
    if copies is not None:
        for number, rows in by_key(copies["kind"].to_numpy(), copies.index.to_numpy()):
            names[rows] = at.names.words(_copy_words(number))
    return names


def _write_threads(at: _RecordingTables) -> None:
    """Write what each host thread did, those that launch most first."""
    counts = _thread_counts(at)
    matters = (counts[[c for c in _TELLING if c in counts]] > 0).any(axis=1).to_numpy()
    first = np.arange(len(counts)) < OPEN_THREADS
    is_open = first & matters if matters.any() else first
    labels, group_of = _thread_titles(at.trace), {}
    for place, thread in enumerate(counts.index.tolist()):
        title = labels.get(thread, "thread")
        group = Group(id=f"thread:{place}", kind="thread", title=title, open=bool(is_open[place]))
        group_of[thread] = at.writer.group(group)
    for table, write in _HOST_TRACKS.items():
        if at.trace.count(table):
            write(at, group_of)


def _thread_counts(at: _RecordingTables) -> pd.DataFrame:
    """Return how often each thread launched, and its rows by table; the busiest first."""
    api = at.facts.thread_keys[at.facts.api["thread_index"].to_numpy()]
    api_row = at.facts.launches["api_row"].to_numpy()
    keys = {"launches": api[api_row[api_row >= 0]]}
    for table in _HOST_TRACKS:
        if at.trace.count(table):
            keys[table] = (
                api if table == "api_calls" else at.trace.columns(table, ["thread"])["thread"]
            )
    counts = pd.DataFrame({name: pd.Series(k).value_counts() for name, k in keys.items()})
    return counts.fillna(0).sort_values(list(keys), ascending=False, kind="stable")


def _thread_titles(trace: Trace) -> dict[int, str]:
    """Return what to call each thread; with its process when there are several."""
    labels = thread_labels(trace)
    processes = trace.frame("processes", ["process", "pid", "name"]).set_index("process")
    if len(processes) < 2:
        return labels
    threads = trace.columns("threads", ["thread", "process"])
    return {
        int(thread): f"{labels[int(thread)]} · process {processes['pid'].get(process, process)}"
        for thread, process in zip(threads["thread"], threads["process"], strict=True)
    }


def _by_thread(threads: Array, starts: Array) -> Iterator[tuple[int, Array]]:
    """Yield each thread with its rows, sorted by begin."""
    codes, keys = pd.factorize(threads)
    for code, rows in by_key(_small(codes), np.arange(len(codes))):
        begins = starts[rows]
        if np.any(begins[1:] < begins[:-1]):
            rows = rows[np.argsort(begins, kind="stable")]
        yield int(keys[code]), rows


def _write_ranges(at: _RecordingTables, group_of: Mapping[int, int]) -> None:
    """Write ranges that the program marked, by domain and depth."""
    ranges = {str(name): column.to_numpy() for name, column in at.facts.ranges.items()}
    ranges |= at.trace.columns("ranges", ["domain_id"])
    name = at.names.codes(ranges["name_id"])
    marked = _heading(recorder_of(at.trace).ranges)
    domains = {int(d): str(t) for d, t in _texts_of(at.trace, ranges["domain_id"])}
    for thread, rows in _by_thread(ranges["thread_key"], ranges["start_ns"]):
        for domain, mine in by_key(ranges["domain_id"][rows], rows):
            label = f"{marked} {domains[domain]}" if domains.get(domain) else marked
            lane = Lane(group=group_of[thread], label=label, table="ranges")
            at.track(lane, RANGE, _columns(ranges, name, mine))


def _heading(range_word: str) -> str:
    """Return the heading of a lane of ranges: "NVTX range" stands in the lane "NVTX"."""
    return range_word.removesuffix(" range") if " " in range_word else f"{range_word}s"


def _texts_of(trace: Trace, ids: Array) -> Iterator[tuple[int, str]]:
    unique = pd.unique(ids)
    yield from zip(unique.tolist(), trace.names(unique).tolist(), strict=True)


def _columns(table: Mapping[str, Array], name: Array, rows: Array) -> dict[str, Array]:
    return {
        "start": table["start_ns"][rows],
        "end": table["end_ns"][rows],
        "name": name[rows],
        "row": rows,
    }


def _write_marks(at: _RecordingTables, group_of: Mapping[int, int]) -> None:
    marks = at.trace.columns("marks", ["time_ns", "thread", "name_id"])
    spans = {"start_ns": marks["time_ns"], "end_ns": marks["time_ns"]}
    name = at.names.codes(marks["name_id"])
    for thread, rows in _by_thread(marks["thread"], marks["time_ns"]):
        # Marks of one moment do not overlap: they have no length.
        columns = _columns(spans, name, rows)
        at.track(Lane(group=group_of[thread], label="NVTX marks", table="marks"), RANGE, columns)


def _write_calls(at: _RecordingTables, group_of: Mapping[int, int]) -> None:
    """Write API calls, coloured by the ledger row that they can cost."""
    facts, api = at.facts, at.facts.api
    paint = np.array([_CALL_COLOR.get(Call(c), OTHER_CALL) for c in facts.calls], np.uint8)
    texts = [at.names.words(str(text) or _NO_NAME) for text in facts.functions]
    code = api["name"].to_numpy()
    spans = {column: api[column].to_numpy() for column in ("start_ns", "end_ns")}
    order, bounds = facts.call_order
    label = f"{recorder_of(at.trace).api} API"
    for place, thread in enumerate(facts.thread_keys.tolist()):
        rows = order[bounds[place] : bounds[place + 1]]
        columns = _columns(spans, np.array(texts, np.uint32)[code], rows)
        columns["color"] = paint[code[rows]]
        lane = Lane(group=group_of[thread], label=label, table="api_calls")
        at.track(lane, 0, columns)


def _write_operators(at: _RecordingTables, group_of: Mapping[int, int]) -> None:
    """Write operators of a framework by depth, Python's functions apart."""
    operators = at.trace.columns("operators", ["start_ns", "end_ns", "thread", "name_id", "kind"])
    name = at.names.codes(operators["name_id"])
    for thread, rows in _by_thread(operators["thread"], operators["start_ns"]):
        for kind, mine in by_key(operators["kind"][rows], rows):
            label = "Python" if kind == OperatorKind.PYTHON else "operators"
            lane = Lane(group=group_of[thread], label=label, table="operators")
            at.track(lane, OPERATOR, _columns(operators, name, mine))


def _write_os_calls(at: _RecordingTables, group_of: Mapping[int, int]) -> None:
    calls = at.trace.columns("os_calls", ["start_ns", "end_ns", "thread", "name_id"])
    name = at.names.codes(calls["name_id"])
    for thread, rows in _by_thread(calls["thread"], calls["start_ns"]):
        lane = Lane(group=group_of[thread], label="OS runtime", table="os_calls")
        at.track(lane, OS_CALL, _columns(calls, name, rows))


def _write_states(at: _RecordingTables, group_of: Mapping[int, int]) -> None:
    """Write when each thread had a core: from each switch to it until the next away from it."""
    switches = at.trace.columns("thread_switches", ["time_ns", "thread", "cpu", "is_in"])
    time, cpu = switches["time_ns"], switches["cpu"]
    last = int(time.max())
    for thread, rows in _by_thread(switches["thread"], time):
        is_in = switches["is_in"][rows].astype(bool)
        begins = np.flatnonzero(is_in & ~np.append(is_in[1:], False))
        if not len(begins):
            continue
        until = np.append(time[rows[1:]], last)  # who never left had the core to the end
        core = cpu[rows[begins]]
        words = {int(c): at.names.words(f"on core {c}" if c >= 0 else "running") for c in set(core)}
        columns = {
            "start": time[rows[begins]],
            "end": until[begins],
            "name": np.array([words[int(c)] for c in core], np.uint32),
            "row": rows[begins],
        }
        lane = Lane(group=group_of[thread], label="on a core", table="thread_switches")
        at.track(lane, RUNNING, columns)


_HOST_TRACKS: dict[str, Callable[[_RecordingTables, Mapping[int, int]], None]] = {
    "ranges": _write_ranges,
    "marks": _write_marks,
    "operators": _write_operators,
    "api_calls": _write_calls,
    "os_calls": _write_os_calls,
    "thread_switches": _write_states,
}
"""Tables of what host threads did, in the order of their lanes under a thread."""


def _write_metrics(at: _RecordingTables) -> None:
    if not at.trace.count("gpu_metrics"):
        return
    metrics = at.trace.columns("gpu_metrics", ["time_ns", "gpu", "name_id", "value"])
    known = np.isfinite(metrics["value"])
    rows = np.flatnonzero(known)[np.argsort(metrics["time_ns"][known], kind="stable")]
    labels = dict(_texts_of(at.trace, metrics["name_id"][rows]))
    for gpu, mine in by_key(metrics["gpu"][rows], rows):
        its = list(by_key(metrics["name_id"][mine], mine))
        title = f"GPU {gpu} metrics"
        group = Group(
            id=f"metrics:{gpu}", kind="metrics", title=title, open=len(its) <= OPEN_METRICS
        )
        place = at.writer.group(group)
        for name, samples in its:
            label, value = labels[name] or _NO_NAME, metrics["value"][samples]
            unit = _unit_of(label, value)
            lane = Lane(group=place, label=_UNIT.sub("", label).strip() or label, unit=unit)
            at.writer.counter(lane, metrics["time_ns"][samples] - at.origin, value)


def _write_memory(at: _RecordingTables) -> None:
    """Write what a framework's allocator holds of each device's memory."""
    if not at.trace.count("memory_events"):
        return
    shown = {"allocated": "allocated_bytes", "reserved": "reserved_bytes"}
    events = at.trace.columns("memory_events", ["time_ns", "device", *shown.values()])
    known = np.flatnonzero((events["device"] >= 0) & (events["allocated_bytes"] >= 0))
    rows = known[np.argsort(events["time_ns"][known], kind="stable")]
    for device, its in by_key(events["device"][rows], rows):
        group = Group(id=f"memory:{device}", kind="metrics", title=f"GPU {device} memory")
        place = at.writer.group(group)
        times = events["time_ns"][its] - at.origin
        for label, column in shown.items():
            held = events[column][its]
            if held.max() >= 0:  # old recordings lack one of them
                lane = Lane(group=place, label=label, unit="bytes")
                at.writer.counter(lane, times, held.astype(np.float64))


def _unit_of(label: str, value: Array) -> str:
    """Return the unit of a metric: what its name says, unless its values say otherwise."""
    said = found[1] if (found := _UNIT.search(label)) else ""
    if said == "MHz" and value.max(initial=0) > MAX_MHZ:
        return "Hz"
    if said:
        return said
    return "%" if value.min(initial=0) >= 0 and value.max(initial=0) <= 100 else ""


def _link(lanes: Sequence[Lane], facts: Facts, link: Array, row: Array) -> None:
    """Turn the API row that each operation names into the call's event, and link that back."""
    event_of_call = np.full(len(facts.api), NOTHING, np.int32)
    calls = [part for lane in lanes if lane.table == "api_calls" for part in lane.parts]
    for first, count, _ in calls:
        event_of_call[row[first : first + count]] = np.arange(first, first + count)
    event_of_launch = np.full(len(facts.launches), NOTHING, np.int32)
    for lane in lanes:
        for first, count, _ in lane.parts if lane.table == OPERATIONS else ():
            here = slice(first, first + count)
            target = link[here]
            if len(event_of_call):
                link[here] = np.where(target >= 0, event_of_call[np.maximum(target, 0)], NOTHING)
            if not lane.mirror:
                event_of_launch[row[here]] = np.arange(first, first + count)
    api_row = facts.launches["api_row"].to_numpy()
    called = np.flatnonzero(api_row >= 0)[::-1]  # of several operations the first stays
    first_launch = np.full(len(facts.api), NOTHING, np.int32)
    first_launch[api_row[called]] = called
    for first, count, _ in calls:
        launched = first_launch[row[first : first + count]]
        found = event_of_launch[np.maximum(launched, 0)] if len(event_of_launch) else launched
        link[first : first + count] = np.where(launched >= 0, found, NOTHING)
