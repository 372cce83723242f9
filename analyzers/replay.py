"""The unchanged replay of a recording: does the dependency graph reproduce the measured time?"""

from __future__ import annotations

import numpy as np

from analyzers.facts import Facts
from analyzers.intervals import Array, clip, union
from analyzers.replay_graph import Graph
from analyzers.report import Window


class Moments:
    """Where a moment of the recording lies in a replay.

    A moment belongs to what ended last before it: an operation, or a call of a thread that
    submits work.
    """

    def __init__(self, graph: Graph, window: Window) -> None:
        self.graph = graph
        self.window = window
        # Nothing ends where the first operation begins, so that moment is told apart.
        self.whole = window.start_ns == graph.origin_ns + int(graph.start.min())
        self._low = self._anchor(window.start_ns - graph.origin_ns)
        self._high = self._anchor(window.end_ns - graph.origin_ns)

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
        for op, call, lag in (self._low, self._high):
            base = stop[op] if op >= 0 else end[call] if call >= 0 else 0
            ends.append(int(base) + lag)
        if self.whole:
            ends[0] = int(start.min())
        until = self.window.end_ns - self.graph.origin_ns
        if self.whole or until >= int(self.graph.stop.max()):
            inside = self.graph.stop <= until
            ends[1] = max(ends[1], int(stop[inside].max(initial=0)))
        if self.whole and until >= int(self.graph.stop.max()):
            ends[1] = int(stop.max())
        return ends[0], max(ends)


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
