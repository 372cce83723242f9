"""What a view of the timeline shows, from its indexes: tiles, searches, measurements, chains.

No tile looks at all events; only a search looks once at each name. Where a lane has more of them
in view than a screen has room for, each bin of time shows its exact busy share and its longest
event, so that a rare stall stays visible at every zoom.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from collectors.schema import Array
from timeline.colors import OPERATIONS, PROGRAM
from timeline.index import NOTHING, Group, Index, Lane, concatenated

MIN_BINS_A_MARK = 3  # events closer than this overlap on the screen and would overstate
MAX_SORTED_HITS = 1 << 17  # more are counted lane by lane: 2 MB for each search that is kept
KEPT_SEARCHES = 4
QUOTE, CUT = '"', "…"  # around a whole name; where one was cut
FULL = 255

_ORDER = {"iterations": 0, "findings": 1, "ledger": 2}
_TABLE_ORDER = {OPERATIONS: 3, "ranges": 3, "marks": 4, "operators": 5, "api_calls": 6}


@dataclass(frozen=True)
class Placed:
    """A lane of a timeline.

    Attributes:
        index: The index that holds it.
        lane: What it is.
        offset: Number in the timeline of the index's first event.
        name_offset: Number in the timeline of the index's first name.
    """

    index: Index
    lane: Lane
    offset: int
    name_offset: int


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


@dataclass(frozen=True)
class Found:
    """What a search led to.

    Attributes:
        count: Events that match.
        place: Rank by time of the one that was found, from 1.
        event: Its number, -1 for none.
    """

    count: int
    place: int = 0
    event: int = NOTHING


class Link(NamedTuple):
    """One event of a chain, and what it is in it."""

    role: str
    event: int


class Hits:
    """The events whose names contain a text, as one bit an event.

    Attributes:
        count: Matching events, mirrored ones left out.
    """

    def __init__(self, timeline: Timeline, text: str) -> None:
        index = timeline.recording
        bits = np.zeros(-(-len(index.start) // 64) * 64, bool)
        if len(index.names):
            named = _matching(index.names, text)
            named = named.fill_null(False).to_numpy(zero_copy_only=False)
            if named.any():
                bits[: len(index.start)] = named[index.name]
        self.words = np.packbits(bits, bitorder="little").view(np.uint64)
        counts = np.bitwise_count(self.words)
        self.before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        lanes = [p.lane for p in timeline.lanes if p.index is index and not p.lane.mirror]
        parts = [part for lane in lanes if lane.kind == "events" for part in lane.parts]
        borders = self.rank(np.array([(a, a + n) for a, n, _ in parts], np.int64).reshape(-1, 2))
        with_hits = np.flatnonzero(borders[:, 1] > borders[:, 0])
        self.parts = [parts[i] for i in with_hits]
        self._borders = borders[with_hits]  # ranks at the begin and the end of each part
        self.count = int((borders[:, 1] - borders[:, 0]).sum())
        self.index = index

    def rank(self, places: Array) -> Array:
        """Return how many of the events before each place match."""
        word, bit = places >> 6, (places & 63).astype(np.uint64)
        inside = np.minimum(word, max(len(self.words) - 1, 0))
        below = (np.uint64(1) << bit) - np.uint64(1)
        some = np.bitwise_count(self.words[inside] & below) if len(self.words) else 0
        result: Array = self.before[word] + some
        return result

    def select(self, rank: int) -> int:
        """Return the place of the matching event with this rank, from 0."""
        word = int(np.searchsorted(self.before, rank, side="right")) - 1
        bits = np.flatnonzero(
            np.unpackbits(self.words[word : word + 1].view(np.uint8), bitorder="little")
        )
        return word * 64 + int(bits[rank - int(self.before[word])])

    def any(self, first: Array, last: Array) -> Array:
        """Tell whether any event of each ``[first, last)`` matches."""
        result: Array = self.rank(np.maximum(first, last)) > self.rank(first)
        return result

    @functools.cached_property
    def by_time(self) -> tuple[Array, Array] | None:
        """Begins and numbers of all matching events by time; None when they are too many."""
        if self.count > MAX_SORTED_HITS:
            return None
        events = concatenated((self._events(part) for part in self.parts), "i8")
        order = np.lexsort((events, self.index.start[events]))
        return self.index.start[events[order]], events[order]

    def _events(self, part: tuple[int, int, int]) -> Array:
        first, count, _ = part
        low, high = first >> 6, -(-(first + count) // 64)
        bits = np.unpackbits(self.words[low:high].view(np.uint8), bitorder="little")
        places = np.flatnonzero(bits) + low * 64
        inside: Array = places[(places >= first) & (places < first + count)]
        return inside

    def ticks(self, edges: Array) -> Array:
        """Return how many matching events begin in each bin."""
        if self.by_time is not None:
            counts: Array = np.diff(np.searchsorted(self.by_time[0], edges, side="left"))
            return counts
        total = np.zeros(len(edges) - 1, np.int64)
        for part in self.parts:
            total += np.diff(self.rank(self.index.before(part, edges)))
        return total

    def step(self, moment: int, event: int, direction: int) -> Found:
        """Return the next match after an event at a moment, or the one before it.

        Args:
            moment: Begin of the event, or any time.
            event: Number of the event, -1 when there is only a time.
            direction: 1 for the next, -1 for the one before, 0 only to count. After the last
                comes the first.
        """
        if not self.count or not direction:
            return Found(self.count)
        if self.by_time is not None:
            return self._step_sorted(moment, event + (direction > 0), direction)
        upto = np.array([self._upto(p, moment, event + (direction > 0)) for p in self.parts])
        ranks, borders = self.rank(upto), self._borders
        passed = int((ranks - borders[:, 0]).sum())
        if direction > 0:
            wraps = passed == self.count
            ranks = borders[:, 0] if wraps else ranks
            candidates = [self.select(int(r)) for r in ranks[ranks < borders[:, 1]]]
            return Found(self.count, 1 if wraps else passed + 1, min(candidates, key=self._when))
        wraps = passed == 0
        ranks = borders[:, 1] if wraps else ranks
        candidates = [self.select(int(r) - 1) for r in ranks[ranks > borders[:, 0]]]
        return Found(self.count, self.count if wraps else passed, max(candidates, key=self._when))

    def _step_sorted(self, moment: int, event: int, direction: int) -> Found:
        """Do the same where all matches stand by time; ``event`` is the first that counts."""
        times, events = self.by_time or (np.empty(0), np.empty(0))
        low = int(np.searchsorted(times, moment, side="left"))
        high = int(np.searchsorted(times, moment, side="right"))
        passed = low + int(np.searchsorted(events[low:high], event, side="left"))
        place = passed if direction > 0 else passed - 1
        place %= self.count  # after the last comes the first
        return Found(self.count, place + 1, int(events[place]))

    def _when(self, event: int) -> tuple[int, int]:
        return int(self.index.start[event]), event

    def _upto(self, part: tuple[int, int, int], moment: int, event: int) -> int:
        """Return the first event of a part that is not before ``(moment, event)``."""
        first, count, _ = part
        begins = self.index.start[first : first + count]
        low = first + int(np.searchsorted(begins, np.int64(moment), side="left"))
        high = first + int(np.searchsorted(begins, np.int64(moment), side="right"))
        return min(max(event, low), high)


@dataclass(eq=False)
class Timeline:
    """All lanes of one window of one recording.

    Events and names are numbered through: those of the recording first, then those of the window.

    Attributes:
        recording: What devices and threads did.
        window: What the analysis says about it.
        devices: Key and heading of each device that is shown.
        telemetry: What was sampled meanwhile; counters only, so that it numbers no event.
    """

    recording: Index
    window: Index
    devices: Mapping[int, str]
    telemetry: Index | None = None
    _searches: dict[str, Hits] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def origin_ns(self) -> int:
        """Time zero of all other times, on the recording's clock."""
        return int(self.recording.meta["origin_ns"])

    @property
    def duration_ns(self) -> int:
        """From there to the last event."""
        return int(self.recording.meta["duration_ns"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not shown, in sentences."""
        indexes = (self.recording, *((self.telemetry,) if self.telemetry is not None else ()))
        return tuple(str(note) for index in indexes for note in index.meta["notes"])

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """Groups that hold a lane, in the order in which they are shown."""
        known: dict[str, Group] = {PROGRAM.id: PROGRAM}
        sampled = self.telemetry.groups if self.telemetry is not None else ()
        for group in (*self.window.groups, *self.recording.groups, *sampled):
            known.setdefault(group.id, group)
        order = {"program": 0, "device": 1, "metrics": 2, "thread": 3}
        filled = {p.index.groups[p.lane.group].id for p in self.lanes}
        shown = [g for g in known.values() if g.id in filled]
        return tuple(sorted(shown, key=lambda g: (order.get(g.kind, 9), g.device)))

    @functools.cached_property
    def lanes(self) -> tuple[Placed, ...]:
        """Every lane that holds something; its place here is its number."""
        events, names = len(self.recording.start), len(self.recording.names)
        found = [Placed(self.window, lane, events, names) for lane in self.window.lanes]
        found += [Placed(self.recording, lane, 0, 0) for lane in self.recording.lanes]
        if self.telemetry is not None:
            found += [Placed(self.telemetry, lane, 0, 0) for lane in self.telemetry.lanes]
        return tuple(p for p in found if p.lane.count and self._is_shown(p))

    @functools.cached_property
    def ledger_lanes(self) -> tuple[int, ...]:
        """Numbers of the ledgers' lanes."""
        return tuple(n for n, p in enumerate(self.lanes) if p.lane.kind == "ledger")

    def _is_shown(self, placed: Placed) -> bool:
        group = placed.index.groups[placed.lane.group]
        return group.device < 0 or group.device in self.devices

    @functools.cached_property
    def lanes_by_group(self) -> dict[str, list[int]]:
        """Numbers of the lanes of each group, in the order in which they are shown."""
        result: dict[str, list[int]] = {}
        for number, placed in enumerate(self.lanes):
            result.setdefault(placed.index.groups[placed.lane.group].id, []).append(number)
        for numbers in result.values():
            numbers.sort(key=lambda n: self._order(self.lanes[n].lane))
        return result

    @staticmethod
    def _order(lane: Lane) -> tuple[int, bool]:
        return _ORDER.get(lane.kind, _TABLE_ORDER.get(lane.table, 7)), lane.mirror

    def title(self, group: Group) -> str:
        """Return the heading of a group."""
        return self.devices.get(group.device, "") + group.title

    @functools.cached_property
    def _part_firsts(self) -> tuple[Array, Array]:
        """First event of every part, sorted, and the lane that each belongs to."""
        firsts = [
            (part[0] + p.offset, number)
            for number, p in enumerate(self.lanes)
            if p.lane.kind != "counter"
            for part in p.lane.parts
            if part[1]
        ]
        table = np.array(sorted(firsts), np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def lane_of(self, event: int) -> int:
        """Return the lane of an event.

        Raises:
            KeyError: No lane that is shown holds it.
        """
        firsts, lanes = self._part_firsts
        place = int(np.searchsorted(firsts, event, side="right")) - 1
        if place >= 0:
            number = int(lanes[place])
            placed = self.lanes[number]
            local = event - placed.offset
            if any(a <= local < a + n for a, n, _ in placed.lane.parts):
                return number
        raise KeyError(event)

    def span(self, event: int) -> tuple[int, int]:
        """Return begin and end of an event."""
        placed = self.lanes[self.lane_of(event)]
        at = np.array([event - placed.offset])
        return int(placed.index.start[at][0]), int(placed.index.end(at)[0])

    def name_of(self, event: int) -> str:
        """Return the name of an event."""
        placed = self.lanes[self.lane_of(event)]
        return placed.index.text(int(placed.index.name[event - placed.offset]))

    def color_of(self, event: int) -> int:
        """Return the colour of an event."""
        placed = self.lanes[self.lane_of(event)]
        local = event - placed.offset
        part = next(p for p in placed.lane.parts if p[0] <= local < p[0] + p[1])
        return part[2] if placed.lane.kind == "ledger" else int(placed.index.color[local])

    def text(self, name: int) -> str:
        """Return the text of a name's number."""
        own = name - len(self.recording.names)
        return self.recording.text(name) if own < 0 else self.window.text(own)

    # --- what is in view --------------------------------------------------------------------

    def marks(
        self, number: int, start: int, end: int, bins: int, hits: Hits | None = None
    ) -> Marks:
        """Return what a view shows of a lane that is no counter."""
        placed = self.lanes[number]
        index, parts = placed.index, placed.lane.parts
        borders = [index.within(part, start, end) for part in parts]
        hits = hits if index is self.recording else None
        if sum(b - a for a, b in borders) <= bins // MIN_BINS_A_MARK:
            return self._numbered(placed, _exact(index, parts, borders, hits))
        edges = bin_edges(start, end, bins)
        if placed.lane.kind == "ledger":
            return self._numbered(placed, _shares(index, parts, edges))
        return self._numbered(placed, _density(index, parts[0], edges, hits))

    @staticmethod
    def _numbered(placed: Placed, marks: Marks) -> Marks:
        if not placed.offset and not placed.name_offset:
            return marks
        return Marks(
            **{
                **vars(marks),
                "event": marks.event + placed.offset,
                "name": marks.name.astype(np.int64) + placed.name_offset,
            }
        )

    def samples(self, number: int, start: int, end: int, bins: int) -> Samples:
        """Return what a view shows of a counter."""
        placed = self.lanes[number]
        index, (first, count, _) = placed.index, placed.lane.parts[0]
        times = index.time[first : first + count]
        low = max(int(np.searchsorted(times, np.int64(start), side="right")) - 1, 0)
        high = int(np.searchsorted(times, np.int64(end), side="left"))
        if high - low <= bins:
            at = np.arange(first + low, first + high)
            value = index.value[at]
            last = self.duration_ns if placed.lane.until < 0 else placed.lane.until
            after = times[high] if high < count else min(end, last)
            until = np.append(index.time[at[1:]], max(after, *index.time[at[-1:]]))[: len(at)]
            return Samples(time=index.time[at], until=until, low=value, high=value, exact=True)
        return self._bands(placed, bin_edges(start, end, bins))

    @staticmethod
    def _bands(placed: Placed, edges: Array) -> Samples:
        """Return the band of each bin that has samples, and what holds until the next that has."""
        index, (first, count, _) = placed.index, placed.lane.parts[0]
        places = first + np.searchsorted(index.time[first : first + count], edges, side="left")
        bins = np.flatnonzero(places[1:] > places[:-1])
        begin, stop = places[bins], places[bins + 1]
        held = np.flatnonzero(np.diff(bins) > 1)
        value = index.value[stop[held] - 1]
        time = np.concatenate([edges[bins], edges[bins[held] + 1]])
        until = np.concatenate([edges[bins + 1], edges[bins[held + 1]]])
        low = np.concatenate([index.value[index.lowest.largest(begin, stop)], value])
        high = np.concatenate([index.value[index.highest.largest(begin, stop)], value])
        order = np.argsort(time, kind="stable")
        columns = (time[order], until[order], low[order], high[order])
        return Samples(
            **dict(zip(("time", "until", "low", "high"), columns, strict=True)), exact=False
        )

    def longest(self, numbers: Sequence[int], start: int, end: int, count: int) -> list[int]:
        """Return the longest events of a view in some lanes, the longest first."""
        views = [
            (placed.index, placed.offset, *placed.index.within(part, start, end))
            for placed in (self.lanes[n] for n in numbers)
            for part in placed.lane.parts
        ]
        found: list[tuple[int, int]] = []
        for peak, index, offset, low, high in sorted(_with_peaks(views), key=lambda v: v[0]):
            if len(found) == count and peak >= found[-1][0]:
                break  # no lane that is left has a longer one
            best = index.longest.top(low, high, count)
            lengths = index.length(best)
            found += zip((-lengths).tolist(), (best + offset).tolist(), strict=True)
            found = sorted(found)[:count]
        return [event for _, event in found]

    def ledger(self, number: int, start: int, end: int) -> dict[int, int]:
        """Return the nanoseconds of each colour of a ledger lane between two moments, exactly."""
        placed, moments = self.lanes[number], np.array([start, end], np.int64)
        sums = {}
        for part in placed.lane.parts:
            covered = placed.index.covered(part, moments, placed.index.before(part, moments))
            sums[part[2]] = int(covered[1] - covered[0])
        return sums

    # --- searching --------------------------------------------------------------------------

    def hits(self, text: str) -> Hits:
        """Return the events whose names contain ``text``, whatever the case; kept for a while."""
        with self._lock:  # requests come on several threads; the first one searches for all
            found = self._searches.pop(text, None) or Hits(self, text)
            self._searches[text] = found
            while len(self._searches) > KEPT_SEARCHES:
                self._searches.pop(next(iter(self._searches)))
        return found

    def step(self, text: str, moment: int, event: int, direction: int) -> Found:
        """Return what ``Hits.step`` finds from an event, be it one that is shown twice."""
        if 0 <= event < len(self.recording.start):
            placed = self.lanes[self.lane_of(event)]
            if placed.lane.mirror:
                event = self.event_at(*self.row_of(event))
        return self.hits(text).step(moment, event, direction)

    # --- what belongs together --------------------------------------------------------------

    def row_of(self, event: int) -> tuple[str, int]:
        """Return the table and the row that an event came from."""
        placed = self.lanes[self.lane_of(event)]
        return placed.lane.table, int(placed.index.row[event - placed.offset])

    def event_at(self, table: str, row: int) -> int:
        """Return the event that came from a row of a table, -1 for none."""
        for placed in self.lanes:
            if placed.lane.table != table or placed.lane.mirror:
                continue
            for first, count, _ in placed.lane.parts:
                at = np.flatnonzero(placed.index.row[first : first + count] == row)
                if len(at):
                    return first + int(at[0]) + placed.offset
        return NOTHING

    def chain(self, event: int) -> list[Link]:
        """Return the range, operator, API call and operation that belong to an event."""
        table, _ = self.row_of(event)
        partner = int(self.recording.link[event]) if event < len(self.recording.start) else NOTHING
        call = {OPERATIONS: partner, "api_calls": event}.get(table, NOTHING)
        operation = {OPERATIONS: event, "api_calls": partner}.get(table, NOTHING)
        links = [Link("API call", call), Link("operation", operation)]
        if call >= 0:
            range_word = str(self.recording.meta["range_word"])
            around = (("ranges", range_word), ("operators", "operator"))
            links = [*(Link(word, self._around(call, t)) for t, word in around), *links]
        return [link for link in links if link.event >= 0] or [Link("", event)]

    def _around(self, call: int, table: str) -> int:
        """Return the innermost event of a table around a call on its thread, -1 for none."""
        group = self._group_of(call)
        moment = int(self.recording.start[call])
        best, chosen = NOTHING, (0, 0)
        for number in self.lanes_by_group[group.id]:
            placed = self.lanes[number]
            if placed.lane.table != table:
                continue
            first, last = placed.index.within(placed.lane.parts[0], moment, moment + 1)
            if last <= first:
                continue
            start, end = self.span(last - 1)  # of those that began, a lane has one at most
            # As ``facts.nesting.innermost``: what began last, and of those what ends first.
            if start <= moment < end and (best < 0 or (start, -end) > chosen):
                best, chosen = last - 1, (start, -end)
        return best

    def _group_of(self, event: int) -> Group:
        placed = self.lanes[self.lane_of(event)]
        return placed.index.groups[placed.lane.group]


def _with_peaks(
    views: Sequence[tuple[Index, int, int, int]],
) -> Iterator[tuple[int, Index, int, int, int]]:
    """Put before each stretch of an index its longest event's length, negated; drop empty ones."""
    for index in {id(v[0]): v[0] for v in views}.values():
        mine = [v for v in views if v[0] is index and v[3] > v[2]]
        low, high = (np.array([v[i] for v in mine], np.int64) for i in (2, 3))
        lengths = index.length(index.longest.largest(low, high))
        for length, view in zip(lengths.tolist(), mine, strict=True):
            yield (-length, *view)


def exactly(name: str, limit: int) -> str:
    """Return the text to search for when only events of this name are wanted."""
    shown = name if len(name) + 2 <= limit else name[: limit - 3] + CUT
    return f"{QUOTE}{shown}{QUOTE}"


def _matching(names: pa.LargeStringArray, text: str) -> pa.BooleanArray:
    """Tell which names contain ``text``, or are the whole name between quotation marks."""
    if len(text) < 3 or text[0] + text[-1] != 2 * QUOTE:
        return pc.match_substring(names, text, ignore_case=True)
    whole = text[1:-1]
    if whole.endswith(CUT):
        return pc.starts_with(names, whole.removesuffix(CUT))
    return pc.equal(names, whole)


def bin_edges(start: int, end: int, bins: int) -> Array:
    """Return multiples of a power of two, so that bins keep their place while the view moves."""
    width = 1 << max(int(np.ceil(np.log2(max(end - start, 1) / bins))), 0)
    return np.arange(start // width, -(-end // width) + 1, dtype=np.int64) * width


def _exact(
    index: Index,
    parts: Sequence[tuple[int, int, int]],
    borders: Sequence[tuple[int, int]],
    hits: Hits | None,
) -> Marks:
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


def _density(index: Index, part: tuple[int, int, int], edges: Array, hits: Hits | None) -> Marks:
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


def _shares(index: Index, parts: Sequence[tuple[int, int, int]], edges: Array) -> Marks:
    """Return a mark for each row of the ledger in each bin, as high as its share of the bin."""
    width = int(edges[1] - edges[0])
    found = []
    for part in parts:
        bins, busy, event, _ = _bins(index, part, edges, None)
        some = np.flatnonzero(busy > 0)
        fill = np.clip(np.round(busy[some] / width * FULL), 1, FULL).astype(np.uint8)
        found.append((bins[some], fill, event[some], np.full(len(some), part[2], np.uint8)))
    bins, fill, event, color = (np.concatenate(c) for c in zip(*found, strict=True))
    order = np.argsort(bins, kind="stable")  # bins in order, and in each the rows' own order
    event = event[order]
    return Marks(
        start=edges[bins[order]],
        end=edges[bins[order] + 1],
        name=index.name[event],
        color=color[order],
        fill=fill[order],
        event=event,
        hit=np.zeros(len(order), bool),
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
