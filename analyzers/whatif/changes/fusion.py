"""One kernel takes the place of a chain of operations that are bound by memory."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.finding import Cause
from analyzers.whatif.changes.change import Change, Reach, Result
from analyzers.whatif.changes.scaled_graph import (
    MIN_SHARE,
    NO_SHAPES,
    SHORTEST_NS,
    scaled,
)
from analyzers.whatif.changes.shorter import absorbed
from analyzers.whatif.graph import Graph
from analyzers.words import count_text
from analyzers.work.account import window_work
from analyzers.work.chains import fusible_chains

NAME, ORDER = "fusion", 10


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Launch one kernel for each chain, which does not move what lies between."""
    work = window_work(facts, reach.window, reach.device_peaks)
    if not work.calls.is_modelled.any():
        return NO_SHAPES
    chains = fusible_chains(facts, work)
    most = (chains["busy_ns"] - chains["after_low_ns"]).sum() if len(chains) else 0
    launches = sum(c.size for c in chains["launches"])
    if most < MIN_SHARE * reach.length_ns:
        return "no chain of operations that are bound by memory would win notable time"
    absorbed_rows = np.concatenate([c[:, 1:].ravel() for c in chains["launches"]])
    is_absorbed = np.isin(graph.operations.row, absorbed_rows)
    best, worst = (
        absorbed(_shortened(graph, chains, column), is_absorbed)
        for column in ("after_low_ns", "after_high_ns")
    )
    count = int(chains["count"].sum())
    return [
        Change(
            id=NAME,
            cause=Cause.BANDWIDTH,
            title=f"fusing {count_text(count, 'chain')} of {launches:,} memory-bound kernels",
            count=launches,
            best=best,
            worst=worst,
            assumptions=(
                "Each kernel of a chain reads what the one before it wrote, as the shapes say",
                "Bytes move as fast as now; at worst what lies between is written all the same, "
                "for a backward pass or another reader",
            ),
        )
    ]


def _shortened(graph: Graph, chains: pd.DataFrame, column: str) -> Graph:
    """Return the graph in which the launches of a chain take together what one kernel takes."""
    launches = [c.ravel() for c in chains["launches"]]
    after = np.maximum(chains[column].to_numpy(float), SHORTEST_NS * chains["count"].to_numpy())
    part = after / np.maximum(chains["busy_ns"].to_numpy(float), 1)
    factor = np.repeat(np.clip(part, 0, 1), [len(c) for c in launches])
    return scaled(graph, np.concatenate(launches), factor, shortest_ns=0)
