"""What one recording brings to a comparison: every quantity, iteration by iteration.

Small whatever the recording's size, so that it is kept, and two recordings of a million kernels
are compared without being read again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analyzers.compare.recording_analysis import RecordingAnalysis, cut_ledger
from analyzers.compare.samples import periods, warm_up
from analyzers.cuda_names import Call
from analyzers.facts.facts import (
    COMMUNICATION,
    COPY,
    GRAPH,
    KERNEL,
    MEMSET,
    UNKNOWN,
    Facts,
    WindowError,
)
from analyzers.facts.occupancy import combined, first_of_each
from analyzers.facts.spans import Iteration, Window
from analyzers.facts.steps import ROLES, step_breakdown
from analyzers.facts.windows import choose_window, find_iterations, plain_name, repetitions
from analyzers.finding import Row
from analyzers.intervals import Array, Spans, overlaps
from analyzers.ledger.booking import ROW_CODE, ROWS
from analyzers.ledger.ledger import Ledger, build_ledger
from analyzers.ledger.regions import stretches_by_region
from analyzers.quality import check_quality
from collectors.schema import CopyKind

MAX_KERNELS = 2_000  # launch configurations that are compared one by one; the others are one row
MAX_SHAPES = 500  # operators with their inputs
MAX_ROLE_STEPS = 200  # torch recordings have few steps; telling roles costs a walk for each
MAX_SEQUENCE = 20_000  # launches of an iteration whose order is kept
OTHERS = "all other kernels"
GRAPH_NAME = "CUDA graph, recorded as a whole"
NO_SHAPE = (-1, -1, -1, -1, -1, -1)
_SHAPE = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z")
_DIRECTIONS = {
    CopyKind.HOST_TO_DEVICE: "HtoD",
    CopyKind.DEVICE_TO_HOST: "DtoH",
    CopyKind.DEVICE_TO_DEVICE: "DtoD",
    CopyKind.PEER_TO_PEER: "PtoP",
}
_BLOCKING = (Call.WAIT, Call.COPY, Call.FREE)


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseTable:
    """A quantity by iteration and by thing, where it is not 0.

    Attributes:
        iteration: Number of the iteration.
        thing: Number of the thing: kernel, region.
        ns: Time.
        count: How often.
    """

    iteration: Array
    column: Array
    ns: Array
    count: Array

    def dense(self, values: Array, iterations: int, columns: int) -> Array:
        """Return ``values`` (``ns`` or ``count``) as a table, a row an iteration."""
        places = self.iteration.astype(np.int64) * columns + self.column
        sums = np.bincount(places, values, minlength=iterations * columns)
        table: Array = sums.reshape(iterations, columns)
        return table


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels:
    """Kernels by name and launch configuration, most time first.

    Attributes:
        names: Full names.
        short_names: Names without template arguments and parameters.
        shapes: Grid and block, six columns; -1 where not recorded.
        longest: Begin and end of the longest launch in a typical iteration, -1 for none.
        sequence: The launches of a typical iteration, in the order in which they began.
        by_iteration: Summed durations and launches.
    """

    names: tuple[str, ...]
    short_names: tuple[str, ...]
    shapes: Array
    longest: Array
    sequence: Array
    by_iteration: SparseTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """The ledger by region of the program.

    Attributes:
        keys: Level, name and row of the ledger.
        longest: Begin and end of the longest stretch in a typical iteration, else in any after the
            warm-up; -1 when there is none.
        by_iteration: Time.
    """

    keys: tuple[tuple[str, str, str], ...]
    longest: Array
    by_iteration: SparseTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One recording, ready to be compared; all arrays have a place (or row) an iteration.

    Attributes:
        source: ``name``, ``format``, ``tool_version``, ``schema_version``, ``sha256``, ``rank``
            (of a distributed job; empty when not recorded).
        gpus: Product names, sorted.
        devices: Names of the ledger's devices.
        device: Place of the one that is compared in ``devices``, -1 when there is none.
        request: The window that was asked for.
        window: How the iterations, or the one window, were chosen, in words.
        loop: Name that all iterations share; empty when the window is one sample.
        start_ns: Begins.
        end_ns: Ends.
        warm_up: Iterations at the beginning that differ from the others.
        warm_up_how: How that was found.
        typical: Number of the iteration whose duration is nearest to the median.
        ledger_ns: The account of each iteration, one column a row of ``ROWS``; sums to its length.
        row_places: Begin and end of each row's longest stretch in the typical iteration, else -1.
        counts: Further quantities by name.
        roles_ns: What ran, one column for each of ``analyzers.facts.steps.ROLES``; without rows
            when that was not recorded.
        kernels: By name and launch configuration.
        regions: By region.
        operators: How often each operator ran with inputs of each shape, per iteration.
        peak_bytes: Most memory in use, by name.
        sm_clock_mhz: Mean clock, ``None`` when not sampled.
        operations: GPU operations in the whole recording.
        counters_only: Whether the recording is one of counters, without a timeline.
        quality: ``level``, ``code`` and ``message`` of what is known about the capture.
        trace_id: Id in the library.
        summary: What the workload wrote about itself (``.workload.json``), empty when nothing.
        telemetry: What was sampled beside the recording: ``name`` to value.
    """

    source: dict[str, str]
    gpus: tuple[str, ...]
    devices: tuple[str, ...]
    device: int
    request: str
    window: str
    loop: str
    start_ns: Array
    end_ns: Array
    warm_up: int
    warm_up_how: str
    typical: int
    ledger_ns: Array
    row_places: Array
    counts: dict[str, Array]
    roles_ns: Array
    kernels: Kernels
    regions: Regions
    operators: dict[tuple[str, str], float]
    peak_bytes: dict[str, int]
    sm_clock_mhz: float | None
    operations: int
    counters_only: bool
    quality: tuple[tuple[str, str, str], ...] = ()
    trace_id: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    telemetry: dict[str, Any] = field(default_factory=dict)

    @property
    def durations_ns(self) -> Array:
        """Length of each iteration."""
        lengths: Array = self.end_ns - self.start_ns
        return lengths

    @property
    def kept(self) -> slice:
        """The iterations after the warm-up."""
        return slice(self.warm_up, None)

    def with_sidecar(
        self, summary: dict[str, Any], telemetry: dict[str, Any], trace_id: str, name: str
    ) -> Side:
        """Return the same side with what lies beside the recording; the warm-up is its own.

        A workload that tells how many of its steps were warm-up is believed when the number of
        its steps fits.
        """
        side = dataclasses.replace(
            self,
            summary=summary,
            telemetry=telemetry,
            trace_id=trace_id,
            source={**self.source, "name": name},
        )
        told, measured = _whole(summary.get("warmup")), _whole(summary.get("steps"))
        fits = self.loop and len(self.start_ns) in (told + measured, told + measured - 1)
        if not told or not measured or not fits or told >= len(self.start_ns) - 1:
            return side
        how = f"the workload states {told} steps of warm-up"
        return dataclasses.replace(side, warm_up=told, warm_up_how=how)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def measure(
    facts: Facts, request: str = "", device: int = -1, known: RecordingAnalysis | None = None
) -> Side:
    """Return what a recording brings to a comparison.

    Args:
        facts: The recording.
        request: ``""`` (the iterations that are found, else the whole window), ``nvtx:NAME`` (every
            range of that name), or one window as ``analyzers.analyze`` takes it.
        device: Key of the device to compare; -1 for the one that is busy longest.
        known: What an analysis of the whole recording left; None to find everything out anew.

    Raises:
        WindowError: The recording has no such window or device.
    """
    spans, found, window = _chosen(facts, request, device, known)
    whole = Window(start_ns=int(spans.start.min()), end_ns=int(spans.end.max()))
    ledger = (cut_ledger(known, facts, whole) if known else None) or build_ledger(facts, whole)
    quality = known.quality if known and not request else check_quality(facts, ledger, found)
    device = _device(ledger, device)
    durations = spans.end - spans.start
    settling = warm_up(durations) if found else None
    skipped = settling.dropped if settling else 0
    typical = skipped + int(np.argmin(np.abs(durations[skipped:] - np.median(durations[skipped:]))))
    in_use = _in_iterations(facts.launches, spans, device)
    table, places = _accounts(ledger, spans, device, typical)
    source = facts.trace.source
    return Side(
        source={
            "name": source.name,
            "format": source.format,
            "tool_version": source.tool_version,
            "schema_version": source.schema_version,
            "sha256": source.sha256,
            "rank": str(source.rank) if source.rank >= 0 else "",
        },
        gpus=tuple(sorted({str(n) for n in facts.devices["name"] if n})),
        devices=device_names(ledger),
        device=device,
        request=request,
        window=window,
        loop=plain_name(found[0].name) if found else "",
        start_ns=spans.start,
        end_ns=spans.end,
        warm_up=skipped,
        warm_up_how=settling.how if settling else "",
        typical=typical,
        ledger_ns=table,
        row_places=places,
        counts=_counts(facts, spans, in_use, device),
        roles_ns=_roles(facts, spans, found),
        kernels=_kernels(facts, in_use, typical),
        regions=_regions(facts, ledger, spans, found, device, skipped=skipped, typical=typical),
        operators=_operators(facts, spans),
        peak_bytes=_peaks(facts, spans, device),
        sm_clock_mhz=_clock(facts, spans),
        operations=len(facts.launches),
        counters_only=facts.counters_only,
        quality=tuple((n.level, n.code, n.message) for n in quality),
    )


def _chosen(
    facts: Facts, request: str, device: int, known: RecordingAnalysis | None
) -> tuple[Spans, tuple[Iteration, ...], str]:
    """Return the stretches to compare, the iterations that they are (if any), and their words."""
    name = request.removeprefix("nvtx:") if request.startswith("nvtx:") else ""
    if name and not (name.rpartition("#")[0] and name.rpartition("#")[2].isdecimal()):
        found, note = repetitions(facts, name, _process_of(facts, device))
        spans, kept = periods(found, until_next=False)
        if len(kept) < len(found):
            note += f" {len(found) - len(kept):,} that overlap another one are left out."
        return spans, tuple(found[i] for i in kept), note
    iterations: tuple[Iteration, ...] = ()
    note = ""
    if not request or request.startswith("iteration"):
        iterations, note = (
            (known.iterations, known.iterations_note) if known else find_iterations(facts)
        )
    if not request and len(iterations) > 1:
        spans, kept = periods(iterations, until_next=True)
        return spans, tuple(iterations[i] for i in kept), note
    window = choose_window(facts, request, iterations)
    if window.end_ns <= window.start_ns:
        return Spans(np.array([0]), np.array([1])), (), window.label
    one = Spans(np.array([window.start_ns]), np.array([window.end_ns]))
    return one, (), f"{window.label}. {note}".strip() if not request else window.label


def _process_of(facts: Facts, device: int) -> int | None:
    """Return the process that alone uses the device (the busiest one for -1); None for several."""
    if not len(facts.devices):
        return None
    if not 0 <= device < len(facts.devices):
        used = facts.launches["device"].to_numpy()
        on = np.flatnonzero(used >= 0)
        device = int(np.bincount(used[on], facts.duration_ns[on], len(facts.devices)).argmax())
    process = int(facts.devices["process"].iloc[device])
    return None if process == UNKNOWN else process


def device_names(ledger: Ledger) -> tuple[str, ...]:
    """Return a name for each device of the ledger, to choose it by."""
    several = len({d.device for d in ledger.devices}) < len(ledger.devices)
    return tuple(
        f"GPU {d.device} {d.name}".rstrip() + (f", process {d.process}" if several else "")
        for d in ledger.devices
    )


def _device(ledger: Ledger, device: int) -> int:
    if device >= len(ledger.devices):
        raise WindowError(f"device {device}: the recording has {len(ledger.devices)}")
    if device >= 0 or not ledger.devices:
        return device
    return max(range(len(ledger.devices)), key=lambda key: ledger.devices[key].busy_ns)


def _in_iterations(launches: pd.DataFrame, spans: Spans, device: int) -> tuple[Array, Array]:
    """Return the device's launches that begin in an iteration, and in which."""
    rows = np.flatnonzero((launches["device"] == device).to_numpy())
    return _placed(launches["start_ns"].to_numpy()[rows], rows, spans)


def _placed(moments: Array, rows: Array, spans: Spans) -> tuple[Array, Array]:
    place = np.searchsorted(spans.start, moments, side="right") - 1
    inside = (place >= 0) & (moments < spans.end[np.maximum(place, 0)])
    return rows[inside], place[inside].astype(np.int32)


def _accounts(ledger: Ledger, spans: Spans, device: int, typical: int) -> tuple[Array, Array]:
    """Return each iteration's account, and where each row costs most in the typical one."""
    segments = ledger.segments[(ledger.segments["device"] == device).to_numpy()]
    bounds = Spans(segments["start_ns"].to_numpy(), segments["end_ns"].to_numpy())
    iteration, segment, start, end = overlaps(spans, bounds)
    row, length = segments["row"].to_numpy()[segment].astype(np.int64), end - start
    sums = np.bincount(iteration * len(ROWS) + row, length, minlength=len(spans.start) * len(ROWS))
    table = np.rint(sums).astype(np.int64).reshape(-1, len(ROWS))
    # Without any device nothing was booked: then the host has all of it.
    table[:, ROW_CODE[Row.HOST]] += spans.end - spans.start - table.sum(axis=1)
    places = np.full((len(ROWS), 2), -1, np.int64)
    mine = np.flatnonzero(iteration == typical)
    mine = mine[np.argsort(length[mine], kind="stable")]
    places[row[mine]] = np.column_stack((start[mine], end[mine]))  # the longest comes last
    return table, places


def _counts(
    facts: Facts, spans: Spans, in_use: tuple[Array, Array], device: int
) -> dict[str, Array]:
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
    if len(facts.api):
        calls = facts.api_call
        started = facts.api["start_ns"].to_numpy()
        made, when = _placed(started, np.arange(len(started)), spans)
        if len(facts.devices) > 1 and device >= 0:
            mine = _of_device(facts, device)[facts.api["thread"].to_numpy()[made]]
            made, when = made[mine], when[mine]
        blocking = np.isin(calls[made], _BLOCKING)
        counts["API calls"] = np.bincount(when, minlength=size).astype(float)
        counts["blocking API calls"] = np.bincount(when[blocking], minlength=size).astype(float)
    return counts


def _of_device(facts: Facts, device: int) -> Array:
    """Tell for each thread whether it ever launched on the device."""
    used = np.zeros(len(facts.threads) + 1, dtype=bool)
    used[facts.thread[(facts.launches["device"] == device).to_numpy()]] = True
    return used[:-1]


def _copies(facts: Facts, rows: Array, per_iteration: Any) -> dict[str, Array]:
    of_copies = facts.of_table("copies", ["kind", "bytes"])
    direction, size = np.full(len(facts.launches), -1), np.zeros(len(facts.launches))
    direction[of_copies.index.to_numpy()] = of_copies["kind"].to_numpy()
    size[of_copies.index.to_numpy()] = np.maximum(of_copies["bytes"].to_numpy(), 0)
    kind = facts.launches["kind"].to_numpy()[rows]
    counts = {}
    for code in np.unique(direction[rows][kind == COPY]).tolist():
        known = code in set(CopyKind)
        words = _DIRECTIONS.get(code, CopyKind(code).name.lower() if known else f"kind {code}")
        chosen = (kind == COPY) & (direction[rows] == code)
        counts[f"{words} copies"] = per_iteration(chosen)
        counts[f"{words} bytes"] = per_iteration(chosen, size[rows])
        counts[f"{words} time"] = per_iteration(chosen, facts.duration_ns[rows].astype(float))
    return counts


def _roles(facts: Facts, spans: Spans, found: tuple[Iteration, ...]) -> Array:
    nothing = np.empty((0, len(ROLES)), np.int64)
    if not found or len(found) > MAX_ROLE_STEPS:
        return nothing
    whole = zip(found, spans.start.tolist(), spans.end.tolist(), strict=True)
    steps = [dataclasses.replace(i, start_ns=start, end_ns=end) for i, start, end in whole]
    told = step_breakdown(facts, steps)
    if len(told) != len(found):
        return nothing
    return np.array([[step[f"{role}_ns"] for role in ROLES] for step in told], dtype=np.int64)


def _kernels(facts: Facts, in_use: tuple[Array, Array], typical: int) -> Kernels:
    rows, iteration = in_use
    kind = facts.launches["kind"].to_numpy()[rows]
    chosen = np.isin(kind, (KERNEL, COMMUNICATION, GRAPH))
    rows, iteration = rows[chosen], iteration[chosen]
    name_id, short_id, shape = _described(facts)
    key = combined([name_id[rows], *(column[rows] for column in shape)])
    code, unique = pd.factorize(key)
    duration = facts.duration_ns[rows]
    sums = np.bincount(code, duration, minlength=len(unique))
    order = np.argsort(-sums, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    code = place[code]
    first = rows[first_of_each(code, len(order))][:MAX_KERNELS] if len(rows) else rows
    names, short = _texts(facts, name_id[first]), _texts(facts, short_id[first])
    shapes = np.column_stack([column[first] for column in shape]).astype(np.int64)
    if len(order) > MAX_KERNELS:
        code = np.minimum(code, MAX_KERNELS)
        names, short = (*names, OTHERS), (*short, OTHERS)
        shapes = np.concatenate((shapes, [NO_SHAPE]))
    mine = np.flatnonzero(iteration == typical)
    longest = np.full((len(names), 2), -1, np.int64)
    by_length = mine[np.argsort(duration[mine], kind="stable")]
    begin, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    ran = rows[by_length]
    longest[code[by_length]] = np.column_stack((begin[ran], end[ran]))
    return Kernels(
        names=names,
        short_names=short,
        shapes=shapes,
        longest=longest,
        sequence=code[mine[:MAX_SEQUENCE]].astype(np.int32),
        by_iteration=_sparse(iteration, code, duration, len(names)),
    )


def _texts(facts: Facts, ids: Array) -> tuple[str, ...]:
    texts = zip(ids.tolist(), facts.trace.names(ids), strict=True)
    return tuple(str(text) if i >= 0 else GRAPH_NAME for i, text in texts)


def _described(facts: Facts) -> tuple[Array, Array, list[Array]]:
    """Return name, short name and launch configuration of each launch, one column a number."""
    columns = facts.of_table("kernels", ["short_name_id", *_SHAPE])
    rows = columns.index.to_numpy()

    def of_all(name: str) -> Array:
        values = columns[name].to_numpy()
        if len(rows) == len(facts.launches):
            return values
        filled = np.full(len(facts.launches), -1, values.dtype)
        filled[rows] = values
        return filled

    shape = [of_all(name) for name in _SHAPE]
    return facts.launches["name_id"].to_numpy(), of_all("short_name_id"), shape


def _sparse(iteration: Array, column: Array, ns: Array, columns: int) -> SparseTable:
    """Sum by iteration and thing; the things are so many."""
    key = iteration.astype(np.int64) * max(columns, 1) + column
    code, unique = pd.factorize(key)
    place, number = np.divmod(unique, max(columns, 1))
    return SparseTable(
        iteration=place.astype(np.int32),
        column=number.astype(np.int32),
        ns=np.rint(np.bincount(code, ns, minlength=len(unique))).astype(np.int64),
        count=np.bincount(code, minlength=len(unique)).astype(np.int64),
    )


def _regions(  # noqa: PLR0913 - what the ledger is cut by
    facts: Facts,
    ledger: Ledger,
    spans: Spans,
    found: tuple[Iteration, ...],
    device: int,
    *,
    skipped: int,
    typical: int,
) -> Regions:
    booked, levels = stretches_by_region(facts, ledger, found)
    mine = np.flatnonzero((booked["device"] == device).to_numpy())
    mine = mine[np.argsort(booked["start_ns"].to_numpy()[mine], kind="stable")]
    stretches = booked.iloc[mine]
    bounds = Spans(stretches["start_ns"].to_numpy(), stretches["end_ns"].to_numpy())
    iteration, stretch, start, end = overlaps(spans, bounds)
    row = stretches["row"].to_numpy()[stretch].astype(np.int64)
    keys: list[tuple[str, str, str]] = []
    codes, which = [], []
    for level, code, texts in levels:
        region = code[mine][stretch]
        number, unique = pd.factorize(region * len(ROWS) + row)
        codes.append(number + len(keys))
        which.append(np.arange(len(number)))
        keys += [(level, texts[u // len(ROWS)], ROWS[u % len(ROWS)].value) for u in unique]
    if not keys:
        return _no_regions()
    column, place = np.concatenate(codes), np.concatenate(which)
    when, length = iteration[place], (end - start)[place]
    # The last one stays: the longest of the typical iteration, else of all after the warm-up.
    last_best = np.lexsort((length, when == typical))
    last_best = last_best[when[last_best] >= skipped]
    longest = np.full((len(keys), 2), -1, np.int64)
    longest[column[last_best]] = np.column_stack((start[place], end[place]))[last_best]
    return Regions(
        keys=tuple(keys), longest=longest, by_iteration=_sparse(when, column, length, len(keys))
    )


def _no_regions() -> Regions:
    none = np.empty(0, np.int64)
    return Regions(
        keys=(),
        longest=np.empty((0, 2), np.int64),
        by_iteration=SparseTable(iteration=none, column=none, ns=none, count=none),
    )


def _operators(facts: Facts, spans: Spans) -> dict[tuple[str, str], float]:
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


def _peaks(facts: Facts, spans: Spans, device: int) -> dict[str, int]:
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
    taken = int(events["allocated_bytes"].max())
    peaks = {
        "peak memory in use": taken,
        "peak memory reserved": int(events["reserved_bytes"].max()),
    }
    if taken < 0:  # old recordings tell only what was taken and given back
        events = events.sort_values("time_ns", kind="stable")
        peaks["peak memory taken since the first iteration"] = int(events["bytes"].cumsum().max())
    return {name: peak for name, peak in peaks.items() if peak >= 0}


def _clock(facts: Facts, spans: Spans) -> float | None:
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
