"""How long a step would take with other durations: operations replayed without launch delay.

Each rank carries out its operations in the order in which they began, one right after the other;
those that began at the same moment are one call (messages of both directions, batched). An
operation with peers begins to move data when the last of them is there. That is the model of
StragglerAnalysis (OSDI 2025): a step's time is when its last operation ends.
"""

from __future__ import annotations

import numpy as np

from analyzers.fleet.operations import JobOperations
from analyzers.intervals import Array


class StuckStepError(Exception):
    """Operations of a step wait for each other in a circle; the message names the step."""


class StepReplay:
    """The operations of one step, ready to be replayed with any durations.

    Attributes:
        rows: Places of its operations in the table of all.

    Args:
        operations: All operations.
        step: Number of the step.

    Raises:
        StuckStepError: Its operations wait for each other in a circle.
    """

    def __init__(self, operations: JobOperations, step: int) -> None:
        table = operations.table
        self.rows: Array = np.flatnonzero(table["step"].to_numpy() == step)
        rank, start = (table[name].to_numpy()[self.rows] for name in ("rank", "start_ns"))
        is_new = np.ones(len(rank), dtype=bool)
        is_new[1:] = (np.diff(rank) != 0) | (np.diff(start) != 0)
        call = np.cumsum(is_new) - 1
        rank_of_call = rank[is_new]
        is_first = np.ones(len(rank_of_call), dtype=bool)
        is_first[1:] = np.diff(rank_of_call) != 0
        self._previous = np.where(is_first, -1, np.arange(len(is_first)) - 1)
        self._first_operation = np.append(np.flatnonzero(is_new), len(rank))
        self._first_peer, self._peers = _peers(call, operations.group[self.rows])
        self._order = _order(self._previous, call, self._first_peer, self._peers, step)

    def durations_ns(self, operations_ns: Array) -> Array:
        """Return how long the step takes with each set of durations.

        Args:
            operations_ns: One column for each of ``rows``, one row a set.
        """
        from analyzers.fleet.compiled import replay

        lengths = np.empty(len(operations_ns))
        for place, durations in enumerate(operations_ns):
            begins, ends = np.zeros((2, len(self._previous)))
            replay(
                *(self._order, self._previous, self._first_operation),
                *(self._first_peer, self._peers, durations, begins, ends),
            )
            lengths[place] = ends.max()
        return lengths


def _peers(call: Array, group: Array) -> tuple[Array, Array]:
    """Return the calls that take part in each operation: where they begin in a list, and it."""
    _, first, counts = np.unique(group, return_inverse=True, return_counts=True)
    by_group = np.argsort(first, kind="stable")
    begins = np.concatenate(([0], np.cumsum(counts)))
    size = counts[first]
    first_peer = np.concatenate(([0], np.cumsum(size)))
    within = np.arange(first_peer[-1]) - np.repeat(first_peer[:-1], size)
    return first_peer, call[by_group[np.repeat(begins[first], size) + within]]


def _order(previous: Array, call: Array, first_peer: Array, peers: Array, step: int) -> Array:
    """Return the calls so that each comes after those before any that takes part in it.

    Raises:
        StuckStepError: There is no such order.
    """
    edges = np.column_stack((previous[peers], np.repeat(call, np.diff(first_peer))))
    edges = np.unique(edges[edges[:, 0] >= 0], axis=0)
    left = np.bincount(edges[:, 1], minlength=len(previous)).tolist()
    first = np.searchsorted(edges[:, 0], np.arange(len(previous) + 1)).tolist()
    after = edges[:, 1].tolist()
    order = [place for place, count in enumerate(left) if not count]
    for place in order:  # grows while it is walked
        for one in after[first[place] : first[place + 1]]:
            left[one] -= 1
            if not left[one]:
                order.append(one)
    if len(order) < len(previous):
        raise StuckStepError(f"step {step}: its operations wait for each other in a circle")
    return np.array(order, dtype=np.int64)
