"""What each iteration consists of: its account, its kernels and its regions, as tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from analyzers.compare.side import GRAPH_NAME, OTHERS, Kernels, Regions, SparseTable
from analyzers.facts.facts import (
    COMMUNICATION,
    GRAPH,
    KERNEL,
    Facts,
)
from analyzers.facts.occupancy import combined, first_of_each
from analyzers.finding import Row
from analyzers.intervals import Array, Spans, overlaps, shares_of_union
from analyzers.ledger.booking import NOTHING, ROW_CODE, ROWS
from analyzers.ledger.ledger import Ledger
from analyzers.ledger.regions import INNER_RANGES, RANGES

MAX_KERNELS = 2_000  # launch configurations that are compared one by one; the others are one row
MAX_SEQUENCE = 20_000  # launches of an iteration whose order is kept
NO_SHAPE = (-1, -1, -1, -1, -1, -1)
NO_RESOURCES = (-1, -1)
_SHAPE = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z")


class LaunchedKernels(NamedTuple):
    """Launches that are kernels: row of ``Facts.launches``, iteration, and number of the kernel."""

    row: Array
    iteration: Array
    column: Array

    def of_iterations(self, first: int) -> LaunchedKernels:
        """Return the launches from this iteration on."""
        kept = self.iteration >= first
        return LaunchedKernels(*(part[kept] for part in self))


def iteration_accounts(
    ledger: Ledger, spans: Spans, device: int, typical: int
) -> tuple[Array, Array]:
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
    in_typical = np.flatnonzero(iteration == typical)
    in_typical = in_typical[np.argsort(length[in_typical], kind="stable")]
    # Of several stretches of a row the longest comes last, and stays.
    places[row[in_typical]] = np.column_stack((start[in_typical], end[in_typical]))
    return table, places


def kernels_by_iteration(
    facts: Facts, in_use: tuple[Array, Array], typical: int
) -> tuple[Kernels, LaunchedKernels]:
    """Return kernels by name and launch configuration, from launches and the iteration of each."""
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
    resources = _resources(facts, first)
    if len(order) > MAX_KERNELS:
        code = np.minimum(code, MAX_KERNELS)
        names, short = (*names, OTHERS), (*short, OTHERS)
        shapes = np.concatenate((shapes, [NO_SHAPE]))
        resources = np.concatenate((resources, [NO_RESOURCES]))
    in_typical = np.flatnonzero(iteration == typical)
    longest = np.full((len(names), 2), -1, np.int64)
    by_length = in_typical[np.argsort(duration[in_typical], kind="stable")]
    begin, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    ran = rows[by_length]
    longest[code[by_length]] = np.column_stack((begin[ran], end[ran]))
    kernels = Kernels(
        names=names,
        short_names=short,
        shapes=shapes,
        longest=longest,
        sequence=code[in_typical[:MAX_SEQUENCE]].astype(np.int32),
        by_iteration=_sparse(iteration, code, duration, len(names)),
        resources=resources,
        sequence_ns=duration[in_typical[:MAX_SEQUENCE]],
        sequence_work=np.full(len(in_typical[:MAX_SEQUENCE]), -1, np.int32),
        sequence_range=np.zeros(len(in_typical[:MAX_SEQUENCE]), np.int32),
        ranges=("",),
    )
    return kernels, LaunchedKernels(rows, iteration, code)


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


def _resources(facts: Facts, launches: Array) -> Array:
    """Return registers a thread and bytes of shared memory a block of some launches."""
    names = ["registers_per_thread", "static_shared_bytes", "dynamic_shared_bytes"]
    of_kernels = facts.of_table("kernels", names).reindex(launches, fill_value=-1)
    registers, static, dynamic = (of_kernels[name].to_numpy(np.int64) for name in names)
    shared = np.maximum(static, 0) + np.maximum(dynamic, 0)
    return np.column_stack((registers, np.where((static < 0) & (dynamic < 0), -1, shared)))


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


Stretches = tuple[pd.DataFrame, tuple[tuple[str, Array, list[str]], ...]]
"""What ``analyzers.ledger.regions.stretches_by_region`` returns."""


def ranges_of_launches(by_region: Stretches, launches: Array) -> tuple[Array, tuple[str, ...]]:
    """Return the innermost range around each of some launches: a number, and the names.

    The first name, of those without one, is empty.

    Args:
        by_region: Stretches of the ledger by region of the program.
        launches: Rows of ``Facts.launches``.
    """
    booked, levels = by_region
    named = [(code, texts) for level, code, texts in levels if level in (RANGES, INNER_RANGES)]
    if not named or not len(launches):
        return np.zeros(len(launches), np.int32), ("",)
    code, texts = named[-1]
    launch = booked["launch"].to_numpy()
    of_launch = np.full(max(int(launches.max()), int(launch.max(initial=0))) + 1, -1, np.int64)
    of_launch[launch[launch != NOTHING]] = code[launch != NOTHING]
    numbers, used = pd.factorize(of_launch[launches])
    names = ["", *(texts[n] if n >= 0 else "" for n in used.tolist())]
    return (numbers + 1).astype(np.int32), tuple(names)


def regions_by_iteration(
    by_region: Stretches, spans: Spans, device: int, *, skipped: int, typical: int
) -> Regions:
    """Return the ledger by region of the program, for one device."""
    booked, levels = by_region
    on_device = np.flatnonzero((booked["device"] == device).to_numpy())
    on_device = on_device[np.argsort(booked["start_ns"].to_numpy()[on_device], kind="stable")]
    stretches = booked.iloc[on_device]
    bounds = Spans(stretches["start_ns"].to_numpy(), stretches["end_ns"].to_numpy())
    # Kernels may run at the same time: their stretches overlap, the iterations do not.
    stretch, iteration, start, end = overlaps(bounds, spans)
    order = np.lexsort((start, iteration))
    stretch, iteration, start, end = (c[order] for c in (stretch, iteration, start, end))
    row = stretches["row"].to_numpy()[stretch].astype(np.int64)
    is_kernel = row == ROW_CODE[Row.KERNEL]
    ns = end - start
    ns[is_kernel] = shares_of_union(start[is_kernel], end[is_kernel])
    keys: list[tuple[str, str, str]] = []
    codes, which = [], []
    for level, code, texts in levels:
        region = code[on_device][stretch]
        number, unique = pd.factorize(region * len(ROWS) + row)
        codes.append(number + len(keys))
        which.append(np.arange(len(number)))
        keys += [(level, texts[u // len(ROWS)], ROWS[u % len(ROWS)].value) for u in unique]
    if not keys:
        return _no_regions()
    column, place = np.concatenate(codes), np.concatenate(which)
    when, length = iteration[place], ns[place]
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
