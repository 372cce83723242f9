"""The tables of a comparison: kernels, regions and every other quantity, with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from analyzers.compare.side import OTHERS, Side, SparseTable
from analyzers.compare.statistics import (
    LEVEL,
    MIN_SAMPLES,
    Columns,
    adjusted,
    between_iterations,
    correlation_time,
    from_moments,
    times_from_first,
    welch,
)
from analyzers.compare.types import (
    Delta,
    EvidencePlace,
    KernelChange,
    KernelMatch,
    MetricChange,
    RegionChange,
)
from analyzers.facts.steps import ROLES
from analyzers.finding import Row
from analyzers.intervals import Array

MAX_ROWS = 500  # of each table; the changes that are left out are smaller than all that are shown
NAME, SHAPE = 0, 1  # parts of the key of a kernel
P95_FROM, P99_FROM = 20, 100  # iterations from which a percentile is more than the slowest one

Sides = Sequence[Side]


class RunMoments(NamedTuple):
    """Means per iteration of many quantities in one run, and what their uncertainty takes."""

    mean: Array
    variance: Array
    size: Array  # of independent iterations


def deltas(base: Sequence[RunMoments], new: Sequence[RunMoments], unit: str) -> list[Delta]:
    """Return the change of each quantity, adjusted for their number.

    Several recordings on a side are the units then; of one each the iterations are.
    """
    columns = _compared(base, new)
    means = [np.mean([run.mean for run in side], axis=0) for side in (base, new)]
    p_adjusted = adjusted(columns.p_value)
    rounded = [np.rint(m) if unit == "ns" else m for m in means]
    rows = zip(*rounded, columns.low, columns.high, columns.p_value, p_adjusted, strict=True)
    found = []
    for (b, n, low, high, p, q), detectable in zip(rows, columns.detectable, strict=True):
        certain = bool(np.isfinite(p))
        found.append(
            Delta(
                base=float(b),
                new=float(n),
                change=float(n - b),
                low=_rounded(low, unit) if certain else None,
                high=_rounded(high, unit) if certain else None,
                p_value=float(p) if certain else None,
                p_adjusted=float(q) if certain else None,
                detectable=_rounded(detectable, unit) if certain else None,
                significant=bool(certain and q <= LEVEL and not low <= 0 <= high),
                unit=unit,
            )
        )
    return found


def _rounded(value: float, unit: str) -> float:
    return float(np.rint(value)) if unit == "ns" else float(value)


def _compared(base: Sequence[RunMoments], new: Sequence[RunMoments]) -> Columns:
    if len(base) == len(new) == 1:
        (b,), (n,) = base, new
        return from_moments((b.mean, n.mean), (b.variance, n.variance), (b.size, n.size))
    runs = [np.array([run.mean for run in side]) for side in (base, new)]
    return welch(runs[0], runs[1])


def moments(samples: Array, time: float) -> RunMoments:
    """Return the moments of quantities that each iteration has, one column a quantity.

    Args:
        samples: One row an iteration.
        time: Correlation time of the iterations' durations, the least that is taken.
    """
    count = len(samples)
    mean = samples.mean(axis=0)
    centred = samples - mean
    squares = (centred**2).sum(axis=0)
    products = (centred[1:] * centred[:-1]).sum(axis=0)
    return _moments(mean, squares, products, count, time)


def sparse_moments(table: SparseTable, values: Array, side: Side, columns: int) -> RunMoments:
    """Do the same for a sparse table, whose silent places are 0; warm-up is left out."""
    count = len(side.start_ns) - side.warm_up
    kept = table.iteration >= side.warm_up
    order = np.lexsort((table.iteration[kept], table.column[kept]))
    iteration = (table.iteration[kept].astype(np.int64) - side.warm_up)[order]
    column, value = table.column[kept][order], values[kept][order].astype(float)
    total = np.bincount(column, value, minlength=columns)
    mean = total / count
    squares = np.bincount(column, value**2, minlength=columns) - count * mean**2
    follows = (column[1:] == column[:-1]) & (iteration[1:] == iteration[:-1] + 1)
    pairs = (value[1:] * value[:-1])[follows]
    products: Array = np.bincount(column[1:][follows], pairs, minlength=columns)
    ends = np.zeros(columns)
    for border in (0, count - 1):
        at_border = iteration == border
        ends += np.bincount(column[at_border], value[at_border], minlength=columns)
    products = products - mean * (2 * total - ends) + (count - 1) * mean**2
    time = correlation_time(side.durations_ns[side.kept])
    # What is left of equal values by rounding is no variance.
    squares = np.where(squares > 1e-9 * count * mean**2, squares, 0.0)
    return _moments(mean, squares, products, count, time)


def _moments(mean: Array, squares: Array, products: Array, count: int, time: float) -> RunMoments:
    if count < MIN_SAMPLES:  # no uncertainty: a size of nothing makes it unknown
        return RunMoments(mean, np.zeros_like(mean), np.full(mean.shape, np.nan))
    first = products / np.where(squares > 0, squares, 1.0)
    times = np.where(squares > 0, np.maximum(times_from_first(first, count), time), 1.0)
    return RunMoments(mean, squares / (count - 1), count / times)


# --- kernels ------------------------------------------------------------------------------


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
            [_by_key(side, place, size, what) for side, place in zip(s, p, strict=True)]
            for s, p in zip(sides, numbered, strict=True)
        ]
        for what in ("ns", "count")
    )
    changes = deltas(time[0], time[1], "ns")
    counts = [np.mean([run.mean for run in of_side], axis=0) for of_side in launches]
    described = [_described(s, p, size) for s, p in zip(sides, numbered, strict=True)]
    rows = [
        _kernel_change(change, [d[i] for d in described], [float(c[i]) for c in counts])
        for i, change in enumerate(changes)
    ]
    rows.sort(key=lambda row: (-abs(row.time.change), row.name))
    return tuple(rows[:MAX_ROWS])


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


def _by_key(side: Side, place: Array, size: int, what: str) -> RunMoments:
    table = side.kernels.by_iteration
    columns = place[table.column]
    values: Array = table.ns if what == "ns" else table.count
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
    found = [_SideKernel()] * size
    for number, (side, place) in reversed(list(enumerate(zip(sides, places, strict=True)))):
        kernels = side.kernels
        for code in reversed(range(len(place))):
            begin, end = kernels.longest[code].tolist()
            spot = EvidencePlace(recording=number, start_ns=begin, end_ns=end, device=side.device)
            found[int(place[code])] = _SideKernel(
                kernels.names[code],
                kernels.short_names[code],
                shape_text(kernels.shapes[code].tolist()),
                spot if end > begin else None,
            )
    return found


def shape_text(shape: Sequence[int]) -> str:
    """Write grid and block; empty when not recorded."""
    if min(shape) < 0:
        return ""
    grid, block = (" x ".join(f"{n:,}" for n in part) for part in (shape[:3], shape[3:]))
    return f"{grid}, {block}"


def _kernel_change(time: Delta, sides: list[_SideKernel], launches: list[float]) -> KernelChange:
    base, new = sides
    if not base.name:
        kind = KernelMatch.NEW
    elif not new.name:
        kind = KernelMatch.GONE
    elif base.name != new.name:
        kind = KernelMatch.RENAMED
    else:
        kind = KernelMatch.SAME if base.shape == new.shape else KernelMatch.RESHAPED
    known = base if base.name else new
    return KernelChange(
        kind=kind,
        name=known.name,
        new_name=new.name or base.name,
        short_name=known.short_name,
        shape=base.shape or ("" if base.name else new.shape),
        new_shape=new.shape or ("" if new.name else base.shape),
        time=time,
        base_launches=launches[0],
        new_launches=launches[1],
        base_place=base.place,
        new_place=new.place,
    )


def _twins(base: Sides, new: Sides, places: list[list[Array]], keys: list[Any]) -> dict[Any, Any]:
    """Pair kernels that only one side has: the same name reshaped, or another at the same place.

    Returns:
        The key on the new side for each key on the base side.
    """
    mine, others = (set(np.concatenate(p).tolist()) for p in places)
    gone, fresh = sorted(mine - others), sorted(others - mine)
    sequences = [p[0][s[0].kernels.sequence] for s, p in zip((base, new), places, strict=True)]
    signs = [_signatures(sequence, mine & others) for sequence in sequences]
    pairs: dict[Any, Any] = {}
    for part in (SHAPE, NAME, None):
        if part is None:
            pairs |= _only_one_of_its_name(gone, fresh, keys)
        else:
            pairs |= _same_place(gone, fresh, signs, keys, part)
        gone = [g for g in gone if keys[g] not in pairs]
        taken = set(pairs.values())
        fresh = [f for f in fresh if keys[f] not in taken]
    return pairs


def _signatures(sequence: Array, common: set[int]) -> dict[int, tuple[int, int, int]]:
    """Return where each kernel stands: last common kernel before it, steps since, how often.

    Of several places the first one counts.
    """
    found: dict[int, tuple[int, int]] = {}
    often: dict[int, int] = {}
    anchor, steps = -1, 0
    for kernel in sequence.tolist():  # order matters: a place is counted from what came before
        if kernel in common:
            anchor, steps = kernel, 0
            continue
        steps += 1
        found.setdefault(kernel, (anchor, steps))
        often[kernel] = often.get(kernel, 0) + 1
    return {kernel: (*place, often[kernel]) for kernel, place in found.items()}


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


# --- regions ------------------------------------------------------------------------------


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


# --- everything else ----------------------------------------------------------------------


def metric_changes(base: Sides, new: Sides) -> tuple[MetricChange, ...]:
    """Return launches, transfers, memory, what ran, and what the workload measured itself."""
    return (
        *_counted(base, new),
        *_percentiles(base, new),
        *_roles(base, new),
        *_peaks(base, new),
        *_stated(base, new),
    )


def _counted(base: Sides, new: Sides) -> list[MetricChange]:
    names = list(dict.fromkeys(name for side in (*base, *new) for name in side.counts))
    if not names:
        return []
    runs = []
    for sides in (base, new):
        of_side = []
        for side in sides:
            nothing = np.zeros(len(side.start_ns))
            table = np.column_stack([side.counts.get(n, nothing) for n in names])[side.kept]
            of_side.append(moments(table, correlation_time(side.durations_ns[side.kept])))
        runs.append(of_side)
    changes = deltas(runs[0], runs[1], "count")
    units = {"bytes": "bytes", "time": "ns"}
    return [
        MetricChange(
            name=name,
            group="transfers" if name.split()[-1] in ("copies", "bytes", "time") else "iteration",
            better="lower",
            value=replace(change, unit=units.get(name.split()[-1], "count")),
        )
        for name, change in zip(names, changes, strict=True)
    ]


def _percentiles(base: Sides, new: Sides) -> list[MetricChange]:
    pooled = [np.concatenate([s.durations_ns[s.kept] for s in sides]) for sides in (base, new)]
    return [
        MetricChange(
            name=f"{share}th percentile of iterations",
            group="iteration",
            better="lower",
            value=_plain(*(int(np.percentile(p, share)) for p in pooled), unit="ns"),
        )
        for share, enough in ((95, P95_FROM), (99, P99_FROM))
        if min(map(len, pooled)) >= enough
    ]


def _plain(base: float, new: float, *, unit: str) -> Delta:
    """Return a change without uncertainty; it is never called significant."""
    return Delta(base=base, new=new, change=new - base, unit=unit)


def _roles(base: Sides, new: Sides) -> list[MetricChange]:
    if not all(len(side.roles_ns) for side in (*base, *new)):
        return []
    runs = [
        [
            moments(
                side.roles_ns[side.kept].astype(float),
                correlation_time(side.durations_ns[side.kept]),
            )
            for side in sides
        ]
        for sides in (base, new)
    ]
    changes = deltas(runs[0], runs[1], "ns")
    rows = zip(ROLES, changes, strict=True)
    return [
        MetricChange(name=role, group="roles", better="", value=change)
        for role, change in rows
        if change.base or change.new
    ]


def _peaks(base: Sides, new: Sides) -> list[MetricChange]:
    names = dict.fromkeys(name for side in (*base, *new) for name in side.peak_bytes)
    found = []
    for name in names:
        values = [
            [s.peak_bytes[name] for s in sides if name in s.peak_bytes] for sides in (base, new)
        ]
        if all(values):
            found.append(_metric(name, "memory", "lower", "bytes", values))
    return found


def _metric(
    name: str, group: str, better: str, unit: str, values: list[list[float]] | list[list[int]]
) -> MetricChange:
    """Compare what each recording has once; one a side has no uncertainty."""
    runs = [np.array(v, dtype=float)[:, None] for v in values]
    if len(runs[0]) + len(runs[1]) < 3:
        change = _plain(float(runs[0].mean()), float(runs[1].mean()), unit=unit)
        return MetricChange(name=name, group=group, better=better, value=change)
    columns = welch(runs[0], runs[1])
    low, high, p = (float(c[0]) for c in (columns.low, columns.high, columns.p_value))
    change = Delta(
        base=float(runs[0].mean()),
        new=float(runs[1].mean()),
        change=float(columns.change[0]),
        low=low,
        high=high,
        p_value=p,
        p_adjusted=p,
        detectable=float(columns.detectable[0]),
        significant=p <= LEVEL and not low <= 0 <= high,
        unit=unit,
    )
    return MetricChange(name=name, group=group, better=better, value=change)


def _stated(base: Sides, new: Sides) -> list[MetricChange]:
    """Return what the workloads measured themselves: their steps, then their own metrics."""
    found = []
    steps = [[s.summary.get("step_ns") or [] for s in sides] for sides in (base, new)]
    if len(base) == len(new) == 1 and min(len(steps[0][0]), len(steps[1][0])) >= MIN_SAMPLES:
        samples = [np.array(side[0], dtype=float) for side in steps]
        told = between_iterations(samples[0], samples[1])
        value = Delta(
            base=told.base,
            new=told.new,
            change=told.change,
            low=told.low,
            high=told.high,
            p_value=told.p_value,
            p_adjusted=told.p_value,
            detectable=told.detectable,
            significant=_is_significant(told.low, told.high, told.p_value),
        )
        found.append(
            MetricChange(
                name="step, as the workload timed it", group="workload", better="lower", value=value
            )
        )
    listed = [[_metrics(s) for s in sides] for sides in (base, new)]
    for name in dict.fromkeys(n for sides in listed for run in sides for n in run):
        values = [[run[name]["value"] for run in sides if name in run] for sides in listed]
        if all(values):
            about = next(run[name] for run in listed[0] if name in run)
            better = str(about.get("better") or "")
            found.append(_metric(name, "workload", better, str(about.get("unit") or ""), values))
    return found


def _is_significant(low: float | None, high: float | None, p_value: float | None) -> bool:
    if low is None or high is None or p_value is None:
        return False
    return p_value <= LEVEL and not low <= 0 <= high


def _metrics(side: Side) -> dict[str, dict[str, Any]]:
    """Return the workload's metrics by name; what is no number is left out."""
    listed = side.summary.get("metrics")
    found = {}
    for metric in listed if isinstance(listed, list) else ():
        value = metric.get("value") if isinstance(metric, dict) else None
        if isinstance(value, int | float) and np.isfinite(value):
            found[str(metric.get("name", ""))[:80]] = metric
    return found
