"""Where the nodes of CUDA graphs were made: what the host did when it captured what replays run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Array

MAX_CLONES = 8  # of a clone of a clone; instantiating a graph clones it once


def node_makers(facts: Facts, launches: Array) -> tuple[Array, Array, Array]:
    """Return the thread (key) that made the node of each launch, and when; -1 where unknown.

    A replay runs clones; what was made while a stream was captured is the original. The third
    answer counts the runs of each node from 0, so that launches of one replay have one number.

    Args:
        facts: The recording.
        launches: Rows of ``Facts.launches``.
    """
    thread = np.full(len(launches), UNKNOWN, np.int64)
    moment, run = thread.copy(), thread.copy()
    if not len(launches) or not facts.trace.count("graph_nodes"):
        return thread, moment, run
    columns = ("start_ns", "process_key", "thread_key", "graph_node", "original_node")
    made = trace_table(facts.trace, "graph_nodes", columns)
    made = made.sort_values("start_ns").drop_duplicates(["process_key", "graph_node"])
    places = pd.MultiIndex.from_frame(made[["process_key", "graph_node"]])
    originals = pd.MultiIndex.from_frame(made[["process_key", "original_node"]])
    original = places.get_indexer(originals)
    node = facts.of_table("kernels", ["graph_node"])["graph_node"].reindex(launches).to_numpy()
    process = facts.process_keys[facts.launches["process_index"].to_numpy()[launches]]
    number = np.where(np.isfinite(node), node, UNKNOWN).astype(np.int64)
    row = places.get_indexer(pd.MultiIndex.from_arrays([process, number]))
    row[number <= 0] = UNKNOWN
    inside = row >= 0
    run[inside] = pd.Series(row[inside]).groupby(row[inside]).cumcount().to_numpy()
    for _ in range(MAX_CLONES):
        up = np.where(row >= 0, original[row], UNKNOWN)
        row = np.where(up >= 0, up, row)
    thread[inside] = made["thread_key"].to_numpy()[row[inside]]
    moment[inside] = made["start_ns"].to_numpy()[row[inside]]
    return thread, moment, run
