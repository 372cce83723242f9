"""The loop that replays a dependency graph: order forces it, so it is compiled.

Calls are visited in the order in which they were made, and what a call puts on a stream is run at
once: whatever a call or an operation waits for was submitted earlier, so one pass is enough.
Compiled code is kept on disk only where a folder for it was set (``numba.config.CACHE_DIR``)
before this module is imported; the folder beside the sources may not be writable.
"""

from __future__ import annotations

import numba
import numpy as np

from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import (
    GROUP,
    LANE,
    LONG_AGO_NS,
    OP_END,
    OP_START,
    OWN_END,
    OWN_START,
    ReplayedTimes,
)


def run(graph: Graph) -> ReplayedTimes:
    """Replay ``graph``: return when each of its calls and operations begins and ends."""
    calls, pauses, costs, targets = graph.calls, graph.pauses, graph.costs, graph.targets
    operations, waits, counts = graph.operations, graph.dependencies, graph.counts
    begin, end, start, stop = _run(
        (calls.thread, calls.first_operation, costs.own, costs.lead, costs.tail),
        (pauses.gap, pauses.handover, pauses.handover_lag),
        (targets.before, targets.before_place, targets.after, targets.after_place),
        (
            *(operations.lane, operations.group, operations.engine, operations.duration),
            *(waits.lane_lag, waits.source, waits.source_lag, waits.further_source),
        ),
        (counts.threads, counts.lanes, counts.groups, counts.engines),
    )
    return ReplayedTimes(begin=begin, end=end, start=start, stop=stop)


# Under mypy numba's decorator has no type, and its configuration no names.
_compiled = numba.njit(cache=bool(numba.config.CACHE_DIR), nogil=True)  # type: ignore[attr-defined]


@_compiled
def _until(now, target, place, free, ran):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return when what a call waits for is there, ``now`` at the earliest."""
    lane_free, group_free = free
    start, stop = ran
    if target == LANE:
        return max(now, lane_free[place])
    if target == GROUP:
        return max(now, group_free[place])
    if target == OP_END:
        return max(now, stop[place])
    if target == OP_START:
        return max(now, start[place])
    return now


@_compiled
def _run(calls, pauses, targets, operations, counts):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    thread, first_operation, own, lead, tail = calls
    gap, handover, handover_lag = pauses
    before, before_place, after, after_place = targets
    lane, group, engine, duration, lane_lag, source, source_lag, further_source = operations
    threads, lanes, groups, engines = counts
    thread_free = np.zeros(threads, np.int64)
    free = np.full(lanes, LONG_AGO_NS, np.int64), np.zeros(groups, np.int64)
    engine_free = np.zeros(engines, np.int64)
    begin, end = np.zeros(len(thread), np.int64), np.zeros(len(thread), np.int64)
    ran = np.zeros(len(lane), np.int64), np.zeros(len(lane), np.int64)
    for k in range(len(thread)):
        t = thread[k]
        now = thread_free[t] + gap[k] if t >= 0 else 0
        if handover[k] >= 0:
            now = max(thread_free[t], end[handover[k]] + handover_lag[k])
        begin[k] = now
        now = _until(now, before[k], before_place[k], free, ran)
        for i in range(first_operation[k], first_operation[k + 1]):
            at = max(now + lead[k], free[0][lane[i]] + lane_lag[i])
            if engine[i] >= 0:
                at = max(at, engine_free[engine[i]])
            if source[i] >= 0:
                at = max(at, ran[1][source[i]] + source_lag[i])
            if further_source[i] >= 0:
                at = max(at, ran[1][further_source[i]])
            done = at + duration[i]
            ran[0][i], ran[1][i], free[0][lane[i]] = at, done, done
            free[1][group[i]] = max(free[1][group[i]], done)
            if engine[i] >= 0:
                engine_free[engine[i]] = done
        target, place = after[k], after_place[k]
        if target == OWN_END:
            target, place = OP_END, first_operation[k + 1] - 1
        elif target == OWN_START:
            target, place = OP_START, first_operation[k]
        now = _until(now + own[k], target, place, free, ran) + tail[k]
        end[k] = now
        if t >= 0:
            thread_free[t] = now
    return begin, end, ran[0], ran[1]
