"""Rows for intervals, so that no two of a row overlap."""

from __future__ import annotations

import numpy as np

from analyzers.facts.nesting import nesting_depth
from collectors.schema import Array


def without_overlap(starts: Array, ends: Array) -> list[Array]:
    """Split intervals into rows that do not overlap; returns the places of each row, sorted.

    Nested intervals stand by depth, the outermost first; only those that cross each other, and
    what overlaps them, are packed into as few rows as possible.

    Args:
        starts: Begins, sorted.
        ends: Ends.
    """
    if not _overlap(starts, ends):
        return [np.arange(len(starts))]
    solid = np.maximum(ends, starts + 1)  # one without length takes its moment
    order = np.lexsort((-solid, starts))
    levels = np.empty(len(order), np.int64)
    levels[order] = nesting_depth(starts[order], solid[order])
    cluster = _clusters(starts, solid)
    by_level = np.lexsort((starts, levels))
    same = levels[by_level][1:] == levels[by_level][:-1]
    crosses = same & (starts[by_level][1:] < solid[by_level][:-1])
    crossing = np.isin(cluster, cluster[by_level][1:][crosses])
    if crossing.any():
        levels[crossing] = packed(starts[crossing], ends[crossing])
    return _rows(levels, starts, ends)


def _clusters(starts: Array, ends: Array) -> Array:
    """Number the groups of intervals that overlap, directly or through others; sorted by begin."""
    reach = np.maximum.accumulate(ends)
    numbers: Array = np.cumsum(np.concatenate([[True], starts[1:] >= reach[:-1]])) - 1
    return numbers


def _rows(levels: Array, starts: Array, ends: Array) -> list[Array]:
    order = np.lexsort((ends, starts, levels))
    borders = np.flatnonzero(np.diff(levels[order])) + 1
    return list(np.split(order, borders))


def _overlap(starts: Array, ends: Array) -> bool:
    return bool(np.any(starts[1:] < ends[:-1]))


def packed(starts: Array, ends: Array) -> Array:
    """Return a row for each interval, so that no two of a row overlap.

    Intervals that overlap, directly or through others, use as few rows as possible: each takes
    the row of the one among them that ended longest ago. Which one that is follows from two
    sorted columns alone, so whole columns are enough: no loop over intervals.

    Args:
        starts: Begins, sorted.
        ends: Ends.
    """
    place = np.arange(len(starts))
    ends = np.maximum(ends, starts + 1)  # one without length takes its moment
    cluster = _clusters(starts, ends)
    first = np.flatnonzero(np.diff(cluster, prepend=-1))
    by_end = np.argsort(ends, kind="stable")  # clusters stay together: they are apart in time
    is_open = place + 1 - np.searchsorted(ends[by_end], starts, side="right")
    rows = np.maximum.reduceat(is_open, first)[cluster]
    number = place - first[cluster]
    before = np.where(number < rows, place, by_end[np.maximum(place - rows, 0)])
    while True:  # each round doubles how far back it is looked
        further = before[before]
        if np.array_equal(further, before):
            result: Array = number[before]
            return result
        before = further
