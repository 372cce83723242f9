"""What was recorded in all: counts and sums that can be checked against any other tool."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analyzers.facts.facts import COMMUNICATION, COPY, GRAPH, KERNEL, MEMSET, Facts
from analyzers.facts.spans import Window
from collectors.schema import CopyKind


def origin(facts: Facts) -> dict[str, str]:
    """Return where the recording came from: its file, and the tool that wrote it."""
    source = facts.trace.source
    return {
        "name": source.name,
        "format": source.format,
        "tool_version": source.tool_version,
        "schema_version": source.schema_version,
        "sha256": source.sha256,
    }


def totals(facts: Facts) -> dict[str, Any]:
    """Return counts and summed durations of the whole recording.

    Durations are plain sums, so operations that ran at the same time count twice, as in
    ``nsys stats``. ``api_calls`` is by function; ``copies`` is by direction.
    """
    kind = facts.launches["kind"].to_numpy()
    kernels = facts.duration_ns[np.isin(kind, (KERNEL, COMMUNICATION))]
    return {
        "kernels": _summary(kernels),
        "copies": _copies(facts),
        "memsets": _memsets(facts),
        "graph_launches": _plain(facts, "graph_launches"),
        "api_calls": _api_calls(facts),
    }


def operations(facts: Facts, window: Window) -> dict[str, int]:
    """Return how many operations of each kind ran at some moment of ``window``, by table."""
    kinds = facts.launches["kind"].to_numpy()[facts.inside(*window.span)]
    counts = np.bincount(kinds, minlength=GRAPH + 1).tolist()
    return {
        "kernels": counts[KERNEL] + counts[COMMUNICATION],
        "copies": counts[COPY],
        "memsets": counts[MEMSET],
        "graph_launches": counts[GRAPH],
    }


def _summary(duration_ns: Any) -> dict[str, int]:
    values = np.asarray(duration_ns)
    if not len(values):
        return {"count": 0, "duration_ns": 0}
    return {
        "count": len(values),
        "duration_ns": int(values.sum()),
        "min_ns": int(values.min()),
        "max_ns": int(values.max()),
    }


def _plain(facts: Facts, table: str) -> dict[str, int]:
    columns = facts.trace.columns(table, ["start_ns", "end_ns"])
    return _summary(columns["end_ns"] - columns["start_ns"])


def _memsets(facts: Facts) -> dict[str, int]:
    columns = facts.trace.columns("memsets", ["bytes"])
    return {**_plain(facts, "memsets"), "bytes": int(np.clip(columns["bytes"], 0, None).sum())}


def _copies(facts: Facts) -> dict[str, dict[str, int]]:
    copies = facts.trace.frame("copies", ["start_ns", "end_ns", "kind", "bytes"])
    result = {}
    for kind, rows in copies.groupby("kind"):
        has_name = int(str(kind)) in set(CopyKind)
        name = CopyKind(int(str(kind))).name.lower() if has_name else f"kind_{kind}"
        summary = _summary((rows["end_ns"] - rows["start_ns"]).to_numpy())
        result[name] = {**summary, "bytes": int(rows["bytes"].clip(lower=0).sum())}
    return result


def _api_calls(facts: Facts) -> dict[str, Any]:
    length = (facts.api["end_ns"] - facts.api["start_ns"]).to_numpy()
    sums = (
        pd.Series(length).groupby(facts.api["name"].to_numpy()).agg(["size", "sum", "min", "max"])
    )
    by_name: dict[str, dict[str, int]] = {}
    for code, (size, total, low, high) in zip(sums.index, sums.to_numpy(), strict=True):
        by_name[str(facts.functions[code])] = {
            "count": int(size),
            "duration_ns": int(total),
            "min_ns": int(low),
            "max_ns": int(high),
        }
    return {**_summary(length), "by_function": by_name}
