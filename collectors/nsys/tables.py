"""Names of the tables of an export, and of the tables of a trace that each becomes."""

from __future__ import annotations

import re

from collectors.errors import RefusedError
from collectors.sqlite_file import SqliteFile

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
MEMCPY = "CUPTI_ACTIVITY_KIND_MEMCPY"
MEMSET = "CUPTI_ACTIVITY_KIND_MEMSET"
GRAPH_TRACE = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
RUNTIME = "CUPTI_ACTIVITY_KIND_RUNTIME"
SYNCHRONIZATION = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"

DESCRIBED_BY = ("TARGET_INFO_SYSTEM_ENV", "TARGET_INFO_SESSION_START_TIME", "TARGET_INFO_GPU")

BECOMES = {  # table of the export: tables of the trace
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
STREAMED = tuple(BECOMES)

ON_DEVICE = tuple(f"CUPTI_ACTIVITY_KIND_{t}" for t in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE"))

LIBRARIES = (  # tables of what host threads did in a library, and the domain that it becomes
    (re.compile(r"MPI_(?:P2P|COLLECTIVES|START_WAIT|OTHER)_EVENTS"), "MPI"),
    (re.compile(r"UC[PX]_(?:\w+_)?EVENTS"), "UCX"),
    (re.compile(r"CUPTI_ACTIVITY_KIND_OPENACC_\w+"), "OpenACC"),
    (re.compile(r"OPENMP_EVENT_KIND_\w+"), "OpenMP"),
)
_ON_HOST = {"start", "end", "globalTid"}

NEEDED = {  # columns by which a table is told that an export writes under another name
    KERNEL: {"start", "end", "deviceId", "streamId", "shortName", "gridX", "blockX"},
    MEMCPY: {"start", "end", "deviceId", "copyKind", "bytes"},
    MEMSET: {"start", "end", "deviceId", "bytes"},
    GRAPH_TRACE: {"start", "end", "deviceId", "graphId"},
    RUNTIME: {"start", "end", "globalTid", "nameId", "correlationId"},
    SYNCHRONIZATION: {"start", "end", "syncType"},
    "NVTX_EVENTS": {"start", "end", "eventType", "globalTid"},
    "OSRT_API": {"start", "end", "globalTid", "nameId"},
}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,80}")
_SUFFIX = re.compile(r"_?[A-Za-z0-9]{1,16}")


def of_libraries(file: SqliteFile) -> dict[str, str]:
    """Return the tables of what host threads did in libraries, with the domain of each."""
    return {
        table: domain
        for table, columns in file.tables.items()
        for pattern, domain in LIBRARIES
        if pattern.fullmatch(table) and set(columns) >= _ON_HOST
    }


def adopt_renamed(file: SqliteFile) -> list[str]:
    """Read tables with another ending by their columns, where the usual one is absent or empty.

    Returns:
        The names of these tables in the file.

    Raises:
        RefusedError: GPU work is in such a table, but its columns are not those of its kind.
    """
    adopted = []
    for name, needed in NEEDED.items():
        if file.row_numbers(name):
            continue
        others = [t for t in file.tables if _is_renamed(t, name) and file.row_numbers(t)]
        fitting = [t for t in others if needed <= set(file.tables[t])]
        if name == KERNEL and not others:
            read = {*STREAMED, *of_libraries(file)}
            unread = [t for t in file.tables if t not in read and _PLAIN.fullmatch(t)]
            fitting = [t for t in unread if needed <= set(file.tables[t])]
        if len(fitting) == 1:
            file.adopt(fitting[0], name)
            adopted.append(fitting[0])
        elif others and name in ON_DEVICE:
            raise RefusedError(
                f"{file.name}: its GPU work is in the table {others[0][:60]}, whose layout is not "
                "known. Export the report with another version: nsys export --type sqlite "
                "REPORT.nsys-rep"
            )
    return adopted


def _is_renamed(table: str, name: str) -> bool:
    is_ours = table in STREAMED or not table.startswith(name)
    return not is_ours and _SUFFIX.fullmatch(table[len(name) :]) is not None
