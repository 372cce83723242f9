"""Kernel time of both sides by class, operator and inputs: slower work told from more work.

A change of the same work (the same operator with inputs of the same shapes and types) is divided:
what more or fewer calls cost at the baseline's time for each, and the rest, by which calls take
longer or shorter. Work of one side only is more or less work altogether. Kernels without an
operator that others replace at the same place do the same work: their change is one of speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analyzers.compare.accounts import whole_parts
from analyzers.compare.deltas import MAX_ROWS, deltas, sparse_moments
from analyzers.compare.side import OTHERS, Side, Sides, WorkKey
from analyzers.compare.types import Delta, EvidencePlace, KernelChange, KernelMatch, WorkChange
from analyzers.intervals import Array
from analyzers.work.classes import WorkClass

MAX_ROUNDING = 2  # ns; a kernel's launches that overlap others take more than their share


def work_changes(
    base: Sides, new: Sides, kernels: tuple[KernelChange, ...] = ()
) -> tuple[WorkChange, ...]:
    """Return the kernel time of both sides by work, the largest change first.

    Args:
        base: Runs before.
        new: Runs after.
        kernels: The kernels of both sides, matched.

    The times sum to the mean kernel time of an iteration of each side, to the nanosecond; rows
    beyond ``MAX_ROWS`` are one.
    """
    keys: dict[WorkKey, int] = {}
    one_work = _replaced_kernels(base, new, kernels)
    places = [
        [
            np.array(
                [keys.setdefault(one_work.get(k, k), len(keys)) for k in s.work.keys], np.int64
            )
            for s in side
        ]
        for side in (base, new)
    ]
    replacing = {one_work[key]: key.kernel for key in reversed(one_work) if key != one_work[key]}
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
    exact = [whole_parts(np.mean([run.mean for run in side], axis=0)) for side in times]
    of_kernel = {row.name: row.time for row in _with_own_kernels(kernels)}
    rows = [
        _change(
            key,
            replace(
                _tested(d, of_kernel.get(key.kernel)),
                base=float(b),
                new=float(n),
                change=float(n - b),
            ),
            (float(calls[0][i]), float(calls[1][i])),
            (spots[0][i], spots[1][i]),
            replacing.get(key, ""),
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
    new_kernel: str,
) -> WorkChange:
    before, now = calls
    is_on_both = before > 0 and now > 0
    amount = round((now - before) * time.base / before) if is_on_both else round(time.change)
    amount = 0 if is_on_both and new_kernel else amount
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
        new_kernel=new_kernel,
    )


def _tested(work: Delta, kernel: Delta | None) -> Delta:
    """Return a change with what pairs of launches say, where iterations say nothing of it."""
    if kernel is None or work.low is not None:
        return work
    is_same = abs(work.base - kernel.base) + abs(work.new - kernel.new) <= MAX_ROUNDING
    return kernel if is_same else work


def _replaced_kernels(
    base: Sides, new: Sides, kernels: tuple[KernelChange, ...]
) -> dict[WorkKey, WorkKey]:
    """Return for the work of kernels that replace each other wholly the key of them all.

    The first key of a group is that of its longest kernel on the base side, the second one that of
    the longest on the new side.
    """
    by_kernel = [
        {key.kernel: key for side in sides for key in side.work.keys if key.kernel}
        for sides in (base, new)
    ]
    one_work: dict[WorkKey, WorkKey] = {}
    for row in _with_own_kernels(kernels):
        names = [
            list(dict.fromkeys(member.name for member in members))
            for members in (row.base_members, row.new_members)
        ]
        have_work = all(n in keys for ns, keys in zip(names, by_kernel, strict=True) for n in ns)
        if row.kind in _OTHER_KERNELS and not row.operator and have_work:
            first = by_kernel[0][names[0][0]]
            ordered = [names[0][0], *names[1], *names[0][1:]]
            one_work |= {(by_kernel[0] | by_kernel[1])[name]: first for name in ordered}
    return one_work


def _with_own_kernels(kernels: tuple[KernelChange, ...]) -> list[KernelChange]:
    """Return the rows none of whose kernels stands, by its name, in another row too."""
    names = [{m.name for m in (*row.base_members, *row.new_members)} for row in kernels]
    count = Counter(name for of_row in names for name in of_row)
    return [row for row, ns in zip(kernels, names, strict=True) if all(count[n] == 1 for n in ns)]


_OTHER_KERNELS = (KernelMatch.REPLACED, KernelMatch.RENAMED)


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
