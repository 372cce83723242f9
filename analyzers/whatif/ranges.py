"""How long a window takes under a change: from replays at best and at worst to a range in ns."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from analyzers.whatif.changes.change import Change
from analyzers.whatif.floors import (
    device_floor_ns,
    device_union_ns,
    require_floors,
    thread_floor_ns,
)
from analyzers.whatif.graph import Graph
from analyzers.whatif.moments import Moments
from analyzers.whatif.run import run
from analyzers.whatif.uncertainty import VARIES, bounds

RUNS = 2  # replays at the same time; each needs about 100 bytes an operation


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """How long the window takes under a change, in ns.

    Attributes:
        low_ns: Shortest time that the assumptions allow.
        high_ns: Longest one; no change is predicted to make a program slower.
        floor_ns: What must still run takes as long; not above ``low_ns``.
    """

    low_ns: int
    high_ns: int
    floor_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReplayedWindow:
    """One replay of the window.

    Attributes:
        length_ns: How long the window took.
        thread_ns: How long its busiest thread worked, waits left out.
    """

    length_ns: int
    thread_ns: int


class Ranges:
    """Predicts how long one window of a recording takes under changes.

    Attributes:
        has_threads: Whether one thread may have handed over to another, or not: a range then
            holds both.
    """

    def __init__(self, graph: Graph, moments: Moments, measured_ns: int, error: float) -> None:
        """Replay the program as recorded, and on a machine with shorter and longer pauses.

        Args:
            graph: As recorded.
            moments: Of the window.
            measured_ns: Length of the window as recorded.
            error: Of the unchanged replay, as a part of that.
        """
        self._moments, self._measured_ns, self._error = moments, measured_ns, error
        self._graph = graph
        self._base = self._runs([graph, graph.varied(1 - VARIES), graph.varied(1 + VARIES)])
        self.has_threads = len(self._base[0]) > 1

    def of(self, change: Change) -> TimeRange:
        """Put a change's best and worst cases in proportion to the unchanged replay.

        Each case stands beside the unchanged program as recorded, since that is what will be
        compared, and beside the unchanged program on the same faster or slower machine: what the
        machine alone would win is no gain.
        """
        cases = [change.best.varied(1 - VARIES)]
        cases += [graph.varied(1 + VARIES) for graph in (change.worst, *change.also_worst)]
        best, *worst = self._runs(cases)
        now, fast, slow = self._base
        alike = min(_ratio(a, b) for a, b in zip(best, fast, strict=True))
        least = min(alike, *(_ratio(a, b) for a, b in zip(best, now, strict=True)))
        most = max(
            _ratio(a, b) for runs in worst for other in (now, slow)
            for a, b in zip(runs, other, strict=True)
        )  # fmt: skip
        if (
            2 * (1 - alike) < 1 - least
        ):  # on a faster machine it wins less than where it was recorded
            (as_recorded,) = self._runs([change.best])
            alike = min(alike, *(_ratio(a, b) for a, b in zip(as_recorded, now, strict=True)))
        low, high = bounds(least, most, self._error, gain=1 - alike)
        # A range is widened for what the replay does not know; what must still run it does know.
        floor_ns = max(
            device_floor_ns(change.best, self._moments.window), min(run.thread_ns for run in best)
        )
        floor_ns = min(floor_ns, self._measured_ns)
        low_ns = max(round(self._measured_ns * low), floor_ns)
        high_ns = max(round(self._measured_ns * high), low_ns)
        if not change.overlaps and self._keeps_lengths(change.worst):
            together_ns = device_union_ns(change.worst, self._moments.window)
            high_ns = max(high_ns, min(together_ns, self._measured_ns))
        return TimeRange(low_ns=low_ns, high_ns=high_ns, floor_ns=floor_ns)

    def _keeps_lengths(self, graph: Graph) -> bool:
        """Tell whether all operations take as long as recorded, so that their places still hold."""
        return np.array_equal(graph.operations.duration, self._graph.operations.duration)

    def _runs(self, graphs: Sequence[Graph]) -> list[list[_ReplayedWindow]]:
        """Replay each graph, with threads that hand over and without.

        Of the first one it is required that a machine could run it: asked here, no change has to.

        Raises:
            BelowFloorError: A defect; see ``require_floors``.
        """
        every = [(g, g.without_handovers()) if g.has_threads else (g,) for g in graphs]
        with ThreadPoolExecutor(RUNS) as threads:  # compiled code without the interpreter's lock
            flat = [graph for both in every for graph in both]
            runs = list(threads.map(self._run, flat, [n == 0 for n in range(len(flat))]))
        return [[runs.pop(0) for _ in both] for both in every]

    def _run(self, graph: Graph, is_first: bool) -> _ReplayedWindow:
        times = run(graph)
        if is_first:
            require_floors(graph, times)
        span = self._moments.span(times)
        return _ReplayedWindow(
            length_ns=max(span[1] - span[0], 1), thread_ns=thread_floor_ns(graph, times, span)
        )


def _ratio(run: _ReplayedWindow, other: _ReplayedWindow) -> float:
    return run.length_ns / other.length_ns
