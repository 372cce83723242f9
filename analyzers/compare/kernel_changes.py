"""Kernels of both sides, matched by name, launch configuration and place in the iteration.

What is left on one side only is grouped by what it replaces (``analyzers.compare.replacements``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analyzers.compare.deltas import RunMoments, deltas, sparse_moments
from analyzers.compare.paired import PairedChange, paired_change
from analyzers.compare.replacements import Replacement, operators, replacements
from analyzers.compare.run_to_run import NORMAL, NORMAL_POWER
from analyzers.compare.same_work import matched_launches, paired_kernel
from analyzers.compare.side import OTHERS, Side, Sides, SparseTable
from analyzers.compare.statistics import Columns
from analyzers.compare.types import (
    Delta,
    EvidencePlace,
    KernelChange,
    KernelMatch,
    KernelMember,
)
from analyzers.intervals import Array
from analyzers.words import TIMES

NAME = 0  # parts of the key of a kernel
SHAPE = 1


def kernel_changes(
    base: Sides, new: Sides, *, work: float | None = None
) -> tuple[KernelChange, ...]:
    """Return the kernels of both sides, matched, the largest change first.

    Args:
        base: Runs before.
        new: Runs after.
        work: Where both did another amount of the same work, the new side's as a part of base's: a
            kernel's time on base is then that of as many launches as on the new side. None else.
    """
    keys: dict[Any, int] = {}
    places = [[_kernel_keys(side, keys) for side in sides] for sides in (base, new)]
    twins = _twins(base, new, places, list(keys))
    for old, young in twins.items():
        keys[young] = keys[old]  # one row for both
    remap = _renumbered(keys)
    sides = (base, new)
    numbered = [[remap[p] for p in of_side] for of_side in places]
    single = len(set(remap.tolist()))
    replaced = replacements(base[0], new[0], (numbered[0][0], numbered[1][0]))
    splits = [
        _split(s[0], p[0], n, replaced, single)
        for n, (s, p) in enumerate(zip(sides, numbered, strict=True))
    ]
    size = single + len(replaced)
    time, launches = (
        [
            [_by_row(side, place, split, size, quantity) for side, place in zip(s, p, strict=True)]
            for s, p, split in zip(sides, numbered, splits, strict=True)
        ]
        for quantity in ("ns", "count")
    )
    counts = [np.mean([run.mean for run in of_side], axis=0) for of_side in launches]
    if work is not None:
        is_one_kernel = (counts[0] > 0) & (counts[1] > 0) & (np.arange(size) < single)
        ratio = counts[1] / np.where(is_one_kernel, counts[0], 1.0)
        factor = np.where(is_one_kernel, ratio, work)
        time[0] = [run._replace(mean=run.mean * factor) for run in time[0]]
    divided = {row for split in splits for row in split.row.tolist()}
    of_launches = _paired(base, new, numbered, is_same_amount=work is None)
    evidence = {row: change for row, change in of_launches.items() if row not in divided}
    evidence |= _paired_gaps(base, new, replaced, single)
    paired = _paired_columns(evidence, time[0][0].mean, time[1][0].mean) if evidence else None
    changes = deltas(time[0], time[1], "ns", paired)
    described = [
        _described(s, p, single, [r.launches[n] for r in replaced])
        for n, (s, p) in enumerate(zip(sides, numbered, strict=True))
    ]
    for number, (side, of_side) in enumerate(zip(sides, described, strict=True)):
        of_side += [_of_replacement(side[0], r.launches[number]) for r in replaced]
    left = _left(splits, numbered)
    rows = [
        _kernel_change(
            change,
            [d[i] for d in described],
            [float(c[i]) for c in counts],
            evidence.get(i),
            replaced[i - single] if i >= single else None,
        )
        for i, change in enumerate(changes)
        if i in left or i >= single
    ]
    return tuple(sorted(rows, key=lambda row: (-abs(row.time.change), row.name)))


class _Split(NamedTuple):
    """Rows of the table that are divided among others: a place for each part, sorted by row."""

    row: Array
    target: Array
    time_share: Array
    launch_share: Array


def _split(
    side: Side, place: Array, number: int, replaced: list[Replacement], first: int
) -> _Split:
    """Return which part of each row of one side belongs to what was replaced.

    Args:
        side: The side's first recording.
        place: Row of each of its kernels.
        number: 0 for the base side, 1 for the new one.
        replaced: What was replaced.
        first: Row of the first of them.
    """
    if not replaced:
        return _Split(*(np.empty(0, kind) for kind in (np.int64, np.int64, float, float)))
    row = place[side.kernels.sequence]
    target = row.copy()
    for group, replacement in enumerate(replaced, first):
        target[replacement.launches[number]] = group
    touched = np.isin(row, row[target >= first])
    parts = pd.DataFrame(
        {"row": row[touched], "target": target[touched], "ns": side.kernels.sequence_ns[touched]}
    )
    sums = parts.groupby(["row", "target"])["ns"].agg(["sum", "size"]).reset_index()
    whole = sums.groupby("row")[["sum", "size"]].transform("sum")
    of_launches = (sums["size"] / whole["size"]).to_numpy(float)
    of_time = np.where(whole["sum"] > 0, sums["sum"] / whole["sum"].clip(lower=1), of_launches)
    return _Split(sums["row"].to_numpy(), sums["target"].to_numpy(), of_time, of_launches)


def _left(splits: list[_Split], rows: list[list[Array]]) -> set[int]:
    """Return the rows of which either side has something left."""
    left: set[int] = set()
    for split, of_side in zip(splits, rows, strict=True):
        whole = set(split.row.tolist()) - set(split.row[split.row == split.target].tolist())
        left |= set(np.concatenate(of_side).tolist()) - whole
    return left


def _paired_gaps(
    base: Sides, new: Sides, replaced: list[Replacement], first: int
) -> dict[int, PairedChange]:
    """Return what places of the same launches say about what was replaced, in one window each."""
    if len(base) + len(new) > 2 or any(s.loop for s in (base[0], new[0])):
        return {}
    changes = {row: paired_change(*r.gap_ns) for row, r in enumerate(replaced, first)}
    return {row: change for row, change in changes.items() if change is not None}


def _paired(
    base: Sides, new: Sides, rows: list[list[Array]], *, is_same_amount: bool
) -> dict[int, PairedChange]:
    """Return what launches that belong to each other say about each row of the table.

    Args:
        base: Runs before.
        new: Runs after.
        rows: Of each kernel of each run its row of the table.
        is_same_amount: As in ``matched_launches``.
    """
    if len(base) + len(new) > 2 or not min(len(s.launch_times.ns) for s in (base[0], new[0])):
        return {}
    pairs = matched_launches(base[0], new[0], is_same_amount=is_same_amount)
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


def _by_row(side: Side, place: Array, split: _Split, size: int, quantity: str) -> RunMoments:
    table = side.kernels.by_iteration
    row = place[table.column]
    values: Array = table.ns if quantity == "ns" else table.count
    shares = split.time_share if quantity == "ns" else split.launch_share
    first = np.searchsorted(split.row, row)
    parts = np.searchsorted(split.row, row, side="right") - first
    times = np.maximum(parts, 1)
    entry = np.repeat(np.arange(len(row)), times)
    part = first[entry] + np.arange(len(entry)) - np.repeat(np.cumsum(times) - times, times)
    is_split = parts[entry] > 0
    target, weight = row[entry], np.ones(len(entry))
    target[is_split], weight[is_split] = split.target[part[is_split]], shares[part[is_split]]
    # Kernels may have become one row: they are summed before their variance is taken.
    key = table.iteration[entry].astype(np.int64) * size + target
    unique, code = np.unique(key, return_inverse=True)
    values = np.bincount(code, values[entry] * weight, minlength=len(unique))
    iteration, columns = np.divmod(unique, size)
    merged = SparseTable(iteration=iteration, column=columns, ns=values, count=values)
    return sparse_moments(merged, values, side, size)


class _SideKernel(NamedTuple):
    """What one side has in a row of the table: kernels, most time first, and where to look."""

    members: tuple[KernelMember, ...] = ()
    place: EvidencePlace | None = None


def _described(
    sides: Sides, places: list[Array], size: int, replaced: list[Array]
) -> list[_SideKernel]:
    """Return what one side has in each row but those of what was replaced.

    Args:
        sides: Its recordings.
        places: Row of each kernel of each.
        size: How many rows there are.
        replaced: Places in the first recording's sequence that belong to what was replaced.
    """
    kernels_by_row = [_SideKernel()] * size
    for number, (side, place) in reversed(list(enumerate(zip(sides, places, strict=True)))):
        kernels = side.kernels
        is_left = np.ones(len(kernels.sequence), dtype=bool)
        if not number and replaced:
            is_left[np.concatenate(replaced)] = False
        sequence = kernels.sequence[is_left]
        launches = np.bincount(sequence, minlength=len(place))
        ns = np.bincount(sequence, kernels.sequence_ns[is_left], minlength=len(place))
        moved = np.bincount(kernels.sequence[~is_left], minlength=len(place))
        for code in reversed(range(len(place))):
            if moved[code] and not launches[code]:
                continue  # all of it was replaced, or replaces something
            begin, end = kernels.longest[code].tolist()
            spot = EvidencePlace(recording=number, start_ns=begin, end_ns=end, device=side.device)
            member = _member(side, code, int(launches[code]), int(ns[code]))
            kernels_by_row[int(place[code])] = _SideKernel((member,), spot if end > begin else None)
    return kernels_by_row


def _of_replacement(side: Side, launches: Array) -> _SideKernel:
    """Return the kernels of one side in what was replaced."""
    kernels = side.kernels
    code, ns = kernels.sequence[launches], kernels.sequence_ns[launches]
    sums, counts = np.bincount(code, ns), np.bincount(code)
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda c: -sums[c])
    members = tuple(_member(side, c, int(counts[c]), int(sums[c])) for c in order)
    begin, end = kernels.longest[order[0]].tolist()
    spot = EvidencePlace(recording=0, start_ns=begin, end_ns=end, device=side.device)
    return _SideKernel(members, spot if end > begin else None)


def _member(side: Side, code: int, launches: int, ns: int) -> KernelMember:
    kernels = side.kernels
    registers, shared = kernels.resources[code].tolist()
    return KernelMember(
        name=kernels.names[code],
        short_name=kernels.short_names[code],
        shape=shape_text(kernels.shapes[code].tolist()),
        registers=registers if registers >= 0 else None,
        shared_bytes=shared if shared >= 0 else None,
        launches=launches,
        ns=ns,
    )


def shape_text(shape: Sequence[int]) -> str:
    """Write grid and block; empty when not recorded."""
    if min(shape) < 0:
        return ""
    grid, block = (f" {TIMES} ".join(f"{n:,}" for n in part) for part in (shape[:3], shape[3:]))
    return f"{grid}, {block}"


def _kernel_change(
    time: Delta,
    sides: list[_SideKernel],
    launches: list[float],
    pairs: PairedChange | None,
    replacement: Replacement | None,
) -> KernelChange:
    base, new = sides
    before = (base.members or new.members)[0]
    after = (new.members or base.members)[0]
    return KernelChange(
        kind=_kind(base, new, replacement),
        name=before.name,
        new_name=after.name,
        short_name=before.short_name,
        shape=before.shape,
        new_shape=after.shape,
        time=time,
        base_launches=launches[0],
        new_launches=launches[1],
        pairs=pairs.pairs if pairs else 0,
        faster=pairs.faster if pairs else 0,
        base_place=base.place,
        new_place=new.place,
        operator=replacement.operator if replacement else "",
        shapes=replacement.shapes if replacement else "",
        neighbours=replacement.neighbours if replacement and not replacement.operator else (),
        ranges=replacement.ranges if replacement else (),
        base_members=base.members,
        new_members=new.members,
    )


def _kind(base: _SideKernel, new: _SideKernel, replacement: Replacement | None) -> KernelMatch:
    if not base.members or not new.members:
        return KernelMatch.GONE if base.members else KernelMatch.NEW
    names = {member.name for member in (*base.members, *new.members)}
    if len(names) > 1:
        return KernelMatch.RENAMED if replacement is None else KernelMatch.REPLACED
    shapes = [[member.shape for member in side.members] for side in (base, new)]
    return KernelMatch.SAME if shapes[0] == shapes[1] else KernelMatch.RESHAPED


def _twins(base: Sides, new: Sides, places: list[list[Array]], keys: list[Any]) -> dict[Any, Any]:
    """Pair kernels that only one side has: the same name reshaped, or another at the same place.

    Returns:
        The key on the new side for each key on the base side.
    """
    base_kernels, new_kernels = (set(np.concatenate(p).tolist()) for p in places)
    gone, fresh = sorted(base_kernels - new_kernels), sorted(new_kernels - base_kernels)
    sequences = [p[0][s[0].kernels.sequence] for s, p in zip((base, new), places, strict=True)]
    signs = [_signatures(sequence, base_kernels & new_kernels) for sequence in sequences]
    ran_for = _operators_by_kernel((base[0], new[0]), sequences)
    pairs: dict[Any, Any] = {}
    for part in (SHAPE, NAME, None):
        if part is None:
            candidates = _only_one_of_its_name(gone, fresh, keys)
        else:
            candidates = _same_place(gone, fresh, signs, keys, part)
        pairs |= {
            keys[one]: keys[twin]
            for one, twin in candidates.items()
            if _may_be_same_work(ran_for[0].get(one), ran_for[1].get(twin))
        }
        gone = [g for g in gone if keys[g] not in pairs]
        paired = set(pairs.values())
        fresh = [f for f in fresh if keys[f] not in paired]
    return pairs


def _operators_by_kernel(
    sides: tuple[Side, Side], sequences: list[Array]
) -> list[dict[int, set[int]]]:
    """Return for each side the operators that each kernel ran for, where that is known."""
    of_sides: list[dict[int, set[int]]] = []
    for sequence, subject in zip(sequences, operators(sides).of_launch, strict=True):
        of_kernel: dict[int, set[int]] = {}
        pairs = np.unique(np.column_stack((sequence, subject))[subject >= 0], axis=0)
        for kernel, operator in pairs.tolist():
            of_kernel.setdefault(kernel, set()).add(operator)
        of_sides.append(of_kernel)
    return of_sides


def _may_be_same_work(base: set[int] | None, new: set[int] | None) -> bool:
    return base is None or new is None or bool(base & new)


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
) -> dict[int, int]:
    """Pair kernels at the same place that share a part of their key: the name, or the shape."""
    at = {(signs[1][f], keys[f][part]): f for f in reversed(fresh) if f in signs[1]}
    pairs = {}
    for kernel in gone:
        twin = at.pop((signs[0][kernel], keys[kernel][part]), None) if kernel in signs[0] else None
        if twin is not None and OTHERS not in (keys[kernel][NAME], keys[twin][NAME]):
            pairs[kernel] = twin
    return pairs


def _only_one_of_its_name(gone: list[int], fresh: list[int], keys: list[Any]) -> dict[int, int]:
    names = [[keys[k][NAME] for k in kernels] for kernels in (gone, fresh)]
    return {
        kernel: fresh[names[1].index(name)]
        for kernel, name in zip(gone, names[0], strict=True)
        if names[0].count(name) == names[1].count(name) == 1
    }
