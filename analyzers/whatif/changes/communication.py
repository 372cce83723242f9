"""Collectives are hidden behind compute."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import COMMUNICATION, Facts
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.whatif.changes.change import Change, Reach, Result, neighbours_of
from analyzers.whatif.columns import with_values
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import NONE
from analyzers.words import count_text, time_text

NAME, ORDER = "communication", 7

FAST = 0.05  # rank of a collective that waited for no other one, among those of its kind


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Let collectives run beside kernels, and be needed only when the next one begins."""
    operations = graph.operations
    collectives = np.flatnonzero(operations.kind == COMMUNICATION)
    inside = reach.operations[collectives]
    if not inside.any():
        return "no collective ran"
    graphs = [_hidden(graph, collectives, needed=needed) for needed in (False, True)]
    count = int(inside.sum())
    waits = _waiting_for_others(facts, graph, collectives)
    late = with_values(operations.duration, collectives, waits.ns)
    return [
        Change(
            id="communication",
            overlaps=True,
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
                _assumption(waits, inside),
            ),
            also_worst=(replace(graph, operations=replace(operations, duration=late)),),
        )
    ]


@dataclass(frozen=True, kw_only=True)
class _Waits:
    """How long each collective waits for other ranks.

    Attributes:
        ns: Until all ranks had come, where that is known; else what it takes longer than the
            fastest of its name and device.
        is_measured: Whether all ranks of it are in the recording, so that it is known.
    """

    ns: Array
    is_measured: Array


def _waiting_for_others(facts: Facts, graph: Graph, collectives: Array) -> _Waits:
    row = graph.operations.row[collectives]
    matched = collectives_of(facts)
    members = matched.members
    measured = np.full(len(facts.launches), NONE, np.int64)
    until = np.minimum(members["last_ns"].to_numpy(), members["end_ns"].to_numpy())
    begun = members["start_ns"].to_numpy()
    measured[members["launch"].to_numpy()] = np.maximum(until - begun, 0)
    ns = measured[row]
    # A rank that was not recorded may have come later than all that were.
    is_measured = (ns != NONE) & (matched.missing_ranks == 0)
    longer = _longer_than_fastest(facts, graph, collectives)
    return _Waits(ns=np.where(is_measured, ns, np.maximum(ns, longer)), is_measured=is_measured)


def _assumption(waits: _Waits, inside: Array) -> str:
    """Say how much of the collectives in the window waits for other ranks, and how it is known."""
    matched, alone = waits.is_measured & inside, ~waits.is_measured & inside
    measured = time_text(int(waits.ns[matched].sum()))
    estimated = (
        "at worst what it takes longer than the fastest of its kind "
        f"({time_text(int(waits.ns[alone].sum()))} in all) stays exposed"
    )
    if not alone.any():
        return (
            f"Of their time, {measured} is measured waiting for ranks that come later: at worst "
            "that stays exposed, and an earlier begin does not shorten it"
        )
    if not matched.any():
        return f"How much of a collective is waiting for other ranks is not recorded: {estimated}"
    return (
        f"{int(matched.sum()):,} of them waited {measured} for ranks that came later, as "
        f"measured: at worst that stays exposed. How much of the other "
        f"{int(alone.sum()):,} is waiting is not recorded: {estimated}"
    )


def _longer_than_fastest(facts: Facts, graph: Graph, collectives: Array) -> Array:
    """Return how much longer each collective took than fast ones of its name and device."""
    operations = graph.operations
    row, group = operations.row[collectives], operations.group[collectives]
    duration = operations.duration[collectives]
    name = facts.launches["name_id"].to_numpy()[row].astype(np.int64)
    code = np.unique(name * (int(operations.group.max()) + 1) + group, return_inverse=True)[1]
    order = np.lexsort((duration, code))
    first = np.searchsorted(code[order], np.arange(int(code.max()) + 1))
    size = np.bincount(code)
    fast = duration[order][first + np.floor(FAST * (size - 1)).astype(np.int64)]
    longer: Array = np.maximum(duration - fast[code], 0)
    return longer


def _hidden(graph: Graph, collectives: Array, *, needed: bool) -> Graph:
    """Return the graph with collectives on streams of their own.

    Args:
        graph: As recorded.
        collectives: Their places.
        needed: Whether what follows the next collective waits for each one's result.
    """
    operations, waits, counts = graph.operations, graph.dependencies, graph.counts
    moved = np.zeros(len(operations), dtype=bool)
    moved[collectives] = True
    previous, following = neighbours_of(operations.lane, moved)
    source, source_lag = waits.source.copy(), waits.source_lag.copy()
    further = waits.further_source.copy()
    bound = collectives[(source[collectives] < 0) & (previous[collectives] >= 0)]
    source[bound], source_lag[bound] = previous[bound], graph.typical.device_gap_ns
    group = operations.group[collectives]
    freed = np.flatnonzero((source >= 0) & ~moved & moved[np.maximum(source, 0)])
    earlier = np.full(len(operations), NONE, np.int64)  # the collective before each one
    for one in np.unique(group):
        of_group = collectives[group == one]
        earlier[of_group[1:]] = of_group[:-1]
    consumer = following[collectives]
    if needed:
        both = (consumer >= 0) & (earlier[collectives] >= 0)
        further[consumer[both]] = earlier[collectives][both]
        further[freed] = earlier[source[freed]]
    source[freed] = NONE
    lane = with_values(operations.lane, collectives, counts.lanes + group)
    return replace(
        graph,
        operations=replace(operations, lane=lane),
        dependencies=replace(waits, source=source, source_lag=source_lag, further_source=further),
        counts=replace(counts, lanes=counts.lanes + counts.groups),
    )
