"""The unchanged replay of a recording: does the dependency graph reproduce the measured time?"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import KERNEL, Facts
from analyzers.facts.spans import Window
from analyzers.intervals import Array, clip, union
from analyzers.whatif.graph import Graph


class Moments:
    """Where a moment of the recording lies in a replay.

    A moment belongs to what ended last before it: an operation, or a call of a thread that
    submits work. It never comes before all operations have ended that had ended then, so that a
    host that runs ahead does not leave the device's work out of the window.
    """

    def __init__(self, graph: Graph, window: Window) -> None:
        self.graph = graph
        self.window = window
        # Nothing ends where the first operation begins, so that moment is told apart.
        self.whole = window.start_ns == graph.origin_ns + int(graph.start.min())
        since, until = window.start_ns - graph.origin_ns, window.end_ns - graph.origin_ns
        self._low, self._high = self._anchor(since), self._anchor(until)
        self._done = graph.stop <= since, graph.stop <= until
        inside = (graph.start >= since) & (graph.stop <= until)
        self._kernels = np.flatnonzero(inside & (graph.kind == KERNEL))

    def _anchor(self, moment: int) -> tuple[int, int, int]:
        """Return an operation or -1, a call or -1, and the time from its end to ``moment``."""
        g = self.graph
        ops, calls = (
            np.flatnonzero(g.stop <= moment),
            np.flatnonzero((g.end <= moment) & (g.thread >= 0)),
        )
        op = int(ops[np.argmax(g.stop[ops])]) if len(ops) else -1
        call = int(calls[np.argmax(g.end[calls])]) if len(calls) else -1
        last_op = int(g.stop[op]) if op >= 0 else -1
        last_call = int(g.end[call]) if call >= 0 else -1
        if op >= 0 and last_op >= last_call:
            return op, -1, moment - last_op
        return -1, call, moment - max(last_call, 0)

    def span(self, times: tuple[Array, Array, Array, Array]) -> tuple[int, int]:
        """Return begin and end of the window in a replay."""
        _, end, start, stop = times
        ends = []
        for (op, call, lag), done in zip((self._low, self._high), self._done, strict=True):
            base = stop[op] if op >= 0 else end[call] if call >= 0 else 0
            ends.append(max(int(base) + lag, int(stop[done].max(initial=0))))
        if self.whole:
            ends[0] = int(start.min())
        until = self.window.end_ns - self.graph.origin_ns
        if self.whole or until >= int(self.graph.stop.max()):
            inside = self.graph.stop <= until
            ends[1] = max(ends[1], int(stop[inside].max(initial=0)))
        if self.whole and until >= int(self.graph.stop.max()):
            ends[1] = int(stop.max())
        return ends[0], max(ends[1], ends[0] + self._busiest(start, stop))

    def _busiest(self, start: Array, stop: Array) -> int:
        """Return how long the window's kernels take at least: those of a stream never overlap."""
        if not len(self._kernels):
            return 0
        mine = self._kernels
        # One that is held by another operation begins early in the replay, and is no longer.
        lengths = np.minimum((stop - start)[mine], self.graph.duration[mine])
        return int(np.bincount(self.graph.lane[mine], lengths).max())


def busy_ns(device: Array, start: Array, stop: Array, span: tuple[int, int]) -> list[int]:
    """Return how long anything ran on each device within ``span``."""
    result = []
    for key in range(int(device.max(initial=-1)) + 1):
        mine = device == key
        result.append(clip(union(start[mine], stop[mine]), *span).total)
    return result


def device_of(facts: Facts, graph: Graph) -> Array:
    """Return the device key of each operation."""
    keys: Array = facts.launches["device"].to_numpy()[graph.row].astype(np.int64)
    return keys
