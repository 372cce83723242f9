"""What each call takes by itself, and what it waits for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.ledger.booking import DEVICE_GAP_MAX_NS
from analyzers.whatif.columns import with_values
from analyzers.whatif.full_queues import with_full_queues
from analyzers.whatif.submissions import Submissions
from analyzers.whatif.tables import (
    LONG_AGO_NS,
    NONE,
    NOTHING,
    OWN_END,
    OWN_START,
    CallCosts,
    Calls,
    WaitTargets,
)
from analyzers.whatif.typical import LATENCY_NS, MAX_LAG_NS, WAKE_UP_NS, TypicalTimes, typical_mean
from analyzers.whatif.wait_targets import MeasuredWaits, measured_waits

SLOW_CALL_NS = 50_000  # launch calls take 2 to 20 µs; a longer one does more than launch


def costs_and_targets(
    facts: Facts, submissions: Submissions, typical: TypicalTimes
) -> tuple[CallCosts, WaitTargets]:
    """Return what each call takes, and what it waits for."""
    calls = submissions.calls
    costs, targets = _costs_without_waits(submissions, typical), _no_targets(len(calls))
    costs, targets = _with_blocking_copies(submissions, costs, targets)
    waits = measured_waits(facts, submissions)
    kind = calls.kind[waits.call]
    for waiting in (Call.WAIT, Call.POLL):
        costs, targets = _with_waits(calls, waits.where(kind == waiting), costs, targets)
    costs, targets = _with_frees(calls, waits.where(kind == Call.FREE), costs, targets)
    return with_full_queues(submissions, costs, targets)


def _costs_without_waits(submissions: Submissions, typical: TypicalTimes) -> CallCosts:
    """Return the time that each call takes by itself, and when the device sees its work."""
    calls, operations = submissions.calls, submissions.operations
    length, has_operation = calls.length, calls.has_operation
    first = np.minimum(calls.first_operation[:-1], len(operations) - 1)
    kind = np.where(has_operation, operations.kind[first], 0)
    lead = np.maximum(length + np.rint(typical.latency[kind]).astype(np.int64), 0)
    start, before = operations.start[first], submissions.previous_stop[first]
    inside = has_operation & (length > SLOW_CALL_NS)
    inside &= (start >= calls.begin) & (start < calls.end)
    inside &= before < start - DEVICE_GAP_MAX_NS  # a slow call submitted it early on
    lead[inside] = (start - calls.begin)[inside]
    lead[calls.thread < 0] = LONG_AGO_NS  # without a call, only other operations matter
    return CallCosts(own=length, lead=lead, tail=np.zeros(len(calls), np.int64))


def _no_targets(count: int) -> WaitTargets:
    nothing, none = np.full(count, NOTHING, np.int64), np.full(count, NONE, np.int64)
    return WaitTargets(
        before=nothing,
        before_place=none,
        after=nothing,
        after_place=none,
        blocked=np.zeros(count, dtype=bool),
    )


def _with_blocking_copies(
    submissions: Submissions, costs: CallCosts, targets: WaitTargets
) -> tuple[CallCosts, WaitTargets]:
    """Say what a copy's call waits for: its copy's end, or its begin once staged."""
    calls, operations = submissions.calls, submissions.operations
    rows = np.flatnonzero((calls.kind == Call.COPY) & calls.has_operation)
    if not len(rows):
        return costs, targets
    first = calls.first_operation[:-1][rows]
    last = calls.first_operation[1:][rows] - 1
    begin, end = calls.begin[rows], calls.end[rows]
    start, stop = operations.start[first], operations.stop[last]
    at_once = submissions.previous_stop[first] + DEVICE_GAP_MAX_NS < start  # nothing held it up
    lead = np.maximum(start - begin, 0)
    usual = typical_mean(lead[at_once & (lead < MAX_LAG_NS)], LATENCY_NS, 1)
    lead = np.where(at_once, lead, np.minimum(lead, round(usual)))
    until_end, until_start = end >= stop, (end >= start) & (end < stop)
    blocks = until_end | until_start
    chosen = rows[blocks]
    tail = np.where(until_end, end - stop, end - start)[blocks]
    after = np.where(until_end, OWN_END, OWN_START)[blocks]
    return (
        CallCosts(
            own=with_values(costs.own, chosen, 0),
            lead=with_values(costs.lead, rows, lead),
            tail=with_values(costs.tail, chosen, tail),
        ),
        replace(
            targets,
            after=with_values(targets.after, chosen, after),
            blocked=with_values(targets.blocked, chosen, True),
        ),
    )


def _with_waits(
    calls: Calls, waits: MeasuredWaits, costs: CallCosts, targets: WaitTargets
) -> tuple[CallCosts, WaitTargets]:
    """Let calls return a typical time after what they wait for."""
    rows, done = waits.call, waits.done
    begin, end = calls.begin[rows], calls.end[rows]
    blocked = done > begin
    late = (end - done)[blocked]
    tail = round(typical_mean(late[late <= MAX_LAG_NS], WAKE_UP_NS, 1))
    length = end - begin
    own = np.where(blocked, 0, np.maximum(length - tail, 0))
    return (
        replace(
            costs,
            own=with_values(costs.own, rows, own),
            tail=with_values(costs.tail, rows, np.minimum(tail, length)),
        ),
        replace(
            targets,
            after=with_values(targets.after, rows, waits.target),
            after_place=with_values(targets.after_place, rows, waits.place),
            blocked=with_values(targets.blocked, rows, blocked),
        ),
    )


def _with_frees(
    calls: Calls, frees: MeasuredWaits, costs: CallCosts, targets: WaitTargets
) -> tuple[CallCosts, WaitTargets]:
    """Let memory be given back once the device is done; what remains of the call is work."""
    rows, done = frees.call, frees.done
    begin, end = calls.begin[rows], calls.end[rows]
    own = np.maximum(end - np.maximum(begin, done), 0)
    return (
        replace(costs, own=with_values(costs.own, rows, own)),
        replace(
            targets,
            before=with_values(targets.before, rows, frees.target),
            before_place=with_values(targets.before_place, rows, frees.place),
            blocked=with_values(targets.blocked, rows, done > begin),
        ),
    )
