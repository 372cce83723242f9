"""What CUDA did, from the tables of CUPTI: calls, kernels, copies, memsets, graphs and waits."""

from __future__ import annotations

import re

import numpy as np

from collectors.nsys import tables
from collectors.nsys.callers import CallersOfCalls
from collectors.nsys.ingest import NsysIngest
from collectors.nsys.places import process_of
from collectors.nsys.rows import NsysRows
from collectors.nsys.tally import NOTED, REPAIRED
from collectors.schema import NOT_RECORDED, Array, MemoryKind
from collectors.sqlite_file import SqliteFile, integers

BACKTRACE_CLASS = 67  # --cudabacktrace writes a second row of each call, marked by this class
DEVICE_COLUMNS = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid")
# 'cudaLaunchKernel_v7000', 'cudaMemcpyAsync_ptsz_v7000' and 'cuMemcpyHtoD_v2_ptds' are one
# function each in every version of CUDA; the suffix names the version of the interface.
_VERSION_SUFFIX = re.compile(r"(?:_v\d+)?(?:_(?:ptsz|ptds))?(?:_v\d+)?$")


def read_api_calls(ingest: NsysIngest) -> None:
    """Read calls of the CUDA runtime and driver."""
    columns = ("start", "end", "globalTid", "correlationId", "nameId", "eventClass", "returnValue")
    twins, callers = _Twins(ingest.file), CallersOfCalls(ingest)
    for rows in ingest.stream(tables.RUNTIME, columns):
        rows.drop(
            twins.among(rows),
            "api_backtrace_duplicate",
            "second rows of calls recorded with --cudabacktrace",
        )
        rows.drop_bad_spans("api")
        rows.drop_threadless("api")
        rows.note(
            rows["nameId"] == NOT_RECORDED, "string_missing", REPAIRED, "calls without a name"
        )
        rows.write(
            "api_calls",
            correlation_id=rows["correlationId"],
            name_id=ingest.names.canonical(rows["nameId"], _plain_function),
            status=rows.small("returnValue"),
            caller_id=callers.among(rows),
            **rows.span(),
            **rows.on_thread(),
        )


class _Twins:
    """Tells rows that repeat a call because its backtrace was recorded from calls of their own."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._calls: dict[int, Array] | None = None

    def among(self, rows: NsysRows) -> Array:
        """Return which rows repeat a call that another row of the table records in full."""
        result: Array = rows["eventClass"] == BACKTRACE_CLASS
        if result.any():
            calls = self._all_calls()
            process, call = process_of(rows["globalTid"]), rows["correlationId"]
            for key in np.unique(process[result]).tolist():
                of_process = result & (process == key)
                result[of_process] = np.isin(call[of_process], calls.get(key, ()))
        return result

    def _all_calls(self) -> dict[int, Array]:
        """Return the correlation ids of the rows of all other classes, by process."""
        if self._calls is None:
            pieces = []
            for columns in self._file.batches(
                tables.RUNTIME, ("globalTid", "correlationId", "eventClass")
            ):
                thread, call, kind = (integers(c) for c in columns.values())
                other = kind != BACKTRACE_CLASS
                pieces.append((process_of(thread[other]), call[other]))
            process, call = (np.concatenate(p) for p in zip(*pieces, strict=True))
            self._calls = {k: call[process == k] for k in np.unique(process).tolist()}
        return self._calls


def _plain_function(name: str) -> str:
    return _VERSION_SUFFIX.sub("", name)


_SHAPE = {  # limits of CUDA, or well beyond them where they grow with the hardware
    **{"gridX": (1, (1 << 31) - 1), "gridY": (1, 1 << 16), "gridZ": (1, 1 << 16)},
    **dict.fromkeys(("blockX", "blockY", "blockZ"), (1, 1 << 12)),
    "registersPerThread": (0, 1 << 12),
    **dict.fromkeys(("staticSharedMemory", "dynamicSharedMemory"), (0, 1 << 26)),
}
_SHAPE_COLUMNS = (
    *("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z"),
    *("registers_per_thread", "static_shared_bytes", "dynamic_shared_bytes"),
)


def read_kernels(ingest: NsysIngest) -> None:
    """Read launches of kernels."""
    columns = (
        *DEVICE_COLUMNS,
        *("demangledName", "shortName", "graphNodeId"),
        *_SHAPE,
    )
    for rows in ingest.stream(tables.KERNEL, columns):
        rows.drop_bad_spans("kernel")
        rows.drop_unplaced("kernel")
        instant = rows["start"] == rows["end"]
        rows.note(instant, "kernel_zero_duration", NOTED, "kernels that took no time")
        short, full = rows["shortName"], rows["demangledName"]
        shape = rows.within(_SHAPE, "launch_geometry_invalid", "launches of an impossible shape")
        rows.write(
            "kernels",
            name_id=ingest.names.use(np.where(full == NOT_RECORDED, short, full)),
            short_name_id=ingest.names.use(np.where(short == NOT_RECORDED, full, short)),
            **dict(zip(_SHAPE_COLUMNS, shape, strict=True)),
            graph_node=_positive(rows["graphNodeId"]),
            **rows.span(),
            **rows.on_device(),
        )


def _positive(ids: Array) -> Array:
    # A kernel outside graphs has NULL or 0 here, depending on the version.
    return np.where(ids > 0, ids, NOT_RECORDED)


def read_copies(ingest: NsysIngest) -> None:
    """Read copies between memories."""
    columns = ("copyKind", "srcKind", "dstKind", "bytes", "migrationCause", "graphNodeId")
    kinds = memory_kinds(ingest.file)
    for rows in ingest.stream(tables.MEMCPY, (*DEVICE_COLUMNS, *columns)):
        rows.drop_bad_spans("memcpy")
        rows.drop_unplaced("memcpy")
        rows.drop_bad_sizes("memcpy")
        rows.write(
            "copies",
            kind=rows.tiny("copyKind"),
            source_kind=_translated(rows.tiny("srcKind"), kinds),
            destination_kind=_translated(rows.tiny("dstKind"), kinds),
            bytes=rows["bytes"],
            migration_cause=rows.tiny("migrationCause"),
            graph_node=_positive(rows["graphNodeId"]),
            **rows.span(),
            **rows.on_device(),
        )


def memory_kinds(file: SqliteFile) -> dict[int, MemoryKind]:
    """Return MemoryKind by the file's own number; peers that assumed it took pinned for pageable.

    Exports before 3.0 have no such table; CUPTI's numbers, which ours equal, hold there.
    """
    if not file.has("ENUM_CUDA_MEM_KIND", "id", "name"):
        return {}
    kinds = {kind.name: kind for kind in MemoryKind}
    kind_by_number = {}
    for number, name in file.rows("SELECT id, name FROM ENUM_CUDA_MEM_KIND"):
        kind = kinds.get(str(name).rpartition("MEMORY_KIND_")[2])
        if isinstance(number, int) and kind is not None:
            kind_by_number[number] = kind
    return kind_by_number


def _translated(kinds: Array, table: dict[int, MemoryKind]) -> Array:
    translated = kinds.copy()
    for number, kind in table.items():
        translated[kinds == number] = kind
    return translated


def read_memsets(ingest: NsysIngest) -> None:
    """Read memsets."""
    kinds = memory_kinds(ingest.file)
    for rows in ingest.stream(tables.MEMSET, (*DEVICE_COLUMNS, "bytes", "memKind", "graphNodeId")):
        rows.drop_bad_spans("memset")
        rows.drop_unplaced("memset")
        rows.drop_bad_sizes("memset")
        rows.write(
            "memsets",
            bytes=rows["bytes"],
            memory_kind=_translated(rows.tiny("memKind"), kinds),
            graph_node=_positive(rows["graphNodeId"]),
            **rows.span(),
            **rows.on_device(),
        )


def read_graph_launches(ingest: NsysIngest) -> None:
    """Read launches of whole CUDA graphs."""
    for rows in ingest.stream(tables.GRAPH_TRACE, (*DEVICE_COLUMNS, "graphId", "graphExecId")):
        rows.drop_bad_spans("graph")
        rows.drop_unplaced("graph")
        rows.write(
            "graph_launches",
            graph=rows["graphId"],
            graph_exec=rows["graphExecId"],
            **rows.span(),
            **rows.on_device(),
        )


def read_graph_nodes(ingest: NsysIngest) -> None:
    """Read when and where the nodes of CUDA graphs were made."""
    for table in ("CUDA_GRAPH_EVENTS", "CUDA_GRAPH_NODE_EVENTS"):
        columns = ("start", "end", "globalTid", "graphNodeId", "originalGraphNodeId")
        for rows in ingest.stream(table, columns):
            rows.drop_bad_spans("graph_node")
            rows.drop_threadless("graph_node")
            rows.write(
                "graph_nodes",
                graph_node=rows["graphNodeId"],
                original_node=_positive(rows["originalGraphNodeId"]),
                **rows.span(),
                **rows.on_thread(),
            )


def read_syncs(ingest: NsysIngest) -> None:
    """Read waits of the host for the device."""
    for rows in ingest.stream(tables.SYNCHRONIZATION, (*DEVICE_COLUMNS, "syncType")):
        rows.drop_bad_spans("sync")
        rows.write("syncs", sync_type=rows.small("syncType"), **rows.span(), **rows.about_device())


def read_page_faults(ingest: NsysIngest) -> None:
    """Read page faults of managed memory, of the GPU and of the CPU."""
    gpu = ("start", "end", "globalPid", "deviceId", "numberOfPageFaults")
    for rows in ingest.stream("CUDA_UM_GPU_PAGE_FAULT_EVENTS", gpu):
        rows.drop_bad_spans("fault")
        rows.write(
            "page_faults",
            process=ingest.places.processes_of(rows["globalPid"]),
            device=rows.small("deviceId"),
            count=rows["numberOfPageFaults"],
            **rows.span(),
        )
    cpu = ("start", "globalPid", "CpuInstruction")  # the name of the function
    for rows in ingest.stream("CUDA_UM_CPU_PAGE_FAULT_EVENTS", cpu):
        rows.drop_bad_times("fault")
        rows.write(
            "page_faults",
            start_ns=rows["start"],
            end_ns=rows["start"],
            process=ingest.places.processes_of(rows["globalPid"]),
            count=np.ones(len(rows), np.int64),
            name_id=ingest.names.use(rows["CpuInstruction"]),
        )
