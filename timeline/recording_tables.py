"""What the lanes of a recording are made of: its tables, and numbers for its texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from analyzers.facts.facts import Facts
from collectors.schema import Array
from collectors.trace import Trace
from timeline.index_writer import IndexWriter
from timeline.labels import NO_NAME
from timeline.lane import Lane

MAX_TABLE_SPREAD, MIN_TABLE = 8, 1 << 16  # places of a look-up table for each id


@dataclass
class NameNumbers:
    """Numbers for texts: those of the recording first, then those that whyslow adds."""

    strings: pa.Table
    own: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = self.strings["id"].to_numpy()

    @classmethod
    def of(cls, trace: Trace) -> NameNumbers:
        """Read the texts of a recording."""
        return cls(trace.arrow("strings"))

    def words(self, text: str) -> int:
        """Return the number of a text that whyslow adds."""
        return self.own.setdefault(text, len(self._ids) + len(self.own))

    def codes(self, ids: Array) -> Array:
        """Return the number of each string id's text."""
        unknown = self.words(NO_NAME)
        low, high = (int(self._ids.min()), int(self._ids.max())) if len(self._ids) else (0, -1)
        if high - low < MAX_TABLE_SPREAD * max(len(self._ids), MIN_TABLE):
            table = np.full(high - low + 2, unknown, np.uint32)  # the last stands for all others
            table[self._ids - low] = np.arange(len(self._ids))
            in_table = (ids >= low) & (ids <= high)
            return table[np.where(in_table, ids - low, -1)]
        place, unique = pd.factorize(ids)
        at = dict(zip(self._ids.tolist(), range(len(self._ids)), strict=True))
        codes = np.array([at.get(i, unknown) for i in unique.tolist()], np.uint32)
        return codes[place]

    def texts(self) -> pa.Array:
        """Return all texts by number."""
        recorded = self.strings["value"].cast(pa.large_string()).chunks
        return pa.concat_arrays([*recorded, pa.array(list(self.own), pa.large_string())])


@dataclass
class RecordingTables:
    """What the lanes of a recording are made of."""

    facts: Facts
    writer: IndexWriter
    names: NameNumbers
    origin: int

    @property
    def trace(self) -> Trace:
        """The recording."""
        return self.facts.trace

    def track(self, lane: Lane, color: int, columns: Mapping[str, Array]) -> None:
        """Write a lane, and further ones where its events overlap; sorted by begin."""
        moved = {k: columns[k] - self.origin for k in ("start", "end")}
        self.writer.track(lane, color, {**columns, **moved})


def narrow(keys: Array) -> Array:
    """Return integers in the narrowest type; few bits sort many times faster."""
    narrow: Array = keys.astype(np.int16) if len(keys) and _fits_16_bits(keys) else keys
    return narrow


def _fits_16_bits(keys: Array) -> bool:
    return bool(keys.min() >= -(1 << 15) and keys.max() < 1 << 15)


def texts_of(trace: Trace, ids: Array) -> Iterator[tuple[int, str]]:
    """Yield each string id with its text, once."""
    unique = pd.unique(ids)
    yield from zip(unique.tolist(), trace.names(unique).tolist(), strict=True)
