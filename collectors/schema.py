"""The tables of a trace: their columns, types and meaning, the same for every tool."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, Any]


NOT_RECORDED = -1  # no id, count or size of a recording is negative


class CopyKind(enum.IntEnum):
    """Direction of a copy, as CUPTI numbers it."""

    HOST_TO_DEVICE = 1
    DEVICE_TO_HOST = 2
    HOST_TO_ARRAY = 3
    ARRAY_TO_HOST = 4
    ARRAY_TO_ARRAY = 5
    ARRAY_TO_DEVICE = 6
    DEVICE_TO_ARRAY = 7
    DEVICE_TO_DEVICE = 8
    HOST_TO_HOST = 9
    PEER_TO_PEER = 10
    MANAGED_HOST_TO_DEVICE = 11
    MANAGED_DEVICE_TO_HOST = 12
    MANAGED_DEVICE_TO_DEVICE = 13


MANAGED_COPIES = (
    CopyKind.MANAGED_HOST_TO_DEVICE,
    CopyKind.MANAGED_DEVICE_TO_HOST,
    CopyKind.MANAGED_DEVICE_TO_DEVICE,
)


class MigrationCause(enum.IntEnum):
    """Why unified memory moved, as CUPTI numbers it."""

    UNKNOWN = 0
    USER_PREFETCH = 1
    PAGE_FAULT = 2
    SPECULATIVE_PREFETCH = 3
    EVICTION = 4
    ACCESS_COUNTERS = 5


class RuleKind(enum.IntEnum):
    """What a stored result of one of the profiler's own rules is, as its reports number it."""

    NOTHING = 0
    FINE = 1
    WARNING = 2
    ERROR = 3
    OPTIMIZATION = 4


class SpeedupScope(enum.IntEnum):
    """What an estimated speed-up is a part of, as reports of Nsight Compute number it."""

    UNKNOWN = 0
    LOCAL = 1  # of what the rule looks at, as issue slots
    GLOBAL = 2  # of the kernel's time


class MemoryKind(enum.IntEnum):
    """Kind of memory at one end of a copy; collectors translate the tool's own numbers."""

    PAGEABLE = 0
    PINNED = 1
    DEVICE = 2
    ARRAY = 3
    MANAGED = 4
    DEVICE_STATIC = 5
    MANAGED_STATIC = 6
    UNKNOWN = 7


class RangeKind(enum.IntEnum):
    """How an NVTX range was made."""

    PUSH_POP = 0
    START_END = 1


class ProfiledKind(enum.IntEnum):
    """What the counters of one profiled result belong to."""

    KERNEL = 0
    RANGE = 1


class OperatorKind(enum.IntEnum):
    """What an operator is."""

    FRAMEWORK = 0  # such as aten::add
    PYTHON = 1  # a Python function or module


class Column(NamedTuple):
    """One column: name, Arrow type, meaning. A name's ending is its unit."""

    name: str
    type: pa.DataType
    meaning: str


_I64, _I32, _I8, _F64, _BOOL, _STR = (
    pa.int64(),
    pa.int32(),
    pa.int8(),
    pa.float64(),
    pa.bool_(),
    pa.string(),
)


_SPAN = (
    Column("start_ns", _I64, "begin"),
    Column("end_ns", _I64, "end, never before the begin"),
)


_ON_DEVICE = (
    *_SPAN,
    Column("process", _I64, "process key; `processes` has its pid and name"),
    Column("device", _I32, "CUDA device number, as this process counts"),
    Column("stream", _I64, "CUDA stream number, as this process counts"),
    Column("correlation_id", _I64, "links to the API call of the same process"),
)


_ON_THREAD = (
    *_SPAN,
    Column("process", _I64, "process key"),
    Column("thread", _I64, "thread key; `threads` has its tid and name"),
)


_LAUNCH_SHAPE = (
    Column("grid_x", _I32, "blocks in x"),
    Column("grid_y", _I32, "blocks in y"),
    Column("grid_z", _I32, "blocks in z"),
    Column("block_x", _I32, "threads in x"),
    Column("block_y", _I32, "threads in y"),
    Column("block_z", _I32, "threads in z"),
    Column("registers_per_thread", _I32, "registers allocated to each thread"),
    Column("static_shared_bytes", _I64, "shared memory fixed at compile time, per block"),
    Column("dynamic_shared_bytes", _I64, "shared memory asked for at launch, per block"),
)


_GRAPH_NODE = Column("graph_node", _I64, "CUDA graph node that ran, else -1")


TABLES: dict[str, tuple[Column, ...]] = {
    "kernels": (
        *_ON_DEVICE,
        Column("name_id", _I64, "full (demangled) name"),
        Column("short_name_id", _I64, "name without template arguments and parameters"),
        *_LAUNCH_SHAPE,
        _GRAPH_NODE,
    ),
    "copies": (
        *_ON_DEVICE,
        Column("kind", _I8, "CopyKind"),
        Column("source_kind", _I8, "MemoryKind"),
        Column("destination_kind", _I8, "MemoryKind"),
        Column("bytes", _I64, "bytes moved"),
        Column("migration_cause", _I8, "MigrationCause, of unified memory"),
        _GRAPH_NODE,
    ),
    "memsets": (
        *_ON_DEVICE,
        Column("bytes", _I64, "bytes set"),
        Column("memory_kind", _I8, "MemoryKind"),
        _GRAPH_NODE,
    ),
    "graph_launches": (
        *_ON_DEVICE,
        Column("graph", _I64, "CUDA graph number"),
        Column("graph_exec", _I64, "number of the instantiated graph"),
    ),
    "graph_nodes": (
        *_ON_THREAD,
        Column("graph_node", _I64, "node that was created or cloned"),
        Column("original_node", _I64, "node that it is a clone of, else -1"),
    ),
    "api_calls": (
        *_ON_THREAD,
        Column("correlation_id", _I64, "links to what the call put on a device"),
        Column("name_id", _I64, "function, version suffix stripped"),
        Column("status", _I32, "value returned; 0 is success"),
        Column("caller_id", _I64, "function of the program that made it, else -1"),
    ),
    "syncs": (*_ON_DEVICE, Column("sync_type", _I32, "raw number; its meaning varies by version")),
    "ranges": (
        *_ON_THREAD,
        Column("end_thread", _I64, "thread that ended it when another, else -1"),
        Column("name_id", _I64, "text of the range"),
        Column("domain_id", _I64, "name of its domain, -1 for the default domain"),
        Column("category_id", _I64, "name of its category, else -1"),
        Column("color", _I64, "ARGB, else -1"),
        Column("kind", _I8, "RangeKind"),
        Column("closed", _BOOL, "false: still open when the recording stopped"),
    ),
    "operators": (
        *_ON_THREAD,
        Column("name_id", _I64, "name, such as aten::add"),
        Column("kind", _I8, "OperatorKind"),
        Column("sequence", _I64, "number that a forward operator shares with its backward one"),
        Column("forward_thread", _I64, "number of the thread that ran the forward one, else 0"),
        Column("external_id", _I64, "the recorder's number of the operator"),
        Column("shapes_id", _I64, "shapes of its inputs, as text"),
        Column("types_id", _I64, "types of its inputs, as text"),
        Column("strides_id", _I64, "strides of its inputs, as text"),
        Column("values_id", _I64, "values of its inputs that are numbers, as text"),
        Column("options_id", _I64, "what a generated kernel was built with, such as XBLOCK=2"),
    ),
    "memory_events": (
        Column("time_ns", _I64, "moment"),
        Column("process", _I64, "process key"),
        Column("thread", _I64, "thread key"),
        Column("device", _I32, "device whose memory it is, -1 for the host"),
        Column("address", _I64, "where the block begins"),
        Column("bytes", _I64, "bytes taken, negative when they were given back"),
        Column("allocated_bytes", _I64, "in use afterwards, as the framework counts"),
        Column("reserved_bytes", _I64, "kept from the driver afterwards, in use or not"),
    ),
    "collectives": (
        *_ON_DEVICE,
        Column("name_id", _I64, "collective, such as allreduce"),
        Column("type_id", _I64, "type of an element"),
        Column("group_id", _I64, "name of the group of processes"),
        Column("group_size", _I64, "processes in the group"),
        Column("ranks_id", _I64, "ranks in the group, as text, else -1"),
        Column("sequence", _I64, "number of the collective within its group, else -1"),
        Column("elements_in", _I64, "elements that each process gave"),
        Column("elements_out", _I64, "elements that each process got"),
    ),
    "range_counters": (
        *_SPAN,
        Column("process", _I64, "process key"),
        Column("device", _I32, "CUDA device number, as this process counts"),
        Column("range_id", _I64, "kernel, or range of kernels, that was counted"),
        Column("name_id", _I64, "counter, under the name that the hardware's maker gave it"),
        Column("value", _F64, "count over the range"),
    ),
    "marks": (
        Column("time_ns", _I64, "moment"),
        Column("process", _I64, "process key"),
        Column("thread", _I64, "thread key"),
        Column("name_id", _I64, "text of the mark"),
        Column("domain_id", _I64, "name of its domain, -1 for the default domain"),
    ),
    "os_calls": (*_ON_THREAD, Column("name_id", _I64, "operating-system function")),
    "thread_switches": (
        Column("time_ns", _I64, "moment"),
        Column("process", _I64, "process key"),
        Column("thread", _I64, "thread key"),
        Column("cpu", _I32, "core"),
        Column("is_in", _BOOL, "true: the thread got the core"),
    ),
    "cpu_samples": (
        Column("time_ns", _I64, "moment"),
        Column("process", _I64, "process key"),
        Column("thread", _I64, "thread key"),
        Column("cpu", _I32, "core"),
        Column("symbol_id", _I64, "innermost function on the stack, else -1"),
    ),
    "gpu_metrics": (
        Column("time_ns", _I64, "moment of the sample; may be negative"),
        Column("gpu", _I32, "physical GPU, as the recorder counts"),
        Column("name_id", _I64, "metric"),
        Column("value", _F64, "percent, or Hz for clocks"),
    ),
    "profiled_kernels": (
        Column("number", _I64, "the profiler's own number of it; may repeat"),
        Column("kind", _I8, "ProfiledKind"),
        Column("process", _I64, "process key"),
        Column("device", _I32, "CUDA device number, as this process counts"),
        Column("context", _I64, "CUDA context number"),
        Column("stream", _I64, "CUDA stream number"),
        Column("duration_ns", _I64, "time it ran, alone and under the profiler's clock settings"),
        Column("name_id", _I64, "full (demangled) name"),
        Column("short_name_id", _I64, "name without template arguments and parameters"),
        *_LAUNCH_SHAPE,
    ),
    "counters": (
        Column("profiled", _I64, "row in `profiled_kernels`"),
        Column("name_id", _I64, "metric, under its exact name"),
        Column("value", _F64, "in base units: ns, bytes, Hz, percent …; a text has none"),
        Column("text_id", _I64, "text of a metric that is no number, else -1"),
    ),
    "counter_instances": (
        Column("profiled", _I64, "row in `profiled_kernels`"),
        Column("name_id", _I64, "metric that is made of these parts"),
        Column("place", _I64, "what the part stands for: an address, a unit; -1 when text"),
        Column("place_text_id", _I64, "the same as text, else -1"),
        Column("value", _F64, "in base units"),
    ),
    "rule_results": (
        Column("profiled", _I64, "row in `profiled_kernels`"),
        Column("rule_id", _I64, "rule of the profiler, by its identifier"),
        Column("kind", _I8, "RuleKind"),
        Column("text_id", _I64, "what the rule says, in the profiler's own words"),
        Column("scope", _I8, "SpeedupScope; -1 when the rule estimates none"),
        Column("speedup_pct", _F64, "time that the rule estimates can be saved, else not-a-number"),
    ),
    "page_faults": (
        *_SPAN,
        Column("process", _I64, "process key"),
        Column("device", _I32, "device that faulted, -1 for the host"),
        Column("count", _I64, "faults in the group"),
        Column("name_id", _I64, "host function that touched the page, else -1"),
    ),
    "overheads": (
        *_ON_THREAD,
        Column("name_id", _I64, "what the profiler was doing"),
    ),
    "diagnostics": (
        Column("time_ns", _I64, "moment"),
        Column("severity", _I32, "raw number of the recorder"),
        Column("text", _STR, "message of the recorder"),
    ),
    "devices": (
        Column("process", _I64, "process key"),
        Column("device", _I32, "CUDA device number, as this process counts"),
        Column("physical", _I32, "number of the physical GPU, -1 when the recording is silent"),
        Column("name", _STR, "product name, empty when the recording is silent"),
        Column("sm_count", _I32, "streaming multiprocessors"),
        Column("compute_major", _I32, "compute capability, before the point"),
        Column("compute_minor", _I32, "compute capability, after the point"),
        Column("max_warps_per_sm", _I32, "resident warps"),
        Column("max_blocks_per_sm", _I32, "resident blocks"),
        Column("max_registers_per_sm", _I64, "32-bit registers"),
        Column("max_shared_bytes_per_sm", _I64, "shared memory"),
        Column("memory_bytes", _I64, "device memory"),
        Column("memory_bytes_per_s", _I64, "peak bandwidth of device memory"),
        Column("visible_devices", _I64, "devices of its machine that the process could use"),
    ),
    "processes": (
        Column("process", _I64, "process key"),
        Column("pid", _I64, "operating-system number"),
        Column("name", _STR, "executable"),
    ),
    "threads": (
        Column("thread", _I64, "thread key"),
        Column("process", _I64, "process key"),
        Column("tid", _I64, "operating-system number"),
        Column("name", _STR, "name given by the program, else empty"),
    ),
    "strings": (
        Column("id", _I64, "number that the other tables use"),
        Column("value", _STR, "text"),
    ),
}
"""Every table a trace may hold. The first level of documentation for rule and page authors."""


LAUNCH_SHAPE = tuple(column.name for column in _LAUNCH_SHAPE)
"""Columns of ``kernels`` that tell how one was launched."""


DEVICE_TABLES = ("kernels", "graph_launches", "copies", "memsets")
"""Tables whose rows occupy a device."""


def schema(table: str) -> pa.Schema:
    """Return the Arrow schema of ``table``."""
    return pa.schema([pa.field(c.name, c.type) for c in TABLES[table]])


def check(table: str, columns: Mapping[str, Array | pa.Array]) -> pa.RecordBatch:
    """Turn ``columns`` into a batch of ``table``'s schema; integers may be left out.

    Raises:
        KeyError: A column that is not an integer is missing, or one is not in the schema.
    """
    unknown = set(columns) - {c.name for c in TABLES[table]}
    if unknown:
        raise KeyError(f"{table} has no column {sorted(unknown)}")
    length = len(next(iter(columns.values())))
    arrays = []
    for column in TABLES[table]:
        values = columns.get(column.name)
        if values is None and pa.types.is_integer(column.type):
            values = np.full(length, NOT_RECORDED, dtype=np.int64)
        elif values is None:
            raise KeyError(f"{table} needs {column.name}")
        if isinstance(values, np.ndarray):
            values = pa.array(values)
        arrays.append(values if values.type == column.type else values.cast(column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema(table))
