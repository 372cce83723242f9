"""The account of a whole job: every nanosecond of every rank is booked once, waits to who is late.

A step's window reaches from the first begin to the last end of all ranks, so that the rows sum to
the windows times the ranks. In an operation with peers a rank waits until the last of them is
there; that time is charged to what the late rank does meanwhile, and where that one waits itself,
to what it waits for. Where operations of a rank overlap, the one that began first has the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import pandas as pd

from analyzers.fleet.operations import JobOperations
from analyzers.intervals import Array

MAX_MOMENTS = 1 << 62  # of all ranks and steps, one behind the other
MAX_CHAIN = 64  # ranks that wait for each other in a row; longer chains are not followed


class JobRow(Enum):
    """What a rank's time is booked to."""

    COMPUTE = "compute"
    TRANSFER = "transfer"
    WAITING = "waiting for a late rank"
    LAUNCH = "between operations"
    DONE = "done before the step's end"
    MISSING = "not recorded in this step"


ROWS = tuple(JobRow)
_CODE = {row: code for code, row in enumerate(ROWS)}
NOBODY = -1
"""The rank that a wait is charged to where the chain of waits was not followed to its end."""


@dataclass(frozen=True, eq=False)
class JobLedger:
    """The account of a job.

    Attributes:
        window_ns: The windows of all steps, summed.
        ranks: Ranks, in order.
        own_ns: What each rank (row) spends in each of ``ROWS`` (column).
        charged: What waits are charged to: ``rank`` (that waits), ``late_rank``, ``row`` (what
            that one does meanwhile, place in ``ROWS``), ``step``, ``ns``; sums to the column
            ``WAITING``.
    """

    window_ns: int
    ranks: Array
    own_ns: Array
    charged: pd.DataFrame

    def row_ns(self, row: JobRow) -> int:
        """Return what all ranks spend in a row."""
        return int(self.own_ns[:, _CODE[row]].sum())

    @property
    def total_ns(self) -> int:
        """The windows of all steps times the ranks."""
        return self.window_ns * len(self.ranks)


class TooLongJobError(Exception):
    """Ranks, steps and their length are more than 64 bits count; the message says so."""


def job_ledger(operations: JobOperations) -> JobLedger:
    """Book the time of every rank of a job.

    Raises:
        TooLongJobError: Ranks, steps and their length are more than 64 bits count.
    """
    table = operations.table
    lanes = len(operations.ranks) * len(operations.steps)
    span = int(table["end_ns"].max()) - int(table["start_ns"].min()) + 1
    if lanes * span >= MAX_MOMENTS:
        raise TooLongJobError(
            f"{lanes:,} times a rank and a step of up to {span / 1e9:,.0f} s are too many to count"
        )
    segments = _segments(operations)
    ranks = operations.ranks["rank"].to_numpy()
    place = np.searchsorted(ranks, segments["rank"].to_numpy())
    spent = (segments["end_ns"] - segments["start_ns"]).to_numpy()
    own = np.zeros((len(ranks), len(ROWS)), np.int64)
    np.add.at(own, (place, segments["row"].to_numpy()), spent)
    by_step = table.groupby("step")
    windows = by_step["end_ns"].max() - by_step["start_ns"].min()
    recorded = table[["step", "rank"]].drop_duplicates()
    recorded_ns = recorded["step"].map(windows).groupby(recorded["rank"]).sum()
    own[:, _CODE[JobRow.MISSING]] = windows.sum() - recorded_ns.reindex(ranks).to_numpy()
    return JobLedger(
        window_ns=int(windows.sum()), ranks=ranks, own_ns=own, charged=_charged(segments, ranks)
    )


def _segments(operations: JobOperations) -> pd.DataFrame:
    """Return what each rank does from the begin to the end of each step's window, without holes.

    Columns: ``step``, ``rank``, ``start_ns``, ``end_ns``, ``row`` (place in ``ROWS``),
    ``late_rank`` (that a wait is for, else -1).
    """
    table = operations.table
    step, rank = table["step"].to_numpy(), table["rank"].to_numpy()
    lane = pd.DataFrame({"step": step, "rank": rank}).groupby(["step", "rank"]).ngroup().to_numpy()
    by_step = table.groupby("step")
    first = by_step["start_ns"].transform("min").to_numpy()
    last = by_step["end_ns"].transform("max").to_numpy()
    end = table["end_ns"].to_numpy()
    # Lanes lie one behind the other, so that one running maximum serves them all.
    origin = lane * (int((last - first).max()) + 1 if len(table) else 1) - first
    reached = np.maximum.accumulate(end + origin)
    is_first = np.diff(lane, prepend=-1) != 0
    before = np.where(is_first, first, np.concatenate(([0], reached[:-1])) - origin)
    start = np.maximum(table["start_ns"].to_numpy(), before)
    end = np.maximum(end, start)
    waits = np.where(operations.communicates, operations.arrival_ns, start)
    moved = np.clip(waits, start, end)
    late = late_ranks(operations)
    compute = np.where(operations.communicates, _CODE[JobRow.TRANSFER], _CODE[JobRow.COMPUTE])
    is_last = np.diff(lane, append=-1) != 0
    parts = [
        (np.ones(len(table), bool), before, start, _CODE[JobRow.LAUNCH], NOBODY),
        (np.ones(len(table), bool), start, moved, _CODE[JobRow.WAITING], late),
        (np.ones(len(table), bool), moved, end, compute, NOBODY),
        (is_last, end, last, _CODE[JobRow.DONE], NOBODY),
    ]
    frames = [
        pd.DataFrame(
            {"step": step, "rank": rank, "start_ns": a, "end_ns": b, "row": row, "late_rank": who}
        )[chosen & (b > a)]
        for chosen, a, b, row, who in parts
    ]
    order = ["step", "rank", "start_ns"]
    whole: pd.DataFrame = pd.concat(frames).sort_values(order, ignore_index=True)
    return whole


def late_ranks(operations: JobOperations) -> Array:
    """Return for each operation the member of its communication that began last."""
    table = operations.table
    order = np.lexsort((table["rank"].to_numpy(), table["start_ns"].to_numpy()))
    last = np.full(int(operations.group.max()) + 1 if len(table) else 0, NOBODY)
    last[operations.group[order]] = table["rank"].to_numpy()[order]
    result: Array = last[operations.group]
    return result


def _charged(segments: pd.DataFrame, ranks: Array) -> pd.DataFrame:
    """Divide waits by what the rank that is waited for does meanwhile, however long the chain."""
    parts = []
    waiting = segments[segments["row"] == _CODE[JobRow.WAITING]]
    pieces = waiting.rename(columns={"late_rank": "late"})[
        ["step", "rank", "late", "start_ns", "end_ns"]
    ]
    lanes = _RankTimes(segments, ranks)
    for _ in range(MAX_CHAIN):
        if not len(pieces):
            break
        pieces = lanes.divided(pieces)
        is_wait = (pieces["row"] == _CODE[JobRow.WAITING]).to_numpy()
        parts.append(pieces[~is_wait])
        pieces = pieces[is_wait].assign(late=pieces["next"][is_wait])
    parts.append(pieces.assign(late=NOBODY, row=_CODE[JobRow.WAITING]))
    whole = pd.concat(parts, ignore_index=True)
    whole = whole.assign(ns=whole["end_ns"] - whole["start_ns"], late_rank=whole["late"])
    keys = ["rank", "late_rank", "row", "step"]
    sums: pd.DataFrame = whole.groupby(keys)["ns"].sum().reset_index().astype(np.int64)
    return sums


class _RankTimes:
    """What each rank does, to be looked up by rank and time."""

    def __init__(self, segments: pd.DataFrame, ranks: Array) -> None:
        self._segments = segments
        self._ranks = ranks
        self._steps = np.unique(segments["step"].to_numpy())
        self._low = int(segments["start_ns"].min()) if len(segments) else 0
        self._size = int(segments["end_ns"].max()) - self._low + 1 if len(segments) else 1
        self._keys = self._key(segments["step"], segments["rank"], segments["start_ns"])

    def _key(self, step: pd.Series, rank: pd.Series, time_ns: pd.Series) -> Array:
        lane = np.searchsorted(self._steps, step.to_numpy()) * len(self._ranks)
        lane = lane + np.searchsorted(self._ranks, rank.to_numpy())
        result: Array = lane * self._size + (time_ns.to_numpy() - self._low)
        return result

    def divided(self, pieces: pd.DataFrame) -> pd.DataFrame:
        """Return stretches, each cut where the rank ``late`` begins to do something else.

        Added are ``row``, what it does, and ``next``, whom it waits for.
        """
        first = np.searchsorted(
            self._keys, self._key(pieces["step"], pieces["late"], pieces["start_ns"]), "right"
        )
        last = np.searchsorted(
            self._keys, self._key(pieces["step"], pieces["late"], pieces["end_ns"]), "left"
        )
        first = first - 1
        counts = np.maximum(last - first, 1)
        piece = np.repeat(np.arange(len(pieces)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        place = first[piece] + within
        cut, lanes = pieces.iloc[piece], self._segments
        starts, ends = (lanes[name].to_numpy()[place] for name in ("start_ns", "end_ns"))
        return cut.assign(
            start_ns=np.maximum(cut["start_ns"].to_numpy(), starts),
            end_ns=np.minimum(cut["end_ns"].to_numpy(), ends),
            row=lanes["row"].to_numpy()[place],
            next=lanes["late_rank"].to_numpy()[place],
        )
