"""One row per kernel: how often, how long, how it was launched, what limits its occupancy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from analyzers.facts.facts import COMMUNICATION, UNKNOWN, Facts
from analyzers.facts.occupancy import Shapes, first_of_each, launch_shapes
from analyzers.intervals import Array
from analyzers.losses.parallelism import WORDS, Parallelism, is_tiled, patterns

_OF_SHAPE = ("registers", "block_threads", "grid_blocks", "occupancy_pct", "limiter", "waves")
COLUMNS = (
    "name",
    "short_name",
    "count",
    "total_ns",
    "share",
    "min_ns",
    "median_ns",
    "max_ns",
    "queue_median_ns",
    *_OF_SHAPE,
    "unfilled_share",
    "unfilled_why",
    "device",
)


def kernel_table(facts: Facts) -> pd.DataFrame:
    """Return the kernels of the whole recording, the one with most time first.

    Returns:
        ``name``, ``short_name``, ``count`` (launches), ``total_ns``, ``share`` (of the summed
        time of all kernels, 0 to 1), ``min_ns``, ``median_ns``, ``max_ns``, ``queue_median_ns``
        (launch call returned until the kernel began, of the launches whose call is known), then
        the launch configuration in which the kernel spent most time: ``registers`` (per
        thread), ``block_threads``, ``grid_blocks``, ``occupancy_pct`` (theoretical),
        ``limiter``, ``waves``; ``unfilled_share``: the part of its time that launches which fill
        the GPU could win back at most, computed from that configuration, and ``unfilled_why``,
        empty when nothing; last ``device`` (key). Integers, the occupancy and waves are -1 where
        the recording is silent; ``device`` is -1 for a kernel that ran on several.
    """
    shapes = launch_shapes(facts)
    if not len(shapes.rows):
        return pd.DataFrame({c: [] for c in COLUMNS})
    code, names = pd.factorize(facts.launches["name_id"].to_numpy()[shapes.rows])
    duration = facts.duration_ns[shapes.rows]
    times = _grouped(duration, code)
    total = times.sums
    table = pd.DataFrame(
        {
            "name": facts.trace.names(names),
            "short_name": _short_names(facts, code, len(names)),
            "count": np.bincount(code, minlength=len(names)),
            "total_ns": total,
            "share": total / max(int(total.sum()), 1),
            "min_ns": times.ordered[times.start],
            "median_ns": times.medians,
            "max_ns": times.ordered[times.end - 1],
            "queue_median_ns": _queue_medians(facts, shapes, code, len(names)),
        }
    )
    main = _main_shapes(shapes, code, duration, len(names))
    described = shapes.table[list(_OF_SHAPE)].iloc[main].reset_index(drop=True)
    pattern, wasted = _unfilled(facts, shapes, main, names, code)
    table = table.join(described).assign(
        unfilled_share=wasted,
        unfilled_why=np.array(WORDS, dtype=object)[pattern],
        device=_devices(facts, shapes, code, len(names)),
    )
    return table.sort_values(
        ["total_ns", "name"], ascending=[False, True], kind="stable", ignore_index=True
    )


def _unfilled(
    facts: Facts, shapes: Shapes, main: Array, names: Array, code: Array
) -> tuple[Array, Array]:
    """Return each kernel's pattern and the share of its time that it wastes, as the rules judge.

    Collectives fill a GPU on purpose little, and so do kernels that keep tiles in registers.
    """
    pattern, wasted = (values[main] for values in patterns(shapes.table, facts))
    kind = facts.launches["kind"].to_numpy()[shapes.rows][first_of_each(code, len(names))]
    meant = (pattern == Parallelism.LOW_OCCUPANCY) & is_tiled(facts.trace.names(names))
    none = meant | (kind == COMMUNICATION)
    return np.where(none, Parallelism.ENOUGH, pattern), np.where(none, 0.0, np.clip(wasted, 0, 1))


class _Grouped(NamedTuple):
    """Values sorted by group, then by size; no group is empty."""

    ordered: Array
    start: Array
    end: Array

    @property
    def sums(self) -> Array:
        """Exact sum of each group."""
        sums: Array = np.add.reduceat(self.ordered, self.start)
        return sums

    @property
    def medians(self) -> Array:
        """Middle value of each group, rounded down between two."""
        size = self.end - self.start
        below, above = self.start + (size - 1) // 2, self.start + size // 2
        middles: Array = (self.ordered[below] + self.ordered[above]) // 2
        return middles


def _grouped(values: Array, code: Array) -> _Grouped:
    """Sort ``values`` within the groups that ``code`` numbers from 0."""
    end = np.cumsum(np.bincount(code))
    start = np.concatenate(([0], end[:-1]))
    span = int(values.max()) + 1
    if span < np.iinfo(np.int64).max // len(end):
        # Group and value in one number: sorting it is several times faster than sorting places.
        ordered = np.sort(code * np.int64(span) + values)
        ordered -= np.repeat(np.arange(len(end)) * span, end - start)
    else:
        ordered = values[np.lexsort((values, code))]
    return _Grouped(ordered, start, end)


def _queue_medians(facts: Facts, shapes: Shapes, code: Array, size: int) -> Array:
    queue = facts.queue_ns[shapes.rows]
    has_call = queue >= 0
    result = np.full(size, UNKNOWN, np.int64)
    if has_call.any():
        group, present = pd.factorize(code[has_call])
        result[present] = _grouped(queue[has_call], group).medians
    return result


def _short_names(facts: Facts, code: Array, size: int) -> Array:
    ids = facts.of_table("kernels", ["short_name_id"])["short_name_id"].to_numpy()
    return facts.trace.names(ids[first_of_each(code, size)])


def _main_shapes(shapes: Shapes, code: Array, duration: Array, size: int) -> Array:
    """Return, for each kernel, the row in ``shapes.table`` in which it spent most time."""
    pair, pairs = pd.factorize(code.astype(np.int64) * len(shapes.table) + shapes.code)
    time = _grouped(duration, pair).sums
    kernel, shape = np.divmod(pairs, len(shapes.table))
    order = np.lexsort((shape, time))
    main = np.empty(size, np.int64)
    main[kernel[order]] = shape[order]
    return main


def _devices(facts: Facts, shapes: Shapes, code: Array, size: int) -> Array:
    device = facts.launches["device"].to_numpy()[shapes.rows]
    first = device[first_of_each(code, size)]
    several = np.zeros(size, dtype=bool)
    several[code[device != first[code]]] = True
    return np.where(several, UNKNOWN, first)
