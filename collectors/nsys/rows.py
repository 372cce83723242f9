"""Rows of an nsys export on their way into a trace: checked, counted, translated.

Every row of every table that is read ends up used or excluded, and each exclusion has a cause;
the counts become the data-quality ledger of the trace.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from collectors.nsys.gpus import MAX_DEVICE
from collectors.nsys.names import MAX_TEXT
from collectors.nsys.places import NsysPlaces, process_of
from collectors.nsys.tally import EXCLUDED, REPAIRED, NsysTally
from collectors.nsys.times import CaptureWindow
from collectors.schema import NOT_RECORDED, Array
from collectors.sqlite_file import integers, is_null
from collectors.trace import TraceWriter

MAX_BYTES = 1 << 42  # no device holds more; 2 million copies of that size still have a sum


class NsysRows:
    """A piece of one input table; indexing gives a column of the rows that are still in use."""

    def __init__(
        self,
        columns: dict[str, pa.Array],
        tally: NsysTally,
        places: NsysPlaces,
        window: CaptureWindow,
        writer: TraceWriter,
    ) -> None:
        self._columns, self._tally = columns, tally
        self._places, self._window, self._writer = places, window, writer
        self._full: dict[str, Array] = {}
        self._length = len(next(iter(columns.values())))
        self._keep: Array | None = None

    def __len__(self) -> int:
        return self._length if self._keep is None else int(np.count_nonzero(self._keep))

    def __getitem__(self, name: str) -> Array:
        if name not in self._full:
            self._full[name] = integers(self._columns[name])
        return self.of(self._full[name])

    def of(self, values: Array) -> Array:
        """Return the elements of ``values`` (one per row of the piece) that are in use."""
        kept: Array = values if self._keep is None else values[self._keep]
        return kept

    def text(self, name: str) -> pa.Array:
        """Return a column of raw bytes."""
        column = self._columns[name]
        return column if self._keep is None else column.filter(pa.array(self._keep))

    def decoded(self, name: str) -> pa.Array:
        """Return a column of texts, null as empty, what is not UTF-8 as U+FFFD."""
        raw = self.text(name).to_pylist()
        return pa.array(
            [(t or b"").decode("utf-8", "replace")[:MAX_TEXT] for t in raw], pa.string()
        )

    def small(self, name: str) -> Array:
        """Return a column as 32-bit integers, out of range as -1, which is counted."""
        return self._clipped(name, np.int32)

    def tiny(self, name: str) -> Array:
        """Return a column as 8-bit integers, out of range as -1, which is counted."""
        return self._clipped(name, np.int8)

    def within(self, limits: Mapping[str, tuple[int, int]], code: str, message: str) -> list[Array]:
        """Return columns with what is outside their limits as -1, counting such rows."""
        columns, odd = [], np.zeros(len(self), dtype=bool)
        for name, (low, high) in limits.items():
            values = self[name]
            outside = (values < low) | (values > high)
            if outside.any():
                odd |= outside & ~self._missing(name)
                values = np.where(outside, NOT_RECORDED, values)
            columns.append(values)
        self.note(odd, code, REPAIRED, message)
        return columns

    def note(self, where: Array, code: str, effect: str, message: str) -> None:
        """Count rows that stay in use, yet are odd."""
        count = int(np.count_nonzero(where))
        if count:
            self._tally.note(code, effect, message, count)

    def drop(self, where: Array, code: str, message: str) -> None:
        """Exclude rows, and count them under ``code``."""
        count = int(np.count_nonzero(where))
        if count:
            self._remove(where)
            self._tally.note(code, EXCLUDED, message, count)

    def drop_bad_spans(self, prefix: str) -> None:
        """Exclude rows without a usable begin and end."""
        bad = self._missing("start") | self._missing("end")
        self.drop(bad, f"{prefix}_bad_type", "rows whose begin or end is not an integer")
        self._drop_far(prefix, "start", "end")
        start, end = self["start"], self["end"]
        self.drop(
            (start == 0) & (end == 0), f"{prefix}_no_time", "rows for which no time was recorded"
        )
        start, end = self["start"], self["end"]
        self.drop(end < start, f"{prefix}_negative_duration", "rows that end before they begin")
        self._tally.saw_end(self["end"])

    def drop_bad_times(self, prefix: str, *, column: str = "start") -> None:
        """Exclude rows without a usable moment."""
        bad = self._missing(column)
        self.drop(bad, f"{prefix}_bad_type", "rows whose time is not an integer")
        self._drop_far(prefix, column)
        self._tally.saw_end(self[column])

    def usable_times(self, column: str) -> Array:
        """Return moments, -1 where there is none or one far outside the recording."""
        moment = self[column]
        inside = (moment >= self._window.low_ns) & (moment <= self._window.high_ns)
        inside &= ~self._missing(column)
        self._tally.saw_end(moment[inside])
        return np.where(inside, moment, NOT_RECORDED)

    def drop_nulls(self, column: str, code: str, message: str) -> None:
        """Exclude rows in which ``column`` is absent or of another type."""
        self.drop(self._missing(column), code, message)

    def drop_bad_sizes(self, prefix: str) -> None:
        """Exclude rows with a size that no copy has."""
        size = self["bytes"]
        bad = ((size < 0) & ~self._missing("bytes")) | (size > MAX_BYTES)
        self.drop(bad, f"{prefix}_invalid", "rows of a negative or impossible size")

    def drop_threadless(self, prefix: str) -> None:
        """Exclude rows that do not say on which thread they happened."""
        self.drop(
            self["globalTid"] == NOT_RECORDED, f"{prefix}_no_thread", "rows that name no thread"
        )

    def drop_unplaced(self, prefix: str) -> None:
        """Give rows that name no device the only one of their process; exclude the others."""
        named = self["deviceId"]
        bad = (named < 0) | (named > MAX_DEVICE)
        if not bad.any():
            return
        processes = self._places.processes_of(self["globalPid"])
        device = named.copy()
        for process in pd.unique(processes[bad]).tolist():
            device[bad & (processes == process)] = self._places.only_device(process)
        whole = self._full["deviceId"].copy()
        whole[self._positions()] = device
        self._full["deviceId"] = whole
        placed = bad & (device != NOT_RECORDED)
        message = "rows that name no usable device; they get the only one of their process"
        self.note(placed, f"{prefix}_device_unknown", REPAIRED, message)
        message = "rows that name no usable device"
        self.drop(device == NOT_RECORDED, f"{prefix}_device_unknown", message)

    def count_described(self, where: Array) -> None:
        """Take rows out that only describe others: they were read elsewhere, so they are used."""
        count = int(np.count_nonzero(where))
        if count:
            self._remove(where)
            self._tally.used += count

    def part(self, where: Array) -> NsysRows:
        """Move rows into a piece of their own."""
        part = NsysRows(self._columns, self._tally, self._places, self._window, self._writer)
        part._full = self._full
        whole = np.zeros(self._length, dtype=bool)
        whole[self._positions()[where]] = True
        part._keep = whole
        self._remove(where)
        return part

    def close_open_ranges(self, capture_end_ns: int) -> Array:
        """End open ranges with the capture; return where they are, for all rows of the piece.

        nsys writes either no end or the end of the capture for a range that nobody closed.
        """
        nulls = is_null(self._columns["end"])
        end = integers(self._columns["end"])
        stated = capture_end_ns == self._window.duration_ns
        is_open: Array = (end == capture_end_ns) & stated
        if nulls is not None:
            end = np.where(nulls, np.maximum(capture_end_ns, integers(self._columns["start"])), end)
            is_open = is_open | nulls
            self._columns = {**self._columns, "end": pa.array(end)}
        self._full["end"] = end
        return is_open

    def span(self) -> dict[str, Array]:
        """Return the columns begin and end."""
        return {"start_ns": self["start"], "end_ns": self["end"]}

    def on_thread(self) -> dict[str, Array]:
        """Return the columns process and thread."""
        thread = self["globalTid"]
        process = np.where(thread == NOT_RECORDED, NOT_RECORDED, process_of(thread))
        self._places.threads |= set(pd.unique(thread).tolist()) - {NOT_RECORDED}
        self._places.processes |= set(pd.unique(process).tolist()) - {NOT_RECORDED}
        return {"process": process, "thread": thread}

    def on_device(self) -> dict[str, Array]:
        """Return the columns process, device, stream and correlation id."""
        columns = self.about_device()
        process, device = columns["process"], columns["device"]
        # Few pairs, many rows: one number per pair is unique far faster than pairs are.
        for key in pd.unique(process * (MAX_DEVICE + 1) + device).tolist():
            self._places.devices.add(divmod(key, MAX_DEVICE + 1))
        return columns

    def about_device(self) -> dict[str, Array]:
        """Return the same columns for rows that do not occupy the device."""
        return {
            "process": self._places.processes_of(self["globalPid"]),
            "device": self.small("deviceId"),
            "stream": self["streamId"],
            "correlation_id": self["correlationId"],
        }

    def write(self, table: str, **columns: Array | pa.Array) -> None:
        """Append the rows in use to ``table``."""
        self._tally.used += len(self)
        self._writer.write(table, columns)

    def _drop_far(self, prefix: str, *columns: str) -> None:
        low, high = self._window.low_ns, self._window.high_ns
        far = np.zeros(len(self), dtype=bool)
        for values in map(self.__getitem__, columns):
            far |= (values < low) | (values > high)
        self.drop(far, f"{prefix}_out_of_range", "rows whose time is far outside the recording")

    def _clipped(self, name: str, dtype: type[np.signedinteger]) -> Array:
        values = self[name]
        inside = (values >= NOT_RECORDED) & (values <= np.iinfo(dtype).max)
        message = "numbers that are negative or too large; they count as not recorded"
        self.note(~inside, "number_out_of_range", REPAIRED, message)
        return np.where(inside, values, NOT_RECORDED).astype(dtype)

    def _missing(self, name: str) -> Array:
        nulls = is_null(self._columns[name])
        return np.zeros(len(self), dtype=bool) if nulls is None else self.of(nulls)

    def _positions(self) -> Array:
        return np.arange(self._length) if self._keep is None else np.flatnonzero(self._keep)

    def _remove(self, where: Array) -> None:
        keep = np.ones(self._length, dtype=bool) if self._keep is None else self._keep.copy()
        keep[self._positions()[where]] = False
        self._keep = keep
