"""Runs the replay of a dependency graph, interpreted where it is short and compiled where not."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from analyzers.whatif import loop
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import LONG_AGO_NS, ReplayedTimes

INTERPRETED_STEPS = 30_000
"""Calls and operations of a replay that is interpreted: about 1 µs each, and a prediction takes a
dozen replays, where importing numba and loading what it compiled takes half a second."""


def run(graph: Graph) -> ReplayedTimes:
    """Replay ``graph``: return when each of its calls and operations begins and ends."""
    calls, pauses, costs, targets = graph.calls, graph.pauses, graph.costs, graph.targets
    operations, waits, counts = graph.operations, graph.dependencies, graph.counts
    columns: tuple[tuple[Any, ...], ...] = (
        (calls.thread, calls.first_operation, costs.own, costs.lead, costs.tail),
        (pauses.gap, pauses.handover, pauses.handover_lag),
        (targets.before, targets.before_place, targets.after, targets.after_place),
        (
            *(operations.lane, operations.group, operations.engine, operations.duration),
            *(waits.lane_lag, waits.source, waits.source_lag, waits.further_source),
        ),
        tuple(
            np.full(count, since, np.int64)
            for count, since in (
                (counts.threads, 0), (counts.lanes, LONG_AGO_NS),
                (counts.groups, 0), (counts.engines, 0),
                *[(len(calls), 0)] * 2, *[(len(operations), 0)] * 2,
            )
        ),
    )  # fmt: skip
    if is_interpreted(graph):
        columns = tuple(tuple(column.tolist() for column in part) for part in columns)
        loop.replay(*columns)  # type: ignore[no-untyped-call] # so that it can be compiled
    else:
        from analyzers.whatif.compiled import replay

        replay(*columns)
    begin, end, start, stop = (np.asarray(column, np.int64) for column in columns[-1][-4:])
    return ReplayedTimes(begin=begin, end=end, start=start, stop=stop)


def is_interpreted(graph: Graph) -> bool:
    """Tell whether a replay needs no compiled code, or too little to load it for that."""
    is_short = len(graph.calls) + len(graph.operations) <= INTERPRETED_STEPS
    return is_short and "analyzers.whatif.compiled" not in sys.modules
