"""Launch calls that met a full queue: they wait until the queue has a place again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.cuda_names import Call
from analyzers.whatif.submissions import Submissions
from analyzers.whatif.tables import NOTHING, OP_START, CallCosts, WaitTargets

FULL_QUEUE = 500  # operations; CUDA's queues take about a thousand before a launch call blocks
FULL_SHARE = 0.95  # of the deepest: a queue that blocks calls has the same depth each time
BLOCKED_TIMES = 1.5  # … and the call then takes so many times as long as others


def with_full_queues(
    submissions: Submissions, costs: CallCosts, targets: WaitTargets
) -> tuple[CallCosts, WaitTargets]:
    """Let launch calls that met a full queue wait until the operation before them has begun."""
    calls, operations = submissions.calls, submissions.operations
    own, lead = costs.own.copy(), costs.lead.copy()
    before, before_place = targets.before.copy(), targets.before_place.copy()
    first = calls.first_operation[:-1]
    plain = np.isin(calls.kind, (Call.LAUNCH, Call.ENQUEUE)) & (targets.after == NOTHING)
    plain &= calls.has_operation
    lane_of_call = operations.lane[np.minimum(first, len(operations) - 1)]
    for lane in np.flatnonzero(np.bincount(operations.lane) > FULL_QUEUE):
        queue = np.flatnonzero(operations.lane == lane)
        rows = np.flatnonzero(plain & (lane_of_call == lane))
        started = np.maximum.accumulate(operations.start[queue])
        begun = np.searchsorted(started, calls.end[rows], side="right")
        depth = np.searchsorted(queue, first[rows]) - begun  # operations before it in the queue
        full = depth >= max(FULL_QUEUE, FULL_SHARE * depth.max(initial=0))
        length = calls.end[rows] - calls.begin[rows]
        if not full.any() or full.all():
            continue
        blocker = queue[np.maximum(begun, 1) - 1]
        full &= (length > BLOCKED_TIMES * np.median(length[~full])) & (begun > 0)
        full &= operations.start[blocker] > calls.begin[rows]
        rows, blocker = rows[full], blocker[full]
        rest = calls.end[rows] - operations.start[blocker]
        before[rows], before_place[rows] = OP_START, blocker
        lead[rows] -= own[rows] - rest
        own[rows] = rest
    return (
        replace(costs, own=own, lead=lead),
        replace(targets, before=before, before_place=before_place),
    )
