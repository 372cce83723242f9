"""Where each step of a training loop goes, by what runs: the breakdown of PyTorch's own viewers.

Unlike the ledger it tells what was running, not what kept the device from running. Each moment
counts for the first of the roles that has something running then, in the order of ``ROLES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from analyzers.facts.facts import COMMUNICATION, COPY, GRAPH, KERNEL, MEMSET, Facts
from analyzers.facts.spans import Iteration
from analyzers.intervals import Spans, intersect, subtract, union
from collectors.schema import OperatorKind

ROLES = (
    *("kernel", "memcpy", "memset", "communication", "runtime", "dataloader", "cpu_exec"),
    "other",
)
_STEP, _DATA_LOADER = "ProfilerStep", "enumerate(DataLoader)#"
_KINDS = {
    "kernel": (KERNEL, GRAPH),
    "memcpy": (COPY,),
    "memset": (MEMSET,),
    "communication": (COMMUNICATION,),
}


def step_breakdown(facts: Facts, iterations: Iterable[Iteration]) -> list[dict[str, object]]:
    """Return nanoseconds of each profiler step by role; they sum to ``duration_ns``.

    Empty unless the recording has both operators and profiler steps.
    """
    steps = [i for i in iterations if i.name.startswith(_STEP)]
    if not steps or not facts.trace.count("operators"):
        return []
    roles = dict(_roles(facts))
    return [
        {"name": s.name, "start_ns": s.start_ns, "duration_ns": s.end_ns - s.start_ns, **parts}
        for s in steps
        if (parts := _divided(Spans(np.array([s.start_ns]), np.array([s.end_ns])), roles))
    ]


def _divided(free: Spans, roles: dict[str, Spans]) -> dict[str, int]:
    parts = {}
    for role in ROLES[:-1]:
        taken = intersect(free, roles[role])
        parts[f"{role}_ns"] = taken.total
        free = subtract(free, taken)
    return {**parts, "other_ns": free.total}


def _roles(facts: Facts) -> Iterator[tuple[str, Spans]]:
    """Yield when something of each role ran, on any device or thread."""
    kind = facts.launches["kind"].to_numpy()
    for role, kinds in _KINDS.items():
        yield role, _spans(facts.launches[np.isin(kind, kinds)])
    yield "runtime", _spans(facts.api)
    names = facts.trace.names(facts.ranges["name_id"].to_numpy())
    loads = np.array([str(n).startswith(_DATA_LOADER) for n in names], dtype=bool)
    steps = np.array([str(n).startswith(_STEP) for n in names], dtype=bool)
    yield "dataloader", _spans(facts.ranges[loads])
    operators = facts.trace.frame("operators", ["start_ns", "end_ns", "kind"])
    operators = operators[(operators["kind"] == OperatorKind.FRAMEWORK).to_numpy()]
    others = facts.ranges[~loads & ~steps]
    columns = ["start_ns", "end_ns"]
    yield "cpu_exec", _spans(pd.concat([operators[columns], others[columns]]))


def _spans(rows: pd.DataFrame) -> Spans:
    return union(rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy())
