"""Kernel time of both sides by class, operator and inputs: slower work told from more work.

A change of the same work (the same operator with inputs of the same shapes and types) is divided:
what more or fewer calls cost at the baseline's time for each, and the rest, by which calls take
longer or shorter. Work of one side only is more or less work altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analyzers.compare.deltas import MAX_ROWS, deltas, sparse_moments
from analyzers.compare.side import OTHERS, Side, Sides, WorkKey
from analyzers.compare.types import Delta, EvidencePlace, WorkChange
from analyzers.intervals import Array
from analyzers.work.classes import WorkClass


def work_changes(base: Sides, new: Sides) -> tuple[WorkChange, ...]:
    """Return the kernel time of both sides by work, the largest change first.

    The times sum to the mean kernel time of an iteration of each side, to the nanosecond; rows
    beyond ``MAX_ROWS`` are one.
    """
    keys: dict[WorkKey, int] = {}
    places = [
        [np.array([keys.setdefault(k, len(keys)) for k in s.work.keys], np.int64) for s in side]
        for side in (base, new)
    ]
    if not keys:
        return ()
    times, calls, spots = [], [], []
    for sides, of_side in zip((base, new), places, strict=True):
        moments = {
            quantity: [
                _moments(side, place, quantity, len(keys))
                for side, place in zip(sides, of_side, strict=True)
            ]
            for quantity in ("ns", "count")
        }
        times.append(moments["ns"])
        calls.append(np.mean([run.mean for run in moments["count"]], axis=0))
        spots.append(_spots(sides, of_side, len(keys)))
    exact = [_whole(np.mean([run.mean for run in side], axis=0)) for side in times]
    rows = [
        _change(
            key,
            replace(d, base=float(b), new=float(n), change=float(n - b)),
            (float(calls[0][i]), float(calls[1][i])),
            (spots[0][i], spots[1][i]),
        )
        for i, (key, d, b, n) in enumerate(
            zip(keys, deltas(times[0], times[1], "ns"), *exact, strict=True)
        )
    ]
    rows.sort(key=lambda row: (-abs(row.time.change), row.operator, row.shapes, row.kernel))
    return _limited(rows)


def _moments(side: Side, place: Array, quantity: str, size: int) -> Any:
    table = side.work.by_iteration
    named = replace(table, column=place[table.column] if len(place) else table.column)
    return sparse_moments(named, table.ns if quantity == "ns" else table.count, side, size)


def _whole(values: Array) -> Array:
    """Round so that the sum is the rounded sum."""
    ends = np.rint(np.cumsum(values))
    whole: Array = np.diff(ends, prepend=0).astype(np.int64)
    return whole


def _spots(sides: Sides, places: Sequence[Array], size: int) -> list[EvidencePlace | None]:
    spots: list[EvidencePlace | None] = [None] * size
    for number, (side, place) in enumerate(zip(sides, places, strict=True)):
        for code, (begin, end) in zip(place.tolist(), side.work.longest.tolist(), strict=True):
            if spots[code] is None and end > begin:
                spots[code] = EvidencePlace(
                    recording=number, start_ns=begin, end_ns=end, device=side.device
                )
    return spots


def _change(
    key: WorkKey,
    time: Delta,
    calls: tuple[float, float],
    spots: tuple[EvidencePlace | None, EvidencePlace | None],
) -> WorkChange:
    before, now = calls
    is_on_both = before > 0 and now > 0
    amount = round((now - before) * time.base / before) if is_on_both else round(time.change)
    return WorkChange(
        work_class=key.work_class,
        operator=key.operator,
        shapes=key.shapes,
        types=key.types,
        kernel=key.kernel,
        time=time,
        base_calls=before,
        new_calls=now,
        amount_ns=amount,
        speed_ns=round(time.change) - amount,
        base_place=spots[0],
        new_place=spots[1],
    )


def _limited(rows: list[WorkChange]) -> tuple[WorkChange, ...]:
    """Return the first rows, and what is left of them as one, so that they still sum."""
    if len(rows) <= MAX_ROWS:
        return tuple(rows)
    left = rows[MAX_ROWS - 1 :]
    base, new = (sum(getattr(row.time, side) for row in left) for side in ("base", "new"))
    rest = WorkChange(
        work_class=WorkClass.OTHER.value,
        operator=OTHERS,
        shapes="",
        types="",
        kernel="",
        time=Delta(base=base, new=new, change=new - base),
        base_calls=sum(row.base_calls for row in left),
        new_calls=sum(row.new_calls for row in left),
        amount_ns=sum(row.amount_ns for row in left),
        speed_ns=sum(row.speed_ns for row in left),
    )
    return (*rows[: MAX_ROWS - 1], rest)
