"""Collectives are hidden behind compute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.facts.facts import COMMUNICATION, Facts
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.whatif.changes.change import Change, Reach, Result, neighbours_of
from analyzers.whatif.graph import NONE, Graph
from analyzers.words import count_text, time_text

NAME, ORDER = "communication", 7

FAST = 0.05  # rank of a collective that waited for no other one, among those of its kind


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Let collectives run beside kernels, and be needed only when the next one begins."""
    op = np.flatnonzero(graph.kind == COMMUNICATION)
    if not reach.ops[op].any():
        return "no collective ran"
    graphs = [_hidden(graph, op, needed=needed) for needed in (False, True)]
    count = int(reach.ops[op].sum())
    waiting = _waiting_for_others(facts, graph, op)
    late = graph.duration.copy()
    late[op] = waiting
    lost = int(waiting[reach.ops[op]].sum())
    return [
        Change(
            id="communication",
            cause=Cause.COMMUNICATION,
            title=f"hiding the {count_text(count, 'collective')} behind kernels",
            count=count,
            best=graphs[0],
            worst=graphs[1],
            assumptions=(
                "Collectives run on a stream of their own, start when they do now at the latest, "
                "and take as long beside kernels as alone",
                "At best no kernel waits for their result; at worst what follows the next "
                "collective does",
                f"How much of a collective is waiting for other ranks is not recorded: at worst "
                f"what it takes longer than the fastest of its kind ({time_text(lost)} in all) "
                "stays exposed",
            ),
            also_worst=(replace(graph, duration=late),),
        )
    ]


def _waiting_for_others(facts: Facts, graph: Graph, op: Array) -> Array:
    """Return how much longer each collective took than fast ones of its name and device."""
    name = facts.launches["name_id"].to_numpy()[graph.row[op]].astype(np.int64)
    code = np.unique(name * (int(graph.group.max()) + 1) + graph.group[op], return_inverse=True)[1]
    order = np.lexsort((graph.duration[op], code))
    first = np.searchsorted(code[order], np.arange(int(code.max()) + 1))
    size = np.bincount(code)
    fast = graph.duration[op][order][first + np.floor(FAST * (size - 1)).astype(np.int64)]
    waiting: Array = np.maximum(graph.duration[op] - fast[code], 0)
    return waiting


def _hidden(graph: Graph, op: Array, *, needed: bool) -> Graph:
    moved = np.zeros(len(graph.lane), dtype=bool)
    moved[op] = True
    previous, following = neighbours_of(graph.lane, moved)
    dep, dep_lag, held = graph.dep.copy(), graph.dep_lag.copy(), graph.held_until.copy()
    lane = graph.lane.copy()
    mine = op[(dep[op] < 0) & (previous[op] >= 0)]
    dep[mine], dep_lag[mine] = previous[mine], graph.device_gap_ns
    lane[op] = int(graph.counts[1]) + graph.group[op]
    freed = np.flatnonzero((dep >= 0) & ~moved & moved[np.maximum(dep, 0)])
    earlier = np.full(len(lane), NONE, np.int64)  # the collective before each one
    for group in np.unique(graph.group[op]):
        these = op[graph.group[op] == group]
        earlier[these[1:]] = these[:-1]
    consumer = following[op]
    if needed:
        known = (consumer >= 0) & (earlier[op] >= 0)
        held[consumer[known]] = earlier[op][known]
        held[freed] = earlier[dep[freed]]
    dep[freed] = NONE
    counts = graph.counts.copy()
    counts[1] += int(graph.counts[2])
    return replace(graph, lane=lane, dep=dep, dep_lag=dep_lag, held_until=held, counts=counts)
