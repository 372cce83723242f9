"""Launches captured in a CUDA graph: one call for what lies between two waits or steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import GRAPH, Facts
from analyzers.facts.loops import find_iterations
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.ledger.booking import DEVICE_GAP_MAX_NS
from analyzers.ledger.host_timeline import DISPATCH_MAX_NS, LAZY_LOADING_MIN_NS
from analyzers.whatif.changes.change import Change, Reach, Result
from analyzers.whatif.columns import functions_with
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import NONE, NOTHING
from analyzers.words import count_text

NAME, ORDER = "graph", 1

# Launching a graph once more: 2.5 µs and about 1 ns for each node of a straight line with CUDA 12.6
# on Ampere or newer, 2 µs and 200 ns for each node with CUDA 11.8 (NVIDIA, "Constant Time Launch
# for Straight-Line CUDA Graphs and Other Performance Enhancements", developer.nvidia.com/blog/
# constant-time-launch-for-straight-line-cuda-graphs-and-other-performance-enhancements). Under a
# profiler, or from a framework, a call takes a few µs more.
GRAPH_CALL_NS, GRAPH_CALL_MAX_NS = 2_500, 10_000
GRAPH_NODE_NS, GRAPH_NODE_MAX_NS = 1, 200

# Between kernels of a graph about half a µs was left on a V100 where launches left 0.9 µs (NVIDIA,
# "Getting Started with CUDA Graphs", developer.nvidia.com/blog/cuda-graphs).
GRAPH_GAP_NS = 500

MIN_STEPS = 3  # recorded steps that show whether a sequence comes again
MIN_NODES = 5  # launching a shorter graph costs about what its launches cost; nobody builds one


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Launch what lies between two waits or steps with one call."""
    run = _runs(facts, graph)
    sequence = _sequences(facts, graph, run)
    recurs = np.bincount(sequence)[sequence] > 1
    is_varied = len(_step_begins(facts)) >= MIN_STEPS and len(recurs) > 0 and not recurs.all()
    if is_varied:  # what never comes again in so many steps is not the same every time
        run = _renumbered(run, recurs)
        sequence = sequence[recurs]
        recurs = recurs[recurs]
    inside = run >= 0
    nodes = np.bincount(run[inside], minlength=1)
    if not inside[graph.operations.call[reach.operations]].any():
        what = "come again in the same order" if is_varied else "stand"
        return (
            f"no {MIN_NODES} launches {what} between waits, pauses and steps, or all are in graphs "
            "already"
        )
    head = np.zeros(len(run), dtype=bool)
    places = np.flatnonzero(inside)
    head[places[np.unique(run[places], return_index=True)[1]]] = True
    measured = _graph_call_ns(facts, graph)
    if measured < 0:
        best_call = np.rint(GRAPH_CALL_NS + GRAPH_NODE_NS * nodes)
        worst_call = np.rint(GRAPH_CALL_MAX_NS + GRAPH_NODE_MAX_NS * nodes)
    else:
        best_call = worst_call = np.full(len(nodes), measured)
    gap = min(graph.typical.device_gap_ns, _graph_gap_ns(facts, graph))
    best = _captured(graph, run, head, best_call, gap)
    sure = np.where(inside, np.where(recurs[np.maximum(run, 0)], run, NONE), NONE)
    worst = _captured(graph, sure, head, worst_call, -1)
    reached = graph.operations.call[reach.operations]
    reached = reached[inside[reached]]
    count, launched = len(reached), np.unique(run[reached])
    different = len(np.unique(sequence[launched]))
    again = int(np.count_nonzero(sure[reached] >= 0))
    cost = (
        f"Launching a graph costs {measured / 1e3:.1f} µs, as in this recording"
        if measured >= 0
        else "Launching a graph costs 2.5 to 10 µs and 1 to 200 ns a node (NVIDIA's figures)"
    )
    title = (
        f"capturing the {count_text(count, 'launch')} in "
        f"{count_text(len(launched), 'CUDA graph launch')}"
    )
    return [
        Change(
            id="graph",
            cause=Cause.LAUNCH,
            title=title,
            count=count,
            best=best,
            worst=worst,
            assumptions=(
                "What is launched between two waits, pauses or steps is the same every time, with "
                f"the same shapes and addresses ({count_text(different, 'sequence')} by the names "
                "of kernels, each a graph); nothing in it allocates or waits",
                f"At worst only sequences that this recording holds more than once are captured: "
                f"{again:,} of the {count:,} launches",
                f"{cost}; kernels in it follow each other after {gap / 1e3:.1f} µs at best and "
                f"{graph.typical.device_gap_ns / 1e3:.1f} µs, as they do now, at worst",
            ),
        )
    ]


def _captured(graph: Graph, run: Array, head: Array, call_ns: Array, gap: int) -> Graph:
    """Return the graph in which each run is launched by its first call.

    Args:
        graph: As recorded.
        run: Number of the run of each call, -1 outside of runs.
        head: Whether a call is its run's first.
        call_ns: Time that launching each run takes.
        gap: Pause between its operations; -1 leaves it as it is.
    """
    inside, follows = run >= 0, (run >= 0) & ~head
    cost = call_ns.astype(np.int64)[np.maximum(run, 0)]
    costs, pauses, targets = graph.costs, graph.pauses, graph.targets
    latency, has_operation = graph.typical.latency_ns, graph.calls.has_operation
    usual = costs.lead - costs.own  # latency
    own = np.where(head, cost, np.where(follows, 0, costs.own))
    lead = np.where(
        inside & has_operation, np.maximum(own + np.minimum(usual, latency), 0), costs.lead
    )
    lead = np.where(follows & has_operation, np.maximum(latency, 0), lead)
    lane_lag = graph.dependencies.lane_lag
    if gap >= 0:
        inner = follows[graph.operations.call] & (lane_lag > gap)
        inner &= lane_lag <= DEVICE_GAP_MAX_NS
        lane_lag = np.where(inner, gap, lane_lag)
    return replace(
        graph,
        pauses=replace(
            pauses,
            gap=np.where(follows, 0, pauses.gap),
            handover=np.where(follows, NONE, pauses.handover),
        ),
        costs=replace(costs, own=own, lead=lead),
        targets=replace(targets, before=np.where(inside, NOTHING, targets.before)),
        dependencies=replace(graph.dependencies, lane_lag=lane_lag),
    )


def _runs(facts: Facts, graph: Graph) -> Array:
    """Return the number of the run of launches that each call is in, -1 for none.

    A run is on one thread, without a wait, an allocation, a long pause or the begin of a step.
    """
    calls, pauses, kind = graph.calls, graph.pauses, graph.operations.kind
    fits = np.isin(calls.kind, (Call.LAUNCH, Call.ENQUEUE, Call.OTHER)) & (calls.thread >= 0)
    fits &= (graph.targets.after == NOTHING) & ~_loads(facts, graph)
    order = np.argsort(calls.thread, kind="stable")
    thread, ok = calls.thread[order], fits[order]
    step = np.searchsorted(_step_begins(facts), calls.begin[order] + graph.origin_ns, side="right")
    breaks = (pauses.gap[order] > DISPATCH_MAX_NS) | (pauses.handover[order] >= 0)
    breaks |= np.concatenate(([True], (thread[1:] != thread[:-1]) | (step[1:] != step[:-1])))
    breaks |= ~ok | np.concatenate(([True], ~ok[:-1]))
    number = np.cumsum(breaks) - 1
    launches = calls.has_operation[order] & ok
    first_kind = kind[np.minimum(calls.first_operation[:-1], len(kind) - 1)]
    already = (first_kind == GRAPH)[order]
    already |= (np.diff(calls.first_operation) > 1)[order]
    size = np.bincount(number, launches & ~already, minlength=number[-1] + 1)
    holds_graph = np.bincount(number, launches & already, minlength=number[-1] + 1) > 0
    # A run begins with its first launch: what stands before is not captured.
    seen = np.cumsum(launches) - 1
    first = np.flatnonzero(breaks)
    before = np.where(first > 0, seen[first - 1], -1)
    begun = seen > before[number]
    good = ok & begun & (size >= MIN_NODES)[number] & ~holds_graph[number]
    result = np.full(len(order), NONE, np.int64)
    codes = np.unique(number[good], return_inverse=True)[1]
    result[order[good]] = codes
    return result


def _loads(facts: Facts, graph: Graph) -> Array:
    """Return the launch calls that load their kernel first: a graph's kernels are loaded, too."""
    calls = graph.calls
    long = np.flatnonzero((calls.kind == Call.LAUNCH) & (calls.length >= LAZY_LOADING_MIN_NS))
    result = np.zeros(len(calls), dtype=bool)
    result[long] = facts.is_first_use[calls.api_row[long]]
    return result


def _renumbered(run: Array, kept: Array) -> Array:
    """Return the runs that are kept, numbered anew."""
    number = np.append(np.where(kept, np.cumsum(kept) - 1, NONE), NONE)  # the last is that of none
    result: Array = number[run]
    return result


def _sequences(facts: Facts, graph: Graph, run: Array) -> Array:
    """Return a number for each run: equal for the same kernels on the same streams, in order."""
    operations = graph.operations
    rows = np.flatnonzero(run[operations.call] >= 0)
    if not len(rows):
        return np.zeros(0, np.int64)
    number = run[operations.call[rows]]
    order = np.argsort(number, kind="stable")
    rows, number = rows[order], number[order]
    first = np.flatnonzero(np.concatenate(([True], number[1:] != number[:-1])))
    size = np.diff(np.append(first, len(rows)))
    place = np.arange(len(rows)) - np.repeat(first, size)
    # Random odd weights by place make sums of different sequences differ, but for one in 2^60.
    chance = np.random.default_rng(0)
    weight = chance.integers(0, 1 << 62, int(size.max()), dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    name = facts.launches["name_id"].to_numpy()[operations.row[rows]].astype(np.int64)
    what = ((name + 2) << 20) + (operations.kind[rows] << 16) + operations.lane[rows]
    with np.errstate(over="ignore"):
        mixed = what.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * weight[place]
        key = np.add.reduceat(mixed, first)
    result = np.zeros(int(run.max()) + 1, np.int64)
    result[number[first]] = np.unique(key, return_inverse=True)[1]
    return result


def _step_begins(facts: Facts) -> Array:
    """Return when the host begins each iteration."""
    iterations, _ = find_iterations(facts)
    if not iterations:
        return np.empty(0, np.int64)
    names = facts.trace.names(facts.ranges["name_id"].to_numpy())
    chosen = np.isin(names.astype(str), sorted({i.name for i in iterations}))
    return np.sort(facts.ranges["start_ns"].to_numpy()[chosen])


def _graph_launches(facts: Facts, graph: Graph) -> Array:
    """Return the calls that launch a graph already."""
    api_row = graph.calls.api_row
    calls = np.flatnonzero(api_row >= 0)
    function = facts.api["name"].to_numpy()[api_row[calls]]
    launches: Array = calls[functions_with(facts, "GraphLaunch")[function]]
    return launches


def _graph_call_ns(facts: Facts, graph: Graph) -> int:
    """Return the typical time of this recording's own graph launches, -1 without any."""
    rows = _graph_launches(facts, graph)
    rows = rows[graph.targets.before[rows] == NOTHING]
    return int(np.median(graph.costs.own[rows])) if len(rows) else -1


def _graph_gap_ns(facts: Facts, graph: Graph) -> int:
    """Return the pause between two operations of one graph, measured if there are any."""
    call, lane_lag = graph.operations.call, graph.dependencies.lane_lag
    inner = np.concatenate(([False], call[1:] == call[:-1]))
    inner &= np.isin(call, _graph_launches(facts, graph)) & (lane_lag >= 0)
    return int(np.median(lane_lag[inner])) if inner.any() else GRAPH_GAP_NS
