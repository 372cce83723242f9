"""Kernels whose accesses keep the data stages of the L1 cache busy all the time.

What it looks for:
    Launches with a data stage of L1 and shared memory at 80 % of its peak or above, such as
    ``l1tex__data_pipe_lsu_wavefronts.avg.pct_of_peak_sustained_elapsed``, and busier than what
    lies behind it. Taking in instructions does not count: that is the multiprocessor's part.

Why it is slow:
    An access of a warp is served in wavefronts. Uncoalesced accesses and bank conflicts need
    several for one instruction, and the stage is then full although few bytes arrive.

What to try:
    Collect the sections SourceCounters and MemoryWorkloadAnalysis_Tables, which tell whether
    accesses are uncoalesced or conflict; read each value once and keep it in a register.

When it does not apply:
    When the kernel lives in shared memory by design and each wavefront is full.

A memory at its limit does useful work, and no counter tells how many of its bytes are needed. So
the loss lies between nothing and the time in which the stage was busy beyond compute, and the
middle is booked.

Shown by:
    tests/counter_scenarios.py, ``l1_bound``
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import AT_ROOF, L1_STAGES, Part

CAUSE = Cause.BANDWIDTH
NEEDS = ("counters",)

SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis_Tables")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launches at the limit of L1's data stages."""
    if reason := why_unknown(facts, ledger, Part.L1, L1_STAGES[:1], SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.L1)
    if loss is None:
        return Clear()
    busy = 100 * loss.mean(loss.inside.limits.l1)
    return finding(
        loss,
        ledger,
        f"keep a data stage of L1 and shared memory {busy:.0f} % busy ("
        f"{100 * AT_ROOF:.0f} % and above is near the limit)",
        formula="time * (l1 - c) / 2, from none to all of l1 - c; l1: the stage's share of its "
        "peak",
        advice="Make each access serve more bytes: coalesce it, or keep values in registers.",
        does_not_apply_when="each wavefront is full, as in a tuned matrix multiplication.",
        evidence=(Evidence(name="L1 data stage", value=busy, unit="pct"),),
    )
