"""Copies from pageable memory become copies from pinned memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.finding import Cause
from analyzers.whatif.changes.change import (
    CALL_NS,
    HOST_COPIES,
    SMALL_BYTES,
    Change,
    Reach,
    Result,
    blocking_copies,
)
from analyzers.whatif.graph import NOTHING, Graph
from analyzers.words import count_text, size_text
from collectors.schema import CopyKind, MemoryKind

NAME, ORDER = "copies.pinned", 3


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Let copies of pageable memory run from pinned memory, without holding the host."""
    op = blocking_copies(facts, graph, HOST_COPIES)
    op = op[graph.linked[op] & (graph.call[graph.item[op]] == Call.COPY)]
    sizes = facts.of_table("copies", ["bytes", "source_kind", "destination_kind", "kind"])
    mine = sizes.loc[graph.row[op]]
    side = np.where(
        mine["kind"] == CopyKind.HOST_TO_DEVICE, mine["source_kind"], mine["destination_kind"]
    )
    op = op[(side != MemoryKind.PINNED) & (mine["bytes"].to_numpy() > SMALL_BYTES)]
    if not (reach.ops[op]).any():
        return "no large copy between host and device held the host"
    items = graph.item[op]
    call = np.zeros(len(graph.call), dtype=bool)
    call[items] = True
    own = np.minimum(graph.lead, CALL_NS)
    after = np.where(call, NOTHING, graph.after)
    tail = np.where(call, 0, graph.tail)
    lead = np.where(call, own + max(graph.latency_ns, 0), graph.lead)
    worst = replace(graph, after=after, tail=tail, own=np.where(call, own, graph.own), lead=lead)
    rate, said = pinned_rate(facts, graph)
    duration = graph.duration.copy()
    size = facts.of_table("copies", ["bytes"])["bytes"].loc[graph.row[op]].to_numpy()
    if rate > 0:
        duration[op] = np.minimum(duration[op], np.rint(size / rate).astype(np.int64))
    best = replace(worst, duration=duration)
    inside = reach.ops[op]
    count = int(inside.sum())
    moved = count_text(count, "copy")
    return [
        Change(
            id="copies.pinned",
            cause=Cause.BANDWIDTH,
            title=f"pinning the memory of the {moved} ({size_text(int(size[inside].sum()))})",
            count=count,
            best=best,
            worst=worst,
            assumptions=(
                "The host no longer stages the data nor waits for the copy; the data is in "
                "pinned memory already",
                said,
            ),
        )
    ]


def pinned_rate(facts: Facts, graph: Graph) -> tuple[float, str]:
    """Return the rate of this recording's own large pinned copies in bytes a ns, 0 without any."""
    op = blocking_copies(facts, graph, HOST_COPIES)
    told = facts.of_table("copies", ["bytes", "source_kind", "destination_kind"]).loc[graph.row[op]]
    pinned = (told["source_kind"] == MemoryKind.PINNED) | (
        told["destination_kind"] == MemoryKind.PINNED
    )
    pinned &= told["bytes"] > 16 * SMALL_BYTES
    chosen = pinned.to_numpy()
    if not chosen.any():
        return 0.0, "The copies themselves take as long as now; pinned ones are often faster"
    rate = float(
        np.median(told["bytes"].to_numpy()[chosen] / np.maximum(graph.duration[op[chosen]], 1))
    )
    return rate, f"The copies run at {rate:.1f} GB/s at best, as the recording's pinned ones do"
