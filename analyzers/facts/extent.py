"""From the first to the last event that was recorded, whatever its table."""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.facts.facts import Facts
from collectors.schema import Array


def first_event_ns(facts: Facts) -> int:
    """Return the begin of the first event, which is zero on every timeline of the recording."""
    return min((int(values.min()) for values in _moments(facts, "start_ns")), default=0)


def last_event_ns(facts: Facts) -> int:
    """Return the end of the last event."""
    return max((int(values.max()) for values in _moments(facts, "end_ns")), default=0)


def _moments(facts: Facts, column: str) -> Iterator[Array]:
    """Yield the begins, or the ends, of everything that has a lane."""
    for frame in (facts.launches, facts.api, facts.ranges):
        if len(frame):
            yield frame[column].to_numpy()
    for table in ("os_calls", "operators"):
        if facts.trace.count(table):
            yield facts.trace.columns(table, [column])[column]
    for table in ("marks", "thread_switches", "gpu_metrics", "memory_events"):
        if facts.trace.count(table):
            yield facts.trace.columns(table, ["time_ns"])["time_ns"]
