"""Copies run beside kernels, on a stream of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.facts.facts import COMMUNICATION, GRAPH, KERNEL, Facts
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.whatif.changes import pinned_copies
from analyzers.whatif.changes.change import (
    CALL_NS,
    HOST_COPIES,
    SMALL_BYTES,
    Change,
    Reach,
    Result,
    copies_of,
    neighbours_of,
)
from analyzers.whatif.columns import places_of, with_values
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import NOTHING, OP_END, OP_START, in_order
from analyzers.words import count_text
from collectors.schema import CopyKind

NAME, ORDER = "copies.overlapped", 4


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Prefetch copies on a stream of their own: each is under way while the step before runs."""
    operations = graph.operations
    copies = copies_of(facts, operations, HOST_COPIES)
    copies = copies[operations.linked[copies]]
    kernels = np.isin(operations.kind, (KERNEL, COMMUNICATION, GRAPH))
    with_kernels = np.unique(operations.lane[kernels])
    details = facts.of_table("copies", ["bytes", "kind"]).loc[operations.row[copies]]
    large = details["bytes"].to_numpy() > SMALL_BYTES
    large &= np.isin(operations.lane[copies], with_kernels)
    copies, into = copies[large], (details["kind"].to_numpy() == CopyKind.HOST_TO_DEVICE)[large]
    if not reach.operations[copies].any():
        return "no large copy shares a stream with kernels"
    pinned = pinned_copies.make(facts, graph, reach)
    base = pinned[0] if isinstance(pinned, list) else None
    graphs = [
        _overlapped(base_graph, copies, into, waits=waits)
        for base_graph, waits in (
            (base.best if base else graph, False),
            (base.worst if base else graph, True),
        )
    ]
    count = int(reach.operations[copies].sum())
    return [
        Change(
            id="copies.overlapped",
            overlaps=True,
            cause=Cause.BANDWIDTH,
            title=f"prefetching the {count_text(count, 'copy')} on a stream of their own",
            count=count,
            best=graphs[0],
            worst=graphs[1],
            assumptions=(
                "Each copy into the device is issued where the one before is now, from pinned "
                "memory; copies back to the host hold up no kernel",
                "Kernels that run beside a copy take as long as alone; at best no kernel waits for "
                "its copy, at worst the next one on the stream does",
            ),
        )
    ]


def _overlapped(graph: Graph, copies: Array, into: Array, *, waits: bool) -> Graph:
    """Return the graph with copies on streams of their own.

    Args:
        graph: Without waits for the copies.
        copies: Places of the copies.
        into: Which of them go to the device.
        waits: Whether the next operation of the old stream waits for a copy to the device.
    """
    operations, costs, targets = graph.operations, graph.costs, graph.targets
    calls = operations.call[copies]
    blocking = targets.after[calls] != NOTHING
    staged = np.minimum(costs.lead[calls], CALL_NS)
    own = np.where(blocking, staged, costs.own[calls])
    moved = np.zeros(len(operations), dtype=bool)
    moved[copies] = True
    previous, following = neighbours_of(operations.lane, moved)
    old_lane, lanes = operations.lane[copies], graph.counts.lanes
    source, source_lag = graph.dependencies.source, graph.dependencies.source_lag
    out = copies[~into]
    out = out[(previous[out] >= 0) & (source[out] < 0)]
    further = graph.dependencies.further_source
    if waits:
        consumer = following[copies[into]]
        has_consumer = consumer >= 0
        further = with_values(further, consumer[has_consumer], copies[into][has_consumer])
    changed = replace(
        graph,
        costs=replace(
            costs,
            own=with_values(costs.own, calls, own),
            tail=with_values(costs.tail, calls, 0),
        ),
        targets=replace(targets, after=with_values(targets.after, calls, NOTHING)),
        operations=replace(
            operations, lane=with_values(operations.lane, copies, lanes + 2 * old_lane + into)
        ),
        dependencies=replace(
            graph.dependencies,
            source=with_values(source, out, previous[out]),
            source_lag=with_values(source_lag, out, graph.typical.device_gap_ns),
            further_source=further,
        ),
        counts=replace(graph.counts, lanes=3 * lanes + 2),
    )
    return _issued_earlier(changed, copies[into], old_lane[into])


def _issued_earlier(graph: Graph, copies: Array, old_lane: Array) -> Graph:
    """Let each of these copies be submitted by the call of the one before on its old stream."""
    operations, targets = graph.operations, graph.targets
    call = operations.call.copy()
    for lane in np.unique(old_lane):
        of_lane = copies[old_lane == lane]
        call[of_lane[1:]] = operations.call[of_lane[:-1]]
    order = np.lexsort((np.arange(len(call)), call))
    place = places_of(order)

    def moved(target: Array) -> Array:
        return np.where(target >= 0, place[np.maximum(target, 0)], target)

    def moved_place(target: Array, of: Array) -> Array:
        to_operation = np.isin(target, (OP_END, OP_START)) & (of >= 0)
        return np.where(to_operation, place[np.where(to_operation, of, 0)], of)

    dependencies = in_order(graph.dependencies, order)
    operations = in_order(replace(operations, call=call), order)
    first_operation = np.searchsorted(operations.call, np.arange(len(graph.calls) + 1))
    return replace(
        graph,
        calls=replace(graph.calls, first_operation=first_operation),
        targets=replace(
            targets,
            before_place=moved_place(targets.before, targets.before_place),
            after_place=moved_place(targets.after, targets.after_place),
        ),
        operations=operations,
        dependencies=replace(
            dependencies,
            source=moved(dependencies.source),
            further_source=moved(dependencies.further_source),
        ),
    )
