"""Finding the largest values of any stretch of a sequence without looking at all of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from analyzers.intervals import Spans
from collectors.schema import Array
from timeline.lane import NOTHING

FAN_OUT = 16  # blocks of a level that one block of the next stands for
BLOCKS_AT_ONCE = 1 << 16  # of a level are built at once, so that little memory is enough
MAX_SCANNED = 1 << 16  # values looked at one by one


@dataclass
class _Best:
    """The largest value found so far for each query, and its place."""

    place: Array
    value: Array

    @classmethod
    def of(cls, count: int, value_at: Callable[[Array], Array]) -> Self:
        kind = value_at(np.zeros(0, np.int64)).dtype
        return cls(np.full(count, NOTHING, np.int64), np.zeros(count, kind))

    def offer(self, query: Array, place: Array, value: Array) -> None:
        wins = (self.place[query] < 0) | (value > self.value[query])
        self.place[query[wins]] = place[wins]
        self.value[query[wins]] = value[wins]


class Peaks:
    """Finds the largest value of any stretch, in time that hardly depends on its length.

    Each level names the place of the largest value in every block of ``FAN_OUT`` places of the
    level below; the first of equals counts.
    """

    def __init__(self, levels: Sequence[Array], value_at: Callable[[Array], Array]) -> None:
        self.levels = levels
        self.value_at = value_at

    @classmethod
    def split(cls, stored: Array, count: int, value_at: Callable[[Array], Array]) -> Self:
        """Find the levels in a stored column."""
        sizes = cls.sizes(count)
        borders = np.cumsum([0, *sizes])
        levels = [stored[a:b] for a, b in itertools.pairwise(borders.tolist())]
        return cls(levels, value_at)

    @staticmethod
    def sizes(count: int) -> list[int]:
        """Return the number of blocks on each level."""
        sizes = []
        while count > FAN_OUT:
            count = -(-count // FAN_OUT)
            sizes.append(count)
        return sizes

    @classmethod
    def build(cls, count: int, value_at: Callable[[Array], Array]) -> list[Array]:
        """Return the levels for ``count`` places."""
        levels: list[Array] = []
        below: Array | None = None
        for size in cls.sizes(count):
            level = np.empty(size, np.uint32)
            for first in range(0, size, BLOCKS_AT_ONCE):
                blocks = np.arange(first, min(first + BLOCKS_AT_ONCE, size))
                places = np.arange(blocks[0] * FAN_OUT, (blocks[-1] + 1) * FAN_OUT)
                limit = count if below is None else len(below)
                inside = np.minimum(places, limit - 1)  # the last block is filled up with its end
                places = inside if below is None else below[inside].astype(np.int64)
                best = value_at(places).reshape(-1, FAN_OUT).argmax(axis=1)
                level[first : first + len(blocks)] = places.reshape(-1, FAN_OUT)[
                    np.arange(len(blocks)), best
                ]
            levels.append(level)
            below = level
        return levels

    def largest(self, first: Array, last: Array) -> Array:
        """Return the place of the largest value in each ``[first, last)``, -1 where it is empty."""
        best = _Best.of(len(first), self.value_at)
        query = np.flatnonzero(last > first)
        low, high = first[query].astype(np.int64), last[query].astype(np.int64)
        for level in range(len(self.levels) + 1):
            whole_low, whole_high = -(-low // FAN_OUT), high // FAN_OUT
            goes_up = (whole_low < whole_high) & (level < len(self.levels))
            self._scan(level, query, Spans(low, np.where(goes_up, whole_low * FAN_OUT, high)), best)
            up = np.flatnonzero(goes_up)
            query, low = query[up], whole_low[up]
            self._scan(level, query, Spans(whole_high[up] * FAN_OUT, high[up]), best)
            high = whole_high[up]
            if not len(query):
                break
        return best.place

    def _scan(self, level: int, query: Array, blocks: Spans, best: _Best) -> None:
        """Look at some blocks of a level for each query and keep what is larger."""
        counts = np.maximum(blocks.end - blocks.start, 0)
        some = np.flatnonzero(counts)
        if not len(some):
            return
        counts = counts[some]
        begins = np.cumsum(counts) - counts
        block = np.arange(int(counts.sum())) + np.repeat(blocks.start[some] - begins, counts)
        place = block if level == 0 else self.levels[level - 1][block].astype(np.int64)
        value = self.value_at(place)
        largest = np.maximum.reduceat(value, begins)
        hit = np.flatnonzero(value == np.repeat(largest, counts))
        owner = np.repeat(np.arange(len(some)), counts)[hit]
        first_hit = hit[np.flatnonzero(np.diff(owner, prepend=-1))]
        best.offer(query[some], place[first_hit], largest)

    def top(self, first: int, last: int, count: int) -> Array:
        """Return the places of the ``count`` largest values in ``[first, last)``, largest first."""
        level = 0
        while (last - first) // FAN_OUT**level > MAX_SCANNED and level < len(self.levels):
            level += 1
        size = FAN_OUT**level
        low, high = -(-first // size), last // size
        if level == 0 or low >= high:
            places = np.arange(first, max(first, last))
        else:  # the largest values lie in the blocks with the largest values
            blocks = low + self._best(self.levels[level - 1][low:high].astype(np.int64), count)
            inside = (blocks[:, None] * size + np.arange(size)).ravel()
            edges = np.arange(first, low * size), np.arange(high * size, last)
            places = np.concatenate([inside, *edges])
        best: Array = places[self._best(places, count)]
        return best

    def _best(self, places: Array, count: int) -> Array:
        order: Array = np.argsort(-self.value_at(places), kind="stable")[:count]
        return order
