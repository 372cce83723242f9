"""An SQLite file from outside, read without trusting it and without touching it.

The file is opened read-only and immutable, so nothing is written to it or beside it. It may
contain tables and indexes only: a view, a trigger, a virtual table or a generated column could
run what its author wrote. Names from the file are compared with ours and never put into SQL, but
for names of plain letters that a collector adopts for one of its own.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

import adbc_driver_sqlite.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc

from collectors.errors import RefusedError
from collectors.input_file import shown_name
from collectors.schema import NOT_RECORDED, Array

MAGIC = b"SQLite format 3\x00"
MAX_VALUE_BYTES = 8 << 20  # one text of a recording; a real one stays under 1 MiB
MAX_TABLES = 1_000  # the largest schema seen has 179
MAX_COLUMNS = 200  # the widest table seen has 41
BATCH_ROWS = 65_536  # 65,536 rows read as fast as 262,144 and hold a quarter of the memory
STRIPE_ROWS = 4 * BATCH_ROWS  # of the widest table 40 MB; fewer rows cost more in starting scans
READERS = 2  # two threads read 1.8 times as fast as one; each holds up to two stripes
MIN_ROW_BYTES = 4  # on disk; a table with more row numbers than that allows has mostly holes
CHECK_BELOW_BYTES = 256 << 20  # SQLite's own check of a larger file takes longer than reading it
CHECK_SECONDS = 20
MAX_TRAILING_BYTES = 64 << 20  # of a file that was grown ahead; more is no database any more
MAX_HOLES = 16  # times what the disk holds of a file is its size; disks that pack reach 10
READ_ERRORS = (
    sqlite3.Error,
    adbc.Error,
    OSError,
    UnicodeDecodeError,
    OverflowError,
    pa.ArrowInvalid,
)

_NO_MEMORY = "(unknown error)"  # of a connection that could not even be allocated

_UTF_8 = "utf-8"
_UTF_16_BE = 3  # the last of the encodings that a header can name
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,80}")
_PREPARE = (
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "mmap_size=0",
    "query_only=ON",
    "temp_store=MEMORY",
)


def is_sqlite(path: Path) -> bool:
    """Tell whether ``path`` begins as an SQLite database does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class SqliteFile:
    """One open database.

    Attributes:
        path: The file.
        name: What messages call it.
        tables: Column names by table, as the file declares them.
        trailing_bytes: What stands behind the last page and is no part of the database.
        unusable: How many values are no integers of 64 bits where integers were asked for, by
            table and column, of the tables that were read.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        """Open ``path``.

        Args:
            path: The file.
            name: What messages call it; the file's own name by default.

        Raises:
            RefusedError: The file is cut off, damaged, accompanied by a journal, or contains
                more than tables and indexes.
        """
        self.path, self.name = path, name or shown_name(path)
        self.trailing_bytes = check_header(path, self.name)
        self.unusable: dict[str, dict[str, int]] = {}
        self._names: dict[str, str] = {}
        self._mixed: set[str] = set()  # tables with columns of more than one type
        self._uri = f"file:{quote(os.fsencode(path.resolve()))}?mode=ro&immutable=1"
        self._plain = sqlite3.connect(self._uri, uri=True)
        try:
            _prepare(self._plain, path)
            self.tables = _checked_schema(self._plain, self.name)
            encoding = str(self._plain.execute("PRAGMA encoding").fetchone()[0])
            self._encoding = encoding.lower()  # of texts as raw bytes; as texts they are UTF-8
        except READ_ERRORS as error:
            self._plain.close()
            raise self._damaged(error) from error
        except RefusedError:
            self._plain.close()
            raise
        self._threads = ThreadPoolExecutor(READERS)
        self._own = threading.local()
        self._connections: list[adbc.Connection] = []

    def close(self) -> None:
        """Close the database."""
        self._threads.shutdown(cancel_futures=True)
        for connection in self._connections:
            connection.close()
        self._plain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has(self, table: str, *columns: str) -> bool:
        """Tell whether ``table`` exists and has all ``columns``."""
        return table in self.tables and set(columns) <= set(self.tables[table])

    def adopt(self, table: str, name: str) -> None:
        """Read the file's ``table`` under ``name`` from now on.

        Args:
            table: One of ``tables``, of letters, digits and underscores only.
            name: The name that queries use for such a table; one of that name is no longer read.

        Raises:
            ValueError: The table's name holds anything else, so that it could change a query.
        """
        if not _PLAIN_NAME.fullmatch(table):
            raise ValueError(f"not a plain name: {table[:40]!r}")
        self.tables[name] = self.tables.pop(table)
        self._names[name] = table

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Run a small query of ours and return all of its rows."""
        try:
            return self._plain.execute(self._query(sql), values).fetchall()
        except READ_ERRORS as error:
            raise self._damaged(error) from error

    def row_numbers(self, table: str) -> tuple[int, int] | None:
        """Return the first and the last row number; None for a table without rows or numbers."""
        if table not in self.tables or "rowid" in map(str.lower, self.tables[table]):
            return None  # a column of that name hides the number
        try:
            # Each alone is a step down the tree; both in one query would be a scan.
            low, high = (
                self._plain.execute(self._query(f'SELECT {f}(rowid) FROM "{table}"')).fetchone()[0]
                for f in ("min", "max")
            )
        except sqlite3.OperationalError:  # WITHOUT ROWID
            return None
        except READ_ERRORS as error:
            raise self._damaged(error) from error
        return None if low is None else (low, high)

    def batches(
        self, table: str, columns: Sequence[str], texts: Sequence[str] = ()
    ) -> Iterator[dict[str, pa.Array]]:
        """Stream ``table``: integers in ``columns``, raw bytes in ``texts``.

        A column that the table lacks reads as nulls, and so does a value of another type.
        """
        if table not in self.tables:
            return
        request = _ColumnRequest(
            table,
            tuple(c for c in columns if c in self.tables[table]),
            tuple(c for c in texts if c in self.tables[table]),
        )
        try:
            for batch in self._in_stripes(request):
                yield _complete(batch, columns, texts, self._encoding)
            if table in self._mixed:
                self.unusable.setdefault(table, {}).update(self._count_unusable(request))
        except READ_ERRORS as error:
            raise self._damaged(error) from error

    def _count_unusable(self, request: _ColumnRequest) -> dict[str, int]:
        """Count the values that read as nulls although they are none, by column."""
        if not request.columns:
            return {}
        is_other = "total(typeof(\"{0}\") NOT IN ('integer', 'null'))"
        counts = ", ".join(is_other.format(c) for c in request.columns)
        (row,) = self.rows(f'SELECT {counts} FROM "{request.table}"')
        numbers = (int(n) if isinstance(n, float) else 0 for n in row)
        return {c: n for c, n in zip(request.columns, numbers, strict=True) if n}

    def _query(self, sql: str) -> str:
        """Return a query with the names that the file gives to tables."""
        for name, table in self._names.items():
            sql = re.sub(rf"\b{name}\b", table, sql)
        return sql

    def _damaged(self, error: Exception) -> RefusedError:
        """Return the one line for a database that SQLite cannot read."""
        reason = str(error).replace(str(self.path.resolve()), "").replace(str(self.path), "")
        reason = " ".join(reason.split())[:120]
        if _NO_MEMORY in reason:
            raise MemoryError from error
        return RefusedError(
            f"{self.name}: the SQLite file cannot be read ({reason}). Export the report again"
        )

    def _in_stripes(self, request: _ColumnRequest) -> Iterator[pa.RecordBatch]:
        """Read a table on several threads, a stripe of row numbers each, and yield it in order."""
        stripes = self._stripes(request.table)
        if stripes is None:
            self._mixed.add(request.table)
            yield from self._scan(request, "", strict=True)
            return
        pending: deque[Future[list[pa.RecordBatch]]] = deque()
        for low, high in stripes:
            where = f"WHERE rowid >= {low} AND rowid < {high}"
            pending.append(self._threads.submit(self._stripe, request, where))
            if len(pending) > READERS:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()

    def _stripes(self, table: str) -> list[tuple[int, int]] | None:
        """Cut a table's row numbers; None for a table without, or with far more than rows."""
        span = self.row_numbers(table)
        if span is None:
            return None
        low, high = span
        if high - low > self.path.stat().st_size // MIN_ROW_BYTES:
            return None
        return [(at, at + STRIPE_ROWS) for at in range(low, high + 1, STRIPE_ROWS)]

    def _stripe(self, request: _ColumnRequest, where: str) -> list[pa.RecordBatch]:
        try:
            return list(self._scan(request, where, strict=False))
        except _MixedTypesError:
            self._mixed.add(request.table)
            return list(self._scan(request, where, strict=True))

    def _scan(
        self, request: _ColumnRequest, where: str, *, strict: bool
    ) -> Iterator[pa.RecordBatch]:
        """Run one scan. The driver fixes each column's type by its first rows.

        Those may all be null, so a row of ours comes first, which is cut off again. Where a later
        value has another type the driver fails; ``strict`` has SQLite itself turn such values
        into nulls, at about a third of the speed.
        """
        with self._connection().cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(BATCH_ROWS)})
            try:
                cursor.execute(self._query(request.query(where, strict=strict)))
                for number, with_ours in enumerate(cursor.fetch_record_batch()):
                    batch = with_ours if number else with_ours.slice(1)
                    if not strict and not _all_integers(batch, request.columns):
                        raise _MixedTypesError
                    yield batch
            except (OSError, adbc.Error) as error:
                if not strict and "type mismatch" in str(error).lower():
                    raise _MixedTypesError from error
                raise

    def _connection(self) -> adbc.Connection:
        connection: adbc.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = adbc.connect(self._uri)
            self._connections.append(connection)
        return connection


class _ColumnRequest(NamedTuple):
    """Columns of one table that the file has: integers, and texts to be read as bytes."""

    table: str
    columns: tuple[str, ...]
    texts: tuple[str, ...]

    def query(self, where: str, *, strict: bool) -> str:
        """Return the SQL; every name in it is one of ours."""
        plain = '"{0}"'
        checked = 'CASE WHEN typeof("{0}")=\'integer\' THEN "{0}" END AS "{0}"'
        parts = [(checked if strict else plain).format(c) for c in self.columns]
        parts += [f'CAST("{c}" AS BLOB) AS "{c}"' for c in self.texts]
        ours = [f'0 AS "{c}"' for c in self.columns] + [f"X'' AS \"{c}\"" for c in self.texts]
        rows = f'SELECT {", ".join(parts) or "1"} FROM "{self.table}" {where}'
        return f"SELECT {', '.join(ours) or '1'} UNION ALL {rows}"


class _MixedTypesError(Exception):
    """A column holds values of more than one type."""


def text_of(value: object) -> str:
    """Return a value of a text column as text; null as empty, bytes as the text they encode."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def integers(column: pa.Array) -> Array:
    """Return ``column`` as int64, nulls as ``NOT_RECORDED``."""
    filled = pc.fill_null(column, NOT_RECORDED) if column.null_count else column
    values: Array = filled.to_numpy(zero_copy_only=False)
    return values


def is_null(column: pa.Array) -> Array | None:
    """Return where ``column`` is null; None when it nowhere is."""
    if not column.null_count:
        return None
    nulls: Array = column.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _complete(
    batch: pa.RecordBatch, columns: Sequence[str], texts: Sequence[str], encoding: str
) -> dict[str, pa.Array]:
    have = dict(zip(batch.schema.names, batch.columns, strict=True))
    result = {c: have.get(c) for c in columns}
    for name, column in result.items():
        if column is None or pa.types.is_null(column.type):
            result[name] = pa.nulls(batch.num_rows, pa.int64())
    for name in texts:
        column = have.get(name)
        usable = column is not None and pa.types.is_binary(column.type)
        result[name] = column if usable else pa.nulls(batch.num_rows, pa.binary())
        if encoding != _UTF_8 and usable:
            result[name] = _as_utf8(column, encoding)
    return result


def _as_utf8(column: pa.Array, encoding: str) -> pa.Array:
    """Return texts that were read as raw bytes of another encoding."""
    texts = (t if t is None else t.decode(encoding, "replace") for t in column.to_pylist())
    return pa.array([t if t is None else t.encode("utf-8", "replace") for t in texts], pa.binary())


def _all_integers(batch: pa.RecordBatch, columns: tuple[str, ...]) -> bool:
    types = (batch.schema.field(c).type for c in columns)
    return all(pa.types.is_integer(t) or pa.types.is_null(t) for t in types)


def check_header(path: Path, name: str) -> int:
    """Return how many bytes stand behind the last page of a database; reads its header only.

    Raises:
        RefusedError: It is cut off, has an unfinished journal beside it, or is a small part of
            a file that is far larger.
    """
    with path.open("rb") as file:
        head = file.read(100)
    status = path.stat()
    size = status.st_size
    if len(head) < 100 or not head.startswith(MAGIC):
        raise RefusedError(f"{name}: not an SQLite database. Give an nsys export or report")
    page = int.from_bytes(head[16:18], "big")
    page = 65_536 if page == 1 else page
    encoding = int.from_bytes(head[56:60], "big")  # 0 of a file without tables
    if page < 512 or page & (page - 1) or encoding > _UTF_16_BE:
        raise RefusedError(f"{name}: the SQLite header is damaged. Export the report again")
    pages = int.from_bytes(head[28:32], "big")
    # The page count is only valid when these two counters agree; old writers leave it stale.
    is_stated = pages > 0 and head[24:28] == head[92:96]
    if is_stated and size < page * pages:
        raise RefusedError(
            f"{name}: cut off: {size:,} bytes of {page * pages:,}. Copy or export it again"
        )
    trailing = size - page * pages
    if is_stated and trailing > max(MAX_TRAILING_BYTES, page * pages):
        raise RefusedError(
            f"{name}: {size:,} bytes, of which the database in it is {page * pages:,}. Copy or "
            "export it again"
        )
    # Nothing but its size says how much of such a file is database; one of holes is little.
    on_disk = 512 * getattr(status, "st_blocks", 0)  # 0: Windows, and disks that do not tell
    if not is_stated and on_disk and size > max(on_disk + MAX_TRAILING_BYTES, MAX_HOLES * on_disk):
        raise RefusedError(
            f"{name}: {size:,} bytes, of which {on_disk:,} are on the disk. Copy or export it again"
        )
    real = path.resolve()  # SQLite follows links before it looks for what lies beside
    for ending in ("-journal", "-wal"):
        companions = {p.with_name(p.name + ending) for p in (path, real)}
        if any(c.exists() and c.stat().st_size for c in companions):
            raise RefusedError(
                f"{name}: has an unfinished {ending[1:]} beside it, so it is half written. "
                "Wait until the export is done, or export it again"
            )
    return trailing if is_stated else 0


def _prepare(plain: sqlite3.Connection, path: Path) -> None:
    for pragma in _PREPARE:
        plain.execute(f"PRAGMA {pragma}")
    plain.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    plain.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    plain.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)
    plain.text_factory = lambda raw: raw.decode("utf-8", "replace")
    if path.stat().st_size <= CHECK_BELOW_BYTES:
        end = time.monotonic() + CHECK_SECONDS
        plain.set_progress_handler(lambda: time.monotonic() > end, 100_000)
        answer = plain.execute("PRAGMA quick_check(1)").fetchone()[0]
        plain.set_progress_handler(None, 0)
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)


def _checked_schema(plain: sqlite3.Connection, file_name: str) -> dict[str, tuple[str, ...]]:
    objects = plain.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    for kind, name, sql in objects:
        if kind not in ("table", "index") or "VIRTUAL" in str(sql).upper().split()[:3]:
            raise RefusedError(
                f"{file_name}: contains the {kind} {name[:40]!r}; an nsys export has plain "
                "tables only. Export the report again"
            )
    names = [name for kind, name, _ in objects if kind == "table"]
    if len(names) > MAX_TABLES:
        raise RefusedError(f"{file_name}: {len(names):,} tables, the limit is {MAX_TABLES:,}")
    tables = {}
    for name in names:
        columns = plain.execute(
            "SELECT name, hidden FROM pragma_table_xinfo(?)", (name,)
        ).fetchall()
        if len(columns) > MAX_COLUMNS or any(hidden for _, hidden in columns):
            raise RefusedError(
                f"{file_name}: table {name[:40]!r} has computed columns or more than "
                f"{MAX_COLUMNS} of them. Export the report again"
            )
        tables[name] = tuple(str(c) for c, _ in columns)
    return tables
