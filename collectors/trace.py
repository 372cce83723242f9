"""One recording, whatever tool made it: columnar tables on disk that are read lazily.

A trace is a folder. Each table is one Parquet file (zstd, page checksums); ``manifest.json`` says
where the recording came from, which rows could not be used, and why. A table that the tool did
not record is *absent*; a table in which nothing happened is *empty*. Rules need the difference.

All times are integer nanoseconds on the recording's own clock. Integer columns hold
``NOT_RECORDED`` (-1) where the recording says nothing.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import json
import os
import resource
import shutil
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Array = np.ndarray[Any, Any]

NOT_RECORDED = -1  # no id, count or size of a recording is negative
READER_VERSION = 6  # part of every cache key: raise it when a table changes its meaning
MANIFEST = "manifest.json"


class TraceError(Exception):
    """A recording could not be opened; the message is one line: file, trouble, way out."""

    exit_code = 70


class RefusedError(TraceError):
    """The input is not something whyslow can answer for."""

    exit_code = 2


class EnvironmentFailedError(TraceError):
    """The machine, not the input, stopped us: disk full, tool missing, out of time."""

    exit_code = 3


class DamagedError(EnvironmentFailedError):
    """What was stored cannot be read back; opening the recording again makes it anew."""


class CopyKind(enum.IntEnum):
    """Direction of a copy, as CUPTI numbers it."""

    HOST_TO_DEVICE = 1
    DEVICE_TO_HOST = 2
    HOST_TO_ARRAY = 3
    ARRAY_TO_HOST = 4
    ARRAY_TO_ARRAY = 5
    ARRAY_TO_DEVICE = 6
    DEVICE_TO_ARRAY = 7
    DEVICE_TO_DEVICE = 8
    HOST_TO_HOST = 9
    PEER_TO_PEER = 10
    MANAGED_HOST_TO_DEVICE = 11
    MANAGED_DEVICE_TO_HOST = 12
    MANAGED_DEVICE_TO_DEVICE = 13


MANAGED_COPIES = (
    CopyKind.MANAGED_HOST_TO_DEVICE,
    CopyKind.MANAGED_DEVICE_TO_HOST,
    CopyKind.MANAGED_DEVICE_TO_DEVICE,
)


class MigrationCause(enum.IntEnum):
    """Why unified memory moved, as CUPTI numbers it."""

    UNKNOWN = 0
    USER_PREFETCH = 1
    PAGE_FAULT = 2
    SPECULATIVE_PREFETCH = 3
    EVICTION = 4
    ACCESS_COUNTERS = 5


class MemoryKind(enum.IntEnum):
    """Kind of memory at one end of a copy; collectors translate the tool's own numbers."""

    PAGEABLE = 0
    PINNED = 1
    DEVICE = 2
    ARRAY = 3
    MANAGED = 4
    DEVICE_STATIC = 5
    MANAGED_STATIC = 6
    UNKNOWN = 7


class RangeKind(enum.IntEnum):
    """How an NVTX range was made."""

    PUSH_POP = 0
    START_END = 1


class ProfiledKind(enum.IntEnum):
    """What the counters of one profiled result belong to."""

    KERNEL = 0
    RANGE = 1


class OperatorKind(enum.IntEnum):
    """What an operator is."""

    FRAMEWORK = 0  # such as aten::add
    PYTHON = 1  # a Python function or module


class Column(NamedTuple):
    """One column: name, Arrow type, meaning. A name's ending is its unit."""

    name: str
    type: pa.DataType
    meaning: str


_I64, _I32, _I8, _F64, _BOOL, _STR = (
    pa.int64(),
    pa.int32(),
    pa.int8(),
    pa.float64(),
    pa.bool_(),
    pa.string(),
)

_SPAN = (
    Column("start_ns", _I64, "begin"),
    Column("end_ns", _I64, "end, never before the begin"),
)
_ON_DEVICE = (
    *_SPAN,
    Column("process", _I64, "process key; `processes` has its pid and name"),
    Column("device", _I32, "CUDA device number, as this process counts"),
    Column("stream", _I64, "CUDA stream number, as this process counts"),
    Column("correlation_id", _I64, "links to the API call of the same process"),
)
_ON_THREAD = (
    *_SPAN,
    Column("process", _I64, "process key"),
    Column("thread", _I64, "thread key; `threads` has its tid and name"),
)
_LAUNCH_SHAPE = (
    Column("grid_x", _I32, "blocks in x"),
    Column("grid_y", _I32, "blocks in y"),
    Column("grid_z", _I32, "blocks in z"),
    Column("block_x", _I32, "threads in x"),
    Column("block_y", _I32, "threads in y"),
    Column("block_z", _I32, "threads in z"),
    Column("registers_per_thread", _I32, "registers allocated to each thread"),
    Column("static_shared_bytes", _I64, "shared memory fixed at compile time, per block"),
    Column("dynamic_shared_bytes", _I64, "shared memory asked for at launch, per block"),
)
_GRAPH_NODE = Column("graph_node", _I64, "CUDA graph node that ran, else -1")

TABLES: dict[str, tuple[Column, ...]] = {
    "kernels": (
        *_ON_DEVICE,
        Column("name_id", _I64, "full (demangled) name"),
        Column("short_name_id", _I64, "name without template arguments and parameters"),
        *_LAUNCH_SHAPE,
        _GRAPH_NODE,
    ),
    "copies": (
        *_ON_DEVICE,
        Column("kind", _I8, "CopyKind"),
        Column("source_kind", _I8, "MemoryKind"),
        Column("destination_kind", _I8, "MemoryKind"),
        Column("bytes", _I64, "bytes moved"),
        Column("migration_cause", _I8, "MigrationCause, of unified memory"),
        _GRAPH_NODE,
    ),
    "memsets": (
        *_ON_DEVICE,
        Column("bytes", _I64, "bytes set"),
        Column("memory_kind", _I8, "MemoryKind"),
        _GRAPH_NODE,
    ),
    "graph_launches": (
        *_ON_DEVICE,
        Column("graph", _I64, "CUDA graph number"),
        Column("graph_exec", _I64, "number of the instantiated graph"),
    ),
    "graph_nodes": (*_ON_THREAD, Column("graph_node", _I64, "node that was created or cloned")),
    "api_calls": (
        *_ON_THREAD,
        Column("correlation_id", _I64, "links to what the call put on a device"),
        Column("name_id", _I64, "function, version suffix stripped"),
        Column("status", _I32, "value returned; 0 is success"),
    ),
    "syncs": (*_ON_DEVICE, Column("sync_type", _I32, "raw number; its meaning varies by version")),
    "ranges": (
        *_ON_THREAD,
        Column("end_thread", _I64, "thread that ended it when another, else -1"),
        Column("name_id", _I64, "text of the range"),
        Column("domain_id", _I64, "name of its domain, -1 for the default domain"),
        Column("category_id", _I64, "name of its category, else -1"),
        Column("color", _I64, "ARGB, else -1"),
        Column("kind", _I8, "RangeKind"),
        Column("closed", _BOOL, "false: still open when the recording stopped"),
    ),
    "operators": (
        *_ON_THREAD,
        Column("name_id", _I64, "name, such as aten::add"),
        Column("kind", _I8, "OperatorKind"),
        Column("sequence", _I64, "number that a forward operator shares with its backward one"),
        Column("forward_thread", _I64, "number of the thread that ran the forward one, else 0"),
        Column("external_id", _I64, "the recorder's number of the operator"),
        Column("shapes_id", _I64, "shapes of its inputs, as text"),
    ),
    "memory_events": (
        Column("time_ns", _I64, "moment"),
        Column("process", _I64, "process key"),
        Column("thread", _I64, "thread key"),
        Column("device", _I32, "device whose memory it is, -1 for the host"),
        Column("address", _I64, "where the block begins"),
        Column("bytes", _I64, "bytes taken, negative when they were given back"),
        Column("allocated_bytes", _I64, "in use afterwards, as the framework counts"),
        Column("reserved_bytes", _I64, "kept from the driver afterwards, in use or not"),
    ),
    "collectives": (
        *_ON_DEVICE,
        Column("name_id", _I64, "collective, such as allreduce"),
        Column("type_id", _I64, "type of an element"),
        Column("group_id", _I64, "name of the group of processes"),
        Column("group_size", _I64, "processes in the group"),
        Column("elements_in", _I64, "elements that each process gave"),
        Column("elements_out", _I64, "elements that each process got"),
    ),
    "range_counters": (
        *_SPAN,
        Column("process", _I64, "process key"),
        Column("device", _I32, "CUDA device number, as this process counts"),
        Column("range_id", _I64, "kernel, or range of kernels, that was counted"),
        Column("name_id", _I64, "counter, under the name that the hardware's maker gave it"),
        Column("value", _F64, "count over the range"),
    ),
    "marks": (
        Column("time_ns", _I64, "moment"),
        Column("process", _I64, "process key"),
        Column("thread", _I64, "thread key"),
        Column("name_id", _I64, "text of the mark"),
        Column("domain_id", _I64, "name of its domain, -1 for the default domain"),
    ),
    "os_calls": (*_ON_THREAD, Column("name_id", _I64, "operating-system function")),
    "thread_switches": (
        Column("time_ns", _I64, "moment"),
        Column("process", _I64, "process key"),
        Column("thread", _I64, "thread key"),
        Column("cpu", _I32, "core"),
        Column("is_in", _BOOL, "true: the thread got the core"),
    ),
    "cpu_samples": (
        Column("time_ns", _I64, "moment"),
        Column("process", _I64, "process key"),
        Column("thread", _I64, "thread key"),
        Column("cpu", _I32, "core"),
        Column("symbol_id", _I64, "innermost function on the stack, else -1"),
    ),
    "gpu_metrics": (
        Column("time_ns", _I64, "moment of the sample; may be negative"),
        Column("gpu", _I32, "physical GPU, as the recorder counts"),
        Column("name_id", _I64, "metric"),
        Column("value", _F64, "percent, or Hz for clocks"),
    ),
    "profiled_kernels": (
        Column("number", _I64, "the profiler's own number of it; may repeat"),
        Column("kind", _I8, "ProfiledKind"),
        Column("process", _I64, "process key"),
        Column("device", _I32, "CUDA device number, as this process counts"),
        Column("context", _I64, "CUDA context number"),
        Column("stream", _I64, "CUDA stream number"),
        Column("duration_ns", _I64, "time it ran, alone and under the profiler's clock settings"),
        Column("name_id", _I64, "full (demangled) name"),
        Column("short_name_id", _I64, "name without template arguments and parameters"),
        *_LAUNCH_SHAPE,
    ),
    "counters": (
        Column("profiled", _I64, "row in `profiled_kernels`"),
        Column("name_id", _I64, "metric, under its exact name"),
        Column("value", _F64, "in base units: ns, bytes, Hz, percent …; a text has none"),
        Column("text_id", _I64, "text of a metric that is no number, else -1"),
    ),
    "counter_instances": (
        Column("profiled", _I64, "row in `profiled_kernels`"),
        Column("name_id", _I64, "metric that is made of these parts"),
        Column("place", _I64, "what the part stands for: an address, a unit; -1 when text"),
        Column("place_text_id", _I64, "the same as text, else -1"),
        Column("value", _F64, "in base units"),
    ),
    "page_faults": (
        *_SPAN,
        Column("process", _I64, "process key"),
        Column("device", _I32, "device that faulted, -1 for the host"),
        Column("count", _I64, "faults in the group"),
    ),
    "overheads": (
        *_ON_THREAD,
        Column("name_id", _I64, "what the profiler was doing"),
    ),
    "diagnostics": (
        Column("time_ns", _I64, "moment"),
        Column("severity", _I32, "raw number of the recorder"),
        Column("text", _STR, "message of the recorder"),
    ),
    "devices": (
        Column("process", _I64, "process key"),
        Column("device", _I32, "CUDA device number, as this process counts"),
        Column("physical", _I32, "number of the physical GPU, -1 when the recording is silent"),
        Column("name", _STR, "product name, empty when the recording is silent"),
        Column("sm_count", _I32, "streaming multiprocessors"),
        Column("compute_major", _I32, "compute capability, before the point"),
        Column("compute_minor", _I32, "compute capability, after the point"),
        Column("max_warps_per_sm", _I32, "resident warps"),
        Column("max_blocks_per_sm", _I32, "resident blocks"),
        Column("max_registers_per_sm", _I64, "32-bit registers"),
        Column("max_shared_bytes_per_sm", _I64, "shared memory"),
        Column("memory_bytes", _I64, "device memory"),
        Column("memory_bytes_per_s", _I64, "peak bandwidth of device memory"),
    ),
    "processes": (
        Column("process", _I64, "process key"),
        Column("pid", _I64, "operating-system number"),
        Column("name", _STR, "executable"),
    ),
    "threads": (
        Column("thread", _I64, "thread key"),
        Column("process", _I64, "process key"),
        Column("tid", _I64, "operating-system number"),
        Column("name", _STR, "name given by the program, else empty"),
    ),
    "strings": (
        Column("id", _I64, "number that the other tables use"),
        Column("value", _STR, "text"),
    ),
}
"""Every table a trace may hold. The first level of documentation for rule and page authors."""

LAUNCH_SHAPE = tuple(column.name for column in _LAUNCH_SHAPE)
"""Columns of ``kernels`` that tell how one was launched."""

DEVICE_TABLES = ("kernels", "graph_launches", "copies", "memsets")
"""Tables whose rows occupy a device."""


def schema(table: str) -> pa.Schema:
    """Return the Arrow schema of ``table``."""
    return pa.schema([pa.field(c.name, c.type) for c in TABLES[table]])


def check(table: str, columns: Mapping[str, Array | pa.Array]) -> pa.RecordBatch:
    """Turn ``columns`` into a batch of ``table``'s schema; integers may be left out.

    Raises:
        KeyError: A column that is not an integer is missing, or one is not in the schema.
    """
    unknown = set(columns) - {c.name for c in TABLES[table]}
    if unknown:
        raise KeyError(f"{table} has no column {sorted(unknown)}")
    length = len(next(iter(columns.values())))
    arrays = []
    for column in TABLES[table]:
        values = columns.get(column.name)
        if values is None and pa.types.is_integer(column.type):
            values = np.full(length, NOT_RECORDED, dtype=np.int64)
        elif values is None:
            raise KeyError(f"{table} needs {column.name}")
        if isinstance(values, np.ndarray):
            values = pa.array(values)
        arrays.append(values if values.type == column.type else values.cast(column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema(table))


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a trace came from.

    Attributes:
        name: File name as the user knows it, without folders.
        format: ``nsys-sqlite``, ``torch-json``, ``ncu-csv`` …
        tool_version: Version of the recorder, empty when the recording is silent.
        schema_version: Version of the file's layout, empty when the recording is silent.
        sha256: Digest of the file that was read.
        size_bytes: Its size.
        start_utc_ns: Wall-clock time of time zero, -1 when the recording is silent.
        duration_ns: Length of the capture as the recorder states it, -1 when silent.
        rank: Number of the process among those of one job, -1 when the recording is silent.
        world_size: How many those are, -1 when the recording is silent.
    """

    name: str
    format: str
    tool_version: str = ""
    schema_version: str = ""
    sha256: str = ""
    size_bytes: int = NOT_RECORDED
    start_utc_ns: int = NOT_RECORDED
    duration_ns: int = NOT_RECORDED
    rank: int = NOT_RECORDED
    world_size: int = NOT_RECORDED


@dataclass(frozen=True, kw_only=True)
class DataNote:
    """One line of the data-quality ledger.

    Attributes:
        code: Short name, such as ``kernel_negative_duration``.
        severity: ``info``, ``data_loss`` (the profiler did not record it) or ``import_error``
            (recorded, but it could not be used).
        table: Table of the input file, empty when it concerns the whole recording.
        count: Rows concerned.
        effect: What that means for the numbers: ``excluded``, ``repaired`` or ``noted``.
        message: One sentence, with the first example.
    """

    code: str
    severity: str
    table: str
    count: int
    effect: str
    message: str


@dataclass(frozen=True, kw_only=True)
class RowCount:
    """How the rows of one input table were used; ``used + excluded == rows``."""

    table: str
    rows: int
    used: int
    excluded: int


@dataclass(frozen=True)
class Trace:
    """A recording on disk. Reading is lazy: a table is touched only when it is asked for.

    Attributes:
        folder: The trace's folder in the cache.
        source: Where it came from.
        counts: Rows of every table that was recorded; an absent table is not a key.
        notes: The data-quality ledger.
        row_counts: Use of the rows of each input table.
        footers: Digest of each file's footer, which has no checksum of its own.
    """

    folder: Path
    source: Source
    counts: dict[str, int]
    notes: tuple[DataNote, ...] = ()
    row_counts: tuple[RowCount, ...] = ()
    footers: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open the trace in ``folder``; reads the manifest only.

        Raises:
            DamagedError: The manifest is absent or damaged; ingest the file again.
        """
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            sizes = {name: (folder / name).stat().st_size for name in manifest["sizes"]}
            if sizes != manifest["sizes"]:
                raise ValueError("a file changed its size")  # noqa: TRY301 - handled just below
            return cls(
                folder,
                Source(**manifest["source"]),
                manifest["counts"],
                tuple(DataNote(**n) for n in manifest["notes"]),
                tuple(RowCount(**r) for r in manifest["row_counts"]),
                dict(manifest.get("footers", {})),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"{folder.name}: the cached copy is damaged ({error}); open the recording again"
            ) from error

    @property
    def id(self) -> str:
        """Name of the trace in links: the folder's name."""
        return self.folder.name

    def has(self, table: str) -> bool:
        """Tell whether the tool recorded ``table``, be it empty."""
        return table in self.counts

    def count(self, table: str) -> int:
        """Return the rows of ``table``; 0 when it is absent."""
        return self.counts.get(table, 0)

    def arrow(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read ``columns`` (default: all) of ``table``; an absent table reads as empty.

        Raises:
            DamagedError: The file is damaged or gone; this trace is not found any more.
        """
        wanted = schema(table)
        if columns is not None:
            wanted = pa.schema([wanted.field(c) for c in columns])
        if not self.count(table):
            return wanted.empty_table()
        with self._open(table) as file:
            return file.read(columns=wanted.names)

    def columns(self, table: str, columns: Sequence[str]) -> dict[str, Array]:
        """Read ``columns`` of ``table`` as numpy arrays."""
        data = self.arrow(table, columns)
        return {c: data.column(c).to_numpy() for c in columns}

    def frame(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read ``columns`` (default: all) of ``table`` as a pandas frame."""
        # One block per column: gathering them into one array copies everything once more.
        frame: pd.DataFrame = self.arrow(table, columns).to_pandas(split_blocks=True)
        return frame

    def batches(
        self, table: str, columns: Sequence[str] | None = None, rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        """Read ``table`` piece by piece, in the order of the recording."""
        if not self.count(table):
            return
        with self._open(table) as file:
            yield from file.iter_batches(batch_size=rows, columns=columns)

    def row(self, table: str, row: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Return one row of ``table``, reading no more than the piece of the file it lies in.

        Raises:
            IndexError: The table has no such row.
            DamagedError: The file is damaged or gone.
        """
        if not 0 <= row < self.count(table):
            raise IndexError(row)
        with self._open(table) as file:
            return row_of(file, row, columns)

    def names(self, ids: Array) -> Array:
        """Return the text of each id; an unknown id reads as an empty text."""
        unique, inverse = np.unique(ids, return_inverse=True)
        strings = self.arrow("strings")
        strings = strings.filter(pc.is_in(strings["id"], value_set=pa.array(unique)))
        texts = dict(zip(strings["id"].to_pylist(), strings["value"].to_pylist(), strict=True))
        values = np.array([texts.get(i, "") for i in unique.tolist()], dtype=object)
        named: Array = values[inverse]
        return named

    @contextlib.contextmanager
    def _open(self, table: str) -> Iterator[pq.ParquetFile]:
        path = self.folder / f"{table}.parquet"
        try:
            if footer_digest(path) != self.footers.get(path.name):
                raise pa.ArrowInvalid("the footer is damaged")
            # The checksum turns a flipped bit into an error; without it 10 of 40 flips were served.
            with pq.ParquetFile(path, page_checksum_verification=True, memory_map=True) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            if not is_damage(error):
                raise
            with contextlib.suppress(OSError):  # so that the next look makes it again
                (self.folder / MANIFEST).unlink()
            raise DamagedError(
                f"{self.source.name}: its cached copy is damaged ({table}); open it again"
            ) from error


@dataclass
class TraceWriter:
    """Write a trace into a folder that appears under its final name only when complete.

    Args:
        root: Cache folder; the finished trace becomes ``root/<name>``.
    """

    root: Path
    notes: list[DataNote] = field(default_factory=list)
    row_counts: list[RowCount] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)
    _writers: dict[str, pq.ParquetWriter] = field(default_factory=dict)
    _groups: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    _folder: Path = field(init=False)
    _thread: ThreadPoolExecutor = field(init=False)
    _pending: deque[Future[None]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._folder = self.root / "tmp" / uuid.uuid4().hex
        self._folder.mkdir(parents=True)
        # Compressing one piece while the next is read makes both cores work.
        self._thread = ThreadPoolExecutor(max_workers=1)

    def declare(self, table: str) -> None:
        """Say that the tool recorded ``table``, even if nothing happened in it."""
        self._counts.setdefault(table, 0)

    def write(self, table: str, columns: Mapping[str, Array | pa.Array]) -> None:
        """Append rows to ``table``; the arrays must not change afterwards."""
        self.declare(table)
        rows = len(next(iter(columns.values())))
        if not rows:
            return
        self._counts[table] += rows
        self._pending.append(self._thread.submit(self._append, table, dict(columns)))
        while len(self._pending) > MAX_PENDING_PIECES:
            self._pending.popleft().result()

    def _append(self, table: str, columns: Mapping[str, Array | pa.Array]) -> None:
        group = self._groups.setdefault(table, [])
        group.append(check(table, columns))
        if sum(batch.num_rows for batch in group) >= ROW_GROUP_ROWS:
            self._write_group(table)

    def _write_group(self, table: str) -> None:
        if table not in self._writers:
            self._writers[table] = _parquet_writer(self._folder / f"{table}.parquet", table)
        group = pa.Table.from_batches(self._groups.pop(table))
        self._writers[table].write_table(group, row_group_size=max(group.num_rows, 1))

    def _close_writers(self) -> None:
        while self._pending:
            self._pending.popleft().result()
        for table in list(self._groups):
            self._write_group(table)
        for writer in self._writers.values():
            writer.close()

    def finish(self, name: str, source: Source) -> Trace:
        """Make the trace appear as ``root/name`` and return it; an existing one is kept."""
        self._close_writers()
        self._thread.shutdown()
        files = sorted(self._folder.glob("*.parquet"))
        for file in files:
            _flush(file)
        manifest = {
            "reader_version": READER_VERSION,
            "source": asdict(source),
            "counts": self._counts,
            "notes": [asdict(n) for n in self.notes],
            "row_counts": [asdict(r) for r in self.row_counts],
            "sizes": {f.name: f.stat().st_size for f in files},
            "footers": {f.name: footer_digest(f) for f in files},
        }
        path = self._folder / MANIFEST
        path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _flush(path)
        target = self.root / name
        if target.exists() and not _is_complete(target):
            shutil.rmtree(target)
        try:
            self._folder.replace(target)
        except OSError:
            if not _is_complete(target):  # anything but "another process was faster"
                raise
            shutil.rmtree(self._folder, ignore_errors=True)
        _flush(self.root)
        return Trace.load(target)

    def discard(self) -> None:
        """Remove everything written so far."""
        self._thread.shutdown(cancel_futures=True)
        for writer in self._writers.values():
            with contextlib.suppress(OSError):  # a full disk is why we are here
                writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)


ROW_GROUP_ROWS = 262_144  # large enough to compress and to read well; about 30 MB in memory
MAX_FOOTER_BYTES = 16 << 20  # 1 kB a column and row group; a damaged length reads no more
MAX_PENDING_PIECES = 4  # pieces of 65,536 rows waiting to be compressed: about 50 MB


def _parquet_writer(path: Path, table: str) -> pq.ParquetWriter:
    # Times rise slowly and ids repeat. Splitting bytes suits the former: measured against deltas
    # it takes as much space, and reads twice as fast. Dictionaries suit the latter.
    wide = {c.name for c in TABLES[table] if c.name.endswith("_ns") or c.name == "correlation_id"}
    return pq.ParquetWriter(
        path,
        schema(table),
        compression="zstd",
        compression_level=1,
        use_dictionary=[c.name for c in TABLES[table] if c.name not in wide],
        column_encoding=dict.fromkeys(sorted(wide), "BYTE_STREAM_SPLIT") or None,
        write_page_checksum=True,
        write_statistics=False,
    )


def row_of(file: pq.ParquetFile, row: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Return one row of a Parquet file, reading only its row group."""
    group = 0
    while row >= (rows := file.metadata.row_group(group).num_rows):
        row -= rows
        group += 1
    found: dict[str, Any] = file.read_row_group(group, columns).slice(row, 1).to_pylist()[0]
    return found


def footer_digest(path: Path) -> str:
    """Return a digest of a Parquet file's footer, which says where everything in it is."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - min(length, MAX_FOOTER_BYTES)))
        return hashlib.sha256(file.read()).hexdigest()


def is_damage(error: Exception) -> bool:
    """Tell whether a stored file could not be read because of what is, or is not, in it."""
    if isinstance(error, MemoryError) or "annot allocate memory" in str(error):
        return False
    if isinstance(error, OSError):
        return error.errno in (None, errno.ENOENT)
    return isinstance(error, (pa.ArrowException, DamagedError))


@contextlib.contextmanager
def storing_in(root: Path) -> Iterator[None]:
    """Turn what keeps ``root`` from being written into one line that names it.

    Raises:
        EnvironmentFailedError: The disk is full, read-only, or a limit was reached.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        too_large = error.errno == errno.EFBIG
        trouble = file_size_limit() if too_large else f"cannot be written ({error.strerror})"
        raise EnvironmentFailedError(
            f"{root}: {trouble}. Free disk space or choose another folder with WHYSLOW_DATA_DIR"
        ) from error


def file_size_limit() -> str:
    """Say which limit a file reached that may not grow any further."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    size = "" if limit == resource.RLIM_INFINITY else f"of {limit / (1 << 30):.3g} GB "
    return f"a file on disk reached the size limit {size}(WHYSLOW_LIMIT_FILE_GB)"


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_complete(folder: Path) -> bool:
    try:
        Trace.load(folder)
    except TraceError:
        return False
    return True
