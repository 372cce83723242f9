"""The timeline's lanes, and the part of them that a screen can show.

A lane is sorted once; after that any view of it costs a few binary searches. Where a view holds
more events than the screen has room for, each bin of time shows its exact busy share and its
longest event, so that a rare stall stays visible at every zoom. Times inside are nanoseconds
since ``Lanes.origin_ns``, because a browser cannot hold the nanoseconds of a calendar date.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call, classify
from analyzers.facts import COMMUNICATION, COPY, GRAPH, KERNEL, MEMSET, nesting_depth
from analyzers.finding import Row
from analyzers.ledger import DETAILS, ROWS
from analyzers.words import function_first
from collectors.trace import DEVICE_TABLES, Array, CopyKind, Trace
from library.analyses import Stored
from views._charts import ROW_COLORS, device_labels
from views._units import visible

BINS = 700  # of a full view: about two pixels each on a common screen
MAX_STREAMS = 24  # a device; the busiest. More lanes than this cannot be read on one screen
MAX_THREADS = 8
MAX_DEPTH = 6
MAX_NAME = 300  # characters sent to the browser
MIN_BINS_A_MARK = 3  # events closer than this overlap on the screen and would overstate
MIN_VIEW_NS = 100
SELECTED_GROUP, NVTX_GROUP = "Selected kernel", "NVTX"

# Colours by number: the ledger's rows first, so that a call that waits has the colour of waiting.
# The others differ in lightness from the row "unexplained" and from each other, whatever colours
# the reader can tell.
PALETTE = (*(ROW_COLORS[row] for row in ROWS), "#4B5A69", "#8C96E8", "#782DA5")
OTHER_CALL, RANGE, OS_CALL = range(len(ROWS), len(PALETTE))
_CODE = {row: place for place, row in enumerate(ROWS)}
_KIND_COLOR = {
    KERNEL: _CODE[Row.KERNEL],
    GRAPH: _CODE[Row.KERNEL],
    COMMUNICATION: _CODE[Row.COMMUNICATION],
    COPY: _CODE[Row.TRANSFER],
    MEMSET: _CODE[Row.TRANSFER],
}
_CALL_COLOR = {
    Call.LAUNCH: _CODE[Row.LAUNCH],
    Call.ENQUEUE: _CODE[Row.LAUNCH],
    Call.WAIT: _CODE[Row.SYNC],
    Call.POLL: _CODE[Row.SYNC],
    Call.COPY: _CODE[Row.SYNC],
    Call.FREE: _CODE[Row.MEMORY],
    Call.ALLOCATE: _CODE[Row.MEMORY],
    Call.SET_UP: _CODE[Row.SETUP],
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


@dataclass(frozen=True)
class Spans:
    """Time intervals by begin, with the busy time before each.

    Attributes:
        start: Begins.
        end: Ends.
    """

    start: Array
    end: Array

    @functools.cached_property
    def reach(self) -> Array:
        """Latest end so far."""
        result: Array = np.maximum.accumulate(self.end)
        return result

    @functools.cached_property
    def fresh(self) -> Array:
        """Begin of the part of each interval that no earlier one covers."""
        result = self.start.copy()
        result[1:] = np.maximum(self.start[1:], self.reach[:-1])
        return result

    @functools.cached_property
    def busy(self) -> Array:
        """Busy time before each interval, and of all."""
        return np.concatenate([[0], np.cumsum(np.maximum(self.end - self.fresh, 0))])

    def busy_until(self, moments: Array) -> Array:
        """Return the time covered before each moment; overlaps count once."""
        if not len(self.start):
            return np.zeros(len(moments), np.int64)
        place = np.maximum(np.searchsorted(self.fresh, moments, side="right") - 1, 0)
        length = self.busy[place + 1] - self.busy[place]
        result: Array = self.busy[place] + np.clip(moments - self.fresh[place], 0, length)
        return result

    def within(self, start: int, end: int) -> tuple[int, int]:
        """Return the first interval that reaches beyond ``start`` and the first from ``end`` on."""
        first = np.searchsorted(self.reach, np.int64(start), side="right")
        return int(first), int(np.searchsorted(self.start, np.int64(end), side="left"))


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One line of the timeline.

    Attributes:
        group: Heading that it stands under.
        label: What it shows.
        spans: Its events.
        name: Place of each event's name in ``Lanes.names``.
        color: Place of each event's colour in ``PALETTE``.
        stacked: True for a ledger, which is full everywhere and shows shares.
        row: Place of each event in the table that it came from.
        on_device: True when that table is ``Stored.launches``.
    """

    group: str
    label: str
    spans: Spans
    name: Array
    color: Array
    row: Array
    stacked: bool = False
    on_device: bool = False

    @functools.cached_property
    def by_color(self) -> dict[int, Spans]:
        """The events of each colour."""
        return {
            int(c): Spans(self.spans.start[self.color == c], self.spans.end[self.color == c])
            for c in np.unique(self.color)
        }


_LANE_COLUMNS: dict[str, Callable[[Lane], Array]] = {
    "start": lambda lane: lane.spans.start,
    "end": lambda lane: lane.spans.end,
    "name": lambda lane: lane.name,
    "color": lambda lane: lane.color,
    "row": lambda lane: lane.row,
}


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Every line of the timeline of one window.

    Attributes:
        origin_ns: Time zero of all other times, on the recording's clock: ``first_event_ns``.
        duration_ns: From there to the last event that is shown.
        lanes: The lines, from the ledger at the top to NVTX.
        names: Text of each name's number.
        notes: What is not shown, in words.
    """

    origin_ns: int
    duration_ns: int
    lanes: tuple[Lane, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def colors(self) -> list[int]:
        """Places in ``PALETTE`` that occur."""
        used = [np.unique(lane.color) for lane in self.lanes]
        return [int(c) for c in np.unique(np.concatenate(used))] if used else []

    def with_selected(self, name: str) -> Lanes:
        """Return the same with one more lane that holds every execution of the kernel ``name``."""
        code = self.name_code(name)
        chosen = [
            (lane, np.flatnonzero(lane.name == code))
            for lane in self.lanes
            if lane.on_device and not lane.stacked
        ]
        columns = (
            {
                column: np.concatenate([values(lane)[rows] for lane, rows in chosen])
                for column, values in _LANE_COLUMNS.items()
            }
            if chosen
            else {}
        )
        if code < 0 or not chosen or not len(columns["start"]):
            return self
        order = np.argsort(columns["start"], kind="stable")
        columns = {column: values[order] for column, values in columns.items()}
        lane = Lane(
            group=SELECTED_GROUP,
            label=visible(function_first(name)[:MAX_NAME]),
            spans=Spans(columns["start"], columns["end"]),
            name=columns["name"],
            color=columns["color"],
            row=columns["row"],
            on_device=True,
        )
        ledgers = sum(lane.stacked for lane in self.lanes)
        lanes = (*self.lanes[:ledgers], lane, *self.lanes[ledgers:])
        return dataclasses.replace(self, lanes=lanes)

    def name_code(self, name: str) -> int:
        """Return the number of ``name``, -1 when nothing has it."""
        return self.names.index(name) if name in self.names else -1


class _Names:
    """Gives each text a number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def codes(self, texts: Sequence[str]) -> Array:
        numbers = [self.numbers.setdefault(t, len(self.numbers)) for t in texts]
        return np.array(numbers, dtype=np.int32)

    def of_ids(self, trace: Trace, ids: Array) -> Array:
        """Return the number of each string id's text."""
        places, unique = pd.factorize(ids)
        if not len(unique):
            return np.empty(0, np.int32)
        result: Array = self.codes([str(t) for t in trace.names(unique)])[places]
        return result


def build_lanes(trace: Trace, stored: Stored, keys: Sequence[int]) -> Lanes:
    """Sort everything the timeline shows into lanes.

    Args:
        trace: The recording.
        stored: Its analysis; the ledger lanes cover that window.
        keys: Ledger devices to show.
    """
    names, notes = _Names(), list[str]()
    launches = stored.launches()
    launches = launches[np.isin(launches["device"].to_numpy(), keys)]
    threads = _launching_threads(trace, launches)
    report = stored.report
    device_names = device_labels(report.devices)
    lanes = [
        *_ledger_lanes(stored, keys, device_labels(report.devices, product=False), names),
        *_stream_lanes(trace, launches, device_names, names, notes),
        *_call_lanes(trace, threads, names, notes),
        *_os_lanes(trace, threads, names, notes),
        *_range_lanes(trace, names, notes),
    ]
    filled = [lane for lane in lanes if len(lane.spans.start)]
    origin = first_event_ns(trace)
    end = max((int(lane.spans.reach[-1]) for lane in filled), default=report.window.end_ns)
    return Lanes(
        origin_ns=origin,
        duration_ns=max(end - origin, MIN_VIEW_NS),
        lanes=tuple(_rebased(lane, origin) for lane in filled),
        names=tuple(names.numbers),
        notes=tuple(notes),
    )


def first_event_ns(trace: Trace) -> int:
    """Return the begin of the first event, which is zero on every timeline of the recording."""
    begins = [
        int(trace.columns(table, ["start_ns"])["start_ns"].min())
        for table in (*DEVICE_TABLES, "api_calls", "os_calls", "ranges")
        if trace.count(table)
    ]
    return min(begins, default=0)


def operation_name(trace: Trace, launches: pd.DataFrame) -> str:
    """Return what the one operation in ``launches`` is called."""
    names = _Names()
    code = int(_operation_codes(trace, launches, names)[0])
    return list(names.numbers)[code]


def _rebased(lane: Lane, origin: int) -> Lane:
    spans = Spans(lane.spans.start - origin, lane.spans.end - origin)
    return dataclasses.replace(lane, spans=spans)


def _ledger_lanes(
    stored: Stored, keys: Sequence[int], device_names: dict[int, str], names: _Names
) -> Iterator[Lane]:
    segments = stored.segments()
    words = names.codes([_segment_words(row, d) for row in ROWS for d in DETAILS])
    for key in keys:
        mine = segments[(segments["device"] == key).to_numpy()]
        row, detail = mine["row"].to_numpy(), mine["detail"].to_numpy()
        yield Lane(
            group="Ledger",
            label=device_names[key],
            spans=Spans(mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()),
            name=words[row.astype(np.int64) * len(DETAILS) + detail],
            color=row.astype(np.uint8),
            row=np.flatnonzero((segments["device"] == key).to_numpy()),
            stacked=True,
        )


def _segment_words(row: Row, detail: str) -> str:
    return f"{row.value}: {detail}" if detail else row.value


def _stream_lanes(
    trace: Trace,
    launches: pd.DataFrame,
    device_names: dict[int, str],
    names: _Names,
    notes: list[str],
) -> Iterator[Lane]:
    code = _operation_codes(trace, launches, names)
    color = np.zeros(MEMSET + GRAPH + 1, np.uint8)
    for kind, number in _KIND_COLOR.items():
        color[kind] = number
    several = launches.groupby("device")["process"].nunique().to_dict() if len(launches) else {}
    launches = launches.assign(place=np.arange(len(launches)))
    for device in np.unique(launches["device"].to_numpy()).tolist():
        on_device = launches[(launches["device"] == device).to_numpy()]
        lengths = (on_device["end_ns"] - on_device["start_ns"]).groupby(
            [on_device["process"], on_device["stream"]]
        )
        busiest = lengths.sum().sort_values(ascending=False)
        if len(busiest) > MAX_STREAMS:
            notes.append(
                f"{device_names[device]}: the {MAX_STREAMS} busiest of {len(busiest)} streams"
            )
        for process, stream in sorted(busiest.index[:MAX_STREAMS]):
            chosen = (on_device["process"] == process) & (on_device["stream"] == stream)
            mine = on_device[chosen.to_numpy()].sort_values("start_ns", kind="stable")
            place = mine["place"].to_numpy()
            label = f"stream {stream}" if stream >= 0 else "stream not recorded"
            yield Lane(
                group=device_names[device],
                label=label if several[device] == 1 else f"{label} · process {process}",
                spans=Spans(mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()),
                name=code[place],
                color=color[mine["kind"].to_numpy()],
                row=mine.index.to_numpy(),
                on_device=True,
            )


def _operation_codes(trace: Trace, launches: pd.DataFrame, names: _Names) -> Array:
    """Return the number of each operation's name: the kernel's, or what was copied where."""
    kind = launches["kind"].to_numpy()
    code = np.full(len(launches), names.codes(["memset"])[0], np.int32)
    code[kind == GRAPH] = names.codes(["CUDA graph"])[0]
    kernels = np.isin(kind, (KERNEL, COMMUNICATION))
    code[kernels] = names.of_ids(trace, launches["name_id"].to_numpy()[kernels])
    copies = np.flatnonzero(kind == COPY)
    if "copy_kind" in launches:
        kinds = launches["copy_kind"].to_numpy()[copies]
    else:
        kinds = np.full(len(copies), -1)
    for number in np.unique(kinds):
        words = _COPY_WORDS.get(int(number), "copy")  # type: ignore[call-overload]
        code[copies[kinds == number]] = names.codes([words])[0]
    return code


def _call_lanes(trace: Trace, threads: Array, names: _Names, notes: list[str]) -> Iterator[Lane]:
    if not trace.count("api_calls"):
        return
    calls = trace.frame("api_calls", ["start_ns", "end_ns", "thread", "name_id"])
    if len(threads) > MAX_THREADS:
        notes.append(f"CUDA calls: the {MAX_THREADS} of {len(threads)} threads that launch most")
    places, ids = pd.factorize(calls["name_id"].to_numpy())
    texts = [str(t) for t in trace.names(ids)]
    code, colors = (
        names.codes(texts)[places],
        np.array([_CALL_COLOR.get(classify(t), OTHER_CALL) for t in texts], np.uint8)[places],
    )
    calls = calls.assign(name=code, color=colors)
    yield from _lanes_by_thread("CUDA calls", calls, threads, thread_labels(trace))


def _os_lanes(trace: Trace, threads: Array, names: _Names, notes: list[str]) -> Iterator[Lane]:
    """Return the calls of the operating system that kept the threads which launch work."""
    if not trace.count("os_calls"):
        return
    calls = trace.frame("os_calls", ["start_ns", "end_ns", "thread", "name_id"])
    which = "launch most"
    if not len(threads):  # no GPU work: those that the program marked are the ones to look at
        threads, which = _marked_threads(trace), "have most NVTX ranges"
    if len(threads) > MAX_THREADS:
        notes.append(f"OS runtime: the {MAX_THREADS} of {len(threads)} threads that {which}")
    code = names.of_ids(trace, calls["name_id"].to_numpy())
    calls = calls.assign(name=code, color=np.uint8(OS_CALL))
    yield from _lanes_by_thread("OS runtime", calls, threads, thread_labels(trace))


def _launching_threads(trace: Trace, launches: pd.DataFrame) -> Array:
    """Return the threads that submitted ``launches``, the one with most first."""
    if not trace.count("api_calls"):
        return np.empty(0, np.int64)
    rows = launches["api_row"].to_numpy()
    threads = trace.columns("api_calls", ["thread"])["thread"][rows[rows >= 0]]
    return pd.Series(threads).value_counts().index.to_numpy()


def _marked_threads(trace: Trace) -> Array:
    threads = trace.columns("ranges", ["thread"])["thread"]
    return pd.Series(threads).value_counts().index.to_numpy()


def _lanes_by_thread(
    group: str, calls: pd.DataFrame, threads: Array, labels: dict[int, str]
) -> Iterator[Lane]:
    """Return one lane a thread; ``calls`` also has ``name`` and ``color``."""
    for thread in threads[:MAX_THREADS]:
        rows = np.flatnonzero(calls["thread"].to_numpy() == thread)
        rows = rows[np.argsort(calls["start_ns"].to_numpy()[rows], kind="stable")]
        mine = calls.iloc[rows]
        yield Lane(
            group=group,
            label=labels.get(int(thread), "thread"),
            spans=Spans(mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()),
            name=mine["name"].to_numpy(),
            color=mine["color"].to_numpy(),
            row=rows,
        )


def _range_lanes(trace: Trace, names: _Names, notes: list[str]) -> Iterator[Lane]:
    if not trace.count("ranges"):
        return
    ranges = trace.frame("ranges", ["start_ns", "end_ns", "thread", "name_id"])
    code = names.of_ids(trace, ranges["name_id"].to_numpy())
    start, end = ranges["start_ns"].to_numpy(), ranges["end_ns"].to_numpy()
    labels = thread_labels(trace)
    threads = _marked_threads(trace)
    if len(threads) > MAX_THREADS:
        notes.append(f"NVTX: the {MAX_THREADS} of {len(threads)} threads with most ranges")
    for thread in threads[:MAX_THREADS]:
        rows = np.flatnonzero(ranges["thread"].to_numpy() == thread)
        rows = rows[np.lexsort((-end[rows], start[rows]))]
        depth = nesting_depth(start[rows], end[rows])
        deepest = int(depth.max())
        if deepest >= MAX_DEPTH:
            notes.append(f"NVTX: {MAX_DEPTH} of {deepest + 1} levels")
        for level in range(min(deepest + 1, MAX_DEPTH)):
            at_level = rows[depth == level]
            yield Lane(
                group=NVTX_GROUP,
                label=labels.get(int(thread), "thread") if level == 0 else "",
                spans=Spans(start[at_level], end[at_level]),
                name=code[at_level],
                color=np.full(len(at_level), RANGE, np.uint8),
                row=at_level,
            )


def thread_labels(trace: Trace) -> dict[int, str]:
    """Return what to call each thread, by key."""
    threads = trace.frame("threads", ["thread", "tid", "name"])
    return {
        int(key): f"{visible(name, 18)} {tid}" if name else f"thread {tid}"
        for key, tid, name in zip(threads["thread"], threads["tid"], threads["name"], strict=True)
    }


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Rectangles to draw in one lane: exact events, or one for each busy bin of time."""

    start: Array
    end: Array
    name: Array
    color: Array
    fill: Array  # 0 to 255: part of the rectangle's time that is busy
    exact: bool


def marks(lane: Lane, start: int, end: int, bins: int = BINS) -> Marks:
    """Return what a view from ``start`` to ``end`` shows of ``lane``."""
    first, last = lane.spans.within(start, end)
    if last - first <= bins // MIN_BINS_A_MARK:
        chosen = slice(first, last)
        return Marks(
            start=lane.spans.start[chosen],
            end=lane.spans.end[chosen],
            name=lane.name[chosen],
            color=lane.color[chosen],
            fill=np.full(max(last - first, 0), 255, np.uint8),
            exact=True,
        )
    edges = _edges(start, end, bins)
    return _shares(lane, edges) if lane.stacked else _density(lane, edges, first, last)


def _edges(start: int, end: int, bins: int) -> Array:
    """Return multiples of a power of two, so that bins keep their place while the view moves."""
    width = 1 << max(int(np.ceil(np.log2(max(end - start, 1) / bins))), 0)
    return np.arange(start // width, -(-end // width) + 1, dtype=np.int64) * width


def _shares(lane: Lane, edges: Array) -> Marks:
    colors, starts, fills, names = [], [], [], []
    width = int(edges[1] - edges[0])
    for color, spans in lane.by_color.items():
        share = np.diff(spans.busy_until(edges)) / width
        busy = np.flatnonzero(share > 0)
        starts.append(edges[busy])
        fills.append(np.maximum(np.round(share[busy] * 255), 1).astype(np.uint8))
        colors.append(np.full(len(busy), color, np.uint8))
        names.append(np.full(len(busy), lane.name[np.argmax(lane.color == color)], np.int32))
    start = np.concatenate(starts)
    order = np.argsort(start, kind="stable")  # bins in order, and in each the rows' own order
    return Marks(
        start=start[order],
        end=start[order] + width,
        name=np.concatenate(names)[order],
        color=np.concatenate(colors)[order],
        fill=np.concatenate(fills)[order],
        exact=False,
    )


def _density(lane: Lane, edges: Array, first: int, last: int) -> Marks:
    width = int(edges[1] - edges[0])
    busy = np.diff(lane.spans.busy_until(edges))
    longest = _longest(lane.spans, edges, first, last)
    bins = np.flatnonzero(busy > 0)
    event, fill = longest[bins], np.maximum(busy[bins] * 255 // width, 1)
    # One event that fills several bins is one rectangle, wide enough for its name.
    same = np.zeros(len(bins), bool)
    same[1:] = (np.diff(bins) == 1) & (np.diff(event) == 0) & (fill[1:] == 255) & (fill[:-1] == 255)
    begin = np.flatnonzero(~same)
    stop = np.append(begin[1:], len(bins))
    return Marks(
        start=edges[bins[begin]],
        end=edges[bins[stop - 1] + 1],
        name=lane.name[event[begin]],
        color=lane.color[event[begin]],
        fill=fill[begin].astype(np.uint8),
        exact=False,
    )


def _longest(spans: Spans, edges: Array, first: int, last: int) -> Array:
    """Return the longest event that begins in each bin, or the one that reaches into it."""
    width = int(edges[1] - edges[0])
    result = np.searchsorted(spans.fresh, edges[:-1], side="right") - 1
    length = spans.end[first:last] - spans.start[first:last]
    place = np.clip((spans.start[first:last] - edges[0]) // width, 0, len(edges) - 2)
    longest = np.zeros(len(edges) - 1, np.int64)
    begins = np.flatnonzero(np.diff(place, prepend=-1))
    longest[place[begins]] = np.maximum.reduceat(length, begins)
    hit = np.flatnonzero(length == longest[place])[::-1]
    reaching = result[place[hit]]
    inside = (
        np.minimum(spans.end[np.maximum(reaching, 0)], edges[place[hit] + 1]) - edges[place[hit]]
    )
    wins = (reaching < 0) | (length[hit] > inside)
    result[place[hit[wins]]] = hit[wins] + first
    return np.maximum(result, 0)


def pack(lanes: Lanes, start: int, end: int, bins: int = BINS) -> bytes:
    """Return a view of every lane as bytes: a JSON head, then one array a column.

    The head's length stands in the first four bytes. Columns: begins and ends as float64, names
    as uint32, colours and fills as uint8; a lane's marks stand together, at ``first``.
    """
    drawn = [marks(lane, start, end, bins) for lane in lanes.lanes]
    firsts = np.concatenate([[0], np.cumsum([len(m.start) for m in drawn])])
    columns = {
        key: np.concatenate([getattr(m, key) for m in drawn]) if drawn else np.empty(0)
        for key in ("start", "end", "name", "color", "fill")
    }
    used = np.unique(columns["name"]).astype(np.int64)
    head: dict[str, Any] = {
        "start": start,
        "end": end,
        "count": int(firsts[-1]),
        "lanes": [
            {"first": int(f), "count": len(m.start), "exact": m.exact}
            for f, m in zip(firsts, drawn, strict=False)
        ],
        "names": {int(n): visible(lanes.names[n], MAX_NAME) for n in used},
    }
    text = json.dumps(head).encode()
    text += b" " * (-(len(text) + 4) % 8)  # so that the arrays after it begin on their own size
    kinds = {"start": "<f8", "end": "<f8", "name": "<u4", "color": "u1", "fill": "u1"}
    body = b"".join(columns[key].astype(kind).tobytes() for key, kind in kinds.items())
    return struct.pack("<I", len(text)) + text + body
