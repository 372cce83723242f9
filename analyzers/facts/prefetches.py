"""Moves of unified memory that the program asked for, joined to the call that asked."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.intervals import Array
from collectors.schema import MANAGED_COPIES, MigrationCause
from collectors.trace import Trace


def calls_of_prefetches(
    copies: pd.DataFrame, trace: Trace, api: pd.DataFrame, asks: Array, process: Array
) -> Array:
    """Return ``api_row`` of copies, with prefetches of unified memory joined to their calls.

    They carry no correlation id. The latest call of the process before a move began is taken: one
    call makes a move for each 2 MiB, and those of several calls follow each other on one engine.

    Args:
        copies: Those rows of ``Facts.launches``.
        trace: The recording.
        api: As in ``Facts``.
        asks: For each row of ``api``, whether it prefetches.
        process: For each thread, the place in ``Facts.process_keys`` of its process.
    """
    api_row: Array = copies["api_row"].to_numpy().copy()
    calls = np.flatnonzero(asks)
    if not len(calls):
        return api_row
    recorded = trace.columns("copies", ["kind", "migration_cause"])
    marked = np.isin(recorded["kind"], MANAGED_COPIES)
    marked &= recorded["migration_cause"] == MigrationCause.USER_PREFETCH
    open_ones = marked[copies["source_row"].to_numpy()] & (api_row < 0)
    start = copies["start_ns"].to_numpy()
    begin = api["start_ns"].to_numpy()[calls]
    calls, begin = calls[np.argsort(begin, kind="stable")], np.sort(begin)
    of_call = process[api["thread_index"].to_numpy()[calls]]
    for place in np.unique(of_call):
        own = of_call == place
        rows = np.flatnonzero(open_ones & (copies["process_index"].to_numpy() == place))
        before = np.searchsorted(begin[own], start[rows], side="right") - 1
        api_row[rows[before >= 0]] = calls[own][before[before >= 0]]
    return api_row
