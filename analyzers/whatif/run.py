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

from analyzers.whatif.graph import (
    GROUP,
    LANE,
    LONG_AGO_NS,
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


# Under mypy numba's decorator has no type, and its configuration no names.
_compiled = numba.njit(cache=bool(numba.config.CACHE_DIR), nogil=True)  # type: ignore[attr-defined]


@_compiled
def _until(now, kind, of, free, ran):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return when what a call waits for is there, ``now`` at the earliest."""
    lane_free, group_free = free
    start, stop = ran
    if kind == LANE:
        return max(now, lane_free[of])
    if kind == GROUP:
        return max(now, group_free[of])
    if kind == OP_END:
        return max(now, stop[of])
    if kind == OP_START:
        return max(now, start[of])
    return now


@_compiled
def _run(calls, hands, first_op, ops, counts):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    thread, gap, own, lead, tail, before, before_of, after, after_of = calls
    hand, hand_lag = hands
    lane, group, engine, duration, lane_lag, dep, dep_lag, held = ops
    thread_free = np.zeros(counts[0], np.int64)
    free = np.full(counts[1], LONG_AGO_NS, np.int64), np.zeros(counts[2], np.int64)
    engine_free = np.zeros(counts[3], np.int64)
    begin, end = np.zeros(len(thread), np.int64), np.zeros(len(thread), np.int64)
    ran = np.zeros(len(lane), np.int64), np.zeros(len(lane), np.int64)
    for k in range(len(thread)):
        t = thread[k]
        now = thread_free[t] + gap[k] if t >= 0 else 0
        if hand[k] >= 0:
            now = max(thread_free[t], end[hand[k]] + hand_lag[k])
        begin[k] = now
        now = _until(now, before[k], before_of[k], free, ran)
        for i in range(first_op[k], first_op[k + 1]):
            at = max(now + lead[k], free[0][lane[i]] + lane_lag[i])
            if engine[i] >= 0:
                at = max(at, engine_free[engine[i]])
            if dep[i] >= 0:
                at = max(at, ran[1][dep[i]] + dep_lag[i])
            if held[i] >= 0:
                at = max(at, ran[1][held[i]])
            done = at + duration[i]
            ran[0][i], ran[1][i], free[0][lane[i]] = at, done, done
            free[1][group[i]] = max(free[1][group[i]], done)
            if engine[i] >= 0:
                engine_free[engine[i]] = done
        kind, of = after[k], after_of[k]
        if kind == OWN_END:
            kind, of = OP_END, first_op[k + 1] - 1
        elif kind == OWN_START:
            kind, of = OP_START, first_op[k]
        now = _until(now + own[k], kind, of, free, ran) + tail[k]
        end[k] = now
        if t >= 0:
            thread_free[t] = now
    return begin, end, ran[0], ran[1]
