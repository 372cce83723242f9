"""What one host thread was doing at every moment, as far as its CUDA calls tell."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.facts.operators import submitting
from analyzers.facts.start_up import is_start_up
from analyzers.intervals import Array, Spans, clip, covered, empty, union
from common.memo import memo

# Between two CUDA calls of a thread that keeps submitting, frameworks spend 5 to 60 µs on an
# operator. A longer pause is something else: input, locks, garbage collection, plain Python.
DISPATCH_MAX_NS = 100_000

# Inside an operator that is known to submit work, a pause may be longer: the thread lost its core
# to others. From a millisecond on it is compiling, or waiting for something.
OPERATOR_DISPATCH_MAX_NS = 1_000_000

_WAITS = (Call.WAIT, Call.POLL, Call.COPY, Call.FREE)
NO_WAIT = -1
SUCCESS = 0  # what a query returns when the device has come to the point asked about

# A launch call takes 2 to 20 µs. One that takes a millisecond while the device idles is loading
# the kernel's module for the first time, or compiling it.
LAZY_LOADING_MIN_NS = 1_000_000

# Overheads that CUDA itself has, and that CUPTI reports among the profiler's: they would be
# there without the profiler, and show in the calls around them.
NOT_THE_PROFILER = ("command buffer full", "lazy function loading", "lazy_function_loading")


class Doing(enum.IntEnum):
    """What a thread is doing; where calls nest, the larger number counts."""

    OUTSIDE = 0  # no CUDA call for longer than dispatching takes
    DISPATCHING = 1  # between two calls, or inside an operator that submits work
    OTHER_CALL = 2
    IN_UNNAMED_CALL = 3
    LAUNCHING = 4
    WAITING = 5
    FREEING = 6
    ALLOCATING = 7
    SETTING_UP = 8
    PROFILED = 9  # the profiler itself is at work
    # Two that no thread timeline contains; the ledger adds them after the launch call:
    SUBMITTED = 10  # the call returned, the device has not begun
    QUEUED = 11  # the call had returned before the device ran dry


_DOING = {
    Call.OTHER: Doing.OTHER_CALL,
    Call.LAUNCH: Doing.LAUNCHING,
    Call.ENQUEUE: Doing.LAUNCHING,
    Call.WAIT: Doing.WAITING,
    Call.POLL: Doing.WAITING,
    Call.COPY: Doing.WAITING,
    Call.FREE: Doing.FREEING,
    Call.ALLOCATE: Doing.ALLOCATING,
    Call.SET_UP: Doing.SETTING_UP,
    Call.UNNAMED: Doing.IN_UNNAMED_CALL,
}

_DOING_OF_CALL = np.array([_DOING[call] for call in Call], dtype=np.int8)

# Highest set bit of every mask: which of the open calls counts.
_MASKS = 1 << (Doing.PROFILED + 1)
_HIGHEST = np.array([max(mask.bit_length() - 1, 0) for mask in range(_MASKS)], dtype=np.int8)


@dataclass(frozen=True)
class HostTimeline:
    """One thread over a stretch of time, cut where it starts doing something else.

    Attributes:
        parts: Sorted stretches that touch each other and leave nothing out.
        doing: ``Doing`` of each part.
        waits: The flat set of this thread's blocking calls.
        wait_api_row: Row in ``Facts.api`` of each wait's first call.
        owed_ns: For each interval that was asked about, how long the last wait before it lasted
            when the thread has launched nothing since: all that it does now comes so much later.
        owed_api_row: Row in ``Facts.api`` of that wait, -1 for none.
    """

    parts: Spans
    doing: Array
    waits: Spans
    wait_api_row: Array
    owed_ns: Array
    owed_api_row: Array


def host_timeline(facts: Facts, thread_index: int, queries: Spans) -> HostTimeline:
    """Return what a thread did, exact wherever ``queries`` looks.

    Args:
        facts: The recording.
        thread_index: Place in ``facts.thread_keys``.
        queries: Sorted intervals that do not overlap. Elsewhere calls may be left out, which
            keeps a deep queue, where few gaps need an explanation, cheap.
    """
    rows, calls, is_poll_alone, head = _joined_calls(facts, thread_index)
    owed = _owed(facts.api_call[rows], calls, np.where(is_poll_alone, NO_WAIT, head), queries)
    owed = owed[0], np.where(owed[1] >= 0, rows[owed[1]], NO_WAIT)
    chosen = _around(calls, queries)
    rows, calls = rows[chosen], Spans(calls.start[chosen], calls.end[chosen])
    doing = doing_in_calls(facts, rows)
    doing[is_poll_alone[chosen]] = Doing.OTHER_CALL
    spans = {int(d): _flat(calls, doing == d) for d in np.flatnonzero(np.bincount(doing))}
    spans[int(Doing.PROFILED)] = _profiler_at_work(facts, thread_index)
    if facts.trace.count("operators"):
        spans[int(Doing.DISPATCHING)] = submitting(
            facts, thread_index, _calls_of_thread(facts, thread_index)
        )
    start = min(int(queries.start[0]), int(calls.start[0])) if len(rows) else int(queries.start[0])
    parts, label = _cut(spans, start, int(queries.end[-1]))
    blocking = (doing == Doing.WAITING) | (doing == Doing.FREEING)
    waits = _flat(calls, blocking)
    first = np.searchsorted(calls.start[blocking], waits.start, side="left")
    return HostTimeline(parts, label, waits, rows[blocking][first], *owed)


def _calls_of_thread(facts: Facts, thread_index: int) -> Array:
    order, bounds = facts.call_order
    rows: Array = order[bounds[thread_index] : bounds[thread_index + 1]]
    return rows


@memo(1)  # of a recording with one busy thread, of which the ledger asks three times
def _joined_calls(facts: Facts, thread_index: int) -> tuple[Array, Spans, Array, Array]:
    """Return the calls of a thread by begin, and what ``join_polls`` says of them."""
    rows = _calls_of_thread(facts, thread_index)
    calls = Spans(facts.api["start_ns"].to_numpy()[rows], facts.api["end_ns"].to_numpy()[rows])
    return rows, *join_polls(facts, rows, calls)


def doing_in_calls(facts: Facts, rows: Array) -> Array:
    """Return what a thread does inside each of these rows of ``facts.api``."""
    doing: Array = _DOING_OF_CALL[facts.api_call[rows]]
    length = facts.api["end_ns"].to_numpy()[rows] - facts.api["start_ns"].to_numpy()[rows]
    lazy = (facts.api_call[rows] == Call.LAUNCH) & (length >= LAZY_LOADING_MIN_NS)
    if lazy.any():
        doing[lazy & facts.is_first_use[rows]] = Doing.SETTING_UP
    doing[is_start_up(facts)[rows]] = Doing.SETTING_UP
    return doing


def _around(calls: Spans, queries: Spans) -> Array:
    """Return the calls inside ``queries``, and the last before and the first after each interval.

    The neighbours tell how long a pause really is that reaches beyond an interval.
    """
    if not len(calls.start):
        return np.empty(0, np.int64)
    chosen = covered(calls, union(queries.start, queries.end)) > 0
    reach = np.maximum.accumulate(calls.end)
    holder = np.maximum.accumulate(np.where(calls.end == reach, np.arange(len(reach)), 0))
    before = np.searchsorted(calls.start, queries.start, side="left") - 1
    after = np.searchsorted(calls.start, queries.end, side="left")
    chosen[holder[before[before >= 0]]] = True
    chosen[after[after < len(reach)]] = True
    return np.flatnonzero(chosen)


def join_polls(facts: Facts, rows: Array, calls: Spans) -> tuple[Spans, Array, Array]:
    """Let the first poll of a run stretch over all of it: a loop of polls is a wait.

    A loop asks again soon after it was told "not ready". Frameworks also ask now and then, between
    other work, whether something is done; such polls alone wait for nothing.

    Returns:
        The calls; which of them are polls alone; and the place of the first poll of each one's
        run, its own for other calls.
    """
    call = facts.api_call[rows]
    polls = call == Call.POLL
    head = np.arange(len(rows))
    if not polls.any():
        return calls, polls, head
    kept = np.flatnonzero(call != Call.OTHER)  # what only asks may stand between two polls
    poll, begin, end = polls[kept], calls.start[kept], calls.end[kept]
    status = facts.trace.columns("api_calls", ["status"])["status"][rows[kept]]
    repeats = poll[:-1] & poll[1:] & (begin[1:] - end[:-1] <= DISPATCH_MAX_NS)
    repeats &= status[:-1] != SUCCESS
    first = np.concatenate(([True], ~repeats))
    run = np.cumsum(first) - 1
    latest = np.maximum.reduceat(end, np.flatnonzero(first))
    stop = calls.end.copy()
    stop[kept[first & poll]] = latest[poll[first]]  # the first poll of a run covers all of it
    head[kept] = kept[np.flatnonzero(first)[run]]
    alone = np.zeros(len(rows), dtype=bool)
    alone[kept] = poll & (np.bincount(run)[run] == 1)
    return Spans(calls.start, stop), alone, head


def _owed(call: Array, calls: Spans, head: Array, queries: Spans) -> tuple[Array, Array]:
    """Return ``owed_ns`` of ``HostTimeline``, and the place of each wait in ``calls``.

    Args:
        call: ``Call`` of each.
        calls: A thread's calls, by begin.
        head: Place of the call with which each one's wait began; -1 where it is none.
        queries: The intervals.
    """
    waited = np.flatnonzero(np.isin(call, _WAITS) & (head >= 0))
    nothing = np.zeros(len(queries.start), np.int64)
    if not len(waited):
        return nothing, nothing + NO_WAIT
    launched = np.flatnonzero(np.isin(call, (Call.LAUNCH, Call.ENQUEUE, Call.COPY)))
    before = np.searchsorted(calls.start, queries.start, side="left")
    place = np.searchsorted(waited, before, side="left") - 1
    wait = waited[np.maximum(place, 0)]
    begun = head[wait]
    last_launch = np.searchsorted(launched, before, side="left") - 1
    since = launched[np.maximum(last_launch, 0)] if len(launched) else nothing - 1
    end = np.maximum(calls.end[wait], calls.end[begun])
    owes = (place >= 0) & (end <= queries.start)
    owes &= (last_launch < 0) | (since <= wait)
    return np.where(owes, end - calls.start[begun], 0), np.where(owes, begun, NO_WAIT)


def _flat(calls: Spans, chosen: Array) -> Spans:
    start, end = calls.start[chosen], calls.end[chosen]
    if len(start) and np.all(start[1:] > end[:-1]) and np.all(end > start):
        return Spans(start, end)
    return union(start, end)


def _profiler_at_work(facts: Facts, thread_index: int) -> Spans:
    if not facts.trace.count("overheads"):
        return empty()
    rows = facts.overheads
    rows = rows[(rows["thread_key"] == facts.thread_keys[thread_index]).to_numpy()]
    names = [str(n).lower() for n in facts.trace.names(rows["name_id"].to_numpy())]
    by_profiler = np.array([not n.startswith(NOT_THE_PROFILER) for n in names], dtype=bool)
    return union(rows["start_ns"].to_numpy()[by_profiler], rows["end_ns"].to_numpy()[by_profiler])


def _cut(spans: dict[int, Spans], start: int, end: int) -> tuple[Spans, Array]:
    """Cut ``[start, end)`` at every border of ``spans``; label each part with what counts there.

    Each flat set contributes one bit, so a running sum of bits going on and off tells which sets
    are open, exactly and for any number of calls.
    """
    inside = {bit: clip(s, start, end) for bit, s in spans.items()}
    times = np.concatenate(
        [np.array([start], np.int64), *(np.ravel(np.column_stack(s)) for s in inside.values())]
    )
    steps = np.concatenate(
        [np.zeros(1, np.int64)]
        + [np.tile([1 << bit, -(1 << bit)], len(s.start)) for bit, s in inside.items()]
    )
    order = np.argsort(times, kind="stable")
    times, mask = times[order], np.cumsum(steps[order])
    last = np.concatenate((times[1:] != times[:-1], [True]))
    begin, mask = times[last], mask[last]
    stop = np.concatenate((begin[1:], [end]))
    begin, stop, mask = begin[begin < stop], stop[begin < stop], mask[begin < stop]
    label = _HIGHEST[mask]
    length = stop - begin
    for open_calls, limit in (
        (0, DISPATCH_MAX_NS),
        (1 << Doing.DISPATCHING, OPERATOR_DISPATCH_MAX_NS),
    ):
        free = mask == open_calls
        label[free] = np.where(length[free] <= limit, Doing.DISPATCHING, Doing.OUTSIDE)
    return Spans(begin, stop), label
