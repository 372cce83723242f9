"""Nsight Systems: SQLite exports of every schema from 2020.5 to 2026.2, and ``.nsys-rep`` reports.

What a file holds is decided by the tables and columns that are there, never by its version: one
schema number is written with different tables by different options, and other tools add columns.
Columns are read by name because their order is not stable. Facts about the format are those of
the Nsight Systems user guide ("SQLite Schema Reference") and of recordings of 14 versions.

Ignored on purpose: environment, command lines and captured program output (they are private and
no event refers to them), call chains below the innermost frame, network and graphics tables.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from collectors import input_file
from collectors.errors import EnvironmentFailedError, RefusedError
from collectors.nsys import export as nsys_export
from collectors.nsys.rows import NOTED, REPAIRED, STREAMED, Ingest, Rows, process_of, process_of_one
from collectors.schema import NOT_RECORDED, MemoryKind, RangeKind
from collectors.sqlite_file import SqliteFile, integers, is_sqlite, text_of
from collectors.trace import READER_VERSION, Source, Trace, TraceWriter

if TYPE_CHECKING:
    from collectors.schema import Array

KNOWN_AS = "Nsight Systems reports (.nsys-rep) and their SQLite exports (.sqlite)"

REPORT_MAGIC = b"NVIDIA Tegra Profiler Report"
REPORT_SUFFIXES = (".nsys-rep", ".qdrep")
UNFINISHED_SUFFIX = ".qdstrm"

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
MEMCPY = "CUPTI_ACTIVITY_KIND_MEMCPY"
MEMSET = "CUPTI_ACTIVITY_KIND_MEMSET"
GRAPH_TRACE = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
RUNTIME = "CUPTI_ACTIVITY_KIND_RUNTIME"
SYNCHRONIZATION = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"

DESCRIBED_BY = ("TARGET_INFO_SYSTEM_ENV", "TARGET_INFO_SESSION_START_TIME", "TARGET_INFO_GPU")

BACKTRACE_CLASS = 67  # --cudabacktrace writes a second row of each call, marked by this class
PUSH_POP, START_END = 59, 60
MARK, CATEGORY, THREAD_NAME, DOMAIN, DOMAIN_END = 34, 33, 39, 75, 76
NAMES_OF_CUDA_OBJECTS = (97, 98, 99)  # of a device, a context, a stream

_ON_DEVICE = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid")

# 'cudaLaunchKernel_v7000', 'cudaMemcpyAsync_ptsz_v7000' and 'cuMemcpyHtoD_v2_ptds' are one
# function each in every version of CUDA; the suffix names the version of the interface.
_VERSION_SUFFIX = re.compile(r"(?:_v\d+)?(?:_(?:ptsz|ptds))?(?:_v\d+)?$")


def recognizes(path: Path) -> bool:
    """Tell whether ``path`` looks like an Nsight Systems report or any SQLite database."""
    if path.suffix in (*REPORT_SUFFIXES, UNFINISHED_SUFFIX):
        return True
    with path.open("rb") as file:
        return file.read(len(REPORT_MAGIC)) == REPORT_MAGIC or is_sqlite(path)


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
    _check_space(export, root)
    digest = _Digest(original.path)
    writer = TraceWriter(root)
    try:
        with SqliteFile(export, original.name) as file:
            _check_is_export(file, original.name)
            job = Ingest(file, writer, on_progress)
            for step in _STEPS:
                step(job)
            job.finish()
            source = _source(job, original, digest.result())
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
        with self._path.open("rb") as file:
            self._hex = hashlib.file_digest(file, "sha256").hexdigest()

    def result(self) -> str:
        self._thread.join()
        if not self._hex:
            name = input_file.shown_name(self._path)
            raise RefusedError(f"{name}: became unreadable while it was read. Open it again")
        return self._hex


def _check_space(export: Path, root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    need, have = export.stat().st_size, shutil.disk_usage(root).free
    if have < need:  # our copy is compressed to about a third; the rest is head room
        raise EnvironmentFailedError(
            f"{root}: {have:,} bytes free, {need:,} wanted. Free disk space or choose another "
            "folder with WHYSLOW_DATA_DIR"
        )


def _check_is_export(file: SqliteFile, name: str) -> None:
    if not any(file.has(t) for t in (*STREAMED, *DESCRIBED_BY, "StringIds")):
        raise RefusedError(
            f"{name}: an SQLite database, but not an Nsight Systems export. "
            "Make one with: nsys export --type sqlite REPORT.nsys-rep"
        )
    if not any(file.has(t) for t in (*STREAMED, *DESCRIBED_BY)):
        raise RefusedError(
            f"{name}: half an export: no event and no target tables. The nsys that exported it was "
            "probably older than the report; export it again with the nsys that recorded it"
        )
    for table in (KERNEL, MEMCPY, MEMSET, RUNTIME):
        if file.has(table) and not file.has(table, "start", "end"):
            raise RefusedError(f"{name}: {table} has no start and end. Export the report again")
    if not file.has("StringIds", "id", "value"):
        raise RefusedError(f"{name}: no StringIds table, so nothing has a name. Export it again")


def _source(job: Ingest, original: _Original, sha256: str) -> Source:
    file, meta = job.file, dict[str, str]()
    for table in ("EXPORT_META_DATA", "META_DATA_EXPORT"):
        if file.has(table, "name", "value"):
            sql = f"SELECT name, value FROM {table} WHERE name IN (?, ?)"
            keys = ("EXPORT_PRODUCT_VERSION", "EXPORT_SCHEMA_VERSION")
            meta |= {text_of(k): text_of(v)[:40] for k, v in file.rows(sql, *keys)}
    return Source(
        name=input_file.name_of(original.path),
        format="nsys-sqlite" if is_sqlite(original.path) else "nsys-rep",
        tool_version=meta.get("EXPORT_PRODUCT_VERSION", ""),
        schema_version=meta.get("EXPORT_SCHEMA_VERSION", ""),
        sha256=sha256,
        size_bytes=original.before.st_size,
        start_utc_ns=_number(file, "TARGET_INFO_SESSION_START_TIME", "utcEpochNs"),
        duration_ns=job.capture.duration_ns,
    )


def _number(file: SqliteFile, table: str, column: str) -> int:
    if not file.has(table, column):
        return NOT_RECORDED
    value = file.rows(f"SELECT max({column}) FROM {table}")[0][0]
    return value if isinstance(value, int) else NOT_RECORDED


def _read_api_calls(job: Ingest) -> None:
    columns = ("start", "end", "globalTid", "correlationId", "nameId", "eventClass", "returnValue")
    twins = _Twins(job.file)
    for rows in job.stream(RUNTIME, columns):
        rows.drop(
            twins.among(rows),
            "api_backtrace_duplicate",
            "second rows of calls recorded with --cudabacktrace",
        )
        rows.drop_bad_spans("api")
        rows.drop_threadless("api")
        rows.note(
            rows["nameId"] == NOT_RECORDED, "string_missing", REPAIRED, "calls without a name"
        )
        rows.write(
            "api_calls",
            correlation_id=rows["correlationId"],
            name_id=job.strings.canonical(rows["nameId"], _plain_function),
            status=rows.small("returnValue"),
            **rows.span(),
            **rows.on_thread(),
        )


class _Twins:
    """Tells rows that repeat a call because its backtrace was recorded from calls of their own."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._calls: dict[int, Array] | None = None

    def among(self, rows: Rows) -> Array:
        """Return which rows repeat a call that another row of the table records in full."""
        result: Array = rows["eventClass"] == BACKTRACE_CLASS
        if result.any():
            calls = self._all_calls()
            process, call = process_of(rows["globalTid"]), rows["correlationId"]
            for key in np.unique(process[result]).tolist():
                mine = result & (process == key)
                result[mine] = np.isin(call[mine], calls.get(key, ()))
        return result

    def _all_calls(self) -> dict[int, Array]:
        """Return the correlation ids of the rows of all other classes, by process."""
        if self._calls is None:
            pieces = []
            for columns in self._file.batches(
                RUNTIME, ("globalTid", "correlationId", "eventClass")
            ):
                thread, call, kind = (integers(c) for c in columns.values())
                other = kind != BACKTRACE_CLASS
                pieces.append((process_of(thread[other]), call[other]))
            process, call = (np.concatenate(p) for p in zip(*pieces, strict=True))
            self._calls = {k: call[process == k] for k in np.unique(process).tolist()}
        return self._calls


def _plain_function(name: str) -> str:
    return _VERSION_SUFFIX.sub("", name)


_SHAPE = {  # limits of CUDA, or well beyond them where they grow with the hardware
    **{"gridX": (1, (1 << 31) - 1), "gridY": (1, 1 << 16), "gridZ": (1, 1 << 16)},
    **dict.fromkeys(("blockX", "blockY", "blockZ"), (1, 1 << 12)),
    "registersPerThread": (0, 1 << 12),
    **dict.fromkeys(("staticSharedMemory", "dynamicSharedMemory"), (0, 1 << 26)),
}
_SHAPE_COLUMNS = (
    *("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z"),
    *("registers_per_thread", "static_shared_bytes", "dynamic_shared_bytes"),
)


def _read_kernels(job: Ingest) -> None:
    columns = (
        *_ON_DEVICE,
        *("demangledName", "shortName", "graphNodeId"),
        *_SHAPE,
    )
    for rows in job.stream(KERNEL, columns):
        rows.drop_bad_spans("kernel")
        rows.drop_unplaced("kernel")
        instant = rows["start"] == rows["end"]
        rows.note(instant, "kernel_zero_duration", NOTED, "kernels that took no time")
        short, full = rows["shortName"], rows["demangledName"]
        shape = rows.within(_SHAPE, "launch_geometry_invalid", "launches of an impossible shape")
        rows.write(
            "kernels",
            name_id=job.strings.use(np.where(full == NOT_RECORDED, short, full)),
            short_name_id=job.strings.use(np.where(short == NOT_RECORDED, full, short)),
            **dict(zip(_SHAPE_COLUMNS, shape, strict=True)),
            graph_node=_positive(rows["graphNodeId"]),
            **rows.span(),
            **rows.on_device(),
        )


def _positive(ids: Array) -> Array:
    # A kernel outside graphs has NULL or 0 here, depending on the version.
    return np.where(ids > 0, ids, NOT_RECORDED)


def _read_copies(job: Ingest) -> None:
    columns = ("copyKind", "srcKind", "dstKind", "bytes", "migrationCause", "graphNodeId")
    kinds = _memory_kinds(job.file)
    for rows in job.stream(MEMCPY, (*_ON_DEVICE, *columns)):
        rows.drop_bad_spans("memcpy")
        rows.drop_unplaced("memcpy")
        rows.drop_bad_sizes("memcpy")
        rows.write(
            "copies",
            kind=rows.tiny("copyKind"),
            source_kind=_translated(rows.tiny("srcKind"), kinds),
            destination_kind=_translated(rows.tiny("dstKind"), kinds),
            bytes=rows["bytes"],
            migration_cause=rows.tiny("migrationCause"),
            graph_node=_positive(rows["graphNodeId"]),
            **rows.span(),
            **rows.on_device(),
        )


def _memory_kinds(file: SqliteFile) -> dict[int, MemoryKind]:
    """Return MemoryKind by the file's own number; peers that assumed it took pinned for pageable.

    Exports before 3.0 have no such table; CUPTI's numbers, which ours equal, hold there.
    """
    if not file.has("ENUM_CUDA_MEM_KIND", "id", "name"):
        return {}
    known = {kind.name: kind for kind in MemoryKind}
    found = {}
    for number, name in file.rows("SELECT id, name FROM ENUM_CUDA_MEM_KIND"):
        kind = known.get(str(name).rpartition("MEMORY_KIND_")[2])
        if isinstance(number, int) and kind is not None:
            found[number] = kind
    return found


def _translated(kinds: Array, table: dict[int, MemoryKind]) -> Array:
    translated = kinds.copy()
    for number, kind in table.items():
        translated[kinds == number] = kind
    return translated


def _read_memsets(job: Ingest) -> None:
    kinds = _memory_kinds(job.file)
    for rows in job.stream(MEMSET, (*_ON_DEVICE, "bytes", "memKind", "graphNodeId")):
        rows.drop_bad_spans("memset")
        rows.drop_unplaced("memset")
        rows.drop_bad_sizes("memset")
        rows.write(
            "memsets",
            bytes=rows["bytes"],
            memory_kind=_translated(rows.tiny("memKind"), kinds),
            graph_node=_positive(rows["graphNodeId"]),
            **rows.span(),
            **rows.on_device(),
        )


def _read_graph_launches(job: Ingest) -> None:
    for rows in job.stream(GRAPH_TRACE, (*_ON_DEVICE, "graphId", "graphExecId")):
        rows.drop_bad_spans("graph")
        rows.drop_unplaced("graph")
        rows.write(
            "graph_launches",
            graph=rows["graphId"],
            graph_exec=rows["graphExecId"],
            **rows.span(),
            **rows.on_device(),
        )


def _read_graph_nodes(job: Ingest) -> None:
    for table in ("CUDA_GRAPH_EVENTS", "CUDA_GRAPH_NODE_EVENTS"):
        for rows in job.stream(table, ("start", "end", "globalTid", "graphNodeId")):
            rows.drop_bad_spans("graph_node")
            rows.drop_threadless("graph_node")
            rows.write(
                "graph_nodes", graph_node=rows["graphNodeId"], **rows.span(), **rows.on_thread()
            )


def _read_syncs(job: Ingest) -> None:
    for rows in job.stream(SYNCHRONIZATION, (*_ON_DEVICE, "syncType")):
        rows.drop_bad_spans("sync")
        rows.write("syncs", sync_type=rows.small("syncType"), **rows.span(), **rows.about_device())


def _read_nvtx(job: Ingest) -> None:
    columns = (
        *("start", "end", "eventType", "globalTid", "endGlobalTid"),
        *("textId", "domainId", "category", "color"),
    )
    if not job.file.has("NVTX_EVENTS"):
        return
    names, events, lives = _NvtxNames(job), 0, 0
    for rows in job.stream("NVTX_EVENTS", columns, texts=("text",)):
        lives += int(np.isin(rows["eventType"], (DOMAIN, DOMAIN_END)).sum())
        rows.count_described(
            np.isin(rows["eventType"], (CATEGORY, THREAD_NAME, DOMAIN, DOMAIN_END))
        )
        events += len(rows)
        _write_marks(job, rows.part(rows["eventType"] == MARK), names)
        _write_ranges(job, rows, names)
    if lives and not events:
        job.note("NVTX_EVENTS", ("nvtx_silent", NOTED, _NVTX_SILENT), lives)


# Seen with nvtx 0.2.12 to 0.2.17 under nsys 2022.4 and 2023.4, NVIDIA/NVTX issue 126.
_NVTX_SILENT = (
    "NVTX was there, but no range and no mark came. If the program opens ranges: the Python "
    "package nvtx from 0.2.12 on stays silent under nsys up to 2023.4; install nvtx<=0.2.11 or a "
    "newer nsys, and record again"
)


def _write_marks(job: Ingest, marks: Rows, names: _NvtxNames) -> None:
    marks.drop_bad_times("mark")
    marks.drop_threadless("mark")
    marks.write(
        "marks",
        time_ns=marks["start"],
        name_id=job.strings.text_or_id(marks.text("text"), marks["textId"]),
        domain_id=names.domains(marks),
        **marks.on_thread(),
    )


def _write_ranges(job: Ingest, rows: Rows, names: _NvtxNames) -> None:
    rows.drop(
        np.isin(rows["eventType"], NAMES_OF_CUDA_OBJECTS),
        "nvtx_other_event",
        "NVTX rows that only name a device, context or stream",
    )
    rows.drop(
        ~np.isin(rows["eventType"], (PUSH_POP, START_END)),
        "nvtx_unknown_kind",
        "NVTX rows that do not say whether they are a range or a mark",
    )
    is_open = rows.close_open_ranges(job.capture_end_ns)
    rows.drop_bad_spans("nvtx")
    rows.drop_threadless("nvtx")
    message = "NVTX ranges that were never closed; they end with the capture"
    rows.note(rows.of(is_open), "nvtx_unclosed", REPAIRED, message)
    ended = rows["endGlobalTid"]
    rows.write(
        "ranges",
        end_thread=np.where(ended == rows["globalTid"], NOT_RECORDED, ended),
        name_id=job.strings.text_or_id(rows.text("text"), rows["textId"]),
        domain_id=names.domains(rows),
        category_id=names.categories(rows),
        color=rows["color"],
        kind=np.where(rows["eventType"] == PUSH_POP, RangeKind.PUSH_POP, RangeKind.START_END),
        closed=~rows.of(is_open),
        **rows.span(),
        **rows.on_thread(),
    )


class _NvtxNames:
    """Names of NVTX domains and categories, which each process numbers for itself."""

    def __init__(self, job: Ingest) -> None:
        self._domains: dict[tuple[int, int], int] = {}
        self._categories: dict[tuple[int, int, int], int] = {}
        text = _nvtx_text(job.file)
        category = "category" if job.file.has("NVTX_EVENTS", "category") else "NULL"
        if text is None or not job.file.has("NVTX_EVENTS", "domainId", "globalTid", "eventType"):
            return
        sql = (
            f"SELECT eventType, globalTid, domainId, {category}, {text} FROM NVTX_EVENTS AS n "
            f"WHERE eventType IN ({CATEGORY}, {DOMAIN})"
        )
        for kind, thread, domain, number, name in job.file.rows(sql):
            if not isinstance(thread, int) or not isinstance(domain, int) or name is None:
                continue
            process, name_id = process_of_one(thread), job.strings.intern(text_of(name))
            if kind == DOMAIN:
                self._domains[process, domain] = name_id
            elif isinstance(number, int):
                self._categories[process, domain, number] = name_id

    def domains(self, rows: Rows) -> Array:
        """Return the name of each row's domain."""
        result = np.full(len(rows), NOT_RECORDED, dtype=np.int64)
        process, domain = process_of(rows["globalTid"]), rows["domainId"]
        for (its_process, its_domain), name_id in self._domains.items():
            result[(process == its_process) & (domain == its_domain)] = name_id
        return result

    def categories(self, rows: Rows) -> Array:
        """Return the name of each row's category."""
        result = np.full(len(rows), NOT_RECORDED, dtype=np.int64)
        process, domain = process_of(rows["globalTid"]), rows["domainId"]
        for (its_process, its_domain, number), name_id in self._categories.items():
            here = (process == its_process) & (domain == its_domain)
            result[here & (rows["category"] == number)] = name_id
        return result


def _nvtx_text(file: SqliteFile) -> str | None:
    by_id = "(SELECT value FROM StringIds WHERE id = n.textId)"
    parts = ["n.text"] if file.has("NVTX_EVENTS", "text") else []
    parts += [by_id] if file.has("NVTX_EVENTS", "textId") else []
    return f"coalesce({', '.join(parts)}, NULL)" if parts else None


def _read_os_calls(job: Ingest) -> None:
    for rows in job.stream("OSRT_API", ("start", "end", "globalTid", "nameId")):
        rows.drop_bad_spans("os_call")
        rows.drop_threadless("os_call")
        rows.write(
            "os_calls",
            name_id=job.strings.use(rows["nameId"]),
            **rows.span(),
            **rows.on_thread(),
        )


def _read_thread_switches(job: Ingest) -> None:
    for rows in job.stream("SCHED_EVENTS", ("start", "globalTid", "cpu", "isSchedIn")):
        rows.drop_bad_times("switch")
        rows.drop_threadless("switch")
        rows.write(
            "thread_switches",
            time_ns=rows["start"],
            cpu=rows.small("cpu"),
            is_in=rows["isSchedIn"] == 1,
            **rows.on_thread(),
        )


def _read_cpu_samples(job: Ingest) -> None:
    ids, symbols = [], []
    for rows in job.stream("SAMPLING_CALLCHAINS", ("id", "symbol", "stackDepth"), counted=False):
        innermost = rows["stackDepth"] == 0
        ids.append(rows["id"][innermost])
        symbols.append(rows["symbol"][innermost])
    known = np.concatenate(ids) if ids else np.empty(0, np.int64)
    symbol = np.concatenate(symbols) if symbols else np.empty(0, np.int64)
    order = np.argsort(known, kind="stable")
    known, symbol = known[order], symbol[order]
    for rows in job.stream("COMPOSITE_EVENTS", ("id", "start", "globalTid", "cpu")):
        rows.drop_bad_times("sample")
        rows.drop_threadless("sample")
        rows.write(
            "cpu_samples",
            time_ns=rows["start"],
            cpu=rows.small("cpu"),
            symbol_id=job.strings.use(_look_up(rows["id"], known, symbol)),
            **rows.on_thread(),
        )


def _look_up(ids: Array, known: Array, values: Array) -> Array:
    if not len(known):
        return np.full(len(ids), NOT_RECORDED, dtype=np.int64)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[place] == ids, values[place], NOT_RECORDED)


def _read_gpu_metrics(job: Ingest) -> None:
    # The number of a metric is documented as unstable, so metrics are known by name only.
    names: dict[tuple[int, int], int] = {}
    if job.file.has("TARGET_INFO_GPU_METRICS", "typeId", "metricId", "metricName"):
        sql = "SELECT typeId, metricId, metricName FROM TARGET_INFO_GPU_METRICS"
        for kind, metric, name in job.file.rows(sql):
            if isinstance(kind, int) and isinstance(metric, int):
                names[kind, metric] = job.strings.intern(text_of(name))
    for rows in job.stream("GPU_METRICS", ("timestamp", "typeId", "metricId", "value")):
        rows.drop_bad_times("metric", column="timestamp")
        rows.drop_nulls("value", "metric_not_numeric", "samples whose value is not an integer")
        name_ids = np.full(len(rows), NOT_RECORDED, dtype=np.int64)
        for (kind, metric), name_id in names.items():
            name_ids[(rows["typeId"] == kind) & (rows["metricId"] == metric)] = name_id
        unknown = name_ids == NOT_RECORDED
        rows.drop(unknown, "metric_unknown", "samples of a metric that the export does not name")
        rows.write(
            "gpu_metrics",
            time_ns=rows["timestamp"],
            gpu=(rows["typeId"] & 0xFF).astype(np.int32),
            name_id=name_ids[~unknown],
            value=rows["value"].astype(np.float64),
        )


def _read_page_faults(job: Ingest) -> None:
    gpu = ("start", "end", "globalPid", "deviceId", "numberOfPageFaults")
    for rows in job.stream("CUDA_UM_GPU_PAGE_FAULT_EVENTS", gpu):
        rows.drop_bad_spans("fault")
        rows.write(
            "page_faults",
            process=job.processes_of(rows["globalPid"]),
            device=rows.small("deviceId"),
            count=rows["numberOfPageFaults"],
            **rows.span(),
        )
    for rows in job.stream("CUDA_UM_CPU_PAGE_FAULT_EVENTS", ("start", "globalPid")):
        rows.drop_bad_times("fault")
        rows.write(
            "page_faults",
            start_ns=rows["start"],
            end_ns=rows["start"],
            process=job.processes_of(rows["globalPid"]),
            count=np.ones(len(rows), np.int64),
        )


def _read_overheads(job: Ingest) -> None:
    for table in ("PROFILER_OVERHEAD", "CUPTI_ACTIVITY_KIND_OVERHEAD"):
        for rows in job.stream(table, ("start", "end", "globalTid", "nameId")):
            rows.drop_bad_spans("overhead")
            rows.write(
                "overheads",
                name_id=job.strings.use(rows["nameId"]),
                **rows.span(),
                **rows.on_thread(),
            )


def _read_diagnostics(job: Ingest) -> None:
    for rows in job.stream("DIAGNOSTIC_EVENT", ("timestamp", "severity"), texts=("text",)):
        rows.drop_bad_times("diagnostic", column="timestamp")
        rows.write(
            "diagnostics",
            time_ns=rows["timestamp"],
            severity=rows.small("severity"),
            text=rows.decoded("text"),
        )


_STEPS: tuple[Callable[[Ingest], None], ...] = (
    _read_api_calls,
    _read_kernels,
    _read_copies,
    _read_memsets,
    _read_graph_launches,
    _read_graph_nodes,
    _read_syncs,
    _read_os_calls,
    _read_thread_switches,
    _read_cpu_samples,
    _read_gpu_metrics,
    _read_page_faults,
    _read_overheads,
    _read_diagnostics,
    _read_nvtx,  # last: a range that was never closed ends with the last event of any kind
)
