"""Tracks of what GPUs did: operations by stream with their arrows, metrics, and memory."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from analyzers.facts.facts import COPY, MEMSET
from analyzers.report import Report
from collectors.schema import LAUNCH_SHAPE, CopyKind, MemoryKind
from collectors.trace import Trace
from exports.perfetto_answer import device_name
from exports.perfetto_events import PerfettoOutput, Place, by, chunks, nested, parts, touching
from exports.perfetto_host import CallPlaces

_KINDS = ("kernel", "communication", "copy", "memset", "graph")

_DETAIL_COLUMNS = (  # columns of a GPU operation that are worth a line in Perfetto's details
    *LAUNCH_SHAPE,
    "bytes",
    "queue_ns",
    "idle_before_ns",
)


def write_device_work(
    out: PerfettoOutput, report: Report, launches: pd.DataFrame, calls: CallPlaces
) -> None:
    """Write kernels and copies by stream, each joined to the call that submitted it."""
    for key, order, rows in nested(launches, "device", "process_key", "stream"):
        device, process, stream = key
        pid = out.process(("device", device), device_name(report, device))
        name = f"Stream {stream}" if stream >= 0 else "Stream unknown"
        places = {
            row: out.track(pid, (process, stream), name, max(0, row))
            for row in np.unique(rows).tolist()
        }
        for part in parts(launches, order, rows):
            _write_work(out, part, places)
            _write_arrows(out, part, places, calls)


def _write_work(out: PerfettoOutput, work: pd.DataFrame, places: dict[int, Place]) -> None:
    labels, details = _labels(out, work), _details(out, work)
    columns = (work[c].tolist() for c in ("start_ns", "end_ns", "row", "kind"))
    for start, end, row, kind, text, args in zip(*columns, labels, details, strict=True):
        if row < 0:
            out.loose_span(places[row], (start, end), text)
        else:
            rest = f',"cat":"{_KINDS[kind]}","args":{{{args}}}'
            out.span(places[row], (start, end), text, rest)


def _labels(out: PerfettoOutput, work: pd.DataFrame) -> list[str]:
    """Return the quoted name of each operation."""
    kinds = work["kind"].tolist()
    texts = out.texts.of(work["short_name_id"].to_numpy())
    directions = work["copy_kind"].tolist() if "copy_kind" in work else [-1] * len(work)
    return [
        _copy_label(direction)
        if kind == COPY
        else '"memset"'
        if kind == MEMSET
        else text
        if text != '""'
        else f'"{_KINDS[kind]}"'
        for kind, text, direction in zip(kinds, texts, directions, strict=True)
    ]


def _copy_label(direction: int) -> str:
    names = {k.value: k.name.lower().replace("_", " ") for k in CopyKind}
    return json.dumps(f"copy {names.get(direction, '')}".rstrip())


def _details(out: PerfettoOutput, work: pd.DataFrame) -> list[str]:
    """Return the JSON members that describe each operation."""
    texts = out.texts.of(work["name_id"].to_numpy())
    members = [f'"name":{text}' if text != '""' else "" for text in texts]
    for column in (c for c in _DETAIL_COLUMNS if c in work):
        values = work[column].tolist()
        members = [
            f'{m},"{column}":{v}' if v >= 0 else m for m, v in zip(members, values, strict=True)
        ]
    for column in (c for c in ("source_kind", "destination_kind") if c in work):
        words = {k.value: f',"{column}":"{k.name.lower()}"' for k in MemoryKind}
        values = work[column].tolist()
        members = [m + words.get(v, "") for m, v in zip(members, values, strict=True)]
    return [m.removeprefix(",") for m in members]


def _write_arrows(
    out: PerfettoOutput, work: pd.DataFrame, places: dict[int, Place], calls: CallPlaces
) -> None:
    """Write an arrow from each launching call to what it put on the device."""
    launched = work[(work["api_row"] >= 0) & (work["row"] >= 0)]
    columns = (launched[c].tolist() for c in ("api_row", "api_start_ns", "start_ns", "row"))
    for call, call_ns, start, row in zip(*columns, strict=True):
        source = (int(calls.pid[call]), int(calls.tid[call]))
        if not source[1]:  # the call was left out, or nests nowhere
            continue
        number = out.events
        for phase, (pid, tid), ns in (("s", source, call_ns), ("f", places[row], start)):
            binding = ',"bp":"e"' if phase == "f" else ""
            out.write(
                f'{{"ph":"{phase}"{binding},"cat":"launch","name":"launch","id":{number},'
                f'"pid":{pid},"tid":{tid},"ts":{out.time(ns)}}}'
            )


def write_metrics(out: PerfettoOutput, trace: Trace, span: tuple[int, int] | None) -> None:
    """Write sampled GPU counters as counter tracks."""
    frame = touching(trace.frame("gpu_metrics"), span)
    frame = frame[np.isfinite(frame["value"])]
    for (gpu,), group in by(frame, "gpu"):
        pid = out.process(("metrics", gpu), f"GPU {gpu}: sampled metrics")
        for times, values, names in chunks(group, ["time_ns", "value", "name_id"]):
            texts = out.texts.of(np.array(names))
            for time_ns, value, text in zip(times, values, texts, strict=True):
                out.write(
                    f'{{"ph":"C","pid":{pid},"tid":0,"ts":{out.time(time_ns)},'
                    f'"name":{text},"args":{{"value":{value!r}}}}}'
                )


def write_memory(out: PerfettoOutput, trace: Trace, span: tuple[int, int] | None) -> None:
    """Write what a framework's allocator holds of each device, as counter tracks."""
    columns = ["time_ns", "process", "device", "allocated_bytes", "reserved_bytes"]
    frame = touching(trace.frame("memory_events", columns), span)
    frame = frame[(frame["device"] >= 0) & (frame["allocated_bytes"] >= 0)]
    for (process, device), group in by(frame, "process", "device"):
        pid = out.process(("memory", process, device), f"GPU {device}: memory of the allocator")
        for chunk in chunks(group, ["time_ns", "allocated_bytes", "reserved_bytes"]):
            for time_ns, allocated, reserved in zip(*chunk, strict=True):
                more = f',"reserved":{reserved}' if reserved >= 0 else ""
                out.write(
                    f'{{"ph":"C","pid":{pid},"tid":0,"ts":{out.time(time_ns)},"name":'
                    f'"memory in bytes","args":{{"allocated":{allocated}{more}}}}}'
                )
