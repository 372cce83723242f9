"""Work that is done again: activations of a forward pass; kernels that took longer this time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import COMMUNICATION, COPY, Facts
from analyzers.intervals import Array, Spans, covered, union
from analyzers.losses.busy_calls import BusyCalls
from analyzers.work.classes import WorkClass

MIN_REPEATS = 10  # fewer tell no usual time
SLOW = 1.5  # times the usual time; clocks and caches make less of a difference
# What these do depends on values, not only on shapes.
_DEPENDS_ON_VALUES = (
    *(WorkClass.GATHER, WorkClass.SORT, WorkClass.MOE, WorkClass.SPARSE, WorkClass.RANDOM),
    *(WorkClass.COLLECTIVE, WorkClass.GRAPH, WorkClass.OTHER),
)


def recomputed(calls: BusyCalls) -> pd.DataFrame:
    """Return forward operators that a backward pass calls again; at least, none need be saved."""
    nodes = calls.nodes
    rows = np.flatnonzero((nodes["is_recomputed"] & (nodes["free_ns"] > 0)).to_numpy())
    return pd.DataFrame(
        {
            "node": rows,
            "low_ns": np.zeros(len(rows), np.int64),
            "high_ns": nodes["free_ns"].to_numpy()[rows].astype(np.int64),
            "is_absorbed": np.ones(len(rows), dtype=bool),
        }
    )


def slow_repeats(calls: BusyCalls) -> pd.DataFrame:
    """Return calls that took much longer than the same kernels on the same shapes usually do.

    Returns:
        Columns of ``analyzers.losses.kernel_work.WorkLoss.nodes``; and ``usual_ns`` (median of its
        kind) and ``is_beside_others`` (a collective or a copy ran at the same time).
    """
    facts, nodes, launches = calls.facts, calls.nodes, calls.launches
    keys = calls.work.calls.keys
    launch = launches["launch"].to_numpy()[nodes["first"].to_numpy()]
    count = np.bincount(launches["node"], minlength=len(nodes))
    key = nodes["key"].to_numpy()
    has_shapes = np.append((keys["shapes"] != "").to_numpy(), False)  # the last: no key
    chosen = has_shapes[key] & (nodes["part"] > 1 - 1e-9).to_numpy()
    chosen &= ~calls.of_class(*_DEPENDS_ON_VALUES)
    rows = np.flatnonzero(chosen & (nodes["free_ns"] == nodes["busy_ns"]).to_numpy())
    kind = np.zeros(len(rows), np.int64)
    conversion = nodes["is_conversion"].to_numpy().astype(np.int64)
    name = facts.launches["name_id"].to_numpy()[launch]
    for column in (nodes["device"].to_numpy(), key, name, count, conversion):
        codes, values = pd.factorize(column[rows])
        kind = pd.factorize(kind * max(len(values), 1) + codes)[0]
    busy = nodes["busy_ns"].to_numpy()[rows]
    usual, repeats = _medians(kind, busy)
    over = busy - usual
    slow = (repeats >= MIN_REPEATS) & (busy > SLOW * usual)
    rows, usual, over = rows[slow], usual[slow], over[slow]
    return pd.DataFrame(
        {
            "node": rows,
            "low_ns": (over / 2).astype(np.int64),
            "high_ns": over.astype(np.int64),
            "usual_ns": usual,
            "is_beside_others": _beside_others(facts, launch[rows]),
            "is_absorbed": np.zeros(len(rows), dtype=bool),
        }
    )


def _medians(group: Array, values: Array) -> tuple[Array, Array]:
    """Return, for each value, the median of its group, the upper of two, and how many it has."""
    order = np.lexsort((values, group))
    size = np.bincount(group)
    begin = np.cumsum(size) - size
    median = values[order[begin + size // 2]] if len(size) else values
    result: tuple[Array, Array] = (median[group], size[group])
    return result


def _beside_others(facts: Facts, launch: Array) -> Array:
    """Return which launches ran while a collective or a copy did on their device."""
    frame = facts.launches
    columns = ("kind", "device", "start_ns", "end_ns")
    kind, device, start, end = (frame[name].to_numpy() for name in columns)
    result = np.zeros(len(launch), dtype=bool)
    for key in np.unique(device[launch]):
        own = device[launch] == key
        others = np.isin(kind, (COMMUNICATION, COPY)) & (device == key)
        at = launch[own]
        result[own] = covered(Spans(start[at], end[at]), union(start[others], end[others])) > 0
    return result
