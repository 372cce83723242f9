"""Kernels become faster: the longest, or those that are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.facts.facts import COMMUNICATION, KERNEL, Facts
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.whatif.changes.change import Change, Reach, Result
from analyzers.whatif.graph import Graph
from analyzers.words import count_text, name_text

NAME, ORDER = "kernel", 8

TOP_KERNELS = 3
KERNEL_SPEED_UP = 2.0
MIN_KERNEL_SHARE = 0.02  # of the window: a faster kernel that takes less changes nothing


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Make each of the kernels that take longest twice as fast."""
    kernels = np.flatnonzero((graph.operations.kind == KERNEL) & reach.operations)
    if not len(kernels):
        return "no kernel ran"
    names = facts.launches["name_id"].to_numpy()[graph.operations.row[kernels]]
    unique, code = np.unique(names, return_inverse=True)
    total = np.bincount(code, graph.operations.duration[kernels])
    top = np.argsort(-total)[:TOP_KERNELS]
    top = top[total[top] >= MIN_KERNEL_SHARE * reach.length_ns]
    if not len(top):
        return "no kernel takes a notable part of the window"
    return [
        _faster(graph, reach, _named(facts, graph, unique[k : k + 1]), text, KERNEL_SPEED_UP)
        for k, text in zip(top, facts.trace.names(unique[top]), strict=True)
    ]


def speed_up(facts: Facts, graph: Graph, reach: Reach, part: str, times: float) -> Result:
    """Make all kernels whose name holds ``part`` faster.

    Args:
        facts: The recording.
        graph: Its dependencies.
        reach: The window.
        part: Part of the name, in any case.
        times: How many times as fast.
    """
    rows = graph.operations.row[np.isin(graph.operations.kind, (KERNEL, COMMUNICATION))]
    ids = np.unique(facts.launches["name_id"].to_numpy()[rows])
    names = facts.trace.names(ids)
    chosen = ids[np.array([part.casefold() in str(n).casefold() for n in names], dtype=bool)]
    kernels = _named(facts, graph, chosen)
    if not (kernels & reach.operations).any():
        return f"no kernel of the window has {part!r} in its name"
    title = str(names[ids == chosen[0]][0]) if len(chosen) == 1 else part
    return [_faster(graph, reach, kernels, title, times)]


def _named(facts: Facts, graph: Graph, ids: Array) -> Array:
    operations = graph.operations
    of_kernels = np.isin(operations.kind, (KERNEL, COMMUNICATION))
    name_id = facts.launches["name_id"].to_numpy()[operations.row]
    chosen: Array = of_kernels & np.isin(name_id, ids)
    return chosen


def _faster(graph: Graph, reach: Reach, chosen: Array, name: str, times: float) -> Change:
    length = graph.operations.duration
    duration = np.where(chosen, np.rint(length / times).astype(np.int64), length)
    changed = replace(graph, operations=replace(graph.operations, duration=duration))
    count = int(np.count_nonzero(chosen & reach.operations))
    return Change(
        id=f"kernel:{name}:{times:g}",
        cause=Cause.COMPUTE,
        title=f"making {name_text(name)} ({count_text(count, 'launch')}) {times:g} times as fast",
        count=count,
        best=changed,
        worst=changed,
        assumptions=("All launches of it shorten alike, and what runs beside it does not change",),
    )
