"""Rows of an nsys export on their way into a trace: checked, counted, translated.

Every row of every table that is read ends up used or excluded, and each exclusion has a cause;
the counts become the data-quality ledger of the trace.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from collectors.nsys.times import capture_of
from collectors.schema import NOT_RECORDED, Array
from collectors.sqlite_file import SqliteFile, integers, is_null, text_of
from collectors.trace import DataNote, RowCount, TraceWriter

PROCESS_SHIFT = 24  # a global thread number is machine, process and 24 bits of thread
NUMBER_MASK = 0xFFFFFF
MAX_DEVICE = 1_023  # CUDA counts from 0; MIG slices included, no machine has as many
MAX_BYTES = 1 << 42  # no device holds more; 2 million copies of that size still have a sum
MAX_TEXT = 65_536  # characters of one name; 5,000 were seen
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
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
_SMALL_FACTS = tuple(_DEVICE_FACTS)[:5]  # 32 bits; the others are registers and bytes


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
        self._total_rows = max(1, sum(_last_row(file, t) for t in STREAMED))
        self._done_rows = 0
        self.capture = capture_of(file, STREAMED)
        self._last_end_ns = NOT_RECORDED
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
        """End of the capture as stated, else of the last event; ask when all else was read."""
        if self.capture.duration_ns > 0:
            return self.capture.duration_ns
        last = self._last_end_ns
        for column in ("start", "end"):  # NVTX itself may go on after everything else
            if self.file.has("NVTX_EVENTS", column):
                sql = f"SELECT max({column}) FROM NVTX_EVENTS WHERE {column} <= ?"
                value = self.file.rows(sql, self.capture.high_ns)[0][0]
                last = max(last, value if isinstance(value, int) else last)
        return last

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
        silent = global_pids == NOT_RECORDED
        keys = np.where(silent, self.only_process, process_of(global_pids))
        self.processes.update(pd.unique(keys).tolist())
        return keys

    def only_device(self, process: int) -> int:
        """Return the one device that the process uses; -1 when there are several or none."""
        devices = self._devices_named.get(process) or self._devices_listed(process)
        return next(iter(devices)) if len(devices) == 1 else NOT_RECORDED

    @functools.cached_property
    def _devices_named(self) -> dict[int, set[int]]:
        """Devices by process, as the rows that do name one say."""
        found: dict[int, set[int]] = {}
        for table in _ON_DEVICE:
            if not self.file.has(table, "deviceId"):
                continue
            pid = "globalPid" if self.file.has(table, "globalPid") else "NULL"
            sql = f"SELECT DISTINCT {pid}, deviceId FROM {table} WHERE deviceId BETWEEN 0 AND ?"
            for global_pid, device in self.file.rows(sql, MAX_DEVICE):
                if isinstance(device, int):
                    key = self.only_process
                    if isinstance(global_pid, int):
                        key = process_of_one(global_pid)
                    found.setdefault(key, set()).add(device)
        return found

    def _devices_listed(self, process: int) -> set[int]:
        """Return the devices of the process that the export describes."""
        described = {d for pid, d in self._physical_gpus() if pid == process & NUMBER_MASK}
        if described:
            return described
        facts, _ = _gpu_facts(self.file)
        by_cuda = {number for key, number in facts if key == "cuda"}
        by_id = {number for key, number in facts if key == "id"}
        return by_cuda or by_id

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
        self._note_unread_tables()
        self.strings.write(self)

    def _note_unread_tables(self) -> None:
        """Say which tables hold events that nothing here reads."""
        rows = {}
        for table, columns in self.file.tables.items():
            if table not in STREAMED and not {"start", "timestamp"}.isdisjoint(columns):
                rows[table] = _last_row(self.file, table)
        names = sorted(t for t, count in rows.items() if count)
        if names:
            shown = ", ".join("".join(c for c in t if c.isprintable())[:40] for t in names[:4])
            more = f" and {len(names) - 4} more tables" if len(names) > 4 else ""
            message = f"events of a kind that is not analysed, in {shown}{more}"
            self.note("", ("schema_unknown_tables", NOTED, message), sum(rows.values()))

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
                    names[process_of_one(key)] = text_of(name)
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
            order = "priority" if self.file.has("ThreadNames", "priority") else "globalTid"
            sql = (
                "SELECT t.globalTid, substr(s.value, 1, 200) FROM ThreadNames AS t "
                f"JOIN StringIds AS s ON s.id = t.nameId ORDER BY t.{order}"
            )
            names = {int(str(k)): text_of(v) for k, v in self.file.rows(sql) if isinstance(k, int)}
        keys = sorted(self.threads)
        self.writer.write(
            "threads",
            {
                "thread": np.array(keys, dtype=np.int64),
                "process": np.array([process_of_one(k) for k in keys], dtype=np.int64),
                "tid": np.array([k & NUMBER_MASK for k in keys], dtype=np.int64),
                "name": pa.array([names.get(k, "") for k in keys], pa.string()),
            },
        )

    def _write_devices(self) -> None:
        physical = self._physical_gpus()
        facts, invalid = _gpu_facts(self.file)
        if invalid:
            message = "facts about a GPU that are no plausible number; they count as not recorded"
            self.note("TARGET_INFO_GPU", ("gpu_info_invalid", REPAIRED, message), invalid)
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
        return {
            (pid, device): gpu
            for pid, device, gpu in self.file.rows(sql)
            if isinstance(pid, int)
            and isinstance(device, int)
            and isinstance(gpu, int)
            and 0 <= device <= MAX_DEVICE
            and 0 <= gpu <= MAX_DEVICE
        }


def _excluded(tally: _Tally) -> int:
    return sum(n for (_, effect, _), n in tally.oddities.items() if effect == EXCLUDED)


def _last_row(file: SqliteFile, table: str) -> int:
    span = file.row_numbers(table)
    return max(0, span[1]) if span else 0


def process_of(ids: Array) -> Array:
    """Return the process keys of global process or thread numbers; they use all 64 bits."""
    keys: Array = (ids.astype(np.uint64) >> np.uint64(PROCESS_SHIFT)).astype(np.int64)
    return keys


def process_of_one(number: int) -> int:
    """Return the process key of one global process or thread number."""
    return (number % (1 << 64)) >> PROCESS_SHIFT


def _gpu_facts(file: SqliteFile) -> tuple[dict[tuple[str, int], dict[str, object]], int]:
    """Return what is known of each GPU, by its number, its CUDA number, and when it is alone.

    The second value counts what is recorded but cannot be.
    """
    invalid = 0
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
            known = {k: v for k, v in row.items() if k in _DEVICE_FACTS and _is_plausible(k, v)}
            invalid += sum(row[k] is not None for k in _DEVICE_FACTS) - len(known)
            known["name"] = text_of(row["name"])[:200]
            facts |= {(k, n): known for k, n in keys if isinstance(n, int)}
            if len(rows) == 1:
                facts["only", 0] = known
        if facts:
            return facts, invalid
    return {}, invalid


def _is_plausible(fact: str, value: object) -> bool:
    limit = 1 << 31 if fact in _SMALL_FACTS else 1 << 62
    return isinstance(value, int) and 0 <= value < limit


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
        """Return a column as 32-bit integers, out of range as -1, which is counted."""
        return self._clipped(name, np.int32)

    def tiny(self, name: str) -> Array:
        """Return a column as 8-bit integers, out of range as -1, which is counted."""
        return self._clipped(name, np.int8)

    def within(self, limits: Mapping[str, tuple[int, int]], code: str, message: str) -> list[Array]:
        """Return columns with what is outside their limits as -1, counting such rows."""
        columns, odd = [], np.zeros(len(self), dtype=bool)
        for name, (low, high) in limits.items():
            values = self[name]
            outside = (values < low) | (values > high)
            if outside.any():
                odd |= outside & ~self._missing(name)
                values = np.where(outside, NOT_RECORDED, values)
            columns.append(values)
        self.note(odd, code, REPAIRED, message)
        return columns

    def note(self, where: Array, code: str, effect: str, message: str) -> None:
        """Count rows that stay in use, yet are odd."""
        count = int(np.count_nonzero(where))
        if count:
            self._tally.note(code, effect, message, count)

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
        self._drop_far(prefix, "start", "end")
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
        self._drop_far(prefix, column)
        self._job.saw_end(self[column])

    def drop_nulls(self, column: str, code: str, message: str) -> None:
        """Exclude rows in which ``column`` is absent or of another type."""
        self.drop(self._missing(column), code, message)

    def drop_bad_sizes(self, prefix: str) -> None:
        """Exclude rows with a size that no copy has."""
        size = self["bytes"]
        bad = ((size < 0) & ~self._missing("bytes")) | (size > MAX_BYTES)
        self.drop(bad, f"{prefix}_invalid", "rows of a negative or impossible size")

    def drop_threadless(self, prefix: str) -> None:
        """Exclude rows that do not say on which thread they happened."""
        self.drop(
            self["globalTid"] == NOT_RECORDED, f"{prefix}_no_thread", "rows that name no thread"
        )

    def drop_unplaced(self, prefix: str) -> None:
        """Give rows that name no device the only one of their process; exclude the others."""
        named = self["deviceId"]
        bad = (named < 0) | (named > MAX_DEVICE)
        if not bad.any():
            return
        processes = self._job.processes_of(self["globalPid"])
        device = named.copy()
        for process in pd.unique(processes[bad]).tolist():
            device[bad & (processes == process)] = self._job.only_device(process)
        whole = self._full["deviceId"].copy()
        whole[self._positions()] = device
        self._full["deviceId"] = whole
        found = bad & (device != NOT_RECORDED)
        message = "rows that name no usable device; they get the only one of their process"
        self.note(found, f"{prefix}_device_unknown", REPAIRED, message)
        message = "rows that name no usable device"
        self.drop(device == NOT_RECORDED, f"{prefix}_device_unknown", message)

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
        stated = capture_end_ns == self._job.capture.duration_ns
        is_open: Array = (end == capture_end_ns) & stated
        if nulls is not None:
            end = np.where(nulls, np.maximum(capture_end_ns, integers(self._columns["start"])), end)
            is_open = is_open | nulls
            self._columns = {**self._columns, "end": pa.array(end)}
        self._full["end"] = end
        return is_open

    def span(self) -> dict[str, Array]:
        """Return the columns begin and end."""
        return {"start_ns": self["start"], "end_ns": self["end"]}

    def on_thread(self) -> dict[str, Array]:
        """Return the columns process and thread."""
        thread = self["globalTid"]
        process = np.where(thread == NOT_RECORDED, NOT_RECORDED, process_of(thread))
        self._job.threads |= set(pd.unique(thread).tolist()) - {NOT_RECORDED}
        self._job.processes |= set(pd.unique(process).tolist()) - {NOT_RECORDED}
        return {"process": process, "thread": thread}

    def on_device(self) -> dict[str, Array]:
        """Return the columns process, device, stream and correlation id."""
        columns = self.about_device()
        process, device = columns["process"], columns["device"]
        # Few pairs, many rows: one number per pair is unique far faster than pairs are.
        for key in pd.unique(process * (MAX_DEVICE + 1) + device).tolist():
            self._job.devices.add(divmod(key, MAX_DEVICE + 1))
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

    def _drop_far(self, prefix: str, *columns: str) -> None:
        low, high = self._job.capture.low_ns, self._job.capture.high_ns
        far = np.zeros(len(self), dtype=bool)
        for values in map(self.__getitem__, columns):
            far |= (values < low) | (values > high)
        self.drop(far, f"{prefix}_out_of_range", "rows whose time is far outside the recording")

    def _clipped(self, name: str, dtype: type[np.signedinteger]) -> Array:
        values = self[name]
        inside = (values >= NOT_RECORDED) & (values <= np.iinfo(dtype).max)
        message = "numbers that are negative or too large; they count as not recorded"
        self.note(~inside, "number_out_of_range", REPAIRED, message)
        return np.where(inside, values, NOT_RECORDED).astype(dtype)

    def _missing(self, name: str) -> Array:
        nulls = is_null(self._columns[name])
        return np.zeros(len(self), dtype=bool) if nulls is None else self.of(nulls)

    def _positions(self) -> Array:
        return np.arange(self._length) if self._keep is None else np.flatnonzero(self._keep)

    def _remove(self, where: Array) -> None:
        keep = np.ones(self._length, dtype=bool) if self._keep is None else self._keep.copy()
        keep[self._positions()[where]] = False
        self._keep = keep


class Strings:
    """Names by number. Only names that an event refers to are kept: the rest may be private.

    A recorder's number stays as it is; a text of our own gets a negative one, below -1.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._used: set[int] = set()
        self._own: dict[str, int] = {}
        self._canonical: dict[int, int] = {}
        self._missing: set[int] = set()
        self._cut = 0

    def use(self, ids: Array) -> Array:
        """Mark ``ids`` as used and return them."""
        self._used.update(pd.unique(ids).tolist())
        return ids

    def intern(self, text: str) -> int:
        """Return the number of a text of our own."""
        if len(text) > MAX_TEXT:
            self._cut += 1
            text = text[:MAX_TEXT]
        return self._own.setdefault(text, -2 - len(self._own))

    def canonical(self, ids: Array, plain: Callable[[str], str]) -> Array:
        """Return one number for all of ``ids`` whose ``plain`` name is the same."""
        codes, unique = pd.factorize(ids)
        mapped = []
        for number in unique.tolist():
            if number == NOT_RECORDED:
                mapped.append(number)
                continue
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
        for number, value in self._file.rows("SELECT id, value FROM StringIds"):
            if number in wanted and isinstance(number, int):
                repeated += number in texts
                self._missing |= {number} if value is None and number not in texts else set()
                text = text_of(value)
                self._cut += len(text) > MAX_TEXT
                texts.setdefault(number, text[:MAX_TEXT])
        absent = wanted - texts.keys()
        self._missing |= absent
        broken = sum("\ufffd" in text for text in texts.values())
        odd = sum(_CONTROL.search(text) is not None for text in texts.values())
        for count, code, effect, message in (
            (len(self._missing), "string_missing", REPAIRED, "names that the export lacks"),
            (repeated, "string_duplicate", REPAIRED, "names given twice; the first counts"),
            (broken, "text_not_utf8", REPAIRED, "names with bytes that are not UTF-8, now U+FFFD"),
            (self._cut, "text_truncated", REPAIRED, f"names cut to {MAX_TEXT:,} characters"),
            (odd, "text_control_chars", NOTED, "names that hold control characters"),
        ):
            if count:
                job.note("StringIds", (code, effect, message), count)
        texts |= {number: _missing_name(number) for number in absent}
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
        if not rows or rows[0][0] is None:
            self._missing.add(number)
        return text_of(rows[0][0]) if rows else _missing_name(number)

    def _decode(self, raw: bytes) -> str:
        return raw.decode("utf-8", "replace")


def _missing_name(number: int) -> str:
    return f"(name {number} is missing)"


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
STREAMED = tuple(_BECOMES)
_ON_DEVICE = tuple(
    f"CUPTI_ACTIVITY_KIND_{t}" for t in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE")
)
