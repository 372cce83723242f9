"""The ledger's lossy rows, split into the patterns that the rules report.

Two rules of one cause must never claim the same time, so the split is made here, once, and each
rule takes its part: launch gaps by what ended them, waits by the call that blocked, transfers by
the memory they touched.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import COPY, GRAPH, KERNEL, UNKNOWN, Facts, innermost
from analyzers.facts.operators import on_thread, operator_text
from analyzers.finding import Evidence, Row
from analyzers.intervals import Array, Spans, by_key, covered, intersect, overlaps, subtract, union
from analyzers.ledger.gaps import DEVICE_GAP_MAX_NS
from analyzers.ledger.host_timeline import DISPATCH_MAX_NS
from analyzers.ledger.ledger import Detail, Ledger
from analyzers.words import name_text, size_text, time_text
from collectors.schema import MANAGED_COPIES, CopyKind, MemoryKind

SEQUENCE_LAUNCHES = 8  # this many equal names in a row are no coincidence
SMALL_KERNEL_NS = DISPATCH_MAX_NS  # what takes longer is not too small for any ordinary launch
MIN_PERIOD = 5  # a shorter cycle is one operation repeated: fusing it beats a graph of it
MIN_REPETITIONS = 3
READBACK_MAX_BYTES = 1_024  # a few numbers for the host to look at, not data to work on
READBACK_LOOK_BACK = 3  # API calls between the copy and the wait; frameworks query in between
SMALL_COPY_BYTES = 65_536  # moved in about 3 µs at 25 GB/s: as long as the copy takes to start
EVIDENCE_GAPS = 3
_WORK = (Call.LAUNCH, Call.WAIT, Call.POLL, Call.COPY, Call.FREE)  # a read-back is over before
MEMSET_KIND = -2  # stands where a copy has its CopyKind, or -1 for an unknown one


class LaunchPattern(enum.IntEnum):
    """Why the device waited for a launch."""

    LATE_HOST = 0  # the host came late, for a kernel that ran longer, a copy, a memset or a graph
    SMALL_KERNEL = 1  # a small kernel ran shorter than the device had waited for its launch
    REPEATED_SEQUENCE = 2  # it ran shorter, and belongs to a sequence that repeats
    DEVICE_GAP = 3  # the host was in time: the device itself pauses between operations


class WaitPattern(enum.IntEnum):
    """What kept the host from working."""

    SYNCHRONISE = 0
    BLOCKING_COPY = 1
    READBACK = 2
    IMPLICIT = 3  # a call that does not say so in its name


class TransferPattern(enum.IntEnum):
    """What was moved while nothing else ran."""

    OTHER = 0
    MANAGED = 1
    PAGEABLE = 2
    SMALL = 3


def gpus(ledger: Ledger) -> str:
    """Return the noun for what a ledger accounts for."""
    return "GPU" if len(ledger.devices) <= 1 else "GPUs"


def launch_losses(facts: Facts, ledger: Ledger, pattern: LaunchPattern) -> pd.DataFrame:
    """Return the segments of the row ``launch`` that follow ``pattern``.

    The column ``period`` tells after how many launches the surroundings repeat, 0 for never;
    ``waited_ns`` how long the device waited for this launch inside the window, under the patterns
    of the host and under that of the device each on its own; ``inside_graph`` whether the launch
    is a node of a CUDA graph, but not its first.
    """
    segments = _launch_segments(facts, ledger)
    return segments[segments["pattern"] == pattern]


@functools.lru_cache(maxsize=2)
def _launch_segments(facts: Facts, ledger: Ledger) -> pd.DataFrame:
    segments = ledger.of(Row.LAUNCH)
    launch, ns = segments["launch"].to_numpy(), segments["ns"].to_numpy()
    graph, later_node = _graph_nodes(facts)
    ran_dry_ns = facts.launches["start_ns"].to_numpy() - facts.idle_before_ns
    queued = (facts.api_end_ns <= ran_dry_ns)[launch]
    by_device = (segments["detail"].to_numpy() == Detail.DEVICE_GAP) & queued
    # The call may still run while its nodes begin; a long pause between them is the call's.
    by_device |= later_node[launch] & (facts.idle_before_ns[launch] <= DEVICE_GAP_MAX_NS)
    waited_ns = np.zeros(len(segments), np.int64)
    for part in (by_device, ~by_device):
        waited_ns[part] = np.bincount(launch[part], ns[part])[launch[part]]
    kernel = (facts.launches["kind"].to_numpy() == KERNEL) & ~graph
    short = kernel[launch] & (facts.duration_ns[launch] < np.minimum(waited_ns, SMALL_KERNEL_NS))
    period = _periods(facts, kernel)[launch]
    pattern = np.where(short, LaunchPattern.SMALL_KERNEL, LaunchPattern.LATE_HOST)
    pattern[short & (period >= MIN_PERIOD)] = LaunchPattern.REPEATED_SEQUENCE
    pattern[by_device] = LaunchPattern.DEVICE_GAP
    inside_graph = later_node[launch]
    return segments.assign(
        pattern=pattern, period=period, waited_ns=waited_ns, inside_graph=inside_graph
    )


def _graph_nodes(facts: Facts) -> tuple[Array, Array]:
    """Return which launches a CUDA graph made, and which of them are not the first of theirs."""
    by_graph = np.array(["GraphLaunch" in str(name) for name in facts.functions], dtype=bool)
    graph = np.zeros(len(facts.launches), dtype=bool)
    api_row = facts.launches["api_row"].to_numpy()
    if by_graph.any():
        called = api_row >= 0
        graph[called] = by_graph[facts.api["name"].to_numpy()[api_row[called]]]
    for table in ("kernels", "copies", "memsets"):
        node = facts.of_table(table, ["graph_node"])
        graph[node.index[(node["graph_node"] >= 0).to_numpy()]] = True
    later = np.zeros(len(graph), dtype=bool)
    nodes = np.flatnonzero(graph & (api_row >= 0))
    later[nodes] = facts.launches.loc[nodes, ["device", "api_row"]].duplicated()
    return graph, later


def _periods(facts: Facts, kernels: Array) -> Array:
    """Return, for each launch, after how many launches its surroundings repeat; 0 for never.

    Args:
        facts: The recording.
        kernels: Which launches may belong to a sequence.
    """
    period = np.zeros(len(facts.launches), np.int64)
    for key in range(len(facts.devices)):
        rows = np.flatnonzero(kernels & (facts.launches["device"] == key).to_numpy())
        if len(rows) >= SEQUENCE_LAUNCHES * MIN_REPETITIONS:
            names = pd.factorize(facts.launches["name_id"].to_numpy()[rows])[0]
            period[rows] = _sequence_periods(names)
    return period


def _sequence_periods(names: Array) -> Array:
    """Return the period at each place of a sequence of small numbers."""
    size = len(names) - SEQUENCE_LAUNCHES + 1
    window = np.zeros(size, np.uint64)
    for step in range(SEQUENCE_LAUNCHES):  # a polynomial hash; 64 bits of wrapping are meant
        window = window * np.uint64(0x9E3779B97F4A7C15) + names[step : step + size].astype(
            np.uint64
        )
    codes, _ = pd.factorize(window)
    count = np.bincount(codes)[codes]
    order = np.argsort(codes, kind="stable")
    distance = np.zeros(size, np.int64)
    same = codes[order][1:] == codes[order][:-1]
    distance[order[1:][same]] = np.diff(order)[same]
    # The first occurrence has nothing before it: it takes its distance from the second.
    first = np.flatnonzero(np.concatenate(([True], ~same)) & np.concatenate((same, [False])))
    distance[order[first]] = distance[order[first + 1]]
    distance[count < MIN_REPETITIONS] = 0
    period = np.zeros(len(names), np.int64)
    for step in range(SEQUENCE_LAUNCHES):
        part = period[step : step + size]
        np.maximum(part, distance, out=part)
    return period


@dataclass(frozen=True, kw_only=True)
class WaitLoss:
    """Idle time booked to waits of one pattern.

    Attributes:
        lost_ns: The time, over all devices.
        refill_ns: The part of it in which the host was filling the queue again.
        count: Blocking calls concerned.
        functions: Their names, for a sentence.
        evidence: What to look at.
    """

    lost_ns: int
    refill_ns: int
    count: int
    functions: str
    evidence: tuple[Evidence, ...]


def left_idle(loss: WaitLoss, ledger: Ledger, whom: str = "") -> str:
    """Say what waits cost, after "the host waited and": ``left the GPU idle for …``.

    Args:
        loss: The loss.
        ledger: The account.
        whom: Word for the GPUs, when the sentence has named them before.
    """
    refill = f", {time_text(loss.refill_ns)} of it after the call, until the next work began"
    return (
        f"left {whom or f'the {gpus(ledger)}'} idle for {time_text(loss.lost_ns)} "
        f"({ledger.share(loss.lost_ns)}){refill if loss.refill_ns else ''}"
    )


def wait_losses(facts: Facts, ledger: Ledger, pattern: WaitPattern) -> WaitLoss:
    """Return the part of the row ``sync`` that follows ``pattern``."""
    segments = _wait_segments(facts, ledger)
    segments = segments[segments["pattern"] == pattern]
    waits = np.unique(segments["wait"])
    lost_ns = int(segments["ns"].sum())
    refill = segments["detail"] == Detail.REFILL
    refill_ns = int(segments["ns"][refill].sum())
    evidence = (
        Evidence(name="calls concerned", value=len(waits), unit="count"),
        Evidence(name="idle inside the calls", value=lost_ns - refill_ns, unit="ns"),
        Evidence(name="idle after the calls, before the next work", value=refill_ns, unit="ns"),
        *largest_gaps(facts, segments, "idle before"),
    )
    return WaitLoss(
        lost_ns=lost_ns,
        refill_ns=refill_ns,
        count=len(waits),
        functions=facts.call_names(waits),
        evidence=evidence,
    )


@functools.lru_cache(maxsize=2)
def _wait_segments(facts: Facts, ledger: Ledger) -> pd.DataFrame:
    segments = ledger.of(Row.SYNC)
    waits, places = np.unique(segments["wait"].to_numpy(), return_inverse=True)
    call = facts.api_call[waits] if len(waits) else np.empty(0, np.int8)
    pattern = np.full(len(waits), WaitPattern.IMPLICIT)
    pattern[np.isin(call, (Call.WAIT, Call.POLL))] = WaitPattern.SYNCHRONISE
    pattern[call == Call.COPY] = WaitPattern.BLOCKING_COPY
    pattern[_reads_back(facts, waits)] = WaitPattern.READBACK
    return segments.assign(pattern=pattern[places])


def _reads_back(facts: Facts, waits: Array) -> Array:
    """Return which waits fetch a few bytes: a small copy to the host, or a wait right after one.

    Only calls that ask or set something may stand between the copy and its wait.
    """
    copies = facts.of_table("copies", ["kind", "bytes"])
    small = copies["kind"] == CopyKind.DEVICE_TO_HOST
    small &= copies["bytes"].between(0, READBACK_MAX_BYTES)  # -1 is an unknown size
    calls = facts.launches["api_row"].to_numpy()[copies.index[small.to_numpy()]]
    small_calls = np.unique(calls[calls >= 0])
    result = np.isin(waits, small_calls)
    if not len(waits) or not len(small_calls):
        return result
    order, bounds = facts.call_order
    start = facts.api["start_ns"].to_numpy()
    for place, of_thread in by_key(facts.api["thread"].to_numpy()[waits], np.arange(len(waits))):
        rows = order[bounds[place] : bounds[place + 1]]
        is_small = np.isin(rows, small_calls)
        is_other_work = ~is_small & np.isin(facts.api_call[rows], _WORK)
        position = np.searchsorted(start[rows], start[waits[of_thread]], side="left")
        near = np.ones(len(of_thread), dtype=bool)
        for back in range(1, READBACK_LOOK_BACK + 1):
            before = np.maximum(position - back, 0)
            near &= (position >= back) & ~is_other_work[before]
            result[of_thread] |= near & is_small[before]
            near &= ~is_small[before]
    return result


@dataclass(frozen=True, kw_only=True)
class TransferLoss:
    """Time in which operations of one pattern ran, and those operations.

    Attributes:
        spans: The time, by device.
        operations: The copies and memsets that ran in it: ``device``, ``start_ns``, ``end_ns``,
            ``kind`` (``CopyKind`` or ``MEMSET_KIND``), ``bytes``, ``source_kind``,
            ``destination_kind``, and ``inside_ns``: how long in it. An operation may reach beyond
            it.
    """

    spans: dict[int, Spans]
    operations: pd.DataFrame

    @property
    def ns(self) -> int:
        """The time, over all devices."""
        return sum(spans.total for spans in self.spans.values())

    @property
    def size_bytes(self) -> int:
        """Bytes moved in that time: of each operation in proportion, if its size was recorded."""
        whole_ns = (self.operations["end_ns"] - self.operations["start_ns"]).to_numpy()
        part = self.operations["inside_ns"].to_numpy() / np.maximum(whole_ns, 1)
        return round(float((self.operations["bytes"].clip(lower=0) * part).sum()))

    @property
    def bytes_per_s(self) -> float:
        """Bytes moved in that time, per second of it; 0 without time."""
        return self.size_bytes / self.ns * 1e9 if self.ns else 0.0

    @property
    def main_kind(self) -> int:
        """The kind of operation that took most of the time; ``MEMSET_KIND`` without any."""
        ns = self.operations["inside_ns"].groupby(self.operations["kind"]).sum()
        return int(str(ns.idxmax())) if len(ns) else MEMSET_KIND

    def of_kind(self, kind: int) -> TransferLoss:
        """Return the part of the time in which operations of one kind ran, and those."""
        return ran_in(self.spans, self.operations[self.operations["kind"] == kind])


def direction_text(kind: int) -> str:
    """Write the kind of a transfer for a sentence."""
    if kind == MEMSET_KIND:
        return "memsets"
    has_name = kind in set(CopyKind)
    return CopyKind(kind).name.replace("_", " ").lower() if has_name else f"direction {kind}"


# Time in which several ran counts for the first: the larger operation is what takes the time.
_TRANSFER_ORDER = (
    TransferPattern.MANAGED,
    TransferPattern.PAGEABLE,
    TransferPattern.OTHER,
    TransferPattern.SMALL,
)


@functools.lru_cache(maxsize=2)
def transfer_losses(facts: Facts, ledger: Ledger) -> dict[TransferPattern, TransferLoss]:
    """Return the row ``transfer`` by pattern; time shared by two patterns counts once."""
    operations = transfers(facts, ledger)
    pattern = _transfer_patterns(operations)
    free = spans_of(ledger, Row.TRANSFER)
    losses = {}
    for each in _TRANSFER_ORDER:
        losses[each] = ran_in(free, operations[pattern == each])
        free = {key: subtract(free[key], losses[each].spans[key]) for key in free}
    return losses


def transfers(facts: Facts, ledger: Ledger) -> pd.DataFrame:
    """Return the copies and memsets of the window."""
    of_copies = ["source_kind", "destination_kind", "migration_cause"]
    copies = facts.of_table("copies", ["kind", "bytes", *of_copies])
    sets = facts.of_table("memsets", ["bytes"]).assign(
        kind=np.int8(MEMSET_KIND), **dict.fromkeys(of_copies, np.int8(UNKNOWN))
    )
    rows = pd.concat([copies, sets])
    places = facts.launches.loc[rows.index, ["device", "start_ns", "end_ns"]]
    inside = (places["end_ns"] > ledger.window.start_ns) & (
        places["start_ns"] < ledger.window.end_ns
    )
    return pd.concat([places, rows], axis=1)[inside]


def ran_in(spans: dict[int, Spans], operations: pd.DataFrame) -> TransferLoss:
    """Return the part of ``spans`` in which the operations ran, and those that ran in it."""
    device = operations["device"].to_numpy()
    start, end = operations["start_ns"].to_numpy(), operations["end_ns"].to_numpy()
    inside_ns = np.zeros(len(operations), np.int64)
    parts = {}
    for key, free in spans.items():
        on_device = device == key
        parts[key] = intersect(free, union(start[on_device], end[on_device]))
        inside_ns[on_device] = covered(Spans(start[on_device], end[on_device]), parts[key])
    return TransferLoss(
        spans=parts, operations=operations.assign(inside_ns=inside_ns)[inside_ns > 0]
    )


def spans_of(ledger: Ledger, row: Row) -> dict[int, Spans]:
    """Return the time booked to a row, by device."""
    segments = ledger.of(row)
    return {key: _spans(segments, key) for key in range(len(ledger.devices))}


def _spans(segments: pd.DataFrame, key: int) -> Spans:
    of_device = segments[(segments["device"] == key).to_numpy()]
    return union(of_device["start_ns"].to_numpy(), of_device["end_ns"].to_numpy())


def _transfer_patterns(copies: pd.DataFrame) -> Array:
    kind = copies["kind"].to_numpy()
    pattern = np.full(len(copies), TransferPattern.OTHER)
    with_host = np.isin(kind, (CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST))
    host_side = np.where(
        kind == CopyKind.HOST_TO_DEVICE, copies["source_kind"], copies["destination_kind"]
    )
    size = copies["bytes"].to_numpy()
    pattern[with_host & (size >= 0) & (size <= SMALL_COPY_BYTES)] = TransferPattern.SMALL
    large = with_host & (size > SMALL_COPY_BYTES)
    pattern[large & (host_side == MemoryKind.PAGEABLE)] = TransferPattern.PAGEABLE
    pattern[np.isin(kind, MANAGED_COPIES)] = TransferPattern.MANAGED
    return pattern


def copy_evidence(loss: TransferLoss, what: str = "time without a kernel") -> tuple[Evidence, ...]:
    """Return the operations that took most of the time of a loss.

    Args:
        loss: The loss.
        what: Words for the time; the operation's name comes before.
    """
    columns = ["device", "start_ns", "end_ns", "kind", "bytes", "inside_ns"]
    return tuple(
        Evidence(
            name=f"{_noun(kind)} of {size_text(max(size, 0))}, {what}",
            value=float(ns),
            unit="ns",
            start_ns=int(start),
            end_ns=int(end),
            device=int(device),
        )
        for device, start, end, kind, size, ns in loss.operations.nlargest(
            EVIDENCE_GAPS, "inside_ns"
        )[columns].itertuples(index=False)
    )


def _noun(kind: int) -> str:
    if kind == MEMSET_KIND:
        return "memset"
    return "migration" if kind in MANAGED_COPIES else "copy"


def largest_launches(facts: Facts, rows: Array, ns: Array) -> tuple[Evidence, ...]:
    """Return the launches that count most as evidence.

    Args:
        facts: The recording.
        rows: Rows in ``Facts.launches``.
        ns: For how long each of them counts.
    """
    order = np.argsort(-ns, kind="stable")[:EVIDENCE_GAPS]
    longest = rows[order]
    return tuple(
        Evidence(
            name=name,
            value=float(value),
            unit="ns",
            start_ns=int(facts.launches["start_ns"].iloc[row]),
            end_ns=int(facts.launches["end_ns"].iloc[row]),
            device=int(facts.launches["device"].iloc[row]),
        )
        for row, value, name in zip(
            longest.tolist(), ns[order], launch_names(facts, longest), strict=True
        )
    )


Named = list[tuple[str, int]]
_MOST = 0.50  # of a loss; from here on "mostly" is true


def host_activity(facts: Facts, segments: pd.DataFrame) -> tuple[Named, Named, Named]:
    """Return what the submitting threads were doing during idle time outside CUDA.

    Returns:
        Operating-system calls, ranges that the program marked, and operators of its framework
        (the innermost at each moment), each as name and nanoseconds of idle time, the largest
        first; empty when none were recorded. Like the idle time itself, they are summed over
        devices.
    """
    segments = segments[segments["launch"].to_numpy() >= 0]
    thread = facts.thread[segments["launch"].to_numpy()]
    calls: dict[int, int] = {}
    ranges: dict[int, int] = {}
    operators: dict[int, int] = {}
    os_calls = facts.trace.frame("os_calls", ["start_ns", "end_ns", "thread", "name_id"])
    for place in np.unique(thread[thread >= 0]):
        key = facts.threads[place]
        called = os_calls[(os_calls["thread"] == key).to_numpy()]
        marked = facts.ranges[(facts.ranges["thread"] == key).to_numpy()]
        for device in range(len(facts.devices)):
            idle = _spans(segments[thread == place], device)
            _add_calls(calls, idle, called)
            _add_ranges(ranges, idle, marked)
            _add_ranges(operators, idle, on_thread(facts, int(place)))
    return (
        _names_of(facts, calls, name_text),
        _names_of(facts, ranges, name_text),
        _names_of(facts, operators, operator_text),
    )


def calls_during(facts: Facts, segments: pd.DataFrame) -> Named:
    """Return the API functions in which idle time passed, as name and nanoseconds, largest first.

    The calls are those of the threads that submitted what ended the idle time. A function called
    by another one counts as well as its caller.
    """
    segments = segments[segments["launch"].to_numpy() >= 0]
    thread = facts.thread[segments["launch"].to_numpy()]
    totals: dict[int, int] = {}
    api = facts.api[["start_ns", "end_ns", "thread", "name"]].rename(columns={"name": "name_id"})
    for place in np.unique(thread[thread >= 0]):
        called = api[(api["thread"] == place).to_numpy()]
        for device in range(len(facts.devices)):
            _add_calls(totals, _spans(segments[thread == place], device), called)
    ordered = sorted((i for i in totals if totals[i] > 0), key=lambda i: -totals[i])
    return [(str(facts.functions[i]), totals[i]) for i in ordered]


def mostly(named: Named, lost_ns: int, how: str = "during") -> str:
    """Say what covered most of a loss: ``mostly during NAME (284 ms)``; empty when nothing did."""
    parts = [f"{name} ({time_text(ns)})" for name, ns in named if ns >= _MOST * lost_ns]
    return f"mostly {how} {' and '.join(parts)}" if parts else ""


def _add_calls(totals: dict[int, int], idle: Spans, calls: pd.DataFrame) -> None:
    """Add how much of ``idle`` passed in calls of each name; nested ones of one name count once."""
    during = covered(Spans(calls["start_ns"].to_numpy(), calls["end_ns"].to_numpy()), idle) > 0
    for name_id, of_name in calls[during].groupby("name_id"):
        flat = union(of_name["start_ns"].to_numpy(), of_name["end_ns"].to_numpy())
        _add(totals, name_id, intersect(idle, flat).total)


def _add_ranges(totals: dict[int, int], idle: Spans, ranges: pd.DataFrame) -> None:
    """Add how much of ``idle`` passed in ranges of each name, innermost ranges only."""
    start, end = ranges["start_ns"].to_numpy(), ranges["end_ns"].to_numpy()
    during = covered(Spans(start, end), idle) > 0
    start, end, names = start[during], end[during], ranges["name_id"].to_numpy()[during]
    borders = np.unique(np.concatenate((start, end)))
    parts = Spans(borders[:-1], borders[1:])
    inside = innermost(start, end, parts.start)
    _, part, begin, stop = overlaps(idle, parts)
    named = inside[part] >= 0
    lengths = pd.Series((stop - begin)[named])
    for name_id, ns in lengths.groupby(names[inside[part][named]]).sum().items():
        _add(totals, name_id, int(ns))


def _add(totals: dict[int, int], name_id: object, ns: int) -> None:
    key = int(str(name_id))
    totals[key] = totals.get(key, 0) + ns


def _names_of(facts: Facts, totals: dict[int, int], shorten: Callable[[str], str]) -> Named:
    ordered = sorted((i for i in totals if totals[i] > 0), key=lambda i: -totals[i])
    names = facts.trace.names(np.array(ordered, dtype=np.int64))
    return [(shorten(str(n)), totals[i]) for n, i in zip(names, ordered, strict=True)]


def largest_gaps(facts: Facts, segments: pd.DataFrame, what: str) -> tuple[Evidence, ...]:
    """Return the longest stretches of ``segments`` as evidence, one per launch that ended them.

    Args:
        facts: The recording.
        segments: Part of a ledger, with ``ns``.
        what: Words for the stretch; the launch's name follows.
    """
    gaps = _by_gap(segments).nlargest(EVIDENCE_GAPS, "ns")
    launch = gaps["launch"].to_numpy()
    ended = launch >= 0
    names = np.full(len(gaps), "the end of the window", dtype=object)
    names[ended] = launch_names(facts, launch[ended])
    # The window to show reaches to the end of the operation that the gap was waiting for.
    last = facts.launches["end_ns"].to_numpy()
    ends = np.where(ended, last[np.maximum(launch, 0)], gaps["end_ns"])
    return tuple(
        Evidence(
            name=f"{what} {name}",
            value=float(ns),
            unit="ns",
            start_ns=int(start),
            end_ns=int(end),
            device=int(device),
        )
        for name, ns, start, end, device in zip(
            names, gaps["ns"], gaps["start_ns"], ends, gaps["device"], strict=True
        )
    )


def _by_gap(segments: pd.DataFrame) -> pd.DataFrame:
    """Return one row per gap: ``device``, ``launch``, ``start_ns``, ``end_ns``, ``ns``."""
    if not len(segments):
        return segments
    launch, device = segments["launch"].to_numpy(), segments["device"].to_numpy()
    # A ledger goes through one device after the other, and through each in order of time.
    first = np.flatnonzero((launch[1:] != launch[:-1]) | (device[1:] != device[:-1])) + 1
    first = np.concatenate(([0], first))
    last = np.concatenate((first[1:], [len(launch)])) - 1
    return pd.DataFrame(
        {
            "device": device[first],
            "launch": launch[first],
            "start_ns": segments["start_ns"].to_numpy()[first],
            "end_ns": segments["end_ns"].to_numpy()[last],
            "ns": np.add.reduceat(segments["ns"].to_numpy(), first),
        }
    )


def launch_names(facts: Facts, rows: Array) -> list[str]:
    """Return a short name for each launch row."""
    kinds = {COPY: "a copy", GRAPH: "a CUDA graph"}
    names = facts.trace.names(facts.launches["name_id"].to_numpy()[rows])
    kind = facts.launches["kind"].to_numpy()[rows]
    return [
        name_text(str(name)) or kinds.get(int(k), "a memset")
        for name, k in zip(names, kind, strict=True)
    ]
