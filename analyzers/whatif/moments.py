"""The unchanged replay of a recording: does the dependency graph reproduce the measured time?"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import KERNEL, Facts
from analyzers.facts.spans import Window
from analyzers.intervals import Array, clip, union
from analyzers.whatif.graph import Graph
from analyzers.whatif.tables import Operations, ReplayedTimes


class Moments:
    """Where a moment of the recording lies in a replay.

    A moment belongs to what ended last before it: an operation, or a call of a thread that
    submits work. It never comes before all operations have ended that had ended then, so that a
    host that runs ahead does not leave the device's work out of the window.
    """

    def __init__(self, graph: Graph, window: Window) -> None:
        self.graph = graph
        self.window = window
        operations = graph.operations
        # Nothing ends where the first operation begins, so that moment is a case of its own.
        self.whole = window.start_ns == graph.origin_ns + int(operations.start.min())
        since, until = window.start_ns - graph.origin_ns, window.end_ns - graph.origin_ns
        self._low, self._high = self._anchor(since), self._anchor(until)
        self._done = operations.stop <= since, operations.stop <= until
        inside = (operations.start >= since) & (operations.stop <= until)
        self._kernels = np.flatnonzero(inside & (operations.kind == KERNEL))

    def _anchor(self, moment: int) -> tuple[int, int, int]:
        """Return an operation or -1, a call or -1, and the time from its end to ``moment``."""
        calls, stop = self.graph.calls, self.graph.operations.stop
        ended_operations = np.flatnonzero(stop <= moment)
        ended_calls = np.flatnonzero((calls.end <= moment) & (calls.thread >= 0))
        operation = call = last_stop = last_end = -1
        if len(ended_operations):
            operation = int(ended_operations[np.argmax(stop[ended_operations])])
            last_stop = int(stop[operation])
        if len(ended_calls):
            call = int(ended_calls[np.argmax(calls.end[ended_calls])])
            last_end = int(calls.end[call])
        if operation >= 0 and last_stop >= last_end:
            return operation, -1, moment - last_stop
        return -1, call, moment - max(last_end, 0)

    def span(self, times: ReplayedTimes) -> tuple[int, int]:
        """Return begin and end of the window in a replay."""
        end, start, stop = times.end, times.start, times.stop
        measured = self.graph.operations.stop
        ends = []
        for (operation, call, lag), done in zip((self._low, self._high), self._done, strict=True):
            base = stop[operation] if operation >= 0 else end[call] if call >= 0 else 0
            ends.append(max(int(base) + lag, int(stop[done].max(initial=0))))
        if self.whole:
            ends[0] = int(start.min())
        until = self.window.end_ns - self.graph.origin_ns
        if self.whole or until >= int(measured.max()):
            inside = measured <= until
            ends[1] = max(ends[1], int(stop[inside].max(initial=0)))
        if self.whole and until >= int(measured.max()):
            ends[1] = int(stop.max())
        return ends[0], max(ends[1], ends[0] + self._busiest(start, stop))

    def _busiest(self, start: Array, stop: Array) -> int:
        """Return how long the window's kernels take at least: those of a stream never overlap."""
        if not len(self._kernels):
            return 0
        kernels, operations = self._kernels, self.graph.operations
        # One that is held by another operation begins early in the replay, and is no longer.
        lengths = np.minimum((stop - start)[kernels], operations.duration[kernels])
        return int(np.bincount(operations.lane[kernels], lengths).max())


def busy_ns(device: Array, start: Array, stop: Array, span: tuple[int, int]) -> list[int]:
    """Return how long anything ran on each device within ``span``."""
    result = []
    for key in range(int(device.max(initial=-1)) + 1):
        on_device = device == key
        result.append(clip(union(start[on_device], stop[on_device]), *span).total)
    return result


def device_of(facts: Facts, operations: Operations) -> Array:
    """Return the device key of each operation."""
    keys: Array = facts.launches["device"].to_numpy()[operations.row].astype(np.int64)
    return keys
