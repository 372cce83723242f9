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
from analyzers.whatif.graph import NONE, NOTHING, Graph
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
    paused = np.where(graph.thread >= 0, graph.outside, 0)
    if not paused[reach.calls].any():
        return "no thread that launches work paused between its calls"
    every = [_fed(graph, reach, paused, "")]
    name, inside = _main_range(facts, graph, reach)
    if name:
        every.append(_fed(graph, reach, np.minimum(inside, paused), name))
    return every


def _fed(graph: Graph, reach: Reach, paused: Array, name: str) -> Change:
    """Return the change that takes ``paused`` ns away before each call: that of a range, or all."""
    mine = paused[reach.calls]
    count, lost = int(np.count_nonzero(mine)), int(mine.sum())
    what = f"preparing what {name_text(name)} does ahead" if name else "never starving the GPU"
    short_gaps = graph.gap[(graph.gap > 0) & (graph.gap <= DISPATCH_MAX_NS)]
    usual = int(np.median(short_gaps)) if len(short_gaps) else 0
    best, worst = (
        replace(
            graph,
            gap=np.maximum(graph.gap - gone, 0),
            hand_lag=np.maximum(graph.hand_lag - gone, 0),
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
    works = (graph.thread >= 0) & (graph.after == NOTHING) & (graph.before == NOTHING)
    more = np.where(works, np.rint(graph.own * HOST_SLOWER).astype(np.int64), 0)
    return replace(
        graph,
        gap=np.rint(graph.gap * (1 + HOST_SLOWER)).astype(np.int64),
        hand_lag=np.rint(graph.hand_lag * (1 + HOST_SLOWER)).astype(np.int64),
        own=graph.own + more,
        lead=graph.lead + more,
    )


def _main_range(facts: Facts, graph: Graph, reach: Reach) -> tuple[str, Array]:
    """Return the range that holds most of the pauses, and how much of each; "" if none stands out.

    The innermost range counts. One that holds nearly all of them says nothing new.
    """
    calls = np.flatnonzero((graph.outside > 0) & (graph.thread >= 0))
    call, name_id, ns = _pauses_by_range(facts, graph, calls)
    nothing = np.zeros(len(graph.thread), np.int64)
    ids, code = np.unique(name_id[name_id >= 0], return_inverse=True)
    if not len(ids):
        return "", nothing
    told = reach.calls[call[name_id >= 0]]
    total = np.bincount(code, np.where(told, ns[name_id >= 0], 0))
    most = int(np.argmax(total))
    share = total[most] / graph.outside[calls][reach.calls[calls]].sum()
    if not MIN_RANGE_SHARE <= share <= MAX_RANGE_SHARE:
        return "", nothing
    mine = name_id == ids[most]
    np.add.at(nothing, call[mine], ns[mine])
    return str(facts.trace.names(ids[most : most + 1])[0]), nothing


def _pauses_by_range(facts: Facts, graph: Graph, calls: Array) -> tuple[Array, Array, Array]:
    """Cut the pauses before calls at the borders of ranges.

    Returns:
        Call, name of the innermost range (-1 for none) and length of each part.
    """
    thread = facts.api["thread"].to_numpy()[graph.api_row[calls]]
    parts: list[tuple[Array, Array, Array]] = []
    for place in np.unique(thread):
        rows = np.flatnonzero(facts.ranges["thread"].to_numpy() == facts.threads[place])
        start, end = (facts.ranges[c].to_numpy()[rows] for c in ("start_ns", "end_ns"))
        names = np.append(facts.ranges["name_id"].to_numpy()[rows], NONE)
        mine = calls[thread == place]
        stop = graph.begin[mine] + graph.origin_ns
        begin = stop - graph.gap[mine]
        borders = np.unique(np.concatenate((start, end, begin, stop)))
        low, high = np.searchsorted(borders, begin), np.searchsorted(borders, stop)
        count = high - low
        at = np.repeat(low - np.cumsum(count) + count, count) + np.arange(int(count.sum()))
        ns = borders[np.minimum(at + 1, len(borders) - 1)] - borders[at]
        found = names[innermost(start, end, borders[at])]
        parts.append((np.repeat(mine, count), found.astype(np.int64), ns))
    empty = np.empty(0, np.int64)
    columns = zip(*parts, strict=True) if parts else ((empty,), (empty,), (empty,))
    call, name_id, ns = (np.concatenate(column) for column in columns)
    return call, name_id, ns
