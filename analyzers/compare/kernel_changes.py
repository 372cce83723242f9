"""Kernels of both sides, matched by name, launch configuration and place in the iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from analyzers.compare.deltas import MAX_ROWS, RunMoments, deltas, sparse_moments
from analyzers.compare.paired import PairedChange
from analyzers.compare.run_to_run import NORMAL, NORMAL_POWER
from analyzers.compare.same_work import matched_launches, paired_kernel
from analyzers.compare.side import OTHERS, Side, Sides, SparseTable
from analyzers.compare.statistics import Columns
from analyzers.compare.types import (
    Delta,
    EvidencePlace,
    KernelChange,
    KernelMatch,
)
from analyzers.intervals import Array
from analyzers.words import TIMES

NAME = 0  # parts of the key of a kernel
SHAPE = 1


def kernel_changes(base: Sides, new: Sides) -> tuple[KernelChange, ...]:
    """Return the kernels of both sides, matched, the largest change first."""
    keys: dict[Any, int] = {}
    places = [[_kernel_keys(side, keys) for side in sides] for sides in (base, new)]
    twins = _twins(base, new, places, list(keys))
    for old, young in twins.items():
        keys[young] = keys[old]  # one row for both
    remap = _renumbered(keys)
    sides = (base, new)
    numbered = [[remap[p] for p in of_side] for of_side in places]
    size = len(set(remap.tolist()))
    time, launches = (
        [
            [_by_key(side, place, size, quantity) for side, place in zip(s, p, strict=True)]
            for s, p in zip(sides, numbered, strict=True)
        ]
        for quantity in ("ns", "count")
    )
    evidence = _paired(base, new, numbered)
    paired = _paired_columns(evidence, time[0][0].mean, time[1][0].mean) if evidence else None
    changes = deltas(time[0], time[1], "ns", paired)
    counts = [np.mean([run.mean for run in of_side], axis=0) for of_side in launches]
    described = [_described(s, p, size) for s, p in zip(sides, numbered, strict=True)]
    rows = [
        _kernel_change(
            change, [d[i] for d in described], [float(c[i]) for c in counts], evidence.get(i)
        )
        for i, change in enumerate(changes)
    ]
    rows.sort(key=lambda row: (-abs(row.time.change), row.name))
    return tuple(rows[:MAX_ROWS])


def _paired(base: Sides, new: Sides, rows: list[list[Array]]) -> dict[int, PairedChange]:
    """Return what launches that belong to each other say about each row of the table.

    Args:
        base: Runs before.
        new: Runs after.
        rows: Of each kernel of each run its row of the table.
    """
    if len(base) + len(new) > 2 or not min(len(s.launch_times.ns) for s in (base[0], new[0])):
        return {}
    pairs = matched_launches(base[0], new[0])
    row_of_pair = [
        of_side[0][side[0].launch_times.column[places]]
        for of_side, side, places in zip(rows, (base, new), pairs, strict=True)
    ]
    same_row = row_of_pair[0] == row_of_pair[1]
    changes = {
        int(row): paired_kernel(base[0], new[0], pairs, np.flatnonzero(row_of_pair[0] == row))
        for row in np.unique(row_of_pair[0]).tolist()
        if same_row[row_of_pair[0] == row].all()
    }
    return {row: change for row, change in changes.items() if change is not None}


def _paired_columns(evidence: dict[int, PairedChange], base: Array, new: Array) -> Columns:
    """Return the uncertainty of each row's change within two runs, NaN without pairs."""
    reach, p_value = (np.full(len(base), np.nan) for _ in range(2))
    for row, pairs in evidence.items():  # kept launches stand for all
        scale = np.hypot(base[row], new[row]) / np.hypot(pairs.base, pairs.new)
        reach[row], p_value[row] = pairs.reach * scale, pairs.p_value
    change = new - base
    detectable = reach * (1 + NORMAL_POWER / NORMAL)
    return Columns(change, change - reach, change + reach, p_value, detectable)


def _kernel_keys(side: Side, keys: dict[Any, int]) -> Array:
    """Return the number of each kernel of a side; the same name and shape has the same number."""
    kernels = side.kernels
    pairs = zip(kernels.names, map(tuple, kernels.shapes.tolist()), strict=True)
    return np.array([keys.setdefault(pair, len(keys)) for pair in pairs], dtype=np.int64)


def _renumbered(keys: dict[Any, int]) -> Array:
    """Return a row for each number that was given, without holes."""
    size = max(keys.values(), default=-1) + 1
    size = max(size, len(keys))
    row = np.arange(size)
    for place, number in enumerate(keys.values()):
        row[place] = number
    _, dense = np.unique(row, return_inverse=True)
    renumbered: Array = dense
    return renumbered


def _by_key(side: Side, place: Array, size: int, quantity: str) -> RunMoments:
    table = side.kernels.by_iteration
    columns = place[table.column]
    values: Array = table.ns if quantity == "ns" else table.count
    merged = SparseTable(iteration=table.iteration, column=columns, ns=table.ns, count=table.count)
    if len(np.unique(place)) < len(place):  # two kernels became one row: sum them first
        key = table.iteration.astype(np.int64) * size + columns
        unique, code = np.unique(key, return_inverse=True)
        values = np.bincount(code, values, minlength=len(unique))
        iteration, columns = np.divmod(unique, size)
        merged = SparseTable(iteration=iteration, column=columns, ns=values, count=values)
    return sparse_moments(merged, values, side, size)


class _SideKernel(NamedTuple):
    name: str = ""
    short_name: str = ""
    shape: str = ""
    place: EvidencePlace | None = None


def _described(sides: Sides, places: list[Array], size: int) -> list[_SideKernel]:
    kernels_by_row = [_SideKernel()] * size
    for number, (side, place) in reversed(list(enumerate(zip(sides, places, strict=True)))):
        kernels = side.kernels
        for code in reversed(range(len(place))):
            begin, end = kernels.longest[code].tolist()
            spot = EvidencePlace(recording=number, start_ns=begin, end_ns=end, device=side.device)
            kernels_by_row[int(place[code])] = _SideKernel(
                kernels.names[code],
                kernels.short_names[code],
                shape_text(kernels.shapes[code].tolist()),
                spot if end > begin else None,
            )
    return kernels_by_row


def shape_text(shape: Sequence[int]) -> str:
    """Write grid and block; empty when not recorded."""
    if min(shape) < 0:
        return ""
    grid, block = (f" {TIMES} ".join(f"{n:,}" for n in part) for part in (shape[:3], shape[3:]))
    return f"{grid}, {block}"


def _kernel_change(
    time: Delta, sides: list[_SideKernel], launches: list[float], pairs: PairedChange | None
) -> KernelChange:
    base, new = sides
    if not base.name:
        kind = KernelMatch.NEW
    elif not new.name:
        kind = KernelMatch.GONE
    elif base.name != new.name:
        kind = KernelMatch.RENAMED
    else:
        kind = KernelMatch.SAME if base.shape == new.shape else KernelMatch.RESHAPED
    named = base if base.name else new
    return KernelChange(
        kind=kind,
        name=named.name,
        new_name=new.name or base.name,
        short_name=named.short_name,
        shape=base.shape or ("" if base.name else new.shape),
        new_shape=new.shape or ("" if new.name else base.shape),
        time=time,
        base_launches=launches[0],
        new_launches=launches[1],
        pairs=pairs.pairs if pairs else 0,
        faster=pairs.faster if pairs else 0,
        base_place=base.place,
        new_place=new.place,
    )


def _twins(base: Sides, new: Sides, places: list[list[Array]], keys: list[Any]) -> dict[Any, Any]:
    """Pair kernels that only one side has: the same name reshaped, or another at the same place.

    Returns:
        The key on the new side for each key on the base side.
    """
    base_kernels, new_kernels = (set(np.concatenate(p).tolist()) for p in places)
    gone, fresh = sorted(base_kernels - new_kernels), sorted(new_kernels - base_kernels)
    sequences = [p[0][s[0].kernels.sequence] for s, p in zip((base, new), places, strict=True)]
    signs = [_signatures(sequence, base_kernels & new_kernels) for sequence in sequences]
    pairs: dict[Any, Any] = {}
    for part in (SHAPE, NAME, None):
        if part is None:
            pairs |= _only_one_of_its_name(gone, fresh, keys)
        else:
            pairs |= _same_place(gone, fresh, signs, keys, part)
        gone = [g for g in gone if keys[g] not in pairs]
        paired = set(pairs.values())
        fresh = [f for f in fresh if keys[f] not in paired]
    return pairs


def _signatures(sequence: Array, common: set[int]) -> dict[int, tuple[int, int, int]]:
    """Return where each kernel stands: last common kernel before it, steps since, how often.

    Of several places the first one counts.
    """
    first_place: dict[int, tuple[int, int]] = {}
    often: dict[int, int] = {}
    anchor, steps = -1, 0
    for kernel in sequence.tolist():  # order matters: a place is counted from what came before
        if kernel in common:
            anchor, steps = kernel, 0
            continue
        steps += 1
        first_place.setdefault(kernel, (anchor, steps))
        often[kernel] = often.get(kernel, 0) + 1
    return {kernel: (*place, often[kernel]) for kernel, place in first_place.items()}


def _same_place(
    gone: list[int],
    fresh: list[int],
    signs: list[dict[int, tuple[int, int, int]]],
    keys: list[Any],
    part: int,
) -> dict[Any, Any]:
    """Pair kernels at the same place that share a part of their key: the name, or the shape."""
    at = {(signs[1][f], keys[f][part]): f for f in reversed(fresh) if f in signs[1]}
    pairs = {}
    for kernel in gone:
        twin = at.pop((signs[0][kernel], keys[kernel][part]), None) if kernel in signs[0] else None
        if twin is not None and OTHERS not in (keys[kernel][NAME], keys[twin][NAME]):
            pairs[keys[kernel]] = keys[twin]
    return pairs


def _only_one_of_its_name(gone: list[int], fresh: list[int], keys: list[Any]) -> dict[Any, Any]:
    names = [[keys[k][NAME] for k in kernels] for kernels in (gone, fresh)]
    return {
        keys[kernel]: keys[fresh[names[1].index(name)]]
        for kernel, name in zip(gone, names[0], strict=True)
        if names[0].count(name) == names[1].count(name) == 1
    }
