"""Kernels that move as many bytes per second as device memory delivers, by their counters.

What it looks for:
    Launches with device memory at 80 % of its peak or above
    (``gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed``), and busier than the caches.

Why it is slow:
    No kernel gets more bytes per second than the memory delivers. More threads, more blocks and
    faster arithmetic then change nothing.

What to try:
    Move fewer bytes: fuse neighbouring element-wise operations, use smaller types, keep in
    registers or shared memory what is read twice, read only what is needed.

When it does not apply:
    When the kernels already move each byte once: then the memory is well used, and only a
    different algorithm helps.

A memory at its limit does useful work, and no counter tells how many of its bytes are needed. So
the loss lies between nothing and the time in which device memory was busy beyond compute, and the
middle is booked. Bytes that uncoalesced accesses fetch needlessly are left to their own rule.

Shown by:
    tests/counter_scenarios.py, ``dram_bound``
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import AT_ROOF, DRAM, Part

CAUSE = Cause.BANDWIDTH
NEEDS = ("counters",)

SECTIONS = ("SpeedOfLight",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launches at the limit of device memory."""
    if reason := why_unknown(facts, ledger, Part.DRAM, DRAM[:1], SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.DRAM)
    if loss is None:
        return Clear()
    busy = 100 * loss.mean(loss.inside.limits.dram)
    return finding(
        loss,
        ledger,
        f"use {busy:.0f} % of device memory's bandwidth ("
        f"{100 * AT_ROOF:.0f} % and above is near the limit)",
        formula="time * (d - c) / 2, from none to all of d - c; d: device memory's share of its "
        "peak, without bytes that are fetched needlessly",
        advice="Move fewer bytes: fuse element-wise kernels, or use smaller types.",
        does_not_apply_when="the kernels already move each byte only once.",
        evidence=(Evidence(name="device memory", value=busy, unit="pct"),),
    )
