"""The verdict on a recording that holds counters and no timeline."""

from __future__ import annotations

import numpy as np

from analyzers.examined import account_in
from analyzers.facts import Facts
from analyzers.finding import Cause, Finding, Row
from analyzers.inside import Part
from analyzers.ledger import Ledger
from analyzers.ncu_command import why_missing
from analyzers.report import Verdict
from analyzers.words import share_text

HEALTHY_BELOW = 0.10  # of the profiled time; a reader would not act on a smaller loss

# What each cause needs: one of these parts is told.
_TOLD_BY = {
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
_LOSSES = {
    Cause.DIVERGENCE: "goes to lanes of running warps that are idle",
    Cause.BANDWIDTH: "goes to memory that is at its limit or moves bytes in vain",
}
_ROWS = {Cause.DIVERGENCE: Row.DIVERGENCE, Cause.BANDWIDTH: Row.BANDWIDTH}
BETWEEN = "What happens between kernels was not recorded: run nsys."


def examined_by_counters(facts: Facts) -> tuple[Cause, ...]:
    """Return the causes that the counters can answer."""
    inside = account_in(facts)
    if inside is None or not len(facts.launches):
        return ()
    timed = inside.ns > 0
    return tuple(c for c, parts in _TOLD_BY.items() if inside.told[list(parts)][:, timed].any())


def verdict_of_counters(
    facts: Facts,
    ledger: Ledger,
    findings: tuple[Finding, ...],
    examined: tuple[Cause, ...],
    not_examined: tuple[Cause, ...],
) -> Verdict:
    """Return the sentence that matters about the inside of kernels."""
    cause, share, told = _told(facts, ledger, findings, examined)
    rest = "" if cause == "unknown" else _unexamined(facts, ledger, examined)
    return Verdict(
        cause=cause,
        share=share,
        sentence=" ".join(part for part in (told, rest, BETWEEN) if part),
        examined=examined,
        not_examined=not_examined,
    )


def _told(
    facts: Facts, ledger: Ledger, findings: tuple[Finding, ...], examined: tuple[Cause, ...]
) -> tuple[str, float, str]:
    """Return the cause, its share, and what to say about it."""
    in_use = max(ledger.in_use_ns, 1)
    booked = {cause: ledger.total_ns(row) for cause, row in _ROWS.items()}
    cause = max(booked, key=lambda c: booked[c])
    share = booked[cause] / in_use
    worst = _largest_in_kernel_row(findings)
    if share >= HEALTHY_BELOW:
        told = f"{_TITLES[cause]}: {ledger.share(booked[cause])} {_LOSSES[cause]}."
        first = next((f for f in findings if f.cause is cause), None)
        told += f" {first.title}." if first else ""
        if worst is not None and worst.lost_ns > booked[cause]:
            told += f" There may be more to win: {worst.title}."
        return cause.value, share, told
    if worst is not None and worst.lost_ns >= HEALTHY_BELOW * in_use:
        told = f"{_TITLES[worst.cause]}: up to {ledger.share(worst.lost_ns)} can be won back."
        return worst.cause.value, worst.lost_ns / in_use, f"{told} {worst.title}."
    if not set(_ROWS) & set(examined):
        return "unknown", 0.0, f"Could not tell: {_unexamined(facts, ledger, examined)}"
    limit = share_text(HEALTHY_BELOW, 1)
    how = "inside kernels" if set(_ROWS) <= set(examined) else "as far as was counted"
    told = f"Healthy {how}: no cause costs {limit} of {ledger.whole}."
    return "healthy", share, f"{told} {_busy(facts)}".strip()


def _largest_in_kernel_row(findings: tuple[Finding, ...]) -> Finding | None:
    """Return the largest finding about how kernels fill the GPU.

    Those about arithmetic decide nothing: only the author knows the precision that is needed.
    """
    inside = (f for f in findings if f.row is Row.KERNEL and f.cause is Cause.PARALLELISM)
    return max(inside, key=lambda f: f.lost_ns, default=None)


def _busy(facts: Facts) -> str:
    """Say how busy the kernels keep the GPU, weighed with their time."""
    inside = account_in(facts)
    if inside is None:
        return ""
    told = []
    for what, values in (("compute", inside.limits.compute), ("memory", inside.limits.memory)):
        known = ~np.isnan(values) & (inside.ns > 0)
        if known.any():
            mean = float((values * inside.ns)[known].sum() / inside.ns[known].sum())
            told.append(f"{what} {share_text(mean, 1)}")
    return f"They keep {' and '.join(told)} busy." if told else ""


def _unexamined(facts: Facts, ledger: Ledger, examined: tuple[Cause, ...]) -> str:
    """Say which of the two questions about kernels was not examined, and which command would."""
    missing = [c for c in (Cause.DIVERGENCE, Cause.BANDWIDTH) if c not in examined]
    if not missing:
        return ""
    sections = {
        Cause.DIVERGENCE: ("WarpStateStats", "SourceCounters"),
        Cause.BANDWIDTH: ("SpeedOfLight", "MemoryWorkloadAnalysis_Tables"),
    }
    wanted = dict.fromkeys(s for c in missing for s in sections[c])
    names = [c.value for c in missing]
    reason = why_missing(facts, ledger, ["what tells " + " and ".join(names)], tuple(wanted))
    return f"{reason[0].upper()}{reason[1:]}."
