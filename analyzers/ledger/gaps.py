"""Idle time of a device: every gap is booked to what kept the launch that ended it from coming.

A wait costs more than itself. The host work after it would have been hidden behind the device had
the host not been blocked, so of that work as much as the thread was blocked is booked to the wait.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.facts.migrations import host_thread, is_managed, page_outs
from analyzers.finding import Row
from analyzers.intervals import Array, Spans, by_key, overlaps
from analyzers.ledger.booking import DEVICE_GAP_MAX_NS, NOTHING, Detail, Piece, as_one, by_doing
from analyzers.ledger.host_timeline import Doing, HostTimeline, doing_in_calls, host_timeline
from analyzers.ledger.queue_waits import with_evidence

CONSTANT_WITHIN, CONSTANT_SHARE = 0.25, 0.9  # of the middle; of the pauses
LATENCY_MAX_NS = 50_000
MIN_GAPS_TO_MEASURE = 8
DEVICE_GAP_QUANTILE = 0.9  # most, not half, of the ordinary gaps should count as ordinary


class Gaps:
    """Idle stretches of a device, each with the launch that ends it and its API call."""

    def __init__(self, start: Array, end: Array, launch: Array, facts: Facts) -> None:
        self.start, self.end, self.launch = start, end, launch
        self.api_row = facts.launches["api_row"].to_numpy()[launch]
        # A call that seems to begin after its own kernel (clock skew) is taken to begin with it.
        self.call_start = np.minimum(facts.api_start_ns[launch], end)
        self.call_end = np.clip(facts.api_end_ns[launch], self.call_start, end)
        self.thread_index = facts.thread_index[launch]
        self.is_blocking_copy = np.zeros(len(launch), dtype=bool)
        if len(facts.api):
            call = facts.api_call[np.maximum(self.api_row, 0)]
            self.is_blocking_copy = (call == Call.COPY) & (self.api_row >= 0)

    def __len__(self) -> int:
        return len(self.start)

    @property
    def has_call(self) -> Array:
        """Where the API call of the launch is known."""
        recorded: Array = self.api_row >= 0
        return recorded

    @property
    def was_submitted(self) -> Array:
        """Where the launch call had begun before the device ran dry."""
        submitted: Array = self.has_call & (self.call_start <= self.start)
        return submitted


def ordinary_gap_ns(facts: Facts, rows: Array, ended: Gaps) -> int:
    """Return the pause this device needs between two launches of one stream.

    It is read off the gaps in which the next kernel was already queued on the same stream: those
    of up to 10 µs, or longer ones where nearly all of them take the same. A driver that needs 20 µs
    for each launch is as slow every time; what waits for something else is not.
    """
    if not len(ended):
        return DEVICE_GAP_MAX_NS
    queued = ended.was_submitted & (ended.call_end <= ended.start)
    length = ended.end - ended.start
    queued &= length <= LATENCY_MAX_NS
    end = facts.launches["end_ns"].to_numpy()[rows]
    stream = facts.launches["stream"].to_numpy()
    reach = np.maximum.accumulate(end)
    holder = np.maximum.accumulate(np.where(end == reach, np.arange(len(rows)), 0))
    place = np.searchsorted(rows, ended.launch)
    before = rows[holder[np.maximum(place - 1, 0)]]
    queued &= stream[before] == stream[ended.launch]
    brief = queued & (length <= DEVICE_GAP_MAX_NS)
    if 2 * np.count_nonzero(brief) < np.count_nonzero(queued) and _is_constant(length[queued]):
        return int(np.quantile(length[queued], DEVICE_GAP_QUANTILE))
    if np.count_nonzero(brief) < MIN_GAPS_TO_MEASURE:
        return DEVICE_GAP_MAX_NS
    return int(np.quantile(length[brief], DEVICE_GAP_QUANTILE))


def _is_constant(length: Array) -> bool:
    """Tell whether there are enough pauses, and nearly all are within a quarter of the middle."""
    if len(length) < MIN_GAPS_TO_MEASURE:
        return False
    away = np.abs(length - np.median(length))
    return bool(np.mean(away <= CONSTANT_WITHIN * np.median(length)) >= CONSTANT_SHARE)


def ordinary_latency_ns(ended: Gaps) -> int:
    """Return how long an idle device takes from the return of a launch call to the begin.

    It is measured where the call was made while the device was idle: most of them should count as
    ordinary. Fifty microseconds is more than any driver needs.
    """
    called = ended.has_call & ~ended.was_submitted
    latency = (ended.end - ended.call_end)[called]
    if len(latency) < MIN_GAPS_TO_MEASURE:
        return DEVICE_GAP_MAX_NS
    usual = int(np.quantile(latency, DEVICE_GAP_QUANTILE))
    return min(max(usual, DEVICE_GAP_MAX_NS), LATENCY_MAX_NS)


def book_gaps(facts: Facts, ended: Gaps, device_gap_ns: int) -> list[Piece]:
    """Book every nanosecond of every gap.

    Args:
        facts: The recording.
        ended: Gaps of one device, in order.
        device_gap_ns: What this device needs between two launches.
    """
    pieces = [
        *_without_call(facts, ended),
        *_queued_before(facts, ended, device_gap_ns),
        *_launched_inside(facts, ended),
    ]
    return with_evidence(facts, pieces)


def _without_call(facts: Facts, ended: Gaps) -> list[Piece]:
    """Book the gaps that an operation ends which no recorded call submitted."""
    without = np.flatnonzero(~ended.has_call)
    if not len(without):
        return []
    launch = ended.launch[without]
    managed = is_managed(facts)[launch]
    touched = managed & np.isin(launch, page_outs(facts))
    why = Detail.NO_API_CALL if len(facts.api) else Detail.NO_API_RECORDED
    parts = ((managed & ~touched, Detail.MANAGED_MEMORY), (~managed, why))
    return [
        *_read_by_host(facts, ended, without[touched]),
        *(
            as_one(_spans(ended, without[part]), Row.UNEXPLAINED, detail, launch[part])
            for part, detail in parts
        ),
    ]


def _read_by_host(facts: Facts, ended: Gaps, chosen: Array) -> list[Piece]:
    """Book the gaps that end when the host touches a page which is in the GPU's memory.

    What its thread does in CUDA calls until then counts for those; the rest is the host at work.
    """
    pieces = []
    for thread, gap in by_key(host_thread(facts, ended.launch[chosen]), chosen):
        queries = _spans(ended, gap)
        if thread < 0:
            pieces.append(as_one(queries, Row.HOST, Detail.READING_PAGES, ended.launch[gap]))
            continue
        line = host_timeline(facts, thread, queries)
        query, part, start, end = overlaps(queries, line.parts)
        doing, launch = line.doing[part], ended.launch[gap[query]]
        reads = np.isin(doing, (Doing.OUTSIDE, Doing.DISPATCHING, Doing.OTHER_CALL))
        own, calls = Spans(start[reads], end[reads]), Spans(start[~reads], end[~reads])
        pieces.append(as_one(own, Row.HOST, Detail.READING_PAGES, launch[reads]))
        wait = _wait_rows(line, calls.start, doing[~reads])
        pieces.append(by_doing(calls, doing[~reads], launch[~reads], wait))
    return pieces


def _wait_rows(line: HostTimeline, start: Array, doing: Array) -> Array:
    """Return the row in ``Facts.api`` of the wait in which each stretch lies, else ``NOTHING``."""
    wait = np.full(len(start), NOTHING, np.int64)
    waiting = doing == Doing.WAITING
    place = np.searchsorted(line.waits.start, start[waiting], side="right") - 1
    wait[waiting] = line.wait_api_row[place]
    return wait


def _spans(ended: Gaps, chosen: Array) -> Spans:
    return Spans(ended.start[chosen], ended.end[chosen])


def _queued_before(facts: Facts, ended: Gaps, device_gap_ns: int) -> list[Piece]:
    """Book the gaps whose launch call had begun before them."""
    submitted = ended.was_submitted
    copies = submitted & ended.is_blocking_copy
    plain = submitted & ~copies
    start, end, launch = ended.start[plain], ended.end[plain], ended.launch[plain]
    returned = np.maximum(ended.call_end[plain], start)
    # What a copy call that keeps the host waiting spends beyond the device's own pause is staging
    # of pageable memory.
    pause = np.maximum(ended.end[copies] - device_gap_ns, ended.start[copies])
    staged = np.minimum(np.maximum(ended.call_end[copies], ended.start[copies]), pause)
    held, call = ended.launch[copies], ended.api_row[copies]
    in_copy = Spans(ended.start[copies], staged)
    row = ended.api_row[plain]
    doing = doing_in_calls(facts, row)
    wait = np.where(doing == Doing.WAITING, row, NOTHING)
    return [
        by_doing(Spans(start, returned), doing, launch, wait),
        *_after_return(Spans(returned, end), Doing.QUEUED, device_gap_ns, launch),
        as_one(in_copy, Row.SYNC, Detail.IN_WAIT, held, call),
        *_after_return(Spans(staged, ended.end[copies]), Doing.QUEUED, device_gap_ns, held),
    ]


def _after_return(spans: Spans, doing: Doing, limit_ns: int, launch: Array) -> list[Piece]:
    """Book the time after a launch call's return: the device's own pause last, waiting before."""
    begins = np.maximum(spans.end - limit_ns, spans.start)
    return [
        as_one(Spans(spans.start, begins), Row.DEPENDENCY, Detail.OTHER_STREAM, launch),
        _doing(Spans(begins, spans.end), doing, launch),
    ]


def _doing(spans: Spans, doing: Doing, launch: Array) -> Piece:
    return by_doing(spans, np.full(len(launch), doing), launch)


def _launched_inside(facts: Facts, ended: Gaps) -> list[Piece]:
    """Book the gaps in which the launch call began: follow the thread through each."""
    chosen = np.flatnonzero(ended.has_call & ~ended.was_submitted)
    if not len(chosen):
        return []
    walk = _walk(facts, ended, chosen)
    first = walk.groupby("gap", sort=False)["blocked_ns"].transform("sum").to_numpy()
    with_wait = walk[first > 0]
    pieces = _unhidden(with_wait, ended) if len(with_wait) else []
    rest = walk[first == 0]
    return pieces + _by_doing(rest, ended)


def _walk(facts: Facts, ended: Gaps, chosen: Array) -> pd.DataFrame:
    """Return what the launching thread did in each gap, piece by piece.

    Columns: ``gap``, ``start_ns``, ``end_ns``, ``doing``, ``wait`` (row in ``api``, else -1) and
    ``blocked_ns``: how long the thread was kept from working by the wait this piece belongs to.
    """
    parts, read = [], facts.launches["end_ns"].to_numpy()[page_outs(facts)]
    for thread, of_thread in by_key(ended.thread_index[chosen], chosen):
        queries = Spans(ended.start[of_thread], ended.call_start[of_thread])
        line = host_timeline(facts, thread, queries)
        # Whoever reads results needed the wait before: it kept nothing from being submitted.
        line = replace(line, owed_ns=np.where(np.isin(queries.start, read), 0, line.owed_ns))
        parts.append(_pieces_of(line, queries, of_thread))
    called, returned = ended.call_start[chosen], ended.call_end[chosen]
    # A copy that keeps the host waiting also keeps it while it stages pageable memory.
    row = ended.api_row[chosen]
    doing = doing_in_calls(facts, row)
    wait = np.where(doing == Doing.WAITING, row, NOTHING)
    parts.append(_frame(chosen, called, returned, doing, wait))
    submitted = np.full(len(chosen), Doing.SUBMITTED, np.int8)
    none = np.full(len(chosen), NOTHING)
    parts.append(_frame(chosen, returned, ended.end[chosen], submitted, none))
    walk = pd.concat(parts, ignore_index=True)
    return walk.sort_values(["gap", "start_ns"], kind="stable", ignore_index=True)


def _pieces_of(line: HostTimeline, queries: Spans, gap: Array) -> pd.DataFrame:
    query, part, start, end = overlaps(queries, line.parts)
    doing = line.doing[part]
    waiting = (doing == Doing.WAITING) | (doing == Doing.FREEING)
    wait = np.full(len(start), NOTHING, np.int64)
    blocked = np.zeros(len(start), np.int64)
    if waiting.any():
        place = np.searchsorted(line.waits.start, start[waiting], side="right") - 1
        wait[waiting] = line.wait_api_row[place]
        before = np.maximum(queries.start[query[waiting]] - line.waits.start[place], 0)
        at_begin = start[waiting] == queries.start[query[waiting]]
        # Giving memory back is work once the device is idle; until then it is a wait.
        inside = np.where(doing[waiting] == Doing.WAITING, (end - start)[waiting], 0)
        blocked[waiting] = np.where(at_begin, before, 0) + inside
    # A wait that ended just before still delays what comes now.
    owing = (start == queries.start[query]) & ~waiting & (line.owed_ns[query] > 0)
    wait[owing] = line.owed_api_row[query[owing]]
    blocked[owing] = line.owed_ns[query[owing]]
    return pd.DataFrame(
        {
            "gap": gap[query],
            "start_ns": start,
            "end_ns": end,
            "doing": doing,
            "wait": wait,
            "blocked_ns": blocked,
        }
    )


def _frame(gap: Array, start: Array, end: Array, doing: Array, wait: Array) -> pd.DataFrame:
    solid = end > start
    return pd.DataFrame(
        {
            "gap": gap[solid],
            "start_ns": start[solid],
            "end_ns": end[solid],
            "doing": doing[solid],
            "wait": wait[solid].astype(np.int64),
            "blocked_ns": np.int64(0),
        }
    )


def _unhidden(walk: pd.DataFrame, ended: Gaps) -> list[Piece]:
    """Book gaps with waits: work after a wait that the wait could have hidden counts for it."""
    hidden = _hidden_ns(walk, ended)
    start, gap = walk["start_ns"].to_numpy(), walk["gap"].to_numpy()
    own = walk["wait"].to_numpy()
    # The wait that hid this work is the last one before it in the same gap.
    place = np.maximum.accumulate(np.where(own >= 0, np.arange(len(own)), 0))
    refill = Spans(start, start + hidden)
    refilled = as_one(refill, Row.SYNC, Detail.REFILL, ended.launch[gap], own[place])
    return [refilled, *_by_doing(walk.assign(start_ns=start + hidden), ended)]


def _hidden_ns(walk: pd.DataFrame, ended: Gaps) -> Array:
    """Return how much of each piece would have been hidden had its thread not been blocked.

    Going through a gap, blocked time is saved up and work spends it. The balance never falls
    below zero, so it is a running sum less its running minimum; each gap gets a level of its own,
    below all before it, which restarts the minimum without a loop over gaps.
    """
    gap = walk["gap"].to_numpy()
    length = (walk["end_ns"] - walk["start_ns"]).to_numpy()
    idle = (ended.end - ended.start)[gap]
    works = walk["doing"].to_numpy() != Doing.WAITING
    saved = np.minimum(walk["blocked_ns"].to_numpy(), idle)  # more can never be spent
    change = saved - np.where(works, length, 0)
    first = np.concatenate(([True], gap[1:] != gap[:-1]))
    total = np.cumsum(change)
    before_gap = (total - change)[first][np.cumsum(first) - 1]
    before = np.concatenate(([0], idle[:-1]))
    level = -np.cumsum(np.where(first, 8 * (idle + before) + 1, 0))
    balance_after = _balance(total - before_gap, level, first)
    balance_before = np.where(first, 0, np.concatenate(([0], balance_after[:-1])))
    spent: Array = np.minimum(np.where(works, length, 0), balance_before + saved)
    return spent


def _balance(running: Array, level: Array, first: Array) -> Array:
    """Return ``running`` less its minimum (at most 0) since the last row marked ``first``."""
    # A zero before each gap's first row makes the minimum at most zero.
    lowest = np.where(first, np.minimum(running, 0), running) + level
    minimum = np.minimum.accumulate(lowest) - level
    balance: Array = running - np.minimum(minimum, 0)
    return balance


def _by_doing(walk: pd.DataFrame, ended: Gaps) -> list[Piece]:
    """Book each piece to what the thread was doing."""
    start, end = walk["start_ns"].to_numpy(), walk["end_ns"].to_numpy()
    gap, doing = walk["gap"].to_numpy(), walk["doing"].to_numpy()
    launch, wait = ended.launch[gap], walk["wait"].to_numpy()
    submitted = doing == Doing.SUBMITTED
    called = ~submitted
    wait = np.where(doing == Doing.WAITING, wait, NOTHING)
    in_calls = Spans(start[called], end[called])
    after = Spans(start[submitted], end[submitted])
    return [
        by_doing(in_calls, doing[called], launch[called], wait[called]),
        *_after_return(after, Doing.SUBMITTED, ordinary_latency_ns(ended), launch[submitted]),
    ]
