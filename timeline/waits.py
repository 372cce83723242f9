"""Which wait of the host an operation ends: the last arrow of a chain.

A wait returns when the last of what it waits for has ended. Where the recorder noted the stream of
a wait and its GPU (``syncs``), that are the stream's operations; else it is taken to be all that
its process had submitted before. An operation so ends a wait when the host was blocked at its end
and none of those rivals ended later before the wait returned. Polls, and calls that wait for the
copy that they themselves submitted, have no arrow: the chain already holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from analyzers.cuda_names import Call, classify
from analyzers.facts.facts import recorded_devices
from analyzers.finding import Row
from collectors.schema import Array
from collectors.trace import Trace
from timeline.colors import COLOR_CODE, OPERATIONS
from timeline.lane import NOTHING
from timeline.view import Timeline, TimelineLane

EARLY_NS = 1_000  # clocks of host and device: a wait may seem to return so long before the end
MAX_RIVALS = 1 << 16  # operations that ended while a wait lasted, looked at in one lane


class _Wait(NamedTuple):
    """A wait: its event, begin and end in ns since the first event, and the facts of its call."""

    event: int
    start: int
    end: int
    call: dict[str, int]


class _AwaitedStream(NamedTuple):
    """The stream that a wait is for, and the key of its GPU, each -1 where none was noted.

    Streams are numbered anew on each GPU, so that the number alone names none.
    """

    stream: int = NOTHING
    device: int = NOTHING

    def holds(self, placed: TimelineLane) -> bool:
        """Tell whether operations of a lane are waited for, as far as the recorder noted it."""
        device = placed.index.groups[placed.lane.group].device
        on_stream = self.stream < 0 or placed.track == f"stream {self.stream}"
        return on_stream and (self.device < 0 or device == self.device)


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
    around = [w for w in _waits_around(timeline, trace, end, process) if w.event != call]
    waits = sorted(around, key=lambda w: w.end)
    for wait, place in zip(waits, _noted_places(trace, waits), strict=True):
        if _last_ended(timeline, trace, wait, place) == operation:
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
    itself = _Wait(wait, start, end, facts)
    (place,) = _noted_places(trace, [itself])
    return _last_ended(timeline, trace, itself, place)


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
                yield _Wait(event, start, end, facts)


def _last_ended(timeline: Timeline, trace: Trace, wait: _Wait, place: _AwaitedStream) -> int:
    """Return the operation that ended last of those that a wait waited for, -1 for none."""
    best, latest, process = NOTHING, wait.start, wait.call["process"]
    for placed in timeline.lanes:
        if placed.lane.table != OPERATIONS or placed.lane.mirror:
            continue
        if not place.holds(placed):
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


def _noted_places(trace: Trace, waits: Sequence[_Wait]) -> list[_AwaitedStream]:
    """Return what the recorder noted for each wait on a stream; the table is read once for all."""
    on_stream = [
        "StreamSync" in _name(trace, w.call) and w.call["correlation_id"] > 0 for w in waits
    ]
    if not any(on_stream) or not trace.count("syncs"):
        return [_AwaitedStream() for _ in waits]
    syncs = trace.columns("syncs", ["correlation_id", "process", "stream", "device"])
    _, key_of = recorded_devices(trace)
    return [
        _noted_place(syncs, w.call, key_of) if noted else _AwaitedStream()
        for w, noted in zip(waits, on_stream, strict=True)
    ]


def _noted_place(
    syncs: dict[str, Array], call: dict[str, int], key_of: dict[tuple[int, int], int]
) -> _AwaitedStream:
    same = syncs["correlation_id"] == call["correlation_id"]
    rows = np.flatnonzero(same & (syncs["process"] == call["process"]))
    if not len(rows):
        return _AwaitedStream()
    number = int(syncs["device"][rows[0]])  # as this process counts its GPUs
    device = key_of.get((call["process"], number), NOTHING)
    return _AwaitedStream(int(syncs["stream"][rows[0]]), device)
