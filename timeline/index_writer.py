"""Writing the timeline's index, lane after lane; ``timeline.index`` says what is in it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from collectors.schema import Array
from timeline.index import COLUMNS, COUNTER_COLUMNS, EVENT_COLUMNS, META, NAME_COLUMNS, mapped
from timeline.lane import NOTHING, Group, Lane
from timeline.packing import without_overlap
from timeline.peaks import Peaks

PIECE_ROWS = 1 << 20  # of a column are written at once
MAX_LEVELS = 256  # of one track; ranges that are never closed pile up without end


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
            change(link, mapped(self.folder / "row", EVENT_COLUMNS["row"]))
            link.flush()
            self._checksums["link"] = zlib.crc32(link.data)

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()

    def _write_peaks(self) -> None:
        sums = mapped(self.folder / "sums", EVENT_COLUMNS["sums"])
        value = mapped(self.folder / "value", COUNTER_COLUMNS["value"])
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


def _distinct(colors: Array) -> set[int]:
    return set(np.flatnonzero(np.bincount(colors)).tolist())
