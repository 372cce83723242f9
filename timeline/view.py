"""What a view of the timeline shows, from its indexes: tiles, searches, measurements, chains.

No tile looks at all events; only a search looks once at each name. Where a lane has more of them
in view than a screen has room for, each bin of time shows its exact busy share and its longest
event, so that a rare stall stays visible at every zoom.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from collectors.schema import Array
from timeline.colors import OPERATIONS, PROGRAM
from timeline.index import Index
from timeline.lane import NOTHING, Group, Lane, track_labels
from timeline.marks import Marks, Samples, bin_edges, density_marks, exact_marks, share_marks
from timeline.matching import matching_query, matching_text
from timeline.query import parsed
from timeline.search import Hits, SearchResult

MIN_BINS_A_MARK = 3  # events closer than this overlap on the screen and would overstate
KEPT_SEARCHES = 4


_ORDER = {"iterations": 0, "findings": 1, "ledger": 2}
_TABLE_ORDER = {OPERATIONS: 3, "ranges": 3, "marks": 4, "operators": 5, "api_calls": 6}


@dataclass(frozen=True)
class TimelineLane:
    """A lane of a timeline.

    Attributes:
        index: The index that holds it.
        lane: What it is.
        offset: Number in the timeline of the index's first event.
        name_offset: Number in the timeline of the index's first name.
        track: Label of its track, which its deeper levels share.
    """

    index: Index
    lane: Lane
    offset: int
    name_offset: int
    track: str


class Link(NamedTuple):
    """One event of a chain, and what it is in it."""

    role: str
    event: int


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
        by_id: dict[str, Group] = {PROGRAM.id: PROGRAM}
        sampled = self.telemetry.groups if self.telemetry is not None else ()
        for group in (*self.window.groups, *self.recording.groups, *sampled):
            by_id.setdefault(group.id, group)
        filled = {p.index.groups[p.lane.group].id for p in self.lanes}
        present = [g for g in by_id.values() if g.id in filled]
        gpus = {self._gpu(g) for g in present if g.kind == "device"}

        def place(group: Group) -> tuple[int, str, bool, int]:
            """Put the counters of a GPU under its lanes; those of no GPU that is shown follow."""
            gpu, is_counter = self._gpu(group), group.kind == "metrics"
            if group.kind == "device" or (is_counter and gpu and gpu in gpus):
                return 1, gpu.zfill(4), is_counter, group.device
            return {"program": 0, "metrics": 2, "thread": 3}.get(group.kind, 9), "", False, 0

        return tuple(sorted(present, key=place))

    def _gpu(self, group: Group) -> str:
        """Return the number of the GPU in the title of a group, "" for none."""
        match = re.match(r"GPU (\d+)\b", self.title(group))
        return match[1] if match else ""

    @functools.cached_property
    def lanes(self) -> tuple[TimelineLane, ...]:
        """Every lane that holds something; its place here is its number."""
        events, names = len(self.recording.start), len(self.recording.names)
        sources = [(self.window, events, names), (self.recording, 0, 0)]
        if self.telemetry is not None:
            sources.append((self.telemetry, 0, 0))
        placed = [
            TimelineLane(index, lane, offset, name_offset, track)
            for index, offset, name_offset in sources
            for lane, track in zip(index.lanes, track_labels(index.lanes), strict=True)
        ]
        return tuple(p for p in placed if p.lane.count and self._is_shown(p))

    @functools.cached_property
    def ledger_lanes(self) -> tuple[int, ...]:
        """Numbers of the ledgers' lanes."""
        return tuple(n for n, p in enumerate(self.lanes) if p.lane.kind == "ledger")

    def _is_shown(self, placed: TimelineLane) -> bool:
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
        hits = hits if hits is not None and hits.index is index else None
        if sum(b - a for a, b in borders) <= bins // MIN_BINS_A_MARK:
            return self._numbered(placed, exact_marks(index, parts, borders, hits))
        edges = bin_edges(start, end, bins)
        if placed.lane.kind == "ledger":
            return self._numbered(placed, share_marks(index, parts, edges, hits))
        return self._numbered(placed, density_marks(index, parts[0], edges, hits))

    @staticmethod
    def _numbered(placed: TimelineLane, marks: Marks) -> Marks:
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
    def _bands(placed: TimelineLane, edges: Array) -> Samples:
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
        longest: list[tuple[int, int]] = []
        for peak, index, offset, low, high in sorted(_with_peaks(views), key=lambda v: v[0]):
            if len(longest) == count and peak >= longest[-1][0]:
                break  # no lane that is left has a longer one
            best = index.longest.top(low, high, count)
            lengths = index.length(best)
            longest += zip((-lengths).tolist(), (best + offset).tolist(), strict=True)
            longest = sorted(longest)[:count]
        return [event for _, event in longest]

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
        """Return the events that a text asks for; kept for a while.

        Args:
            text: A query as ``timeline.query`` defines it, else what names must contain.

        Raises:
            QuerySyntaxError: It is a query, and wrong.
        """
        with self._lock:  # requests come on several threads; the first one searches for all
            hits = self._searches.pop(text, None) or self._search(text)
            self._searches[text] = hits
            while len(self._searches) > KEPT_SEARCHES:
                self._searches.pop(next(iter(self._searches)))
        return hits

    def _search(self, text: str) -> Hits:
        query = parsed(text)
        index = self.window if query and query.is_about_window else self.recording
        lanes = [p.lane for p in self.lanes if p.index is index]
        matches = matching_query(index, query, self.title) if query else matching_text(index, text)
        return Hits(index, lanes, matches)

    def step(self, text: str, moment: int, event: int, direction: int) -> SearchResult:
        """Return what ``Hits.step`` finds from an event, be it one that is shown twice.

        Raises:
            QuerySyntaxError: ``text`` is a query, and wrong.
        """
        hits = self.hits(text)
        own = len(self.recording.start)
        if 0 <= event < own:
            placed = self.lanes[self.lane_of(event)]
            if placed.lane.mirror:
                event = self.event_at(*self.row_of(event))
        offset = own if hits.index is self.window else 0
        # Numbers of the other index say nothing here; the moment alone does.
        inside = offset <= event < offset + len(hits.index.start)
        result = hits.step(moment, event - offset if inside else NOTHING, direction)
        return replace(result, event=result.event + offset) if result.event >= 0 else result

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
        stretches = [v for v in views if v[0] is index and v[3] > v[2]]
        low, high = (np.array([v[i] for v in stretches], np.int64) for i in (2, 3))
        lengths = index.length(index.longest.largest(low, high))
        for length, view in zip(lengths.tolist(), stretches, strict=True):
            yield (-length, *view)
