"""Pages of unified memory that moved: which a processor asked for by touching them, and which not.

A GPU that touches a page which is not there stops until the driver has brought it. The driver
brings what lies around it, too, and calls that speculative (CUPTI's
``CUpti_ActivityUnifiedMemoryMigrationCause``): it is still an answer to a fault. Only in a
program that calls ``cudaMemPrefetchAsync`` may a migration that is called speculative be one of
its own, and only where the recording calls none of them the program's.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import COPY, UNKNOWN, Facts
from analyzers.facts.trace_table import trace_columns, trace_table
from analyzers.intervals import Array
from collectors.schema import MANAGED_COPIES, CopyKind, MigrationCause
from common.memo import memo

_TOUCHED = (MigrationCause.PAGE_FAULT, MigrationCause.ACCESS_COUNTERS, MigrationCause.EVICTION)
_UNCLEAR = (MigrationCause.UNKNOWN, UNKNOWN)


@memo()
def migrations(facts: Facts) -> pd.DataFrame:
    """Return the moves of unified memory, by begin; the index is the row in ``Facts.launches``.

    Columns: ``device`` (key), ``process_index``, ``start_ns``, ``end_ns``, ``bytes``, ``kind``
    (``CopyKind``), ``cause`` (``MigrationCause``, -1 not recorded), ``to_device``, ``to_host``,
    ``is_prefetch`` (the program asked for it), ``is_answer`` (to a processor that touched the
    page; evictions count, which make room for such an answer), ``is_unclear`` (either: the
    program prefetches, and the move has no cause).
    """
    copies = facts.of_table("copies", ["kind", "bytes", "migration_cause"])
    copies = copies[np.isin(copies["kind"].to_numpy(), MANAGED_COPIES)]
    places = facts.launches.loc[copies.index, ["device", "process_index", "start_ns", "end_ns"]]
    moves = pd.concat([places, copies.rename(columns={"migration_cause": "cause"})], axis=1)
    kind, cause = moves["kind"].to_numpy(), moves["cause"].to_numpy()
    asks = prefetching(facts)[moves["process_index"].to_numpy()]
    has_call = facts.launches["api_row"].to_numpy()[moves.index] >= 0
    by_program = cause == MigrationCause.USER_PREFETCH
    named = np.isin(moves["process_index"], moves["process_index"].to_numpy()[by_program])
    speculative = (cause == MigrationCause.SPECULATIVE_PREFETCH) & (~asks | named)
    unclear = np.isin(cause, _UNCLEAR)
    return moves.assign(
        to_device=kind == CopyKind.MANAGED_HOST_TO_DEVICE,
        to_host=kind == CopyKind.MANAGED_DEVICE_TO_HOST,
        is_prefetch=by_program | (unclear & has_call),
        is_answer=np.isin(cause, _TOUCHED) | speculative | (unclear & ~has_call & ~asks),
        is_unclear=unclear & ~has_call & asks,
    )


def is_managed(facts: Facts) -> Array:
    """Return for each launch whether it is a move of unified memory."""
    managed = np.zeros(len(facts.launches), dtype=bool)
    if (facts.launches["kind"].to_numpy() == COPY).any():
        managed[migrations(facts).index] = True
    return managed


def moves_nobody_submitted(facts: Facts) -> Array:
    """Return for each launch whether it is a move of unified memory without a call.

    Something touched the page: such moves come with what a kernel or the host does, not in a
    stream.
    """
    unsubmitted: Array = is_managed(facts) & (facts.launches["api_row"].to_numpy() < 0)
    return unsubmitted


def prefetching(facts: Facts) -> Array:
    """Return for each process, by ``process_index``, whether it asks for pages in advance."""
    asks = np.zeros(len(facts.process_keys), dtype=bool)
    calls = prefetch_calls(facts)
    if len(calls):
        process = process_of_calls(facts, calls)
        asks[process[process >= 0]] = True
    return asks


def prefetch_calls(facts: Facts) -> Array:
    """Return the rows of ``Facts.api`` that prefetch unified memory."""
    names = np.array(["MemPrefetch" in str(name) for name in facts.functions], dtype=bool)
    if not names.any():
        return np.empty(0, np.int64)
    rows: Array = np.flatnonzero(names[facts.api["name"].to_numpy()])
    return rows


def process_of_calls(facts: Facts, rows: Array) -> Array:
    """Return the place in ``Facts.process_keys`` of the process that made each call, -1 unknown."""
    threads = trace_columns(facts.trace, "threads", ["thread_key", "process_key"])
    of = dict(zip(threads["thread_key"].tolist(), threads["process_key"].tolist(), strict=True))
    place = {key: number for number, key in enumerate(facts.process_keys.tolist())}
    of_thread = np.array(
        [place.get(of.get(key, UNKNOWN), UNKNOWN) for key in facts.thread_keys.tolist()], np.int64
    )
    result: Array = of_thread[facts.api["thread_index"].to_numpy()[rows]]
    return result


def page_outs(facts: Facts) -> Array:
    """Return the rows of launches that are pages which the host took back by touching them."""
    moves = migrations(facts)
    touched = moves["is_answer"] & moves["to_host"] & (moves["cause"] != MigrationCause.EVICTION)
    rows: Array = moves.index.to_numpy()[touched.to_numpy()]
    return rows


def host_thread(facts: Facts, rows: Array) -> Array:
    """Return the place in ``Facts.thread_keys`` of the thread behind each launch, -1 unknown.

    It is the thread that submitted the launch. A page that the host takes back has no call: of
    the process's threads that submit work, the one that called last before is taken.
    """
    thread = facts.thread_index[rows].astype(np.int64)
    without = np.flatnonzero((thread < 0) & np.isin(rows, page_outs(facts)))
    submits = np.unique(facts.thread_index[facts.thread_index >= 0])
    if not len(without) or not len(submits):
        return thread
    calls = np.flatnonzero(np.isin(facts.api["thread_index"].to_numpy(), submits))
    begin = facts.api["start_ns"].to_numpy()[calls]
    calls = calls[np.argsort(begin, kind="stable")]
    process = process_of_calls(facts, calls)
    touched = rows[without]
    start = facts.launches["start_ns"].to_numpy()[touched]
    owner = facts.launches["process_index"].to_numpy()[touched]
    for place in np.unique(owner):
        own, here = calls[process == place], owner == place
        last = np.searchsorted(facts.api["start_ns"].to_numpy()[own], start[here], "right") - 1
        caller = facts.api["thread_index"].to_numpy()[own[np.maximum(last, 0)]] if len(own) else -1
        thread[without[here]] = np.where(last >= 0, caller, UNKNOWN)
    return thread


def fault_groups(facts: Facts) -> pd.DataFrame:
    """Return groups of page faults of GPUs: ``device`` (key), ``start_ns``, ``end_ns``, ``count``.

    A group lasts from the first fault until the driver has answered it. Empty when not recorded.
    """
    rows = trace_table(
        facts.trace, "page_faults", ["start_ns", "end_ns", "process_key", "device", "count"]
    )
    rows = rows[(rows["device"] >= 0).to_numpy()]
    key = np.full(len(rows), UNKNOWN, np.int64)
    owners = zip(facts.devices["process_key"], facts.devices["device"], strict=True)
    for place, (process, device) in enumerate(owners):
        here = (rows["device"] == device).to_numpy() & (key < 0)
        if process != UNKNOWN:
            here &= (rows["process_key"] == process).to_numpy()
        key[here] = place
    rows = rows.assign(device=key)[["device", "start_ns", "end_ns", "count"]]
    placed: pd.DataFrame = rows[key >= 0].sort_values("start_ns", kind="stable", ignore_index=True)
    return placed
