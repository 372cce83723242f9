"""Kernels find their pages on the GPU, because the program prefetched them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.losses.page_service import (
    FASTER_AT_BEST,
    OWN_WORK_SHARE,
    SHORTEST_ANSWER_NS,
    THRASHING_SHARE,
    link_bytes_per_ns,
    waited_by_launch,
)
from analyzers.whatif.changes.change import Change, Reach, Result
from analyzers.whatif.graph import Graph
from analyzers.words import count_text, size_text

NAME, ORDER = "prefetch", 4.5


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Take what kernels wait for pages out of them, and put a copy before each."""
    waited = waited_by_launch(facts)
    operations = graph.operations
    place_of_row = np.full(len(facts.launches), -1, np.int64)
    place_of_row[operations.row] = np.arange(len(operations))
    place = place_of_row[waited["launch"].to_numpy()]
    chosen = (place >= 0) & (waited["most_ns"] > 0).to_numpy()
    waited, place = waited[chosen], place[chosen]
    inside = reach.operations[place]
    if not inside.any():
        return "no kernel of the window waited for pages of unified memory"
    came, left = (int(waited[c][inside].sum()) for c in ("arrived", "evicted"))
    if left >= THRASHING_SHARE * max(came, 1):
        return (
            "pages left the GPU to make room for others: the data does not fit into its memory, "
            "and prefetching would drive out what it brings"
        )
    rate = link_bytes_per_ns(facts)
    if not rate:
        return "no migration or pinned copy tells how fast data comes to the GPU"
    copy_ns = np.rint(waited["arrived"].to_numpy() / rate).astype(np.int64)
    quick_ns = np.rint(copy_ns / (1 + FASTER_AT_BEST)).astype(np.int64)
    best_ns = quick_ns - waited["most_ns"].to_numpy()
    worst_ns = copy_ns - waited["least_ns"].to_numpy()
    best, worst = (_longer(graph, place, more) for more in (best_ns, worst_ns))
    return [
        Change(
            id="prefetch",
            cause=Cause.BANDWIDTH,
            title=(
                f"prefetching the pages of {count_text(int(inside.sum()), 'launch')} "
                f"({size_text(came)}) just before"
            ),
            count=int(inside.sum()),
            best=best,
            worst=worst,
            assumptions=(
                f"The pages come as whole copies at {rate:.1f} GB/s, the speed of this "
                f"recording's largest pieces, at best {100 * FASTER_AT_BEST:.0f} % faster",
                "Each copy runs just before its kernel, and nothing hides it; a prefetch that "
                "begins earlier, beside other work, wins more",
                "At best all of the short pauses between migrations were waiting; at worst only "
                f"{(1 - OWN_WORK_SHARE) * SHORTEST_ANSWER_NS / 1e3:.0f} µs of each, and the rest "
                "was the kernel's own work",
            ),
        )
    ]


def _longer(graph: Graph, place: Array, more_ns: Array) -> Graph:
    """Return the graph in which operations take longer, or, below 0, less; never below nothing."""
    duration = graph.operations.duration.copy()
    duration[place] = np.maximum(duration[place] + more_ns, 0)
    return replace(graph, operations=replace(graph.operations, duration=duration))
