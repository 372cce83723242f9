"""One row per kernel whose launches were profiled: what limits it, what it loses, how fast it is.

Everything here is made from the account of the time inside launches
(``analyzers.counters.inside``), so it serves a recording of counters alone and counters that belong
to a timeline's kernels alike: only the time that a profiled launch stands for differs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.counters.by_kernel import ByKernel
from analyzers.counters.inside import Inside
from analyzers.counters.limits import LaunchLimits
from analyzers.counters.roofline import roofline
from analyzers.facts.facts import Facts
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.ncu_command import why_missing
from analyzers.metric_names import ACCESS, AT_ROOF, BUSY, Part

CLEAR_LEAD = 0.10  # of the peak; what leads by less does not limit alone
MIN_SHOWN_SHARE = 0.02  # of a kernel's time; a smaller loss is not what it is coloured for

CAUSE_OF_PART = {
    Part.IDLE_LANES: Cause.DIVERGENCE,
    **dict.fromkeys(
        (Part.UNCOALESCED, Part.BANK_CONFLICTS, Part.DRAM, Part.L2, Part.L1), Cause.BANDWIDTH
    ),
    **dict.fromkeys((Part.LOAD_STORE, Part.ATOMICS), Cause.BANDWIDTH),
    **dict.fromkeys(
        (Part.SMALL_GRID, Part.TAIL, Part.IMBALANCE, Part.OCCUPANCY, Part.LATENCY),
        Cause.PARALLELISM,
    ),
    **dict.fromkeys((Part.FP64, Part.TENSOR), Cause.COMPUTE),
}

WORDS_OF_PART = {
    Part.IDLE_LANES: "idle lanes",
    Part.UNCOALESCED: "uncoalesced access",
    Part.BANK_CONFLICTS: "bank conflicts in shared memory",
    Part.DRAM: "device memory at its limit",
    Part.L2: "the L2 cache at its limit",
    Part.L1: "the L1 cache at its limit",
    Part.LOAD_STORE: "load and store instructions at their limit",
    Part.ATOMICS: "atomics that wait for each other",
    Part.SMALL_GRID: "fewer blocks than multiprocessors",
    Part.TAIL: "a partially filled last wave",
    Part.IMBALANCE: "unevenly loaded multiprocessors",
    Part.FP64: "64-bit arithmetic",
    Part.TENSOR: "idle tensor cores",
    Part.OCCUPANCY: "too few resident warps",
    Part.LATENCY: "latency that nothing hides",
}

RULE_OF_PART = {
    Part.IDLE_LANES: "divergence.idle_lanes",
    Part.UNCOALESCED: "bandwidth.uncoalesced_access",
    Part.BANK_CONFLICTS: "bandwidth.bank_conflicts",
    Part.DRAM: "bandwidth.dram_roof",
    Part.L2: "bandwidth.l2_roof",
    Part.L1: "bandwidth.l1_roof",
    Part.LOAD_STORE: "bandwidth.load_store",
    Part.ATOMICS: "bandwidth.atomics",
    Part.SMALL_GRID: "parallelism.few_blocks",
    Part.TAIL: "parallelism.tail_effect",
    Part.IMBALANCE: "parallelism.imbalance",
    Part.FP64: "compute.fp64",
    Part.TENSOR: "compute.idle_tensor_cores",
    Part.OCCUPANCY: "parallelism.achieved_occupancy",
    Part.LATENCY: "parallelism.latency_bound",
}
"""The rule that tells more about a part, and what to try."""

LEVEL_NAMES = ("device memory", "the L2 cache", "the L1 cache", "load and store instructions")
"""What a reader calls the rows of ``LaunchLimits.levels``."""

LOST = "lost_{}_ns"
"""Column of the loss that a kernel books to a part, by the part's name in small letters."""


def counted_kernels(inside: Inside | None) -> pd.DataFrame:
    """Return what counters say about each kernel, the one with most time first.

    Args:
        inside: The account of the time inside profiled launches; None without counters.

    Returns:
        ``name``, ``launches`` (profiled ones), ``ns`` (the time they stand for), ``share`` (of all
        of these); ``compute``, ``arithmetic``, ``load_store``, ``memory``, ``dram``, ``l2``,
        ``l1`` (parts of their peak), ``pipe``, ``level`` (what compute and memory are, in words),
        ``lanes`` (of 32), ``uniform_pct``, ``sectors_per_request`` and ``needed_per_request``,
        ``achieved`` and ``theoretical`` (parts of all warps), ``limiter``, ``waves``, each a mean
        over time; ``lost_ns`` and one column for each ``Part`` (``LOST``), which it is the sum of;
        ``part``: the place in ``Part`` of the largest loss, -1 without any worth a colour; and the
        columns of ``Roofline.kernels``. Not-a-number where nothing was counted. Without counters
        it has no rows.
    """
    if inside is None:
        return pd.DataFrame({"name": np.empty(0, object), "ns": np.empty(0, np.int64)})
    groups = ByKernel.of(inside)
    ns = groups.total_ns(inside.ns)
    table = pd.DataFrame(
        {
            "name": groups.names,
            "launches": np.bincount(groups.code, minlength=len(groups.names)),
            "ns": ns,
            "share": ns / max(int(ns.sum()), 1),
        }
    )
    table = table.assign(**_limits(inside.limits, groups), **_losses(inside, groups))
    table = table.join(roofline(inside, groups).kernels)
    return table.sort_values(
        ["ns", "name"], ascending=[False, True], kind="stable", ignore_index=True
    )


def roofline_summary(inside: Inside | None, facts: Facts, ledger: Ledger) -> dict[str, object]:
    """Return roofs, and what the chart lacks with the command that collects it, for a report.

    Empty without counters; ``lacks`` is a sentence, empty when nothing is missing.
    """
    if inside is None:
        return {}
    chart = roofline(inside, ByKernel.of(inside))
    sections, what = tuple(dict.fromkeys(chart.missing.values())), list(chart.missing)
    lacks = why_missing(facts, ledger, what, sections) if sections else ""
    roofs = [{"of": r.of, "per_s": r.per_s, "source": r.source} for r in chart.roofs]
    return {"gpu": chart.gpu, "roofs": roofs, "lacks": lacks}


def _limits(limits: LaunchLimits, groups: ByKernel) -> dict[str, Array]:
    means = (
        *("compute", "arithmetic", "load_store", "memory", "dram", "l2", "l1"),
        *("lanes", "uniform_pct", "waves"),
    )
    columns: dict[str, Array] = {name: groups.mean(getattr(limits, name)) for name in means}
    per_request, needed = _sectors_per_request(limits)
    columns |= {
        "sectors_per_request": groups.mean(per_request),
        "needed_per_request": groups.mean(needed),
        "achieved": groups.mean(limits.achieved),
        "theoretical": groups.mean(limits.theoretical),
        "limiter": groups.most(limits.limiter),
        "pipe": groups.most(limits.pipe),
        "level": groups.most(np.array([*LEVEL_NAMES, ""], dtype=object)[limits.nearest_level]),
    }
    return columns


@np.errstate(divide="ignore", invalid="ignore")
def _sectors_per_request(limits: LaunchLimits) -> tuple[Array, Array]:
    """Return the sectors that a request to global memory moves, and those that it needs.

    Requests are instructions of a warp. Where they were not counted, both are not known.
    """
    counters = limits.counters
    sectors = counters.total(*(ACCESS.format("sectors", op) for op in ("ld", "st")))
    requests = counters.total(*(ACCESS.format("requests", op) for op in ("ld", "st")))
    actual, ideal = limits.sectors
    moved = np.where(requests > 0, sectors / requests, np.nan)
    return moved, moved * np.where(actual > 0, ideal / actual, np.nan)


def _losses(inside: Inside, groups: ByKernel) -> dict[str, Array]:
    lost = {LOST.format(p.name.lower()): groups.total_ns(inside.booked_ns[p]) for p in Part}
    each = np.stack(list(lost.values()))
    largest = each.max(axis=0)
    worth = largest >= np.maximum(MIN_SHOWN_SHARE * groups.total_ns(inside.ns), 1)
    return {
        "lost_ns": each.sum(axis=0),
        **lost,
        "part": np.where(worth, each.argmax(axis=0), -1),
    }


def limiter_words(kernel: pd.Series) -> str:
    """Say in a sentence what limits a row of ``counted_kernels``, as Nsight Compute judges it.

    Load and store instructions count for both sides: what else compute does is said apart.
    """
    compute, memory = float(kernel["compute"]), float(kernel["memory"])
    if np.isnan(compute) or np.isnan(memory):
        return "The counters do not show what limits it."
    loads, other = float(kernel["load_store"]), float(kernel["arithmetic"])
    from_loads = loads >= compute and (other < compute or loads >= memory)
    what = f"compute at {compute:.0%}" + (f" ({kernel['pipe']})" if kernel["pipe"] else "")
    if from_loads:
        rest = f", arithmetic at {other:.0%}" if other < compute else ""
        what = f"load/store instructions at {loads:.0%}{rest}"
    busy = f"{what}, memory at {memory:.0%} of their peak".replace("%", " %")
    if max(compute, memory) < BUSY:
        return f"Limited by latency: {busy}; it spends most of its time waiting."
    how = "Limited" if max(compute, memory) >= AT_ROOF else "Mostly limited"
    if from_loads and memory - loads < CLEAR_LEAD:
        return f"{how} by load and store instructions: {busy}."
    if abs(compute - memory) < CLEAR_LEAD:
        return f"Balanced: {busy}."
    first = "compute" if compute > memory else str(kernel["level"]) or "memory"
    return f"{how} by {first}: {busy}."
