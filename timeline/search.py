"""Walking through the events that match: which they are, and how many there are anywhere."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collectors.schema import Array
from timeline.index import Index, concatenated
from timeline.lane import NOTHING, Lane
from timeline.matching import CUT, QUOTE

MAX_SORTED_HITS = 1 << 17  # more are counted lane by lane: 2 MB for each search that is kept


@dataclass(frozen=True)
class SearchResult:
    """What a search led to.

    Attributes:
        count: Events that match.
        place: Rank by time of the event that it led to, from 1.
        event: Its number, -1 for none.
    """

    count: int
    place: int = 0
    event: int = NOTHING


class Hits:
    """The events that match, as one bit an event.

    Args:
        index: Where the events are.
        lanes: Those of its lanes that are shown.
        matches: For each event of the index whether it matches.

    Attributes:
        count: Matching events, mirrored ones left out.
    """

    def __init__(self, index: Index, lanes: Sequence[Lane], matches: Array) -> None:
        bits = np.zeros(-(-len(index.start) // 64) * 64, bool)
        bits[: len(index.start)] = matches
        self.words = np.packbits(bits, bitorder="little").view(np.uint64)
        counts = np.bitwise_count(self.words)
        self.before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        searched = [lane for lane in lanes if lane.kind != "counter" and not lane.mirror]
        parts = [part for lane in searched for part in lane.parts]
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

    def step(self, moment: int, event: int, direction: int) -> SearchResult:
        """Return the next match after an event at a moment, or the one before it.

        Args:
            moment: Begin of the event, or any time.
            event: Number of the event, -1 when there is only a time.
            direction: 1 for the next, -1 for the one before, 0 only to count. After the last
                comes the first.
        """
        if not self.count or not direction:
            return SearchResult(self.count)
        if self.by_time is not None:
            return self._step_sorted(moment, event + (direction > 0), direction)
        upto = np.array([self._upto(p, moment, event + (direction > 0)) for p in self.parts])
        ranks, borders = self.rank(upto), self._borders
        passed = int((ranks - borders[:, 0]).sum())
        if direction > 0:
            wraps = passed == self.count
            ranks = borders[:, 0] if wraps else ranks
            candidates = [self.select(int(r)) for r in ranks[ranks < borders[:, 1]]]
            return SearchResult(
                self.count, 1 if wraps else passed + 1, min(candidates, key=self._when)
            )
        wraps = passed == 0
        ranks = borders[:, 1] if wraps else ranks
        candidates = [self.select(int(r) - 1) for r in ranks[ranks > borders[:, 0]]]
        return SearchResult(
            self.count, self.count if wraps else passed, max(candidates, key=self._when)
        )

    def _step_sorted(self, moment: int, event: int, direction: int) -> SearchResult:
        """Return the same where all matches are sorted; ``event`` is the first that counts."""
        times, events = self.by_time or (np.empty(0), np.empty(0))
        low = int(np.searchsorted(times, moment, side="left"))
        high = int(np.searchsorted(times, moment, side="right"))
        passed = low + int(np.searchsorted(events[low:high], event, side="left"))
        place = passed if direction > 0 else passed - 1
        place %= self.count  # after the last comes the first
        return SearchResult(self.count, place + 1, int(events[place]))

    def _when(self, event: int) -> tuple[int, int]:
        return int(self.index.start[event]), event

    def _upto(self, part: tuple[int, int, int], moment: int, event: int) -> int:
        """Return the first event of a part that is not before ``(moment, event)``."""
        first, count, _ = part
        begins = self.index.start[first : first + count]
        low = first + int(np.searchsorted(begins, np.int64(moment), side="left"))
        high = first + int(np.searchsorted(begins, np.int64(moment), side="right"))
        return min(max(event, low), high)


def exact_text(name: str, limit: int) -> str:
    """Return the text to search for when only events of this name are wanted."""
    text = name if len(name) + 2 <= limit else name[: limit - 3] + CUT
    return f"{QUOTE}{text}{QUOTE}"
