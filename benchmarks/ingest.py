"""How fast a large Nsight Systems export is opened, beside SQLite's own scan of the same columns.

One run makes an export of 2,000,000 kernels, 4,000,000 API calls and 2,000,000 NVTX rows (not
timed), then measures, in this order:

* scan: SQLite alone adds up every column that our reader reads; best of three after a warm-up;
* cold: a fresh process opens the file up to the verdict, with an empty cache;
* cached: the whole command ``whyslow diagnose --json`` on the same file, Python's start
  included; median of three.

Run ``python -m benchmarks.ingest [--check] [--scale 0.1] [--keep DIR]``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ingest_export import KERNEL, RUNTIME, make_export
from benchmarks.memory_watch import MemoryWatch
from common.files import replacing

RUNS = 3  # of everything that is timed; the best counts on both sides, because machines are noisy

MAX_COLD_OVER_SCAN = 5.0
MAX_RSS_BYTES = 1_500_000_000
MAX_CACHED_S = 1.0

# The columns of the big tables that collectors/nsys/nsys.py reads.
SCANNED = {
    KERNEL: (
        *("start", "end", "deviceId", "streamId", "correlationId", "globalPid"),
        *("demangledName", "shortName", "gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ"),
        *("registersPerThread", "staticSharedMemory", "dynamicSharedMemory", "graphNodeId"),
    ),
    RUNTIME: (
        *("start", "end", "globalTid", "correlationId", "nameId", "eventClass", "returnValue"),
    ),
    "NVTX_EVENTS": (
        *("start", "end", "eventType", "globalTid", "endGlobalTid"),
        *("textId", "domainId", "category", "color", "length(text)"),
    ),
    "CUPTI_ACTIVITY_KIND_MEMCPY": (
        *("start", "end", "deviceId", "streamId", "correlationId", "globalPid"),
        *("copyKind", "srcKind", "dstKind", "bytes", "graphNodeId"),
    ),
    "CUPTI_ACTIVITY_KIND_MEMSET": (
        *("start", "end", "deviceId", "streamId", "correlationId", "globalPid"),
        *("bytes", "memKind", "graphNodeId"),
    ),
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": (
        *("start", "end", "deviceId", "streamId", "correlationId", "globalPid", "syncType"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class IngestFigures:
    """What one run measured.

    Attributes:
        rows: Rows of the three big tables.
        scan_s: SQLite's own scan of the columns that are read.
        cold_s: First open to verdict, whole process.
        cached_s: Second open to verdict, whole process, median of three.
        reader_rss_bytes: Peak resident memory of the process that reads and analyses.
        tree_rss_bytes: The same, summed over all processes of the command.
        verdict: Cause that was answered.
    """

    rows: int
    scan_s: float
    cold_s: float
    cached_s: float
    reader_rss_bytes: int
    tree_rss_bytes: int
    verdict: str

    def misses(self) -> list[str]:
        """Return a line for each limit that was not kept."""
        checks = (
            ("cold open / scan", self.cold_s / self.scan_s, MAX_COLD_OVER_SCAN),
            ("peak memory, bytes", self.reader_rss_bytes, MAX_RSS_BYTES),
            ("cached open, s", self.cached_s, MAX_CACHED_S),
        )
        return [
            f"{name}: {have:,.2f}, limit {most:,.2f}" for name, have, most in checks if have > most
        ]

    def lines(self) -> list[str]:
        """Return the figures for a reader."""
        return [
            f"rows in the big tables      {self.rows:>14,}",
            f"SQLite's own scan           {self.scan_s:>14.2f} s",
            f"cold open to verdict        {self.cold_s:>14.2f} s",
            f"cold open / scan            {self.cold_s / self.scan_s:>14.2f} x",
            f"rows per second             {self.rows / self.cold_s:>14,.0f}",
            f"peak memory, reader         {self.reader_rss_bytes / 1e6:>14,.0f} MB",
            f"peak memory, all processes  {self.tree_rss_bytes / 1e6:>14,.0f} MB",
            f"cached open to verdict      {self.cached_s:>14.2f} s",
            f"verdict                     {self.verdict:>14}",
        ]


def measure(path: Path, folder: Path) -> IngestFigures:
    """Measure scan, cold and cached opening of ``path``; ``folder`` gets the cache."""
    scan_s = scan(path)
    print(f"scan: {scan_s:.2f} s (best of {RUNS} after a warm-up)", flush=True)
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as file:
        big = (KERNEL, RUNTIME, "NVTX_EVENTS")
        rows = sum(file.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in big)
    cold = [_cold(path, folder) for _ in range(RUNS)]
    print("cold: " + ", ".join(f"{c.seconds:.2f} s" for c in cold), flush=True)
    cached = [_diagnose(path, folder) for _ in range(RUNS)]
    print("cached: " + ", ".join(f"{c.seconds:.2f} s" for c in cached), flush=True)
    return IngestFigures(
        rows=rows,
        scan_s=scan_s,
        cold_s=min(c.seconds for c in cold),
        cached_s=statistics.median(c.seconds for c in cached),
        reader_rss_bytes=max(c.largest_rss_bytes for c in cold),
        tree_rss_bytes=max(c.tree_rss_bytes for c in cold),
        verdict=cold[0].report["verdict"]["cause"],
    )


def scan(path: Path) -> float:
    """Return the seconds in which SQLite adds up all columns that our reader reads."""
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as file:
        queries = []
        for table, columns in SCANNED.items():
            # total() is sum() in floating point: the sum of two million process keys overflows.
            sums = (f"total({c})" if "(" in c else f'total("{c}")' for c in columns)
            queries.append(f"SELECT {', '.join(sums)} FROM {table}")
        taken = []
        for _ in range(1 + RUNS):
            begin = time.perf_counter()
            for query in queries:
                file.execute(query).fetchone()
            taken.append(time.perf_counter() - begin)
    return min(taken[1:])


@dataclass(frozen=True, kw_only=True)
class _Answer:
    seconds: float
    report: dict[str, Any]
    largest_rss_bytes: int
    tree_rss_bytes: int


def _cold(path: Path, folder: Path) -> _Answer:
    """Run it as the first look at the file: nothing is stored."""
    shutil.rmtree(folder, ignore_errors=True)
    return _diagnose(path, folder)


def _diagnose(path: Path, folder: Path) -> _Answer:
    """Run the product's command as a user would, with its own cache folder."""
    environment = os.environ | {"WHYSLOW_DATA_DIR": str(folder)}
    command = [sys.executable, "-m", "cli", "diagnose", str(path), "--json"]
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, cwd=Path(__file__).parents[1]
    ) as process:
        memory = MemoryWatch(process.pid)
        output, _ = process.communicate()
        seconds = time.perf_counter() - begin
        peaks = memory.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return _Answer(
        seconds=seconds,
        report=json.loads(output),
        largest_rss_bytes=max(peaks, default=0),
        tree_rss_bytes=sum(peaks),
    )


def compare_readers(path: Path) -> list[str]:
    """Return how fast two libraries read 15 columns of the kernels, beside SQLite's scan."""
    import pandas as pd
    from adbc_driver_sqlite import dbapi

    columns = ", ".join(f'"{c}"' for c in SCANNED[KERNEL][:15])
    query = f"SELECT {columns} FROM {KERNEL}"
    taken = {}
    begin = time.perf_counter()
    with dbapi.connect(str(path)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        cursor.fetch_arrow_table()
    taken["adbc-driver-sqlite"] = time.perf_counter() - begin
    begin = time.perf_counter()
    with sqlite3.connect(path) as file:
        pd.read_sql(query, file)
    taken["pandas.read_sql"] = time.perf_counter() - begin
    return [
        f"{name:<27} {seconds:>14.2f} s for 15 columns of kernels"
        for name, seconds in taken.items()
    ]


def main() -> int:
    """Measure and print; 1 when ``--check`` was given and a limit was not kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a limit is not kept")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full size")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the export in DIR, reuse it")
    parser.add_argument("--unique-texts", action="store_true", help="number the NVTX texts")
    parser.add_argument("--compare-readers", action="store_true", help="time two libraries, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whyslow-benchmark-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        kind = "-unique" if options.unique_texts else ""
        path = folder / f"ingest-{options.scale:g}{kind}.sqlite"
        if not path.exists():
            print(f"making {path} (not timed)", flush=True)
            with replacing(path) as draft:
                make_export(draft, scale=options.scale, unique_texts=options.unique_texts)
        cache = Path(temporary) / "data"
        figures = measure(path, cache)
        extra = compare_readers(path) if options.compare_readers else []
        shutil.rmtree(cache, ignore_errors=True)
    print("\n".join(extra + figures.lines()))
    misses = figures.misses() if options.check else []
    for miss in misses:
        print(f"not kept: {miss}")
    return int(bool(misses))


if __name__ == "__main__":
    sys.exit(main())
