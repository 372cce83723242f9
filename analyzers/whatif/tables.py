"""The tables that a dependency graph is made of: calls, operations, and what each waits for.

A call is a place in the tables of calls, an operation a place in those of operations; both count
from 0. All times are ns after the graph's origin. A table is never changed: a what-if replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

from analyzers.intervals import Array

# What a call waits for; beside it stands which one.
NOTHING = 0
LANE = 1  # everything on a stream
GROUP = 2  # everything on a device that the process uses
OP_END = 3  # one operation
OP_START = 4  # that one operation has begun
OWN_END = 5  # the call's own operation
OWN_START = 6  # that the call's own operation has begun

NONE = -1  # no call, no operation, no stream …
LONG_AGO_NS = -(1 << 60)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calls:
    """API calls in the order in which they were made, as recorded.

    An operation whose call is unknown has an entry of its own, on no thread.

    Attributes:
        thread: Number of the thread, from 0; -1 for what stands for an operation without a call.
        begin: Measured begin.
        end: Measured end.
        api_row: Row in ``Facts.api``, else -1.
        kind: ``Call``.
        first_operation: First operation of each call; one entry more than there are calls.
    """

    thread: Array
    begin: Array
    end: Array
    api_row: Array
    kind: Array
    first_operation: Array

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def length(self) -> Array:
        """Measured length of each call."""
        length: Array = self.end - self.begin
        return length

    @property
    def has_operation(self) -> Array:
        """Whether each call submitted an operation."""
        has: Array = self.first_operation[1:] > self.first_operation[:-1]
        return has


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pauses:
    """What the host does before each call.

    Attributes:
        gap: Host time since the thread's previous call ended.
        outside: Part of ``gap`` in which the thread submitted nothing and was not dispatching.
        handover: Call of another thread that handed over to this one, else -1.
        handover_lag: Time since that call ended.
    """

    gap: Array
    outside: Array
    handover: Array
    handover_lag: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallCosts:
    """What each call takes, apart from waiting.

    Attributes:
        own: Time in the call that is spent whatever it waits for.
        lead: From the begin of ``own`` until the device sees what was submitted.
        tail: From the end of what was waited for to the end of the call.
    """

    own: Array
    lead: Array
    tail: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WaitTargets:
    """What each call waits for.

    Attributes:
        before: What it waits for before its own work, as numbered above.
        before_place: Which stream, device or operation that is, else -1.
        after: What it waits for after its own work.
        after_place: Which one, else -1.
        blocked: Whether what it waited for was measured to end after the call began.
    """

    before: Array
    before_place: Array
    after: Array
    after_place: Array
    blocked: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operations:
    """What the GPU did, in the order in which it was submitted.

    Attributes:
        row: Row in ``Facts.launches``.
        kind: Its kind, as ``analyzers.facts.facts`` numbers them.
        call: The call that submitted it.
        lane: Number of its stream, from 0.
        group: Number of its process and device, from 0.
        engine: Copy engine that it needs alone, else -1.
        direction: Number of a copy's device and direction, else -1.
        start: Measured begin.
        stop: Measured end.
        duration: How long it takes; as measured, unless a what-if changes it.
        linked: Whether its call is known.
    """

    row: Array
    kind: Array
    call: Array
    lane: Array
    group: Array
    engine: Array
    direction: Array
    start: Array
    stop: Array
    duration: Array
    linked: Array

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dependencies:
    """What each operation waits for, beside the call that submits it.

    Attributes:
        lane_lag: Least pause after the previous operation of its stream; below 0 they overlap.
        source: Another operation that it waits for, else -1.
        source_lag: Least pause after that.
        further_source: One more operation that it waits for, else -1.
    """

    lane_lag: Array
    source: Array
    source_lag: Array
    further_source: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceCounts:
    """For how many threads, streams, devices and copy engines a replay keeps the time; 1 at least.

    Attributes:
        threads: Threads.
        lanes: Streams.
        groups: Devices, counted for each process.
        engines: Copy engines.
    """

    threads: int
    lanes: int
    groups: int
    engines: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReplayedTimes:
    """When everything happens in a replay.

    Attributes:
        begin: Begin of each call.
        end: End of each call.
        start: Begin of each operation.
        stop: End of each operation.
    """

    begin: Array
    end: Array
    start: Array
    stop: Array


Table = TypeVar("Table", Operations, Dependencies)


def in_order(table: Table, order: Array) -> Table:
    """Return the table with its rows in another order.

    Args:
        table: The rows.
        order: Which row stands at each place.
    """
    columns = {column.name: getattr(table, column.name)[order] for column in fields(table)}
    return replace(table, **columns)
