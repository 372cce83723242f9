"""What was submitted: calls in the order in which they were made, operations behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import COPY, Facts
from analyzers.facts.migrations import moves_nobody_submitted
from analyzers.intervals import Array, Spans
from analyzers.ledger.host_timeline import join_polls
from analyzers.whatif.columns import places_of, previous_of
from analyzers.whatif.tables import LONG_AGO_NS, NONE, Calls, Operations

_LANE = ["process_index", "device", "stream"]  # streams are numbered by process and device


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Submissions:
    """What was submitted, and when.

    Attributes:
        origin_ns: Moment of the recording from which all times count.
        calls: In the order in which they were made.
        operations: In the order in which they were submitted.
        previous: The operation before each one on its stream, -1 for none.
        previous_stop: When that ended; ``LONG_AGO_NS`` for none.
    """

    origin_ns: int
    calls: Calls
    operations: Operations
    previous: Array
    previous_stop: Array

    @property
    def is_first_of_call(self) -> Array:
        """Whether each operation is the first one that its call submitted."""
        call = self.operations.call
        return np.concatenate(([True], call[1:] != call[:-1]))

    @property
    def pause(self) -> Array:
        """Measured time between each operation and the one before it on its stream."""
        pause: Array = self.operations.start - self.previous_stop
        return pause


def submitted_work(facts: Facts, from_ns: int | None) -> Submissions:
    """Return calls and operations, counted from the first of all moments.

    Args:
        facts: The recording, with at least one operation.
        from_ns: A moment that counts, too.
    """
    calls, operations = _calls_and_operations(facts)
    first = int(min(calls.begin.min(), operations.start.min()))
    origin = first if from_ns is None else min(first, from_ns)
    calls = replace(calls, begin=calls.begin - origin, end=calls.end - origin)
    operations = replace(operations, start=operations.start - origin, stop=operations.stop - origin)
    previous = previous_of(operations.lane)
    return Submissions(
        origin_ns=origin,
        calls=calls,
        operations=operations,
        previous=previous,
        previous_stop=np.where(previous >= 0, operations.stop[previous], LONG_AGO_NS),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _OutermostCalls:
    """Calls that no other call of their thread holds, by begin.

    Attributes:
        api_row: Row in ``Facts.api``.
        begin: Begin in the recording's time.
        end: End in the recording's time; a loop of polls is one call.
        around: The outermost call around each row of ``Facts.api``, -1 for threads that submit
            nothing.
    """

    api_row: Array
    begin: Array
    end: Array
    around: Array


def _outermost_calls(facts: Facts) -> _OutermostCalls:
    """Return the outermost calls of the threads that submit work."""
    order, bounds = facts.call_order
    begin, end = (facts.api[c].to_numpy() for c in ("start_ns", "end_ns"))
    kept_rows, kept_end, holders = [], [], np.full(len(begin), NONE, np.int64)
    for thread in np.unique(facts.thread_index[facts.thread_index >= 0]):
        rows = order[bounds[thread] : bounds[thread + 1]]
        spans, _, _ = join_polls(facts, rows, Spans(begin[rows], end[rows]))
        reach = np.maximum.accumulate(spans.end)
        outermost = np.concatenate(([True], spans.start[1:] >= reach[:-1]))
        place = np.cumsum(outermost) - 1
        holders[rows] = rows[outermost][place]
        kept_rows.append(rows[outermost])
        kept_end.append(np.maximum.reduceat(spans.end, np.flatnonzero(outermost)))
    if not kept_rows:
        none = np.empty(0, np.int64)
        return _OutermostCalls(api_row=none, begin=none, end=none, around=holders)
    rows, stops = np.concatenate(kept_rows), np.concatenate(kept_end)
    by_begin = np.argsort(begin[rows], kind="stable")
    rows = rows[by_begin]
    place_of_row = np.full(len(begin), NONE, np.int64)
    place_of_row[rows] = np.arange(len(rows))
    around = np.where(holders >= 0, place_of_row[holders], NONE)
    return _OutermostCalls(api_row=rows, begin=begin[rows], end=stops[by_begin], around=around)


def _calls_and_operations(facts: Facts) -> tuple[Calls, Operations]:
    """Put operations behind their calls; one without a call gets an entry of its own.

    Pages that came or went because something touched them are left out: they are part of the
    kernel, or of the host's pause, in which they moved. Times are the recording's.
    """
    replayed = np.flatnonzero(~moves_nobody_submitted(facts))
    outermost = _outermost_calls(facts)
    start = facts.launches["start_ns"].to_numpy()
    launch_row = facts.launches["api_row"].to_numpy()
    call = np.full(len(start), NONE, np.int64)
    linked = launch_row >= 0
    call[linked] = outermost.around[launch_row[linked]]
    alone = replayed[call[replayed] < 0]
    count = len(outermost.begin)
    begin = np.concatenate((outermost.begin, start[alone]))
    if len(alone):
        latest = _submitted_at_latest(facts.launches, outermost.begin, call, start)
        begin[count:] = latest[alone]
    # What has no call stands before the call that submitted what its stream ran next.
    order = np.lexsort((np.arange(len(begin)) < count, begin))
    call[alone] = count + np.arange(len(alone))
    call = places_of(order)[call]
    rows = replayed[np.lexsort((start[replayed], call[replayed]))]
    api_row = np.concatenate((outermost.api_row, np.full(len(alone), NONE)))[order]
    calls = Calls(
        thread=_threads(facts, api_row),
        begin=begin[order],
        end=np.concatenate((outermost.end, start[alone]))[order],
        api_row=api_row,
        kind=_call_kinds(facts, api_row),
        first_operation=np.searchsorted(call[rows], np.arange(len(order) + 1)),
    )
    return calls, _operations(facts, rows, call[rows], api_row)


def _threads(facts: Facts, api_row: Array) -> Array:
    """Number the threads of the calls; -1 where there is no call."""
    thread = np.full(len(api_row), NONE, np.int64)
    rows = api_row[api_row >= 0]
    of_call = facts.api["thread_index"].to_numpy()[rows] if len(facts.api) else rows
    thread[api_row >= 0] = np.unique(of_call, return_inverse=True)[1]
    return thread


def _call_kinds(facts: Facts, api_row: Array) -> Array:
    kinds = np.full(len(api_row), int(Call.OTHER), np.int64)
    kinds[api_row >= 0] = facts.api_call[api_row[api_row >= 0]]
    return kinds


def _operations(facts: Facts, rows: Array, call: Array, api_row: Array) -> Operations:
    """Return the operations in the rows of ``Facts.launches``, by stream, device and engine.

    Args:
        facts: The recording.
        rows: Row of each operation.
        call: Its call.
        api_row: Row in ``Facts.api`` of each call, -1 for none.
    """
    start, stop = (facts.launches[c].to_numpy()[rows] for c in ("start_ns", "end_ns"))
    kind = facts.launches["kind"].to_numpy()[rows].astype(np.int64)
    places = facts.launches[_LANE].iloc[rows]
    lane = places.groupby(_LANE, sort=False).ngroup().to_numpy()
    group = places.groupby(["process_index", "device"], sort=False).ngroup().to_numpy()
    copies = np.flatnonzero(kind == COPY)
    engine, direction = (np.full(len(rows), NONE, np.int64) for _ in range(2))
    if len(copies):
        key = _copy_directions(facts, rows[copies])
        direction[copies] = np.where(key >= 0, np.unique(key, return_inverse=True)[1], NONE)
        engine[copies] = _copy_engines(key, start[copies], stop[copies])
    return Operations(
        row=rows,
        kind=kind,
        call=call,
        lane=lane.astype(np.int64),
        group=group.astype(np.int64),
        engine=engine,
        direction=direction,
        start=start,
        stop=stop,
        duration=stop - start,
        linked=api_row[call] >= 0,
    )


def _copy_directions(facts: Facts, rows: Array) -> Array:
    """Return a number of each copy's device and direction, -1 where the direction is unknown."""
    direction = facts.of_table("copies", ["kind"])["kind"].loc[rows].to_numpy().astype(np.int64)
    device = facts.launches["device"].to_numpy()[rows].astype(np.int64)
    return np.where(direction > 0, device * 64 + direction, NONE)


def _copy_engines(key: Array, start: Array, stop: Array) -> Array:
    """Return the engine of each copy, else -1: copies of one direction follow each other.

    A device whose copies of one direction were seen to overlap has several engines for it.
    """
    by_time = np.lexsort((start, key))
    same = key[by_time][1:] == key[by_time][:-1]
    crosses = same & (start[by_time][1:] < stop[by_time][:-1])
    several = np.unique(key[by_time][1:][crosses])
    alone = ~np.isin(key, several) & (key >= 0)
    engine = np.full(len(key), NONE, np.int64)
    if alone.any():
        engine[alone] = np.unique(key[alone], return_inverse=True)[1]
    return engine


def _submitted_at_latest(launches: pd.DataFrame, begin: Array, call: Array, start: Array) -> Array:
    """Return a moment by which each operation was submitted: streams run in order."""
    by_lane = launches.groupby(_LANE, sort=False).ngroup().to_numpy()
    own = np.where(call >= 0, begin[np.maximum(call, 0)] if len(begin) else start, start)
    # What ran before anything that was submitted in the recording was submitted before it.
    linked, earliest = call >= 0, int(start.min())
    if linked.any():
        own[start < start[linked].min()] = min(int(begin.min()), earliest)
    order = np.lexsort((start, by_lane))[::-1]
    base = min(int(own.min()), earliest)
    # Restarts the running minimum at each stream.
    level = -by_lane[order] * (int(start.max()) - base + 1)
    latest = np.empty(len(start), np.int64)
    key = np.minimum(own, start)[order] - base - level
    latest[order] = np.minimum.accumulate(key) + level + base
    return latest
