"""Waits that block the host are removed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.whatif.changes.change import CALL_NS, SMALL_BYTES, Change, Reach, Result, copies_of
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import NOTHING
from analyzers.whatif.typical import WAKE_UP_NS
from analyzers.words import count_text
from collectors.schema import CopyKind

NAME, ORDER = "sync", 2


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Take away all waits, and those of each function where there are several."""
    calls, targets = graph.calls, graph.targets
    waits = np.isin(calls.kind, (Call.WAIT, Call.POLL)) & (targets.after != NOTHING)
    reads = _small_reads(facts, graph)
    blocked = (waits | reads) & reach.calls & targets.blocked
    if not blocked.any():
        return "no call of a thread that launches work waited for the GPU"
    guards = reads | _after_a_read(facts, graph)
    every = [_without_waits(graph, reach, (waits | reads, guards), "")]
    names = facts.functions[facts.api["name"].to_numpy()[calls.api_row[np.flatnonzero(blocked)]]]
    functions = np.unique(np.array([str(n) for n in names]))
    if len(functions) > 1:
        for function in functions:  # each alone, too: it may be the only one that matters
            of_function = np.zeros(len(waits), dtype=bool)
            code = np.flatnonzero(facts.functions.astype(str) == function)
            called = np.flatnonzero(calls.api_row >= 0)
            name = facts.api["name"].to_numpy()[calls.api_row[called]]
            of_function[called[np.isin(name, code)]] = True
            of_function &= waits | reads
            every.append(_without_waits(graph, reach, (of_function, guards), str(function)))
    return every


def _small_reads(facts: Facts, graph: Graph) -> Array:
    """Return the calls that block to read a few bytes back."""
    calls, operations = graph.calls, graph.operations
    result = np.zeros(len(calls), dtype=bool)
    copies = copies_of(facts, operations, (CopyKind.DEVICE_TO_HOST,))
    if len(copies):
        rows = operations.row[copies]
        sizes = facts.of_table("copies", ["bytes"])["bytes"].loc[rows].to_numpy()
        small = operations.call[copies[(sizes >= 0) & (sizes <= SMALL_BYTES)]]
        result[small] = (calls.kind[small] == Call.COPY) & (graph.targets.after[small] != NOTHING)
    return result


def _after_a_read(facts: Facts, graph: Graph) -> Array:
    """Return the calls before which their thread last submitted a copy to the host."""
    operations, thread = graph.operations, graph.calls.thread
    reads = np.zeros(len(thread), dtype=bool)
    reads[operations.call[copies_of(facts, operations, (CopyKind.DEVICE_TO_HOST,))]] = True
    order = np.argsort(thread, kind="stable")
    submits = graph.calls.has_operation[order]
    last = np.maximum.accumulate(np.where(submits, np.arange(len(order)), -1))
    before = order[np.maximum(last, 0)]
    result = np.zeros(len(order), dtype=bool)
    result[order] = (last >= 0) & (thread[before] == thread[order]) & reads[before]
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
    costs, targets = graph.costs, graph.targets
    copies = chosen & (graph.calls.kind == Call.COPY)
    after = np.where(chosen, NOTHING, targets.after)
    kept = np.where(copies, np.minimum(costs.lead, CALL_NS), 0)
    own = np.where(chosen, kept, costs.own)
    best = replace(
        graph,
        costs=replace(costs, own=own, tail=np.where(chosen, 0, costs.tail)),
        targets=replace(targets, after=after),
    )
    rest = np.minimum(costs.own + costs.tail, WAKE_UP_NS)
    tail = np.where(chosen, np.where(guards, costs.tail, rest), costs.tail)
    worst = replace(
        graph,
        costs=replace(costs, own=np.where(guards, costs.own, own), tail=tail),
        targets=replace(targets, after=np.where(guards, targets.after, after)),
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
            f"waking up ({WAKE_UP_NS / 1e3:.1f} µs)",
        ),
    )
