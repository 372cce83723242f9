"""Writes recordings in the layout of Nsight Systems' SQLite exports, without Nsight Systems.

Nothing here ran on a GPU: what is written is what the caller says, in one of the generations of
``traces.nsys_layout``. Columns keep the names of the format, so that a test can write any value
into any of them.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from traces.nsys_layout import (
    DEFAULTS,
    DRIVER_API,
    ENUMS,
    GENERATIONS,
    NO_STREAM,
    RUNTIME_API,
    SYNC_TYPES,
    Column,
    check_names,
    layout,
)

Array = np.ndarray[Any, Any]
SYNTHETIC = "SYNTHETIC"
CHUNK_ROWS = 100_000  # rows turned into Python tuples at a time: about 60 MB of the widest table


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as the recording describes it; the numbers are those of the product's data sheet."""

    name: str
    sm_count: int
    memory_bytes: int
    memory_bytes_per_s: int
    clock_hz: int
    compute: tuple[int, int]
    shared_bytes_per_sm: int
    chip: str


SYNTHETIC_H100 = Gpu(
    name="SYNTHETIC H100 (generated, no GPU ran)",
    sm_count=132,
    memory_bytes=85_899_345_920,
    memory_bytes_per_s=3_352_320_000_000,
    clock_hz=1_980_000_000,
    compute=(9, 0),
    shared_bytes_per_sm=233_472,
    chip="GH100",
)
SYNTHETIC_RTX = Gpu(
    name="SYNTHETIC RTX 4090 (generated, no GPU ran)",
    sm_count=128,
    memory_bytes=25_757_220_864,
    memory_bytes_per_s=1_008_096_000_000,
    clock_hz=2_520_000_000,
    compute=(8, 9),
    shared_bytes_per_sm=102_400,
    chip="AD102",
)
_ON_DEVICE = {"deviceId": 0, "contextId": 1, "streamId": 7}
_PREFIX = "CUPTI_ACTIVITY_KIND_"
_EPOCH_NS = 1_795_132_800_000_000_000  # 2026-11-20 00:00 UTC; a clock would change every file


class Recording:
    """A recording under construction; ``write`` makes the file.

    Args:
        generation: One of ``GENERATIONS``.
        gpus: GPUs, numbered from 0.
        pid: Number of the program's process; more are added by ``process``.
        program: Its name.
        lazy: Leave tables without rows out, as the exporter does unless told otherwise.
    """

    def __init__(
        self,
        *,
        generation: str = "3.13",
        gpus: Sequence[Gpu] = (SYNTHETIC_H100,),
        pid: int = 4242,
        program: str = "python3",
        lazy: bool = True,
    ) -> None:
        self.generation = generation
        self.lazy = lazy
        self._layout = layout(generation)
        self._rows: dict[str, list[dict[str, object]]] = {}
        self._bulk: dict[str, list[Mapping[str, object]]] = {}
        self._strings: dict[str, int] = {}
        self._ids = itertools.count(1)
        self.pid = self.process(pid, program)
        self.tid = self.thread(self.pid, pid, program)
        for number, gpu in enumerate(gpus):
            self._describe_gpu(number, gpu)

    def string(self, text: str) -> int:
        """Return the number of ``text`` in ``StringIds``."""
        if text not in self._strings:
            self._strings[text] = next(self._ids)
        return self._strings[text]

    def process(self, pid: int, name: str) -> int:
        """Add a process and return the number that other tables use."""
        key = 1 << 48 | pid << 24
        self.add("PROCESSES", globalPid=key, pid=pid, name=name)
        return key

    def thread(self, process: int, tid: int, name: str) -> int:
        """Add a thread and return the number that other tables use."""
        key = process | tid
        self.add("ThreadNames", nameId=self.string(name), priority=20, globalTid=key)
        return key

    def add(self, table: str, **row: object) -> None:
        """Add one row; tables and columns that this generation lacks are left out.

        Raises:
            KeyError: No generation has such a table or column.
        """
        check_names(table, row)
        if table in self._layout:
            self._rows.setdefault(table, []).append(row)

    def bulk(self, table: str, columns: Mapping[str, object]) -> None:
        """Add whole columns: arrays or lists of one length, or one value for all rows.

        Raises:
            KeyError: No generation has such a table or column.
        """
        check_names(table, columns)
        if table in self._layout:
            self._bulk.setdefault(table, []).append(columns)

    def kernel(self, name: str, start_ns: int, end_ns: int, **columns: object) -> None:
        """Add a kernel; ``name`` is the full name."""
        short, full = self.string(short_name(name)), self.string(name)
        names = {"demangledName": full, "shortName": short, "mangledName": full}
        span = {"start": start_ns, "end": end_ns, "globalPid": self.pid}
        self.add(_PREFIX + "KERNEL", **(span | names | _ON_DEVICE | columns))

    def copy(
        self, kind: int, size_bytes: int, start_ns: int, end_ns: int, **columns: object
    ) -> None:
        """Add a copy; ``kind`` as CUPTI numbers it (1 to the device, 2 to the host)."""
        ends = {1: (0, 2), 2: (2, 0)}.get(kind, (2, 2))
        row = {"start": start_ns, "end": end_ns, "globalPid": self.pid, "bytes": size_bytes}
        row |= {"copyKind": kind, "srcKind": ends[0], "dstKind": ends[1]}
        self.add(_PREFIX + "MEMCPY", **(row | _ON_DEVICE | columns))

    def memset(self, size_bytes: int, start_ns: int, end_ns: int, **columns: object) -> None:
        """Add a memset."""
        row = {"start": start_ns, "end": end_ns, "globalPid": self.pid, "bytes": size_bytes}
        self.add(_PREFIX + "MEMSET", **(row | _ON_DEVICE | columns))

    def graph_launch(self, graph: int, start_ns: int, end_ns: int, **columns: object) -> None:
        """Add a whole CUDA graph that was recorded as one row."""
        row = {"start": start_ns, "end": end_ns, "globalPid": self.pid}
        row |= {"graphId": graph, "graphExecId": graph}
        self.add(_PREFIX + "GRAPH_TRACE", **(row | _ON_DEVICE | columns))

    def api(self, name: str, start_ns: int, end_ns: int, **columns: object) -> None:
        """Add a call of the runtime (``cuda…``) or driver (``cu…``) interface."""
        row = {"start": start_ns, "end": end_ns, "globalTid": self.tid}
        row |= {"nameId": self.string(name), "eventClass": _api_class(name)}
        self.add(_PREFIX + "RUNTIME", **(row | columns))

    def sync(self, kind: str, start_ns: int, end_ns: int, **columns: object) -> None:
        """Add a wait; ``kind`` is ``device``, ``stream``, ``event`` or ``wait`` (on the device)."""
        row = {"start": start_ns, "end": end_ns, "globalPid": self.pid}
        stream = {"streamId": NO_STREAM} if kind == "device" else {}
        row |= {"syncType": SYNC_TYPES[self.generation][kind]}
        self.add(_PREFIX + "SYNCHRONIZATION", **(row | _ON_DEVICE | stream | columns))

    def nvtx(self, text: str, start_ns: int, end_ns: int | None, **columns: object) -> None:
        """Add a range with its text inline; give ``textId`` to refer to a string instead."""
        row = {"start": start_ns, "end": end_ns, "globalTid": self.tid}
        inline = {} if "textId" in columns else {"text": text}
        self.add("NVTX_EVENTS", **(row | inline | columns))

    def os_call(self, name: str, start_ns: int, end_ns: int, **columns: object) -> None:
        """Add a call of the operating system."""
        row = {"start": start_ns, "end": end_ns, "globalTid": self.tid}
        self.add("OSRT_API", **(row | {"nameId": self.string(name)} | columns))

    def overhead(self, name: str, start_ns: int, end_ns: int, **columns: object) -> None:
        """Add a stretch in which the profiler itself was busy."""
        row = {"start": start_ns, "end": end_ns, "globalTid": self.tid}
        self.add("PROFILER_OVERHEAD", **(row | {"nameId": self.string(name)} | columns))

    def diagnostic(self, text: str, time_ns: int, *, severity: int = 2) -> None:
        """Add a message of the profiler: severity 1 information, 2 warning, 3 error."""
        row = {"timestamp": time_ns, "timestampType": 1, "source": 2, "globalPid": self.pid}
        self.add("DIAGNOSTIC_EVENT", **(row | {"severity": severity, "text": text}))

    def metrics(self, names: Sequence[str], times_ns: Sequence[int], values: Array) -> None:
        """Add samples of GPU metrics: ``values`` has one row a time and one column a name."""
        gpu = 1 << 48 | 1 << 24
        for number, name in enumerate(names, start=1):
            row = {"typeId": gpu, "sourceId": 1, "typeName": "GH100", "metricId": number}
            self.add("TARGET_INFO_GPU_METRICS", **row, metricName=name)
        self.bulk(
            "GPU_METRICS",
            {
                "timestamp": np.repeat(np.asarray(times_ns), len(names)),
                "typeId": gpu,
                "metricId": np.tile(np.arange(1, len(names) + 1), len(times_ns)),
                "value": np.asarray(values).ravel(),
            },
        )

    def write(self, path: Path) -> Path:
        """Write the file and return ``path``; the same rows give the same bytes."""
        path.unlink(missing_ok=True)
        self._describe_recording()
        with contextlib.closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA journal_mode=OFF")
            file.execute("PRAGMA synchronous=OFF")
            for table, columns in self._layout.items():
                if table in self._rows or table in self._bulk or not self.lazy:
                    self._write_table(file, table, columns)
            if GENERATIONS.index(self.generation) >= GENERATIONS.index("3.13"):
                _write_enums(file)
            file.commit()
        return path

    def _write_table(self, file: sqlite3.Connection, table: str, columns: list[Column]) -> None:
        declared = ", ".join(f'"{c.name}" {c.declaration}' for c in columns)
        file.execute(f"CREATE TABLE {table} ({declared})")
        merged = _merged(table, self._rows.get(table, []), self._bulk.get(table, []))
        marks = ", ".join("?" * len(columns))
        # Our own table names; the values go through placeholders.
        sql = f"INSERT INTO {table} VALUES ({marks})"
        file.executemany(sql, _tuples([c.name for c in columns], merged))

    def _describe_gpu(self, number: int, gpu: Gpu) -> None:
        pid = self.pid >> 24 & 0xFFFFFF
        self.add("TARGET_INFO_GPU", **_gpu_facts(number, gpu))
        self.add("TARGET_INFO_CUDA_GPU", **_old_gpu_facts(number, gpu))
        ids = {"gpuId": number, "cudaId": number, "pid": pid, "uuid": ""}
        self.add("TARGET_INFO_CUDA_DEVICE", **ids, numMultiprocessors=gpu.sm_count)

    def _describe_recording(self) -> None:
        duration = self._last_end_ns() + 1_000_000
        texts, numbers = list(self._strings), list(self._strings.values())
        self._bulk["StringIds"] = [{"id": numbers, "value": texts}]
        meta = {
            "EXPORT_PRODUCT_NAME": f"{SYNTHETIC}: written by traces/nsys_writer.py of whyslow",
            "EXPORT_PRODUCT_VERSION": f"{SYNTHETIC}, layout {self.generation}",
            "EXPORT_SCHEMA_VERSION": self.generation,
        }
        for table in ("EXPORT_META_DATA", "META_DATA_EXPORT"):
            if table in self._layout:
                self._bulk[table] = [{"name": list(meta), "value": list(meta.values())}]
        when = "2026-11-20T00:00:00"
        start = {"utcEpochNs": [_EPOCH_NS], "utcTime": [when], "localTime": [when]}
        self._bulk["TARGET_INFO_SESSION_START_TIME"] = [start]
        if "ANALYSIS_DETAILS" in self._layout:
            row = {"globalVid": [1 << 48], "duration": [duration]}
            self._bulk["ANALYSIS_DETAILS"] = [row | {"startTime": [0], "stopTime": [duration]}]

    def _last_end_ns(self) -> int:
        singles = (row.get("end") for rows in self._rows.values() for row in rows)
        ends = [end for end in singles if isinstance(end, int)]
        bulks = (columns.get("end") for chunks in self._bulk.values() for columns in chunks)
        ends += [int(end.max()) for end in bulks if isinstance(end, np.ndarray) and len(end)]
        return max(ends, default=0)


def _gpu_facts(number: int, gpu: Gpu) -> dict[str, object]:
    major, minor = gpu.compute
    facts = {"vmId": 1 << 48, "id": number, "cuDevice": number, "pwGpuId": number, "luid": 0}
    facts |= {"isDiscrete": 1, "revision": 161, "nodeMask": 0, "asyncEngines": 3, "maxIPC": 4}
    facts |= {"totalMemory": gpu.memory_bytes, "memoryBandwidth": gpu.memory_bytes_per_s}
    facts |= {"l2CacheSize": 52_428_800, "clockRate": gpu.clock_hz, "smCount": gpu.sm_count}
    facts |= {"constantMemory": 65_536, "maxRegistersPerBlock": 65_536, "maxRegistersPerSm": 65_536}
    facts |= {"maxShmemPerBlock": 49_152, "maxShmemPerBlockOptin": gpu.shared_bytes_per_sm - 1024}
    facts |= {"maxShmemPerSm": gpu.shared_bytes_per_sm, "threadsPerWarp": 32, "maxWarpsPerSm": 64}
    facts |= {"maxBlocksPerSm": 32, "maxThreadsPerBlock": 1024, "maxBlockDimX": 1024}
    facts |= {"maxBlockDimY": 1024, "maxBlockDimZ": 64, "maxGridDimX": 2_147_483_647}
    facts |= {"maxGridDimY": 65_535, "maxGridDimZ": 65_535}
    facts |= {"computeMajor": major, "computeMinor": minor, "smMajor": major, "smMinor": minor}
    names = {"name": gpu.name, "chipName": gpu.chip, "busLocation": f"0000:{number + 1:02x}:00.0"}
    return {**facts, **names, "uuid": f"00000000-0000-0000-0000-{number:012d}"}


def _old_gpu_facts(number: int, gpu: Gpu) -> dict[str, object]:
    major, minor = gpu.compute
    facts = {"deviceId": number, "numMultiprocessors": gpu.sm_count, "numThreadsPerWarp": 32}
    facts |= {"globalMemorySize": gpu.memory_bytes, "globalMemoryBandwidth": gpu.memory_bytes_per_s}
    facts |= {"coreClockRate": gpu.clock_hz, "maxIPC": 4, "numMemcpyEngines": 3}
    facts |= {"maxWarpsPerMultiprocessor": 64, "maxBlocksPerMultiprocessor": 32}
    facts |= {"maxSharedMemoryPerMultiprocessor": gpu.shared_bytes_per_sm}
    facts |= {"maxRegistersPerMultiprocessor": 65_536, "maxThreadsPerBlock": 1024}
    facts |= {"computeCapabilityMajor": major, "computeCapabilityMinor": minor}
    return {**facts, "name": gpu.name}


def short_name(name: str) -> str:
    """Return a kernel's name without return type, namespaces, template arguments, parameters."""
    bare = re.sub(r"\(anonymous namespace\)::", "", name)
    bare = re.split(r"[<(]", bare, maxsplit=1)[0]
    return bare.split(" ")[-1].split("::")[-1]


def _api_class(name: str) -> int:
    return RUNTIME_API if name.startswith("cuda") else DRIVER_API


def _merged(
    table: str, rows: list[dict[str, object]], bulks: list[Mapping[str, object]]
) -> dict[str, Array]:
    """Return the table's columns, sorted by time as the exporter writes them."""
    chunks: list[tuple[int, Mapping[str, object]]] = [(_length(c), c) for c in bulks]
    defaults = DEFAULTS.get(table, {})
    if rows:
        names = dict.fromkeys(n for row in rows for n in row)
        singles = {n: [row.get(n, defaults.get(n)) for row in rows] for n in names}
        chunks.insert(0, (len(rows), singles))
    names = dict.fromkeys([*defaults, *(n for _, chunk in chunks for n in chunk)])
    merged = {
        name: np.concatenate([_array(c.get(name, defaults.get(name)), n) for n, c in chunks])
        for name in (names if chunks else ())
    }
    times = merged.get("start", merged.get("timestamp"))
    if times is None:
        return merged
    order = np.argsort([0 if t is None else t for t in times.tolist()], kind="stable")
    return {name: values[order] for name, values in merged.items()}


def _length(columns: Mapping[str, object]) -> int:
    return max(len(v) for v in columns.values() if isinstance(v, (np.ndarray, list)))


def _array(values: object, length: int) -> Array:
    if isinstance(values, np.ndarray):
        return values
    if isinstance(values, int):
        return np.full(length, values)
    column = np.empty(length, dtype=object)
    column[:] = values  # a list, or one text or None for all rows
    return column


def _tuples(names: list[str], columns: dict[str, Array]) -> Iterator[tuple[object, ...]]:
    length = len(next(iter(columns.values()))) if columns else 0
    for begin in range(0, length, CHUNK_ROWS):
        part = slice(begin, min(begin + CHUNK_ROWS, length))
        absent = [None] * (part.stop - part.start)
        lists = (columns[n][part].tolist() if n in columns else absent for n in names)
        yield from zip(*lists, strict=True)


def _write_enums(file: sqlite3.Connection) -> None:
    for table, labels in ENUMS.items():
        file.execute(
            f"CREATE TABLE {table} (id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT)"
        )
        rows = [(number, label, label) for number, label in labels.items()]
        file.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
