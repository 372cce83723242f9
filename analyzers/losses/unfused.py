"""What calls lose that one kernel could carry out together: chains, and attention in pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.intervals import Array
from analyzers.losses.busy_calls import BusyCalls
from analyzers.work.chains import fusible_chains

_AFTER = ("after_high_ns", "after_low_ns")


def chains(facts: Facts, calls: BusyCalls) -> pd.DataFrame:
    """Return what calls of chains lose; see ``analyzers.work.chains``.

    Returns:
        One row a call: ``node`` (row of ``calls.nodes``), ``low_ns``, ``high_ns``,
        ``spared_bytes`` (at most), ``chain`` (number of the chains that are alike),
        ``is_absorbed`` (it becomes part of another call's kernel).
    """
    node_of = np.full(len(facts.launches), -1)
    node_of[calls.launches["launch"]] = calls.launches["node"]
    free = calls.nodes["free_ns"].to_numpy()
    kinds = fusible_chains(facts, calls.work)
    columns = (kinds[name] for name in ("launches", "busy_ns", *_AFTER, "spared_bytes_high"))
    parts = [
        _of_kind(node_of[launches], free, number, numbers)
        for number, (launches, *numbers) in enumerate(zip(*columns, strict=True))
    ]
    if not parts:
        return nothing_lost(spared_bytes=np.empty(0), chain=np.empty(0, np.int64))
    return pd.concat(parts, ignore_index=True)


def _of_kind(node: Array, free: Array, number: int, sums: Sequence[float]) -> pd.DataFrame:
    """Return the rows of chains that are alike; all of their calls save the same share."""
    first = np.repeat(node[:, 0], node.shape[1])
    nodes, place = np.unique(node, return_index=True)
    busy_ns, after_high_ns, after_low_ns, spared_bytes = sums
    least, most = (1 - after / max(busy_ns, 1) for after in (after_high_ns, after_low_ns))
    return pd.DataFrame(
        {
            "node": nodes,
            "low_ns": (free[nodes] * least).astype(np.int64),
            "high_ns": (free[nodes] * most).astype(np.int64),
            "spared_bytes": spared_bytes / len(nodes),
            "chain": number,
            "is_absorbed": nodes != first[place],
        }
    )


def nothing_lost(**columns: Array) -> pd.DataFrame:
    """Return a table of losses without rows, with further columns of its pattern."""
    whole = {name: np.empty(0, np.int64) for name in ("node", "low_ns", "high_ns")}
    return pd.DataFrame({**whole, **columns, "is_absorbed": np.empty(0, dtype=bool)})
