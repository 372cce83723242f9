"""The vocabulary of the ledger: rows as numbers, details, and pieces of booked time."""

from __future__ import annotations

import enum

import numpy as np
import pandas as pd

from analyzers.finding import Row
from analyzers.intervals import Array, Spans, empty
from analyzers.ledger.host_timeline import Doing

ROWS = tuple(Row)
ROW_CODE = {row: code for code, row in enumerate(ROWS)}
NOTHING = -1  # no launch, no wait

Piece = dict[str, Array]
"""Booked stretches as columns: begin, end, row, detail, launch that ended the gap, wait."""

# The device itself needs a moment between two launches of one stream. It is measured on the
# recording; ten microseconds is more than any measured, so a longer pause is something else.
DEVICE_GAP_MAX_NS = 10_000

COLUMNS = ("start_ns", "end_ns", "row", "detail", "launch", "wait")


class Detail(enum.IntEnum):
    """What exactly a stretch of the ledger is, within its row."""

    NONE = 0
    IN_LAUNCH_CALL = 1
    DISPATCHING = 2
    LAUNCH_LATENCY = 3
    DEVICE_GAP = 4
    IN_WAIT = 5
    REFILL = 6
    ALLOCATING = 7
    FREEING = 8
    SETTING_UP = 9
    PROFILER_AT_WORK = 10
    OUTSIDE_CUDA = 11
    NO_MORE_WORK = 12
    OTHER_STREAM = 13
    NO_API_CALL = 14
    NO_API_RECORDED = 15
    MANAGED_MEMORY = 16
    NOT_YET_USED = 17
    UNNAMED_CALL = 18
    NO_WAIT_RECORDED = 19
    READING_PAGES = 20
    WAITING_FOR_RANK = 21
    BEFORE_RECORDING = 22


DETAILS = (
    "",
    "inside the launch call",
    "dispatching between calls",
    "launch latency",
    "gap between two launches on the device",
    "inside a blocking call",
    "refilling the queue after a blocking call",
    "allocating memory",
    "freeing memory",
    "loading modules, creating contexts, instantiating graphs",
    "profiler overhead",
    "outside CUDA calls",
    "no further work was submitted",
    "waiting for another stream, an event or the queue",
    "the operation that ended the gap has no API call in the recording",
    "no API calls were recorded",
    "unified-memory migrations have no API call",
    "nothing had been submitted to this GPU yet",
    "inside an API call whose name the recording has lost",
    "it was queued, and no wait was recorded that would explain why it did not begin",
    "the host reads what is in the GPU's memory, page by page",
    "a collective waits for the rank that begins it last",
    "what ended it was queued behind work that its stream got before the recording began",
)
"""Each ``Detail`` in words."""

UNUSED = (Detail.NO_MORE_WORK, Detail.NOT_YET_USED)
"""Time in which nobody wanted anything of a device; no verdict is drawn from it."""

_BOOKED = {
    Doing.OUTSIDE: (Row.HOST, Detail.OUTSIDE_CUDA),
    Doing.DISPATCHING: (Row.LAUNCH, Detail.DISPATCHING),
    Doing.OTHER_CALL: (Row.LAUNCH, Detail.DISPATCHING),
    Doing.IN_UNNAMED_CALL: (Row.UNEXPLAINED, Detail.UNNAMED_CALL),
    Doing.LAUNCHING: (Row.LAUNCH, Detail.IN_LAUNCH_CALL),
    Doing.WAITING: (Row.SYNC, Detail.IN_WAIT),
    Doing.FREEING: (Row.MEMORY, Detail.FREEING),
    Doing.ALLOCATING: (Row.MEMORY, Detail.ALLOCATING),
    Doing.SETTING_UP: (Row.SETUP, Detail.SETTING_UP),
    Doing.PROFILED: (Row.PROFILER, Detail.PROFILER_AT_WORK),
    Doing.SUBMITTED: (Row.LAUNCH, Detail.LAUNCH_LATENCY),
    Doing.QUEUED: (Row.LAUNCH, Detail.DEVICE_GAP),
}
_ROW_OF_DOING = np.array([ROW_CODE[_BOOKED[d][0]] for d in Doing], dtype=np.int8)
_DETAIL_OF_DOING = np.array([_BOOKED[d][1] for d in Doing], dtype=np.int8)


def by_doing(spans: Spans, doing: Array, launch: Array, wait: Array | None = None) -> Piece:
    """Book each stretch to what the launching thread was doing."""
    return piece(spans, _ROW_OF_DOING[doing], _DETAIL_OF_DOING[doing], launch, wait)


def as_one(
    spans: Spans, row: Row, detail: Detail, launch: Array | None = None, wait: Array | None = None
) -> Piece:
    """Book all stretches to one row and detail."""
    size = len(spans.start)
    launch = np.full(size, NOTHING) if launch is None else launch
    codes = np.full(size, ROW_CODE[row], np.int8)
    return piece(spans, codes, np.full(size, detail, np.int8), launch, wait)


def piece(
    spans: Spans, row: Array, detail: Array, launch: Array, wait: Array | None = None
) -> Piece:
    """Return booked stretches; those of zero length are left out."""
    solid = spans.end > spans.start
    wait = np.full(len(spans.start), NOTHING) if wait is None else wait
    values = (*spans, row, detail, launch.astype(np.int32), wait.astype(np.int32))
    return {name: value[solid] for name, value in zip(COLUMNS, values, strict=True)}


def as_frame(pieces: list[Piece]) -> pd.DataFrame:
    """Return all pieces as one table, sorted by begin."""
    pieces = [as_one(empty(), Row.HOST, Detail.NONE), *pieces]
    columns = {c: np.concatenate([p[c] for p in pieces]) for c in COLUMNS}
    order = np.argsort(columns["start_ns"], kind="stable")
    return pd.DataFrame({c: column[order] for c, column in columns.items()})
