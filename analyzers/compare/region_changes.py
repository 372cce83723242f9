"""Rows of the ledger by region of the program, on both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from analyzers.compare.deltas import MAX_ROWS, deltas, sparse_moments
from analyzers.compare.side import Side, Sides
from analyzers.compare.types import (
    EvidencePlace,
    RegionChange,
)
from analyzers.finding import Row
from analyzers.intervals import Array


def region_changes(base: Sides, new: Sides) -> tuple[RegionChange, ...]:
    """Return the ledger's rows by region on both sides, by level, the largest change first."""
    keys: dict[tuple[str, str, str], int] = {}
    places = [
        [np.array([keys.setdefault(k, len(keys)) for k in side.regions.keys], int) for side in s]
        for s in (base, new)
    ]
    if not keys:
        return ()
    size = len(keys)
    time, spots = [], []
    for sides, of_side in zip((base, new), places, strict=True):
        runs, where = [], [None] * size
        for number, (side, place) in enumerate(zip(sides, of_side, strict=True)):
            table = side.regions.by_iteration
            named = replace(table, column=place[table.column] if len(place) else table.column)
            runs.append(sparse_moments(named, table.ns, side, size))
            _remember(where, side, number, place)
        time.append(runs)
        spots.append(where)
    rows = [
        RegionChange(
            level=level,
            name=name,
            row=Row(row),
            time=change,
            base_place=spots[0][i],
            new_place=spots[1][i],
        )
        for i, ((level, name, row), change) in enumerate(
            zip(keys, deltas(time[0], time[1], "ns"), strict=True)
        )
    ]
    rows.sort(key=lambda r: (-abs(r.time.change), r.name))
    return tuple(sorted(rows[:MAX_ROWS], key=lambda r: r.level == "operators"))


def _remember(where: list[Any], side: Side, number: int, place: Array) -> None:
    for code, (begin, end) in zip(place.tolist(), side.regions.longest.tolist(), strict=True):
        if where[code] is None and end > begin:
            where[code] = EvidencePlace(
                recording=number, start_ns=begin, end_ns=end, device=side.device
            )
