"""Time intervals as two columns: union, gaps, overlap, difference. Pure, whole columns at once.

An interval is half open, ``[start, end)``. A set of intervals is *flat* when it is sorted and no
two touch; ``union`` makes any set flat. Everything is integer nanoseconds, so sums are exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
PART_ROWS = 1 << 16  # intervals at a time, where they can be taken in parts


class Spans(NamedTuple):
    """A set of intervals: begins and ends, int64, equal length."""

    start: Array
    end: Array

    @property
    def total(self) -> int:
        """Sum of the lengths."""
        return int(np.sum(self.end - self.start))


def empty() -> Spans:
    """Return the set without intervals."""
    return Spans(np.empty(0, np.int64), np.empty(0, np.int64))


def union(start: Array, end: Array) -> Spans:
    """Return the flat set that covers exactly what the given intervals cover.

    Args:
        start: Begins, in any order; intervals may overlap.
        end: Ends, not before the begins. Intervals of zero length cover nothing.
    """
    if not len(start):
        return empty()
    if np.any(start[1:] < start[:-1]):
        order = np.argsort(start, kind="stable")
        start, end = start[order], end[order]
    solid = end > start
    if not solid.all():
        start, end = start[solid], end[solid]
    if not len(start):
        return empty()
    reach = np.maximum.accumulate(end)
    first = np.concatenate(([True], start[1:] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return Spans(start[first], reach[last])


def clip(spans: Spans, start: int, end: int) -> Spans:
    """Return the parts of ``spans`` inside ``[start, end)``; keeps order, drops what is outside."""
    low, high = np.maximum(spans.start, start), np.minimum(spans.end, end)
    inside = low < high
    return Spans(low[inside], high[inside])


def gaps(busy: Spans, start: int, end: int) -> Spans:
    """Return the flat set of what ``busy`` (flat) leaves free of ``[start, end)``."""
    inside = clip(busy, start, end)
    low = np.concatenate(([start], inside.end))
    high = np.concatenate((inside.start, [end]))
    free = low < high
    return Spans(low[free].astype(np.int64), high[free].astype(np.int64))


def intersect(a: Spans, b: Spans) -> Spans:
    """Return what two flat sets have in common, sorted."""
    which, start, end = overlaps(a, b)[1:]
    return Spans(start, end) if len(which) else empty()


def subtract(a: Spans, b: Spans) -> Spans:
    """Return what ``a`` covers and ``b`` does not; both flat, and so is the result."""
    if not len(a.start) or not len(b.start):
        return a
    low, high = int(a.start[0]), int(a.end[-1])
    return intersect(a, gaps(b, low, high))


def overlaps(queries: Spans, parts: Spans) -> tuple[Array, Array, Array, Array]:
    """Cut each query at the borders of ``parts``.

    Args:
        queries: Any intervals.
        parts: Sorted intervals that do not overlap (they may touch).

    Returns:
        Four columns, one row per non-empty overlap, ordered by query, then by time: number of the
        query, number of the part, begin, end.
    """
    first = np.searchsorted(parts.end, queries.start, side="right")
    last = np.searchsorted(parts.start, queries.end, side="left")
    counts = np.maximum(last - first, 0)
    query = np.repeat(np.arange(len(counts)), counts)
    offset = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    part = np.repeat(first, counts) + offset
    start = np.maximum(queries.start[query], parts.start[part])
    end = np.minimum(queries.end[query], parts.end[part])
    solid = start < end
    if not solid.all():
        query, part, start, end = query[solid], part[solid], start[solid], end[solid]
    return query, part, start, end


def covered(queries: Spans, flat: Spans) -> Array:
    """Return, for each query, how many of its nanoseconds ``flat`` covers."""
    return _covered_until(flat, queries.end) - _covered_until(flat, queries.start)


def _covered_until(flat: Spans, moments: Array) -> Array:
    sums = np.concatenate(([0], np.cumsum(flat.end - flat.start)))
    place = np.searchsorted(flat.start, moments, side="right")
    inside = np.maximum(place - 1, 0)
    if not len(flat.start):
        return np.zeros(len(moments), np.int64)
    over = np.clip(flat.end[inside] - moments, 0, None)
    return sums[place] - np.where(place > 0, over, 0)


def shares_of_union(start: Array, end: Array) -> Array:
    """Divide the time that intervals cover among them: where n overlap, each gets one n-th.

    Args:
        start: Begins, in any order.
        end: Ends, not before the begins.

    Returns:
        Whole nanoseconds, none more than the interval is long; their sum is the union's length.
    """
    if not len(start):
        return np.empty(0, np.int64)
    if np.any(start[1:] < start[:-1]):
        return _shares_where_several_run(start, end)
    # Most kernels run alone, one behind the other; only the others need to be cut into pieces.
    is_border = np.concatenate(([True], start[1:] >= np.maximum.accumulate(end)[:-1], [True]))
    shares: Array = end - start
    several = np.flatnonzero(~(is_border[:-1] & is_border[1:]))
    # In parts that fit into the processor's cache: nothing reaches across the border of a group.
    groups = np.flatnonzero(is_border[several])
    cuts = np.unique(np.searchsorted(groups, np.arange(0, len(several), PART_ROWS)))
    cuts = np.append(groups[cuts[cuts < len(groups)]], len(several))
    for low, high in itertools.pairwise(cuts):
        part = several[low:high]
        shares[part] = _shares_where_several_run(start[part], end[part])
    return shares


def _shares_where_several_run(start: Array, end: Array) -> Array:
    time = np.concatenate((start, end))
    order = np.argsort(time, kind="stable")
    time = time[order]
    running = np.cumsum(np.repeat((1, -1), len(start))[order])[:-1]
    lengths = np.diff(time)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    begin, until = place[: len(start)], place[len(start) :]
    begin, until = np.minimum(begin, until), np.maximum(begin, until)  # of no length: any order
    # Time with one interval is counted in integers, so that only what is shared is rounded.
    alone = np.concatenate(([0], np.cumsum(np.where(running == 1, lengths, 0))))
    shared = np.where(running > 1, lengths, 0)
    parts = np.concatenate(([0.0], np.cumsum(shared / np.maximum(running, 1))))
    shares = parts[until] - parts[begin]
    borders = np.minimum(np.rint(np.cumsum(shares)), shared.sum()).astype(np.int64)
    borders[-1] = shared.sum()
    result: Array = alone[until] - alone[begin] + np.diff(borders, prepend=0)
    return result


def by_key(keys: Array, values: Array) -> Iterator[tuple[int, Array]]:
    """Yield each key with its values, in their order; one sort, however many keys there are."""
    order = np.argsort(keys, kind="stable")
    unique, first = np.unique(keys[order], return_index=True)
    parts = np.split(values[order], first[1:])
    yield from zip(unique.tolist(), parts[: len(unique)], strict=True)  # nothing splits into one


def divided(amounts: Array, weights: Array, group: Array) -> Array:
    """Divide an amount of each group among its members, by their weights.

    Args:
        amounts: Of each group, not negative; where all weights are zero, nothing is divided.
        weights: Of each member, not negative.
        group: The group of each member.

    Returns:
        Whole numbers that sum to the amount of each group. None is larger than its member's
        weight if no amount is larger than the weights of its group.
    """
    order = np.argsort(group, kind="stable")
    ordered_weights, ordered_group = weights[order].astype(np.int64), group[order]
    sums = np.zeros(len(amounts), np.int64)
    np.add.at(sums, ordered_group, ordered_weights)
    until = np.cumsum(ordered_weights) - (np.cumsum(sums) - sums)[ordered_group]  # in its group
    whole, amount = np.maximum(sums[ordered_group], 1), amounts[ordered_group].astype(np.int64)
    border = np.floor(until / whole * amount).astype(np.int64)
    # Floats may be a few off; what is left of the division is small, so that it is right although
    # both products may have left the range of 64 bits in the same way.
    border += (until * amount - border * whole) // whole
    first = np.append(True, ordered_group[1:] != ordered_group[:-1])[: len(ordered_group)]
    parts = border - np.where(first, 0, np.append(0, border[:-1])[: len(border)])
    result = np.empty(len(order), np.int64)
    result[order] = parts
    return result
