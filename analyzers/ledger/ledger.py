"""The closed account of a device's time: every nanosecond booked to exactly one row.

While something runs, kernels count before communication before copies. While nothing runs, the
gap belongs to the operation that ends it: the thread that submitted that operation is followed
from the gap's begin to the launch call, and each stretch is booked to what the thread was doing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from analyzers.counters.inside import Inside, account_of
from analyzers.counters.joining import Examined, Joined, examine
from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import COMMUNICATION, COPY, GRAPH, KERNEL, MEMSET, Facts
from analyzers.facts.spans import PROFILED, Window
from analyzers.finding import BUSY_ROWS, KERNEL_ROWS, NOTABLE_SHARE, Row
from analyzers.intervals import Array, Spans, clip, empty, gaps, intersect, subtract, union
from analyzers.ledger.booking import (
    DETAILS,
    NOTHING,
    ROW_CODE,
    ROWS,
    UNUSED,
    Detail,
    Piece,
    as_frame,
    as_one,
)
from analyzers.ledger.device import DeviceLedger
from analyzers.ledger.gaps import Gaps, book_gaps, ordinary_gap_ns
from analyzers.ledger.window_ends import book_end, submitter, use_of
from analyzers.words import share_text

__all__ = ["DETAILS", "ROWS", "ROW_CODE", "Detail", "Ledger", "build_ledger"]


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
            Counters that were joined to a timeline do not change them: they split the sums of the
            row ``kernel``, but what a launch loses inside has no place in its time.
        device_gap_ns: Per device, the ordinary pause between two launches.
        inside: What counters say about the time inside kernels; None without any that belong to
            kernels of the window.
        examined: How joined counters cover the kernel time; None without a join.
        device_peaks: What the user says that the devices can do, by type and for their memory.
    """

    window: Window
    devices: tuple[DeviceLedger, ...]
    segments: pd.DataFrame
    device_gap_ns: tuple[int, ...]
    inside: Inside | None = None
    examined: Examined | None = None
    device_peaks: Mapping[str, float] = field(default_factory=dict)

    @property
    def duration_ns(self) -> int:
        """Device time that is accounted for: the window's length times the devices."""
        return sum(d.duration_ns for d in self.devices)

    @property
    def in_use_ns(self) -> int:
        """The part of it between each device's first and last operation: what is judged."""
        return sum(d.in_use_ns for d in self.devices)

    def total_ns(self, row: Row) -> int:
        """Sum of one row over all devices."""
        return sum(d.rows[row] for d in self.devices)

    @property
    def kernel_ns(self) -> int:
        """Time in which a kernel runs, over all devices: useful, lost, or not examined."""
        return sum(self.total_ns(row) for row in KERNEL_ROWS)

    def is_notable(self, lost_ns: int) -> bool:
        """Tell whether a loss is worth a finding."""
        return lost_ns > 0 and lost_ns >= NOTABLE_SHARE * self.in_use_ns

    @property
    def whole(self) -> str:
        """What shares are parts of, in words; with several devices, their time adds up."""
        if self.window.label == PROFILED:
            return "the profiled time"
        count = sum(d.unused_ns < d.duration_ns for d in self.devices)
        if self.in_use_ns < self.duration_ns:
            return f"the time {'the GPU was' if count == 1 else f'{count} GPUs were'} in use"
        return "the window" if count <= 1 else f"the combined time of {count} GPUs"

    def share(self, ns: int) -> str:
        """Write ``ns`` as a part of the account, for a sentence."""
        return f"{share_text(ns, self.in_use_ns)} of {self.whole}"

    def of(self, row: Row, *details: Detail) -> pd.DataFrame:
        """Return the segments of a row (and of these details, when given) with ``ns`` added."""
        chosen = (self.segments["row"] == ROW_CODE[row]).to_numpy()
        if details:
            chosen = chosen & np.isin(self.segments["detail"].to_numpy(), details)
        segments = self.segments[chosen]
        return segments.assign(ns=segments["end_ns"] - segments["start_ns"])


def build_ledger(facts: Facts, window: Window, joined: Joined | None = None) -> Ledger:
    """Book every nanosecond of ``window`` on every device to one row.

    Args:
        facts: The recording.
        window: The analysed time.
        joined: Counters of its kernels; without, kernel time is not examined.
    """
    if facts.counters_only:
        return _of_counters(facts, window)
    parts, device_gaps = [], []
    begun = int(facts.launches["start_ns"].iloc[0]) if len(facts.launches) else 0
    for key in range(len(facts.devices)):
        segments, device_gap_ns = _device_segments(facts, key, window, begun)
        parts.append(_clipped(segments, window).assign(device=np.int16(key)))
        device_gaps.append(device_gap_ns)
    segments = (
        pd.concat(parts, ignore_index=True) if parts else as_frame([]).assign(device=np.int16(0))
    )
    devices = tuple(_sums(facts, key, segments, window) for key in range(len(facts.devices)))
    ledger = Ledger(window, devices, segments, tuple(device_gaps))
    return ledger if joined is None else _split(ledger, examine(facts, joined, window))


def spans_of(ledger: Ledger, row: Row) -> dict[int, Spans]:
    """Return the time booked to a row, by device."""
    segments = ledger.of(row)
    return {key: device_spans(segments, key) for key in range(len(ledger.devices))}


def device_spans(segments: pd.DataFrame, key: int) -> Spans:
    """Return the time that segments of one device cover."""
    of_device = segments[(segments["device"] == key).to_numpy()]
    return union(of_device["start_ns"].to_numpy(), of_device["end_ns"].to_numpy())


def _split(ledger: Ledger, examined: Examined) -> Ledger:
    """Move what is lost inside kernels from each device's row ``kernel`` to the rows of causes."""
    inside = examined.inside
    devices = []
    for device in ledger.devices:
        on_device = examined.joined.device == device.key
        rows = dict(device.rows)
        for row in (Row.DIVERGENCE, Row.BANDWIDTH):
            rows[row] = int(inside.row_ns(row)[on_device].sum())
            rows[Row.KERNEL] -= rows[row]
        devices.append(replace(device, rows=rows))
    covered = inside if examined.covered_ns else None
    return replace(ledger, devices=tuple(devices), inside=covered, examined=examined)


def _of_counters(facts: Facts, window: Window) -> Ledger:
    """Book the time of profiled launches: useful, lost to divergence, lost to memory.

    Each device's account is as long as its launches took.
    """
    inside = account_of(facts.counters)
    source = facts.launches["source_row"].to_numpy()
    start = facts.launches["start_ns"].to_numpy()
    device = facts.launches["device"].to_numpy()
    pieces, owners = [], []
    for row in (Row.KERNEL, Row.DIVERGENCE, Row.BANDWIDTH):
        end = start + inside.row_ns(row)[source]
        booked = as_one(Spans(start, end), row, Detail.NONE)
        pieces.append(booked)
        owners.append(device[end > start])
        start = end
    segments = pd.DataFrame({c: np.concatenate([p[c] for p in pieces]) for c in pieces[0]})
    segments = segments.assign(device=np.concatenate(owners))
    segments = segments.sort_values(["device", "start_ns"], kind="stable", ignore_index=True)
    keys = range(len(facts.devices))
    totals = [int(facts.duration_ns[device == key].sum()) for key in keys]
    devices = tuple(
        _sums(facts, key, segments, Window(start_ns=0, end_ns=totals[key])) for key in keys
    )
    return Ledger(window, devices, segments, (0,) * len(devices), inside)


def _sums(facts: Facts, key: int, segments: pd.DataFrame, window: Window) -> DeviceLedger:
    of_device = segments[(segments["device"] == key).to_numpy()]
    length = (of_device["end_ns"] - of_device["start_ns"]).to_numpy()
    code, detail = of_device["row"].to_numpy(), of_device["detail"].to_numpy()
    rows = {row: int(length[code == ROW_CODE[row]].sum()) for row in ROWS}
    lost = length[code == ROW_CODE[Row.UNEXPLAINED]]
    why = detail[code == ROW_CODE[Row.UNEXPLAINED]]
    process = int(facts.devices["process_key"].iloc[key])
    return DeviceLedger(
        key=key,
        device=int(facts.devices["device"].iloc[key]),
        process=process & 0xFFFFFF if process >= 0 else process,
        name=str(facts.devices["name"].iloc[key]),
        duration_ns=window.duration_ns,
        busy_ns=sum(rows[r] for r in BUSY_ROWS),
        rows=rows,
        unused_ns=int(length[np.isin(detail, UNUSED)].sum()),
        unexplained={DETAILS[w]: int(lost[why == w].sum()) for w in np.unique(why)},
    )


def _clipped(segments: pd.DataFrame, window: Window) -> pd.DataFrame:
    start, end = segments["start_ns"].to_numpy(), segments["end_ns"].to_numpy()
    first = int(np.searchsorted(end, window.start_ns, side="right"))
    last = int(np.searchsorted(start, window.end_ns, side="left"))
    clipped = segments.iloc[first:last]
    if len(clipped):
        clipped = clipped.assign(
            start_ns=np.maximum(start[first:last], window.start_ns),
            end_ns=np.minimum(end[first:last], window.end_ns),
        )
    return clipped


def _device_segments(
    facts: Facts, key: int, window: Window, begun: int
) -> tuple[pd.DataFrame, int]:
    """Return one device's account from the window's begin or its first launch to the end.

    Args:
        facts: The recording.
        key: The device.
        window: The analysed time.
        begun: Begin of the first operation on any device.
    """
    rows = np.flatnonzero((facts.launches["device"] == key).to_numpy())
    start = facts.launches["start_ns"].to_numpy()[rows]
    end = facts.launches["end_ns"].to_numpy()[rows]
    busy, pieces = _busy(facts, rows)
    low, high = window.start_ns, window.end_ns
    if len(rows):
        low, high = min(low, int(start[0])), max(high, int(end.max()))
    use = use_of(facts, key, rows, window, begun)
    not_yet = empty()
    if len(rows):
        until = min(use.since_ns, int(start[0])) if use.is_marked else int(start[0])
        since = low if use.is_marked else begun
        not_yet = clip(Spans(np.array([since]), np.array([until])), low, high)
    pieces.append(as_one(not_yet, Row.HOST, Detail.NOT_YET_USED))
    idle = subtract(gaps(busy, low, high), not_yet)
    ender = np.searchsorted(start, idle.end, side="left")
    ends = ender < len(rows)
    launch = rows[ender[ends]]
    if use.is_marked:
        launch = np.where(launch == rows[0], submitter(facts, rows), launch)
    ended = Gaps(idle.start[ends], idle.end[ends], launch, facts)
    device_gap_ns = ordinary_gap_ns(facts, rows, ended)
    unended = Spans(idle.start[~ends], idle.end[~ends])
    pieces += book_end(facts, unended, use, int(rows[-1]) if len(rows) else NOTHING)
    early = low if use.is_marked else begun
    pieces.extend(_nobody_asked(p, early) for p in book_gaps(facts, ended, device_gap_ns))
    return as_frame(pieces), device_gap_ns


def _nobody_asked(booked: Piece, begun: int) -> Piece:
    """Turn what the host did outside CUDA before any operation into time nobody wanted a GPU."""
    early = booked["end_ns"] <= begun
    if not early.any():
        return booked
    early &= np.isin(booked["row"], (ROW_CODE[Row.HOST], ROW_CODE[Row.UNEXPLAINED]))
    row = np.where(early, ROW_CODE[Row.HOST], booked["row"]).astype(np.int8)
    detail = np.where(early, Detail.NOT_YET_USED, booked["detail"]).astype(np.int8)
    return {**booked, "row": row, "detail": detail}


def _busy(facts: Facts, rows: Array) -> tuple[Spans, list[Piece]]:
    """Return when anything runs, and the busy rows of the account."""
    kind = facts.launches["kind"].to_numpy()[rows]
    start = facts.launches["start_ns"].to_numpy()[rows]
    end = facts.launches["end_ns"].to_numpy()[rows]
    covered = empty()
    pieces = []
    for row, kinds in (
        (Row.KERNEL, (KERNEL, GRAPH)),
        (Row.COMMUNICATION, (COMMUNICATION,)),
        (Row.TRANSFER, (COPY, MEMSET)),
    ):
        chosen = np.isin(kind, kinds)
        alone = subtract(union(start[chosen], end[chosen]), covered)
        waits = _waits(facts, rows[chosen]) if row is Row.COMMUNICATION else empty()
        pieces.append(as_one(subtract(alone, waits), row, Detail.NONE))
        pieces.append(as_one(intersect(alone, waits), row, Detail.WAITING_FOR_RANK))
        covered = union(
            np.concatenate((covered.start, alone.start)), np.concatenate((covered.end, alone.end))
        )
    return covered, pieces


def _waits(facts: Facts, rows: Array) -> Spans:
    """Return when collectives of a device only wait: none of them has all of its ranks."""
    if not len(rows):
        return empty()
    waits = collectives_of(facts).waits
    waits = waits[waits["launch"].isin(rows).to_numpy()]
    moves_from = facts.launches["start_ns"].to_numpy().copy()
    moves_from[waits["launch"].to_numpy()] = waits["until_ns"].to_numpy()
    moving = union(moves_from[rows], facts.launches["end_ns"].to_numpy()[rows])
    return subtract(union(waits["start_ns"].to_numpy(), waits["until_ns"].to_numpy()), moving)
