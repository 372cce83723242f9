"""Kernels that move as many bytes per second as the L2 cache delivers.

What it looks for:
    Launches with the L2 cache at 80 % of its peak or above
    (``lts__throughput.avg.pct_of_peak_sustained_elapsed``), and busier than device memory.

Why it is slow:
    All multiprocessors share one L2 cache. What misses L1 comes from there, and it has a limit,
    even when every access hits.

What to try:
    Read it less often: larger tiles in shared memory or registers, an order of blocks that shares
    what is read, wider loads, fewer atomics on one address.

When it does not apply:
    When the accesses are uncoalesced: fix those first; another rule counts them before this one.

A memory at its limit does useful work, and no counter tells how many of its bytes are needed. So
the loss lies between nothing and the time in which the cache was busy beyond compute, and the
middle is booked. Sectors that uncoalesced accesses move needlessly are left to their own rule.

Shown by:
    tests/counter_scenarios.py, ``l2_bound``
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import AT_ROOF, L2, Part

CAUSE = Cause.BANDWIDTH
NEEDS = ("counters",)

SECTIONS = ("SpeedOfLight",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launches at the limit of the L2 cache."""
    if reason := why_unknown(facts, ledger, Part.L2, L2, SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.L2)
    if loss is None:
        return Clear()
    busy = 100 * loss.mean(loss.inside.limits.l2)
    return finding(
        loss,
        ledger,
        f"use {busy:.0f} % of the L2 cache's bandwidth ("
        f"{100 * AT_ROOF:.0f} % and above is near the limit)",
        formula="time * (l2 - c) / 2, from none to all of l2 - c; l2: the L2 cache's share of its "
        "peak, without sectors that are moved needlessly",
        advice="Read L2 less often: keep tiles in shared memory or registers.",
        does_not_apply_when="each byte is already read once per block.",
        evidence=(Evidence(name="L2 cache", value=busy, unit="pct"),),
    )
