"""Which wait of the host an operation ends: the last arrow of a chain.

A wait returns when the last of what it waits for has ended. Where the recorder noted the stream of
a wait (``syncs``), that are the stream's operations; else it is taken to be all that its process
had submitted before. An operation so ends a wait when the host was blocked at its end and none of
those rivals ended later before the wait returned. Polls, and calls that wait for the copy that
they themselves submitted, have no arrow: the chain already holds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from analyzers.cuda_names import Call, classify
from analyzers.finding import Row
from collectors.trace import Trace
from timeline.colors import COLOR_CODE, OPERATIONS
from timeline.lane import NOTHING
from timeline.view import Timeline, TimelineLane

EARLY_NS = 1_000  # clocks of host and device: a wait may seem to return so long before the end
MAX_RIVALS = 1 << 16  # operations that ended while a wait lasted, looked at in one lane


class _Wait(NamedTuple):
    """A wait: its event, begin and end in ns since the first event, and the stream noted, or -1."""

    event: int
    start: int
    end: int
    stream: int


def ended_wait(timeline: Timeline, trace: Trace, operation: int) -> int:
    """Return the event of the wait that an operation ends, -1 for none.

    Raises:
        DamagedError: A table of the trace is damaged.
    """
    if timeline.lanes[timeline.lane_of(operation)].lane.mirror:
        operation = timeline.event_at(*timeline.row_of(operation))
    call = int(timeline.recording.link[operation])
    if call < 0:
        return NOTHING
    process = _call(timeline, trace, call)["process"]
    _, end = timeline.span(operation)
    waits = [w for w in _waits_around(timeline, trace, end, process) if w.event != call]
    for wait in sorted(waits, key=lambda w: w.end):
        if _last_ended(timeline, trace, wait, process) == operation:
            return wait.event
    return NOTHING


def operation_awaited(timeline: Timeline, trace: Trace, wait: int) -> int:
    """Return the operation that ended a wait, -1 where it is no wait or nothing fits.

    Raises:
        DamagedError: A table of the trace is damaged.
    """
    if timeline.color_of(wait) != COLOR_CODE[Row.SYNC]:
        return NOTHING
    facts = _call(timeline, trace, wait)
    if not _is_wait(trace, facts):
        return NOTHING
    start, end = timeline.span(wait)
    itself = _Wait(wait, start, end, _stream_of(trace, facts))
    return _last_ended(timeline, trace, itself, facts["process"])


def _waits_around(timeline: Timeline, trace: Trace, moment: int, process: int) -> Iterator[_Wait]:
    """Yield the waits of a process that last at a moment."""
    for placed in timeline.lanes:
        if placed.lane.table != "api_calls" or placed.lane.mirror:
            continue
        low, high = placed.index.within(placed.lane.parts[0], moment - EARLY_NS, moment + 1)
        events = np.arange(low, high)
        events = events[placed.index.color[events] == COLOR_CODE[Row.SYNC]]
        for event in events[-2:].tolist():
            start, end = timeline.span(event)
            facts = _call(timeline, trace, event)
            if start < moment and facts["process"] == process and _is_wait(trace, facts):
                yield _Wait(event, start, end, _stream_of(trace, facts))


def _last_ended(timeline: Timeline, trace: Trace, wait: _Wait, process: int) -> int:
    """Return the operation that ended last of those that a wait waited for, -1 for none."""
    best, latest = NOTHING, wait.start
    for placed in timeline.lanes:
        if placed.lane.table != OPERATIONS or placed.lane.mirror:
            continue
        if wait.stream >= 0 and placed.track != f"stream {wait.stream}":
            continue
        event, end = _last_of_lane(placed, wait)
        if event >= 0 and end > latest and _process_of(timeline, trace, event) == process:
            best, latest = event, end
    return best


def _last_of_lane(placed: TimelineLane, wait: _Wait) -> tuple[int, int]:
    """Return the operation of a lane, submitted before a wait, that ended last before it did."""
    index = placed.index
    low, high = index.within(placed.lane.parts[0], wait.start, wait.end + EARLY_NS)
    events = np.arange(max(low, high - MAX_RIVALS), high)
    calls = index.link[events]
    submitted = (calls < 0) | (index.start[np.maximum(calls, 0)] < wait.start)
    ends = index.end(events)
    fits = np.flatnonzero(submitted & (ends <= wait.end + EARLY_NS) & (ends > wait.start))
    return (int(events[fits[-1]]), int(ends[fits[-1]])) if len(fits) else (NOTHING, 0)


def _call(timeline: Timeline, trace: Trace, event: int) -> dict[str, int]:
    _, row = timeline.row_of(event)
    return trace.row("api_calls", row, ["process", "correlation_id", "name_id"])


def _process_of(timeline: Timeline, trace: Trace, operation: int) -> int:
    call = int(timeline.recording.link[operation])
    return int(_call(timeline, trace, call)["process"]) if call >= 0 else NOTHING


def _is_wait(trace: Trace, facts: dict[str, int]) -> bool:
    return classify(_name(trace, facts)) is Call.WAIT


def _name(trace: Trace, facts: dict[str, int]) -> str:
    return str(trace.names(np.array([facts["name_id"]]))[0])


def _stream_of(trace: Trace, facts: dict[str, int]) -> int:
    """Return the stream that the recorder noted for a wait on one, -1 when it noted none."""
    if "StreamSync" not in _name(trace, facts) or not trace.count("syncs"):
        return NOTHING
    syncs = trace.columns("syncs", ["correlation_id", "process", "stream"])
    same = syncs["correlation_id"] == facts["correlation_id"]
    streams = syncs["stream"][same & (syncs["process"] == facts["process"])]
    return int(streams[0]) if len(streams) and facts["correlation_id"] > 0 else NOTHING
