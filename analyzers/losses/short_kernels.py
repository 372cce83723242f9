"""Kernels that run hardly longer than one that does nothing, one right after the other.

A GPU takes a while to start a kernel, fill its multiprocessors and write back what it wrote,
whatever the kernel does. Where several such kernels follow each other, as in the decoding step of a
language model, one kernel in their place would take hardly longer than one of them. Shapes are not
needed to see it, so that it also tells about replays of CUDA graphs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import KERNEL, Facts
from analyzers.facts.streams import stream_codes
from analyzers.intervals import Array
from analyzers.ledger.booking import DEVICE_GAP_MAX_NS
from analyzers.ledger.ledger import Ledger
from analyzers.losses.busy_calls import BusyCalls
from analyzers.losses.kernel_memory import is_notable
from analyzers.recorder import recorder_of
from analyzers.work.account import ledger_work
from analyzers.work.classes import CODES, WorkClass

SHORTEST_SHARE = 0.01  # of the kernels, which are as short as kernels get there
# What a kernel takes that does next to nothing: 1.3 to 2 µs in recordings of V100, A100 and H100,
# 4.3 to 4.5 µs in those of MI300X. Where all kernels take longer, none is short.
MOST_NS = {"CUDA": 2_000, "HIP": 4_500}
SHORT = 1.75  # times the shortest
_IN_STAGES = (WorkClass.SORT, WorkClass.COLLECTIVE, WorkClass.GRAPH)
"""Classes whose kernels need the whole result of the one before."""
LEAST_KERNELS = 50  # in a window that tells how short kernels are
MOST_OF_RANGE = 0.75  # of the most that runs may lose: the middle of their range is no more
LEAST_SHARE = 0.1  # of the kernel time, from which on anybody looks closer


def short_limit_ns(facts: Facts, ledger: Ledger) -> float:
    """Return up to which length a kernel of the window is short; 0 where nothing tells."""
    rows = facts.inside(*ledger.window.span)
    rows = rows[facts.launches["kind"].to_numpy()[rows] == KERNEL]
    most_ns = MOST_NS.get(recorder_of(facts.trace).api, 0)
    if len(rows) < LEAST_KERNELS or not most_ns:
        return 0.0
    shortest = float(np.quantile(facts.duration_ns[rows], SHORTEST_SHARE))
    return SHORT * min(shortest, most_ns)


def has_many_short_kernels(facts: Facts, ledger: Ledger) -> bool:
    """Tell whether short kernels that follow each other take enough time to look closer.

    This is cheap, also for millions of kernels; which of their time is free, is found out after.
    """
    limit_ns = short_limit_ns(facts, ledger)
    frame = ledger_work(facts, ledger).launches
    call, busy = frame["call"].to_numpy(), frame["busy_ns"].to_numpy()
    launch = frame["launch"].to_numpy()
    chosen = (busy <= limit_ns) & (busy == facts.duration_ns[launch])
    if busy[chosen].sum() < LEAST_SHARE * max(ledger.kernel_ns, 1):
        return False
    of_call = np.bincount(np.maximum(call, 0), call >= 0)
    chosen &= (call < 0) | (of_call[np.maximum(call, 0)] == 1)
    chosen &= ~np.isin(frame["class_code"].to_numpy(), [CODES[one] for one in _IN_STAGES])
    stream = stream_codes(facts.launches)[launch]
    order = np.argsort(stream, kind="stable")  # by begin within each
    rows = order[chosen[order]]
    place = np.flatnonzero(chosen[order])
    run = _runs(facts, launch[rows], place, stream[rows])
    if not len(run):
        return False
    longest = np.zeros(int(run[-1]) + 1, np.int64)
    np.maximum.at(longest, run, busy[rows])
    most_ns = int(busy[rows].sum() - longest.sum())
    return is_notable(ledger, int(MOST_OF_RANGE * most_ns))


def short_kernels(calls: BusyCalls) -> pd.DataFrame:
    """Return what short kernels lose that follow each other without a pause.

    Returns:
        Columns of ``analyzers.losses.kernel_work.WorkLoss.nodes``, and ``run`` (its number); the
        longest of a run, which stays, loses nothing.
    """
    limit_ns = short_limit_ns(calls.facts, calls.ledger)
    nodes, launch = calls.nodes, calls.launches["launch"].to_numpy()
    one = np.bincount(calls.launches["node"], minlength=len(nodes)) == 1
    first = launch[nodes["first"].to_numpy()]
    busy, free = nodes["busy_ns"].to_numpy(), nodes["free_ns"].to_numpy()
    chosen = one & (busy <= limit_ns) & (busy > 0) & (free == busy)
    rows = np.flatnonzero(chosen & ~calls.of_class(*_IN_STAGES))
    run = _runs(calls.facts, first[rows], rows, calls.stream[rows])
    size = np.bincount(run) if len(run) else np.empty(0, np.int64)
    order = np.lexsort((-busy[rows], run))
    rank = np.empty(len(rows), np.int64)  # in its run, the longest first
    rank[order] = np.arange(len(rows)) - (np.cumsum(size) - size)[run[order]]
    chosen = size[run] > 1
    rows, run, rank = rows[chosen], run[chosen], rank[chosen]
    # The shortest of a run: at least every second one joins the one before, and two are no run.
    is_surely_less = rank >= size[run] - (size[run] - 1) // 2
    return pd.DataFrame(
        {
            "node": rows,
            "low_ns": np.where(is_surely_less, free[rows], 0).astype(np.int64),
            "high_ns": np.where(rank > 0, free[rows], 0).astype(np.int64),
            "run": run,
            "is_absorbed": rank > 0,
        }
    )


def _runs(facts: Facts, launch: Array, place: Array, stream: Array) -> Array:
    """Number the runs of launches that are neighbours on a stream with hardly a pause between.

    Args:
        facts: The recording.
        launch: Rows of ``Facts.launches``, by stream and begin.
        place: Place of each among all that ran on the streams.
        stream: Stream of each.
    """
    start, end = (facts.launches[name].to_numpy()[launch] for name in ("start_ns", "end_ns"))
    joined = np.zeros(len(launch), dtype=bool)
    joined[1:] = (place[1:] == place[:-1] + 1) & (stream[1:] == stream[:-1])
    joined[1:] &= start[1:] - end[:-1] < DEVICE_GAP_MAX_NS
    number: Array = np.cumsum(~joined) - 1
    return number
