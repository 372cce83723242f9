"""Rows of an nsys export on their way into a trace: checked, counted, translated.

Every row of every table that is read ends up used or excluded, and each exclusion has a cause;
the counts become the data-quality ledger of the trace.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from collectors.sqlite_file import SqliteFile, integers, is_null
from collectors.trace import NOT_RECORDED, Array, DataNote, RowCount, TraceWriter

PROCESS_SHIFT = 24  # a global thread number is machine, process and 24 bits of thread
NUMBER_MASK = 0xFFFFFF
MAX_TIME_NS = 1 << 60  # 36 years: no capture lasts so long, and sums stay within 64 bits
MAX_TEXT = 65_536  # characters of one name; 5,000 were seen
EXCLUDED, REPAIRED, NOTED = "excluded", "repaired", "noted"

# Device information was renamed twice; the first name that the file has is read.
_DEVICE_FACTS = {
    "sm_count": ("smCount", "numMultiprocessors"),
    "compute_major": ("computeMajor", "computeCapabilityMajor"),
    "compute_minor": ("computeMinor", "computeCapabilityMinor"),
    "max_warps_per_sm": ("maxWarpsPerSm", "maxWarpsPerMultiprocessor"),
    "max_blocks_per_sm": ("maxBlocksPerSm", "maxBlocksPerMultiprocessor"),
    "max_registers_per_sm": ("maxRegistersPerSm", "maxRegistersPerMultiprocessor"),
    "max_shared_bytes_per_sm": ("maxShmemPerSm", "maxSharedMemoryPerMultiprocessor"),
    "memory_bytes": ("totalMemory", "globalMemorySize"),
    "memory_bytes_per_s": ("memoryBandwidth", "globalMemoryBandwidth"),
}


@dataclass
class _Tally:
    """Use of one input table's rows, and what was odd about them."""

    rows: int = 0
    used: int = 0
    oddities: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def note(self, code: str, effect: str, message: str, count: int) -> None:
        key = (code, effect, message)
        self.oddities[key] = self.oddities.get(key, 0) + count


class Ingest:
    """One export being read: the file, the trace being written, and what was seen so far.

    Attributes:
        file: The export.
        writer: The trace.
        strings: Names, written at the end because only those in use are kept.
    """

    def __init__(
        self, file: SqliteFile, writer: TraceWriter, on_progress: Callable[[float, str], None]
    ) -> None:
        self.file, self.writer = file, writer
        self.strings = Strings(file)
        self._on_progress = on_progress
        self._tallies: dict[str, _Tally] = {}
        self._total_rows = max(1, sum(_last_row(file, t) for t in _STREAMED if file.has(t)))
        self._done_rows = 0
        self._last_end_ns = 0
        self.processes: set[int] = set()
        self.threads: set[int] = set()
        self.devices: set[tuple[int, int]] = set()

    def stream(
        self,
        table: str,
        columns: Sequence[str],
        *,
        texts: Sequence[str] = (),
        counted: bool = True,
    ) -> Iterator[Rows]:
        """Yield ``table`` in pieces; declares what the trace then holds, be it empty."""
        if not self.file.has(table):
            return
        if counted and table in _BECOMES:
            for name in _BECOMES[table]:
                self.writer.declare(name)
        tally = self._tallies.setdefault(table, _Tally()) if counted else _Tally()
        for batch in self.file.batches(table, columns, texts):
            rows = Rows(self, tally, batch)
            tally.rows += len(rows)
            self._done_rows += len(rows)
            self._on_progress(min(0.99, self._done_rows / self._total_rows), f"reading {table}")
            yield rows

    @functools.cached_property
    def capture_end_ns(self) -> int:
        """End of the capture as stated, else of the last event read before NVTX."""
        if self.file.has("ANALYSIS_DETAILS", "duration"):
            value = self.file.rows("SELECT max(duration) FROM ANALYSIS_DETAILS")[0][0]
            if isinstance(value, int) and value > 0:
                return value
        return self._last_end_ns

    @functools.cached_property
    def only_process(self) -> int:
        """The process of all API calls, for rows that name none; -1 when there are several."""
        return next(iter(self.processes)) if len(self.processes) == 1 else NOT_RECORDED

    def saw_end(self, end_ns: Array) -> None:
        """Remember the latest end."""
        if len(end_ns):
            self._last_end_ns = max(self._last_end_ns, int(end_ns.max()))

    def processes_of(self, global_pids: Array) -> Array:
        """Return process keys; rows that name no process get the only one there is."""
        keys = np.where(
            global_pids == NOT_RECORDED, self.only_process, global_pids >> PROCESS_SHIFT
        )
        self.processes.update(pd.unique(keys).tolist())
        return keys

    def finish(self) -> None:
        """Write what is known only at the end: names, processes, threads, devices, notes."""
        self._write_processes()
        self._write_threads()
        self._write_devices()
        for table, tally in self._tallies.items():
            self.writer.row_counts.append(
                RowCount(table=table, rows=tally.rows, used=tally.used, excluded=_excluded(tally))
            )
            for oddity, count in tally.oddities.items():
                self.note(table, oddity, count)
        self.strings.write(self)

    def note(self, table: str, oddity: tuple[str, str, str], count: int) -> None:
        """Add a line to the data-quality ledger.

        Args:
            table: Table of the export.
            oddity: Code, effect and message.
            count: Rows concerned.
        """
        code, effect, message = oddity
        severity = "info" if effect == NOTED or code in _HARMLESS else "import_error"
        self.writer.notes.append(
            DataNote(
                code=code,
                severity=severity,
                table=table,
                count=count,
                effect=effect,
                message=message,
            )
        )

    def _write_processes(self) -> None:
        names: dict[int, str] = {}
        if self.file.has("PROCESSES", "globalPid", "name"):
            sql = "SELECT globalPid, substr(name, 1, 200) FROM PROCESSES"
            for key, name in self.file.rows(sql):
                if isinstance(key, int):
                    names[key >> PROCESS_SHIFT] = str(name or "")
        keys = sorted(self.processes)
        self.writer.write(
            "processes",
            {
                "process": np.array(keys, dtype=np.int64),
                "pid": np.array([k & NUMBER_MASK for k in keys], dtype=np.int64),
                "name": pa.array([names.get(k, "") for k in keys], pa.string()),
            },
        )

    def _write_threads(self) -> None:
        names: dict[int, str] = {}
        if self.file.has("ThreadNames", "globalTid", "nameId"):
            # The program's own name for a thread beats the system's: it has the higher priority.
            order = "priority" if self.file.has("ThreadNames", "priority") else "rowid"
            sql = (
                "SELECT t.globalTid, substr(s.value, 1, 200) FROM ThreadNames AS t "
                f"JOIN StringIds AS s ON s.id = t.nameId ORDER BY t.{order}"
            )
            names = {int(str(k)): str(v) for k, v in self.file.rows(sql) if isinstance(k, int)}
        keys = sorted(self.threads)
        self.writer.write(
            "threads",
            {
                "thread": np.array(keys, dtype=np.int64),
                "process": np.array([k >> PROCESS_SHIFT for k in keys], dtype=np.int64),
                "tid": np.array([k & NUMBER_MASK for k in keys], dtype=np.int64),
                "name": pa.array([names.get(k, "") for k in keys], pa.string()),
            },
        )

    def _write_devices(self) -> None:
        physical = self._physical_gpus()
        facts = _gpu_facts(self.file)
        rows = []
        for process, device in sorted(self.devices):
            gpu = physical.get((process & NUMBER_MASK, device), NOT_RECORDED)
            row = facts.get(("id", gpu)) or facts.get(("cuda", device)) or facts.get(("only", 0))
            row = row or facts.get(("id", device)) or {}
            rows.append({"process": process, "device": device, "physical": gpu, **row})
        names = [str(r.pop("name", "")) for r in rows]
        columns = ["process", "device", "physical", *_DEVICE_FACTS]
        self.writer.write(
            "devices",
            {c: np.array([r.get(c, NOT_RECORDED) for r in rows], dtype=np.int64) for c in columns}
            | {"name": pa.array(names, pa.string())},
        )

    def _physical_gpus(self) -> dict[tuple[int, int], int]:
        if not self.file.has("TARGET_INFO_CUDA_DEVICE", "gpuId", "cudaId", "pid"):
            return {}
        sql = "SELECT pid, cudaId, gpuId FROM TARGET_INFO_CUDA_DEVICE"
        rows = [r for r in self.file.rows(sql) if all(isinstance(v, int) for v in r)]
        return {(int(str(p)), int(str(c))): int(str(g)) for p, c, g in rows}


def _excluded(tally: _Tally) -> int:
    return sum(n for (_, effect, _), n in tally.oddities.items() if effect == EXCLUDED)


def _last_row(file: SqliteFile, table: str) -> int:
    value = file.rows(f"SELECT max(rowid) FROM {table}")[0][0]
    return value if isinstance(value, int) else 0


def _gpu_facts(file: SqliteFile) -> dict[tuple[str, int], dict[str, object]]:
    """Return what is known of each GPU, by its number, its CUDA number, and when it is alone."""
    # Where both exist, the old CUDA table has the details and the other has only a name.
    for table in ("TARGET_INFO_CUDA_GPU", "TARGET_INFO_GPU"):
        if not file.has(table):
            continue
        have = file.tables[table]
        number = "id" if "id" in have else "deviceId"
        wanted = {"name": "name", "id": number, "cuda": "cuDevice"}
        wanted |= {
            fact: next((c for c in names if c in have), "") for fact, names in _DEVICE_FACTS.items()
        }
        parts = [f'"{c}"' if c in have else "NULL" for c in wanted.values()]
        facts: dict[tuple[str, int], dict[str, object]] = {}
        rows = file.rows(f"SELECT {', '.join(parts)} FROM {table}")
        for values in rows:
            row = dict(zip(wanted, values, strict=True))
            keys = [("id", row.pop("id")), ("cuda", row.pop("cuda"))]
            known = {k: v for k, v in row.items() if isinstance(v, int) or k == "name"}
            known["name"] = str(known.get("name") or "")[:200]
            facts |= {(k, n): known for k, n in keys if isinstance(n, int)}
            if len(rows) == 1:
                facts["only", 0] = known
        if facts:
            return facts
    return {}


class Rows:
    """A piece of one input table; indexing gives a column of the rows that are still in use."""

    def __init__(self, job: Ingest, tally: _Tally, columns: dict[str, pa.Array]) -> None:
        self._job, self._tally, self._columns = job, tally, columns
        self._full: dict[str, Array] = {}
        self._length = len(next(iter(columns.values())))
        self._keep: Array | None = None

    def __len__(self) -> int:
        return self._length if self._keep is None else int(np.count_nonzero(self._keep))

    def __getitem__(self, name: str) -> Array:
        if name not in self._full:
            self._full[name] = integers(self._columns[name])
        return self.of(self._full[name])

    def of(self, values: Array) -> Array:
        """Return the elements of ``values`` (one per row of the piece) that are in use."""
        kept: Array = values if self._keep is None else values[self._keep]
        return kept

    def text(self, name: str) -> pa.Array:
        """Return a column of raw bytes."""
        column = self._columns[name]
        return column if self._keep is None else column.filter(pa.array(self._keep))

    def decoded(self, name: str) -> pa.Array:
        """Return a column of texts, null as empty, what is not UTF-8 as U+FFFD."""
        raw = self.text(name).to_pylist()
        return pa.array(
            [(t or b"").decode("utf-8", "replace")[:MAX_TEXT] for t in raw], pa.string()
        )

    def small(self, name: str) -> Array:
        """Return a column as 32-bit integers, out of range as -1."""
        return _clipped(self[name], np.int32)

    def tiny(self, name: str) -> Array:
        """Return a column as 8-bit integers, out of range as -1."""
        return _clipped(self[name], np.int8)

    def drop(self, where: Array, code: str, message: str) -> None:
        """Exclude rows, and count them under ``code``."""
        count = int(np.count_nonzero(where))
        if count:
            self._remove(where)
            self._tally.note(code, EXCLUDED, message, count)

    def drop_bad_spans(self, prefix: str) -> None:
        """Exclude rows without a usable begin and end."""
        bad = self._missing("start") | self._missing("end")
        self.drop(bad, f"{prefix}_bad_type", "rows whose begin or end is not an integer")
        start, end = self["start"], self["end"]
        far = (np.abs(start) >= MAX_TIME_NS) | (np.abs(end) >= MAX_TIME_NS)
        self.drop(far, f"{prefix}_out_of_range", "rows whose time is beyond any recording")
        start, end = self["start"], self["end"]
        self.drop(
            (start == 0) & (end == 0), f"{prefix}_no_time", "rows for which no time was recorded"
        )
        start, end = self["start"], self["end"]
        self.drop(end < start, f"{prefix}_negative_duration", "rows that end before they begin")
        self._job.saw_end(self["end"])

    def drop_bad_times(self, prefix: str, *, column: str = "start") -> None:
        """Exclude rows without a usable moment."""
        bad = self._missing(column)
        self.drop(bad, f"{prefix}_bad_type", "rows whose time is not an integer")
        far = np.abs(self[column]) >= MAX_TIME_NS
        self.drop(far, f"{prefix}_out_of_range", "rows whose time is beyond any recording")

    def count_described(self, where: Array) -> None:
        """Take rows out that only describe others: they were read elsewhere, so they are used."""
        count = int(np.count_nonzero(where))
        if count:
            self._remove(where)
            self._tally.used += count

    def part(self, where: Array) -> Rows:
        """Move rows into a piece of their own."""
        part = Rows(self._job, self._tally, self._columns)
        part._full = self._full
        whole = np.zeros(self._length, dtype=bool)
        whole[self._positions()[where]] = True
        part._keep = whole
        self._remove(where)
        return part

    def close_open_ranges(self, capture_end_ns: int) -> Array:
        """End open ranges with the capture; return where they are, for all rows of the piece.

        nsys writes either no end or the end of the capture for a range that nobody closed.
        """
        nulls = is_null(self._columns["end"])
        end = integers(self._columns["end"])
        is_open: Array = end == capture_end_ns
        if nulls is not None:
            end = np.where(nulls, np.maximum(capture_end_ns, integers(self._columns["start"])), end)
            is_open = is_open | nulls
            self._columns = {**self._columns, "end": pa.array(end)}
        self._full["end"] = end
        count = int(np.count_nonzero(self.of(is_open)))
        if count:
            message = "NVTX ranges that were never closed; they end with the capture"
            self._tally.note("nvtx_unclosed", REPAIRED, message, count)
        return is_open

    def span(self) -> dict[str, Array]:
        """Return the columns begin and end."""
        return {"start_ns": self["start"], "end_ns": self["end"]}

    def on_thread(self) -> dict[str, Array]:
        """Return the columns process and thread."""
        thread = self["globalTid"]
        process = thread >> PROCESS_SHIFT
        self._job.threads.update(pd.unique(thread).tolist())
        self._job.processes.update(pd.unique(process).tolist())
        return {"process": process, "thread": thread}

    def on_device(self) -> dict[str, Array]:
        """Return the columns process, device, stream and correlation id."""
        columns = self.about_device()
        process, device = columns["process"], columns["device"]
        # Few pairs, many rows: one number per pair is unique far faster than pairs are.
        for key in pd.unique((process << 16) | (device.astype(np.int64) & 0xFFFF)).tolist():
            number = key & 0xFFFF
            self._job.devices.add((key >> 16, number if number != 0xFFFF else NOT_RECORDED))
        return columns

    def about_device(self) -> dict[str, Array]:
        """Return the same columns for rows that do not occupy the device."""
        return {
            "process": self._job.processes_of(self["globalPid"]),
            "device": self.small("deviceId"),
            "stream": self["streamId"],
            "correlation_id": self["correlationId"],
        }

    def write(self, table: str, **columns: Array | pa.Array) -> None:
        """Append the rows in use to ``table``."""
        self._tally.used += len(self)
        self._job.writer.write(table, columns)

    def _missing(self, name: str) -> Array:
        nulls = is_null(self._columns[name])
        return np.zeros(len(self), dtype=bool) if nulls is None else self.of(nulls)

    def _positions(self) -> Array:
        return np.arange(self._length) if self._keep is None else np.flatnonzero(self._keep)

    def _remove(self, where: Array) -> None:
        keep = np.ones(self._length, dtype=bool) if self._keep is None else self._keep.copy()
        keep[self._positions()[where]] = False
        self._keep = keep


def _clipped(values: Array, dtype: type[np.signedinteger]) -> Array:
    limit = np.iinfo(dtype).max
    inside = (values >= NOT_RECORDED) & (values <= limit)
    return np.where(inside, values, NOT_RECORDED).astype(dtype)


class Strings:
    """Names by number. Only names that an event refers to are kept: the rest may be private.

    A recorder's number stays as it is; a text of our own gets a negative one, below -1.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._used: set[int] = set()
        self._own: dict[str, int] = {}
        self._canonical: dict[int, int] = {}

    def use(self, ids: Array) -> Array:
        """Mark ``ids`` as used and return them."""
        self._used.update(pd.unique(ids).tolist())
        return ids

    def intern(self, text: str) -> int:
        """Return the number of a text of our own."""
        return self._own.setdefault(text[:MAX_TEXT], -2 - len(self._own))

    def canonical(self, ids: Array, plain: Callable[[str], str]) -> Array:
        """Return one number for all of ``ids`` whose ``plain`` name is the same."""
        codes, unique = pd.factorize(ids)
        mapped = []
        for number in unique.tolist():
            if number not in self._canonical:
                self._canonical[number] = self.intern(plain(self._look_up(number)))
            mapped.append(self._canonical[number])
        result: Array = np.array(mapped, dtype=np.int64)[codes]
        return result

    def text_or_id(self, texts: pa.Array, ids: Array) -> Array:
        """Return the number of each inline text, else of the text that the id names."""
        if texts.null_count == len(texts):
            return self.use(ids)
        encoded = texts.dictionary_encode()
        raw = encoded.dictionary.to_pylist()
        numbers = np.array([self.intern(self._decode(t)) for t in raw], dtype=np.int64)
        codes = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
        inline = texts.is_valid().to_numpy(zero_copy_only=False)
        self.use(ids[~inline])
        return np.where(inline, numbers[codes], ids)

    def write(self, job: Ingest) -> None:
        """Write every name in use; names that the export lacks are counted."""
        texts: dict[int, str] = {number: text for text, number in self._own.items()}
        wanted = {n for n in self._used if n >= 0}
        repeated = 0
        for number, text in self._file.rows("SELECT id, value FROM StringIds"):
            if number in wanted and isinstance(number, int):
                repeated += number in texts
                texts.setdefault(number, str(text)[:MAX_TEXT])
        missing = wanted - texts.keys()
        broken = sum("\ufffd" in text for text in texts.values())
        for count, code, message in (
            (len(missing), "string_missing", "names that events refer to but the export lacks"),
            (repeated, "string_duplicate", "names given twice for a number; the first counts"),
            (broken, "text_not_utf8", "names that are not UTF-8; those bytes show as U+FFFD"),
        ):
            if count:
                job.note("StringIds", (code, REPAIRED, message), count)
        texts |= {number: f"(name {number} is missing)" for number in missing}
        job.writer.write(
            "strings",
            {
                "id": np.array(list(texts), dtype=np.int64),
                "value": pa.array(
                    [t.encode("utf-8", "replace").decode() for t in texts.values()], pa.string()
                ),
            },
        )

    def _look_up(self, number: int) -> str:
        rows = self._file.rows("SELECT value FROM StringIds WHERE id = ? LIMIT 1", number)
        return str(rows[0][0]) if rows else f"(name {number} is missing)"

    def _decode(self, raw: bytes) -> str:
        return raw.decode("utf-8", "replace")


# Rows concerned by these are no loss: what they say is in other rows, or was never closed.
_HARMLESS = ("api_backtrace_duplicate", "nvtx_other_event", "nvtx_unclosed")

_BECOMES = {
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("api_calls",),
    "CUPTI_ACTIVITY_KIND_KERNEL": ("kernels",),
    "CUPTI_ACTIVITY_KIND_MEMCPY": ("copies",),
    "CUPTI_ACTIVITY_KIND_MEMSET": ("memsets",),
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": ("graph_launches",),
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": ("syncs",),
    "CUPTI_ACTIVITY_KIND_OVERHEAD": ("overheads",),
    "CUDA_GRAPH_EVENTS": ("graph_nodes",),
    "CUDA_GRAPH_NODE_EVENTS": ("graph_nodes",),
    "CUDA_UM_GPU_PAGE_FAULT_EVENTS": ("page_faults",),
    "CUDA_UM_CPU_PAGE_FAULT_EVENTS": ("page_faults",),
    "NVTX_EVENTS": ("ranges", "marks"),
    "OSRT_API": ("os_calls",),
    "SCHED_EVENTS": ("thread_switches",),
    "COMPOSITE_EVENTS": ("cpu_samples",),
    "GPU_METRICS": ("gpu_metrics",),
    "PROFILER_OVERHEAD": ("overheads",),
    "DIAGNOSTIC_EVENT": ("diagnostics",),
}
_STREAMED = tuple(_BECOMES)
