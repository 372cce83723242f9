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
    sums = []
    for table, parts in by_table.items():
        name, length, event = (np.concatenate(column) for column in zip(*parts, strict=True))
        sums += [(table, *row) for row in _by_name(name, length, event)]
    sums.sort(key=lambda row: -row[3])
    rows = [
        SpanRow(TABLES[table], timeline.recording.text(name), number, total, longest, event)
        for table, name, number, total, longest, event in sums[:limit]
    ]
    return rows, len(sums)


def _events_inside(placed: TimelineLane, start: int, end: int) -> tuple[Array, Array, Array]:
    """Return name, length inside the stretch and number of the events of a lane that lie in it."""
    index = placed.index
    low, high = index.within(placed.lane.parts[0], start, end)
    begin = index.start[low:high]
    length = np.diff(index.sums[low : high + 1])
    inside = np.minimum(begin + length, end) - np.maximum(begin, start)
    return index.name[low:high], np.maximum(inside, 0), np.arange(low, high)


def _by_name(name: Array, length: Array, event: Array) -> list[tuple[int, int, int, int, int]]:
    """Return name, count, sum, longest and its event for each name."""
    if not len(name):
        return []
    order = np.lexsort((length, name))  # the longest of each name stands last
    name, length, event = name[order], length[order], event[order]
    first = np.flatnonzero(np.diff(name.astype(np.int64), prepend=-1))
    last = np.append(first[1:], len(name)) - 1
    columns = (name[first], last - first + 1, np.add.reduceat(length, first))
    return list(zip(*(c.tolist() for c in (*columns, length[last], event[last])), strict=True))
