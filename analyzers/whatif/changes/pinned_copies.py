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
    copies_of,
)
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import NOTHING, CallCosts, Operations
from analyzers.words import count_text, size_text
from collectors.schema import CopyKind, MemoryKind

NAME, ORDER = "copies.pinned", 3


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Let copies of pageable memory run from pinned memory, without holding the host."""
    calls, operations, costs, targets = graph.calls, graph.operations, graph.costs, graph.targets
    copies = copies_of(facts, operations, HOST_COPIES)
    is_call = calls.kind[operations.call[copies]] == Call.COPY
    copies = copies[operations.linked[copies] & is_call]
    details = facts.of_table("copies", ["bytes", "source_kind", "destination_kind", "kind"])
    details = details.loc[operations.row[copies]]
    side = np.where(
        details["kind"] == CopyKind.HOST_TO_DEVICE,
        details["source_kind"],
        details["destination_kind"],
    )
    size = details["bytes"].to_numpy()
    chosen = (side != MemoryKind.PINNED) & (size > SMALL_BYTES)
    copies, size = copies[chosen], size[chosen]
    inside = reach.operations[copies]
    if not inside.any():
        return "no large copy between host and device held the host"
    call = np.zeros(len(calls), dtype=bool)
    call[operations.call[copies]] = True
    own = np.minimum(costs.lead, CALL_NS)
    worst = replace(
        graph,
        costs=CallCosts(
            own=np.where(call, own, costs.own),
            lead=np.where(call, own + max(graph.typical.latency_ns, 0), costs.lead),
            tail=np.where(call, 0, costs.tail),
        ),
        targets=replace(targets, after=np.where(call, NOTHING, targets.after)),
    )
    rate, rate_text = pinned_rate(facts, operations)
    duration = operations.duration.copy()
    if rate > 0:
        duration[copies] = np.minimum(duration[copies], np.rint(size / rate).astype(np.int64))
    best = replace(worst, operations=replace(operations, duration=duration))
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
                rate_text,
            ),
        )
    ]


def pinned_rate(facts: Facts, operations: Operations) -> tuple[float, str]:
    """Return the rate of this recording's own large pinned copies, and a sentence about it.

    Returns:
        Bytes a ns, 0 without any; the assumption in words.
    """
    copies = copies_of(facts, operations, HOST_COPIES)
    details = facts.of_table("copies", ["bytes", "source_kind", "destination_kind"])
    details = details.loc[operations.row[copies]]
    pinned = (details["source_kind"] == MemoryKind.PINNED) | (
        details["destination_kind"] == MemoryKind.PINNED
    )
    pinned &= details["bytes"] > 16 * SMALL_BYTES
    chosen = pinned.to_numpy()
    if not chosen.any():
        return 0.0, "The copies themselves take as long as now; pinned ones are often faster"
    duration = np.maximum(operations.duration[copies[chosen]], 1)
    rate = float(np.median(details["bytes"].to_numpy()[chosen] / duration))
    return rate, f"The copies run at {rate:.1f} GB/s at best, as the recording's pinned ones do"
