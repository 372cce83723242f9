"""Where events happened: the processes, threads and devices that the rows of an export name."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pyarrow as pa

from collectors.nsys import tables
from collectors.nsys.gpus import GPU_FACTS, MAX_DEVICE, gpu_facts, physical_gpus
from collectors.nsys.tally import REPAIRED, Note
from collectors.schema import NOT_RECORDED, Array
from collectors.sqlite_file import SqliteFile, text_of
from collectors.trace import TraceWriter

PROCESS_SHIFT = 24  # a global thread number is machine, process and 24 bits of thread
NUMBER_MASK = 0xFFFFFF


class NsysPlaces:
    """The places that rows named so far.

    Attributes:
        processes: Keys of processes.
        threads: Global thread numbers.
        devices: Pairs of process key and CUDA number.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self.processes: set[int] = set()
        self.threads: set[int] = set()
        self.devices: set[tuple[int, int]] = set()

    @functools.cached_property
    def only_process(self) -> int:
        """The process of all API calls, for rows that name none; -1 when there are several."""
        return next(iter(self.processes)) if len(self.processes) == 1 else NOT_RECORDED

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
        devices: dict[int, set[int]] = {}
        for table in tables.ON_DEVICE:
            if not self._file.has(table, "deviceId"):
                continue
            pid = "globalPid" if self._file.has(table, "globalPid") else "NULL"
            sql = f"SELECT DISTINCT {pid}, deviceId FROM {table} WHERE deviceId BETWEEN 0 AND ?"
            for global_pid, device in self._file.rows(sql, MAX_DEVICE):
                if isinstance(device, int):
                    key = self.only_process
                    if isinstance(global_pid, int):
                        key = process_of_one(global_pid)
                    devices.setdefault(key, set()).add(device)
        return devices

    def _devices_listed(self, process: int) -> set[int]:
        """Return the devices of the process that the export describes."""
        described = {d for pid, d in physical_gpus(self._file) if pid == process & NUMBER_MASK}
        if described:
            return described
        facts, _ = gpu_facts(self._file)
        by_cuda = {number for key, number in facts if key == "cuda"}
        by_id = {number for key, number in facts if key == "id"}
        return by_cuda or by_id

    def write(self, writer: TraceWriter, note: Note) -> None:
        """Write the tables of processes, threads and devices."""
        self._write_processes(writer)
        self._write_threads(writer)
        self._write_devices(writer, note)

    def _write_processes(self, writer: TraceWriter) -> None:
        names: dict[int, str] = {}
        if self._file.has("PROCESSES", "globalPid", "name"):
            sql = "SELECT globalPid, substr(name, 1, 200) FROM PROCESSES"
            for key, name in self._file.rows(sql):
                if isinstance(key, int):
                    names[process_of_one(key)] = text_of(name)
        keys = sorted(self.processes)
        writer.write(
            "processes",
            {
                "process": np.array(keys, dtype=np.int64),
                "pid": np.array([k & NUMBER_MASK for k in keys], dtype=np.int64),
                "name": pa.array([names.get(k, "") for k in keys], pa.string()),
            },
        )

    def _write_threads(self, writer: TraceWriter) -> None:
        names: dict[int, str] = {}
        if self._file.has("ThreadNames", "globalTid", "nameId"):
            # The program's own name for a thread beats the system's: it has the higher priority.
            order = "priority" if self._file.has("ThreadNames", "priority") else "globalTid"
            sql = (
                "SELECT t.globalTid, substr(s.value, 1, 200) FROM ThreadNames AS t "
                f"JOIN StringIds AS s ON s.id = t.nameId ORDER BY t.{order}"
            )
            names = {int(str(k)): text_of(v) for k, v in self._file.rows(sql) if isinstance(k, int)}
        keys = sorted(self.threads)
        writer.write(
            "threads",
            {
                "thread": np.array(keys, dtype=np.int64),
                "process": np.array([process_of_one(k) for k in keys], dtype=np.int64),
                "tid": np.array([k & NUMBER_MASK for k in keys], dtype=np.int64),
                "name": pa.array([names.get(k, "") for k in keys], pa.string()),
            },
        )

    def _write_devices(self, writer: TraceWriter, note: Note) -> None:
        physical = physical_gpus(self._file)
        facts, invalid = gpu_facts(self._file)
        if invalid:
            message = "facts about a GPU that are no plausible number; they count as not recorded"
            note("TARGET_INFO_GPU", ("gpu_info_invalid", REPAIRED, message), invalid)
        # An export without the map that lists one GPU leaves no other that they could share.
        is_mapped = self._file.has("TARGET_INFO_CUDA_DEVICE")
        otherwise = 0 if not is_mapped and ("only", 0) in facts else NOT_RECORDED
        rows = []
        for process, device in sorted(self.devices):
            fallback = otherwise if device == 0 else NOT_RECORDED
            gpu = physical.get((process & NUMBER_MASK, device), fallback)
            row = facts.get(("id", gpu)) or facts.get(("cuda", device)) or facts.get(("only", 0))
            row = row or facts.get(("id", device)) or {}
            rows.append({"process": process, "device": device, "physical": gpu, **row})
        names = [str(r.pop("name", "")) for r in rows]
        columns = ["process", "device", "physical", *GPU_FACTS]
        writer.write(
            "devices",
            {c: np.array([r.get(c, NOT_RECORDED) for r in rows], dtype=np.int64) for c in columns}
            | {"name": pa.array(names, pa.string())},
        )


def process_of(ids: Array) -> Array:
    """Return the process keys of global process or thread numbers; they use all 64 bits."""
    keys: Array = (ids.astype(np.uint64) >> np.uint64(PROCESS_SHIFT)).astype(np.int64)
    return keys


def process_of_one(number: int) -> int:
    """Return the process key of one global process or thread number."""
    return (number % (1 << 64)) >> PROCESS_SHIFT
