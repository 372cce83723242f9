"""What the kernels of a window compute, and graphs in which they take a part of their time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.facts.spans import Window
from analyzers.intervals import Array
from analyzers.whatif.changes.change import Reach
from analyzers.whatif.graph import Graph
from analyzers.work.account import LaunchWork, work_of_launches
from common.memo import memo

MIN_SHARE = 0.01  # of the window: kernels that win less change nothing
SHORTEST_NS = 1_600  # what a kernel takes that does next to nothing, in recordings of V100 and H100
NO_SHAPES = (
    "the work of no kernel is known: it needs the shapes of operators (record_shapes=True) and a "
    "GPU whose limits are known"
)


@memo(1)
def _work_between(
    facts: Facts, start_ns: int, end_ns: int, device_peaks: tuple[tuple[str, float], ...]
) -> LaunchWork:
    return work_of_launches(facts, Window(start_ns=start_ns, end_ns=end_ns), dict(device_peaks))


def window_work(facts: Facts, reach: Reach) -> LaunchWork:
    """Return what each launch of the window does; several changes ask."""
    return _work_between(facts, *reach.window.span, tuple(sorted(reach.device_peaks.items())))


def scaled(graph: Graph, launches: Array, factor: Array, shortest_ns: int = SHORTEST_NS) -> Graph:
    """Return the graph in which launches take a part of their time.

    Args:
        graph: As recorded.
        launches: Rows of ``Facts.launches``.
        factor: Part of its time that each takes, 0 to 1; none becomes shorter than the shortest
            kernels are.
        shortest_ns: How long those are.
    """
    operations = graph.operations
    count = max(int(operations.row.max(initial=0)), int(launches.max(initial=0))) + 1
    times = np.ones(count)
    times[launches] = factor
    duration = np.rint(operations.duration * times[operations.row]).astype(np.int64)
    duration = np.maximum(duration, np.minimum(operations.duration, shortest_ns))
    return replace(graph, operations=replace(operations, duration=duration))
