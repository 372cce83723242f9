"""The machine's own pauses: typical figures of a recording, for what no call or operation tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import GRAPH
from analyzers.intervals import Array
from analyzers.ledger.booking import DEVICE_GAP_MAX_NS
from analyzers.whatif.submissions import Submissions

LATENCY_NS = 2_000  # used where no operation met an idle device; launches take 2 to 10 µs
DEVICE_GAP_NS = 1_000  # used where no operation was queued behind another
LEAST = 4  # values from which a typical one is taken
WAKE_UP_NS = 5_000  # used where no wait blocked
MANY = 100  # pauses; fewer long ones may each have a reason of their own
MAX_LAG_NS = 50_000  # a longer latency or wake-up has a reason of its own


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TypicalTimes:
    """Typical figures of this recording, in ns.

    Attributes:
        latency: From a call's end to its operation on an idle device, for each kind of operation.
        gap: Pause between two operations of a stream, by the kind of the second one.
        gap_in_graph: Pause between two operations that one call submitted.
        gap_is_known: Whether operations of a stream were seen to follow each other at once; where
            the host is never ahead, nothing tells how long the device pauses between them.
    """

    latency: Array
    gap: Array
    gap_in_graph: float
    gap_is_known: bool

    @property
    def latency_ns(self) -> int:
        """Typical time from a call's end to its kernel on an idle device."""
        return int(self.latency[0])

    @property
    def device_gap_ns(self) -> int:
        """Typical pause between kernels of a stream."""
        return int(self.gap[0])


def typical_times(submissions: Submissions) -> TypicalTimes:
    """Return the typical figures of what was submitted."""
    calls, operations = submissions.calls, submissions.operations
    call, before = operations.call, submissions.previous_stop
    first, pause = submissions.is_first_of_call, submissions.pause
    returns = ~np.isin(calls.kind[call], (Call.COPY, Call.WAIT, Call.FREE)) & operations.linked
    idle = before + DEVICE_GAP_MAX_NS < calls.begin[call]
    latency = operations.start - calls.end[call]
    met_idle = first & returns & idle & (latency < MAX_LAG_NS)
    met_idle &= operations.start >= calls.begin[call]
    queued = calls.end[call] + MAX_LAG_NS // 10 <= before
    queued &= operations.linked & (pause >= 0) & (pause <= MAX_LAG_NS)
    queued &= pause <= (MAX_LAG_NS if _is_dispatched_late(pause[queued]) else DEVICE_GAP_MAX_NS)
    inner = ~first & (pause >= 0) & (pause <= DEVICE_GAP_MAX_NS) & operations.linked
    kinds = operations.kind
    return TypicalTimes(
        latency=_by_kind(latency, met_idle, kinds, LATENCY_NS),
        gap=_by_kind(pause, queued & first, kinds, DEVICE_GAP_NS),
        gap_in_graph=typical_mean(pause[inner], DEVICE_GAP_NS),
        gap_is_known=int(np.count_nonzero(queued & first)) >= LEAST,
    )


def _is_dispatched_late(pause: Array) -> bool:
    """Tell whether a device needs longer than usual for every launch, and always as long."""
    if len(pause) < MANY:
        return False
    low, middle, high = np.quantile(pause, (0.25, 0.5, 0.75))
    return bool(middle > DEVICE_GAP_MAX_NS and high - low < middle / 2)


def _by_kind(value: Array, chosen: Array, kind: Array, otherwise: float) -> Array:
    """Return the typical value for each kind of operation; that of all where a kind has too few."""
    every = typical_mean(value[chosen], otherwise)
    return np.array([typical_mean(value[chosen & (kind == k)], every) for k in range(GRAPH + 1)])


def typical_mean(values: Array, otherwise: float, least: int = LEAST) -> float:
    """Return the mean of most values: sums, not single values, have to come out right.

    Args:
        values: What was measured.
        otherwise: What is returned for fewer than ``least`` values.
        least: Values from which a mean is taken.
    """
    if len(values) < least:
        return otherwise
    low, high = np.quantile(values, (0.02, 0.98), method="nearest")
    return float(values[(values >= low) & (values <= high)].mean())
