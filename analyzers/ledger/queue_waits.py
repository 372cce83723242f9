"""Why an operation that was queued did not begin: what the recording shows, or that it is dark.

A wait of a stream is believed only where something recorded explains it: a call that makes a
stream wait, made after the call of the operation before on that stream; an operation of another
GPU that ends when this one begins; or a graph, whose edges are not recorded. An event of the only
GPU explains nothing: while that one is idle, whatever was recorded of it is done. Another process
may hold the GPU just as well, and advice to drop a wait that is not there helps nobody. Two things
are known otherwise: the code of a kernel is loaded at its first launch, and before the first
operation of a stream there may be others that were submitted before the recording began.
"""

from __future__ import annotations

import re

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Row
from analyzers.intervals import Array
from analyzers.ledger.booking import DEVICE_GAP_MAX_NS, ROW_CODE, Detail, Piece

ENDS_JUST_BEFORE_NS = 20_000  # of the begin that it releases: two pauses of a device
SHORT_NS = 1_000_000  # a first operation that waits no longer needs no unrecorded work
# Calls after which a stream waits: for an event, a value in memory, the host, or another API.
_MAKES_STREAM_WAIT = re.compile(
    r"StreamWait|WaitExternal|LaunchHostFunc|StreamAddCallback|WaitValue"
)
# Calls that let something else than operations of this process release an event.
_FROM_ELSEWHERE = re.compile(r"WaitExternal|LaunchHostFunc|StreamAddCallback|WaitValue|Ipc")


def with_evidence(facts: Facts, pieces: list[Piece]) -> list[Piece]:
    """Return the pieces, with waits for other streams that nothing explains as unexplained."""
    return [_checked(facts, piece) for piece in pieces]


def _checked(facts: Facts, piece: Piece) -> Piece:
    waits = (piece["row"] == ROW_CODE[Row.DEPENDENCY]) & (piece["detail"] == Detail.OTHER_STREAM)
    if not waits.any():
        return piece
    dark = waits.copy()
    dark[waits] = ~_is_explained(facts, piece["launch"][waits])
    cold = dark.copy()
    cold[dark] = _is_first_use(facts, piece["launch"][dark])
    # A pause that is hardly longer than others is still the device's own.
    brief = dark & (piece["end_ns"] - piece["start_ns"] < DEVICE_GAP_MAX_NS)
    row, detail = piece["row"].copy(), piece["detail"].copy()
    row[dark], detail[dark] = ROW_CODE[Row.UNEXPLAINED], Detail.NO_WAIT_RECORDED
    row[brief], detail[brief] = ROW_CODE[Row.LAUNCH], Detail.DEVICE_GAP
    row[cold], detail[cold] = ROW_CODE[Row.SETUP], Detail.SETTING_UP
    older = dark.copy()
    older[dark] = _is_behind_older_work(facts, piece["launch"][dark])
    row[older], detail[older] = ROW_CODE[Row.UNEXPLAINED], Detail.BEFORE_RECORDING
    return {**piece, "row": row, "detail": detail}


def _is_behind_older_work(facts: Facts, launch: Array) -> Array:
    """Return which launches waited long as the first of their stream that was recorded."""
    first = _call_before(facts)[launch] == np.iinfo(np.int64).min
    long: Array = first & (facts.idle_before_ns[launch] >= SHORT_NS)
    return long


def _is_first_use(facts: Facts, launch: Array) -> Array:
    """Return which launches are the first of their kernel: lazy loading sets it up then."""
    api_row = facts.launches["api_row"].to_numpy()[launch]
    first: Array = (api_row >= 0) & facts.is_first_use[np.maximum(api_row, 0)]
    return first


def _is_explained(facts: Facts, launch: Array) -> Array:
    """Return for each launch whether something recorded explains why it waited in its stream."""
    if not len(facts.api):
        return np.ones(len(launch), dtype=bool)
    explained = _is_of_graph(facts, launch) | _was_told_to_wait(facts, launch)
    dark = ~explained
    explained[dark] = _was_released(facts, launch[dark])
    return explained


def _is_of_graph(facts: Facts, launch: Array) -> Array:
    graph = np.array(["Graph" in str(name) for name in facts.functions], dtype=bool)
    api_row = facts.launches["api_row"].to_numpy()[launch]
    of_graph: Array = (api_row >= 0) & graph[facts.api["name"].to_numpy()[np.maximum(api_row, 0)]]
    return of_graph


def _was_told_to_wait(facts: Facts, launch: Array) -> Array:
    """Return where the process made a stream wait since the call of the operation before."""
    names = [_MAKES_STREAM_WAIT.search(str(name)) is not None for name in facts.functions]
    rows = np.flatnonzero(np.array(names, dtype=bool)[facts.api["name"].to_numpy()])
    if not len(rows):
        return np.zeros(len(launch), dtype=bool)
    made = np.sort(facts.api["start_ns"].to_numpy()[rows])
    called = facts.api_start_ns[launch]
    since = _call_before(facts)[launch]
    is_told: Array = np.searchsorted(made, called, side="right") > np.searchsorted(made, since)
    elsewhere = any(_FROM_ELSEWHERE.search(str(name)) is not None for name in facts.functions)
    if elsewhere or len(np.unique(facts.launches["device"].to_numpy())) > 1:
        return is_told
    return is_told & (facts.idle_before_ns[launch] <= ENDS_JUST_BEFORE_NS)


def _call_before(facts: Facts) -> Array:
    """Return when the operation before each on its stream was called; long ago for the first."""
    order = np.argsort(facts.stream_codes, kind="stable")
    called, stream = facts.api_start_ns[order], facts.stream_codes[order]
    first = np.concatenate(([True], stream[1:] != stream[:-1]))
    before = np.full(len(order), np.iinfo(np.int64).min)
    before[order] = np.where(first, np.iinfo(np.int64).min, np.concatenate(([0], called[:-1])))
    return before


def _was_released(facts: Facts, launch: Array) -> Array:
    """Return where an operation on another GPU ends just before this one begins.

    On the same GPU nothing ran before: that is why there is a gap.
    """
    device = facts.launches["device"].to_numpy()
    released = np.zeros(len(launch), dtype=bool)
    for key in np.unique(device[launch]):
        end = np.sort(facts.launches["end_ns"].to_numpy()[device != key])
        if not len(end):
            continue
        here = device[launch] == key
        start = facts.launches["start_ns"].to_numpy()[launch[here]]
        last = end[np.maximum(np.searchsorted(end, start, side="right") - 1, 0)]
        released[here] = (last <= start) & (start - last <= ENDS_JUST_BEFORE_NS)
    return released
