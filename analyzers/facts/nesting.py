"""Intervals inside each other: which is around a moment, and how deep each one lies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analyzers.facts.facts import UNKNOWN
from analyzers.intervals import Array

MAX_LEVELS = 1_000  # of a nest that is gone through level by level; no program's stack is as deep


class Nest(NamedTuple):
    """Intervals of one thread, by begin, the longest first.

    Attributes:
        order: Their places in the columns that they came from, empty intervals left out; nothing
            where the columns were in this order.
        starts: Begins.
        ends: Ends.
        parent: Place, in this order, of the interval around each; -1 for the outermost.
    """

    order: Array
    starts: Array
    ends: Array
    parent: Array


def nest(starts: Array, ends: Array) -> Nest:
    """Return how one thread's intervals lie in each other."""
    order = np.lexsort((-ends, starts))
    order = order[ends[order] > starts[order]]  # an empty interval is around no moment
    return Nest(order, starts[order], ends[order], _parents(starts[order], ends[order]))


def nest_of_sorted(starts: Array, ends: Array) -> Nest:
    """Return the same of intervals that are in its order, none of them empty."""
    return Nest(np.empty(0, np.int64), starts, ends, _parents(starts, ends))


def around(intervals: Nest, moments: Array) -> Array:
    """Return the place in ``intervals`` of the one around each moment that began last, else -1."""
    starts, ends, parent = intervals.starts, intervals.ends, intervals.parent
    if not len(starts):
        return np.full(len(moments), UNKNOWN, np.int64)
    place = np.searchsorted(starts, moments, side="right") - 1
    # Climb from the last range that began to the first that has not ended: at most one step per
    # nesting level, for all moments at once.
    while True:
        over = (place >= 0) & (ends[np.maximum(place, 0)] <= moments)
        if not over.any():
            return place
        place[over] = parent[place[over]]


def innermost(starts: Array, ends: Array, moments: Array) -> Array:
    """Return the interval around each moment that began last, -1 for none.

    Args:
        starts: Begins of one thread's intervals, in any order.
        ends: Their ends.
        moments: Times to look at.
    """
    intervals = nest(starts, ends)
    place = around(intervals, moments)
    if not len(intervals.order):
        return place
    return np.where(place >= 0, intervals.order[np.maximum(place, 0)], UNKNOWN)


def nesting_depth(starts: Array, ends: Array) -> Array:
    """Return how many intervals are open when each begins; sorted by begin, longest first."""
    open_before = np.searchsorted(np.sort(ends), starts, side="right")
    depth: Array = np.arange(len(starts)) - open_before
    # An empty interval counts as closed before it begins; it still is nobody's child's child.
    return np.maximum(depth, 0)


def _parents(starts: Array, ends: Array) -> Array:
    """Return the interval around each one that began last, -1 for none; sorted, longest first."""
    depth = nesting_depth(starts, ends)
    parent = np.full(len(ends), UNKNOWN, np.int32)
    if not depth.any():
        return parent
    if int(depth.max()) > MAX_LEVELS:
        return _parents_of_crossing(ends)
    levels = depth.astype(np.uint16)  # which are sorted much faster
    order = np.argsort(levels, kind="stable").astype(np.int32)  # by begin on each level
    bounds = np.searchsorted(levels[order], np.arange(int(depth.max()) + 2))
    for level in range(1, len(bounds) - 1):
        outer = order[bounds[level - 1] : bounds[level]]
        rows = order[bounds[level] : bounds[level + 1]]
        before = np.searchsorted(outer, rows) - 1
        if len(rows) and (before[0] < 0 or np.any(ends[outer[before]] < ends[rows])):
            return _parents_of_crossing(ends)
        parent[rows] = outer[before]
    return parent


def _parents_of_crossing(ends: Array) -> Array:
    """Return the nearest earlier interval that ends later; some may end inside others.

    Each round doubles the distance that is looked back, so the rounds are few at any depth.
    """
    parent = np.arange(-1, len(ends) - 1, dtype=np.int32)
    rows = np.flatnonzero(ends[:-1] <= ends[1:]).astype(np.int32) + 1
    while len(rows):
        parent[rows] = parent[parent[rows]]
        above = parent[rows]
        rows = rows[(above >= 0) & (ends[above] <= ends[rows])]
    return parent
