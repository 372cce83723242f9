"""One nsys export being read, table by table, into a trace."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

from collectors.nsys import tables
from collectors.nsys.names import NsysNames
from collectors.nsys.places import NsysPlaces
from collectors.nsys.rows import NsysRows
from collectors.nsys.tally import NOTED, REPAIRED, NsysTally, Oddity
from collectors.nsys.times import window_of
from collectors.schema import NOT_RECORDED
from collectors.sqlite_file import SqliteFile
from collectors.trace import DataNote, RowCount, TraceWriter
from common.text import printable

# Rows concerned by these are no loss: what they say is in other rows, or was never closed.
_HARMLESS = ("api_backtrace_duplicate", "nvtx_other_event", "nvtx_unclosed")
# Columns whose unusable values are told where they are read, in words of their own.
_TOLD_ELSEWHERE = ("start", "end", "timestamp", "eventType", "value", "deviceId", "globalTid")


class NsysIngest:
    """One export being read: the file, the trace being written, and what was seen so far.

    Attributes:
        file: The export.
        writer: The trace.
        names: Written at the end because only those in use are kept.
        places: Processes, threads and devices, written at the end too.
        libraries: Tables of what host threads did in libraries, with the domain of each.
        window: Where the times of the recording can lie.
    """

    def __init__(
        self, file: SqliteFile, writer: TraceWriter, on_progress: Callable[[float, str], None]
    ) -> None:
        self.file, self.writer = file, writer
        self.names, self.places = NsysNames(file), NsysPlaces(file)
        self._on_progress = on_progress
        self._tallies: dict[str, NsysTally] = {}
        self._total_rows = max(1, sum(_last_row(file, t) for t in tables.STREAMED))
        self._done_rows = 0
        self.libraries = tables.of_libraries(file)
        self.window = window_of(file, (*tables.STREAMED, *self.libraries))

    def stream(
        self,
        table: str,
        columns: Sequence[str],
        *,
        texts: Sequence[str] = (),
        counted: bool = True,
    ) -> Iterator[NsysRows]:
        """Yield ``table`` in pieces; declares what the trace then holds, be it empty."""
        if not self.file.has(table):
            return
        if counted and table in tables.BECOMES:
            for name in tables.BECOMES[table]:
                self.writer.declare(name)
        tally = self._tallies.setdefault(table, NsysTally()) if counted else NsysTally()
        for batch in self.file.batches(table, columns, texts):
            rows = NsysRows(batch, tally, self.places, self.window, self.writer)
            tally.rows += len(rows)
            self._done_rows += len(rows)
            self._on_progress(min(0.99, self._done_rows / self._total_rows), f"reading {table}")
            yield rows

    @functools.cached_property
    def capture_end_ns(self) -> int:
        """End of the capture as stated, else of the last event; ask when all else was read."""
        if self.window.duration_ns > 0:
            return self.window.duration_ns
        last = max((t.last_end_ns for t in self._tallies.values()), default=NOT_RECORDED)
        for column in ("start", "end"):  # NVTX itself may go on after everything else
            if self.file.has("NVTX_EVENTS", column):
                sql = f"SELECT max({column}) FROM NVTX_EVENTS WHERE {column} <= ?"
                value = self.file.rows(sql, self.window.high_ns)[0][0]
                last = max(last, value if isinstance(value, int) else last)
        return last

    def finish(self) -> None:
        """Write what is known only at the end: names, processes, threads, devices, notes."""
        self.places.write(self.writer, self.note)
        for table, tally in self._tallies.items():
            self.writer.row_counts.append(
                RowCount(table=table, rows=tally.rows, used=tally.used, excluded=tally.excluded())
            )
            for oddity, count in tally.oddities.items():
                self.note(table, oddity, count)
        self._note_unusable_values()
        self._note_unread_tables()
        if trailing := self.file.trailing_bytes:
            message = f"{trailing:,} bytes stand behind the last page of the database; not read"
            self.note("", ("sqlite_trailing", NOTED, message), 1)
        self.names.write(self.writer, self.note)

    def _note_unusable_values(self) -> None:
        """Count what stands where a number should, unless a reader of that column does."""
        for table, columns in self.file.unusable.items():
            counts = {c: n for c, n in columns.items() if c not in _TOLD_ELSEWHERE}
            if counts:
                names = ", ".join(counts)
                message = f"values of {names} that are no integers of 64 bits; not recorded"
                self.note(table, ("number_unusable", REPAIRED, message), sum(counts.values()))

    def _note_unread_tables(self) -> None:
        """Say which tables hold events that nothing here reads."""
        rows = {}
        for table, columns in self.file.tables.items():
            is_read = table in tables.STREAMED or table in self.libraries
            if not is_read and not {"start", "timestamp"}.isdisjoint(columns):
                rows[table] = _last_row(self.file, table)
        names = sorted(t for t, count in rows.items() if count)
        if names:
            examples = ", ".join(printable(t, "")[:40] for t in names[:4])
            more = f" and {len(names) - 4} more tables" if len(names) > 4 else ""
            message = f"events of a kind that is not analysed, in {examples}{more}"
            self.note("", ("schema_unknown_tables", NOTED, message), sum(rows.values()))

    def note(self, table: str, oddity: Oddity, count: int) -> None:
        """Add a line to the data-quality ledger.

        Args:
            table: Table of the export.
            oddity: Code, effect and message.
            count: Rows concerned.
        """
        code, effect, message = oddity
        severity = "info" if effect == NOTED or code in _HARMLESS else "import_error"
        self.writer.notes.append(
            DataNote(
                code=code,
                severity=severity,
                table=table,
                count=count,
                effect=effect,
                message=message,
            )
        )


def _last_row(file: SqliteFile, table: str) -> int:
    span = file.row_numbers(table)
    return max(0, span[1]) if span else 0
