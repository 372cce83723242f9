"""Global memory that is read or written in pieces most of whose bytes are not used.

What it looks for:
    Counters by which global accesses move more 32-byte sectors than their instructions need:
    ``memory_l2_theoretical_sectors_global`` against ``…_ideal``. Where those were not collected,
    the bytes that each sector is used for, or the sectors of a request.

Why it is slow:
    Memory moves sectors of 32 bytes. When neighbouring threads read far apart, a sector is moved
    for 4 bytes of it, and the bus is busy with the other 28.

What to try:
    Let neighbouring threads read neighbouring addresses: swap the loops or the thread's indices,
    turn an array of structures into a structure of arrays, or go through shared memory.

When it does not apply:
    When the kernel is bound by compute: moving fewer bytes then wins little, and the estimate is
    small. Look-ups in a small table stay in the caches.

The loss is (1 - ideal / actual sectors) × the launch's time × how much it is bound by memory, and
never more than what compute and device memory leave free: what L2 serves twice was fetched once.
The least loss allows for 3 µs that any launch takes, and for what is left to reach 85 % of the
memory's peak, as kernels that only move data do.

Shown by:
    tests/counter_scenarios.py, ``uncoalesced``
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import IDEAL_SECTORS, SECTORS, Part

CAUSE = Cause.BANDWIDTH
NEEDS = ("counters",)

METRICS = (*SECTORS, *IDEAL_SECTORS)
SECTIONS = ("SourceCounters", "SpeedOfLight")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launches whose global accesses move sectors in vain."""
    if reason := why_unknown(facts, ledger, Part.UNCOALESCED, METRICS, SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.UNCOALESCED)
    if loss is None:
        return Clear()
    limits = loss.inside.limits
    with np.errstate(divide="ignore", invalid="ignore"):
        wasted = 100 * loss.mean(np.mean(limits.wasted_sectors, axis=0))
    memory = 100 * loss.mean(limits.memory)
    return finding(
        loss,
        ledger,
        f"move {wasted:.0f} % of their global-memory sectors needlessly, because neighbouring "
        "threads do not access neighbouring addresses",
        formula="time * (1 - ideal / actual sectors) * weight of memory, from L2's share to "
        "m / max(c, m), at most 1 - max(c, share of device memory that is needed), at least with "
        "3 µs for any launch and 85 % of the peak for what is left",
        advice="Let neighbouring threads access neighbouring addresses, or go through shared "
        "memory.",
        does_not_apply_when="the accesses are look-ups in a table that stays in the caches.",
        evidence=(
            Evidence(name="wasted sectors", value=wasted, unit="pct"),
            Evidence(name="memory throughput", value=memory, unit="pct"),
        ),
    )
