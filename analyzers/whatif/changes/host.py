"""The GPU is fed without pauses of the host."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.facts.nesting import innermost
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.ledger.host_timeline import DISPATCH_MAX_NS
from analyzers.whatif.changes.change import Change, Reach, Result
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import NONE, NOTHING
from analyzers.words import count_text, name_text, time_text

NAME, ORDER = "host", 5

# What prepares input beside a thread slows it down: cores that are busy together run at a lower
# clock than one alone and share caches and memory, threads of Python share its lock. An allowance
# as wide as ``VARIES`` for the device, not a measured figure.
HOST_SLOWER = 0.25

MIN_RANGE_SHARE, MAX_RANGE_SHARE = 0.2, 0.95  # of all pauses


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Take away the time in which threads that launch work do neither that nor CUDA calls.

    What the range that holds most of it takes is taken away alone, too: a loader in other
    processes prepares input, and leaves the rest of the host's pauses as they are.
    """
    paused = np.where(graph.calls.thread >= 0, graph.pauses.outside, 0)
    if not paused[reach.calls].any():
        return "no thread that launches work paused between its calls"
    every = [_without_pauses(graph, reach, paused, "")]
    name, inside = _main_range(facts, graph, reach)
    if name:
        every.append(_without_pauses(graph, reach, np.minimum(inside, paused), name))
    return every


def _without_pauses(graph: Graph, reach: Reach, paused: Array, name: str) -> Change:
    """Return the change that takes ``paused`` ns away before each call: that of a range, or all."""
    inside = paused[reach.calls]
    count, lost = int(np.count_nonzero(inside)), int(inside.sum())
    what = f"preparing what {name_text(name)} does ahead" if name else "never starving the GPU"
    pauses = graph.pauses
    short_gaps = pauses.gap[(pauses.gap > 0) & (pauses.gap <= DISPATCH_MAX_NS)]
    usual = int(np.median(short_gaps)) if len(short_gaps) else 0
    best, worst = (
        replace(
            graph,
            pauses=replace(
                pauses,
                gap=np.maximum(pauses.gap - gone, 0),
                handover_lag=np.maximum(pauses.handover_lag - gone, 0),
            ),
        )
        for gone in (np.maximum(paused - left, 0) for left in (0, usual))
    )
    return Change(
        id=f"host:{name}" if name else "host",
        cause=Cause.HOST,
        title=f"{what} ({count_text(count, 'host pause')}, {time_text(lost)})",
        count=count,
        best=best,
        worst=_slower_host(worst),
        assumptions=(
            f"{'It is' if name else 'Input, locks and other host work outside of launching are'} "
            "ready in time; at best nothing else changes",
            f"At worst the host needs {usual / 1e3:.1f} µs in its place, and its "
            f"own work takes {100 * HOST_SLOWER:.0f} % longer beside what prepares it",
        ),
    )


def _slower_host(graph: Graph) -> Graph:
    """Return the graph in which the host's own work takes longer; waits do not."""
    pauses, costs, targets = graph.pauses, graph.costs, graph.targets
    works = graph.calls.thread >= 0
    works &= (targets.after == NOTHING) & (targets.before == NOTHING)
    more = np.where(works, np.rint(costs.own * HOST_SLOWER).astype(np.int64), 0)
    return replace(
        graph,
        pauses=replace(
            pauses,
            gap=np.rint(pauses.gap * (1 + HOST_SLOWER)).astype(np.int64),
            handover_lag=np.rint(pauses.handover_lag * (1 + HOST_SLOWER)).astype(np.int64),
        ),
        costs=replace(costs, own=costs.own + more, lead=costs.lead + more),
    )


def _main_range(facts: Facts, graph: Graph, reach: Reach) -> tuple[str, Array]:
    """Return the range that holds most of the pauses, and how much of each; "" if none stands out.

    The innermost range counts. One that holds nearly all of them says nothing new.
    """
    outside, thread = graph.pauses.outside, graph.calls.thread
    calls = np.flatnonzero((outside > 0) & (thread >= 0))
    call, name_id, ns = _pauses_by_range(facts, graph, calls)
    nothing = np.zeros(len(thread), np.int64)
    ids, code = np.unique(name_id[name_id >= 0], return_inverse=True)
    if not len(ids):
        return "", nothing
    inside = reach.calls[call[name_id >= 0]]
    total = np.bincount(code, np.where(inside, ns[name_id >= 0], 0))
    most = int(np.argmax(total))
    share = total[most] / outside[calls][reach.calls[calls]].sum()
    if not MIN_RANGE_SHARE <= share <= MAX_RANGE_SHARE:
        return "", nothing
    of_range = name_id == ids[most]
    result = np.zeros(len(thread), np.int64)
    np.add.at(result, call[of_range], ns[of_range])
    return str(facts.trace.names(ids[most : most + 1])[0]), result


def _pauses_by_range(facts: Facts, graph: Graph, calls: Array) -> tuple[Array, Array, Array]:
    """Cut the pauses before calls at the borders of ranges.

    Returns:
        Call, name of the innermost range (-1 for none) and length of each part.
    """
    thread = facts.api["thread_index"].to_numpy()[graph.calls.api_row[calls]]
    parts: list[tuple[Array, Array, Array]] = []
    for place in np.unique(thread):
        rows = np.flatnonzero(facts.ranges["thread_key"].to_numpy() == facts.thread_keys[place])
        start, end = (facts.ranges[c].to_numpy()[rows] for c in ("start_ns", "end_ns"))
        names = np.append(facts.ranges["name_id"].to_numpy()[rows], NONE)
        of_thread = calls[thread == place]
        stop = graph.calls.begin[of_thread] + graph.origin_ns
        begin = stop - graph.pauses.gap[of_thread]
        borders = np.unique(np.concatenate((start, end, begin, stop)))
        low, high = np.searchsorted(borders, begin), np.searchsorted(borders, stop)
        count = high - low
        at = np.repeat(low - np.cumsum(count) + count, count) + np.arange(int(count.sum()))
        ns = borders[np.minimum(at + 1, len(borders) - 1)] - borders[at]
        name = names[innermost(start, end, borders[at])]
        parts.append((np.repeat(of_thread, count), name.astype(np.int64), ns))
    empty = np.empty(0, np.int64)
    columns = zip(*parts, strict=True) if parts else ((empty,), (empty,), (empty,))
    call, name_id, ns = (np.concatenate(column) for column in columns)
    return call, name_id, ns
