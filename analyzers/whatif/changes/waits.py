"""Waits that block the host are removed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.whatif.changes.change import (
    CALL_NS,
    SMALL_BYTES,
    Change,
    Reach,
    Result,
    blocking_copies,
    has_operation,
)
from analyzers.whatif.graph import NOTHING, Graph
from analyzers.words import count_text
from collectors.schema import CopyKind

NAME, ORDER = "sync", 2


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Take away all waits, and those of each function where there are several."""
    waits = np.isin(graph.call, (Call.WAIT, Call.POLL)) & (graph.after != NOTHING)
    reads = _small_reads(facts, graph)
    blocked = (waits | reads) & reach.calls & graph.blocked
    if not blocked.any():
        return "no call of a thread that launches work waited for the GPU"
    guards = reads | _after_a_read(facts, graph)
    every = [_without_waits(graph, reach, (waits | reads, guards), "")]
    known = np.flatnonzero(blocked)
    names = facts.functions[facts.api["name"].to_numpy()[graph.api_row[known]]]
    functions = np.unique(np.array([str(n) for n in names]))
    if len(functions) > 1:
        for function in functions:  # each alone, too: it may be the only one that matters
            mine = np.zeros(len(waits), dtype=bool)
            code = np.flatnonzero(facts.functions.astype(str) == function)
            called = np.flatnonzero(graph.api_row >= 0)
            name = facts.api["name"].to_numpy()[graph.api_row[called]]
            mine[called[np.isin(name, code)]] = True
            mine &= waits | reads
            every.append(_without_waits(graph, reach, (mine, guards), str(function)))
    return every


def _small_reads(facts: Facts, graph: Graph) -> Array:
    """Return the calls that block to read a few bytes back."""
    result = np.zeros(len(graph.call), dtype=bool)
    op = blocking_copies(facts, graph, (CopyKind.DEVICE_TO_HOST,))
    if len(op):
        sizes = facts.of_table("copies", ["bytes"])["bytes"].loc[graph.row[op]].to_numpy()
        small = graph.item[op[(sizes >= 0) & (sizes <= SMALL_BYTES)]]
        result[small] = (graph.call[small] == Call.COPY) & (graph.after[small] != NOTHING)
    return result


def _after_a_read(facts: Facts, graph: Graph) -> Array:
    """Return the calls before which their thread last submitted a copy to the host."""
    reads = np.zeros(len(graph.call), dtype=bool)
    reads[graph.item[blocking_copies(facts, graph, (CopyKind.DEVICE_TO_HOST,))]] = True
    order = np.argsort(graph.thread, kind="stable")
    submits = has_operation(graph)[order]
    last = np.maximum.accumulate(np.where(submits, np.arange(len(order)), -1))
    before = order[np.maximum(last, 0)]
    result = np.zeros(len(order), dtype=bool)
    result[order] = (last >= 0) & (graph.thread[before] == graph.thread[order]) & reads[before]
    return result


def _without_waits(graph: Graph, reach: Reach, waits: tuple[Array, Array], function: str) -> Change:
    """Return the change that takes waits away.

    Args:
        graph: As recorded.
        reach: The window.
        waits: The calls, and which calls bring a result that the host probably reads.
        function: Name of the function, "" for all.
    """
    chosen, guards = waits
    guards = guards & chosen
    count = int(np.count_nonzero(chosen & reach.calls))
    copies = chosen & (graph.call == Call.COPY)
    after = np.where(chosen, NOTHING, graph.after)
    kept = np.where(copies, np.minimum(graph.lead, CALL_NS), 0)
    best = replace(
        graph,
        after=after,
        own=np.where(chosen, kept, graph.own),
        tail=np.where(chosen, 0, graph.tail),
    )
    rest = np.minimum(graph.own + graph.tail, graph.wake_up_ns)
    worst = replace(
        best,
        after=np.where(guards, graph.after, after),
        own=np.where(guards, graph.own, best.own),
        tail=np.where(chosen, np.where(guards, graph.tail, rest), graph.tail),
    )
    reads = int(np.count_nonzero(guards & reach.calls))
    what = "call" if function else "wait"
    what = what if count == 1 else count_text(count, what)
    what = f"{what} of {function}" if function else what
    return Change(
        id=f"sync:{function}" if function else "sync",
        cause=Cause.SYNC,
        title=f"removing the {what}",
        count=count,
        best=best,
        worst=worst,
        assumptions=(
            "The host does not need what it waited for before the next launch, nor does anything "
            "that the recording does not hold",
            *(
                [
                    f"{count_text(reads, 'wait')} bring{'s' if reads == 1 else ''} a copy to the "
                    "host, whose result is probably read: at worst those stay"
                ]
                if reads
                else []
            ),
            "At best nothing takes their place; at worst something does that takes as long as "
            f"waking up ({graph.wake_up_ns / 1e3:.1f} µs)",
        ),
    )
