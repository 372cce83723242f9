"""Operations of a device whose recorded times cannot be true: left out or cut, and counted.

One such row decides everything otherwise. A kernel that seems to run for an hour makes a capture
of a second look busy for an hour; one that begins 900 ms before its launch makes the GPU look idle
for as long. What cannot have happened is found by three bounds:

* no operation begins before the call that submitted it does. Clocks of host and device are
  matched to microseconds, so a millisecond is no matter of clocks;
* operations of one stream run one after the other, so an operation that seems to end after its
  successor does ended, at the latest, when that successor began. Nodes of CUDA graphs share the
  number of the stream and are left alone, and so are overlaps of less than a millisecond, which
  programmatic dependent launches have;
* nothing is recorded long after everything else has ended.

In recordings of real programs none of the three was met.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.streams import stream_codes
from analyzers.intervals import Array

CLOCK_MATCH_NS = 1_000_000
FAR_NS = 60_000_000_000
FAR_FACTOR = 100  # times the length of everything else
SCALE_ROWS = 100_000  # this many operations tell what everything else is
OTHER_CLOCK_SHARE = 0.25  # of operations that begin too early: then it is the clocks


@dataclass(frozen=True, kw_only=True)
class Impossible:
    """Operations whose times could not be used as they were recorded.

    Attributes:
        early: How many begin before their call, and are left out.
        early_ns: How much too early the worst of them is.
        cut: How many seem to outlive their successors, and are cut where the next one begins.
        cut_ns: How much was cut from all of them.
        far: How many lie far from everything else, and are left out.
        usual_ns: How long those that were left out would have run, by other launches of the same
            kernel.
        recorded: Operations in the recording.
    """

    early: int = 0
    early_ns: int = 0
    cut: int = 0
    cut_ns: int = 0
    far: int = 0
    usual_ns: int = 0
    recorded: int = 0

    @property
    def left_out(self) -> int:
        """Operations that are not among the launches."""
        return self.early + self.far


NOTHING_IMPOSSIBLE = Impossible()


def without_impossible(
    launches: pd.DataFrame, api: pd.DataFrame, submits_graph: Array
) -> tuple[pd.DataFrame, Impossible]:
    """Return the launches whose times can be true, by begin, and what was found odd.

    Args:
        launches: As ``Facts.launches``, by begin.
        api: As ``Facts.api``.
        submits_graph: Whether each row of ``api`` launches a graph of operations.
    """
    if not len(launches):
        return launches, Impossible()
    start, end = launches["start_ns"].to_numpy(), launches["end_ns"].to_numpy()
    api_row = launches["api_row"].to_numpy()
    early_ns = np.zeros(len(launches), np.int64)
    if len(api):
        called = api["start_ns"].to_numpy()[np.maximum(api_row, 0)]
        early_ns = np.where(api_row >= 0, called - start, 0)
    early = early_ns > CLOCK_MATCH_NS
    if np.count_nonzero(early) > OTHER_CLOCK_SHARE * len(launches):
        early[:] = False  # a note about clocks says so
    far = _far(start, end, early, api)
    out = early | far
    kept = np.flatnonzero(~out)
    graph = np.zeros(len(launches), dtype=bool)
    if len(api):
        graph = (api_row < 0) | submits_graph[np.maximum(api_row, 0)]
    latest = _latest_ends(launches, kept, graph)
    cut = latest < end[kept]
    cut_ns = int((end[kept] - latest)[cut].sum())
    if not out.any() and not cut.any():
        return launches, Impossible(recorded=len(launches))
    new_end = end.copy()
    new_end[kept] = latest
    possible = launches.assign(end_ns=new_end).iloc[kept].reset_index(drop=True)
    return possible, Impossible(
        early=int(np.count_nonzero(early)),
        early_ns=int(early_ns[early].max(initial=0)),
        cut=int(np.count_nonzero(cut)),
        cut_ns=cut_ns,
        far=int(np.count_nonzero(far)),
        usual_ns=_usual_ns(launches, new_end, out),
        recorded=len(launches),
    )


def _far(start: Array, end: Array, early: Array, api: pd.DataFrame) -> Array:
    """Return which operations end or begin far from everything else that was recorded."""
    call_start, call_end = api["start_ns"].to_numpy(), api["end_ns"].to_numpy()
    usual = np.flatnonzero(~early & (end - start < FAR_NS))
    if not len(usual) + len(call_start):
        return np.zeros(len(start), dtype=bool)
    # A few strays must not hide each other: the middle of what is known sets the scale. Each is
    # sorted by begin, so that every n-th stands for the others.
    step, call_step = (1 + n // SCALE_ROWS for n in (len(usual), len(call_start)))
    few = usual[::step]
    moments = np.concatenate((start[few], end[few], call_start[::call_step], call_end[::call_step]))
    low, high = (int(v) for v in np.quantile(moments, (0.05, 0.95), method="nearest"))
    reach = max(FAR_NS, FAR_FACTOR * (high - low))
    far: Array = (start < low - reach) | (end > high + reach)
    calls_reach = (int(call_start.min()), int(call_end.max())) if len(call_start) else (high, low)
    # A call that lasts as long vouches for it: the host waited for this operation.
    far &= ~((start >= calls_reach[0]) & (end <= calls_reach[1]))
    return far & ~early


def _latest_ends(launches: pd.DataFrame, rows: Array, graph: Array) -> Array:
    """Return the end of each of ``rows``, or the begin of its successor where it ends far later."""
    start = launches["start_ns"].to_numpy()[rows]
    end = launches["end_ns"].to_numpy()[rows]
    stream = stream_codes(launches)[rows]
    order = np.argsort(stream, kind="stable")  # by begin within each
    follows = np.append(stream[order][1:] == stream[order][:-1], False)
    after = np.append(order[1:], order[-1:]) if len(order) else order
    outlives = follows & (end[order] > end[after]) & (end[order] - start[after] > CLOCK_MATCH_NS)
    outlives &= ~graph[rows][order] & ~graph[rows][after] & (start[after] > start[order])
    latest = end.copy()
    latest[order[outlives]] = start[after[outlives]]
    return latest


def _usual_ns(launches: pd.DataFrame, end: Array, out: Array) -> int:
    """Return how long operations that were left out would take, as others of their name do."""
    if not out.any():
        return 0
    length = pd.Series(end - launches["start_ns"].to_numpy())
    key = (
        pd.Series(launches["kind"].to_numpy().astype(np.int64) * (1 << 40))
        + launches["name_id"].to_numpy()
    )
    kept = length[~out]
    if not len(kept):
        return int(length[out].clip(upper=FAR_NS).sum())
    usual = kept.groupby(key[~out]).median()
    return int(key[out].map(usual).fillna(kept.median()).sum())
