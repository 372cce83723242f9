"""Two machines: how much of the change the limits of the GPUs explain, and what is left.

For the same work (operator, shapes and types) on both sides, the account of the busy time knows
the least time that either GPU allows. If kernels stayed as near to that as they are on base, they
would take base's time times the ratio of the least times: that change is hardware. What they
really take beyond is software: libraries, kernels, and how well they fit the GPU. Everything else
is not attributed, nor are kernels so far from their roof that it cannot be what holds them up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from analyzers.compare.hardware import ClassOnMachines, MachineChange, RatedLimit
from analyzers.compare.side import Sides, WorkKey
from analyzers.compare.types import WorkChange
from analyzers.work.roofs import DeviceRoof, roof_of

MIN_ROOF_SHARE = (
    0.1  # of the time on base; kernels further from the roof are held up by other things
)
_PEAKS = (
    *((name, True) for name in ("fp16", "bf16", "tf32", "fp8", "fp64")),
    *((name, False) for name in ("fp32", "fp64")),
)  # types of data, and whether matrix units compute in them


def machine_change(base: Sides, new: Sides, work: Sequence[WorkChange]) -> MachineChange | None:
    """Return what two machines differ by; None where they are the same, or not known.

    Args:
        base: Recordings on one machine.
        new: Recordings on the other.
        work: Kernel time of both sides by work.
    """
    names = [sorted({", ".join(side.gpus) for side in sides}) for sides in (base, new)]
    if names[0] == names[1] or any(len(n) != 1 or not n[0] for n in names):
        return None
    least = [_least_ns(sides) for sides in (base, new)]
    by_class: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for row in work:
        key = WorkKey(row.work_class, row.operator, row.shapes, row.types, row.kernel)
        parts = _parts(row, least[0].get(key, 0.0), least[1].get(key, 0.0))
        sums = by_class[row.work_class]
        for place, ns in enumerate((int(row.time.base), int(row.time.new), *parts)):
            sums[place] += ns
    classes = [
        ClassOnMachines(
            work_class=name,
            base_ns=sums[0],
            new_ns=sums[1],
            hardware_ns=sums[2],
            software_ns=sums[3],
            unattributed_ns=sums[4],
        )
        for name, sums in by_class.items()
    ]
    times = [round(_mean_ns(sides)) for sides in (base, new)]
    inside = sum(c.new_ns - c.base_ns for c in classes)
    return MachineChange(
        base=names[0][0],
        new=names[1][0],
        base_ns=times[0],
        new_ns=times[1],
        hardware_ns=sum(c.hardware_ns for c in classes),
        software_ns=sum(c.software_ns for c in classes),
        unattributed_ns=sum(c.unattributed_ns for c in classes),
        outside_ns=times[1] - times[0] - inside,
        classes=tuple(sorted(classes, key=lambda c: -abs(c.new_ns - c.base_ns))),
        limits=_limits(roof_of(base[0].gpus[0]), roof_of(new[0].gpus[0])),
    )


def _parts(row: WorkChange, base_least: float, new_least: float) -> tuple[int, int, int]:
    """Divide the change of one kind of work into hardware, software and what is not known."""
    change = int(row.time.new) - int(row.time.base)
    is_near = base_least * row.base_calls >= MIN_ROOF_SHARE * max(row.time.base, 1)
    if not (is_near and new_least > 0 and row.time.base and row.time.new):
        return 0, 0, change
    hardware = round(row.time.base * (new_least / base_least - 1))
    return hardware, change - hardware, 0


def _least_ns(sides: Sides) -> dict[WorkKey, float]:
    """Return the least time of one call of each kind of work on a side's machine."""
    return {
        key: float(ns)
        for side in sides
        for key, ns in zip(side.work.keys, side.work.least_ns.tolist(), strict=True)
        if ns > 0
    }


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
