"""Quantities of a side besides its tables: counts, copies, roles, operators, memory and clocks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import (
    COMMUNICATION,
    COPY,
    GRAPH,
    KERNEL,
    MEMSET,
    Facts,
)
from analyzers.facts.migrations import migrations
from analyzers.facts.spans import Iteration
from analyzers.facts.steps import ROLES, step_breakdown
from analyzers.intervals import Array, Spans
from collectors.schema import CopyKind, MemoryKind

MAX_SHAPES = 500  # operators with their inputs
SMALL_BYTES = 65_536  # a blocking copy of so little waits for a result; it moves no data
MAX_RANGES = 200  # names of ranges, those with most time
MAX_ROLE_STEPS = 200  # torch recordings have few steps; telling roles costs a walk for each
_DIRECTIONS = {
    CopyKind.HOST_TO_DEVICE: "HtoD",
    CopyKind.DEVICE_TO_HOST: "DtoH",
    CopyKind.DEVICE_TO_DEVICE: "DtoD",
    CopyKind.PEER_TO_PEER: "PtoP",
}
_API_CALLS = {
    "blocking API calls": (Call.WAIT, Call.COPY, Call.FREE),
    "allocation calls": (Call.ALLOCATE,),
}
_HOST_COPIES = (CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST)


def launches_in_iterations(
    launches: pd.DataFrame, spans: Spans, device: int
) -> tuple[Array, Array]:
    """Return the device's launches that begin in an iteration, and in which."""
    rows = np.flatnonzero((launches["device"] == device).to_numpy())
    return _placed(launches["start_ns"].to_numpy()[rows], rows, spans)


def _placed(moments: Array, rows: Array, spans: Spans) -> tuple[Array, Array]:
    place = np.searchsorted(spans.start, moments, side="right") - 1
    inside = (place >= 0) & (moments < spans.end[np.maximum(place, 0)])
    return rows[inside], place[inside].astype(np.int32)


def iteration_counts(
    facts: Facts, spans: Spans, in_use: tuple[Array, Array], device: int
) -> dict[str, Array]:
    """Return launches, copies, memsets and API calls of each iteration, by name."""
    rows, iteration = in_use
    size = len(spans.start)
    kind = facts.launches["kind"].to_numpy()[rows]

    def per_iteration(chosen: Array, weights: Array | None = None) -> Array:
        weighed = None if weights is None else weights[chosen]
        sums: Array = np.bincount(iteration[chosen], weighed, minlength=size).astype(float)
        return sums

    counts = {"kernel launches": per_iteration(np.isin(kind, (KERNEL, COMMUNICATION)))}
    if (kind == GRAPH).any():
        counts["graph launches"] = per_iteration(kind == GRAPH)
    if (kind == MEMSET).any():
        counts["memsets"] = per_iteration(kind == MEMSET)
    if (kind == COPY).any():
        counts |= _copies(facts, rows, per_iteration)
    if (kind == COPY).any() and len(moves := migrations(facts)):
        on_demand = np.zeros(len(facts.launches), dtype=bool)
        on_demand[moves.index[moves["is_answer"].to_numpy()]] = True
        counts["migrations on demand"] = per_iteration(on_demand[rows])
    if len(facts.api):
        calls = facts.api_call
        started = facts.api["start_ns"].to_numpy()
        made, when = _placed(started, np.arange(len(started)), spans)
        if len(facts.devices) > 1 and device >= 0:
            on_device = _of_device(facts, device)[facts.api["thread_index"].to_numpy()[made]]
            made, when = made[on_device], when[on_device]
        counts["API calls"] = np.bincount(when, minlength=size).astype(float)
        for name, kinds in _API_CALLS.items():
            chosen = np.isin(calls[made], kinds)
            if chosen.any() or name == "blocking API calls":
                counts[name] = np.bincount(when[chosen], minlength=size).astype(float)
        counts["launch calls"] = per_iteration(_first_of_calls(facts, rows))
        waits = (calls[made] == Call.WAIT) | _reads_little(facts)[made]
        counts["waits"] = np.bincount(when[waits], minlength=size).astype(float)
    return counts


def _first_of_calls(facts: Facts, rows: Array) -> Array:
    """Tell for each operation whether it is the first kernel or graph that its call launched.

    Counted where it ran: a host that is far ahead launched it in another iteration.
    """
    kind = facts.launches["kind"].to_numpy()[rows]
    call = facts.launches["api_row"].to_numpy()[rows]
    launched = np.flatnonzero(np.isin(kind, (KERNEL, COMMUNICATION, GRAPH)) & (call >= 0))
    result = np.zeros(len(rows), dtype=bool)
    result[launched[np.unique(call[launched], return_index=True)[1]]] = True
    return result


def _reads_little(facts: Facts) -> Array:
    """Tell for each API call whether it blocks for the copy of a result, not of data."""
    copies = facts.of_table("copies", ["bytes"])
    small = copies.index[(copies["bytes"] <= SMALL_BYTES).to_numpy()]
    rows = facts.launches["api_row"].to_numpy()[small]
    result = np.zeros(len(facts.api), dtype=bool)
    result[rows[rows >= 0]] = True
    result &= facts.api_call == Call.COPY
    return result


def _of_device(facts: Facts, device: int) -> Array:
    """Tell for each thread whether it ever launched on the device."""
    used = np.zeros(len(facts.thread_keys) + 1, dtype=bool)
    used[facts.thread_index[(facts.launches["device"] == device).to_numpy()]] = True
    return used[:-1]


def _copies(facts: Facts, rows: Array, per_iteration: Any) -> dict[str, Array]:
    of_copies = facts.of_table("copies", ["kind", "bytes", "source_kind", "destination_kind"])
    direction, size = np.full(len(facts.launches), -1), np.zeros(len(facts.launches))
    direction[of_copies.index.to_numpy()] = of_copies["kind"].to_numpy()
    size[of_copies.index.to_numpy()] = np.maximum(of_copies["bytes"].to_numpy(), 0)
    kind = facts.launches["kind"].to_numpy()[rows]
    counts = {}
    for code in np.unique(direction[rows][kind == COPY]).tolist():
        is_named = code in set(CopyKind)
        words = _DIRECTIONS.get(code, CopyKind(code).name.lower() if is_named else f"kind {code}")
        chosen = (kind == COPY) & (direction[rows] == code)
        counts[f"{words} copies"] = per_iteration(chosen)
        counts[f"{words} bytes"] = per_iteration(chosen, size[rows])
        counts[f"{words} time"] = per_iteration(chosen, facts.duration_ns[rows].astype(float))
    pageable = np.zeros(len(facts.launches), dtype=bool)
    pageable[of_copies.index.to_numpy()] = (
        of_copies[["source_kind", "destination_kind"]] == MemoryKind.PAGEABLE
    ).any(axis=1) & of_copies["kind"].isin(_HOST_COPIES)
    if (chosen := (kind == COPY) & pageable[rows]).any():
        counts["pageable bytes"] = per_iteration(chosen, size[rows])
    return counts


def roles_by_iteration(facts: Facts, spans: Spans, iterations: tuple[Iteration, ...]) -> Array:
    """Return what ran in each step, one column a role; without rows when it was not recorded."""
    nothing = np.empty((0, len(ROLES)), np.int64)
    if not iterations or len(iterations) > MAX_ROLE_STEPS:
        return nothing
    whole = zip(iterations, spans.start.tolist(), spans.end.tolist(), strict=True)
    steps = [dataclasses.replace(i, start_ns=start, end_ns=end) for i, start, end in whole]
    breakdown = step_breakdown(facts, steps)
    if len(breakdown) != len(iterations):
        return nothing
    return np.array([[step[f"{role}_ns"] for role in ROLES] for step in breakdown], dtype=np.int64)


def operator_calls(facts: Facts, spans: Spans) -> dict[tuple[str, str], float]:
    """Return how often each operator ran with inputs of each shape, per iteration."""
    if not facts.trace.count("operators"):
        return {}
    table = facts.trace.frame("operators", ["start_ns", "name_id", "shapes_id"])
    moment = table["start_ns"].to_numpy()
    inside = (moment >= spans.start.min()) & (moment < spans.end.max())
    inside &= (table["shapes_id"] >= 0).to_numpy()
    counted = table[inside].groupby(["name_id", "shapes_id"], sort=False).size()
    counted = counted.sort_values(ascending=False, kind="stable").iloc[:MAX_SHAPES]
    ids = counted.index.to_frame(index=False)
    names = facts.trace.names(ids["name_id"].to_numpy())
    shapes = facts.trace.names(ids["shapes_id"].to_numpy())
    each = counted.to_numpy() / len(spans.start)
    return {(str(n), str(s)): float(c) for n, s, c in zip(names, shapes, each, strict=True)}


def range_totals(facts: Facts) -> dict[str, tuple[int, int]]:
    """Return how often each range of the program came, and how long they took together in ns."""
    ranges = facts.ranges
    if not len(ranges):
        return {}
    ns = (ranges["end_ns"] - ranges["start_ns"]).clip(lower=0)
    totals = ns.groupby(ranges["name_id"].to_numpy()).agg(["size", "sum"])
    totals = totals.sort_values("sum", ascending=False, kind="stable").iloc[:MAX_RANGES]
    names = facts.trace.names(totals.index.to_numpy())
    pairs = zip(totals["size"].tolist(), totals["sum"].tolist(), strict=True)
    return {str(name): (int(n), int(t)) for name, (n, t) in zip(names, pairs, strict=True) if name}


def peak_bytes(facts: Facts, spans: Spans, device: int) -> dict[str, int]:
    """Return the most memory that the framework had in use and kept while iterations ran."""
    if not facts.trace.count("memory_events") or device < 0:
        return {}
    columns = ["time_ns", "device", "bytes", "allocated_bytes", "reserved_bytes"]
    events = facts.trace.frame("memory_events", columns)
    inside = (events["time_ns"] >= spans.start.min()) & (events["time_ns"] < spans.end.max())
    number = int(facts.devices["device"].iloc[device])
    events = events[(inside & (events["device"] == number)).to_numpy()]
    if not len(events):
        return {}
    in_use = int(events["allocated_bytes"].max())
    peaks = {
        "peak memory in use": in_use,
        "peak memory reserved": int(events["reserved_bytes"].max()),
    }
    if in_use < 0:  # old recordings tell only what was taken and given back
        events = events.sort_values("time_ns", kind="stable")
        peaks["peak memory taken since the first iteration"] = int(events["bytes"].cumsum().max())
    return {name: peak for name, peak in peaks.items() if peak >= 0}


def sampled_clock_mhz(facts: Facts, spans: Spans) -> float | None:
    """Return the mean clock of the multiprocessors that nsys sampled, in MHz."""
    if not facts.trace.count("gpu_metrics"):
        return None
    samples = facts.trace.frame("gpu_metrics", ["time_ns", "name_id", "value"])
    ids = pd.unique(samples["name_id"].to_numpy())
    clocks = [
        i
        for i, text in zip(ids.tolist(), facts.trace.names(ids), strict=True)
        if str(text).startswith("GPC Clock Frequency")
    ]
    moment = samples["time_ns"].to_numpy()
    chosen = np.isin(samples["name_id"].to_numpy(), clocks)
    chosen &= (moment >= spans.start.min()) & (moment < spans.end.max())
    values = samples["value"].to_numpy()[chosen]
    return float(values.mean() / 1e6) if len(values) else None
