"""Hard floors: what a window takes at least, since it must still run one after the other.

A range is widened for what a replay does not know. It does know that the operations of a stream,
the copies of one direction, the kernels of a device and the work of a host thread take their time,
whatever else a change wins. What ran at the same time when it was recorded counts once.
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import GRAPH, KERNEL
from analyzers.facts.spans import Window
from analyzers.intervals import Array, union
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import ReplayedTimes


def device_floor_ns(graph: Graph, window: Window) -> int:
    """Return what the operations in the window take at least, in ns.

    Of each operation counts the part that lies in the window, as much longer or shorter as the
    change makes the operation. The floor is the longest of: the operations of one stream, one
    after the other; the copies of one direction on one device, and the kernels of one device,
    together as they were recorded.

    Args:
        graph: The recording under a change.
        window: The part that is predicted for.
    """
    operations = graph.operations
    start, stop = _within(graph, window)
    kernels = np.isin(operations.kind, (KERNEL, GRAPH))
    return max(
        _longest_queue(operations.lane, start, stop, operations.stop),
        _longest_union(operations.direction, start, stop),
        _longest_union(np.where(kernels, operations.group, -1), start, stop),
    )


def device_union_ns(graph: Graph, window: Window) -> int:
    """Return how long the busiest device works at all, in ns, if nothing overlaps that did not.

    This is no floor: without what held them apart, copies, collectives and kernels of several
    streams may run side by side. Whether they can is not recorded: data that one needs of another
    is seen only where a wait was.

    Args:
        graph: The recording under a change.
        window: The part that is predicted for.
    """
    return _longest_union(graph.operations.group, *_within(graph, window))


def _within(graph: Graph, window: Window) -> tuple[Array, Array]:
    """Return when each operation begins in the window, and ends there under the change."""
    operations = graph.operations
    since, until = window.start_ns - graph.origin_ns, window.end_ns - graph.origin_ns
    start = np.maximum(operations.start, since)
    inside = np.maximum(np.minimum(operations.stop, until) - start, 0)
    times = operations.duration / np.maximum(operations.stop - operations.start, 1)
    return start, start + np.rint(inside * times).astype(np.int64)


def thread_floor_ns(graph: Graph, times: ReplayedTimes, span: tuple[int, int]) -> int:
    """Return what the busiest thread works within a replayed window, in ns.

    Waiting is no work. Neither is the pause of a thread that another one may have handed over to.

    Args:
        graph: The recording under a change.
        times: When everything happens in its replay.
        span: Begin and end of the window in the replay.
    """
    calls, costs, pauses = graph.calls, graph.costs, graph.pauses
    inside = (calls.thread >= 0) & (times.begin >= span[0]) & (times.end <= span[1])
    pause = np.where(pauses.handover < 0, pauses.gap, 0)
    pause = np.minimum(pause, times.begin - span[0])
    work = (pause + costs.own + costs.tail)[inside]
    total = np.zeros(graph.counts.threads, np.int64)
    np.add.at(total, calls.thread[inside], work)
    return int(total.max())


class BelowFloorError(AssertionError):
    """A replay is shorter than what must run one after the other: a defect, and no prediction."""


def require_floors(graph: Graph, times: ReplayedTimes) -> None:
    """Require that a replay, whatever a change did to the graph, is one that a machine could run.

    Operations of a stream follow each other, but for what overlaps as recorded; a copy engine
    does one copy at a time; a thread does one thing at a time; and each operation takes its time.
    The unchanged replay and the best one of every change are asked, so that no change has to.

    Args:
        graph: What was replayed.
        times: When everything happened.

    Raises:
        BelowFloorError: It could not.
    """
    operations, calls = graph.operations, graph.calls
    if ((times.stop - times.start) != operations.duration).any():
        raise BelowFloorError("an operation does not take its time")
    overlap = np.maximum(-graph.dependencies.lane_lag, 0)
    _require_one_at_a_time(
        "stream", operations.lane, operations.duration - overlap, (times.start, times.stop)
    )
    _require_one_at_a_time(
        "copy engine", operations.engine, operations.duration, (times.start, times.stop)
    )
    gap = np.where(graph.pauses.handover < 0, graph.pauses.gap, 0)
    work = graph.costs.own + graph.costs.tail + gap
    _require_one_at_a_time("host thread", calls.thread, work, (times.begin - gap, times.end))


def _require_one_at_a_time(
    name: str, queue: Array, busy: Array, times: tuple[Array, Array]
) -> None:
    """Require that what a queue does fits between the begin of its first and the end of its last.

    Args:
        name: What sort of queue it is.
        queue: Number of each element's queue, in the order in which they come; -1 for none.
        busy: For how long each element keeps its queue.
        times: When each begins and ends.
    """
    if not len(queue):
        return
    place = queue + 1  # the first one is that of none
    first, last = np.zeros((2, int(place.max()) + 1), np.int64)
    last[place] = times[1]  # in the order in which they come: the last one stays
    first[place[::-1]] = times[0][::-1]
    total = np.bincount(place, busy)  # exact: whole numbers below 2^53
    if (total > last - first)[1:].any():
        raise BelowFloorError(f"a {name} works longer than its replay takes")


def _longest_queue(queue: Array, start: Array, stop: Array, measured_stop: Array) -> int:
    """Return the most time that one queue takes; what overlapped when recorded counts once.

    Args:
        queue: Number of each operation's queue.
        start: Begin of each operation.
        stop: End under the change; not after the begin for what does not count.
        measured_stop: End as recorded, which tells what overlapped.
    """
    rows = np.flatnonzero(stop > start)
    if not len(rows):
        return 0
    rows = rows[np.lexsort((start[rows], queue[rows]))]
    number = queue[rows]
    same = number[1:] == number[:-1]
    overlap = np.maximum(measured_stop[rows][:-1] - start[rows][1:], 0)
    once = (stop - start)[rows]
    once[1:] = np.maximum(once[1:] - np.where(same, overlap, 0), 0)
    total = np.zeros(int(number.max()) + 1, np.int64)
    np.add.at(total, number, once)
    return int(total.max())


def _longest_union(key: Array, start: Array, stop: Array) -> int:
    """Return the most time that the operations of one key cover together; -1 is no key."""
    solid = (key >= 0) & (stop > start)
    return max(
        (
            union(start[chosen], stop[chosen]).total
            for one in np.unique(key[solid])
            for chosen in [solid & (key == one)]
        ),
        default=0,
    )
