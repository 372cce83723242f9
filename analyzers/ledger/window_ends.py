"""Idle time of a device at the begin and the end of the window: whose it is.

Nobody is to blame for a GPU that nobody had begun to use, or no longer uses. In a step that the
program marked it is different: the step takes as long as it takes, so that time before its first
and after its last operation is time of the thread that submits them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.spans import Window
from analyzers.finding import Row
from analyzers.intervals import Array, Spans, clip, overlaps
from analyzers.ledger.booking import NOTHING, Detail, Piece, as_one, by_doing
from analyzers.ledger.host_timeline import Doing, host_timeline

# At the end of a step no operation follows that these could be on their way to.
_BUSY_HOST = (Doing.DISPATCHING, Doing.OTHER_CALL, Doing.LAUNCHING, Doing.IN_UNNAMED_CALL)


class Use(NamedTuple):
    """From when to when a program has a use for a device.

    Attributes:
        since_ns: Idle time before it, and before the first operation, is nobody's.
        until_ns: Idle time after it, and after the last operation, is nobody's.
        is_marked: Whether the program marked both; else the operations themselves tell.
    """

    since_ns: int
    until_ns: int
    is_marked: bool


def use_of(facts: Facts, key: int, rows: Array, window: Window, begun: int) -> Use:
    """Return when a device is wanted in a window.

    Args:
        facts: The recording.
        key: The device.
        rows: What was launched on it.
        window: The analysed time.
        begun: Begin of the first operation on any device.
    """
    start = facts.launches["start_ns"].to_numpy()[rows]
    end = facts.launches["end_ns"].to_numpy()[rows]
    if not window.is_chosen or not np.any((end > window.start_ns) & (start < window.end_ns)):
        return Use(begun, int(end.max(initial=begun)), is_marked=False)
    process = int(facts.devices["process_key"].iloc[key])
    own = [s for s in window.steps if process in (s.process_key, UNKNOWN)]
    return Use(
        min((s.start_ns for s in own), default=window.start_ns),
        max((s.end_ns for s in own), default=window.end_ns),
        is_marked=True,
    )


def submitter(facts: Facts, rows: Array) -> int:
    """Return the first of a device's operations whose call is known, else the first of all."""
    called = np.flatnonzero(facts.launches["api_row"].to_numpy()[rows] >= 0)
    return int(rows[called[0]] if len(called) else rows[0])


def book_end(facts: Facts, end: Spans, use: Use, last: int) -> list[Piece]:
    """Book the idle time that no operation ends.

    Args:
        facts: The recording.
        end: That time, of one device.
        use: When the device is wanted.
        last: Row of its last operation.
    """
    if not use.is_marked:
        return [as_one(end, Row.HOST, Detail.NO_MORE_WORK)]
    late = clip(end, use.until_ns, int(end.end.max(initial=use.until_ns)))
    marked = clip(end, int(end.start.min(initial=use.until_ns)), use.until_ns)
    pieces = [as_one(late, Row.HOST, Detail.NO_MORE_WORK)]
    thread = int(facts.thread_index[last])
    if thread < 0 or not len(marked.start):
        launch = np.full(len(marked.start), last)
        return [*pieces, as_one(marked, Row.HOST, Detail.OUTSIDE_CUDA, launch)]
    line = host_timeline(facts, thread, marked)
    _, part, start, stop = overlaps(marked, line.parts)
    doing = line.doing[part]
    doing = np.where(np.isin(doing, _BUSY_HOST), Doing.OUTSIDE, doing)
    wait = np.full(len(start), NOTHING, np.int64)
    waiting = doing == Doing.WAITING
    if waiting.any():
        place = np.searchsorted(line.waits.start, start[waiting], side="right") - 1
        wait[waiting] = line.wait_api_row[place]
    return [*pieces, by_doing(Spans(start, stop), doing, np.full(len(start), last), wait)]
