"""The devices of a torch profiler trace, and which process put what on them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from collectors.schema import NOT_RECORDED, Array
from collectors.torch_profiler.events import integers
from collectors.torch_profiler.rows import MAX_DEVICE, Rows
from collectors.trace import TraceWriter
from common.text import storable

_FACTS = {  # the first name that is there counts; AMD and NVIDIA differ
    "sm_count": ("numSms",),
    "compute_major": ("computeMajor",),
    "compute_minor": ("computeMinor",),
    "max_registers_per_sm": ("regsPerMultiprocessor",),
    "max_shared_bytes_per_sm": (
        *("sharedMemPerMultiprocessor", "maxSharedMemoryPerMultiProcessor"),
    ),
    "memory_bytes": ("totalGlobalMem",),
}
_NVIDIA_WARP = 32
_AMD_WARP = 64

# Resident blocks of a multiprocessor by compute capability, which traces leave out: CUDA C++
# Programming Guide, "Technical Specifications per Compute Capability".
_MAX_BLOCKS = {
    **dict.fromkeys(((7, 0), (7, 2), (8, 0), (9, 0), (10, 0), (10, 3)), 32),
    **dict.fromkeys(((8, 6), (8, 7)), 16),
    **dict.fromkeys(((8, 9), (11, 0), (12, 0), (12, 1)), 24),
    (7, 5): 16,
}


def write_devices(
    writer: TraceWriter, used: Iterable[tuple[int, int]], head: Mapping[str, Any]
) -> int:
    """Write a row for each (process, device) in use; return how many facts were no number."""
    facts_of, odd = _known_devices(head)
    seen = len(facts_of) or NOT_RECORDED
    rows = []
    for process, device in sorted(used):
        alone = next(iter(facts_of.values())) if len(facts_of) == 1 else {}
        facts = facts_of.get(device, alone)
        rows.append({"process": process, "device": device, "visible_devices": seen, **facts})
    columns = (
        *("process", "device", *_FACTS, "max_warps_per_sm", "max_blocks_per_sm"),
        "visible_devices",
    )
    table: dict[str, Array | pa.Array] = {
        c: np.array([r.get(c, NOT_RECORDED) for r in rows], dtype=np.int64) for c in columns
    }
    names = [storable(str(r.get("name") or "")[:200]) for r in rows]
    writer.write("devices", table | {"name": pa.array(names, pa.string())})
    return odd


def _known_devices(head: Mapping[str, Any]) -> tuple[dict[int, dict[str, Any]], int]:
    listed = head.get("deviceProperties")
    facts_of: dict[int, dict[str, Any]] = {}
    odd = 0
    for place, properties in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(properties, dict):
            odd += 1
            continue
        facts: dict[str, Any] = {}
        for fact, names in _FACTS.items():
            value = next((properties[n] for n in names if n in properties), None)
            if _is_plausible(value):
                facts[fact] = value
            odd += value is not None and fact not in facts
        facts |= _per_multiprocessor(properties, facts)
        facts["name"] = properties.get("name")
        number = properties.get("id", place)
        facts_of[number if _is_plausible(number) else place] = facts
    return facts_of, odd


def _per_multiprocessor(properties: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, int]:
    """Return what has to be computed; takes away what would be mistaken for CUDA's."""
    warp = properties.get("warpSize")
    threads = properties.get("maxThreadsPerMultiprocessor")
    if warp == _AMD_WARP:
        # "9.4" is an architecture of AMD here, and its multiprocessors share other limits.
        for fact in ("compute_major", "compute_minor"):
            facts.pop(fact, None)
    limits = {}
    if _is_plausible(threads) and warp in (_NVIDIA_WARP, _AMD_WARP):
        limits["max_warps_per_sm"] = int(str(threads)) // int(str(warp))
    capability = facts.get("compute_major"), facts.get("compute_minor")
    if capability in _MAX_BLOCKS:
        limits["max_blocks_per_sm"] = _MAX_BLOCKS[capability]
    return limits


def _is_plausible(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 50


class Callers:
    """Finds the process that put an operation on a device, which the operation does not say.

    Nearly every trace is of one process. In a merged one, the ids of calls tell. Several processes
    may use the same id: then the call that began last before the operation counts, and, where each
    process has a device of its own, the process of most operations of the device.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Array, Array, Array]] = []
        self._processes: set[int] = set()

    def add(self, process: Array, correlation_id: Array, start_ns: Array) -> None:
        """Remember calls."""
        self._calls.append((process, correlation_id, start_ns))
        self._processes.update(np.unique(process).tolist())

    def of(self, correlation_id: Array, start_ns: Array, otherwise: int) -> Array:
        """Return the process of each operation.

        Args:
            correlation_id: Of the operations.
            start_ns: Their begins.
            otherwise: Process of those that no call is known of.
        """
        if len(self._processes) <= 1:
            only = next(iter(self._processes), otherwise)
            return np.full(len(correlation_id), only, np.int64)
        process, number, begin = (
            np.concatenate(column) for column in zip(*self._calls, strict=True)
        )
        order = np.lexsort((begin, number))
        process, number, begin = process[order], number[order], begin[order]
        first = np.searchsorted(number, correlation_id, side="left")
        behind = np.searchsorted(number, correlation_id, side="right")
        has_call = (behind > first) & (correlation_id != NOT_RECORDED)
        place = first.copy()
        for row in np.flatnonzero(has_call & (behind - first > 1)).tolist():
            before = np.searchsorted(begin[first[row] : behind[row]], start_ns[row], side="right")
            place[row] += max(int(before) - 1, 0)
        return np.where(has_call, process[np.minimum(place, len(process) - 1)], otherwise)

    @property
    def several(self) -> bool:
        """Whether calls of more than one process were recorded."""
        return len(self._processes) > 1

    def certainty(self, correlation_id: Array) -> Array:
        """Return which ids only one process uses."""
        ids, users = self._users
        place = np.minimum(np.searchsorted(ids, correlation_id), len(ids) - 1)
        certain: Array = (ids[place] == correlation_id) & (users[place] == 1)
        return certain

    def uses(self, process: int, correlation_id: Array) -> Array:
        """Return which ids a process uses."""
        own = [number[keys == process] for keys, number, _ in self._calls]
        used: Array = np.isin(correlation_id, np.concatenate(own))
        used &= correlation_id != NOT_RECORDED
        return used

    @functools.cached_property
    def _users(self) -> tuple[Array, Array]:
        """Ids of calls, and how many processes use each; asked for when all calls are there."""
        keys, numbers = (np.concatenate([c[n] for c in self._calls]) for n in (0, 1))
        pairs = pd.DataFrame({"id": numbers, "process": keys}).drop_duplicates()
        users = pairs.groupby("id").size()
        return users.index.to_numpy(np.int64), users.to_numpy(np.int64)


def owners_of(device: Array, process: Array, certain: Array) -> dict[int, int]:
    """Return the process of each device, if each process has a device of its own; else nothing.

    Args:
        device: Of each operation.
        process: That its call seems to be of.
        certain: Whether no other process uses the id of that call.
    """
    owners = {}
    for number in np.unique(device).tolist():
        here = device == number
        keys, counts = np.unique(process[here], return_counts=True)
        owner = int(keys[counts.argmax()])
        if (process[here & certain] == owner).all():
            owners[number] = owner
    one_to_one = set(owners.values()) == set(process.tolist()) and len(owners) > 1
    all_devices = len(set(owners.values())) == len(owners) == len(np.unique(device))
    return owners if one_to_one and all_devices else {}


class Arrows:
    """Flow events, which join an operation to its call where its own id is missing."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], int] = {}
        self._parts: list[tuple[Array, Array, Array]] = []

    def add(self, rows: Rows) -> None:
        """Remember where arrows end; a dictionary of them would take ten times the memory."""
        number, _ = integers([e.id for e in rows.events])
        lane = self._numbers([(e.pid, e.tid) for e in rows.events], is_new=True)
        usable = number != NOT_RECORDED
        self._parts.append((lane[usable], rows.start_ns[usable], number[usable]))

    def _numbers(self, places: Iterable[tuple[Any, Any]], *, is_new: bool) -> Array:
        """Return a number for each process and thread, as the trace writes them; -1 unknown."""
        lanes = self._lanes
        keys = [(str(pid), str(tid)) for pid, tid in places]
        if is_new:
            return np.array([lanes.setdefault(k, len(lanes)) for k in keys], dtype=np.int64)
        return np.array([lanes.get(k, NOT_RECORDED) for k in keys], dtype=np.int64)

    def joined(self, correlation_id: Array, lane: Array, start_ns: Array) -> Array:
        """Return the ids of operations; where one has none, that of the arrow that ends there.

        Args:
            correlation_id: Of the operations, -1 where it is not recorded.
            lane: Process and thread of each, as the trace writes them.
            start_ns: Their begins.
        """
        result: Array = correlation_id.copy()
        missing = np.flatnonzero(correlation_id == NOT_RECORDED)
        if not self._parts or not len(missing):
            return result
        lanes, times, ids = map(np.concatenate, zip(*self._parts, strict=True))
        ends = pd.DataFrame({"lane": lanes, "at": times, "id": pd.array(ids, "Int64")})
        ends = ends.drop_duplicates(["lane", "at"], keep="last")
        begins = pd.DataFrame(
            {"lane": self._numbers(lane[missing], is_new=False), "at": start_ns[missing]}
        )
        number = begins.merge(ends, how="left", on=["lane", "at"])["id"]
        result[missing] = number.fillna(NOT_RECORDED).to_numpy(np.int64)
        return result


def devices_in(process: Array, device: Array) -> set[tuple[int, int]]:
    """Return the (process, device) pairs that occur."""
    pairs = np.unique(process * (MAX_DEVICE + 2) + device + 1) if len(process) else process
    places = {divmod(p, MAX_DEVICE + 2) for p in pairs.tolist()}
    return {(process, device - 1) for process, device in places}
