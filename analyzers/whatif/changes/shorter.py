"""Launches become shorter, each by what an estimate says: what that wins behind other work."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.ledger.booking import DEVICE_GAP_MAX_NS
from analyzers.whatif.changes.change import Change, Reach, Result
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import NONE
from analyzers.words import count_text


@dataclass(frozen=True, kw_only=True, eq=False)
class Shortening:
    """By how much launches become shorter.

    Attributes:
        name: Of the change; the id of the finding that it belongs to.
        cause: ``Cause`` that it answers.
        title: In words, as the beginning of a sentence: "fusing these chains".
        launches: Rows of ``Facts.launches``.
        low_ns: By how much each becomes shorter at least.
        high_ns: By how much at most.
        is_absorbed: Whether each becomes part of another launch, and costs the host nothing.
    """

    name: str
    cause: Cause
    title: str
    launches: Array
    low_ns: Array
    high_ns: Array
    is_absorbed: Array


def shorten(graph: Graph, reach: Reach, shortening: Shortening) -> Result:
    """Make launches shorter, by the most at best and by the least at worst.

    Args:
        graph: The recording's dependencies.
        reach: The window.
        shortening: What becomes shorter.
    """
    rows = graph.operations.row
    count = int(np.isin(rows[reach.operations], shortening.launches).sum())
    if not count:
        return "none of these kernels ran"
    is_absorbed = np.isin(rows, shortening.launches[shortening.is_absorbed])
    best, worst = (
        absorbed(_shorter(graph, shortening.launches, ns), is_absorbed)
        for ns in (shortening.high_ns, shortening.low_ns)
    )
    return [
        Change(
            id=shortening.name,
            cause=shortening.cause,
            title=f"{shortening.title} ({count_text(count, 'kernel')})",
            count=count,
            best=best,
            worst=worst,
            assumptions=(
                "The estimate of the finding holds, and what becomes part of another kernel is not "
                "launched",
            ),
        )
    ]


def _shorter(graph: Graph, launches: Array, ns: Array) -> Graph:
    operations = graph.operations
    saved = np.zeros(max(int(operations.row.max(initial=0)), int(launches.max(initial=0))) + 1, int)
    saved[launches] = ns
    duration = np.maximum(operations.duration - saved[operations.row], 0)
    return replace(graph, operations=replace(operations, duration=duration))


def absorbed(graph: Graph, chosen: Array) -> Graph:
    """Return the graph in which operations are parts of those before: nobody launches them.

    A call that launches others, too, as that of a CUDA graph, stays.
    """
    calls = np.zeros(len(graph.calls), dtype=bool)
    calls[graph.operations.call[chosen]] = True
    calls[graph.operations.call[~chosen]] = False
    pauses, lane_lag = graph.pauses, graph.dependencies.lane_lag
    joins = chosen & (lane_lag > 0) & (lane_lag <= DEVICE_GAP_MAX_NS)
    return replace(
        graph,
        pauses=replace(
            pauses,
            gap=np.where(calls, 0, pauses.gap),
            handover=np.where(calls, NONE, pauses.handover),
        ),
        costs=replace(
            graph.costs,
            own=np.where(calls, 0, graph.costs.own),
            lead=np.where(calls, 0, graph.costs.lead),
        ),
        dependencies=replace(graph.dependencies, lane_lag=np.where(joins, 0, lane_lag)),
    )
