"""The tables and columns of Nsight Systems' SQLite exports, in four generations of the layout.

They differ in the tables and columns that a reader meets:

========  ==========================  ======================================================
name      exports from about          what is particular
========  ==========================  ======================================================
2020.5    2020.5 to 2021.3            no table of metadata, processes or details; old GPU table
2.9.1     2022.2                      ``EXPORT_META_DATA``; no ``ENUM_*`` tables
3.13      2024.5                      ``META_DATA_EXPORT``, green contexts, ``DIAGNOSTIC_EVENT``
3.25      2026.2                      clusters, graph numbers, a text column among the kernels'
========  ==========================  ======================================================
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

GENERATIONS = ("2020.5", "2.9.1", "3.13", "3.25")

RUNTIME_API, DRIVER_API, OS_RUNTIME = 0, 1, 27  # classes of events
PUSH_POP, START_END, MARK, CATEGORY, DOMAIN = 59, 60, 34, 33, 75  # types of NVTX events
NO_STREAM = 4_294_967_295  # a wait for the whole context has no stream

# One line a table: the columns in the format's order. '!' not null, ':' another type than
# integer, '>=' the first and '<' the first later generation without it.
_LAYOUT: dict[str, str] = {
    "StringIds": "id:key value:text!",
    "EXPORT_META_DATA>=2.9.1<3.13": "name:text! value:text",
    "META_DATA_EXPORT>=3.13": "name:text! value:text",
    "META_DATA_CAPTURE>=3.13": "name:text! value:text",
    "TARGET_INFO_SESSION_START_TIME": (
        "utcEpochNs utcTime:text localTime:text systemClockNs>=3.25"
    ),
    "ANALYSIS_DETAILS>=2.9.1": "globalVid! duration! startTime! stopTime!",
    "PROCESSES>=2.9.1": "globalPid pid name:text",
    "ThreadNames": "nameId! priority globalTid",
    "TARGET_INFO_CUDA_GPU<2.9.1": (
        "deviceId! name:text globalMemoryBandwidth globalMemorySize constantMemorySize l2CacheSize"
        " numThreadsPerWarp coreClockRate numMemcpyEngines numMultiprocessors maxIPC"
        " maxWarpsPerMultiprocessor maxBlocksPerMultiprocessor maxSharedMemoryPerMultiprocessor"
        " maxRegistersPerMultiprocessor maxThreadsPerBlock computeCapabilityMajor"
        " computeCapabilityMinor"
    ),
    "TARGET_INFO_GPU": (
        "vmId! id! name:text busLocation:text isDiscrete l2CacheSize>=2.9.1 totalMemory>=2.9.1"
        " memoryBandwidth>=2.9.1 clockRate>=2.9.1 smCount>=2.9.1 pwGpuId>=2.9.1 uuid:text>=2.9.1"
        " luid>=2.9.1 chipName:text>=2.9.1 cuDevice>=2.9.1 ctxswDevPath:text>=2.9.1"
        " ctrlDevPath:text>=2.9.1 revision>=2.9.1 nodeMask>=2.9.1 constantMemory>=2.9.1"
        " maxIPC>=2.9.1 maxRegistersPerBlock>=2.9.1 maxShmemPerBlock>=2.9.1"
        " maxShmemPerBlockOptin>=2.9.1 maxShmemPerSm>=2.9.1 maxRegistersPerSm>=2.9.1"
        " threadsPerWarp>=2.9.1 asyncEngines>=2.9.1 maxWarpsPerSm>=2.9.1 maxBlocksPerSm>=2.9.1"
        " maxThreadsPerBlock>=2.9.1 maxBlockDimX>=2.9.1 maxBlockDimY>=2.9.1 maxBlockDimZ>=2.9.1"
        " maxGridDimX>=2.9.1 maxGridDimY>=2.9.1 maxGridDimZ>=2.9.1 computeMajor>=2.9.1"
        " computeMinor>=2.9.1 smMajor>=2.9.1 smMinor>=2.9.1"
    ),
    "TARGET_INFO_CUDA_DEVICE>=3.25": "gpuId cudaId! pid! uuid:text numMultiprocessors",
    "TARGET_INFO_CUDA_STREAM": "streamId! hwId! vmId! processId! contextId! priority! flag!",
    "CUPTI_ACTIVITY_KIND_KERNEL": (
        "start! end! deviceId! contextId! greenContextId>=3.13 streamId! correlationId globalPid"
        " demangledName! shortName! mangledName>=2.9.1 launchType cacheConfig registersPerThread!"
        " gridX! gridY! gridZ! blockX! blockY! blockZ! staticSharedMemory! dynamicSharedMemory!"
        " localMemoryPerThread! localMemoryTotal! gridId! sharedMemoryExecuted graphNodeId"
        " sharedMemoryLimitConfig qmdBulkReleaseDone>=3.25 qmdPreexitDone>=3.25"
        " qmdLastCtaDone>=3.25 graphId>=3.25 clusterX>=3.25 clusterY>=3.25 clusterZ>=3.25"
        " clusterSchedulingPolicy>=3.25 maxPotentialClusterSize>=3.25 maxActiveClusters>=3.25"
        " sharedMemoryRequestedPercentage>=3.25 tensorSizeMinusOneElements:text!>=3.25"
    ),
    "CUPTI_ACTIVITY_KIND_MEMCPY": (
        "start! end! deviceId! contextId! greenContextId>=3.13 streamId! correlationId globalPid"
        " bytes! copyKind! deprecatedSrcId srcKind dstKind srcDeviceId srcContextId dstDeviceId"
        " dstContextId migrationCause graphNodeId virtualAddress>=2.9.1 copyCount>=3.25"
    ),
    "CUPTI_ACTIVITY_KIND_MEMSET": (
        "start! end! deviceId! contextId! greenContextId>=3.13 streamId! correlationId globalPid"
        " value! bytes! graphNodeId memKind"
    ),
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": (
        "start! end! deviceId! contextId! greenContextId>=3.13 streamId! correlationId globalPid"
        " graphId! graphExecId!"
    ),
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": (
        "start! end! deviceId! contextId! greenContextId>=3.13 streamId! correlationId globalPid"
        " deprecatedSyncType>=3.25 syncType! eventId! eventSyncId>=3.25"
    ),
    "CUPTI_ACTIVITY_KIND_RUNTIME": (
        "start! end! eventClass! globalTid correlationId nameId! returnValue! callchainId"
    ),
    "NVTX_EVENTS": (
        "start! end eventType! rangeId category color text:text globalTid endGlobalTid textId"
        " domainId uint64Value int64Value doubleValue:real uint32Value int32Value"
        " floatValue:real jsonTextId>=2.9.1 jsonText:text>=2.9.1 binaryData:text>=3.25"
    ),
    "OSRT_API": "start! end! eventClass! globalTid nameId! returnValue! nestingLevel callchainId!",
    "CUDA_UM_CPU_PAGE_FAULT_EVENTS": (
        "start! globalPid! address! originalFaultPc CpuInstruction! module! unresolvedFaultPc"
    ),
    "CUDA_UM_GPU_PAGE_FAULT_EVENTS": (
        "start! end! globalPid! deviceId! address! numberOfPageFaults! faultAccessType!"
    ),
    "PROFILER_OVERHEAD": (
        "start! end! globalTid correlationId<2.9.1 nameId! returnValue!<3.25 overheadType!>=3.25"
    ),
    "DIAGNOSTIC_EVENT>=3.13": ("timestamp! timestampType! source! severity! text:text! globalPid"),
    "TARGET_INFO_GPU_METRICS": "typeId! sourceId! typeName:text! metricId! metricName:text!",
    "GPU_METRICS": "timestamp typeId! metricId! value!",
}

# Numbers and labels of the format that a reader may look up; older layouts have no such tables.
ENUMS: dict[str, dict[int, str]] = {
    "ENUM_NSYS_EVENT_CLASS": {
        0: "TRACE_PROCESS_EVENT_CUDA_RUNTIME",
        1: "TRACE_PROCESS_EVENT_CUDA_DRIVER",
        27: "TRACE_PROCESS_EVENT_OS_RUNTIME",
        67: "TRACE_PROCESS_EVENT_CUDABACKTRACE",
    },
    "ENUM_NSYS_EVENT_TYPE": {
        33: "NvtxCategory",
        34: "NvtxMark",
        59: "NvtxPushPopRange",
        60: "NvtxStartEndRange",
        75: "NvtxDomainCreate",
    },
    "ENUM_CUDA_MEMCPY_OPER": {
        1: "CUDA_MEMCPY_KIND_HTOD",
        2: "CUDA_MEMCPY_KIND_DTOH",
        8: "CUDA_MEMCPY_KIND_DTOD",
        10: "CUDA_MEMCPY_KIND_PTOP",
        11: "CUDA_MEMCPY_KIND_UVM_HTOD",
        12: "CUDA_MEMCPY_KIND_UVM_DTOH",
    },
    "ENUM_CUDA_MEM_KIND": {
        0: "CUDA_MEMOPR_MEMORY_KIND_PAGEABLE",
        1: "CUDA_MEMOPR_MEMORY_KIND_PINNED",
        2: "CUDA_MEMOPR_MEMORY_KIND_DEVICE",
        3: "CUDA_MEMOPR_MEMORY_KIND_ARRAY",
        4: "CUDA_MEMOPR_MEMORY_KIND_MANAGED",
        5: "CUDA_MEMOPR_MEMORY_KIND_DEVICE_STATIC",
        6: "CUDA_MEMOPR_MEMORY_KIND_MANAGED_STATIC",
        7: "CUDA_MEMOPR_MEMORY_KIND_UNKNOWN",
    },
    "ENUM_CUPTI_SYNC_TYPE": {
        0: "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_UNKNOWN",
        1: "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_EVENT_SYNCHRONIZE",
        2: "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_WAIT_EVENT",
        3: "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_SYNCHRONIZE",
        4: "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_CONTEXT_SYNCHRONIZE",
    },
    "ENUM_DIAGNOSTIC_SEVERITY_LEVEL": {1: "Info", 2: "Warning", 3: "Error"},
}

# The number written for a wait is not the one of ENUM_CUPTI_SYNC_TYPE in most versions. Those of
# event and stream waits in 3.13 are unseen; they are taken to be shifted as the seen ones are.
SYNC_TYPES = {
    "2020.5": {"device": 1, "event": 2, "wait": 3, "stream": 3},
    "2.9.1": {"device": 1, "event": 2, "wait": 3, "stream": 3},
    "3.13": {"device": 0, "event": 1, "wait": 2, "stream": 2},
    "3.25": {"device": 4, "event": 1, "wait": 2, "stream": 3},
}

DEFAULTS: dict[str, dict[str, object]] = {
    "CUPTI_ACTIVITY_KIND_KERNEL": {
        "launchType": 1,
        "cacheConfig": 1,
        "registersPerThread": 32,
        **dict.fromkeys(("gridY", "gridZ", "blockY", "blockZ"), 1),
        **{"gridX": 1056, "blockX": 256, "gridId": 0},
        **dict.fromkeys(("staticSharedMemory", "dynamicSharedMemory"), 0),
        **dict.fromkeys(("localMemoryPerThread", "localMemoryTotal"), 0),
        **{"sharedMemoryExecuted": 32_768, "sharedMemoryLimitConfig": 0},
        **dict.fromkeys(("clusterX", "clusterY", "clusterZ"), 0),
        "tensorSizeMinusOneElements": "[]",
    },
    "CUPTI_ACTIVITY_KIND_MEMCPY": {"copyCount": 1},
    "CUPTI_ACTIVITY_KIND_MEMSET": {"value": 0, "memKind": 2},
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": {"eventId": NO_STREAM},
    "CUPTI_ACTIVITY_KIND_RUNTIME": {"returnValue": 0},
    "OSRT_API": {"eventClass": OS_RUNTIME, "returnValue": 0, "nestingLevel": 0, "callchainId": 0},
    "PROFILER_OVERHEAD": {"returnValue": 0, "overheadType": 0},
    "NVTX_EVENTS": {"eventType": PUSH_POP, "domainId": 0},
}


@dataclass(frozen=True)
class Column:
    """A column of a table, and its type and constraints in SQL."""

    name: str
    declaration: str


def layout(generation: str) -> dict[str, list[Column]]:
    """Return the tables of ``generation`` with their columns, in the format's order.

    Raises:
        ValueError: ``generation`` is none of ``GENERATIONS``.
    """
    if generation not in GENERATIONS:
        raise ValueError(f"generation {generation}: give one of {', '.join(GENERATIONS)}")
    now = GENERATIONS.index(generation)
    tables = {}
    for line, columns in _LAYOUT.items():
        table = _in_generation(line, now)
        if table:
            present = (_in_generation(c, now) for c in columns.split())
            tables[table] = [_column(c) for c in present if c]
    return tables


def _in_generation(item: str, now: int) -> str:
    """Return ``item`` without its limits, empty when generation number ``now`` lacks it."""
    match = re.fullmatch(r"(?P<item>.*?)(?:>=(?P<first>[\d.]+))?(?:<(?P<end>[\d.]+))?", item)
    if match is None:
        raise ValueError(item)
    first, end = match["first"], match["end"]
    if (first and now < GENERATIONS.index(first)) or (end and now >= GENERATIONS.index(end)):
        return ""
    return match["item"]


def _column(item: str) -> Column:
    name, _, kind = item.rstrip("!").partition(":")
    kinds = {"": "INTEGER", "text": "TEXT", "real": "REAL", "key": "INTEGER NOT NULL PRIMARY KEY"}
    return Column(name, kinds[kind] + (" NOT NULL" if item.endswith("!") else ""))


@functools.cache
def _known_columns() -> dict[str, set[str]]:
    columns_of: dict[str, set[str]] = {}
    for generation in GENERATIONS:
        for table, columns in layout(generation).items():
            columns_of.setdefault(table, set()).update(c.name for c in columns)
    return columns_of


def check_names(table: str, columns: Mapping[str, object]) -> None:
    """Refuse columns that no generation of a table has.

    Raises:
        KeyError: There is no such table or column.
    """
    unknown = set(columns) - _known_columns()[table]
    if unknown:
        raise KeyError(f"{table} has no column {sorted(unknown)}")
