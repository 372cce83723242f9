"""The closed account of a device's time: every nanosecond booked to exactly one row.

While something runs, kernels count before communication before copies. While nothing runs, the
gap belongs to the operation that ends it: the thread that submitted that operation is followed
from the gap's begin to the launch call, and each stretch is booked to what the thread was doing.

A wait costs more than itself. The host work after it would have been hidden behind the device had
the host not been blocked, so of that work as much as the thread was blocked is booked to the wait.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts import COMMUNICATION, COPY, GRAPH, KERNEL, MEMSET, Facts
from analyzers.finding import BUSY_ROWS, NOTABLE_SHARE, Row
from analyzers.host_timeline import Doing, HostTimeline, doing_in_calls, host_timeline
from analyzers.intervals import Array, Spans, gaps, overlaps, subtract, union
from analyzers.report import DeviceLedger, Window
from analyzers.words import share_text
from collectors.trace import MANAGED_COPIES

ROWS = tuple(Row)
ROW_CODE = {row: code for code, row in enumerate(ROWS)}

# The device itself needs a moment between two launches of one stream. It is measured on the
# recording; ten microseconds is more than any measured, so a longer pause is something else.
DEVICE_GAP_MAX_NS = 10_000
MIN_GAPS_TO_MEASURE = 8
DEVICE_GAP_QUANTILE = 0.9  # most, not half, of the ordinary gaps should count as ordinary


class Detail(enum.IntEnum):
    """What exactly a stretch of the ledger is, within its row."""

    NONE = 0
    IN_LAUNCH_CALL = 1
    DISPATCHING = 2
    LAUNCH_LATENCY = 3
    DEVICE_GAP = 4
    IN_WAIT = 5
    REFILL = 6
    ALLOCATING = 7
    FREEING = 8
    SETTING_UP = 9
    PROFILER_AT_WORK = 10
    OUTSIDE_CUDA = 11
    NO_MORE_WORK = 12
    OTHER_STREAM = 13
    NO_API_CALL = 14
    NO_API_RECORDED = 15
    MANAGED_MEMORY = 16


DETAILS = (
    "",
    "inside the launch call",
    "dispatching between calls",
    "launch latency",
    "gap between two launches on the device",
    "inside a blocking call",
    "filling the queue again after a blocking call",
    "allocating memory",
    "giving memory back",
    "loading modules, creating contexts, instantiating graphs",
    "the profiler at work",
    "outside CUDA calls",
    "no further work was submitted",
    "waiting for another stream, an event or the queue",
    "the operation that ended the gap has no API call in the recording",
    "no API calls were recorded",
    "unified-memory migrations have no API call",
)
"""Each ``Detail`` in words."""

_BOOKED = {
    Doing.OUTSIDE: (Row.HOST, Detail.OUTSIDE_CUDA),
    Doing.DISPATCHING: (Row.LAUNCH, Detail.DISPATCHING),
    Doing.OTHER_CALL: (Row.LAUNCH, Detail.DISPATCHING),
    Doing.LAUNCHING: (Row.LAUNCH, Detail.IN_LAUNCH_CALL),
    Doing.WAITING: (Row.SYNC, Detail.IN_WAIT),
    Doing.FREEING: (Row.MEMORY, Detail.FREEING),
    Doing.ALLOCATING: (Row.MEMORY, Detail.ALLOCATING),
    Doing.SETTING_UP: (Row.SETUP, Detail.SETTING_UP),
    Doing.PROFILED: (Row.PROFILER, Detail.PROFILER_AT_WORK),
    Doing.SUBMITTED: (Row.LAUNCH, Detail.LAUNCH_LATENCY),
    Doing.QUEUED: (Row.LAUNCH, Detail.DEVICE_GAP),
}
_ROW_OF_DOING = np.array([ROW_CODE[_BOOKED[d][0]] for d in Doing], dtype=np.int8)
_DETAIL_OF_DOING = np.array([_BOOKED[d][1] for d in Doing], dtype=np.int8)

NOTHING = -1
_COLUMNS = ("start_ns", "end_ns", "row", "detail", "launch", "wait")


@dataclass(frozen=True, eq=False)
class Ledger:
    """The account of every device over one window.

    Attributes:
        window: The analysed time.
        devices: Sums by row, one per device.
        segments: The account itself: ``device``, ``start_ns``, ``end_ns``, ``row`` (place in
            ``ROWS``), ``detail`` (``Detail``), ``launch`` (row in ``Facts.launches`` of the
            operation that ended the gap, -1 while busy) and ``wait`` (row in ``Facts.api`` of the
            blocking call it is booked to, else -1). Per device, sorted, without hole or overlap.
        device_gap_ns: Per device, the ordinary pause between two launches.
    """

    window: Window
    devices: tuple[DeviceLedger, ...]
    segments: pd.DataFrame
    device_gap_ns: tuple[int, ...]

    @property
    def duration_ns(self) -> int:
        """Device time that is accounted for: the window's length times the devices."""
        return sum(d.duration_ns for d in self.devices)

    def total_ns(self, row: Row) -> int:
        """Sum of one row over all devices."""
        return sum(d.rows[row] for d in self.devices)

    def is_notable(self, lost_ns: int) -> bool:
        """Tell whether a loss is worth a finding."""
        return lost_ns > 0 and lost_ns >= NOTABLE_SHARE * self.duration_ns

    def share(self, ns: int) -> str:
        """Write ``ns`` as a part of the account, for a sentence."""
        return f"{share_text(ns, self.duration_ns)} of the window"

    def of(self, row: Row, *details: Detail) -> pd.DataFrame:
        """Return the segments of a row (and of these details, when given) with ``ns`` added."""
        chosen = (self.segments["row"] == ROW_CODE[row]).to_numpy()
        if details:
            chosen &= np.isin(self.segments["detail"].to_numpy(), details)
        segments = self.segments[chosen]
        return segments.assign(ns=segments["end_ns"] - segments["start_ns"])


def build_ledger(facts: Facts, window: Window) -> Ledger:
    """Book every nanosecond of ``window`` on every device to one row."""
    parts, device_gaps = [], []
    for key in range(len(facts.devices)):
        segments, device_gap_ns = _device_segments(facts, key, window)
        parts.append(_clipped(segments, window).assign(device=np.int16(key)))
        device_gaps.append(device_gap_ns)
    segments = pd.concat(parts, ignore_index=True) if parts else _as_frame([])
    devices = tuple(_sums(facts, key, segments, window) for key in range(len(facts.devices)))
    return Ledger(window, devices, segments, tuple(device_gaps))


def _sums(facts: Facts, key: int, segments: pd.DataFrame, window: Window) -> DeviceLedger:
    mine = segments[(segments["device"] == key).to_numpy()]
    length = (mine["end_ns"] - mine["start_ns"]).to_numpy()
    code, detail = mine["row"].to_numpy(), mine["detail"].to_numpy()
    rows = {row: int(length[code == ROW_CODE[row]].sum()) for row in ROWS}
    lost = length[code == ROW_CODE[Row.UNEXPLAINED]]
    why = detail[code == ROW_CODE[Row.UNEXPLAINED]]
    process = int(facts.devices["process"].iloc[key])
    return DeviceLedger(
        key=key,
        device=int(facts.devices["device"].iloc[key]),
        process=process & 0xFFFFFF if process >= 0 else process,
        name=str(facts.devices["name"].iloc[key]),
        duration_ns=window.duration_ns,
        busy_ns=sum(rows[r] for r in BUSY_ROWS),
        rows=rows,
        unexplained={DETAILS[w]: int(lost[why == w].sum()) for w in np.unique(why)},
    )


def _clipped(segments: pd.DataFrame, window: Window) -> pd.DataFrame:
    inside = (segments["end_ns"] > window.start_ns) & (segments["start_ns"] < window.end_ns)
    segments = segments[inside.to_numpy()]
    return segments.assign(
        start_ns=segments["start_ns"].clip(lower=window.start_ns),
        end_ns=segments["end_ns"].clip(upper=window.end_ns),
    )


def _device_segments(facts: Facts, key: int, window: Window) -> tuple[pd.DataFrame, int]:
    """Return one device's account from the window's begin or its first launch to the end."""
    rows = np.flatnonzero((facts.launches["device"] == key).to_numpy())
    start = facts.launches["start_ns"].to_numpy()[rows]
    end = facts.launches["end_ns"].to_numpy()[rows]
    busy, pieces = _busy(facts, rows)
    low, high = window.start_ns, window.end_ns
    if len(rows):
        low, high = min(low, int(start[0])), max(high, int(end.max()))
    idle = gaps(busy, low, high)
    ender = np.searchsorted(start, idle.end, side="left")
    ends = ender < len(rows)
    ended = _Gaps(idle.start[ends], idle.end[ends], rows[ender[ends]], facts)
    device_gap_ns = _ordinary_gap_ns(facts, rows, ended)
    unended = Spans(idle.start[~ends], idle.end[~ends])
    pieces.append(_plain(unended, Row.HOST, Detail.NO_MORE_WORK))
    pieces.extend(_unexplained(facts, ended))
    pieces.extend(_queued_before(ended, device_gap_ns))
    pieces.extend(_launched_inside(facts, ended))
    return _as_frame(pieces).sort_values("start_ns", kind="stable", ignore_index=True), device_gap_ns


def _busy(facts: Facts, rows: Array) -> tuple[Spans, list[dict[str, Array]]]:
    """Return when anything runs, and the busy rows of the account."""
    kind = facts.launches["kind"].to_numpy()[rows]
    start = facts.launches["start_ns"].to_numpy()[rows]
    end = facts.launches["end_ns"].to_numpy()[rows]
    covered = union(start[:0], end[:0])
    pieces = []
    for row, kinds in (
        (Row.KERNEL, (KERNEL, GRAPH)),
        (Row.COMMUNICATION, (COMMUNICATION,)),
        (Row.TRANSFER, (COPY, MEMSET)),
    ):
        chosen = np.isin(kind, kinds)
        alone = subtract(union(start[chosen], end[chosen]), covered)
        pieces.append(_plain(alone, row, Detail.NONE))
        covered = union(
            np.concatenate((covered.start, alone.start)), np.concatenate((covered.end, alone.end))
        )
    return covered, pieces


class _Gaps:
    """Idle stretches of a device, each with the launch that ends it and its API call."""

    def __init__(self, start: Array, end: Array, launch: Array, facts: Facts) -> None:
        self.start, self.end, self.launch = start, end, launch
        self.api_row = facts.launches["api_row"].to_numpy()[launch]
        # A call that seems to begin after its own kernel (clock skew) is taken to begin with it.
        self.call_start = np.minimum(facts.api_start_ns[launch], end)
        self.call_end = np.clip(facts.api_end_ns[launch], self.call_start, end)
        self.thread = facts.thread[launch]
        self.is_blocking_copy = np.zeros(len(launch), dtype=bool)
        if len(facts.api):
            call = facts.api_call[np.maximum(self.api_row, 0)]
            self.is_blocking_copy = (call == Call.COPY) & (self.api_row >= 0)

    def __len__(self) -> int:
        return len(self.start)

    @property
    def has_call(self) -> Array:
        known: Array = self.api_row >= 0
        return known

    @property
    def was_submitted(self) -> Array:
        """Where the launch call had begun before the device ran dry."""
        submitted: Array = self.has_call & (self.call_start <= self.start)
        return submitted


def _ordinary_gap_ns(facts: Facts, rows: Array, ended: _Gaps) -> int:
    """Return the pause this device needs between two launches of one stream.

    It is read off the gaps in which the next kernel was already queued on the same stream.
    """
    if not len(ended):
        return DEVICE_GAP_MAX_NS
    queued = ended.was_submitted & (ended.call_end <= ended.start)
    length = ended.end - ended.start
    queued &= length <= DEVICE_GAP_MAX_NS
    end = facts.launches["end_ns"].to_numpy()[rows]
    stream = facts.launches["stream"].to_numpy()
    reach = np.maximum.accumulate(end)
    holder = np.maximum.accumulate(np.where(end == reach, np.arange(len(rows)), 0))
    place = np.searchsorted(rows, ended.launch)
    before = rows[holder[np.maximum(place - 1, 0)]]
    queued &= stream[before] == stream[ended.launch]
    if np.count_nonzero(queued) < MIN_GAPS_TO_MEASURE:
        return DEVICE_GAP_MAX_NS
    return int(np.quantile(length[queued], DEVICE_GAP_QUANTILE))


def _unexplained(facts: Facts, ended: _Gaps) -> list[dict[str, Array]]:
    without = np.flatnonzero(~ended.has_call)
    if not len(without):
        return []
    launch = ended.launch[without]
    detail = np.full(len(without), Detail.NO_API_CALL, np.int8)
    if not len(facts.api):
        detail[:] = Detail.NO_API_RECORDED
    managed = np.zeros(len(without), dtype=bool)
    copies = facts.launches["kind"].to_numpy()[launch] == COPY
    if copies.any():
        kind = facts.trace.columns("copies", ["kind"])["kind"]
        source = facts.launches["source_row"].to_numpy()[launch[copies]]
        managed[copies] = np.isin(kind[source], MANAGED_COPIES)
    detail[managed] = Detail.MANAGED_MEMORY
    row = np.full(len(without), ROW_CODE[Row.UNEXPLAINED], np.int8)
    return [_piece(ended.start[without], ended.end[without], row, detail, launch)]


def _queued_before(ended: _Gaps, device_gap_ns: int) -> list[dict[str, Array]]:
    """Book the gaps whose launch call had begun before them."""
    submitted = ended.was_submitted
    copies = submitted & ended.is_blocking_copy
    plain = submitted & ~copies
    start, end, launch = ended.start[plain], ended.end[plain], ended.launch[plain]
    returned = np.maximum(ended.call_end[plain], start)
    # A copy call that keeps the host waiting does not return early: what it spends beyond the
    # device's own pause is staging of pageable memory.
    staged = np.maximum(ended.end[copies] - device_gap_ns, ended.start[copies])
    sync = np.full(len(staged), ROW_CODE[Row.SYNC], np.int8)
    in_wait = np.full(len(staged), Detail.IN_WAIT, np.int8)
    held, call = ended.launch[copies], ended.api_row[copies]
    return [
        _booked(start, returned, Doing.LAUNCHING, launch),
        *_after_return(returned, end, Doing.QUEUED, device_gap_ns, launch),
        _piece(ended.start[copies], staged, sync, in_wait, held, call),
        _booked(staged, ended.end[copies], Doing.QUEUED, held),
    ]


def _after_return(
    returned: Array, end: Array, doing: Doing, limit_ns: int, launch: Array
) -> list[dict[str, Array]]:
    """Book the time after a launch call's return: the device's own pause last, waiting before."""
    begins = np.maximum(end - limit_ns, returned)
    waits = _piece(
        returned,
        begins,
        np.full(len(launch), ROW_CODE[Row.DEPENDENCY], np.int8),
        np.full(len(launch), Detail.OTHER_STREAM, np.int8),
        launch,
    )
    return [waits, _booked(begins, end, doing, launch)]


def _launched_inside(facts: Facts, ended: _Gaps) -> list[dict[str, Array]]:
    """Book the gaps in which the launch call began: follow the thread through each."""
    chosen = np.flatnonzero(ended.has_call & ~ended.was_submitted)
    if not len(chosen):
        return []
    walk = _walk(facts, ended, chosen)
    first = walk.groupby("gap", sort=False)["blocked_ns"].transform("sum").to_numpy()
    with_wait = walk[first > 0]
    pieces = _unhidden(with_wait, ended) if len(with_wait) else []
    rest = walk[first == 0]
    return pieces + _by_doing(rest, ended)


def _walk(facts: Facts, ended: _Gaps, chosen: Array) -> pd.DataFrame:
    """Return what the launching thread did in each gap, piece by piece.

    Columns: ``gap``, ``start_ns``, ``end_ns``, ``doing``, ``wait`` (row in ``api``, else -1) and
    ``blocked_ns``: how long the thread was kept from working by the wait this piece belongs to.
    """
    parts = []
    for thread in np.unique(ended.thread[chosen]):
        mine = chosen[ended.thread[chosen] == thread]
        queries = Spans(ended.start[mine], ended.call_start[mine])
        line = host_timeline(facts, int(thread), queries)
        parts.append(_pieces_of(line, queries, mine))
    called, returned = ended.call_start[chosen], ended.call_end[chosen]
    # A copy that keeps the host waiting also keeps it while it stages pageable memory.
    row, copies = ended.api_row[chosen], ended.is_blocking_copy[chosen]
    doing = doing_in_calls(facts, row)
    parts.append(_frame(chosen, called, returned, doing, np.where(copies, row, NOTHING)))
    submitted = np.full(len(chosen), Doing.SUBMITTED, np.int8)
    none = np.full(len(chosen), NOTHING)
    parts.append(_frame(chosen, returned, ended.end[chosen], submitted, none))
    walk = pd.concat(parts, ignore_index=True)
    return walk.sort_values(["gap", "start_ns"], kind="stable", ignore_index=True)


def _pieces_of(line: HostTimeline, queries: Spans, gap: Array) -> pd.DataFrame:
    query, part, start, end = overlaps(queries, line.parts)
    doing = line.doing[part]
    waiting = (doing == Doing.WAITING) | (doing == Doing.FREEING)
    wait = np.full(len(start), NOTHING, np.int64)
    blocked = np.zeros(len(start), np.int64)
    if waiting.any():
        place = np.searchsorted(line.waits.start, start[waiting], side="right") - 1
        wait[waiting] = line.wait_api_row[place]
        before = np.maximum(queries.start[query[waiting]] - line.waits.start[place], 0)
        at_begin = start[waiting] == queries.start[query[waiting]]
        # Giving memory back is work once the device is idle; until then it is a wait.
        inside = np.where(doing[waiting] == Doing.WAITING, (end - start)[waiting], 0)
        blocked[waiting] = np.where(at_begin, before, 0) + inside
    return pd.DataFrame(
        {
            "gap": gap[query],
            "start_ns": start,
            "end_ns": end,
            "doing": doing,
            "wait": wait,
            "blocked_ns": blocked,
        }
    )


def _frame(gap: Array, start: Array, end: Array, doing: Array, wait: Array) -> pd.DataFrame:
    solid = end > start
    return pd.DataFrame(
        {
            "gap": gap[solid],
            "start_ns": start[solid],
            "end_ns": end[solid],
            "doing": doing[solid],
            "wait": wait[solid].astype(np.int64),
            "blocked_ns": np.int64(0),
        }
    )


def _unhidden(walk: pd.DataFrame, ended: _Gaps) -> list[dict[str, Array]]:
    """Book gaps with waits: work after a wait that the wait could have hidden counts for it."""
    hidden = _hidden_ns(walk, ended)
    start, end = walk["start_ns"].to_numpy(), walk["end_ns"].to_numpy()
    gap, doing = walk["gap"].to_numpy(), walk["doing"].to_numpy()
    own = walk["wait"].to_numpy()
    # The wait that hid this work is the last one before it in the same gap.
    place = np.maximum.accumulate(np.where(own >= 0, np.arange(len(own)), 0))
    wait = own[place]
    row = np.full(len(walk), ROW_CODE[Row.SYNC], np.int8)
    detail = np.full(len(walk), Detail.REFILL, np.int8)
    refilled = _piece(start, start + hidden, row, detail, ended.launch[gap], wait)
    rest = walk.assign(start_ns=start + hidden)
    rest["wait"] = np.where(doing == Doing.WAITING, own, NOTHING)
    return [refilled, *_by_doing(rest, ended)]


def _hidden_ns(walk: pd.DataFrame, ended: _Gaps) -> Array:
    """Return how much of each piece would have been hidden had its thread not been blocked.

    Going through a gap, blocked time is saved up and work spends it. The balance never falls
    below zero, so it is a running sum less its running minimum; each gap gets a level of its own,
    below all before it, which restarts the minimum without a loop over gaps.
    """
    gap = walk["gap"].to_numpy()
    length = (walk["end_ns"] - walk["start_ns"]).to_numpy()
    idle = (ended.end - ended.start)[gap]
    works = walk["doing"].to_numpy() != Doing.WAITING
    saved = np.minimum(walk["blocked_ns"].to_numpy(), idle)  # more can never be spent
    change = saved - np.where(works, length, 0)
    first = np.concatenate(([True], gap[1:] != gap[:-1]))
    total = np.cumsum(change)
    before_gap = (total - change)[first][np.cumsum(first) - 1]
    before = np.concatenate(([0], idle[:-1]))
    level = -np.cumsum(np.where(first, 8 * (idle + before) + 1, 0))
    balance_after = _balance(total - before_gap, level, first)
    balance_before = np.where(first, 0, np.concatenate(([0], balance_after[:-1])))
    spent: Array = np.minimum(np.where(works, length, 0), balance_before + saved)
    return spent


def _balance(running: Array, level: Array, first: Array) -> Array:
    """Return ``running`` less its minimum (at most 0) since the last row marked ``first``."""
    # A zero before each gap's first row makes the minimum at most zero.
    lowest = np.where(first, np.minimum(running, 0), running) + level
    minimum = np.minimum.accumulate(lowest) - level
    balance: Array = running - np.minimum(minimum, 0)
    return balance


def _by_doing(walk: pd.DataFrame, ended: _Gaps) -> list[dict[str, Array]]:
    """Book each piece to what the thread was doing."""
    start, end = walk["start_ns"].to_numpy(), walk["end_ns"].to_numpy()
    gap, doing = walk["gap"].to_numpy(), walk["doing"].to_numpy()
    launch, wait = ended.launch[gap], walk["wait"].to_numpy()
    submitted = doing == Doing.SUBMITTED
    called = ~submitted
    wait = np.where(doing == Doing.WAITING, wait, NOTHING)
    return [
        _piece(
            start[called],
            end[called],
            _ROW_OF_DOING[doing[called]],
            _DETAIL_OF_DOING[doing[called]],
            launch[called],
            wait[called],
        ),
        *_after_return(
            start[submitted], end[submitted], Doing.SUBMITTED, DEVICE_GAP_MAX_NS, launch[submitted]
        ),
    ]


def _booked(start: Array, end: Array, doing: Doing, launch: Array) -> dict[str, Array]:
    row = np.full(len(start), _ROW_OF_DOING[doing], np.int8)
    return _piece(start, end, row, np.full(len(start), _DETAIL_OF_DOING[doing], np.int8), launch)


def _plain(spans: Spans, row: Row, detail: Detail) -> dict[str, Array]:
    size = len(spans.start)
    return _piece(
        spans.start,
        spans.end,
        np.full(size, ROW_CODE[row], np.int8),
        np.full(size, detail, np.int8),
        np.full(size, NOTHING, np.int64),
    )


def _piece(
    start: Array, end: Array, row: Array, detail: Array, launch: Array, wait: Array | None = None
) -> dict[str, Array]:
    solid = end > start
    wait = np.full(len(start), NOTHING, np.int64) if wait is None else wait
    values = (start, end, row, detail, launch.astype(np.int32), wait.astype(np.int32))
    return {name: value[solid] for name, value in zip(_COLUMNS, values, strict=True)}


def _as_frame(pieces: list[dict[str, Array]]) -> pd.DataFrame:
    if not pieces:
        pieces = [_plain(union(np.empty(0, np.int64), np.empty(0, np.int64)), Row.HOST, Detail.NONE)]
    return pd.DataFrame({c: np.concatenate([p[c] for p in pieces]) for c in _COLUMNS})
