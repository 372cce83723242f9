"""Two machines, or two states of one: how much of the change lies below the program.

For the same work (operator, shapes and types) on both sides, the account of the busy time knows
the least time that either GPU allows. If kernels stayed as near to that as they are on base, they
would take base's time times the ratio of the least times: that change is hardware. What they
really take beyond is software: libraries, precompiled kernels, and how well they fit the GPU; where
other kernels ran for the same work, that is said. On one and the same GPU nothing is hardware.

An operator with inputs of the same shapes and other types, or whose products run in another type
of the matrix units (TF32 for fp32), computes in another precision: its change is a part of its own.
Everything else is not attributed, nor are kernels so far from their roof that it cannot be what
holds them up.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from analyzers.compare.hardware import (
    PRECISION,
    BelowProgram,
    ClassOnMachines,
    MachineChange,
    RatedLimit,
)
from analyzers.compare.side import Sides, WorkKey
from analyzers.compare.types import OTHER_DRIVER, Difference, WorkChange
from analyzers.work.classes import WorkClass, kernel_type
from analyzers.work.element_types import CATEGORIES, FLOAT, NO_TYPE, TYPES, type_code
from analyzers.work.roofs import DeviceRoof, roof_of

MIN_ROOF_SHARE = (
    0.1  # of the time on base; kernels further from the roof are held up by other things
)
MIN_PRECISION_SHARE = 0.01  # of base's time; less of it in another precision is not spoken of
_PEAKS = (
    *((name, True) for name in ("fp16", "bf16", "tf32", "fp8", "fp64")),
    *((name, False) for name in ("fp32", "fp64")),
)  # types of data, and whether matrix units compute in them
_SOFTWARE = {OTHER_DRIVER: "driver", "cuda": "CUDA", "torch": "PyTorch"}
_PRODUCTS = (WorkClass.MATMUL, WorkClass.CONVOLUTION, WorkClass.ATTENTION)


_KeysOfSides = tuple[list[WorkKey], list[WorkKey]]


class _Parts(NamedTuple):
    """The parts of the change of one kind of work, which sum to it; ns."""

    hardware: int = 0
    precision: int = 0
    software: int = 0
    other_kernels: int = 0
    unattributed: int = 0


def machine_change(
    base: Sides,
    new: Sides,
    work: Sequence[WorkChange],
    differences: Sequence[Difference] = (),
) -> MachineChange | None:
    """Return what lies below the program; None where nothing of that differs, or is not known.

    Args:
        base: Recordings on one machine.
        new: Recordings on the other, or on the same one.
        work: Kernel time of both sides by work.
        differences: What differs besides the change that is judged.
    """
    names = [sorted({", ".join(side.gpus) for side in sides}) for sides in (base, new)]
    if any(len(n) != 1 or not n[0] for n in names):
        return None
    is_other_gpu = names[0] != names[1]
    times = [round(_mean_ns(sides)) for sides in (base, new)]
    precisions = _precisions(base, new, work)
    precision = _largest_precision(precisions, work, times[0])
    precisions = precisions if precision else {}
    below = (*_software(differences), *precision)
    if not is_other_gpu and not below:
        return None
    least = [_least_ns(sides) if is_other_gpu else {} for sides in (base, new)]
    kernels = [_kernels(sides) for sides in (base, new)]
    by_class: dict[str, list[int]] = defaultdict(lambda: [0] * 7)
    for row in work:
        key = _key(row)
        if key in precisions:
            parts = _Parts(precision=int(row.time.new) - int(row.time.base))
        else:
            ratio = _limit_ratio(row, least[0].get(key, 0.0), least[1].get(key, 0.0))
            ran = kernels[0].get(key), kernels[1].get(key)
            is_replaced = bool(row.new_kernel) or (None not in ran and ran[0] != ran[1])
            parts = _parts(row, ratio if is_other_gpu else 1.0, is_replaced=is_replaced)
        sums = by_class[row.work_class]
        for place, ns in enumerate((int(row.time.base), int(row.time.new), *parts)):
            sums[place] += ns
    classes = [_class(name, sums) for name, sums in by_class.items()]
    inside = sum(c.new_ns - c.base_ns for c in classes)
    return MachineChange(
        base=names[0][0],
        new=names[1][0],
        base_ns=times[0],
        new_ns=times[1],
        hardware_ns=sum(c.hardware_ns for c in classes),
        precision_ns=sum(c.precision_ns for c in classes),
        software_ns=sum(c.software_ns for c in classes),
        other_kernels_ns=sum(c.other_kernels_ns for c in classes),
        unattributed_ns=sum(c.unattributed_ns for c in classes),
        outside_ns=times[1] - times[0] - inside,
        classes=tuple(sorted(classes, key=lambda c: -abs(c.new_ns - c.base_ns))),
        limits=_limits(roof_of(base[0].gpus[0]), roof_of(new[0].gpus[0])) if is_other_gpu else (),
        below=below,
    )


def _class(name: str, sums: Sequence[int]) -> ClassOnMachines:
    return ClassOnMachines(
        work_class=name,
        base_ns=sums[0],
        new_ns=sums[1],
        hardware_ns=sums[2],
        precision_ns=sums[3],
        software_ns=sums[4],
        other_kernels_ns=sums[5],
        unattributed_ns=sums[6],
    )


def _key(row: WorkChange) -> WorkKey:
    return WorkKey(row.work_class, row.operator, row.shapes, row.types, row.kernel)


def _parts(row: WorkChange, limit_ratio: float | None, *, is_replaced: bool) -> _Parts:
    """Divide the change of work that both sides do, if it can be divided.

    Args:
        row: The work.
        limit_ratio: The least time that new's machine allows for it by that of base's; None where
            that is not known.
        is_replaced: Whether other kernels ran for it.
    """
    change = int(row.time.new) - int(row.time.base)
    if limit_ratio is None or not (row.time.base and row.time.new):
        return _Parts(unattributed=change)
    hardware = round(row.time.base * (limit_ratio - 1))
    software = change - hardware
    return _Parts(hardware=hardware, software=software, other_kernels=is_replaced * software)


def _limit_ratio(row: WorkChange, base_least: float, new_least: float) -> float | None:
    is_near = base_least * row.base_calls >= MIN_ROOF_SHARE * max(row.time.base, 1)
    return new_least / base_least if is_near and base_least > 0 and new_least > 0 else None


def _least_ns(sides: Sides) -> dict[WorkKey, float]:
    """Return the least time of one call of each kind of work on a side's machine."""
    return {
        key: float(ns)
        for side in sides
        for key, ns in zip(side.work.keys, side.work.least_ns.tolist(), strict=True)
        if ns > 0
    }


def _kernels(sides: Sides) -> dict[WorkKey, frozenset[str]]:
    """Return the kernels that ran for each kind of work in typical iterations."""
    names: dict[WorkKey, set[str]] = defaultdict(set)
    for side in sides:
        pairs = np.column_stack((side.kernels.sequence_work, side.kernels.sequence))
        for work, kernel in np.unique(pairs[pairs[:, 0] >= 0], axis=0).tolist():
            names[side.work.keys[work]].add(side.kernels.names[kernel])
    return {key: frozenset(of_key) for key, of_key in names.items()}


# --- precision ----------------------------------------------------------------------------------


def _precisions(
    base: Sides, new: Sides, work: Sequence[WorkChange]
) -> dict[WorkKey, tuple[str, str]]:
    """Return the work that is done in another precision on the other side, with both precisions.

    The same operator with inputs of the same shapes has other floating-point types on each side,
    or kernels of its products whose names tell another type.
    """
    kernels = [_kernels(sides) for sides in (base, new)]
    precisions: dict[WorkKey, tuple[str, str]] = {}
    single_keys: dict[tuple[str, str], tuple[list[WorkKey], list[WorkKey]]] = defaultdict(
        lambda: ([], [])
    )
    for row in work:
        key = _key(row)
        if not row.operator or not row.shapes:
            continue
        if row.time.base and row.time.new:
            kinds = [_product_types(of_side.get(key), key.work_class) for of_side in kernels]
            if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
                precisions[key] = kinds[0], kinds[1]
        elif row.time.base or row.time.new:
            single_keys[row.operator, row.shapes][0 if row.time.base else 1].append(key)
    for before, after in single_keys.values():
        kinds = [_input_types(keys) for keys in (before, after)]
        if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
            precisions |= dict.fromkeys((*before, *after), (kinds[0], kinds[1]))
    return precisions


def _product_types(names: frozenset[str] | None, work_class: str) -> str:
    """Return the types in which the kernels of a product compute, as their names tell."""
    if names is None or WorkClass(work_class) not in _PRODUCTS:
        return ""
    return ", ".join(sorted({kind for name in names if (kind := kernel_type(name))}))


def _input_types(keys: Sequence[WorkKey]) -> str:
    """Return the floating-point types of the inputs of work, in words."""
    codes = {
        type_code(str(name)) for key in keys if key.types for name in _flat(json.loads(key.types))
    }
    floats = sorted(c for c in codes if c != NO_TYPE and CATEGORIES[c] == FLOAT)
    return ", ".join(TYPES[code].name for code in floats)


def _flat(types: object) -> Iterator[object]:
    """Yield the types of all inputs; a list of tensors has one of its own."""
    if isinstance(types, list):
        for one in types:
            yield from _flat(one)
    else:
        yield types


def _largest_precision(
    precisions: dict[WorkKey, tuple[str, str]], work: Sequence[WorkChange], base_ns: int
) -> tuple[BelowProgram, ...]:
    """Return the other precision that takes most time; none where all is next to nothing."""
    rows = [
        (max(row.time.base, row.time.new), _key(row)) for row in work if _key(row) in precisions
    ]
    if sum(ns for ns, _ in rows) < max(MIN_PRECISION_SHARE * base_ns, 1):
        return ()
    _, key = max(rows)
    before, after = precisions[key]
    return (BelowProgram(name=PRECISION, base=before, new=after, operator=key.operator),)


def _software(differences: Sequence[Difference]) -> Iterator[BelowProgram]:
    """Yield the versions below the program that both sides state and that differ."""
    for difference in differences:
        base, new = difference.base, difference.new
        if difference.what in _SOFTWARE and base and new and base != new:
            yield BelowProgram(name=_SOFTWARE[difference.what], base=base, new=new)


def _mean_ns(sides: Sides) -> float:
    return float(np.mean([side.durations_ns[side.kept].mean() for side in sides]))


def _limits(base: DeviceRoof, new: DeviceRoof) -> tuple[RatedLimit, ...]:
    """Return the limits that the data sheets of both GPUs state."""
    rates = [("memory bandwidth", base.memory_bytes_per_s, new.memory_bytes_per_s)]
    for name, on_units in _PEAKS:
        peaks = [roof.rated_peak(name, on_matrix_units=on_units) for roof in (base, new)]
        rates.append((f"{name}{' on matrix units' if on_units else ''}", peaks[0], peaks[1]))
    stated = [r for r in rates if r[1] > 0 and r[2] > 0]  # NaN is not
    return tuple(RatedLimit(name=name, base=b, new=n) for name, b, n in stated)
