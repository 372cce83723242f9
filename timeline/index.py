"""The timeline's index: sorted columns on disk, mapped into memory, never read as a whole.

An index is a folder: one file for each column and ``meta.json``, which names them with their
checksums. All events stand in one sequence, lane after lane; the place in it is the event's number.
Within a lane events are sorted and do not overlap, so that

* the busy time of any stretch is exact and costs two binary searches: ``sums`` holds the time
  covered before each event (durations added up over all lanes, one place more than events);
* what a view contains is a slice.

``Peaks`` answers which event of any stretch is longest without looking at all of them. Counters,
such as GPU metrics, are a second sequence with times and values.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa

from analyzers.facts.nesting import nesting_depth
from analyzers.intervals import Spans
from collectors.errors import DamagedError
from collectors.schema import Array

META = "meta.json"
NOTHING = -1
FAN_OUT = 16  # blocks of a level that one block of the next stands for
PIECE_ROWS = 1 << 20  # of a column are written at once
MAX_SCANNED = 1 << 16  # values looked at one by one
MAX_LEVELS = 256  # of one track; ranges that are never closed pile up without end

EVENT_COLUMNS: dict[str, np.dtype[Any]] = {
    "start": np.dtype("<i8"),  # ns since the recording's first event
    "sums": np.dtype("<i8"),  # covered ns before each event, and after the last
    "name": np.dtype("<u4"),  # place in the names
    "color": np.dtype("u1"),  # place in ``timeline.colors.COLORS``
    "row": np.dtype("<i4"),  # row in the table that the lane came from
    "link": np.dtype("<i4"),  # event that this one launched or was launched by, else -1
    "longest": np.dtype("<u4"),  # levels of ``Peaks`` over the durations
}
COUNTER_COLUMNS: dict[str, np.dtype[Any]] = {
    "time": np.dtype("<i8"),
    "value": np.dtype("<f8"),
    "highest": np.dtype("<u4"),
    "lowest": np.dtype("<u4"),
}
NAME_COLUMNS: dict[str, np.dtype[Any]] = {"text": np.dtype("u1"), "text_at": np.dtype("<i8")}
COLUMNS = EVENT_COLUMNS | COUNTER_COLUMNS | NAME_COLUMNS


class IndexDamagedError(DamagedError):
    """A stored index is not what was written; it has to be made again."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One line of the timeline, without its events.

    Attributes:
        group: Place of the group that it stands in.
        label: What it shows; empty for the deeper levels of a track.
        kind: ``events``, ``ledger``, ``findings``, ``iterations`` or ``counter``.
        table: What ``row`` of its events counts in.
        level: Depth in its track, from 0.
        mirror: True when every event also stands in another lane.
        parts: First event, number of events and colour of each part. Only a ledger has several:
            one for each of its rows, so that the share of each is exact.
        colors: Colours of its events.
        low: Smallest value of a counter.
        high: Largest value of a counter.
        unit: Unit of a counter.
        until: When the last sample of a counter holds no longer, ns; -1 holds to the end.
    """

    group: int
    label: str
    kind: str = "events"
    table: str = ""
    level: int = 0
    mirror: bool = False
    parts: tuple[tuple[int, int, int], ...] = ()
    colors: tuple[int, ...] = ()
    low: float = 0.0
    high: float = 0.0
    unit: str = ""
    until: int = NOTHING

    @property
    def count(self) -> int:
        """Number of its events."""
        return sum(count for _, count, _ in self.parts)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Lanes that are folded together.

    Attributes:
        id: Name that stays the same from recording to recording, such as ``gpu:0``.
        kind: ``device``, ``thread``, ``metrics`` or ``program``.
        title: Heading; a device's is completed by what the report calls it.
        device: Key of the ledger device, -1 for none.
        open: Whether its lanes are shown at first.
    """

    id: str
    kind: str
    title: str
    device: int = NOTHING
    open: bool = True


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
    """Finds the largest value of any stretch of a sequence in time that hardly grows with it.

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
            step = PIECE_ROWS // FAN_OUT
            for first in range(0, size, step):
                blocks = np.arange(first, min(first + step, size))
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


@dataclass
class IndexWriter:
    """Writes an index lane by lane into a new folder.

    Args:
        folder: Must exist and be empty.
    """

    folder: Path
    lanes: list[Lane] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    events: int = 0
    samples: int = 0
    _places: dict[str, int] = field(default_factory=dict)
    _files: dict[str, IO[bytes]] = field(default_factory=dict)
    _checksums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COLUMNS, 0))
    _covered: int = 0

    def __post_init__(self) -> None:
        for name in (*EVENT_COLUMNS, *COUNTER_COLUMNS, *NAME_COLUMNS):
            self._files[name] = (self.folder / name).open("wb")
        self._put("sums", np.zeros(1, np.int64))

    def group(self, group: Group) -> int:
        """Add a group and return its place; one that is there is found again by its id."""
        place = self._places.setdefault(group.id, len(self.groups))
        if place == len(self.groups):
            self.groups.append(group)
        return place

    def track(self, lane: Lane, color: int, columns: Mapping[str, Array]) -> None:
        """Add a lane, and further ones under it where its events overlap.

        Args:
            lane: What the first one is.
            color: Colour of its events.
            columns: As ``lane`` takes them, sorted by begin; they may overlap.
        """
        rows = without_overlap(columns["start"], columns["end"])
        for level, places in enumerate(rows[:MAX_LEVELS]):
            chosen = columns if len(rows) == 1 else {k: v[places] for k, v in columns.items()}
            label = "" if level else lane.label
            self.lane(replace(lane, label=label, level=level), (color, chosen))
        if len(rows) > MAX_LEVELS:
            count = sum(len(places) for places in rows[MAX_LEVELS:])
            self.notes.append(
                f"{lane.label}: {count:,} events are nested deeper than {MAX_LEVELS} levels and "
                "are not shown"
            )

    def lane(self, lane: Lane, *parts: tuple[int, Mapping[str, Array]]) -> None:
        """Add a lane.

        Args:
            lane: What it is.
            parts: Colour and columns ``start``, ``end``, ``name``, ``row`` and, if events of a
                part differ, ``color`` and ``link``. Sorted, without overlap.
        """
        placed, colors = [], set[int]()
        for color, columns in parts:
            count = len(columns["start"])
            placed.append((self.events, count, color))
            self._write_events(color, columns)
            of_events = columns.get("color")
            colors |= {color} if of_events is None else _distinct(of_events)
        self.lanes.append(replace(lane, parts=tuple(placed), colors=tuple(sorted(colors))))

    def _write_events(self, color: int, columns: Mapping[str, Array]) -> None:
        count = len(columns["start"])
        for first in range(0, count, PIECE_ROWS):
            piece = {k: v[first : first + PIECE_ROWS] for k, v in columns.items()}
            size = len(piece["start"])
            # Sums wrap where lanes are many and clocks absurd; differences stay right.
            lengths = (piece["end"] - piece["start"]).view(np.uint64)
            sums = np.cumsum(lengths, dtype=np.uint64) + np.uint64(self._covered)
            self._covered = int(sums[-1])
            self._put("start", piece["start"])
            self._put("sums", sums.view(np.int64))
            self._put("name", piece["name"])
            self._put("color", piece.get("color", np.full(size, color, np.uint8)))
            self._put("row", piece["row"])
            self._put("link", piece.get("link", np.full(size, NOTHING, np.int32)))
        self.events += count

    def counter(self, lane: Lane, time: Array, value: Array) -> None:
        """Add a lane of samples, sorted by time."""
        self._put("time", time)
        self._put("value", value)
        placed = ((self.samples, len(time), 0),)
        low, high = (float(value.min()), float(value.max())) if len(value) else (0.0, 0.0)
        facts = replace(lane, kind="counter", parts=placed, low=low, high=high)
        self.lanes.append(facts)
        self.samples += len(time)

    def names(self, texts: pa.Array) -> None:
        """Write the texts that ``name`` of the events counts in."""
        texts = texts.cast(pa.large_string())
        _, offsets, data = texts.buffers()
        at = np.frombuffer(offsets, np.int64, len(texts) + 1, texts.offset * 8) if offsets else [0]
        at = np.asarray(at, np.int64)
        text = np.frombuffer(data, np.uint8)[at[0] : at[-1]] if data else np.empty(0, np.uint8)
        self._put("text", text)
        self._put("text_at", at - at[0])

    def finish(self, **meta: Any) -> None:
        """Complete the index; ``meta`` is kept beside the lanes."""
        for name in ("sums", "value"):
            self._files[name].flush()  # the peaks are taken from what was written
        self._write_peaks()
        self.close()
        content = {
            "events": self.events,
            "samples": self.samples,
            "lanes": [asdict(lane) for lane in self.lanes],
            "groups": [asdict(group) for group in self.groups],
            "notes": self.notes,
            "checksums": self._checksums,
            **meta,
        }
        (self.folder / META).write_text(json.dumps(content), encoding="utf-8")

    def relink(self, change: Callable[[Array, Array], None]) -> None:
        """Let ``change`` rewrite the links, given the rows; call it after the last lane."""
        for name in ("link", "row"):
            self._files[name].flush()
        if self.events:
            link = np.memmap(self.folder / "link", EVENT_COLUMNS["link"], mode="r+")
            change(link, _mapped(self.folder / "row", EVENT_COLUMNS["row"]))
            link.flush()
            self._checksums["link"] = zlib.crc32(link.data)

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()

    def _write_peaks(self) -> None:
        sums = _mapped(self.folder / "sums", EVENT_COLUMNS["sums"])
        value = _mapped(self.folder / "value", COUNTER_COLUMNS["value"])
        for name, count, value_at in (
            ("longest", self.events, lambda at: sums[at + 1] - sums[at]),
            ("highest", self.samples, lambda at: value[at]),
            ("lowest", self.samples, lambda at: -value[at]),
        ):
            for level in Peaks.build(count, value_at):
                self._put(name, level)

    def _put(self, column: str, values: Array) -> None:
        kept = np.ascontiguousarray(values, COLUMNS[column])
        self._files[column].write(kept.data)
        self._checksums[column] = zlib.crc32(kept.data, self._checksums[column])


@dataclass(frozen=True, eq=False, kw_only=True)
class Index:
    """An index that was opened; columns are maps of their files.

    Attributes:
        folder: Where it lies.
        meta: What the writer was told to keep.
        lanes: Its lanes.
        groups: Their groups.
        start, sums, name, color, row, link: As in ``EVENT_COLUMNS``.
        time, value: As in ``COUNTER_COLUMNS``.
        longest: Peaks of the durations.
        highest: Peaks of the values.
        lowest: Peaks of the negated values.
        names: All texts.
    """

    folder: Path
    meta: dict[str, Any]
    lanes: tuple[Lane, ...]
    groups: tuple[Group, ...]
    start: Array
    sums: Array
    name: Array
    color: Array
    row: Array
    link: Array
    time: Array
    value: Array
    longest: Peaks
    highest: Peaks
    lowest: Peaks
    names: pa.LargeStringArray

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the index in ``folder``.

        Raises:
            IndexDamagedError: It is not there, not whole, or not what was written.
            OSError: It could not be read, which says nothing about it.
        """
        try:
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            intact = all(checksum(folder / n) == meta["checksums"][n] for n in COLUMNS)
            lanes = tuple(_lane(given) for given in meta.pop("lanes"))
            groups = tuple(Group(**given) for given in meta.pop("groups"))
            columns = {n: _mapped(folder / n, kind) for n, kind in COLUMNS.items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise IndexDamagedError(f"{folder.name}: {type(error).__name__}") from error
        if not intact:
            raise IndexDamagedError(f"{folder.name}: not what was written")
        sums, value = columns["sums"], columns["value"]
        events, samples = meta["events"], meta["samples"]
        return cls(
            folder=folder,
            meta=meta,
            lanes=lanes,
            groups=groups,
            **{n: columns[n] for n in ("start", "sums", "name", "color", "row", "link")},
            time=columns["time"],
            value=value,
            longest=Peaks.split(columns["longest"], events, lambda at: sums[at + 1] - sums[at]),
            highest=Peaks.split(columns["highest"], samples, lambda at: value[at]),
            lowest=Peaks.split(columns["lowest"], samples, lambda at: -value[at]),
            names=_texts(columns["text"], columns["text_at"]),
        )

    def length(self, events: Array) -> Array:
        """Return the durations of events, in ns."""
        difference: Array = self.sums[events + 1] - self.sums[events]
        return difference

    def end(self, events: Array) -> Array:
        """Return the ends of events."""
        ends: Array = self.start[events] + self.length(events)
        return ends

    def text(self, name: int) -> str:
        """Return the text of a name."""
        return str(self.names[name].as_py())

    def within(self, part: tuple[int, int, int], start: int, end: int) -> tuple[int, int]:
        """Return the first event of a part that reaches beyond ``start``, and the first after.

        An event without length belongs to the moment at which it stands.
        """
        first, count, _ = part
        begins = self.start[first : first + count]
        # A Python float would make numpy convert the whole column.
        low = first + int(np.searchsorted(begins, np.int64(start), side="left"))
        high = first + int(np.searchsorted(begins, np.int64(end), side="left"))
        if low > first and int(self.start[low - 1] + self.sums[low] - self.sums[low - 1]) > start:
            low -= 1
        return low, max(low, high)

    def before(self, part: tuple[int, int, int], moments: Array) -> Array:
        """Return the number of the first event of a part that begins at or after each moment."""
        first, count, _ = part
        begins = self.start[first : first + count]
        places: Array = first + np.searchsorted(begins, moments, side="left")
        return places

    def covered(self, part: tuple[int, int, int], moments: Array, places: Array) -> Array:
        """Return how much of the time before each moment the events of a part cover, exactly.

        Only differences mean anything.

        Args:
            part: First event, number of events.
            moments: Times.
            places: ``before(part, moments)``.
        """
        if not part[1]:
            return np.zeros(len(moments), np.int64)
        last = np.maximum(places - 1, part[0])
        over = np.clip(self.end(last) - moments, 0, self.length(last))
        result: Array = self.sums[places] - np.where(places > part[0], over, 0)
        return result


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file; it runs at the speed of memory."""
    total = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            total = zlib.crc32(piece, total)
    return total


def publish(fresh: Path, target: Path) -> None:
    """Make a finished index appear as ``target``; one that somebody else finished first stays.

    Nothing waits for the disk: what a crash tears does not have its checksum, and is made again.

    Raises:
        OSError: The disk cannot be written.
    """
    try:
        fresh.replace(target)
    except OSError:
        with contextlib.suppress(IndexDamagedError):
            Index.open(target)
            return
        shutil.rmtree(target, ignore_errors=True)
        fresh.replace(target)


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


def _distinct(colors: Array) -> set[int]:
    return set(np.flatnonzero(np.bincount(colors)).tolist())


def _lane(given: Mapping[str, Any]) -> Lane:
    parts = tuple((int(a), int(b), int(c)) for a, b, c in given["parts"])
    return Lane(**{**given, "parts": parts, "colors": tuple(given["colors"])})


def _texts(text: Array, text_at: Array) -> pa.LargeStringArray:
    buffers = pa.py_buffer(text_at), pa.py_buffer(text)
    return pa.LargeStringArray.from_buffers(max(len(text_at) - 1, 0), *buffers)


def _mapped(path: Path, kind: np.dtype[Any]) -> Array:
    if not path.stat().st_size:  # nothing cannot be mapped
        return np.empty(0, kind)
    # Not np.memmap: its subclass slows every small operation down.
    return np.asarray(np.memmap(path, kind, mode="r"))


def concatenated(columns: Iterable[Array], kind: str) -> Array:
    """Return the columns one after the other; nothing when there are none."""
    pieces = [np.empty(0, kind), *columns]
    joined: Array = np.concatenate(pieces).astype(kind, copy=False)
    return joined
