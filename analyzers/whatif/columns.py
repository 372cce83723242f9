"""Helpers on whole columns that several stages of building a graph need."""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.intervals import Array
from analyzers.whatif.tables import NONE, Operations

LOOK_BACK = 8  # operations that ended earlier still, when the latest was submitted too late


def previous_of(key: Array) -> Array:
    """Return the place of the last one before with the same key, -1 for none."""
    order = np.argsort(key, kind="stable")
    same = np.concatenate(([False], key[order][1:] == key[order][:-1]))
    result = np.full(len(key), NONE, np.int64)
    result[order[1:]] = np.where(same[1:], order[:-1], NONE)
    return result


def places_of(order: Array) -> Array:
    """Return where each row stands in an order: the inverse of the permutation."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def with_values(column: Array, rows: Array, values: Array | int) -> Array:
    """Return a copy of the column with other values in these rows."""
    result = column.copy()
    result[rows] = values
    return result


def functions_with(facts: Facts, part: str) -> Array:
    """Return which of the recording's functions have ``part`` in their name."""
    return np.array([part in str(name) for name in facts.functions], dtype=bool)


def process_of(facts: Facts, api_row: Array) -> Array:
    """Return the place in ``facts.process_keys`` of the process of each call."""
    of_thread = np.full(len(facts.thread_keys), NONE, np.int64)
    seen = facts.thread_index >= 0
    of_thread[facts.thread_index[seen]] = facts.launches["process_index"].to_numpy()[seen]
    process: Array = of_thread[facts.api["thread_index"].to_numpy()[api_row]]
    return process


def latest_ended(candidates: Array, operations: Operations, moment: Array, call: Array) -> Array:
    """Return which operation ended last before each moment and was submitted before a call.

    Args:
        candidates: Places of the operations that are considered.
        operations: All operations.
        moment: A moment each.
        call: The call before which the operation was submitted, one for each moment.

    Returns:
        Places of operations, -1 where none fits.
    """
    by_stop = candidates[np.argsort(operations.stop[candidates], kind="stable")]
    place = np.searchsorted(operations.stop[by_stop], moment, side="right") - 1
    latest = np.full(len(moment), NONE, np.int64)
    for back in range(LOOK_BACK):
        at = place - back
        candidate = by_stop[np.maximum(at, 0)]
        fits = (latest < 0) & (at >= 0) & (operations.call[candidate] < call)
        latest[fits] = candidate[fits]
    return latest
