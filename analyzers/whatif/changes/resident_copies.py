"""Data stays on the GPU: what leaves it and comes back is not copied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause
from analyzers.losses.round_trips import returned_copies
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
from analyzers.whatif.tables import NOTHING
from analyzers.words import count_text, size_text

NAME, ORDER = "copies.resident", 3.5


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Leave out the copies that take data to the host and bring as much back."""
    operations, costs, targets = graph.operations, graph.costs, graph.targets
    places = copies_of(facts, operations, HOST_COPIES)
    places = places[operations.linked[places] & reach.operations[places]]
    rows = operations.row[places]
    table = facts.of_table("copies", ["kind", "bytes"]).loc[rows]
    table = facts.launches.loc[rows, ["device", "start_ns", "end_ns"]].join(table)
    chosen = (table["bytes"] > SMALL_BYTES).to_numpy()
    places, table = places[chosen], table[chosen]
    comes_back = returned_copies(facts, table)
    if not comes_back.any():
        return "nothing leaves the GPU and comes back"
    copies, count = places[comes_back], int(comes_back.sum())
    call = np.zeros(len(graph.calls), dtype=bool)
    call[operations.call[copies]] = True
    duration = operations.duration.copy()
    duration[copies] = 0
    graphs = [
        replace(
            graph,
            costs=replace(
                costs,
                own=np.where(call, np.minimum(costs.own, left), costs.own),
                lead=np.where(call, np.minimum(costs.lead, left), costs.lead),
                tail=np.where(call, 0, costs.tail),
            ),
            targets=replace(targets, after=np.where(call, NOTHING, targets.after)),
            operations=replace(operations, duration=duration),
        )
        for left in (0, CALL_NS)
    ]
    moved = size_text(int(table["bytes"][comes_back].sum()))
    return [
        Change(
            id="copies.resident",
            cause=Cause.BANDWIDTH,
            title=f"keeping on the GPU what {count_text(count, 'copy')} move out and in ({moved})",
            count=count,
            best=graphs[0],
            worst=graphs[1],
            assumptions=(
                "What comes back is what had left: as many bytes, and the host does not change "
                "them",
                "The first copy to the GPU and the last one back stay; what the host does between "
                "copies stays, too",
                f"At worst {CALL_NS / 1e3:.0f} µs of a call take each copy's place",
            ),
        )
    ]
