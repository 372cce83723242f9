"""Changes of many quantities at once, from the moments of each run, with their uncertainty."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analyzers.compare.run_to_run import in_general
from analyzers.compare.side import Side, SparseTable
from analyzers.compare.statistics import (
    MIN_SAMPLES,
    Columns,
    adjusted,
    agreeing,
    correlation_time,
    from_moments,
    is_sure,
    times_from_first,
    welch,
)
from analyzers.compare.types import (
    Delta,
)
from analyzers.intervals import Array

MAX_ROWS = 500  # of each table; the changes that are left out are smaller than all that are shown


class RunMoments(NamedTuple):
    """Means per iteration of many quantities in one run, and what their uncertainty takes."""

    mean: Array
    variance: Array
    size: Array  # of independent iterations


def deltas(
    base: Sequence[RunMoments],
    new: Sequence[RunMoments],
    unit: str,
    paired: Columns | None = None,
) -> list[Delta]:
    """Return the change of each quantity, adjusted for their number.

    Several recordings on a side are the units then; of one each the iterations are, and times
    hold what runs may differ by.

    Args:
        base: Moments of each run before.
        new: Of each run after.
        unit: Of all quantities.
        paired: What pairs say, used where iterations say nothing; None without pairs.
    """
    within = _compared(base, new)
    if paired is not None:
        silent = ~np.isfinite(within.p_value)
        within = Columns(*(np.where(silent, p, w) for p, w in zip(paired, within, strict=True)))
    means = [np.mean([run.mean for run in side], axis=0) for side in (base, new)]
    is_one_each = len(base) == len(new) == 1 and unit == "ns"
    columns = in_general(within, means[0], means[1]) if is_one_each else within
    general = _Answers.of(columns)
    in_runs = _Answers.of(within) if is_one_each else None
    values = np.rint(means) if unit == "ns" else np.array(means)
    return [
        _delta(values[:, place], general, in_runs, place, unit) for place in range(values.shape[1])
    ]


class _Answers(NamedTuple):
    """What a table says of each of its rows: intervals, p values for their number, what is sure."""

    columns: Columns
    p_adjusted: Array
    is_sure: Array

    @classmethod
    def of(cls, columns: Columns) -> _Answers:
        p_adjusted = adjusted(columns.p_value)
        agreed = agreeing(columns, p_adjusted)
        return cls(agreed, p_adjusted, is_sure(agreed, p_adjusted))


def _delta(
    values: Array, general: _Answers, in_runs: _Answers | None, place: int, unit: str
) -> Delta:
    """Return the change of one row."""
    base, new = (float(v) for v in values)
    plain = Delta(base=base, new=new, change=new - base, unit=unit)
    column = general.columns.at(place)
    if not np.isfinite(column.p_value):
        return plain
    least = -base if unit == "ns" else -math.inf  # nothing takes less than no time
    if in_runs is not None:
        within = in_runs.columns.at(place)
        low, high = (_rounded(v, unit) for v in (within.low, within.high))
        plain = dataclasses.replace(
            plain,
            low_in_runs=max(low, least),
            high_in_runs=high,
            p_in_runs=float(within.p_value),
            significant_in_runs=bool(in_runs.is_sure[place] and not low <= 0 <= high),
        )
    low, high = (_rounded(v, unit) for v in (column.low, column.high))
    return dataclasses.replace(
        plain,
        low=max(low, least),
        high=high,
        p_value=float(column.p_value),
        p_adjusted=float(general.p_adjusted[place]),
        detectable=_rounded(column.detectable, unit),
        significant=bool(general.is_sure[place] and not low <= 0 <= high),
    )


def _rounded(value: Array, unit: str) -> float:
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
