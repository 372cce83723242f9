"""Everything that is derived from a trace once: who launched what, who waited, what is around it.

A *launch* here is one execution of anything that occupies a device: a kernel, a copy, a memset,
or a CUDA graph that was recorded as a whole. Each is joined to the API call that submitted it on
correlation id **and** process, because every process counts its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call, classify, is_communication
from analyzers.facts.call_matches import matching_calls
from analyzers.facts.counters import COUNTER_TABLES, Counters
from analyzers.facts.impossible import NOTHING_IMPOSSIBLE, Impossible, without_impossible
from analyzers.facts.prefetches import calls_of_prefetches
from analyzers.facts.streams import stream_codes
from analyzers.facts.trace_table import trace_columns, trace_table
from analyzers.intervals import Array
from collectors.schema import DEVICE_TABLES, NOT_RECORDED, CopyKind, MemoryKind
from collectors.trace import Trace

KINDS = KERNEL, COMMUNICATION, COPY, MEMSET, GRAPH = tuple(range(5))
"""Kinds of launches."""

_KIND_OF_TABLE = {"kernels": KERNEL, "graph_launches": GRAPH, "copies": COPY, "memsets": MEMSET}

UNKNOWN = NOT_RECORDED

_HOST_SIDE = {
    CopyKind.HOST_TO_DEVICE: "source_kind",
    CopyKind.DEVICE_TO_HOST: "destination_kind",
}
NO_HOST_SIDE = -2
UNSTAGED_MAX_BYTES = 65_536  # pageable copies up to here travel with the command


class WindowError(ValueError):
    """The requested window is not in the recording; the message is one line."""


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known about a recording. Read-only; heavy columns are derived when first asked for.

    Attributes:
        trace: The recording.
        devices: One row per device: ``process_key`` (-1 when several use it), ``device``,
            ``name`` and its properties. The row number is the device's key.
        launches: One row per execution, by begin: ``device`` (key), ``kind``, ``process_index``
            (place in ``process_keys``), ``stream``, ``start_ns``, ``end_ns``, ``name_id`` (-1 for
            copies), ``source_row`` (row in the table of its kind), ``api_row`` (row in ``api``,
            else -1).
        api: One row per API call, as recorded: ``start_ns``, ``end_ns``, ``thread_index``
            (place in ``thread_keys``), ``name`` (place in ``functions``).
        process_keys: Keys of the processes that launched or called, as the trace has them.
        thread_keys: Keys of the threads that called.
        functions: Names of API functions.
        calls: ``Call`` of each function.
        impossible: Operations that are not among the launches, or were cut.
    """

    trace: Trace
    devices: pd.DataFrame
    launches: pd.DataFrame
    api: pd.DataFrame
    process_keys: Array
    thread_keys: Array
    functions: Array
    calls: Array
    impossible: Impossible = NOTHING_IMPOSSIBLE

    @property
    def counters_only(self) -> bool:
        """Whether the recording holds profiled launches and no timeline.

        Its launches then stand end to end, each device's from 0 on, in the order in which they
        were profiled: their begins say nothing about when they ran.
        """
        return holds_counters_only(self.trace)

    @functools.cached_property
    def counters(self) -> Counters:
        """What Nsight Compute counted, for each profiled launch."""
        return Counters(self.trace)

    @functools.cached_property
    def api_call(self) -> Array:
        """``Call`` of each row of ``api``; COPY is only what kept the host busy with a copy.

        What a copy is called does not decide. An asynchronous one of pageable memory returns
        only after the data was staged, unless it is small; a synchronous one between devices
        returns at once (CUDA driver API, "API synchronization behavior").
        """
        calls: Array = self.calls[self.api["name"].to_numpy()]
        of_copies = self.of_table("copies", ["kind", "source_kind", "destination_kind", "bytes"])
        if not len(of_copies) or not len(calls):
            return calls
        rows = of_copies.index.to_numpy()
        api_row = self.launches["api_row"].to_numpy()[rows]
        ends = self.launches["end_ns"].to_numpy()[rows]
        outlasts = (api_row >= 0) & (self.api["end_ns"].to_numpy()[api_row] >= ends)
        kind = of_copies["kind"].to_numpy()
        host_side = np.full(len(kind), NO_HOST_SIDE)
        for direction, side in _HOST_SIDE.items():
            host_side[kind == direction] = of_copies[side].to_numpy()[kind == direction]
        staged = np.isin(host_side, (MemoryKind.PAGEABLE, NOT_RECORDED))
        long = (host_side == MemoryKind.PAGEABLE) & (
            of_copies["bytes"].to_numpy() > UNSTAGED_MAX_BYTES
        )
        calls = calls.copy()
        held = api_row[(api_row >= 0) & staged & (outlasts | long)]
        between_devices = np.isin(kind, (CopyKind.DEVICE_TO_DEVICE, CopyKind.PEER_TO_PEER))
        released = api_row[(api_row >= 0) & ~outlasts & between_devices]
        calls[held[calls[held] == Call.ENQUEUE]] = Call.COPY
        calls[released[calls[released] == Call.COPY]] = Call.ENQUEUE
        return calls

    @functools.cached_property
    def call_order(self) -> tuple[Array, Array]:
        """Rows of ``api`` by thread, then by begin, and where each thread's rows begin and end.

        The second column has one place more than there are threads.
        """
        thread = self.api["thread_index"].to_numpy()
        if len(self.thread_keys) < 1 << 16:
            thread = thread.astype(np.uint16)  # which are sorted much faster
        order = (
            np.argsort(thread, kind="stable")
            if len(self.thread_keys) > 1
            else np.arange(len(thread))
        )
        start = self.api["start_ns"].to_numpy()[order]
        ordered = thread[order]
        if np.any((start[1:] < start[:-1]) & (ordered[1:] == ordered[:-1])):
            order = np.lexsort((self.api["start_ns"].to_numpy(), thread))
        bounds = np.searchsorted(thread[order], np.arange(len(self.thread_keys) + 1))
        return order.astype(np.int32), bounds

    @functools.cached_property
    def is_first_use(self) -> Array:
        """Whether each row of ``api`` was the first to launch a kernel's name on a device.

        Kernels are loaded for each context.
        """
        first = np.zeros(len(self.api), dtype=bool)
        rows = np.flatnonzero(
            np.isin(self.launches["kind"].to_numpy(), (KERNEL, COMMUNICATION, GRAPH))
            & (self.launches["api_row"].to_numpy() >= 0)
        )
        rows = rows[np.argsort(self.api_start_ns[rows], kind="stable")]
        code, names = pd.factorize(self.launches["name_id"].to_numpy()[rows])
        device = self.launches["device"].to_numpy()[rows].astype(np.int64)
        process = self.launches["process_index"].to_numpy()[rows]
        key = (process * max(len(self.devices), 1) + device) * len(names) + code
        rows = rows[~pd.Series(key).duplicated().to_numpy()]
        first[self.launches["api_row"].to_numpy()[rows]] = True
        return first

    @functools.cached_property
    def stream_codes(self) -> Array:
        """A small number of the stream of each launch; streams of two devices are two."""
        return stream_codes(self.launches)

    @functools.cached_property
    def api_start_ns(self) -> Array:
        """Begin of each launch's API call; the launch's own begin when it has none."""
        return self._of_api("start_ns", self.launches["start_ns"].to_numpy())

    @functools.cached_property
    def api_end_ns(self) -> Array:
        """End of each launch's API call; the launch's own begin when it has none."""
        return self._of_api("end_ns", self.launches["start_ns"].to_numpy())

    @functools.cached_property
    def thread_index(self) -> Array:
        """Place in ``thread_keys`` of the thread that made each launch, -1 unknown."""
        return self._of_api("thread_index", np.full(len(self.launches), UNKNOWN, np.int32))

    def _of_api(self, column: str, otherwise: Array) -> Array:
        api_row = self.launches["api_row"].to_numpy()
        if not len(self.api):
            return otherwise
        values = self.api[column].to_numpy()[np.maximum(api_row, 0)]
        result: Array = np.where(api_row >= 0, values, otherwise)
        return result

    @functools.cached_property
    def duration_ns(self) -> Array:
        """Duration of each launch."""
        difference = self.launches["end_ns"].to_numpy() - self.launches["start_ns"].to_numpy()
        result: Array = difference
        return result

    @functools.cached_property
    def queue_ns(self) -> Array:
        """Time from the launch call's return to the launch's begin; 0 if it began before, else -1.

        A long queue time means that the device is behind, not the host.
        """
        queue = np.maximum(self.launches["start_ns"].to_numpy() - self.api_end_ns, 0)
        return np.where(self.launches["api_row"].to_numpy() >= 0, queue, UNKNOWN)

    @functools.cached_property
    def idle_before_ns(self) -> Array:
        """Time the whole device was idle just before each launch; 0 for a device's first."""
        result = np.zeros(len(self.launches), np.int64)
        device = self.launches["device"].to_numpy()
        start, end = self.launches["start_ns"].to_numpy(), self.launches["end_ns"].to_numpy()
        for key in range(len(self.devices)):
            rows = np.flatnonzero(device == key)
            reach = np.maximum.accumulate(end[rows])
            result[rows[1:]] = np.maximum(start[rows[1:]] - reach[:-1], 0)
        return result

    @functools.cached_property
    def ranges(self) -> pd.DataFrame:
        """NVTX ranges as the trace has them."""
        columns = ["start_ns", "end_ns", "process_key", "thread_key", "name_id"]
        return trace_table(self.trace, "ranges", columns)

    @functools.cached_property
    def overheads(self) -> pd.DataFrame:
        """What the profiler recorded of its own work."""
        columns = ["start_ns", "end_ns", "thread_key", "name_id"]
        return trace_table(self.trace, "overheads", columns)

    def inside(self, start_ns: int, end_ns: int) -> Array:
        """Return the rows of ``launches`` that run at some moment of ``[start_ns, end_ns)``."""
        ends, starts = self.launches["end_ns"].to_numpy(), self.launches["start_ns"].to_numpy()
        rows: Array = np.flatnonzero((ends > start_ns) & (starts < end_ns))
        return rows

    def call_names(self, api_rows: Array, at_most: int = 2) -> str:
        """Name the functions of these rows of ``api``, the most frequent first, for a sentence."""
        codes, counts = np.unique(self.api["name"].to_numpy()[api_rows], return_counts=True)
        names = [str(self.functions[c]) for c in codes[np.argsort(-counts)]]
        more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
        return ", ".join(names[:at_most]) + more

    def of_table(self, table: str, columns: Sequence[str]) -> pd.DataFrame:
        """Return further columns of launches from their own table, indexed by launch row."""
        kinds = (KERNEL, COMMUNICATION) if table == "kernels" else (_KIND_OF_TABLE[table],)
        rows = np.flatnonzero(np.isin(self.launches["kind"].to_numpy(), kinds))
        recorded = table if not self.counters_only else "profiled_kernels"
        frame = self.trace.frame(recorded, columns)
        source = self.launches["source_row"].to_numpy()[rows]
        return frame.take(source).set_axis(rows, axis=0)


def build_facts(trace: Trace) -> Facts:
    """Join everything known about each launch."""
    if holds_counters_only(trace):
        return _of_counters(trace)
    with ThreadPoolExecutor(1) as beside:
        tables = [table for table in _KIND_OF_TABLE if trace.count(table)]
        recorded = [beside.submit(_recorded_launches, trace, table) for table in tables]
        api, thread_keys, functions = _api(trace)
        thread_process = _processes_of(trace, thread_keys)
        process, process_keys = _coded(trace, tables, "process_key", thread_process)
        devices, key_of = recorded_devices(trace)
        parts = [
            _on_devices(rows.result(), process[table], key_of, process_keys)
            for table, rows in zip(tables, recorded, strict=True)
        ]
    launches = pd.concat(parts, ignore_index=True) if parts else _no_launches()
    owner, names = np.searchsorted(process_keys, thread_process), trace.names(functions)
    thread = api["thread_index"].to_numpy()
    launches["api_row"] = matching_calls(launches, trace, owner, thread)
    launches = launches.sort_values("start_ns", kind="stable", ignore_index=True)
    launches = launches.drop(columns="correlation_id")
    calls = np.array([classify(n) for n in names], dtype=np.int8)
    of_graphs = np.array(["Graph" in str(name) for name in names], dtype=bool)
    launches, impossible = without_impossible(launches, api, of_graphs[api["name"].to_numpy()])
    copies = launches["kind"].to_numpy() == COPY
    asks = np.array(["MemPrefetch" in str(name) for name in names], bool)[api["name"].to_numpy()]
    launches.loc[copies, "api_row"] = calls_of_prefetches(launches[copies], trace, api, asks, owner)
    return Facts(trace, devices, launches, api, process_keys, thread_keys, names, calls, impossible)


def restored_facts(trace: Trace, narrow: pd.DataFrame) -> Facts:
    """Return what ``build_facts`` returns, from what was kept of its launches.

    Args:
        trace: The recording; one with a timeline.
        narrow: Its launches as ``build_facts`` ordered them: ``device``, ``kind``,
            ``process_key``, ``stream``, ``start_ns``, ``end_ns``, ``source_row`` and ``api_row``.
    """
    api, thread_keys, functions = _api(trace)
    thread_process = _processes_of(trace, thread_keys)
    codes, met = pd.factorize(narrow["process_key"].to_numpy())
    process_keys = np.unique(np.concatenate([thread_process, met]))
    of_kernels = trace.columns("kernels", ["name_id"])["name_id"]
    is_kernel = np.isin(narrow["kind"].to_numpy(), (KERNEL, COMMUNICATION))
    name_id = np.full(len(narrow), UNKNOWN, np.int64)
    source = narrow["source_row"].to_numpy()
    name_id[is_kernel] = of_kernels[source[is_kernel]]
    launches = pd.DataFrame(
        {
            **{n: narrow[n].to_numpy() for n in ("start_ns", "end_ns", "device", "stream")},
            "name_id": name_id,
            "kind": narrow["kind"].to_numpy(),
            "process_index": np.searchsorted(process_keys, met)[codes].astype(np.int32),
            "source_row": source,
            "api_row": narrow["api_row"].to_numpy(),
        },
        copy=False,
    )
    names = trace.names(functions)
    calls = np.array([classify(n) for n in names], dtype=np.int8)
    devices, _ = recorded_devices(trace)
    return Facts(trace, devices, launches, api, process_keys, thread_keys, names, calls)


def holds_counters_only(trace: Trace) -> bool:
    """Tell whether a recording holds profiled launches and no timeline."""
    timeline = any(trace.count(table) for table in DEVICE_TABLES)
    return all(trace.has(table) for table in COUNTER_TABLES) and not timeline


def _of_counters(trace: Trace) -> Facts:
    """Return facts whose launches are the profiled ones that took time, end to end."""
    api, thread_keys, functions = _api(trace)
    profiled = trace_table(trace, "profiled_kernels")
    profiled = profiled[(profiled["duration_ns"] > 0).to_numpy()]
    devices, key_of = recorded_devices(trace)
    process_keys = np.unique(profiled["process_key"])
    keys = [key_of[p, d] for p, d in zip(profiled["process_key"], profiled["device"], strict=True)]
    launches = pd.DataFrame(
        {
            "device": np.array(keys, np.int16),
            "kind": np.full(len(profiled), KERNEL, np.int8),
            "process_index": np.searchsorted(process_keys, profiled["process_key"]).astype(
                np.int32
            ),
            "stream": profiled["stream"].to_numpy(),
            "name_id": profiled["name_id"].to_numpy(),
            "source_row": profiled.index.to_numpy().astype(np.int32),
            "api_row": np.full(len(profiled), UNKNOWN, np.int32),
        }
    )
    duration = profiled["duration_ns"].reset_index(drop=True)
    end = duration.groupby(launches["device"]).cumsum()
    launches = launches.assign(start_ns=end - duration, end_ns=end)
    launches = launches.sort_values("start_ns", kind="stable", ignore_index=True)
    names = trace.names(functions)
    calls = np.empty(0, np.int8)
    return Facts(trace, devices, launches, api, process_keys, thread_keys, names, calls)


def _processes_of(trace: Trace, thread_keys: Array) -> Array:
    """Return the process of each thread key."""
    recorded = trace_columns(trace, "threads", ["thread_key", "process_key"])
    of = dict(zip(recorded["thread_key"].tolist(), recorded["process_key"].tolist(), strict=True))
    return np.array([of.get(t, UNKNOWN) for t in thread_keys.tolist()], dtype=np.int64)


def _coded(
    trace: Trace, tables: Sequence[str], column: str, more: Array
) -> tuple[dict[str, Array], Array]:
    """Return, for each table, ``column`` as small numbers, and what the numbers stand for.

    The numbers stand for the values of ``more``, too.
    """
    raw = {t: trace_columns(trace, t, [column])[column] for t in tables}
    values = np.unique(np.concatenate([more, *(pd.unique(v) for v in raw.values())]))
    return {t: np.searchsorted(values, v).astype(np.int32) for t, v in raw.items()}, values


def recorded_devices(trace: Trace) -> tuple[pd.DataFrame, dict[tuple[int, int], int]]:
    """Return the devices, and the key of each (process, CUDA device).

    CUDA numbers are local to a process; two processes share a device only when the recording
    says that both numbers mean the same physical GPU.
    """
    frame = trace_table(trace, "devices")
    keys: dict[tuple[int, int], int] = {}
    key_of_physical: dict[int, int] = {}
    kept: list[int] = []
    for row, (process_key, device, physical) in enumerate(
        zip(frame["process_key"], frame["device"], frame["physical"], strict=True)
    ):
        key = key_of_physical.get(physical, UNKNOWN) if physical != UNKNOWN else UNKNOWN
        if key == UNKNOWN:
            key = len(kept)
            kept.append(row)
        if physical != UNKNOWN:
            key_of_physical[physical] = key
        keys[int(process_key), int(device)] = key
    users = np.bincount(list(keys.values()), minlength=len(kept))
    devices = frame.iloc[kept].reset_index(drop=True)
    devices["process_key"] = np.where(users > 1, UNKNOWN, devices["process_key"])
    return devices, keys


def _recorded_launches(trace: Trace, table: str) -> pd.DataFrame:
    """Return the launches of a table, their devices as the program numbers them."""
    columns = ["start_ns", "end_ns", "device", "stream", "correlation_id"]
    frame = trace.frame(table, [*columns, "name_id"] if table == "kernels" else columns)
    kind = np.full(len(frame), _KIND_OF_TABLE[table], np.int8)
    if table == "kernels":
        kind[_communicates(trace, frame["name_id"].to_numpy())] = COMMUNICATION
    else:
        frame["name_id"] = UNKNOWN
    frame["kind"] = kind
    return frame


def _on_devices(
    launches: pd.DataFrame,
    process_index: Array,
    key_of: dict[tuple[int, int], int],
    process_keys: Array,
) -> pd.DataFrame:
    """Return ``launches`` with the key of their device, their process and their row."""
    number = launches["device"].to_numpy()
    key = np.full(len(launches), UNKNOWN, np.int16)
    for (owner, cuda_device), device_key in key_of.items():
        place = np.searchsorted(process_keys, owner)
        key[(process_index == place) & (number == cuda_device)] = device_key
    launches["device"], launches["process_index"] = key, process_index
    launches["source_row"] = np.arange(len(launches), dtype=np.int32)
    return launches


def _communicates(trace: Trace, name_ids: Array) -> Array:
    codes, unique = pd.factorize(name_ids)
    is_collective = np.array([is_communication(n) for n in trace.names(unique)], dtype=bool)
    communicates: Array = is_collective[codes]
    return communicates


def _no_launches() -> pd.DataFrame:
    integers = ("start_ns", "end_ns", "stream", "correlation_id", "name_id")
    small = {"device": np.int16, "kind": np.int8, "process_index": np.int32, "source_row": np.int32}
    columns = dict.fromkeys(integers, np.int64) | small
    return pd.DataFrame({name: np.empty(0, kind) for name, kind in columns.items()})


def _api(trace: Trace) -> tuple[pd.DataFrame, Array, Array]:
    columns = trace.columns("api_calls", ["start_ns", "end_ns"])
    values = {}
    for column, kept in (("thread_key", "thread_index"), ("name_id", "name")):
        codes, values[kept] = pd.factorize(trace_columns(trace, "api_calls", [column])[column])
        columns[kept] = codes.astype(np.int32)
    return pd.DataFrame(columns, copy=False), values["thread_index"], values["name"]
