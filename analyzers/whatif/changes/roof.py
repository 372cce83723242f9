"""Kernels come near what the device allows for their work, class by class."""

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
from analyzers.whatif.graph import Graph
from analyzers.words import count_text
from analyzers.work.account import window_work
from analyzers.work.classes import CLASSES, TITLES

NAME, ORDER = "kernels.roof", 9
GOAL = 0.8  # share of the roof that good kernels reach: cuBLAS on large products, copies


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Bring all modelled kernels, and those of each class, to ``GOAL`` of their roof."""
    frame = window_work(facts, reach.window, reach.device_peaks).launches
    frame = frame[frame["is_modelled"].to_numpy()]
    if not len(frame):
        return NO_SHAPES
    busy, least = frame["busy_ns"].to_numpy(), frame["least_ns"].to_numpy()
    frame = frame.assign(factor=np.minimum(np.maximum(least / GOAL, SHORTEST_NS) / busy, 1.0))
    frame = frame[frame["factor"].to_numpy() < 1]
    won = (frame["busy_ns"] * (1 - frame["factor"])).groupby(frame["class_code"]).sum()
    won = won.sort_values(ascending=False)
    notable = won[won >= MIN_SHARE * reach.length_ns]
    if won.sum() < MIN_SHARE * reach.length_ns:
        return (
            f"kernels whose work is known are at {100 * GOAL:.0f} % of the roof, or take little "
            "time"
        )
    changes = [_change(graph, frame, NAME, "all kernels whose work is known")]
    if len(won) > 1:
        for code in notable.index:
            work_class = CLASSES[int(code)]
            own = frame[(frame["class_code"] == code).to_numpy()]
            changes.append(_change(graph, own, f"{NAME}:{work_class.value}", TITLES[work_class]))
    return changes


def _change(graph: Graph, frame: pd.DataFrame, name: str, title: str) -> Change:
    changed = scaled(graph, frame["launch"].to_numpy(), frame["factor"].to_numpy())
    is_compute = 2 * frame["is_compute"].sum() > len(frame)
    return Change(
        id=name,
        cause=Cause.COMPUTE if is_compute else Cause.BANDWIDTH,
        title=f"bringing {title} to {GOAL * 100:.0f} % of the roof "
        f"({count_text(len(frame), 'launch')})",
        count=len(frame),
        best=changed,
        worst=changed,
        assumptions=(
            "Roofs are those of the shapes of operators and of the device's table; kernels that "
            f"are nearer than {GOAL * 100:.0f} % stay as they are, and none takes less than "
            f"{SHORTEST_NS / 1e3:.1f} µs",
        ),
    )
