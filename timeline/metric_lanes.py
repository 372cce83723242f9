"""What was sampled of devices, as counters: hardware metrics and the memory of an allocator."""

from __future__ import annotations

import re

import numpy as np

from analyzers.intervals import by_key
from collectors.schema import Array
from timeline.labels import NO_NAME
from timeline.lane import Group, Lane
from timeline.recording_tables import RecordingTables, texts_of

OPEN_METRICS = 6
MAX_MHZ = 100_000  # a clock above this is given in Hz, whatever the metric's name says
_UNIT = re.compile(r"\[(?:.*\s)?([^\]\s]+)\]\s*$")  # "SM Active [Throughput %]"


def write_metrics(tables: RecordingTables) -> None:
    """Write what was sampled of each GPU."""
    if not tables.trace.count("gpu_metrics"):
        return
    metrics = tables.trace.columns("gpu_metrics", ["time_ns", "gpu", "name_id", "value"])
    is_number = np.isfinite(metrics["value"])
    order = np.argsort(metrics["time_ns"][is_number], kind="stable")
    rows = np.flatnonzero(is_number)[order]
    labels = dict(texts_of(tables.trace, metrics["name_id"][rows]))
    for gpu, of_gpu in by_key(metrics["gpu"][rows], rows):
        lanes = list(by_key(metrics["name_id"][of_gpu], of_gpu))
        title, is_open = f"GPU {gpu} metrics", len(lanes) <= OPEN_METRICS
        group = Group(id=f"metrics:{gpu}", kind="metrics", title=title, open=is_open)
        place = tables.writer.group(group)
        for name, samples in lanes:
            label, value = labels[name] or NO_NAME, metrics["value"][samples]
            unit = _unit_of(label, value)
            lane = Lane(group=place, label=_UNIT.sub("", label).strip() or label, unit=unit)
            tables.writer.counter(lane, metrics["time_ns"][samples] - tables.origin, value)


def write_memory(tables: RecordingTables) -> None:
    """Write what a framework's allocator holds of each device's memory."""
    if not tables.trace.count("memory_events"):
        return
    columns = {"allocated": "allocated_bytes", "reserved": "reserved_bytes"}
    events = tables.trace.columns("memory_events", ["time_ns", "device", *columns.values()])
    recorded = np.flatnonzero((events["device"] >= 0) & (events["allocated_bytes"] >= 0))
    rows = recorded[np.argsort(events["time_ns"][recorded], kind="stable")]
    for device, of_device in by_key(events["device"][rows], rows):
        group = Group(id=f"memory:{device}", kind="metrics", title=f"GPU {device} memory")
        place = tables.writer.group(group)
        times = events["time_ns"][of_device] - tables.origin
        for label, column in columns.items():
            held = events[column][of_device]
            if held.max() >= 0:  # old recordings lack one of them
                lane = Lane(group=place, label=label, unit="bytes")
                tables.writer.counter(lane, times, held.astype(np.float64))


def _unit_of(label: str, value: Array) -> str:
    """Return the unit of a metric: what its name says, unless its values say otherwise."""
    match = _UNIT.search(label)
    unit = match[1] if match else ""
    if unit == "MHz" and value.max(initial=0) > MAX_MHZ:
        return "Hz"
    if unit:
        return unit
    return "%" if value.min(initial=0) >= 0 and value.max(initial=0) <= 100 else ""
