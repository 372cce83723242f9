"""One recording, whatever tool made it: columnar tables on disk that are read lazily.

A trace is a folder. Each table is one Parquet file (zstd, page checksums); ``manifest.json`` says
where the recording came from, which rows could not be used, and why. A table that the tool did
not record is *absent*; a table in which nothing happened is *empty*. Rules need the difference.

All times are integer nanoseconds on the recording's own clock. Integer columns hold
``NOT_RECORDED`` (-1) where the recording says nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from collectors.errors import DamagedError, EnvironmentFailedError, TraceError
from collectors.schema import NOT_RECORDED, TABLES, Array, check, schema
from common import platform
from common.files import publish_folder
from common.platform import flush

READER_VERSION = 14  # part of every cache key: raise it when a table changes its meaning
MANIFEST = "manifest.json"


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
        layout = schema(table)
        if columns is not None:
            layout = pa.schema([layout.field(c) for c in columns])
        if not self.count(table):
            return layout.empty_table()
        with self._open(table) as file:
            return file.read(columns=layout.names)

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
            flush(file)
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
        flush(path)
        target = self.root / name
        publish_folder(self._folder, target, _is_complete)
        shutil.rmtree(self._folder, ignore_errors=True)  # still there if another was faster
        flush(self.root)
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
    values: dict[str, Any] = file.read_row_group(group, columns).slice(row, 1).to_pylist()[0]
    return values


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
    limit = platform.file_size_limit()
    size = "" if limit is None else f"of {limit / (1 << 30):.3g} GB "
    return f"a file on disk reached the size limit {size}(WHYSLOW_LIMIT_FILE_GB)"


def _is_complete(folder: Path) -> bool:
    try:
        Trace.load(folder)
    except TraceError:
        return False
    return True
