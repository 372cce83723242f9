"""What a change is: the graph at best and at worst, in words, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analyzers.facts.facts import COPY, Facts
from analyzers.facts.spans import Window
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import NONE, Operations
from collectors.schema import CopyKind

SMALL_BYTES = 65_536  # a blocking read-back of so little moves a result, not data
CALL_NS = 2_000  # what an asynchronous call costs at worst that takes a blocking one's place
HOST_COPIES = (CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change and the two graphs between which the truth lies.

    Attributes:
        id: Its name.
        cause: ``Cause`` that it answers.
        title: In words, as the beginning of a sentence: "removing the 100 waits".
        count: How many calls or operations of the window it touches.
        best: The graph under the friendliest assumptions.
        worst: Under the least friendly ones.
        assumptions: A sentence each.
        also_worst: Further graphs, where it depends which of them is the least friendly one.
        overlaps: Whether it is about running side by side what did not. All other changes may,
            at worst, leave what a device does one after the other as it was.
    """

    id: str
    cause: Cause
    title: str
    count: int
    best: Graph
    worst: Graph
    assumptions: tuple[str, ...]
    also_worst: tuple[Graph, ...] = ()
    overlaps: bool = False


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Which calls and operations lie in the window; predictions count only those.

    Attributes:
        calls: Whether each call does.
        operations: Whether each operation does.
        window: The window.
        device_peaks: What the user says that the devices can do.
    """

    calls: Array
    operations: Array
    window: Window
    device_peaks: Mapping[str, float] = field(default_factory=dict)

    @property
    def length_ns(self) -> int:
        """Length of the window."""
        return self.window.duration_ns


Result = list[Change] | str
"""Changes, or the reason why nothing can be said."""


def copies_of(facts: Facts, operations: Operations, kinds: Sequence[int]) -> Array:
    """Return the places of the operations that copy in one of these directions."""
    copies = np.flatnonzero(operations.kind == COPY)
    if not len(copies):
        return copies
    kind = facts.of_table("copies", ["kind"])["kind"].loc[operations.row[copies]].to_numpy()
    chosen: Array = copies[np.isin(kind, kinds)]
    return chosen


def neighbours_of(lane: Array, moved: Array) -> tuple[Array, Array]:
    """Return the last and the next operation of the same stream that is not moved, -1 for none."""
    order = np.argsort(lane, kind="stable")
    stays = ~moved[order]
    place = np.arange(len(order))
    last = np.maximum.accumulate(np.where(stays, place, -1))
    upcoming = np.minimum.accumulate(np.where(stays, place, len(order))[::-1])[::-1]
    result = []
    for neighbour, valid in ((last, last >= 0), (upcoming, upcoming < len(order))):
        at = order[np.where(valid, neighbour, 0)]
        same = valid & (lane[at] == lane[order])
        column = np.full(len(order), NONE, np.int64)
        column[order] = np.where(same, at, NONE)
        result.append(column)
    return result[0], result[1]
