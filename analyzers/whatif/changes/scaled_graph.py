"""Graphs in which kernels take a part of their time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.intervals import Array
from analyzers.whatif.graph import Graph

MIN_SHARE = 0.01  # of the window: kernels that win less change nothing
SHORTEST_NS = 1_600  # what a kernel takes that does next to nothing, in recordings of V100 and H100
NO_SHAPES = (
    "the work of no kernel is known: it needs the shapes of operators (record_shapes=True) and a "
    "GPU whose limits are known"
)


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
