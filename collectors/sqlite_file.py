"""An SQLite file from outside, read without trusting it and without touching it.

The file is opened read-only and immutable, so nothing is written to it or beside it. It may
contain tables and indexes only: a view, a trigger, a virtual table or a generated column could
run what its author wrote. Names from the file are compared with ours, never put into SQL.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

import adbc_driver_sqlite.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc

from collectors.trace import NOT_RECORDED, Array, RefusedError

MAGIC = b"SQLite format 3\x00"
MAX_VALUE_BYTES = 8 << 20  # one text of a recording; a real one stays under 1 MiB
MAX_TABLES = 1_000  # the largest schema seen has 179
MAX_COLUMNS = 200  # the widest table seen has 41
BATCH_ROWS = 65_536  # 65,536 rows read as fast as 262,144 and hold a quarter of the memory
CHECK_BELOW_BYTES = 256 << 20  # SQLite's own check of a larger file takes longer than reading it
CHECK_SECONDS = 20
READ_ERRORS = (
    sqlite3.Error,
    adbc.Error,
    OSError,
    UnicodeDecodeError,
    OverflowError,
    pa.ArrowInvalid,
)

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


@dataclass
class SqliteFile:
    """One open database.

    Attributes:
        path: The file.
        tables: Column names by table, as the file declares them.
    """

    path: Path
    tables: dict[str, tuple[str, ...]]
    _plain: sqlite3.Connection
    _bulk: adbc.Connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open ``path``.

        Raises:
            RefusedError: The file is cut off, damaged, accompanied by a journal, or contains
                more than tables and indexes.
        """
        _check_header(path)
        uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
        plain = sqlite3.connect(uri, uri=True, check_same_thread=False)
        try:
            _prepare(plain, path)
            tables = _checked_schema(plain, path)
            return cls(path, tables, plain, adbc.connect(uri))
        except READ_ERRORS as error:
            plain.close()
            raise RefusedError(damaged(path, error)) from error
        except RefusedError:
            plain.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._plain.close()
        self._bulk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has(self, table: str, *columns: str) -> bool:
        """Tell whether ``table`` exists and has all ``columns``."""
        return table in self.tables and set(columns) <= set(self.tables[table])

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Run a small query of ours and return all of its rows."""
        try:
            return self._plain.execute(sql, values).fetchall()
        except READ_ERRORS as error:
            raise RefusedError(damaged(self.path, error)) from error

    def batches(
        self, table: str, columns: Sequence[str], texts: Sequence[str] = ()
    ) -> Iterator[dict[str, pa.Array]]:
        """Stream ``table``: integers in ``columns``, raw bytes in ``texts``.

        A column that the table lacks reads as nulls, and so does a value of another type.
        """
        if table not in self.tables:
            return
        present = [c for c in columns if c in self.tables[table]]
        present_texts = [c for c in texts if c in self.tables[table]]
        done, strict = 0, False
        while True:
            stream = self._stream(table, present, present_texts, done, strict=strict)
            try:
                for batch in _ahead(stream):
                    done += batch.num_rows
                    yield _complete(batch, columns, texts)
            except _MixedTypesError:
                strict = True  # go on from the row where the fast reading stopped
            except READ_ERRORS as error:
                raise RefusedError(damaged(self.path, error)) from error
            else:
                return

    def _stream(
        self, table: str, columns: list[str], texts: list[str], skip: int, *, strict: bool
    ) -> Iterator[pa.RecordBatch]:
        """Run one scan. The driver fixes each column's type by its first rows.

        Where a later value has another type it fails; ``strict`` has SQLite itself turn such
        values into nulls, at about a third of the speed.
        """
        integer = (
            'CASE WHEN typeof("{0}")=\'integer\' THEN "{0}" END AS "{0}"' if strict else '"{0}"'
        )
        parts = [integer.format(c) for c in columns]
        parts += [f'CAST("{c}" AS BLOB) AS "{c}"' for c in texts]
        # LIMIT -1 is SQLite's "no limit", which OFFSET needs.
        sql = f'SELECT {", ".join(parts) or "1 AS none"} FROM "{table}" LIMIT -1 OFFSET {skip}'
        with self._bulk.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(BATCH_ROWS)})
            try:
                cursor.execute(sql)
                for batch in cursor.fetch_record_batch():
                    if not strict and not _all_integers(batch, columns):
                        raise _MixedTypesError
                    yield batch
            except (OSError, adbc.Error) as error:
                if not strict and "type mismatch" in str(error).lower():
                    raise _MixedTypesError from error
                raise


def _ahead(stream: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield from ``stream`` while the next piece is already being read on another thread."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        upcoming = thread.submit(next, stream, None)
        while (batch := upcoming.result()) is not None:
            upcoming = thread.submit(next, stream, None)
            yield batch


class _MixedTypesError(Exception):
    """A column holds values of more than one type."""


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


def damaged(path: Path, error: Exception) -> str:
    """Return the one line for a database that SQLite cannot read."""
    reason = " ".join(str(error).replace(str(path), "").split())[:120]
    return f"{path.name}: the SQLite file cannot be read ({reason}). Export the report again"


def _complete(
    batch: pa.RecordBatch, columns: Sequence[str], texts: Sequence[str]
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
    return result


def _all_integers(batch: pa.RecordBatch, columns: list[str]) -> bool:
    types = (batch.schema.field(c).type for c in columns)
    return all(pa.types.is_integer(t) or pa.types.is_null(t) for t in types)


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(100)
    size = path.stat().st_size
    if len(head) < 100 or not head.startswith(MAGIC):
        raise RefusedError(f"{path.name}: not an SQLite database. Give an nsys export or report")
    page = int.from_bytes(head[16:18], "big")
    page = 65_536 if page == 1 else page
    if page < 512 or page & (page - 1):
        raise RefusedError(f"{path.name}: the SQLite header is damaged. Export the report again")
    pages = int.from_bytes(head[28:32], "big")
    # The page count is only valid when these two counters agree; old writers leave it stale.
    if pages and head[24:28] == head[92:96] and size < page * pages:
        raise RefusedError(
            f"{path.name}: cut off: {size:,} bytes of {page * pages:,}. Copy or export it again"
        )
    for ending in ("-journal", "-wal"):
        companion = path.with_name(path.name + ending)
        if companion.exists() and companion.stat().st_size:
            raise RefusedError(
                f"{path.name}: has an unfinished {ending[1:]} beside it, so it is half written. "
                "Wait until the export is done, or export it again"
            )


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


def _checked_schema(plain: sqlite3.Connection, path: Path) -> dict[str, tuple[str, ...]]:
    try:
        found = plain.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        names = [name for kind, name, _ in found if kind == "table"]
        for kind, name, sql in found:
            if kind not in ("table", "index") or "VIRTUAL" in str(sql).upper().split()[:3]:
                raise RefusedError(
                    f"{path.name}: contains the {kind} {name[:40]!r}; an nsys export has plain "
                    "tables only. Export the report again"
                )
        if len(names) > MAX_TABLES:
            raise RefusedError(f"{path.name}: {len(names):,} tables, the limit is {MAX_TABLES:,}")
        tables = {}
        for name in names:
            columns = plain.execute(
                "SELECT name, hidden FROM pragma_table_xinfo(?)", (name,)
            ).fetchall()
            if len(columns) > MAX_COLUMNS or any(hidden for _, hidden in columns):
                raise RefusedError(
                    f"{path.name}: table {name[:40]!r} has computed columns or more than "
                    f"{MAX_COLUMNS} of them. Export the report again"
                )
            tables[name] = tuple(str(c) for c, _ in columns)
    except READ_ERRORS as error:
        raise RefusedError(damaged(path, error)) from error
    return tables
