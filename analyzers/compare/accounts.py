"""What a typical iteration of a side consists of, and the summary that a reader sees of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzers.compare.metric_changes import P95_FROM
from analyzers.compare.side import Side, Sides
from analyzers.compare.statistics import (
    typical_weights,
)
from analyzers.compare.types import (
    EvidencePlace,
    SideRecording,
    SideSummary,
)
from analyzers.intervals import Array
from analyzers.ledger.booking import ROWS


def kept_durations(side: Side) -> Array:
    """Return the durations of the iterations after the warm-up."""
    kept: Array = side.durations_ns[side.kept].astype(float)
    return kept


def median_durations(sides: Sides) -> Array:
    """Return the median duration of an iteration in each recording."""
    return np.array([np.median(kept_durations(side)) for side in sides])


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a typical iteration of a side consists of, in whole nanoseconds.

    Attributes:
        median_ns: Its time.
        rows_ns: By row of the ledger; they sum to the time.
        parts: For each recording its rows.
        recording: Number of the recording that stands for the side.
        scale: What the recording's own times were multiplied by, to be for as much work.
    """

    median_ns: int
    rows_ns: Array
    parts: Array
    recording: int
    scale: float = 1.0

    @property
    def remainder_ns(self) -> int:
        """What the rows leave of the median: nothing, since they are of iterations around it."""
        return self.median_ns - int(self.rows_ns.sum())


def typical_account(sides: Sides) -> Account:
    """Return what a typical iteration of a side consists of."""
    medians = median_durations(sides)
    rows = np.array([typical_weights(kept_durations(s)) @ s.ledger_ns[s.kept] for s in sides])
    median_ns = round(float(medians.mean()))
    return Account(
        median_ns=median_ns,
        rows_ns=whole_parts(rows.mean(axis=0), median_ns),
        parts=rows,
        recording=int(np.argmin(np.abs(medians - median_ns))),
    )


def whole_parts(values: Array, total: int | None = None) -> Array:
    """Round parts so that they sum to the whole: each ends where the rounded sum does.

    Args:
        values: The parts.
        total: Their sum; None to round it.
    """
    ends = np.rint(np.cumsum(values)).astype(np.int64)
    if total is not None and len(ends):
        ends = np.minimum(ends, total)
        ends[np.flatnonzero(values)[-1] if values.any() else -1 :] = total
    whole: Array = np.diff(ends, prepend=0)
    return whole


def recordings_only(sides: Sides) -> SideSummary:
    """Return the summary of a side that is not compared: its recordings, without numbers."""
    return SideSummary(recordings=tuple(_recording(side) for side in sides))


def _recording(side: Side) -> SideRecording:
    return SideRecording(
        name=side.source["name"],
        sha256=side.source["sha256"],
        trace_id=side.trace_id,
        window=side.window,
        iterations=len(side.start_ns) if side.loop else 0,
        request=side.request,
        warm_up=side.warm_up,
        warm_up_how=side.warm_up_how,
        warm_up_ns=tuple(side.durations_ns[: side.warm_up].tolist()),
        median_ns=round(float(np.median(kept_durations(side)))),
    )


def side_summary(sides: Sides, account: Account) -> SideSummary:
    """Return the summary of one side."""
    pooled = np.concatenate([kept_durations(side) for side in sides])
    typical = sides[account.recording]
    return SideSummary(
        recordings=tuple(_recording(side) for side in sides),
        samples_ns=tuple(tuple(side.durations_ns[side.kept].tolist()) for side in sides),
        median_ns=account.median_ns,
        p95_ns=round(float(np.percentile(pooled, 95))) if len(pooled) >= P95_FROM else None,
        ledger_ns={r.value: ns for r, ns in zip(ROWS, account.rows_ns.tolist(), strict=True)},
        remainder_ns=account.remainder_ns,
        typical=EvidencePlace(
            recording=account.recording,
            start_ns=int(typical.start_ns[typical.typical]),
            end_ns=int(typical.end_ns[typical.typical]),
            device=typical.device,
        ),
    )
