"""Exports and reports of nsys: values that cannot be, layouts that nsys never writes, damage."""

import functools
import os
import sqlite3
import tempfile
from pathlib import Path

from traces.nsys_writer import Recording

MS = 1_000_000
LAUNCHES = 12

_KERNEL, _COPY = "CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_MEMCPY"
_CALL, _RANGE = "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS"


def _loose(table: str) -> list[str]:
    """Return what takes the constraints of a table away, so that it may hold anything."""
    copy = f"CREATE TABLE loose AS SELECT * FROM {table}"
    return [copy, f"DROP TABLE {table}", f"ALTER TABLE loose RENAME TO {table}"]


# What a column of numbers may hold instead; SQLite types values, not columns.
_VALUES = {
    "null": "NULL",
    "text": "'many'",
    "bytes": "x'00ff'",
    "real": "1e300",
    "minus one": "-1",
    "2^63-1": "9223372036854775807",
    "-2^63": "-9223372036854775808",
    "2^64": "18446744073709551616",  # which SQLite keeps as a real
}
_TIMES = [(_KERNEL, "start"), (_KERNEL, "end"), (_COPY, "end"), (_CALL, "end"), (_RANGE, "start")]
_NUMBERS = [
    *((_KERNEL, name) for name in ("deviceId", "streamId", "correlationId", "gridX")),
    *((_KERNEL, "demangledName"), (_COPY, "bytes"), (_CALL, "globalTid"), (_RANGE, "text")),
]
_OF_NUMBERS = ("null", "text", "2^63-1", "-2^63", "2^64")

_LAYOUTS = {
    "a view": ["CREATE VIEW v AS SELECT 1"],
    "a trigger": [f"CREATE TRIGGER t AFTER INSERT ON {_KERNEL} BEGIN SELECT 1; END"],
    "a virtual table": ["CREATE VIRTUAL TABLE f USING fts5(a)"],
    "a computed column": ["CREATE TABLE g (a INT, b INT AS (a * 2))"],
    "201 columns": [f"CREATE TABLE w ({', '.join(f'c{n}' for n in range(201))})"],
    "1,001 tables": [f"CREATE TABLE t{n} (a)" for n in range(1_001)],
    "no names": ["DROP TABLE StringIds"],
    "names without values": ["DROP TABLE StringIds", "CREATE TABLE StringIds (id)"],
    "names given twice": [
        "CREATE TABLE loose AS SELECT * FROM StringIds",
        "INSERT INTO loose SELECT id, value || '2' FROM StringIds",
        *("DROP TABLE StringIds", "ALTER TABLE loose RENAME TO StringIds"),
    ],
    "a name of 1 MB": ["UPDATE StringIds SET value = printf('%.*c', 1000000, 'k')"],
    "a name with controls": ["UPDATE StringIds SET value = 'k' || char(27, 7, 8238, 10)"],
    "names as numbers": [
        *("CREATE TABLE loose (id INT, value)", "INSERT INTO loose SELECT id, id FROM StringIds"),
        *("DROP TABLE StringIds", "ALTER TABLE loose RENAME TO StringIds"),
    ],
    "names not in UTF-8": ["UPDATE StringIds SET value = CAST(x'6bff6b' AS TEXT)"],
    "kernels without times": [f"ALTER TABLE {_KERNEL} DROP COLUMN start"],
    "kernels of a later version": [f"ALTER TABLE {_KERNEL} RENAME TO {_KERNEL}_V9"],
    "kernels in an unknown layout": [
        f"DROP TABLE {_KERNEL}",
        f"CREATE TABLE {_KERNEL}_V9 (a, b)",
        f"INSERT INTO {_KERNEL}_V9 VALUES (1, 2)",
    ],
    "no kernels": [f"DELETE FROM {_KERNEL}"],
    "no tables of events": [f"DROP TABLE {t}" for t in (_KERNEL, _COPY, _CALL, _RANGE)],
    "every time the same": [f"UPDATE {_KERNEL} SET start = 5, end = 5"],
    "every id the same": [f"UPDATE {t} SET correlationId = 1" for t in (_KERNEL, _CALL)],
    "every kernel backwards": [f"UPDATE {_KERNEL} SET start = end, end = start"],
    "one kernel of an hour": [f"UPDATE {_KERNEL} SET end = 3600000000000 WHERE rowid = 1"],
    "kernels before their calls": [f"UPDATE {_KERNEL} SET start = start - 2000000000"],
    "ranges that cross": [f"UPDATE {_RANGE} SET end = end + 9000000"],
    "ranges that never end": [*_loose(_RANGE), f"UPDATE {_RANGE} SET end = NULL"],
    "devices of every number": [f"UPDATE {_KERNEL} SET deviceId = rowid * 1000"],
    "nvprof's": ["DROP TABLE StringIds", "CREATE TABLE StringTable (a)"],
    "rocprof's": ["DROP TABLE StringIds", "CREATE TABLE rocpd_op (a)"],
    "anybody's": None,
    "UTF-16": "UTF-16le",
    "UTF-16 of the other order": "UTF-16be",
    "an index": [f"CREATE INDEX i ON {_KERNEL} (start)"],
    "rows without numbers": [
        "CREATE TABLE w (start INT PRIMARY KEY) WITHOUT ROWID",
        f"INSERT INTO w SELECT DISTINCT start FROM {_KERNEL}",
    ],
}


@functools.cache
def export() -> bytes:
    """Return an export: 12 launches of 1 ms each, copies and ranges."""
    made = Recording()
    for n in range(LAUNCHES):
        begin = 6 * MS * n
        made.api("cudaLaunchKernel", begin, begin + 5_000, correlationId=n + 1)
        made.kernel("gemm", begin + 10_000, begin + MS, correlationId=n + 1)
        made.api("cudaMemcpyAsync", begin + MS, begin + MS + 5_000, correlationId=100 + n)
        made.copy(1, 4096, begin + MS + 9_000, begin + MS + 12_000, correlationId=100 + n)
        made.nvtx(f"step {n}", begin, begin + 6 * MS - 1_000)
    with tempfile.TemporaryDirectory() as folder:
        return made.write(Path(folder) / "e.sqlite").read_bytes()


def _changed(statements, path: Path) -> Path:
    path.write_bytes(b"" if statements is None else export())
    file = sqlite3.connect(path)
    file.execute("PRAGMA synchronous=OFF")
    file.execute("PRAGMA journal_mode=OFF")
    for statement in statements or ["CREATE TABLE notes (a)"]:
        file.execute(statement)
    file.commit()
    file.close()
    return path


def _encoded(encoding: str, path: Path) -> Path:
    """Write the export in another encoding of its texts."""
    plain = path.with_name("plain.sqlite")
    plain.write_bytes(export())
    file = sqlite3.connect(path)
    file.execute(f"PRAGMA encoding='{encoding}'")
    source = sqlite3.connect(plain)
    for line in source.iterdump():
        if line not in ("BEGIN TRANSACTION;", "COMMIT;"):
            file.execute(line)
    file.commit()
    for open_file in (file, source):
        open_file.close()
    plain.unlink()
    return path


def _header(place: int, value: bytes) -> bytes:
    raw = bytearray(export())
    raw[place : place + len(value)] = value
    return bytes(raw)


def _grown(size: int, path: Path) -> Path:
    path.write_bytes(export())
    os.truncate(path, size)
    return path


def _with_companion(ending: str, path: Path) -> Path:
    path.write_bytes(export())
    path.with_name(path.name + ending).write_bytes(b"half")
    return path


def _report(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


def nsys_files():
    """Yield a name, the file's name, and what writes it."""
    for table, column, kinds in [
        *((*place, _VALUES) for place in _TIMES),
        *((*place, _OF_NUMBERS) for place in _NUMBERS),
    ]:
        for kind in kinds:
            change = f"UPDATE {table} SET {column} = {_VALUES[kind]} WHERE rowid = 3"
            label = table.removeprefix("CUPTI_ACTIVITY_KIND_").lower()
            name = f"nsys: {label}.{column} is {kind}"
            yield name, "a.sqlite", functools.partial(_changed, [*_loose(table), change])
    for name, change in _LAYOUTS.items():
        write = _encoded if isinstance(change, str) else _changed
        yield f"nsys: {name}", "a.sqlite", functools.partial(write, change)
    size = len(export())
    for part in (1, 15, 16, 99, 100, 511, size // 2, size - 1):
        yield f"nsys: first {part:,} bytes", "a.sqlite", functools.partial(_report, export()[:part])
    for name, place, value in (
        ("pages of 3 bytes", 16, b"\0\3"),
        ("a page count of 2^32-1", 28, b"\xff" * 4),
        ("a page count of 1", 28, b"\0\0\0\1"),
        ("an unknown encoding", 56, b"\0\0\0\7"),
        ("a later format", 18, b"\x09\x09"),
        ("a first page of zeros", 100, b"\0" * 400),
        ("a schema of nonsense", 600, b"\xff" * 200),
        ("a write-ahead log", 18, b"\2\2"),
    ):
        yield f"nsys: {name}", "a.sqlite", functools.partial(_report, _header(place, value))
    yield "nsys: 5,000 bytes behind the end", "a.sqlite", functools.partial(_grown, size + 5_000)
    yield "nsys: 64 GB behind the end", "a.sqlite", functools.partial(_grown, 64 << 30)
    for ending in ("-journal", "-wal"):
        write = functools.partial(_with_companion, ending)
        yield f"nsys: an unfinished {ending[1:]} beside it", "a.sqlite", write
    magic = b"NVIDIA Tegra Profiler Report"
    for name, content in (
        ("a report that is text", b"hello\n" * 50),
        ("a report of its first bytes only", magic),
        ("a report of noise", magic + bytes(range(256)) * 40),
        ("a report that is a database", export()),
    ):
        yield f"nsys-rep: {name}", "a.nsys-rep", functools.partial(_report, content)
    yield "nsys-rep: a raw capture", "a.qdstrm", functools.partial(_report, b"\0" * 500)
    yield "nsys-rep: named as nothing", "report", functools.partial(_report, magic + b"x" * 99)
