"""What happened in a stretch of time, by name: how often, and how much of the stretch it took."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from collectors.schema import Array
from timeline.colors import OPERATIONS
from timeline.view import Timeline, TimelineLane

TABLES = {
    OPERATIONS: "GPU",
    "ranges": "range",
    "operators": "operator",
    "api_calls": "API call",
    "os_calls": "OS call",
}
"""The tables that are listed, and what one of their events is called."""


class SpanRow(NamedTuple):
    """The events of one name that lie in a stretch, or reach into it.

    Attributes:
        kind: What they are, of ``TABLES``.
        name: Their name.
        events: How many.
        total_ns: Sum of their parts inside the stretch; nested and parallel ones all count.
        longest_ns: The longest of these parts.
        event: The event that this part belongs to.
    """

    kind: str
    name: str
    events: int
    total_ns: int
    longest_ns: int
    event: int


def span_rows(timeline: Timeline, start: int, end: int, limit: int) -> tuple[list[SpanRow], int]:
    """Return the names that took most of a stretch, and how many names there are in it.

    Args:
        timeline: What is looked at; events that are shown twice count once.
        start: Begin of the stretch, in ns since the first event.
        end: Its end.
        limit: Rows at most, those with the largest totals.
    """
    by_table: dict[str, list[tuple[Array, Array, Array]]] = defaultdict(list)
    for placed in timeline.lanes:
        if placed.lane.table in TABLES and not placed.lane.mirror:
            by_table[placed.lane.table].append(_events_inside(placed, start, end))
    sums = [_by_name(*map(np.concatenate, zip(*parts, strict=True))) for parts in by_table.values()]
    if not sums:
        return [], 0
    columns = np.concatenate(sums, axis=1)
    kind = np.repeat(np.array([TABLES[t] for t in by_table]), [s.shape[1] for s in sums])
    largest = np.argsort(-columns[2], kind="stable")[:limit]
    rows = [
        SpanRow(str(kind[place]), timeline.recording.text(name), *numbers)
        for place, (name, *numbers) in zip(largest, columns[:, largest].T.tolist(), strict=True)
    ]
    return rows, columns.shape[1]


def _events_inside(placed: TimelineLane, start: int, end: int) -> tuple[Array, Array, Array]:
    """Return name, length inside the stretch and number of the events of a lane that lie in it."""
    index = placed.index
    low, high = index.within(placed.lane.parts[0], start, end)
    begin = index.start[low:high]
    length = np.diff(index.sums[low : high + 1])
    inside = np.minimum(begin + length, end) - np.maximum(begin, start)
    return index.name[low:high], np.maximum(inside, 0), np.arange(low, high)


def _by_name(name: Array, length: Array, event: Array) -> Array:
    """Return rows of name, count, sum, longest and its event, a column for each name.

    No sorting: of 10 million events that would take seconds.
    """
    count = np.bincount(name)
    # Floats hold such sums exactly up to 2**53 ns, 104 days.
    total = np.bincount(name, weights=length)
    longest = np.full(len(count), -1, np.int64)
    np.maximum.at(longest, name, length)
    first = np.zeros(len(count), np.int64)
    places = np.flatnonzero(length == longest[name])[::-1]  # of equals the first stays
    first[name[places]] = event[places]
    present = np.flatnonzero(count)
    return np.stack(
        [present, *(c[present].astype(np.int64) for c in (count, total, longest, first))]
    )
