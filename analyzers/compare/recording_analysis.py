"""What an analysis of the whole recording left behind, so that a comparison need not repeat it.

Booking a million launches costs a second; cutting the account that was kept costs a tenth of it.
The account of the iterations reaches a little further than that of the recording: the first
iteration begins with the host's work on it, before the device's first operation. That stretch is
booked here, from the launches and calls that it consists of.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.spans import Iteration, Window
from analyzers.finding import BUSY_ROWS, Row
from analyzers.intervals import Array, Spans
from analyzers.ledger.booking import ROW_CODE, ROWS, Detail, as_frame, as_one
from analyzers.ledger.device import DeviceLedger
from analyzers.ledger.ledger import Ledger, build_ledger
from analyzers.report import QualityNote


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingAnalysis:
    """The answers of an analysis of the whole recording, without counters joined to it.

    Attributes:
        window: What it covers.
        devices: Its account by device.
        segments: The account itself, as ``Ledger.segments``.
        iterations: Repetitions that it found.
        iterations_note: How.
        quality: What it says about the capture.
    """

    window: Window
    devices: tuple[DeviceLedger, ...]
    segments: pd.DataFrame
    iterations: tuple[Iteration, ...]
    iterations_note: str
    quality: tuple[QualityNote, ...]


def cut_ledger(analysis: RecordingAnalysis, facts: Facts, window: Window) -> Ledger | None:
    """Return the account of ``window`` from the one of the whole recording.

    Args:
        analysis: That of the whole recording.
        facts: The recording.
        window: Any stretch.

    Returns:
        None when it cannot be had without booking everything anew.
    """
    if window.end_ns <= analysis.window.start_ns or window.start_ns >= analysis.window.end_ns:
        return None
    if not _has_same_ends(analysis, facts, window):
        return None
    parts = [_clipped(analysis.segments, window)]
    if window.start_ns < analysis.window.start_ns:
        before = Window(start_ns=window.start_ns, end_ns=analysis.window.start_ns)
        head = _head(facts, before)
        if head is None:
            return None
        parts.insert(0, head)
    if window.end_ns > analysis.window.end_ns:
        after = Spans(np.array([analysis.window.end_ns]), np.array([window.end_ns]))
        rest = as_frame([as_one(after, Row.HOST, Detail.NO_MORE_WORK)])
        parts += [rest.assign(device=np.int16(d.key)) for d in analysis.devices]
    segments = pd.concat(parts, ignore_index=True)
    if len(parts) > 1:
        segments = segments.sort_values(["device", "start_ns"], kind="stable", ignore_index=True)
        segments = _rejoined(segments, (analysis.window.start_ns, analysis.window.end_ns))
    return Ledger(
        window, _summed(analysis, segments, window), segments, (0,) * len(analysis.devices)
    )


def _has_same_ends(analysis: RecordingAnalysis, facts: Facts, window: Window) -> bool:
    """Tell whether idle time around a device's work is booked as in the whole account.

    In steps and ranges that the program marked it is the host's, else nobody's. It makes no
    difference where ``window`` lies between a device's first and last operation.
    """
    launches = facts.launches
    ends = launches.groupby("device").agg({"start_ns": "min", "end_ns": "max"})
    inside = facts.inside(*window.span)
    used = np.isin(ends.index.to_numpy(), launches["device"].to_numpy()[inside])
    beyond = (window.start_ns < ends["start_ns"].to_numpy()) | (
        window.end_ns > ends["end_ns"].to_numpy()
    )
    if not beyond.any():
        return True
    whole = analysis.window
    if window.is_chosen != whole.is_chosen or window.steps != whole.steps:
        return False
    within = whole.start_ns <= window.start_ns and window.end_ns <= whole.end_ns
    return not window.is_chosen or (within and bool(used[beyond].all()))


def _rejoined(segments: pd.DataFrame, borders: tuple[int, int]) -> pd.DataFrame:
    """Make one stretch of two that only a border of the whole account divides."""
    before, after = segments.iloc[:-1], segments.iloc[1:]
    divided = np.isin(after["start_ns"].to_numpy(), borders)
    for name in ("device", "row", "detail", "launch", "wait"):
        divided &= before[name].to_numpy() == after[name].to_numpy()
    second = np.flatnonzero(divided) + 1
    end = segments["end_ns"].to_numpy().copy()
    end[second - 1] = end[second]
    return segments.assign(end_ns=end).drop(index=second.tolist()).reset_index(drop=True)


def _clipped(segments: pd.DataFrame, window: Window) -> pd.DataFrame:
    start, end = segments["start_ns"].to_numpy(), segments["end_ns"].to_numpy()
    if start[0] >= window.start_ns and end.max() <= window.end_ns:
        return segments
    inside = np.flatnonzero((end > window.start_ns) & (start < window.end_ns))
    chosen = segments.iloc[inside]
    return chosen.assign(
        start_ns=np.maximum(start[inside], window.start_ns),
        end_ns=np.minimum(end[inside], window.end_ns),
    )


def _head(facts: Facts, before: Window) -> pd.DataFrame | None:
    """Return the account of the time before the device's first operation.

    Who is followed through it are the threads that submitted each device's first operation, up to
    that call; nothing later is looked at. What was submitted before the window began is left to
    the whole account, which knows what this device's ordinary pauses are.
    """
    launches = facts.launches
    device = launches["device"].to_numpy()
    keys = range(len(facts.devices))
    firsts = np.array([int(np.argmax(device == key)) for key in keys if (device == key).any()])
    if len(firsts) < len(facts.devices) or facts.trace.count("operators"):
        return None
    called = facts.api_start_ns
    if (
        np.any(launches["api_row"].to_numpy()[firsts] < 0)
        or called[firsts].min() <= before.start_ns
    ):
        return None
    until = int(launches["start_ns"].to_numpy()[firsts].max())
    rows = np.flatnonzero((launches["start_ns"].to_numpy() <= until) | (called < until))
    segments = build_ledger(_part(facts, rows, until), before).segments
    launch = segments["launch"].to_numpy()
    return segments.assign(launch=np.where(launch >= 0, rows[launch], launch).astype(np.int32))


def _part(facts: Facts, rows: Array, until: int) -> Facts:
    """Return facts about these launches and the calls up to the last that began before a moment.

    The calls keep their numbers, by which other columns of them are read.
    """
    begun = np.flatnonzero(facts.api["start_ns"].to_numpy() < until)
    count = int(begun[-1]) + 1 if len(begun) else 0
    launches = facts.launches.iloc[rows].reset_index(drop=True)
    call = launches["api_row"].to_numpy()
    launches["api_row"] = np.where(call < count, call, UNKNOWN).astype(np.int32)
    return dataclasses.replace(facts, launches=launches, api=facts.api.iloc[:count])


def _summed(
    analysis: RecordingAnalysis, segments: pd.DataFrame, window: Window
) -> tuple[DeviceLedger, ...]:
    count = len(analysis.devices)
    length = (segments["end_ns"] - segments["start_ns"]).to_numpy()
    code = segments["device"].to_numpy().astype(np.int64) * len(ROWS) + segments["row"].to_numpy()
    sums = np.bincount(code, length, minlength=count * len(ROWS)).reshape(count, len(ROWS))
    return tuple(
        dataclasses.replace(
            device,
            duration_ns=window.duration_ns,
            busy_ns=int(sum(sums[place, ROW_CODE[row]] for row in BUSY_ROWS)),
            rows={row: int(sums[place, ROW_CODE[row]]) for row in ROWS},
            unused_ns=0,
            unexplained={},
        )
        for place, device in enumerate(analysis.devices)
    )
