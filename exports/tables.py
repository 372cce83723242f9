"""CSV and Parquet files of what was recorded and what the analysis found, one per table.

Ids are replaced by the texts they stand for, and numbers of a kind by its name; only texts that
an event refers to are written. In CSV a text that a spreadsheet would run as a formula gets a
leading apostrophe, control characters become visible escapes, and a number that was not recorded
is an empty cell.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from analyzers.ledger.ledger import DETAILS, ROWS
from collectors.schema import (
    NOT_RECORDED,
    TABLES,
    CopyKind,
    MemoryKind,
    OperatorKind,
    RangeKind,
    schema,
)
from collectors.trace import Trace
from common.files import replacing
from common.text import escaped_character
from library.analyses import StoredAnalysis
from library.output_files import check_files, check_folder

BATCH_ROWS = 65_536
NOT_TABLES = ("strings",)  # also holds what programs printed; no event refers to that

# Spreadsheets skip leading blanks, and read the wide forms of the signs as the signs.
_FORMULA = "^[\\pZ\\s\\pC]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\x00]"
# Everything that acts instead of being seen, but tab and line breaks: those are quoted.
_CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
_CONTROLS = re.compile(_CONTROL)
_MOMENTS = ("start_ns", "end_ns", "time_ns")  # -1 ns is a time, elsewhere it is "not recorded"
_TEXT_IDS = (
    *("name_id", "short_name_id", "domain_id", "category_id", "symbol_id"),
    *("text_id", "place_text_id"),
    *(
        "shapes_id",
        "types_id",
        "strides_id",
        "values_id",
        "options_id",
        "type_id",
        "group_id",
        "range_id",
    ),
)
_FILE_NAMES = {"process_key": "process", "thread_key": "thread"}  # as in the recorded tables
_LAUNCH_KINDS = ("kernel", "communication", "copy", "memset", "graph")


def _words(kind: type[enum.IntEnum]) -> dict[int, str]:
    return {k.value: k.name.lower().replace("_", " ") for k in kind}


_WORDS: dict[tuple[str, str], dict[int, str]] = {
    ("copies", "kind"): _words(CopyKind),
    ("copies", "source_kind"): _words(MemoryKind),
    ("copies", "destination_kind"): _words(MemoryKind),
    ("memsets", "memory_kind"): _words(MemoryKind),
    ("ranges", "kind"): _words(RangeKind),
    ("operators", "kind"): _words(OperatorKind),
    ("launches", "kind"): dict(enumerate(_LAUNCH_KINDS)),
    ("launches", "copy_kind"): _words(CopyKind),
    ("launches", "source_kind"): _words(MemoryKind),
    ("launches", "destination_kind"): _words(MemoryKind),
    ("ledger", "row"): {code: row.value for code, row in enumerate(ROWS)},
    ("ledger", "detail"): dict(enumerate(DETAILS)),
}
"""Columns of numbers that stand for a word, by table and column."""


class _TableWriter(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...


def export_csv(
    trace: Trace,
    stored: StoredAnalysis,
    folder: Path,
    *,
    only_window: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write one CSV file per table into ``folder`` and return them.

    Args:
        trace: The recording.
        stored: Its analysis.
        folder: Made when absent; a file appears in it only when complete.
        only_window: Leave out rows that do not touch the analysed window.
        on_progress: Called with the name of each table that is begun.

    Raises:
        RefusedError: A file of the export's name is a recording; see ``check_files``.
        OSError: The folder cannot be written.
    """
    way = _Way(".csv", _safe_for_csv, _csv_writer, on_progress)
    return _export(trace, stored, folder, way, only_window)


def export_parquet(
    trace: Trace,
    stored: StoredAnalysis,
    folder: Path,
    *,
    only_window: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write one Parquet file per table into ``folder`` and return them; see ``export_csv``."""
    way = _Way(".parquet", _unchanged, _parquet_writer, on_progress)
    return _export(trace, stored, folder, way, only_window)


class _Way(NamedTuple):
    suffix: str
    prepare: Callable[[pa.RecordBatch], pa.RecordBatch]
    open_writer: Callable[[Path, pa.Schema], _TableWriter]
    on_progress: Callable[[str], None] | None


def _export(
    trace: Trace, stored: StoredAnalysis, folder: Path, way: _Way, only_window: bool
) -> list[Path]:
    check_folder(folder)
    check_files((folder / f"{name}{way.suffix}" for name in _names(trace)), trace.source)
    folder.mkdir(parents=True, exist_ok=True)
    window = stored.report.window
    span = (window.start_ns, window.end_ns) if only_window else None
    written = []
    for name, batches in _tables(trace, stored, span):
        if way.on_progress is not None:
            way.on_progress(name)
        target = folder / f"{name}{way.suffix}"
        with replacing(target) as draft:
            _write(draft, (way.prepare(b) for b in batches), way.open_writer)
        written.append(target)
    return written


def _write(
    path: Path,
    batches: Iterator[pa.RecordBatch],
    open_writer: Callable[[Path, pa.Schema], _TableWriter],
) -> None:
    first = next(batches)  # there is one even for a table without rows: it has the columns
    writer = open_writer(path, first.schema)
    try:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)
    finally:
        writer.close()


def _csv_writer(path: Path, columns: pa.Schema) -> _TableWriter:
    writer: _TableWriter = pyarrow.csv.CSVWriter(path, columns)
    return writer


def _parquet_writer(path: Path, columns: pa.Schema) -> _TableWriter:
    writer: _TableWriter = pq.ParquetWriter(path, columns, compression="zstd", compression_level=3)
    return writer


def _recorded_tables(trace: Trace) -> list[str]:
    return [table for table in TABLES if trace.has(table) and table not in NOT_TABLES]


def _names(trace: Trace) -> list[str]:
    """Return the name of every table that is exported."""
    derived = ("launches", "ledger", "kernel_summary")
    return [*_recorded_tables(trace), *derived, *_SMALL_TABLES]


def _tables(
    trace: Trace, stored: StoredAnalysis, span: tuple[int, int] | None
) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Give the name and the batches of every table, one table at a time."""
    texts = _NameTexts(trace)
    for table in _recorded_tables(trace):
        yield table, _readable(table, _recorded(trace, table, span), texts)
    for table, frame in (("launches", stored.launches()), ("ledger", stored.segments())):
        batches = (_touching(b, span) for b in _batches(frame))
        yield table, _readable(table, batches, texts)
    yield "kernel_summary", _readable("kernel_summary", _batches(stored.kernels()), texts)
    for table, rows in _small_tables(trace, stored).items():
        yield table, iter([rows])


def _recorded(trace: Trace, table: str, span: tuple[int, int] | None) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=schema(table))
    for batch in trace.batches(table, rows=BATCH_ROWS):
        yield _touching(batch, span)


def _batches(frame: pd.DataFrame) -> Iterator[pa.RecordBatch]:
    for first in range(0, max(1, len(frame)), BATCH_ROWS):
        part = frame.iloc[first : first + BATCH_ROWS]
        yield _without_dictionaries(pa.RecordBatch.from_pandas(part, preserve_index=False))


def _without_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    # A dictionary is written whole, also with the texts that no row of the batch uses.
    plain = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(plain, names=batch.schema.names)


def _touching(batch: pa.RecordBatch, span: tuple[int, int] | None) -> pa.RecordBatch:
    names = batch.schema.names
    begin, end = ("time_ns", "time_ns") if "time_ns" in names else ("start_ns", "end_ns")
    if span is None or begin not in names:
        return batch
    ends_after = pc.greater_equal(batch.column(end), span[0])
    return batch.filter(pc.and_(ends_after, pc.less_equal(batch.column(begin), span[1])))


class _NameTexts:
    """The strings of a recording, by id."""

    def __init__(self, trace: Trace) -> None:
        strings = trace.arrow("strings")
        ids = strings["id"].to_numpy()
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        self._values = strings["value"]

    def of(self, ids: pa.Array) -> pa.Array:
        """Return the text of each id, null for an unknown one."""
        numbers = ids.to_numpy(zero_copy_only=False)
        if not len(self._ids):
            return pa.nulls(len(numbers), pa.string())
        place = np.minimum(np.searchsorted(self._ids, numbers), len(self._ids) - 1)
        unknown = self._ids[place] != numbers
        return self._values.take(pa.array(self._order[place], mask=unknown)).combine_chunks()


def _readable(
    table: str, batches: Iterator[pa.RecordBatch], texts: _NameTexts
) -> Iterator[pa.RecordBatch]:
    """Put texts and words in the place of ids and numbers."""
    for batch in batches:
        columns = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in _TEXT_IDS:
                columns[name.removesuffix("_id")] = texts.of(column)
            elif words := _WORDS.get((table, name)):
                columns[name] = _in_words(column, words)
            else:
                columns[_FILE_NAMES.get(name, name)] = column
        yield pa.RecordBatch.from_pydict(columns)


def _in_words(numbers: pa.Array, words: Mapping[int, str]) -> pa.Array:
    values = pa.array(list(words), type=numbers.type)
    return pa.array(list(words.values())).take(pc.index_in(numbers, value_set=values))


_SMALL_TABLES = ("findings", "evidence", "quality", "data_notes")


def _small_tables(trace: Trace, stored: StoredAnalysis) -> dict[str, pa.RecordBatch]:
    """Return what the report says, as tables."""
    report = stored.report
    findings = [_flat(asdict(f)) for f in report.findings]
    evidence = [{"finding": f["id"], **seen} for f in findings for seen in f.pop("evidence")]
    return {
        "findings": _small(findings, ("id", "cause", "row", "title", "lost_ns", "confidence")),
        "evidence": _small(evidence, ("finding", "name", "value", "unit")),
        "quality": _small([asdict(q) for q in report.quality], ("level", "message", "code")),
        "data_notes": _small([asdict(n) for n in trace.notes], ("code", "severity", "count")),
    }


def _flat(finding: dict[str, Any]) -> dict[str, Any]:
    """Return a finding with what its advice wins in columns of their own."""
    gain = finding.pop("predicted_gain") or {"change": "", "low_ns": -1, "high_ns": -1}
    return {
        **finding,
        "predicted_change": gain["change"],
        "predicted_low_ns": gain["low_ns"],
        "predicted_high_ns": gain["high_ns"],
    }


def _small(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pa.RecordBatch:
    """Build a table; ``columns`` come first, and are all there is when there are no rows."""
    names = [*columns, *(c for c in (rows[0] if rows else ()) if c not in columns)]
    values = {c: [_plain(row[c]) for row in rows] for c in names}
    return pa.RecordBatch.from_pydict(values)


def _plain(value: object) -> object:
    return str(value.value) if isinstance(value, enum.Enum) else value


def _unchanged(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def _safe_for_csv(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Disarm formulas and empty the cells of what was not recorded."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            columns[name] = _disarmed(column)
        elif pa.types.is_integer(column.type) and name not in _MOMENTS:
            absent = pc.equal(column, pa.scalar(NOT_RECORDED, column.type))
            columns[name] = pc.if_else(absent, pa.scalar(None, column.type), column)
        else:
            columns[name] = column
    return pa.RecordBatch.from_pydict(columns)


def _disarmed(texts: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(texts, _CONTROL)).as_py():
        texts = _with_visible_controls(texts)
    risky = pc.match_substring_regex(texts, _FORMULA)
    apostrophe, nothing = (pa.scalar(text, texts.type) for text in ("'", ""))
    quoted = pc.binary_join_element_wise(apostrophe, texts, nothing)
    return pc.if_else(risky, quoted, texts)


def _with_visible_controls(texts: pa.Array) -> pa.Array:
    few = texts.dictionary_encode()  # a name repeats
    written_out = [
        _CONTROLS.sub(lambda m: escaped_character(m.group()), t) for t in few.dictionary.to_pylist()
    ]
    return pa.array(written_out, texts.type).take(few.indices)
