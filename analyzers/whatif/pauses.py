"""What threads do between calls: pauses, and which thread handed over to which."""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.intervals import Array, Spans, intersect, overlaps, union
from analyzers.ledger.host_timeline import DISPATCH_MAX_NS, Doing, host_timeline
from analyzers.whatif.columns import previous_of, process_of
from analyzers.whatif.submissions import Submissions
from analyzers.whatif.tables import NONE, Calls, Pauses

MAX_TOGETHER = 0.05  # of the time of threads that work in turns; they overlap where one begins
MAX_THREADS = 32  # of a process; more are hardly in turns, and each is compared with each
HAND_OVER_NS = 20_000  # pause of a thread after which another one may have handed over to it


def host_pauses(facts: Facts, submissions: Submissions) -> Pauses:
    """Return the host's time before each call, and which thread may have handed over to it."""
    calls = submissions.calls
    thread = calls.thread
    previous = previous_of(np.where(thread >= 0, thread, -1 - np.arange(len(thread))))
    ended = np.where(previous >= 0, calls.end[previous], 0)
    gap = np.where(thread >= 0, np.maximum(calls.begin - ended, 0), 0)
    has_reason = (gap > HAND_OVER_NS) | (previous < 0)
    handover, handover_lag = _handovers(facts, calls, ended, has_reason)
    since = np.where(handover >= 0, calls.begin - handover_lag, ended)
    is_recorded = (previous >= 0) | (handover >= 0)
    real = np.flatnonzero(thread >= 0)
    if len(real) and calls.begin.min() > 0:  # the window begins with what its host did first
        is_recorded[real[0]] = True
    is_long = is_recorded & (thread >= 0) & (calls.begin - since > DISPATCH_MAX_NS)
    outside = _outside(facts, submissions, since, np.flatnonzero(is_long))
    return Pauses(gap=gap, outside=outside, handover=handover, handover_lag=handover_lag)


def _handovers(facts: Facts, calls: Calls, ended: Array, has_reason: Array) -> tuple[Array, Array]:
    """Return the call of another thread after which each thread went on, and the time since.

    Args:
        facts: The recording.
        calls: Its calls.
        ended: When the thread's previous call ended.
        has_reason: Whether a call came so late that another thread may be the reason.
    """
    handover = np.full(len(calls), NONE, np.int64)
    lag = np.zeros(len(calls), np.int64)
    real = np.flatnonzero(calls.thread >= 0)
    if calls.thread.max(initial=-1) < 1:
        return handover, lag
    process = process_of(facts, calls.api_row[real])
    for one in np.unique(process):
        rows = real[process == one]
        if len(np.unique(calls.thread[rows])) < 2:
            continue
        late = rows[has_reason[rows]]
        by_end = rows[np.argsort(calls.end[rows], kind="stable")]
        place = np.searchsorted(calls.end[by_end], calls.begin[late], side="right") - 1
        source = by_end[np.maximum(place, 0)]
        other = (place >= 0) & (calls.thread[source] != calls.thread[late])
        other &= (calls.end[source] > ended[late]) & (source < late)
        handover[late[other]] = source[other]
        lag[late[other]] = (calls.begin[late] - calls.end[source])[other]
    return handover, lag


def threads_take_turns(facts: Facts, calls: Calls) -> bool:
    """Tell whether the threads of each process submitted work one after the other."""
    real = np.flatnonzero(calls.thread >= 0)
    process, thread = process_of(facts, calls.api_row[real]), calls.thread[real]
    for one in np.unique(process):
        threads = np.unique(thread[process == one])
        if len(threads) > MAX_THREADS:
            return False
        active = [_active(calls, real[thread == t]) for t in threads]
        for place, spans in enumerate(active):
            for other in active[:place]:
                both = intersect(spans, other).total
                if both > MAX_TOGETHER * min(spans.total, other.total):
                    return False
    return True


def _active(calls: Calls, rows: Array) -> Spans:
    """Return when a thread was submitting: in its calls, and in the short pauses between."""
    begin, end = calls.begin[rows], calls.end[rows]
    following = np.concatenate((begin[1:], end[-1:]))
    return union(begin, np.where(following - end <= DISPATCH_MAX_NS, following, end))


def _outside(facts: Facts, submissions: Submissions, since: Array, late: Array) -> Array:
    """Return how much of the pause before each call the thread spent outside of submitting.

    Args:
        facts: The recording.
        submissions: What was submitted.
        since: When the pause before each call began.
        late: The calls that are looked at; 0 is returned for the others.
    """
    calls, origin = submissions.calls, submissions.origin_ns
    result = np.zeros(len(since), np.int64)
    if not len(late):
        return result
    thread_of_call = facts.api["thread_index"].to_numpy()[calls.api_row[late]]
    for thread in np.unique(thread_of_call):
        rows = late[thread_of_call == thread]
        pauses = Spans(since[rows] + origin, calls.begin[rows] + origin)
        line = host_timeline(facts, int(thread), pauses)
        query, part, start, end = overlaps(pauses, line.parts)
        away = line.doing[part] == Doing.OUTSIDE
        result[rows] = np.bincount(
            query[away], (end - start)[away].astype(float), minlength=len(rows)
        ).astype(np.int64)
    return result
