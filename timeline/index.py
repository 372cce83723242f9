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

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import pyarrow as pa

from collectors.errors import DamagedError
from collectors.schema import Array
from timeline.lane import Group, Lane
from timeline.peaks import Peaks

META = "meta.json"

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
            lanes = msgspec.convert(meta.pop("lanes"), tuple[Lane, ...])
            groups = msgspec.convert(meta.pop("groups"), tuple[Group, ...])
            columns = {n: mapped(folder / n, kind) for n, kind in COLUMNS.items()}
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


def is_intact(folder: Path) -> bool:
    """Tell whether ``folder`` holds a whole index.

    Raises:
        OSError: It could not be read, which says nothing about it.
    """
    try:
        Index.open(folder)
    except IndexDamagedError:
        return False
    return True


def mapped(path: Path, kind: np.dtype[Any]) -> Array:
    """Return a column without reading it: the file is mapped into memory."""
    if not path.stat().st_size:  # nothing cannot be mapped
        return np.empty(0, kind)
    # Not np.memmap: it holds a descriptor as long as the column lives, and an index has nine.
    with pa.memory_map(str(path)) as file:
        return np.frombuffer(file.read_buffer(), kind)


def concatenated(columns: Iterable[Array], kind: str) -> Array:
    """Return the columns one after the other; nothing when there are none."""
    pieces = [np.empty(0, kind), *columns]
    joined: Array = np.concatenate(pieces).astype(kind, copy=False)
    return joined


def _texts(text: Array, text_at: Array) -> pa.LargeStringArray:
    buffers = pa.py_buffer(text_at), pa.py_buffer(text)
    return pa.LargeStringArray.from_buffers(max(len(text_at) - 1, 0), *buffers)
