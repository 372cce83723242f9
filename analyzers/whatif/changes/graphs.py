"""Launches captured in a CUDA graph: one call for what lies between two waits or steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import GRAPH, Facts
from analyzers.facts.windows import find_iterations
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.ledger.gaps import DEVICE_GAP_MAX_NS
from analyzers.ledger.host_timeline import DISPATCH_MAX_NS, LAZY_LOADING_MIN_NS
from analyzers.whatif.changes.change import Change, Reach, Result, has_operation
from analyzers.whatif.graph import NONE, NOTHING, Graph
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


MIN_NODES = 2  # a graph of a single node wins nothing


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Launch what lies between two waits or steps with one call."""
    run = _runs(facts, graph)
    inside = run >= 0
    nodes = np.bincount(run[inside], minlength=1)
    if not inside[graph.item[reach.ops]].any():
        return "no two launches stand between waits, pauses and steps, or all are in graphs already"
    head = np.zeros(len(run), dtype=bool)
    places = np.flatnonzero(inside)
    head[places[np.unique(run[places], return_index=True)[1]]] = True
    measured = _graph_call_ns(facts, graph)
    if measured < 0:
        best_call = np.rint(GRAPH_CALL_NS + GRAPH_NODE_NS * nodes)
        worst_call = np.rint(GRAPH_CALL_MAX_NS + GRAPH_NODE_MAX_NS * nodes)
    else:
        best_call = worst_call = np.full(len(nodes), measured)
    gap = min(graph.device_gap_ns, _graph_gap_ns(facts, graph))
    best = _captured(
        graph, run, head, best_call if measured < 0 else np.full(len(nodes), measured), gap
    )
    recurs = _recurs(facts, graph, run)
    sure = np.where(inside, np.where(recurs[np.maximum(run, 0)], run, NONE), NONE)
    worst = _captured(
        graph, sure, head, worst_call if measured < 0 else np.full(len(nodes), measured), -1
    )
    reached = graph.item[reach.ops]
    reached = reached[inside[reached]]
    count, graphs = len(reached), len(np.unique(run[reached]))
    again = int(np.count_nonzero(sure[reached] >= 0))
    cost = (
        f"Launching a graph costs {measured / 1e3:.1f} µs, as in this recording"
        if measured >= 0
        else "Launching a graph costs 2.5 to 10 µs and 1 to 200 ns a node (NVIDIA's figures)"
    )
    title = (
        f"capturing the {count_text(count, 'launch')} in {count_text(graphs, 'CUDA graph launch')}"
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
                "the same shapes and addresses; nothing in it allocates or waits",
                f"At worst only sequences that this recording holds more than once are captured: "
                f"{again:,} of the {count:,} launches",
                f"{cost}; kernels in it follow each other after {gap / 1e3:.1f} µs at best and "
                f"{graph.device_gap_ns / 1e3:.1f} µs, as they do now, at worst",
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
    usual = graph.lead - graph.own  # latency
    own = np.where(head, cost, np.where(follows, 0, graph.own))
    lead = np.where(
        inside & has_operation(graph),
        np.maximum(own + np.minimum(usual, graph.latency_ns), 0),
        graph.lead,
    )
    lead = np.where(follows & has_operation(graph), np.maximum(graph.latency_ns, 0), lead)
    lane_lag = graph.lane_lag
    if gap >= 0:
        inner = follows[graph.item] & (graph.lane_lag > gap)
        inner &= graph.lane_lag <= DEVICE_GAP_MAX_NS
        lane_lag = np.where(inner, gap, lane_lag)
    return replace(
        graph,
        own=own,
        lead=lead,
        gap=np.where(follows, 0, graph.gap),
        hand=np.where(follows, NONE, graph.hand),
        before=np.where(inside, NOTHING, graph.before),
        lane_lag=lane_lag,
    )


def _runs(facts: Facts, graph: Graph) -> Array:
    """Return the number of the run of launches that each call is in, -1 for none.

    A run is on one thread, without a wait, an allocation, a long pause or the begin of a step.
    """
    fits = np.isin(graph.call, (Call.LAUNCH, Call.ENQUEUE, Call.OTHER)) & (graph.thread >= 0)
    fits &= (graph.after == NOTHING) & ~_loads(facts, graph)
    order = np.argsort(graph.thread, kind="stable")
    thread, ok = graph.thread[order], fits[order]
    step = np.searchsorted(_step_begins(facts), graph.begin[order] + graph.origin_ns, side="right")
    breaks = (graph.gap[order] > DISPATCH_MAX_NS) | (graph.hand[order] >= 0)
    breaks |= np.concatenate(([True], (thread[1:] != thread[:-1]) | (step[1:] != step[:-1])))
    breaks |= ~ok | np.concatenate(([True], ~ok[:-1]))
    number = np.cumsum(breaks) - 1
    launches = has_operation(graph)[order] & ok
    already = (graph.kind[np.minimum(graph.first_op[:-1], len(graph.kind) - 1)] == GRAPH)[order]
    already |= (np.diff(graph.first_op) > 1)[order]
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
    long = np.flatnonzero(
        (graph.call == Call.LAUNCH) & (graph.end - graph.begin >= LAZY_LOADING_MIN_NS)
    )
    result = np.zeros(len(graph.call), dtype=bool)
    result[long] = facts.is_first_use[graph.api_row[long]]
    return result


def _recurs(facts: Facts, graph: Graph, run: Array) -> Array:
    """Return which runs put the same kernels on the same streams as another one, in order."""
    op = np.flatnonzero(run[graph.item] >= 0)
    number = run[graph.item[op]]
    order = np.argsort(number, kind="stable")
    op, number = op[order], number[order]
    first = np.flatnonzero(np.concatenate(([True], number[1:] != number[:-1])))
    size = np.diff(np.append(first, len(op)))
    place = np.arange(len(op)) - np.repeat(first, size)
    # Random odd weights by place make sums of different sequences differ, but for one in 2^60.
    chance = np.random.default_rng(0)
    weight = chance.integers(0, 1 << 62, int(size.max()), dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    name = facts.launches["name_id"].to_numpy()[graph.row[op]].astype(np.int64)
    what = ((name + 2) << 20) + (graph.kind[op] << 16) + graph.lane[op]
    with np.errstate(over="ignore"):
        mixed = what.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * weight[place]
        key = np.add.reduceat(mixed, first)
    _, code, count = np.unique(key, return_inverse=True, return_counts=True)
    result = np.zeros(int(run.max()) + 1, dtype=bool)
    result[number[first]] = count[code] > 1
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
    names = np.array(["GraphLaunch" in str(n) for n in facts.functions], dtype=bool)
    known = np.flatnonzero(graph.api_row >= 0)
    rows: Array = known[names[facts.api["name"].to_numpy()[graph.api_row[known]]]]
    return rows


def _graph_call_ns(facts: Facts, graph: Graph) -> int:
    """Return the typical time of this recording's own graph launches, -1 without any."""
    rows = _graph_launches(facts, graph)
    rows = rows[graph.before[rows] == NOTHING]
    return int(np.median(graph.own[rows])) if len(rows) else -1


def _graph_gap_ns(facts: Facts, graph: Graph) -> int:
    """Return the pause between two operations of one graph, measured if there are any."""
    inner = np.concatenate(([False], graph.item[1:] == graph.item[:-1]))
    inner &= np.isin(graph.item, _graph_launches(facts, graph)) & (graph.lane_lag >= 0)
    return int(np.median(graph.lane_lag[inner])) if inner.any() else GRAPH_GAP_NS
