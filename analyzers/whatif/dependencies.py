"""What operations wait for, beside their call: their stream, other streams and events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.intervals import Array
from analyzers.whatif.columns import functions_with, latest_ended, previous_of, with_values
from analyzers.whatif.submissions import Submissions
from analyzers.whatif.tables import (
    LONG_AGO_NS,
    NONE,
    NOTHING,
    CallCosts,
    Calls,
    Dependencies,
    Operations,
    WaitTargets,
)
from analyzers.whatif.typical import TypicalTimes, typical_mean

UNEXPLAINED_NS = 5_000  # an operation that comes so much later than it could waited for another
NEAR_NS = 25_000  # … which ended no longer before; another stream needs 2 to 20 µs to notice


def operation_dependencies(
    facts: Facts,
    submissions: Submissions,
    call_model: tuple[CallCosts, WaitTargets],
    typical: TypicalTimes,
) -> Dependencies:
    """Return each operation's pause after its stream's previous one, and what else holds it.

    Args:
        facts: The recording.
        submissions: What was submitted.
        call_model: What each call takes, and what it waits for.
        typical: The machine's own pauses.
    """
    operations = submissions.operations
    waits = _own_stream_only(submissions, typical)
    waits = _after_anything(submissions, waits)
    earliest = _earliest_start(submissions, *call_model, waits.lane_lag)
    late = operations.linked & (operations.start - earliest > UNEXPLAINED_NS)
    waits = _after_other_streams(operations, late, waits)
    # What runs first on a device, and yet late, follows work from before the recording.
    first = late & (previous_of(operations.group) < 0) & (waits.source < 0)
    since_long_ago = operations.start[first] - LONG_AGO_NS
    waits = replace(waits, lane_lag=with_values(waits.lane_lag, first, since_long_ago))
    return _after_events(facts, submissions, waits)


def _own_stream_only(submissions: Submissions, typical: TypicalTimes) -> Dependencies:
    """Let each operation wait a usual time for the one before it, less where they overlapped."""
    operations, pause = submissions.operations, submissions.pause
    usual = np.where(
        submissions.is_first_of_call,
        np.rint(typical.gap[operations.kind]),
        round(typical.gap_in_graph),
    ).astype(np.int64)
    overlapping = (pause < 0) & (submissions.previous >= 0)
    none = np.full(len(operations), NONE, np.int64)
    return Dependencies(
        lane_lag=np.where(overlapping, pause, usual),
        source=none,
        source_lag=usual,
        further_source=none,
    )


def _earliest_start(
    submissions: Submissions, costs: CallCosts, targets: WaitTargets, lane_lag: Array
) -> Array:
    """Return when each operation could have begun, for all that its call and its stream tell."""
    calls, call = submissions.calls, submissions.operations.call
    held = targets.before != NOTHING
    wait = np.where(held, calls.length - costs.own, 0)
    submitted = (calls.begin + costs.lead)[call] + wait[call]
    earliest: Array = np.maximum(submissions.previous_stop + lane_lag, submitted)
    return earliest


def _after_anything(submissions: Submissions, waits: Dependencies) -> Dependencies:
    """Let operations without a call keep their distance to what ran before them."""
    operations = submissions.operations
    alone = np.flatnonzero(~operations.linked)
    if not len(alone):
        return waits
    place = submissions.previous[alone]
    others = np.flatnonzero(place < 0)
    rows = alone[others]
    place[others] = latest_ended(
        np.arange(len(operations)), operations, operations.start[rows], operations.call[rows]
    )
    distance = np.where(place >= 0, operations.start[alone] - operations.stop[place], 0)
    # The first of all has nothing before it: it keeps its distance to the origin instead.
    first = alone[place < 0]
    since_long_ago = operations.start[first] - LONG_AGO_NS
    return replace(
        waits,
        lane_lag=with_values(waits.lane_lag, first, since_long_ago),
        source=with_values(waits.source, alone, place),
        source_lag=with_values(waits.source_lag, alone, distance),
    )


def _after_other_streams(operations: Operations, late: Array, waits: Dependencies) -> Dependencies:
    """Let an operation that came later than it could wait for the one that ended just before."""
    rows = np.flatnonzero(late)
    if not len(rows):
        return waits
    place = latest_ended(
        np.arange(len(late)), operations, operations.start[rows], operations.call[rows]
    )
    near = (place >= 0) & (operations.start[rows] - operations.stop[place] <= NEAR_NS)
    near &= operations.lane[np.maximum(place, 0)] != operations.lane[rows]
    rows, place = rows[near], place[near]
    if not len(rows):
        return waits
    noticed = operations.start[rows] - operations.stop[place]
    lag = round(typical_mean(noticed, float(noticed.mean())))
    return replace(
        waits,
        source=with_values(waits.source, rows, place),
        source_lag=with_values(waits.source_lag, rows, lag),
    )


def _after_events(facts: Facts, submissions: Submissions, waits: Dependencies) -> Dependencies:
    """Let the work behind a stream's wait follow what was submitted before the last event.

    Which event was meant is not recorded. The latest is taken, and only where the recording does
    not contradict: what it stands for had ended when the work began.
    """
    if not len(facts.functions):
        return waits
    calls, operations = submissions.calls, submissions.operations
    real = np.flatnonzero(calls.api_row >= 0)
    name = facts.api["name"].to_numpy()[calls.api_row[real]]
    stream_waits = real[functions_with(facts, "StreamWaitEvent")[name]]
    records = real[functions_with(facts, "EventRecord")[name]]
    if not len(stream_waits) or not len(records):
        return waits
    record = records[np.maximum(np.searchsorted(records, stream_waits) - 1, 0)]
    source = calls.first_operation[record] - 1  # the last operation submitted before it
    target = _next_operations(calls, stream_waits)
    fits = (record < stream_waits) & (source >= 0) & (target >= 0) & (target < len(operations))
    source, target = source[fits], target[fits]
    fits = (operations.lane[source] != operations.lane[target]) & (waits.source[target] < 0)
    fits &= (operations.stop[source] <= operations.start[target]) & (source < target)
    return replace(
        waits,
        source=with_values(waits.source, target[fits], source[fits]),
        source_lag=with_values(waits.source_lag, target[fits], 0),
    )


def _next_operations(calls: Calls, rows: Array) -> Array:
    """Return the first operation that a thread submits after each of these calls, -1 for none."""
    submitting = np.flatnonzero(calls.has_operation & (calls.thread >= 0))
    if not len(submitting):
        return np.full(len(rows), NONE, np.int64)
    count = len(calls) + 1
    order = np.lexsort((submitting, calls.thread[submitting]))
    code = calls.thread[submitting][order] * count + submitting[order]
    place = np.searchsorted(code, calls.thread[rows] * count + rows)
    upcoming = submitting[order][np.minimum(place, len(code) - 1)]
    same = (calls.thread[upcoming] == calls.thread[rows]) & (upcoming > rows)
    return np.where(same, calls.first_operation[upcoming], NONE)
