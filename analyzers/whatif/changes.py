"""Changes to a dependency graph: each gives the graph at best and at worst, or says why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import COMMUNICATION, COPY, GRAPH, KERNEL, Facts, innermost
from analyzers.facts.windows import find_iterations
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.ledger.gaps import DEVICE_GAP_MAX_NS
from analyzers.ledger.host_timeline import DISPATCH_MAX_NS, LAZY_LOADING_MIN_NS
from analyzers.whatif.graph import NONE, NOTHING, OP_END, OP_START, Graph
from analyzers.words import count_text, name_text, size_text, time_text
from collectors.schema import CopyKind, MemoryKind

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
SMALL_BYTES = 65_536  # a blocking read-back of so little moves a result, not data
CALL_NS = 2_000  # what an asynchronous call costs at worst that takes a blocking one's place
TOP_KERNELS = 3
KERNEL_SPEED_UP = 2.0
# What prepares input beside a thread slows it down: cores that are busy together run at a lower
# clock than one alone and share caches and memory, threads of Python share its lock. An allowance
# as wide as ``VARIES`` for the device, not a measured figure.
HOST_SLOWER = 0.25
FAST = 0.05  # rank of a collective that waited for no other one, among those of its kind
MIN_RANGE_SHARE, MAX_RANGE_SHARE = 0.2, 0.95  # of all pauses
MIN_KERNEL_SHARE = 0.02  # of the window: a faster kernel that takes less changes nothing

HOST_COPIES = (CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change and the two graphs between which the truth lies.

    Attributes:
        id: Its name.
        cause: ``Cause`` that it answers.
        title: In words, as the beginning of a sentence: "removing the 100 waits".
        count: How many calls or operations of the window it touches.
        best: The graph under the friendliest assumptions.
        worst: Under the least friendly ones.
        assumptions: A sentence each.
        also_worst: Further graphs, where it depends which of them is the least friendly one.
    """

    id: str
    cause: Cause
    title: str
    count: int
    best: Graph
    worst: Graph
    assumptions: tuple[str, ...]
    also_worst: tuple[Graph, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Which calls and operations lie in the window; predictions count only those."""

    calls: Array
    ops: Array
    length_ns: int


Result = list[Change] | str
"""Changes, or the reason why nothing can be said."""


def changes(facts: Facts, graph: Graph, reach: Reach) -> list[tuple[str, Result]]:
    """Return every change that the recording can answer for, and why not for the others."""
    every: tuple[tuple[str, Callable[[Facts, Graph, Reach], Result]], ...] = (
        ("graph", capture_graphs),
        ("sync", remove_waits),
        ("copies.pinned", pin_copies),
        ("copies.overlapped", overlap_copies),
        ("host", feed_without_pauses),
        ("memory", allocate_once),
        ("communication", hide_communication),
        ("kernel", speed_up_top_kernels),
    )
    return [(name, make(facts, graph, reach)) for name, make in every]


# --- launches captured in a graph -------------------------------------------------------------


def capture_graphs(facts: Facts, graph: Graph, reach: Reach) -> Result:
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
    best_call = np.rint(GRAPH_CALL_NS + GRAPH_NODE_NS * nodes)
    worst_call = np.rint(GRAPH_CALL_MAX_NS + GRAPH_NODE_MAX_NS * nodes)
    gap = min(graph.device_gap_ns, _graph_gap_ns(facts, graph))
    best = _captured(graph, run, head, best_call if measured < 0 else 0 * nodes + measured, gap)
    recurs = _recurs(facts, graph, run)
    sure = np.where(inside, np.where(recurs[np.maximum(run, 0)], run, NONE), NONE)
    worst = _captured(graph, sure, head, worst_call if measured < 0 else 0 * nodes + measured, -1)
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
        inside & _has_op(graph),
        np.maximum(own + np.minimum(usual, graph.latency_ns), 0),
        graph.lead,
    )
    lead = np.where(follows & _has_op(graph), np.maximum(graph.latency_ns, 0), lead)
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
    launches = _has_op(graph)[order] & ok
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


def _has_op(graph: Graph) -> Array:
    has: Array = graph.first_op[1:] > graph.first_op[:-1]
    return has


# --- waits ------------------------------------------------------------------------------------


def remove_waits(facts: Facts, graph: Graph, reach: Reach) -> Result:
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
    op = _copies(facts, graph, (CopyKind.DEVICE_TO_HOST,))
    if len(op):
        sizes = facts.of_table("copies", ["bytes"])["bytes"].loc[graph.row[op]].to_numpy()
        small = graph.item[op[(sizes >= 0) & (sizes <= SMALL_BYTES)]]
        result[small] = (graph.call[small] == Call.COPY) & (graph.after[small] != NOTHING)
    return result


def _after_a_read(facts: Facts, graph: Graph) -> Array:
    """Return the calls before which their thread last submitted a copy to the host."""
    reads = np.zeros(len(graph.call), dtype=bool)
    reads[graph.item[_copies(facts, graph, (CopyKind.DEVICE_TO_HOST,))]] = True
    order = np.argsort(graph.thread, kind="stable")
    submits = _has_op(graph)[order]
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


# --- copies -----------------------------------------------------------------------------------


def _copies(facts: Facts, graph: Graph, kinds: Sequence[int]) -> Array:
    """Return the operations that copy in one of these directions."""
    op = np.flatnonzero(graph.kind == COPY)
    if not len(op):
        return op
    kind = facts.of_table("copies", ["kind"])["kind"].loc[graph.row[op]].to_numpy()
    chosen: Array = op[np.isin(kind, kinds)]
    return chosen


def pin_copies(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Let copies of pageable memory run from pinned memory, without holding the host."""
    op = _copies(facts, graph, HOST_COPIES)
    op = op[graph.linked[op] & (graph.call[graph.item[op]] == Call.COPY)]
    sizes = facts.of_table("copies", ["bytes", "source_kind", "destination_kind", "kind"])
    mine = sizes.loc[graph.row[op]]
    side = np.where(
        mine["kind"] == CopyKind.HOST_TO_DEVICE, mine["source_kind"], mine["destination_kind"]
    )
    op = op[(side != MemoryKind.PINNED) & (mine["bytes"].to_numpy() > SMALL_BYTES)]
    if not (reach.ops[op]).any():
        return "no large copy between host and device held the host"
    items = graph.item[op]
    call = np.zeros(len(graph.call), dtype=bool)
    call[items] = True
    own = np.minimum(graph.lead, CALL_NS)
    after = np.where(call, NOTHING, graph.after)
    tail = np.where(call, 0, graph.tail)
    lead = np.where(call, own + max(graph.latency_ns, 0), graph.lead)
    worst = replace(graph, after=after, tail=tail, own=np.where(call, own, graph.own), lead=lead)
    rate, said = _pinned_rate(facts, graph)
    duration = graph.duration.copy()
    size = facts.of_table("copies", ["bytes"])["bytes"].loc[graph.row[op]].to_numpy()
    if rate > 0:
        duration[op] = np.minimum(duration[op], np.rint(size / rate).astype(np.int64))
    best = replace(worst, duration=duration)
    inside = reach.ops[op]
    count = int(inside.sum())
    moved = count_text(count, "copy")
    return [
        Change(
            id="copies.pinned",
            cause=Cause.BANDWIDTH,
            title=f"pinning the memory of the {moved} ({size_text(int(size[inside].sum()))})",
            count=count,
            best=best,
            worst=worst,
            assumptions=(
                "The host no longer stages the data nor waits for the copy; the data is in "
                "pinned memory already",
                said,
            ),
        )
    ]


def _pinned_rate(facts: Facts, graph: Graph) -> tuple[float, str]:
    """Return the rate of this recording's own large pinned copies in bytes a ns, 0 without any."""
    op = _copies(facts, graph, HOST_COPIES)
    told = facts.of_table("copies", ["bytes", "source_kind", "destination_kind"]).loc[graph.row[op]]
    pinned = (told["source_kind"] == MemoryKind.PINNED) | (
        told["destination_kind"] == MemoryKind.PINNED
    )
    pinned &= told["bytes"] > 16 * SMALL_BYTES
    chosen = pinned.to_numpy()
    if not chosen.any():
        return 0.0, "The copies themselves take as long as now; pinned ones are often faster"
    rate = float(
        np.median(told["bytes"].to_numpy()[chosen] / np.maximum(graph.duration[op[chosen]], 1))
    )
    return rate, f"The copies run at {rate:.1f} GB/s at best, as the recording's pinned ones do"


def overlap_copies(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Prefetch copies on a stream of their own: each is under way while the step before runs."""
    op = _copies(facts, graph, HOST_COPIES)
    op = op[graph.linked[op]]
    sizes = facts.of_table("copies", ["bytes", "kind"])
    kernels = np.isin(graph.kind, (KERNEL, COMMUNICATION, GRAPH))
    with_kernels = np.unique(graph.lane[kernels])
    mine = sizes.loc[graph.row[op]]
    large = (mine["bytes"].to_numpy() > SMALL_BYTES) & np.isin(graph.lane[op], with_kernels)
    op, into = op[large], (mine["kind"].to_numpy() == CopyKind.HOST_TO_DEVICE)[large]
    if not reach.ops[op].any():
        return "no large copy shares a stream with kernels"
    pinned = pin_copies(facts, graph, reach)
    base = pinned[0] if isinstance(pinned, list) else None
    graphs = [
        _overlapped(base_graph, op, into, waits=waits)
        for base_graph, waits in (
            (base.best if base else graph, False),
            (base.worst if base else graph, True),
        )
    ]
    count = int(reach.ops[op].sum())
    return [
        Change(
            id="copies.overlapped",
            cause=Cause.BANDWIDTH,
            title=f"prefetching the {count_text(count, 'copy')} on a stream of their own",
            count=count,
            best=graphs[0],
            worst=graphs[1],
            assumptions=(
                "Each copy into the device is issued where the one before is now, from pinned "
                "memory; copies back to the host hold up no kernel",
                "Kernels that run beside a copy take as long as alone; at best no kernel waits for "
                "its copy, at worst the next one on the stream does",
            ),
        )
    ]


def _overlapped(graph: Graph, op: Array, into: Array, *, waits: bool) -> Graph:
    """Return the graph with copies on streams of their own.

    Args:
        graph: Without waits for the copies.
        op: The copies.
        into: Which of them go to the device.
        waits: Whether the next operation of the old stream waits for a copy to the device.
    """
    lane, held = graph.lane.copy(), graph.held_until.copy()
    dep, dep_lag = graph.dep.copy(), graph.dep_lag.copy()
    after, own, tail = graph.after.copy(), graph.own.copy(), graph.tail.copy()
    items = graph.item[op]
    blocking = after[items] != NOTHING
    after[items], tail[items] = NOTHING, 0
    own[items] = np.where(blocking, np.minimum(graph.lead[items], CALL_NS), own[items])
    moved = np.zeros(len(lane), dtype=bool)
    moved[op] = True
    previous, following = _neighbours(graph.lane, moved)
    lane[op] = int(graph.counts[1]) + 2 * graph.lane[op] + into
    out = op[~into]
    out = out[(previous[out] >= 0) & (dep[out] < 0)]
    dep[out], dep_lag[out] = previous[out], graph.device_gap_ns
    if waits:
        consumer = following[op[into]]
        known = consumer >= 0
        held[consumer[known]] = op[into][known]
    counts = graph.counts.copy()
    counts[1] += 2 * counts[1] + 2
    changed = replace(
        graph, lane=lane, held_until=held, dep=dep, dep_lag=dep_lag, after=after, own=own,
        tail=tail, counts=counts,
    )  # fmt: skip
    return _issued_earlier(changed, op[into], graph.lane[op[into]])


def _issued_earlier(graph: Graph, op: Array, old_lane: Array) -> Graph:
    """Let each of these operations be submitted by the call of the one before."""
    item = graph.item.copy()
    for lane in np.unique(old_lane):
        mine = op[old_lane == lane]
        item[mine[1:]] = graph.item[mine[:-1]]
    order = np.lexsort((np.arange(len(item)), item))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))

    def moved(target: Array) -> Array:
        return np.where(target >= 0, place[np.maximum(target, 0)], target)

    columns = {name: getattr(graph, name)[order] for name in _OP_COLUMNS}
    columns["item"] = item[order]
    columns["dep"], columns["held_until"] = moved(columns["dep"]), moved(columns["held_until"])
    targets = {}
    for when in ("before", "after"):
        of = getattr(graph, f"{when}_of")
        to_op = np.isin(getattr(graph, when), (OP_END, OP_START)) & (of >= 0)
        targets[f"{when}_of"] = np.where(to_op, place[np.where(to_op, of, 0)], of)
    first = np.searchsorted(columns["item"], np.arange(len(graph.begin) + 1))
    every: dict[str, Any] = {**columns, **targets, "first_op": first}
    return replace(graph, **every)


_OP_COLUMNS = (
    *("row", "kind", "item", "lane", "group", "engine", "start", "stop", "duration", "lane_lag"),
    *("dep", "dep_lag", "held_until", "linked"),
)


def _neighbours(lane: Array, moved: Array) -> tuple[Array, Array]:
    """Return the last and the next operation of the same stream that is not moved, -1 for none."""
    order = np.argsort(lane, kind="stable")
    stays = ~moved[order]
    place = np.arange(len(order))
    last = np.maximum.accumulate(np.where(stays, place, -1))
    upcoming = np.minimum.accumulate(np.where(stays, place, len(order))[::-1])[::-1]
    result = []
    for found, valid in ((last, last >= 0), (upcoming, upcoming < len(order))):
        at = order[np.where(valid, found, 0)]
        same = valid & (lane[at] == lane[order])
        column = np.full(len(order), NONE, np.int64)
        column[order] = np.where(same, at, NONE)
        result.append(column)
    return result[0], result[1]


# --- host -------------------------------------------------------------------------------------


def feed_without_pauses(facts: Facts, graph: Graph, reach: Reach) -> Result:
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


def allocate_once(_: Facts, graph: Graph, reach: Reach) -> Result:
    """Take away allocating and freeing, and the waits that freeing implies."""
    chosen = np.isin(graph.call, (Call.ALLOCATE, Call.FREE))
    count = int(np.count_nonzero(chosen & reach.calls))
    if not count:
        return "no thread that launches work allocates or frees memory in the window"
    best = replace(
        graph,
        before=np.where(chosen, NOTHING, graph.before),
        after=np.where(chosen, NOTHING, graph.after),
        own=np.where(chosen, 0, graph.own),
        tail=np.where(chosen, 0, graph.tail),
    )
    worst = replace(best, own=np.where(chosen, np.minimum(graph.own, CALL_NS), graph.own))
    return [
        Change(
            id="memory",
            cause=Cause.MEMORY,
            title=f"allocating once instead of {count_text(count, 'call')} in the loop",
            count=count,
            best=best,
            worst=worst,
            assumptions=(
                "Buffers are allocated before the loop, or come from a pool; where the first call "
                "also creates the context, that happens before, too",
                f"At worst a pool takes {CALL_NS / 1e3:.0f} µs a call",
            ),
        )
    ]


# --- communication ----------------------------------------------------------------------------


def hide_communication(facts: Facts, graph: Graph, reach: Reach) -> Result:
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
    previous, following = _neighbours(graph.lane, moved)
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


# --- kernels ----------------------------------------------------------------------------------


def speed_up_top_kernels(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Make each of the kernels that take longest twice as fast."""
    kernels = np.flatnonzero((graph.kind == KERNEL) & reach.ops)
    if not len(kernels):
        return "no kernel ran"
    names = facts.launches["name_id"].to_numpy()[graph.row[kernels]]
    unique, code = np.unique(names, return_inverse=True)
    total = np.bincount(code, graph.duration[kernels])
    top = np.argsort(-total)[:TOP_KERNELS]
    top = top[total[top] >= MIN_KERNEL_SHARE * reach.length_ns]
    if not len(top):
        return "no kernel takes a notable part of the window"
    return [
        _faster(graph, reach, _named(facts, graph, unique[k : k + 1]), text, KERNEL_SPEED_UP)
        for k, text in zip(top, facts.trace.names(unique[top]), strict=True)
    ]


def speed_up(facts: Facts, graph: Graph, reach: Reach, part: str, times: float) -> Result:
    """Make all kernels whose name holds ``part`` faster.

    Args:
        facts: The recording.
        graph: Its dependencies.
        reach: The window.
        part: Part of the name, in any case.
        times: How many times as fast.
    """
    ids = np.unique(
        facts.launches["name_id"].to_numpy()[
            graph.row[np.isin(graph.kind, (KERNEL, COMMUNICATION))]
        ]
    )
    names = facts.trace.names(ids)
    chosen = ids[np.array([part.casefold() in str(n).casefold() for n in names], dtype=bool)]
    mine = _named(facts, graph, chosen)
    if not (mine & reach.ops).any():
        return f"no kernel of the window has {part!r} in its name"
    title = str(names[ids == chosen[0]][0]) if len(chosen) == 1 else part
    return [_faster(graph, reach, mine, title, times)]


def _named(facts: Facts, graph: Graph, ids: Array) -> Array:
    of_kernels = np.isin(graph.kind, (KERNEL, COMMUNICATION))
    chosen: Array = of_kernels & np.isin(facts.launches["name_id"].to_numpy()[graph.row], ids)
    return chosen


def _faster(graph: Graph, reach: Reach, chosen: Array, name: str, times: float) -> Change:
    duration = np.where(chosen, np.rint(graph.duration / times).astype(np.int64), graph.duration)
    changed = replace(graph, duration=duration)
    count = int(np.count_nonzero(chosen & reach.ops))
    return Change(
        id=f"kernel:{name}:{times:g}",
        cause=Cause.COMPUTE,
        title=f"making {name_text(name)} ({count_text(count, 'launch')}) {times:g} times as fast",
        count=count,
        best=changed,
        worst=changed,
        assumptions=("All launches of it shorten alike, and what runs beside it does not change",),
    )
