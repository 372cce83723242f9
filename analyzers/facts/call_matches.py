"""Which call submitted which operation: both carry the same id within a process."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.intervals import Array
from collectors.schema import NOT_RECORDED
from collectors.trace import Trace

NO_CALL = -1
MAX_TABLE_SPREAD = 8  # a look-up table of ids may have this many places for each id


def matching_calls(
    launches: pd.DataFrame, trace: Trace, process_of_thread: Array, thread: Array
) -> Array:
    """Return the row in ``api`` of the call that submitted each launch, -1 for none.

    When several calls of a process carry the same id, the first one recorded counts.

    Args:
        launches: As in ``Facts``, with ``correlation_id``.
        trace: The recording.
        process_of_thread: Place in ``process_keys`` of each thread that made calls.
        thread: Place in ``thread_keys`` of the thread of each call.
    """
    result = np.full(len(launches), NO_CALL, np.int32)
    if not len(thread):
        return result
    api_id = trace.columns("api_calls", ["correlation_id"])["correlation_id"]
    process_of_launch = launches["process_index"].to_numpy()
    launch_id = launches["correlation_id"].to_numpy()
    process = process_of_thread[thread] if len(np.unique(process_of_thread)) > 1 else None
    for place in np.unique(process_of_thread):
        of_process = np.flatnonzero(process_of_launch == place)
        if process is None:
            result[of_process] = _first_match(api_id, launch_id[of_process])
            continue
        rows = np.flatnonzero(process == place)
        match = _first_match(api_id[rows], launch_id[of_process])
        result[of_process] = np.where(match >= 0, rows[match], NO_CALL)
    return result


def _first_match(ids: Array, queries: Array) -> Array:
    """Return the place in ``ids`` of each wanted id, -1 for none or for an id not recorded."""
    if not len(ids):
        return np.full(len(queries), NO_CALL, np.int64)
    low, high = int(ids.min()), int(ids.max())
    if high - low < MAX_TABLE_SPREAD * len(ids):
        return _looked_up(ids, queries, low, high)
    order = None
    if np.any(ids[1:] < ids[:-1]):
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
    place = np.minimum(np.searchsorted(ids, queries, side="left"), len(ids) - 1)
    hit = (ids[place] == queries) & (queries != NOT_RECORDED)
    if order is not None:
        place = order[place]
    return np.where(hit, place, NO_CALL)


def _looked_up(ids: Array, queries: Array, low: int, high: int) -> Array:
    """Do the same for ids that are dense between ``low`` and ``high``, as those of CUDA are."""
    place_of = np.full(high - low + 1, NO_CALL, np.int32)
    place_of[(ids - low)[::-1]] = np.arange(len(ids) - 1, -1, -1, dtype=np.int32)  # first stays
    in_range = (queries >= low) & (queries <= high) & (queries != NOT_RECORDED)
    return np.where(in_range, place_of[np.where(in_range, queries - low, 0)], NO_CALL)
