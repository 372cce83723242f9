"""Copies run beside kernels, on a stream of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
    blocking_copies,
    neighbours_of,
)
from analyzers.whatif.graph import NOTHING, OP_END, OP_START, Graph
from analyzers.words import count_text
from collectors.schema import CopyKind

NAME, ORDER = "copies.overlapped", 4


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Prefetch copies on a stream of their own: each is under way while the step before runs."""
    op = blocking_copies(facts, graph, HOST_COPIES)
    op = op[graph.linked[op]]
    sizes = facts.of_table("copies", ["bytes", "kind"])
    kernels = np.isin(graph.kind, (KERNEL, COMMUNICATION, GRAPH))
    with_kernels = np.unique(graph.lane[kernels])
    mine = sizes.loc[graph.row[op]]
    large = (mine["bytes"].to_numpy() > SMALL_BYTES) & np.isin(graph.lane[op], with_kernels)
    op, into = op[large], (mine["kind"].to_numpy() == CopyKind.HOST_TO_DEVICE)[large]
    if not reach.ops[op].any():
        return "no large copy shares a stream with kernels"
    pinned = pinned_copies.make(facts, graph, reach)
    base = pinned[0] if isinstance(pinned, list) else None
    graphs = [
        _overlapped(base_graph, op, into, waits=waits)
        for base_graph, waits in (
            (base.best if base else graph, False),
            (base.worst if base else graph, True),
        )
    ]
    count = int(reach.ops[op].sum())
    return [
        Change(
            id="copies.overlapped",
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


def _overlapped(graph: Graph, op: Array, into: Array, *, waits: bool) -> Graph:
    """Return the graph with copies on streams of their own.

    Args:
        graph: Without waits for the copies.
        op: The copies.
        into: Which of them go to the device.
        waits: Whether the next operation of the old stream waits for a copy to the device.
    """
    lane, held = graph.lane.copy(), graph.held_until.copy()
    dep, dep_lag = graph.dep.copy(), graph.dep_lag.copy()
    after, own, tail = graph.after.copy(), graph.own.copy(), graph.tail.copy()
    items = graph.item[op]
    blocking = after[items] != NOTHING
    after[items], tail[items] = NOTHING, 0
    own[items] = np.where(blocking, np.minimum(graph.lead[items], CALL_NS), own[items])
    moved = np.zeros(len(lane), dtype=bool)
    moved[op] = True
    previous, following = neighbours_of(graph.lane, moved)
    lane[op] = int(graph.counts[1]) + 2 * graph.lane[op] + into
    out = op[~into]
    out = out[(previous[out] >= 0) & (dep[out] < 0)]
    dep[out], dep_lag[out] = previous[out], graph.device_gap_ns
    if waits:
        consumer = following[op[into]]
        known = consumer >= 0
        held[consumer[known]] = op[into][known]
    counts = graph.counts.copy()
    counts[1] += 2 * counts[1] + 2
    changed = replace(
        graph, lane=lane, held_until=held, dep=dep, dep_lag=dep_lag, after=after, own=own,
        tail=tail, counts=counts,
    )  # fmt: skip
    return _issued_earlier(changed, op[into], graph.lane[op[into]])


def _issued_earlier(graph: Graph, op: Array, old_lane: Array) -> Graph:
    """Let each of these operations be submitted by the call of the one before."""
    item = graph.item.copy()
    for lane in np.unique(old_lane):
        mine = op[old_lane == lane]
        item[mine[1:]] = graph.item[mine[:-1]]
    order = np.lexsort((np.arange(len(item)), item))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))

    def moved(target: Array) -> Array:
        return np.where(target >= 0, place[np.maximum(target, 0)], target)

    columns = {name: getattr(graph, name)[order] for name in _OP_COLUMNS}
    columns["item"] = item[order]
    columns["dep"], columns["held_until"] = moved(columns["dep"]), moved(columns["held_until"])
    targets = {}
    for when in ("before", "after"):
        of = getattr(graph, f"{when}_of")
        to_op = np.isin(getattr(graph, when), (OP_END, OP_START)) & (of >= 0)
        targets[f"{when}_of"] = np.where(to_op, place[np.where(to_op, of, 0)], of)
    first = np.searchsorted(columns["item"], np.arange(len(graph.begin) + 1))
    every: dict[str, Any] = {**columns, **targets, "first_op": first}
    return replace(graph, **every)


_OP_COLUMNS = (
    *("row", "kind", "item", "lane", "group", "engine", "start", "stop", "duration", "lane_lag"),
    *("dep", "dep_lag", "held_until", "linked"),
)
