"""Which collectives of two ranks are the same, and whether the two clocks agree about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.intervals import Array

MOST = 0.90  # of what is compared; a record may be lost, or one collective be cut at a border
OVERLAP_NS = 2_000  # what clocks of one machine may disagree by
MIN_FOR_CLOCKS = 8  # collectives that show the same difference
END_NS = 50_000  # ranks end a collective within microseconds of each other
END_SHARE = 0.10  # … or within this part of it, where the last piece of a large one takes longer


@dataclass(frozen=True, eq=False)
class RankLane:
    """Collectives of one rank in one group, by begin."""

    rank: int
    launch: Array
    start_ns: Array
    end_ns: Array
    label: Array
    sequence: Array
    is_rooted: Array

    def __len__(self) -> int:
        """Return the number of collectives."""
        return len(self.launch)

    @classmethod
    def of(cls, rows: pd.DataFrame) -> RankLane:
        """Return the lane of rows of one rank, as ``collectives`` makes them."""
        rows = rows.sort_values("start_ns", kind="stable")
        names = [f.name for f in dataclasses.fields(cls)][1:]
        return cls(int(rows["rank"].iloc[0]), *(rows[name].to_numpy() for name in names))


@dataclass(frozen=True, kw_only=True)
class ClockDifference:
    """Two ranks whose clocks do not agree.

    Attributes:
        launches: A collective as the one and the other recorded it: rows in ``Facts.launches``.
        offset_ns: How much later the other's clock stands, by the ends of their collectives.
        count: Collectives that show it.
    """

    launches: tuple[int, int]
    offset_ns: int
    count: int


@dataclass(frozen=True, eq=False)
class Pairs:
    """Collectives of two lanes that should be the same: places in either."""

    first: RankLane
    other: RankLane
    first_places: Array
    other_places: Array

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first_places)

    def only(self, chosen: Array) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.first, self.other, self.first_places[chosen], self.other_places[chosen])

    @property
    def overlaps(self) -> Array:
        """Whether neither rank ended before the other had begun, which cannot happen."""
        start = np.maximum(
            self.first.start_ns[self.first_places], self.other.start_ns[self.other_places]
        )
        end = np.minimum(self.first.end_ns[self.first_places], self.other.end_ns[self.other_places])
        result: Array = end >= start - OVERLAP_NS
        return result

    @property
    def late_ns(self) -> Array:
        """How much later the other rank ended each, negative for earlier."""
        result: Array = self.other.end_ns[self.other_places] - self.first.end_ns[self.first_places]
        return result

    @property
    def tolerance_ns(self) -> float:
        """By how much the ends of one collective may differ: of the shorter kernel, typically."""
        first = (self.first.end_ns - self.first.start_ns)[self.first_places]
        other = (self.other.end_ns - self.other.start_ns)[self.other_places]
        typical = float(np.median(np.minimum(first, other))) if len(self) else 0.0
        return max(END_NS, END_SHARE * typical)

    def possible(self) -> Pairs:
        """Return the pairs that can be the same collective."""
        return self.only(self.overlaps)

    def clock_difference(self) -> ClockDifference | None:
        """Return how far the clocks disagree, if what both recorded cannot have happened."""
        of_all = self.only(~self.first.is_rooted[self.first_places])
        late = of_all.late_ns
        beyond = np.abs(late) > self.tolerance_ns
        impossible = ~self.overlaps
        is_apart = len(of_all) and np.mean(beyond) > MOST and len(set(np.sign(late))) == 1
        if not is_apart and np.mean(~impossible) >= MOST:
            return None
        count = int(np.count_nonzero(impossible)) or int(np.count_nonzero(beyond))
        return self._difference(late if len(late) else self.late_ns, count)

    def constant_offset(self) -> ClockDifference | None:
        """Return how far clocks disagree, if all ends are equally far apart and begins fit then.

        Of lanes of which nothing is known: two programs that are alike look the same, so this
        needs several collectives, and says nothing where one clock is sure to be used.
        """
        late = self.late_ns
        if len(self) < MIN_FOR_CLOCKS or not np.array_equal(self.first.label, self.other.label):
            return None
        offset = int(np.median(late))
        alike = np.abs(late - offset) <= self.tolerance_ns
        moved = dataclasses.replace(
            self.other, start_ns=self.other.start_ns - offset, end_ns=self.other.end_ns - offset
        )
        fits = Pairs(self.first, moved, self.first_places, self.other_places).overlaps
        if np.mean(alike) < MOST or np.mean(fits) < MOST or abs(offset) <= self.tolerance_ns:
            return None
        return self._difference(late, len(self))

    def _difference(self, late: Array, count: int) -> ClockDifference:
        launches = (
            int(self.first.launch[self.first_places[0]]),
            int(self.other.launch[self.other_places[0]]),
        )
        return ClockDifference(launches=launches, offset_ns=int(np.median(late)), count=count)


def paired(first: RankLane, other: RankLane) -> Pairs:
    """Return which collectives of two lanes belong together.

    By sequence number where both have one; else one by one where both are alike; else, where a
    part of one is missing, those of one name that end nearest to each other.
    """
    if _is_numbered(first) and _is_numbered(other):
        _, first_places, other_places = np.intersect1d(
            first.sequence, other.sequence, return_indices=True
        )
        pairs = Pairs(first, other, first_places, other_places)
        return pairs.only(first.label[first_places] == other.label[other_places])
    if np.array_equal(first.label, other.label):
        places = np.arange(len(first))
        return Pairs(first, other, places, places)
    return _by_ends(first, other)


def same_group(pairs: Pairs) -> bool:
    """Tell whether two lanes of which nothing is known are of one group, by when they ended."""
    if not len(pairs):
        return False
    first, other = pairs.first, pairs.other
    low, high = (
        max(int(first.start_ns[0]), int(other.start_ns[0])),
        min(int(first.end_ns[-1]), int(other.end_ns[-1])),
    )
    in_both = min(_count_inside(first, low, high), _count_inside(other, low, high))
    close = pairs.overlaps & (np.abs(pairs.late_ns) <= pairs.tolerance_ns)
    return bool(np.count_nonzero(close) >= MOST * max(in_both, 1))


def _count_inside(lane: RankLane, low: int, high: int) -> int:
    return int(np.count_nonzero((lane.end_ns > low) & (lane.start_ns < high)))


def _is_numbered(lane: RankLane) -> bool:
    return bool(len(np.unique(lane.sequence)) == len(lane) and lane.sequence.min() >= 0)


def _by_ends(first: RankLane, other: RankLane) -> Pairs:
    """Return pairs of one name, each of which is for both the one that ends nearest."""
    nearest = _nearest(first, other)
    back = _nearest(other, first)
    places = np.flatnonzero(nearest >= 0)
    mutual = places[back[nearest[places]] == places]
    pairs = Pairs(first, other, nearest[mutual], mutual)
    return pairs.only(pairs.overlaps)


def _nearest(first: RankLane, other: RankLane) -> Array:
    """Return, for each of ``other``, the one of ``first`` and of its name that ends nearest."""
    result = np.full(len(other), -1, np.int64)
    for label in np.intersect1d(first.label, other.label):
        first_places, other_places = (
            np.flatnonzero(first.label == label),
            np.flatnonzero(other.label == label),
        )
        order = np.argsort(first.end_ns[first_places], kind="stable")
        first_places, end = first_places[order], other.end_ns[other_places]
        after = np.clip(
            np.searchsorted(first.end_ns[first_places], end), 1, max(len(first_places) - 1, 1)
        )
        after = np.minimum(after, len(first_places) - 1)
        before = np.maximum(after - 1, 0)
        is_before = np.abs(first.end_ns[first_places[before]] - end) <= np.abs(
            first.end_ns[first_places[after]] - end
        )
        result[other_places] = np.where(is_before, first_places[before], first_places[after])
    return result
