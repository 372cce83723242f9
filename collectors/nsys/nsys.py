"""Nsight Systems: SQLite exports of every schema from 2020.5 to 2026.2, and ``.nsys-rep`` reports.

What a file holds is decided by the tables and columns that are there, never by its version: one
schema number is written with different tables by different options, and other tools add columns.
Columns are read by name because their order is not stable. Facts about the format are those of
the Nsight Systems user guide ("SQLite Schema Reference") and of recordings of 14 versions.

Ignored on purpose: environment, command lines and captured program output (they are private and
no event refers to them), call chains below the innermost frame, network and graphics tables.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from collectors import input_file
from collectors.errors import RefusedError
from collectors.nsys import activity, host, nvtx, tables
from collectors.nsys import export as nsys_export
from collectors.nsys.ingest import NsysIngest
from collectors.nsys.tally import NOTED
from collectors.schema import NOT_RECORDED
from collectors.sqlite_file import MAGIC as SQLITE_MAGIC
from collectors.sqlite_file import SqliteFile, check_header, is_sqlite, text_of
from collectors.trace import READER_VERSION, Source, Trace, TraceWriter
from common.text import file_name_text

KNOWN_AS = "Nsight Systems reports (.nsys-rep) and their SQLite exports (.sqlite)"

REPORT_MAGIC = b"NVIDIA Tegra Profiler Report"
REPORT_SUFFIXES = (".nsys-rep", ".qdrep")
SUFFIXES = (".sqlite", *REPORT_SUFFIXES)
UNFINISHED_SUFFIX = ".qdstrm"
_OTHER_PRODUCTS = (  # tables that tell their databases
    (re.compile(r"StringTable$|CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL$"), "nvprof and nvvp"),
    (re.compile(r"rocpd_"), "rocprof"),
)


def recognizes(path: Path) -> bool:
    """Tell whether ``path`` looks like an Nsight Systems report or any SQLite database."""
    if path.suffix in (*REPORT_SUFFIXES, UNFINISHED_SUFFIX):
        return True
    with path.open("rb") as file:
        return file.read(len(REPORT_MAGIC)) == REPORT_MAGIC or is_sqlite(path)


def may_begin(path: Path) -> bool:
    """Tell whether what has arrived at ``path`` so far can be the beginning of a recording."""
    with path.open("rb") as file:
        head = file.read(len(REPORT_MAGIC))
    return any(magic.startswith(head[: len(magic)]) for magic in (SQLITE_MAGIC, REPORT_MAGIC))


def read(path: Path, root: Path, on_progress: Callable[[float, str], None]) -> Trace:
    """Read a report or an export into the cache folder ``root``; see ``open_trace``."""
    before = input_file.look_at(path)
    if is_sqlite(path):
        return _read_export(path, _Original(path, before), root, on_progress)
    return _read_report(_Original(path, before), root, on_progress)


class _Original(NamedTuple):
    """The file that was asked for, as it was before the first byte was read."""

    path: Path
    before: os.stat_result

    @property
    def name(self) -> str:
        """What messages call it."""
        return input_file.shown_name(self.path)

    def check_unchanged(self) -> None:
        """Refuse a file that is not the same any more."""
        input_file.check_unchanged(self.path, self.before)


def _read_report(
    original: _Original, root: Path, on_progress: Callable[[float, str], None]
) -> Trace:
    if original.path.suffix == UNFINISHED_SUFFIX:
        raise RefusedError(
            f"{original.name}: a raw .qdstrm capture. Import it with the QdstrmImporter of the "
            "nsys that recorded it, then open the .nsys-rep"
        )
    on_progress(0.0, "exporting the report with nsys")
    (root / "tmp").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root / "tmp"))
    try:
        exported = nsys_export.export(original.path, folder)
        return _read_export(exported, original, root, on_progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read_export(
    export: Path, original: _Original, root: Path, on_progress: Callable[[float, str], None]
) -> Trace:
    check_header(export, original.name)  # before anything looks at all of the file
    # Our copy is compressed to about a third; the rest is head room.
    input_file.check_space(export.stat().st_size, root)
    digest = _Digest(original.path)
    writer = TraceWriter(root)
    try:
        with SqliteFile(export, original.name) as file:
            _check_is_export(file, original.name)
            renamed = tables.adopt_renamed(file)
            ingest = NsysIngest(file, writer, on_progress)
            for table in renamed:
                message = f"a table of another name, {table}, was read by its columns"
                ingest.note("", ("table_renamed", NOTED, message), 1)
            for step in _STEPS:
                step(ingest)
            ingest.finish()
            source = _source(ingest, original, digest.result())
            original.check_unchanged()
            return writer.finish(f"{source.sha256[:16]}-{READER_VERSION}", source)
    except BaseException as error:
        writer.discard()
        if isinstance(error, RefusedError):
            original.check_unchanged()  # that is why it looks damaged
        raise


class _Digest:
    """SHA-256 of a file, computed beside the reading."""

    def __init__(self, path: Path) -> None:
        self._path, self._hex = path, ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # Whoever asks for the result is told; a file that was refused meanwhile may be gone.
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            self._hex = hashlib.file_digest(file, "sha256").hexdigest()

    def result(self) -> str:
        self._thread.join()
        if not self._hex:
            name = input_file.shown_name(self._path)
            raise RefusedError(f"{name}: became unreadable while it was read. Open it again")
        return self._hex


def _check_is_export(file: SqliteFile, name: str) -> None:
    tool = next((t for mark, t in _OTHER_PRODUCTS if any(map(mark.match, file.tables))), "")
    if tool and not file.has("StringIds"):
        raise RefusedError(
            f"{name}: a database of {tool}, which whyslow does not read. Look at it there, or "
            "record with: nsys profile -t cuda,nvtx,osrt -o report PROGRAM"
        )
    if not any(file.has(t) for t in (*tables.STREAMED, *tables.DESCRIBED_BY, "StringIds")):
        raise RefusedError(
            f"{name}: an SQLite database, but not an Nsight Systems export. "
            "Make one with: nsys export --type sqlite REPORT.nsys-rep"
        )
    if not any(file.has(t) for t in (*tables.STREAMED, *tables.DESCRIBED_BY)):
        raise RefusedError(
            f"{name}: half an export: no event and no target tables. The nsys that exported it was "
            "probably older than the report; export it again with the nsys that recorded it"
        )
    for table in (tables.KERNEL, tables.MEMCPY, tables.MEMSET, tables.RUNTIME):
        if file.has(table) and not file.has(table, "start", "end"):
            raise RefusedError(f"{name}: {table} has no start and end. Export the report again")
    if not file.has("StringIds", "id", "value"):
        raise RefusedError(f"{name}: no StringIds table, so nothing has a name. Export it again")


def _source(ingest: NsysIngest, original: _Original, sha256: str) -> Source:
    file, meta = ingest.file, dict[str, str]()
    for table in ("EXPORT_META_DATA", "META_DATA_EXPORT"):
        if file.has(table, "name", "value"):
            sql = f"SELECT name, value FROM {table} WHERE name IN (?, ?)"
            keys = ("EXPORT_PRODUCT_VERSION", "EXPORT_SCHEMA_VERSION")
            meta |= {text_of(k): text_of(v)[:40] for k, v in file.rows(sql, *keys)}
    return Source(
        name=file_name_text(original.path.name),
        format="nsys-sqlite" if is_sqlite(original.path) else "nsys-rep",
        tool_version=meta.get("EXPORT_PRODUCT_VERSION", ""),
        schema_version=meta.get("EXPORT_SCHEMA_VERSION", ""),
        sha256=sha256,
        size_bytes=original.before.st_size,
        start_utc_ns=_number(file, "TARGET_INFO_SESSION_START_TIME", "utcEpochNs"),
        duration_ns=ingest.window.duration_ns,
    )


def _number(file: SqliteFile, table: str, column: str) -> int:
    if not file.has(table, column):
        return NOT_RECORDED
    value = file.rows(f"SELECT max({column}) FROM {table}")[0][0]
    return value if isinstance(value, int) else NOT_RECORDED


_STEPS: tuple[Callable[[NsysIngest], None], ...] = (
    activity.read_api_calls,
    activity.read_kernels,
    activity.read_copies,
    activity.read_memsets,
    activity.read_graph_launches,
    activity.read_graph_nodes,
    activity.read_syncs,
    host.read_os_calls,
    host.read_library_calls,
    host.read_thread_switches,
    host.read_cpu_samples,
    host.read_gpu_metrics,
    activity.read_page_faults,
    host.read_overheads,
    host.read_diagnostics,
    nvtx.read_nvtx,  # last: a range that was never closed ends with the last event of any kind
)
