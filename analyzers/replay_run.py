"""The loop that replays a dependency graph: order forces it, so it is compiled.

Calls are visited in the order in which they were made, and what a call puts on a stream is run at
once: whatever a call or an operation waits for was submitted earlier, so one pass is enough.
Compiled code is kept on disk only where a folder for it was set (``numba.config.CACHE_DIR``)
before this module is imported; the folder beside the sources may not be writable.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from analyzers.replay_graph import (
    GROUP,
    LANE,
    OP_END,
    OP_START,
    OWN_END,
    OWN_START,
    Graph,
)

Array = np.ndarray[Any, Any]



def run(graph: Graph) -> tuple[Array, Array, Array, Array]:
    """Replay ``graph``.

    Returns:
        Begin and end of each call, begin and end of each operation, in ns after its origin.
    """
    g = graph
    calls = (g.thread, g.gap, g.own, g.lead, g.tail, g.before, g.before_of, g.after, g.after_of)
    ops = (g.lane, g.group, g.engine, g.duration, g.lane_lag, g.dep, g.dep_lag, g.held_until)
    result: tuple[Array, Array, Array, Array] = _run(
        calls, (g.hand, g.hand_lag), g.first_op, ops, g.counts
    )
    return result


@numba.njit(cache=bool(numba.config.CACHE_DIR), nogil=True)  # type: ignore[untyped-decorator]
def _run(calls, hands, first_op, ops, counts):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    thread, gap, own, lead, tail, before, before_of, after, after_of = calls
    hand, hand_lag = hands
    lane, group, engine, duration, lane_lag, dep, dep_lag, held = ops
    thread_free = np.zeros(counts[0], np.int64)
    lane_free = np.full(counts[1], -(1 << 60), np.int64)
    group_free = np.zeros(counts[2], np.int64)
    engine_free = np.zeros(counts[3], np.int64)
    begin = np.zeros(len(thread), np.int64)
    end = np.zeros(len(thread), np.int64)
    start = np.zeros(len(lane), np.int64)
    stop = np.zeros(len(lane), np.int64)
    for k in range(len(thread)):
        t = thread[k]
        now = 0
        if t >= 0:
            now = thread_free[t] + gap[k]
            if hand[k] >= 0:
                now = max(thread_free[t], end[hand[k]] + hand_lag[k])
        begin[k] = now
        of = before_of[k]
        if before[k] == LANE:
            now = max(now, lane_free[of])
        elif before[k] == GROUP:
            now = max(now, group_free[of])
        elif before[k] == OP_END:
            now = max(now, stop[of])
        elif before[k] == OP_START:
            now = max(now, start[of])
        arrival = now + lead[k]
        for i in range(first_op[k], first_op[k + 1]):
            s = max(arrival, lane_free[lane[i]] + lane_lag[i])
            if engine[i] >= 0:
                s = max(s, engine_free[engine[i]])
            if dep[i] >= 0:
                s = max(s, stop[dep[i]] + dep_lag[i])
            if held[i] >= 0:
                s = max(s, stop[held[i]])
            e = s + duration[i]
            start[i] = s
            stop[i] = e
            lane_free[lane[i]] = e
            group_free[group[i]] = max(group_free[group[i]], e)
            if engine[i] >= 0:
                engine_free[engine[i]] = e
        now += own[k]
        of = after_of[k]
        if after[k] == LANE:
            now = max(now, lane_free[of])
        elif after[k] == GROUP:
            now = max(now, group_free[of])
        elif after[k] == OP_END:
            now = max(now, stop[of])
        elif after[k] == OP_START:
            now = max(now, start[of])
        elif after[k] == OWN_END and first_op[k + 1] > first_op[k]:
            now = max(now, stop[first_op[k + 1] - 1])
        elif after[k] == OWN_START and first_op[k + 1] > first_op[k]:
            now = max(now, start[first_op[k]])
        now += tail[k]
        end[k] = now
        if t >= 0:
            thread_free[t] = now
    return begin, end, start, stop
