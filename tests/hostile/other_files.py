"""Counters of Nsight Compute, telemetry, archives, and files that are no recording at all."""

import csv
import functools
import io
import os
import sqlite3
import struct
import zipfile

from tests.hostile.nsys_files import export
from tests.hostile.torch_files import trace
from tests.telemetry_files import SECOND, written
from traces.ncu_writer import Launch, details_page, raw_page, report

DURATION = "gpu__time_duration.sum"
BUSY = "sm__throughput.avg.pct_of_peak_sustained_elapsed"
_UNITS = {DURATION: "ns", BUSY: "%"}

_CELLS = {
    "empty": "",
    "a word": "many",
    "n/a": "n/a",
    "nan": "nan",
    "inf": "inf",
    "1e400": "1e400",
    "below zero": "-5",
    "1e30": "1e30",
    "5,000 digits": "9" * 5_000,
    "European": "1.234,5",
    "two numbers": "12; 13",
}


@functools.cache
def launches() -> tuple[Launch, ...]:
    """Return six profiled launches."""
    return tuple(
        Launch(name=f"k{n % 2}(float *)", metrics={DURATION: 5_000 + n, BUSY: 40.5})
        for n in range(6)
    )


def page() -> bytes:
    """Return them as the raw page of ncu."""
    return raw_page(launches(), _UNITS).encode()


def counters() -> bytes:
    """Return them as a report."""
    return report(launches())


def archive() -> bytes:
    """Return an archive of one trace."""
    return _packed(("a.json", trace()))


def _pages():
    plain, details = page().decode(), details_page(launches(), _UNITS)
    rows = list(csv.reader(io.StringIO(plain)))
    for name, metric in (("a duration", DURATION), ("a share", BUSY)):
        for kind, cell in _CELLS.items():
            changed = [list(r) for r in rows]
            changed[4][rows[0].index(metric)] = cell
            yield f"{name} is {kind}", _csv(changed)
    for column in ("ID", "Process ID", "Grid Size", "Kernel Name", "Stream", "Device"):
        changed = [list(r) for r in rows]
        changed[4][rows[0].index(column)] = "99999999999999999999"
        yield f"{column} beyond 64 bits", _csv(changed)
    yield "details", details
    yield "a header twice", plain + plain
    yield "a header and no launch", _csv(rows[:2])
    yield "no units", _csv([rows[0], *rows[2:]])
    yield "a unit of nonsense", plain.replace('"ns"', '"furlong"')
    yield "rows that are cut", plain[: len(plain) * 2 // 3]
    yield "rows of too few cells", _csv([r if n < 3 else r[:5] for n, r in enumerate(rows)])
    yield "rows of too many cells", _csv([r if n < 3 else r * 3 for n, r in enumerate(rows)])
    yield "two columns of one name", _csv([[*r, r[-1]] for r in rows])
    yield "a quote that never ends", plain.replace('"k1', 'k1"', 1)[:-3] + '"'
    yield "text around it", f"==PROF== Connected\n{plain}==PROF== Disconnected\n"
    yield "zeros in it", plain.replace("k1", "k\0001")
    yield "UTF-16", plain.encode("utf-16")
    yield "no permission", "==ERROR== ERR_NVGPUCTRPERM - no permission\n"
    yield "a table of anybody", "a,b\n1,2\n" * 50


def _csv(rows) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def _reports():
    whole = counters()
    yield "whole", whole
    for part in (3, 4, 6, 40, len(whole) // 2, len(whole) - 1):
        yield f"first {part:,} bytes", whole[:part]
    yield "a block of 4 GB", whole[:4] + struct.pack("<I", 0xFFFFFFFF) + whole[8:]
    yield "a block of nothing", whole[:4] + struct.pack("<I", 0) + whole[8:]
    yield "noise behind the first block", whole[:80] + bytes(range(256)) * 20
    yield "zeros behind the end", whole + b"\0" * 5_000
    yield "text", b"NVR\0hello" * 50
    yield "a magic of another tool", b"NVQ\0" + whole[4:]


def _telemetry(statement: str, path):
    """Write a trace with damaged telemetry beside it; the trace is what is opened."""
    path.write_bytes(trace())
    beside = path.with_name(path.name + ".telemetry.sqlite")
    written(beside, host=[{"at": n * SECOND} for n in range(5)])
    file = sqlite3.connect(beside)
    file.execute(statement)
    file.commit()
    file.close()
    return path


def _packed(*members, method=zipfile.ZIP_DEFLATED) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", method) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            archive.writestr(entry, content)
    return raw.getvalue()


def _archives():
    one = archive()
    entry = one.index(b"PK\x01\x02")
    yield "one trace", one
    yield "one export", _packed(("deep/down/a.sqlite", export()), ("readme.txt", "x"))
    yield "two traces", _packed(("a.json", trace()), ("b.json", trace() + b" "))
    yield "nothing", _packed()
    yield "notes", _packed(("a.txt", "x"), ("b.md", "y"))
    yield "an archive", _packed(("a.zip", one))
    yield "a path upwards", _packed(("../a.json", trace()))
    yield "a path from the root", _packed(("/a.json", trace()))
    yield "a drive", _packed(("c:\\a.json", trace()))
    yield "spaces that explode", _packed(("a.json", b"{" + b" " * (80 << 20)))
    yield "a size that is a lie", one[: entry + 24] + struct.pack("<L", 9) + one[entry + 28 :]
    yield "a wrong checksum", one[: entry + 16] + b"\1\2\3\4" + one[entry + 20 :]
    yield "a password", one[: entry + 8] + b"\1\0" + one[entry + 10 :]
    yield "half of it", one[: len(one) // 2]
    yield "noise in it", one[:90] + b"\xff" * 30 + one[120:]
    yield "the same bytes twice", _overlapping()
    yield "1,200 files", _packed(*((f"{n}.json", b"{}") for n in range(1_200)))
    yield "a damaged trace", _packed(("a.json", trace()[:900]))


def _overlapping() -> bytes:
    two = bytearray(_packed(("a.json", trace()), ("b.json", trace())))
    struct.pack_into("<L", two, two.rindex(b"PK\x01\x02") + 42, 0)
    return bytes(two)


def _strangers():
    yield "nothing at all", "a.sqlite", b""
    yield "a pointer of Git LFS", "a.sqlite", b"version https://git-lfs.github.com/spec/v1\noid x\n"
    yield "zeros", "a.bin", b"\0" * 10_000
    yield "noise", "a.bin", bytes(n * 7919 % 251 for n in range(10_000))
    yield "a text", "a.txt", b"hello\n"
    yield "a page", "a.html", b"<html><script>alert(1)</script></html>"
    yield "a program", "a.out", b"\x7fELF" + b"\0" * 500
    yield "a Parquet file", "a.parquet", b"PAR1" + b"\0" * 500
    yield "an HDF5 file", "a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 500
    yield "a zstd file", "a.json.zst", b"\x28\xb5\x2f\xfd" + b"\0" * 500
    yield "an xz file", "a.json.xz", b"\xfd7zXZ\0" + b"\0" * 500
    yield "a name of controls", "a\x1b[31m\n\u202eb.json", b"{}"


def _placed(kind: str, path):
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a link to itself":
        path.symlink_to(path)
    elif kind == "a link to nothing":
        path.symlink_to(path.with_name("none"))
    return path


def other_files():
    """Yield a name, the file's name, and its content, or what writes it."""
    for name, text in _pages():
        yield f"ncu: {name}", "a.csv", text.encode() if isinstance(text, str) else text
    for name, content in _reports():
        yield f"ncu-rep: {name}", "a.ncu-rep", content
    for name, statement in (
        ("as it was written", "SELECT 1"),
        ("without a table", "DROP TABLE host_samples"),
        ("with a view for a table", "CREATE VIEW v AS SELECT 1"),
        ("with moments of text", "UPDATE host_samples SET realtime_ns = 'now'"),
        ("with moments beyond 64 bits", "UPDATE host_samples SET realtime_ns = 1e300"),
        ("with values beyond all", "UPDATE host_samples SET cpu_pct = 1e300"),
        ("without a session", "DELETE FROM session"),
    ):
        yield f"telemetry: {name}", "a.json", functools.partial(_telemetry, statement)
    yield "telemetry: alone", "a.sqlite.telemetry.sqlite", written
    for name, content in _archives():
        yield f"zip: {name}", "a.zip", content
    for name, file_name, content in _strangers():
        yield f"other: {name}", file_name, content
    for kind in ("a folder", "a pipe", "a link to itself", "a link to nothing", "not there"):
        yield f"other: {kind}", "a.sqlite", functools.partial(_placed, kind)
