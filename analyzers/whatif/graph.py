"""A recording as a dependency graph: what each call and each GPU operation had to wait for.

Lengths of host work, of calls and of operations are taken from the recording. Moments are not:
how long an operation takes to reach an idle device, the device's pause between two operations and
the host's wake-up after a wait are one typical figure each, so that the replay's error is a test
of the graph. What a recording does not say is inferred: which event a stream waited for (from the
operation that ended just before), and which operation an event wait was for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analyzers.ledger.booking import DEVICE_GAP_MAX_NS
from analyzers.whatif.tables import (
    NONE,
    CallCosts,
    Calls,
    Dependencies,
    Operations,
    Pauses,
    ResourceCounts,
    WaitTargets,
)
from analyzers.whatif.typical import TypicalTimes

UNKNOWN_TIMES = 3.0  # a device's pause that is not recorded may be so many times shorter or longer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """Calls in the order in which they were made, and the operations that each submitted.

    Attributes:
        origin_ns: First moment, in the recording's own time; all others count from it.
        calls: The calls, as recorded.
        pauses: What the host does before each of them.
        costs: What each takes by itself.
        targets: What each waits for.
        operations: What the GPU did.
        dependencies: What each operation waits for.
        counts: How many threads, streams, devices and engines there are.
        typical: The machine's own pauses.
        takes_turns: Whether the threads of each process worked in turns, so that each surely
            waited for the one before, as backward passes do for forward ones.
    """

    origin_ns: int
    calls: Calls
    pauses: Pauses
    costs: CallCosts
    targets: WaitTargets
    operations: Operations
    dependencies: Dependencies
    counts: ResourceCounts
    typical: TypicalTimes
    takes_turns: bool

    @property
    def has_threads(self) -> bool:
        """Whether one thread may have handed over to another, or not."""
        return not self.takes_turns and bool((self.pauses.handover >= 0).any())

    def without_handovers(self) -> Graph:
        """Return the graph in which no thread hands over to another."""
        handover = np.full_like(self.pauses.handover, NONE)
        return replace(self, pauses=replace(self.pauses, handover=handover))

    def varied(self, times: float) -> Graph:
        """Return the graph with the machine's own pauses so many times as long.

        A pause that is unknown may differ more.
        """
        latency = round(abs(self.typical.latency_ns) * (times - 1))
        is_known = self.typical.gap_is_known
        gap = times if is_known else UNKNOWN_TIMES if times > 1 else 1 / UNKNOWN_TIMES
        costs, lag = self.costs, self.dependencies.lane_lag
        lead = np.where(self.calls.thread >= 0, np.maximum(costs.lead + latency, 0), costs.lead)
        tail = np.rint(costs.tail * times).astype(np.int64)
        longest = max(DEVICE_GAP_MAX_NS, round(float(self.typical.gap.max())))
        is_gap = (lag > 0) & (lag <= longest)
        lane_lag = np.where(is_gap, np.rint(lag * gap).astype(np.int64), lag)
        return replace(
            self,
            costs=replace(costs, lead=lead, tail=tail),
            dependencies=replace(self.dependencies, lane_lag=lane_lag),
        )
