"""The loop that replays a dependency graph: plain Python, which can be compiled as it stands.

Calls are visited in the order in which they were made, and what a call puts on a stream is run at
once: whatever a call or an operation waits for was submitted earlier, so one pass is enough.
"""

from __future__ import annotations

from analyzers.whatif.tables import GROUP, LANE, OP_END, OP_START, OWN_END, OWN_START


def replay(calls, pauses, targets, operations, state):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, PLR0912
    """Fill in when each call and operation begins and ends.

    Every column is an array or a list of whole numbers, all of one sort.

    Args:
        calls: Thread, first operation, own time, lead and tail of each call.
        pauses: Gap, handover and handover lag before each call.
        targets: What each call waits for before and after its own work, and which one.
        operations: Stream, device, copy engine, duration, lag behind the stream, source, lag
            behind that and further source of each operation.
        state: When each thread, stream, device and copy engine is free, changed in place; begin and
            end of each call, start and stop of each operation, filled in.
    """
    thread, first_operation, own, lead, tail = calls
    gap, handover, handover_lag = pauses
    before, before_place, after, after_place = targets
    lane, group, engine, duration, lane_lag, source, source_lag, further_source = operations
    thread_free, lane_free, group_free, engine_free, begin, end, start, stop = state
    for k in range(len(thread)):
        t = thread[k]
        now = thread_free[t] + gap[k] if t >= 0 else 0
        if handover[k] >= 0:
            now = max(thread_free[t], end[handover[k]] + handover_lag[k])
        begin[k] = now
        first, last = first_operation[k], first_operation[k + 1] - 1
        for stage in range(2):
            if stage == 0:
                target, place = before[k], before_place[k]
            else:
                target, place = after[k], after_place[k]
                now += own[k]
                if target == OWN_END:
                    target, place = OP_END, last
                elif target == OWN_START:
                    target, place = OP_START, first
            if target == LANE:
                now = max(now, lane_free[place])
            elif target == GROUP:
                now = max(now, group_free[place])
            elif target == OP_END:
                now = max(now, stop[place])
            elif target == OP_START:
                now = max(now, start[place])
            if stage == 1:
                continue
            for i in range(first, last + 1):
                at = max(now + lead[k], lane_free[lane[i]] + lane_lag[i])
                if engine[i] >= 0:
                    at = max(at, engine_free[engine[i]])
                if source[i] >= 0:
                    at = max(at, stop[source[i]] + source_lag[i])
                if further_source[i] >= 0:
                    at = max(at, stop[further_source[i]])
                done = at + duration[i]
                start[i], stop[i], lane_free[lane[i]] = at, done, done
                group_free[group[i]] = max(group_free[group[i]], done)
                if engine[i] >= 0:
                    engine_free[engine[i]] = done
        now += tail[k]
        end[k] = now
        if t >= 0:
            thread_free[t] = now
