"""Small traces from plain columns, for tests: no recording, no profiler, no GPU.

A table is a dictionary of columns. Every column may be one value for all rows; ``name`` stands
for ``name_id``, ``_us`` for ``_ns``, and ``duration_us`` for the end. What is left out gets the
defaults below::

    facts = build(tmp_path, kernels={"start_us": [0, 20], "duration_us": 10})
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analyzers.facts.facts import Facts, build_facts
from analyzers.facts.spans import Window
from analyzers.ledger.ledger import Ledger, build_ledger
from collectors.schema import DEVICE_TABLES, TABLES, CopyKind, MemoryKind, schema
from collectors.trace import Source, Trace, TraceWriter

Columns = Mapping[str, Any]

PROCESS, THREAD, STREAM = 1, 11, 7

H100 = {
    "physical": 0,
    "name": "H100 for tests",
    "sm_count": 132,
    "compute_major": 9,
    "compute_minor": 0,
    "max_warps_per_sm": 64,
    "max_blocks_per_sm": 32,
    "max_registers_per_sm": 65_536,
    "max_shared_bytes_per_sm": 233_472,
    "memory_bytes": 85_899_345_920,
    "memory_bytes_per_s": 3_352_320_000_000,
}

_ON_DEVICE = {"process": PROCESS, "device": 0, "stream": STREAM}
_ON_THREAD = {"process": PROCESS, "thread": THREAD}
_LAUNCH_SHAPE = {"grid_x": 4_224, "grid_y": 1, "grid_z": 1, "block_x": 256, "block_y": 1}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "kernels": {
        **_ON_DEVICE,
        "name": "kernel",
        **_LAUNCH_SHAPE,
        "block_z": 1,
        "registers_per_thread": 32,
        "static_shared_bytes": 0,
        "dynamic_shared_bytes": 0,
    },
    "copies": {
        **_ON_DEVICE,
        "kind": CopyKind.HOST_TO_DEVICE,
        "source_kind": MemoryKind.PINNED,
        "destination_kind": MemoryKind.DEVICE,
        "bytes": 1_000_000,
    },
    "memsets": {**_ON_DEVICE, "bytes": 1_000_000, "memory_kind": MemoryKind.DEVICE},
    "collectives": {**_ON_DEVICE, "name": "allreduce"},
    "graph_launches": {**_ON_DEVICE, "graph": 1, "graph_exec": 1},
    "api_calls": {**_ON_THREAD, "name": "cudaLaunchKernel", "status": 0},
    "syncs": _ON_DEVICE,
    "ranges": {**_ON_THREAD, "name": "range", "kind": 0, "closed": True},
    "marks": {**_ON_THREAD, "name": "mark"},
    "operators": {**_ON_THREAD, "name": "aten::add", "kind": 0},
    "os_calls": {**_ON_THREAD, "name": "poll"},
    "overheads": {**_ON_THREAD, "name": "Buffer flush"},
    "gpu_metrics": {"gpu": 0},
    "devices": {"process": PROCESS, "device": 0, **H100},
    "processes": {"pid": 4_242, "name": "python"},
    "threads": {"process": PROCESS, "tid": 4_243, "name": ""},
}


def make_trace(folder: Path, **tables: Columns) -> Trace:
    """Return a trace in ``folder`` with these tables; what it refers to is added.

    Devices, processes and threads are those that the rows name, unless they are given. A table
    given as ``{}`` is empty; one that is not given is absent.
    """
    writer = TraceWriter(folder)
    strings: dict[str, int] = {}
    full = {table: _complete(table, columns, strings) for table, columns in tables.items()}
    for table, implied in _implied(full).items():
        full.setdefault(table, _complete(table, implied, strings))
    for table, columns in full.items():
        writer.declare(table)
        if columns:
            writer.write(table, columns)
    ids = np.array(list(strings.values()), np.int64)
    writer.write("strings", {"id": ids, "value": pa.array(list(strings), pa.string())})
    return writer.finish(uuid.uuid4().hex, Source(name="test.sqlite", format="test"))


def build(folder: Path, **tables: Columns) -> Facts:
    """Return the facts of ``make_trace``."""
    return build_facts(make_trace(folder, **tables))


def account(facts: Facts, start_us: float | None = None, end_us: float | None = None) -> Ledger:
    """Return the ledger from the first launch to the last, or of the window given in µs."""
    start, end = facts.launches["start_ns"].min(), facts.launches["end_ns"].max()
    start = start if start_us is None else start_us * 1_000
    end = end if end_us is None else end_us * 1_000
    return build_ledger(facts, Window(start_ns=int(start), end_ns=int(end)))


def forget(trace: Trace) -> None:
    """Delete a trace: property tests make hundreds."""
    shutil.rmtree(trace.folder)


def _complete(table: str, columns: Columns, strings: dict[str, int]) -> dict[str, Any]:
    """Return every column of ``table`` with its defaults, ready for the writer."""
    if not columns:
        return {}
    given = _in_ns(dict(columns))
    named = {c.removesuffix("_id") for c in (*given, *_DEFAULTS.get(table, {}))}
    rows = next((len(v) for v in given.values() if _is_column(v)), 1)
    values = {**_DEFAULTS.get(table, {}), **given}
    if table == "kernels" and "short_name" not in values:
        values["short_name"] = _short(values["name"])
    for text in ("name", "short_name", "domain", "symbol", "type", "ranks"):
        if text in named | set(values) and f"{text}_id" in _columns_of(table) and text in values:
            values[f"{text}_id"] = _ids(values.pop(text), strings)
    if table == "devices":
        _give_each_process_its_gpu(values)
    return {c: _column(table, c, v, rows) for c, v in values.items()}


def _give_each_process_its_gpu(values: dict[str, Any]) -> None:
    # Without the recording's word, equal numbers in two processes need not be one GPU.
    if _is_column(values["process"]) and not _is_column(values["physical"]):
        values["physical"] = np.arange(len(values["process"]))


def _in_ns(columns: dict[str, Any]) -> dict[str, Any]:
    result = {}
    for name, value in columns.items():
        if name.endswith("_us"):
            result[name[:-3] + "_ns"] = np.round(np.asarray(value) * 1_000).astype(np.int64)
        else:
            result[name] = value
    if "duration_ns" in result and "start_ns" in result:  # what was profiled only has a duration
        result["end_ns"] = np.asarray(result["start_ns"]) + np.asarray(result.pop("duration_ns"))
    return result


def _is_column(value: Any) -> bool:
    return not isinstance(value, str) and np.ndim(value) > 0


def _columns_of(table: str) -> set[str]:
    return {c.name for c in TABLES[table]}


def _short(names: Any) -> Any:
    if isinstance(names, str):
        return names.split("(")[0].split("<")[0]
    return [_short(n) for n in names]


def _ids(texts: Any, strings: dict[str, int]) -> Any:
    if isinstance(texts, str):
        return strings.setdefault(texts, len(strings) + 1)
    return np.array([strings.setdefault(t, len(strings) + 1) for t in texts], np.int64)


def _column(table: str, name: str, value: Any, rows: int) -> pa.Array:
    values = list(value) if _is_column(value) else [value] * rows
    kind = schema(table).field(name).type
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    return pa.array(plain, kind)


def _implied(full: Mapping[str, Mapping[str, Any]]) -> dict[str, Columns]:
    """Return the devices, processes and threads that the rows of the other tables name."""
    devices = sorted(
        {
            pair
            for table in DEVICE_TABLES
            if full.get(table)
            for pair in zip(
                full[table]["process"].to_pylist(), full[table]["device"].to_pylist(), strict=True
            )
        }
    )
    threads = sorted(
        {
            pair
            for columns in full.values()
            if "thread" in columns
            for pair in zip(
                columns["thread"].to_pylist(), columns["process"].to_pylist(), strict=True
            )
        }
    )
    processes = sorted({p for p, _ in devices} | {p for _, p in threads})
    implied: dict[str, Columns] = {}
    if devices:
        implied["devices"] = {
            "process": [p for p, _ in devices],
            "device": [d for _, d in devices],
        }
    if processes:
        implied["processes"] = {"process": processes}
    if threads:
        implied["threads"] = {"thread": [t for t, _ in threads], "process": [p for _, p in threads]}
    return implied
