"""Memory is allocated once, before the loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.facts.start_up import is_start_up
from analyzers.finding import Cause
from analyzers.whatif.changes.change import CALL_NS, Change, Reach, Result
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import NOTHING
from analyzers.words import count_text

NAME, ORDER = "memory", 6


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Take away allocating and freeing, and the waits that freeing implies.

    What creates a context or loads a library is left as it is, though its name is that of an
    allocation: it would come with the next call instead.
    """
    costs, targets = graph.costs, graph.targets
    api_row = graph.calls.api_row
    starts_up = (api_row >= 0) & np.append(is_start_up(facts), False)[api_row]
    chosen = np.isin(graph.calls.kind, (Call.ALLOCATE, Call.FREE)) & ~starts_up
    count = int(np.count_nonzero(chosen & reach.calls))
    if not count:
        return "no thread that launches work allocates or frees memory in the window"
    best = replace(
        graph,
        costs=replace(
            costs, own=np.where(chosen, 0, costs.own), tail=np.where(chosen, 0, costs.tail)
        ),
        targets=replace(
            targets,
            before=np.where(chosen, NOTHING, targets.before),
            after=np.where(chosen, NOTHING, targets.after),
        ),
    )
    pooled = np.where(chosen, np.minimum(costs.own, CALL_NS), costs.own)
    worst = replace(best, costs=replace(best.costs, own=pooled))
    return [
        Change(
            id="memory",
            cause=Cause.MEMORY,
            title=f"allocating once instead of {count_text(count, 'call')} in the loop",
            count=count,
            best=best,
            worst=worst,
            assumptions=(
                "Buffers are allocated before the loop, or come from a pool; creating a context "
                "and loading libraries takes as long as it did",
                f"At worst a pool takes {CALL_NS / 1e3:.0f} µs a call",
            ),
        )
    ]
