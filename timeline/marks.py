"""What is drawn of a lane: exact events or samples where there is room, else bins of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collectors.schema import Array
from timeline.index import Index, concatenated
from timeline.lane import NOTHING
from timeline.search import Hits

FULL = 255


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Rectangles to draw: exact events, or one for each busy bin of time; columns of one length.

    Attributes:
        start: Begins, ns.
        end: Ends, ns.
        name: Number of the name of the event, or of the longest in the bin.
        color: Its colour.
        fill: 1 to 255, busy part of the rectangle's time.
        event: Number of that event.
        hit: Whether what was searched for is in this event, or in any of the bin.
        exact: True when these are events.
    """

    start: Array
    end: Array
    name: Array
    color: Array
    fill: Array
    event: Array
    hit: Array
    exact: bool


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Values of a counter: samples that hold until the next, or the band of each bin of time."""

    time: Array
    until: Array
    low: Array
    high: Array
    exact: bool


def bin_edges(start: int, end: int, bins: int) -> Array:
    """Return multiples of a power of two, so that bins keep their place while the view moves."""
    width = 1 << max(int(np.ceil(np.log2(max(end - start, 1) / bins))), 0)
    return np.arange(start // width, -(-end // width) + 1, dtype=np.int64) * width


def exact_marks(
    index: Index,
    parts: Sequence[tuple[int, int, int]],
    borders: Sequence[tuple[int, int]],
    hits: Hits | None,
) -> Marks:
    """Return one mark for each event."""
    events = concatenated((np.arange(a, b) for a, b in borders), "i8")
    if len(parts) > 1:
        events = events[np.argsort(index.start[events], kind="stable")]
    color = index.color[events]
    return Marks(
        start=index.start[events],
        end=index.end(events),
        name=index.name[events],
        color=color,
        fill=np.full(len(events), FULL, np.uint8),
        event=events,
        hit=hits.any(events, events + 1) if hits else np.zeros(len(events), bool),
        exact=True,
    )


def density_marks(
    index: Index, part: tuple[int, int, int], edges: Array, hits: Hits | None
) -> Marks:
    """Return one mark for each busy bin; one event that fills several is one mark."""
    bins, busy, event, hit = _bins(index, part, edges, hits)
    width = int(edges[1] - edges[0])
    fill = np.clip(busy * FULL // width, 1, FULL)
    full = fill == FULL
    same = np.zeros(len(bins), bool)
    same[1:] = (np.diff(bins) == 1) & (np.diff(event) == 0) & full[1:] & full[:-1]
    begin = np.flatnonzero(~same)
    stop = np.append(begin[1:], len(bins))[: len(begin)]
    return Marks(
        start=edges[bins[begin]],
        end=edges[bins[stop - 1] + 1],
        name=index.name[event[begin]],
        color=index.color[event[begin]],
        fill=fill[begin].astype(np.uint8),
        event=event[begin],
        hit=hit[begin],
        exact=False,
    )


def share_marks(
    index: Index, parts: Sequence[tuple[int, int, int]], edges: Array, hits: Hits | None
) -> Marks:
    """Return a mark for each row of the ledger in each bin, as high as its share of the bin."""
    width = int(edges[1] - edges[0])
    columns = []
    for part in parts:
        bins, busy, event, hit = _bins(index, part, edges, hits)
        some = np.flatnonzero(busy > 0)
        fill = np.clip(np.round(busy[some] / width * FULL), 1, FULL).astype(np.uint8)
        color = np.full(len(some), part[2], np.uint8)
        columns.append((bins[some], fill, event[some], color, hit[some]))
    bins, fill, event, color, hit = (np.concatenate(c) for c in zip(*columns, strict=True))
    order = np.argsort(bins, kind="stable")  # bins in order, and in each the rows' own order
    event = event[order]
    return Marks(
        start=edges[bins[order]],
        end=edges[bins[order] + 1],
        name=index.name[event],
        color=color[order],
        fill=fill[order],
        event=event,
        hit=hit[order],
        exact=False,
    )


def _bins(
    index: Index, part: tuple[int, int, int], edges: Array, hits: Hits | None
) -> tuple[Array, Array, Array, Array]:
    """Return the bins in which a part has events: busy ns, longest event, whether one matches.

    The longest is that which begins there, unless one that reaches into the bin covers more.
    """
    places = index.before(part, edges)
    busy = np.diff(index.covered(part, edges, places))
    begins = places[1:] > places[:-1]
    bins = np.flatnonzero(begins | (busy > 0))
    first, last = places[bins], places[bins + 1]
    event = index.longest.largest(first, last)
    reaching = np.maximum(first - 1, part[0])
    inside = np.minimum(index.end(reaching), edges[bins + 1]) - edges[bins]
    inside[first == part[0]] = 0  # nothing came before
    length = np.where(event >= 0, index.length(np.maximum(event, 0)), NOTHING)
    event = np.where(length >= inside, event, reaching)
    if hits is None:
        return bins, busy[bins], event, np.zeros(len(bins), bool)
    reaches = inside > 0
    hit = hits.any(np.where(reaches, reaching, first), last)
    return bins, busy[bins], event, hit
