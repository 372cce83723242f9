"""What Nsight Compute's own rules said about kernels, beside what the account here says.

A stored result has words, and some an estimate of the time that can be saved: *global*, a part of
the launch's time, or *local*, a part of what the rule looks at, which no time can be compared with
(Kernel Profiling Guide, "Estimated Speedup"). Which losses of the account a rule looks at too is
listed here by its identifier; what it advises is left to it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analyzers.counters.inside import Inside
from analyzers.facts.trace_table import trace_table
from analyzers.kernels.counted import RULE_OF_PART
from analyzers.losses.ncu_command import base_name
from analyzers.metric_names import Part
from analyzers.report import ToolRule
from analyzers.words import name_text, share_text
from collectors.schema import RuleKind, SpeedupScope

MAX_RULES = 200  # results that are kept, those of the most time first
NO_ESTIMATE = -1.0
_TELLING = (RuleKind.WARNING, RuleKind.ERROR, RuleKind.OPTIMIZATION)

_ROOFS = (Part.DRAM, Part.L2, Part.L1, Part.LOAD_STORE)
_GRID = (Part.SMALL_GRID, Part.TAIL)
_WAITING = (*_GRID, Part.OCCUPANCY, Part.LATENCY, Part.ATOMICS)
_PARTS = {
    "SOLBottleneck": (*_ROOFS, *_WAITING),
    "LaunchConfiguration": _GRID,
    "WorkloadImbalance": (Part.IMBALANCE, *_GRID),
    **dict.fromkeys(("Occupancy", "TheoreticalOccupancy"), (Part.OCCUPANCY,)),
    "AchievedOccupancy": (Part.OCCUPANCY, *_GRID),
    **dict.fromkeys(("IssueSlotUtilization", "CPIStall"), _WAITING),
    "ThreadDivergence": (Part.IDLE_LANES,),
    **dict.fromkeys(
        ("UncoalescedGlobalAccess", "UncoalescedAccess", "MemoryCacheAccessPattern"),
        (Part.UNCOALESCED,),
    ),
    **dict.fromkeys(("UncoalescedSharedAccess", "SharedMemoryConflicts"), (Part.BANK_CONFLICTS,)),
    "SOLFPRoofline": (Part.FP64,),
    "HighPipeUtilization": (Part.LOAD_STORE, Part.FP64, Part.TENSOR),
}


def tool_rules(inside: Inside | None) -> tuple[ToolRule, ...]:
    """Return what the tool's own rules said about each kernel, those of most time first.

    What a rule found in order is left out. Without counters, or where none were stored, there is
    nothing.
    """
    if inside is None or not inside.limits.counters.trace.count("rule_results"):
        return ()
    trace = inside.limits.counters.trace
    table = trace_table(trace, "rule_results")
    table = table[table["kind"].isin([int(kind) for kind in _TELLING]).to_numpy()]
    table = table[(inside.ns[table["profiled"].to_numpy()] > 0)]
    rows = table["profiled"].to_numpy()
    table = table.assign(
        rule=trace.names(table["rule_id"].to_numpy()),
        kernel=inside.limits.counters.profiled["name"].to_numpy()[rows],
        ns=inside.ns[rows],
    )
    groups = [
        _tool_rule(str(kernel), str(rule), group, inside)
        for (kernel, rule), group in table.groupby(["kernel", "rule"], sort=False)
    ]
    groups.sort(key=lambda one: (-one.total_ns, one.kernel, -one.estimate, one.rule))
    return tuple(groups[:MAX_RULES])


def _tool_rule(kernel: str, rule: str, group: pd.DataFrame, inside: Inside) -> ToolRule:
    """Return what a rule said about a kernel: all its words about the longest launch."""
    rows = np.unique(group["profiled"].to_numpy())
    longest = group["profiled"].iloc[int(group["ns"].to_numpy().argmax())]
    of_longest = group["text_id"][(group["profiled"] == longest).to_numpy()].to_numpy()
    text = " ".join(dict.fromkeys(map(str, inside.limits.counters.trace.names(of_longest))))
    ns = int(inside.ns[rows].sum())
    estimated = group[~group["speedup_pct"].isna().to_numpy()]
    scope, estimate = "", NO_ESTIMATE
    if len(estimated):
        weights = estimated["ns"].to_numpy()
        mean = np.average(estimated["speedup_pct"].to_numpy(), weights=weights) / 100
        scope = "global" if (estimated["scope"] == SpeedupScope.GLOBAL).all() else "local"
        estimate = float(np.clip(mean, 0, 1))
    parts = _PARTS.get(rule, ())
    largest = max(parts, key=lambda part: int(inside.booked_ns[part][rows].sum()), default=None)
    low, booked, high = (_share(of, parts, rows, ns) for of in _estimates(inside))
    if not parts or not inside.counted[list(parts)][:, rows].any():
        low = booked = high = NO_ESTIMATE
    return ToolRule(
        kernel=kernel,
        rule=rule,
        text=text,
        launches=len(rows),
        total_ns=ns,
        scope=scope,
        estimate=estimate,
        ours=RULE_OF_PART[largest] if largest is not None and booked > 0 else "",
        low=low,
        booked=booked,
        high=high,
    )


def _estimates(inside: Inside) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return inside.low_ns, inside.booked_ns, inside.high_ns


def _share(of_part: np.ndarray, parts: Iterable[Part], rows: np.ndarray, ns: int) -> float:
    """Return the part of the launches' time that some losses take together, never more than 1."""
    return min(float(sum(int(of_part[part][rows].sum()) for part in parts)) / max(ns, 1), 1.0)


def largest_estimate(rules: Iterable[ToolRule], in_use_ns: int) -> ToolRule | None:
    """Return the rule whose estimate is most of all time; None if none is a part of time."""
    of_time = [rule for rule in rules if rule.scope == "global" and in_use_ns]
    return max(of_time, key=lambda rule: rule.estimate * rule.total_ns, default=None)


def rule_sentence(rule: ToolRule) -> str:
    """Say what a rule estimates for its kernel, and what is said here about the same."""
    kernel = name_text(base_name(rule.kernel) or rule.kernel)
    saved = share_text(rule.estimate, 1)
    return (
        f"Nsight Compute's own rule {rule.title} estimates that {saved} of the time of "
        f"{kernel} can be saved; {rule.comparison}."
    )
