"""The verdict on the inside of kernels, alone or joined to a timeline."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.finding import Cause, Finding, Row
from analyzers.kernels.tool_rules import largest_estimate, rule_sentence, tool_rules
from analyzers.ledger.ledger import Ledger
from analyzers.losses.ncu_command import MOST_OF_THE_TIME, base_name, why_missing
from analyzers.metric_names import Part
from analyzers.report import Verdict
from analyzers.words import count_text, enumerated, lower_first, name_text, share_text, time_text

BUSY_FROM = 0.60  # below, ncu's own rule calls a kernel bound by latency
_LATENCY = ("SpeedOfLight", "SchedulerStats", "WarpStateStats", "Occupancy", "LaunchStats")
HEALTHY_BELOW = 0.10  # of the profiled time; a reader would not act on a smaller loss

# What each cause needs: one of these parts is told.
_PARTS_OF = {
    Cause.DIVERGENCE: (Part.IDLE_LANES,),
    Cause.BANDWIDTH: (Part.UNCOALESCED, Part.DRAM, Part.L2, Part.L1),
    Cause.PARALLELISM: (Part.SMALL_GRID, Part.TAIL, Part.OCCUPANCY, Part.LATENCY),
    Cause.COMPUTE: (Part.FP64, Part.TENSOR),
}
_TITLES = {
    Cause.DIVERGENCE: "Divergence-bound",
    Cause.BANDWIDTH: "Bandwidth-bound",
    Cause.PARALLELISM: "Too little parallel work",
    Cause.COMPUTE: "Compute-bound on a slow unit",
}
LOSSES_INSIDE = {
    Cause.DIVERGENCE: "is lost to idle lanes in running warps",
    Cause.BANDWIDTH: "is lost to memory that is at its limit or moves bytes that are not needed",
}
_LOSSES_BY_RULE = {  # where one of these loses most of it
    "bandwidth.load_store": "is lost to load and store instructions at their limit",
    "bandwidth.atomics": "is lost to atomics that wait for each other",
}
ROW_INSIDE = {Cause.DIVERGENCE: Row.DIVERGENCE, Cause.BANDWIDTH: Row.BANDWIDTH}
_TOGETHER = {Cause.DIVERGENCE: "Divergence", Cause.BANDWIDTH: "Memory"}
_NUMBERED = re.compile(r"[\W_]*\d+$")
_WORD = re.compile(r"[A-Za-z][A-Za-z _-]{0,19}")
BETWEEN = "What happens between kernels was not recorded: run nsys."


def per_iteration(ledger: Ledger, iterations: tuple[Iteration, ...], cause: Cause) -> str:
    """Say what a loss inside kernels costs in each iteration of the window, on one GPU."""
    examined, window = ledger.examined, ledger.window
    whole = [i for i in iterations if window.start_ns <= i.start_ns and i.end_ns <= window.end_ns]
    used = [d for d in ledger.devices if d.unused_ns < d.duration_ns]
    if examined is None or not whole or len(used) != 1:
        return ""
    begins, ends = (np.sort([getattr(i, of) for i in whole]) for of in ("start_ns", "end_ns"))
    lost = examined.rows_ns[ROW_INSIDE[cause]]
    start = examined.start_ns
    place = np.searchsorted(begins, start, side="right") - 1
    within = (place >= 0) & (start < ends[np.maximum(place, 0)])
    names = examined.joined.counters.profiled["name"].to_numpy()
    row = examined.joined.row[examined.launches]
    within &= (row >= 0) & (lost > 0)
    if not within.any():
        return ""
    sums = pd.Series(lost[within]).groupby(names[row[within]]).sum().sort_values(ascending=False)
    kernel = base_name(str(sums.index[0])) or str(sums.index[0])
    others = f" and {count_text(len(sums) - 1, 'other kernel')}" if len(sums) > 1 else ""
    each, length = sums.sum() / len(whole), (ends - begins).mean()
    step = _NUMBERED.sub("", whole[0].name)
    step = step if _WORD.fullmatch(step) else "iteration"
    return (
        f"{_TOGETHER[cause]} in `{name_text(kernel)}`{others} costs {time_text(each)} of each "
        f"{time_text(length)} {step}."
    )


def examined_by_counters(ledger: Ledger) -> tuple[Cause, ...]:
    """Return the causes that the counters can answer for most of the time they stand for."""
    inside = ledger.inside
    if inside is None:
        return ()
    return tuple(
        c for c, parts in _PARTS_OF.items() if inside.counted_share(*parts) >= MOST_OF_THE_TIME
    )


def verdict_of_counters(
    facts: Facts,
    ledger: Ledger,
    findings: tuple[Finding, ...],
    examined: tuple[Cause, ...],
    not_examined: tuple[Cause, ...],
) -> Verdict:
    """Return the sentence that matters about the inside of kernels."""
    cause, share, sentence = _judge(facts, ledger, findings, examined)
    rest = "" if cause == "unknown" else _unexamined(facts, ledger, examined)
    return Verdict(
        cause=cause,
        share=share,
        sentence=" ".join(part for part in (sentence, rest, BETWEEN) if part),
        examined=examined,
        not_examined=not_examined,
    )


def _judge(
    facts: Facts, ledger: Ledger, findings: tuple[Finding, ...], examined: tuple[Cause, ...]
) -> tuple[str, float, str]:
    """Return the cause, its share, and what to say about it."""
    in_use = max(ledger.in_use_ns, 1)
    booked = {cause: ledger.total_ns(row) for cause, row in ROW_INSIDE.items()}
    cause = max(booked, key=lambda c: booked[c])
    share = booked[cause] / in_use
    worst = _largest_in_kernel_row(findings)
    if share >= HEALTHY_BELOW:
        first = next((f for f in findings if f.cause is cause), None)
        lost = LOSSES_INSIDE[cause]
        if first is not None and 2 * first.lost_ns >= booked[cause]:
            lost = _LOSSES_BY_RULE.get(first.id, lost)
        sentence = f"{_TITLES[cause]}: {ledger.share(booked[cause])} {lost}."
        sentence += f" {first.title}." if first else ""
        if worst is not None and worst.lost_ns > booked[cause]:
            sentence += f" There may be more to gain: {worst.title}."
        return cause.value, share, sentence
    if worst is not None and worst.lost_ns >= HEALTHY_BELOW * in_use:
        sentence = f"{_TITLES[worst.cause]}: up to {ledger.share(worst.lost_ns)} can be won back."
        return worst.cause.value, worst.lost_ns / in_use, f"{sentence} {worst.title}."
    if Cause.BANDWIDTH not in examined:  # idle compute alone may as well wait for memory
        return (
            "unknown",
            0.0,
            f"Could not tell: {lower_first(_unexamined(facts, ledger, examined))}",
        )
    if _may_wait(ledger):
        reason = why_missing(facts, ledger, ["information on what kernels wait for"], _LATENCY)
        return (
            "unknown",
            0.0,
            f"Could not tell: the kernels keep {_busy_text(ledger)} busy, and {reason}.",
        )
    limit = share_text(HEALTHY_BELOW, 1)
    how = "inside kernels" if set(ROW_INSIDE) <= set(examined) else "as far as the counters show"
    sentence = f"Healthy {how}: no cause costs {limit} or more of {ledger.whole}."
    busy = f" The kernels keep {text} busy." if (text := _busy_text(ledger)) else ""
    return "healthy", share, f"{sentence}{busy}{_other_opinion(ledger)}"


def _other_opinion(ledger: Ledger) -> str:
    """Say which of the profiler's own rules estimates a gain where none is found here."""
    rule = largest_estimate(tool_rules(ledger.inside), ledger.in_use_ns)
    if rule is None or rule.estimate * rule.total_ns < HEALTHY_BELOW * ledger.in_use_ns:
        return ""
    return f" {rule_sentence(rule)}"


def _largest_in_kernel_row(findings: tuple[Finding, ...]) -> Finding | None:
    """Return the largest finding about how kernels fill the GPU.

    Those about arithmetic decide nothing: only the author knows the precision that is needed.
    """
    inside = (f for f in findings if f.row is Row.KERNEL and f.cause is Cause.PARALLELISM)
    return max(inside, key=lambda f: f.lost_ns, default=None)


def _may_wait(ledger: Ledger) -> bool:
    """Tell whether kernels leave the GPU idle, and nothing says whether they wait."""
    inside = ledger.inside
    if inside is None or inside.counted_share(Part.LATENCY) >= MOST_OF_THE_TIME:
        return False
    return max(_busy(ledger).values(), default=1.0) < BUSY_FROM


def _busy(ledger: Ledger) -> dict[str, float]:
    """Return how busy the kernels keep compute and memory, weighed with their time, as shares.

    Where compute is busy with load and store instructions, these and arithmetic stand apart.
    """
    inside = ledger.inside
    if inside is None:
        return {}
    limits = inside.limits
    sides = {"compute": limits.compute, "memory": limits.memory}
    if ((limits.arithmetic < limits.compute) & (inside.ns > 0)).any():
        loads = {"load and store instructions": limits.load_store}
        sides = {"arithmetic": limits.arithmetic, **loads, "memory": limits.memory}
    busy = {}
    for what, values in sides.items():
        measured = ~np.isnan(values) & (inside.ns > 0)
        if measured.any():
            busy[what] = float((values * inside.ns)[measured].sum() / inside.ns[measured].sum())
    return busy


def _busy_text(ledger: Ledger) -> str:
    return enumerated([f"{what} {share_text(share, 1)}" for what, share in _busy(ledger).items()])


def _unexamined(facts: Facts, ledger: Ledger, examined: tuple[Cause, ...]) -> str:
    """Say which of the two questions about kernels was not examined, and which command would."""
    missing = [c for c in (Cause.DIVERGENCE, Cause.BANDWIDTH) if c not in examined]
    if not missing:
        return ""
    sections = {
        Cause.DIVERGENCE: ("WarpStateStats", "SourceCounters"),
        Cause.BANDWIDTH: ("SpeedOfLight", "MemoryWorkloadAnalysis_Tables"),
    }
    needed = dict.fromkeys(s for c in missing for s in sections[c])
    names = [c.value for c in missing]
    reason = why_missing(facts, ledger, ["information on " + " and ".join(names)], tuple(needed))
    return f"{reason[0].upper()}{reason[1:]}."
