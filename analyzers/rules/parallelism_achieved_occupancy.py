"""Profiled kernels that keep fewer warps on a multiprocessor than they could, or very few.

What it looks for:
    ``sm__warps_active.avg.pct_of_peak_sustained_active`` more than 10 points below
    ``sm__maximum_warps_per_active_cycle_pct``, or below 25 % of the warps, in launches that reach
    80 % of the peak neither in compute nor in memory.

Why it is slow:
    A warp that waits is replaced by another that can go on. With few warps there is often none,
    and the multiprocessor waits too.

What to try:
    Where warps are missing although they would fit: blocks of equal length, more blocks. Where no
    more fit: lower what limits them, which the finding names.

When it does not apply:
    When each thread keeps several independent operations in flight, as matrix multiplications
    do.

The loss is at most the launch's time × (1 - achieved / possible warps, or half of all), and never
more than what keeps the busiest part of the GPU from its peak.

Shown by:
    tests/counter_scenarios.py, ``achieved_occupancy``
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import ACHIEVED_PCT, OCCUPANCY_GAP, THEORETICAL_PCT, Part

CAUSE = Cause.PARALLELISM
NEEDS = ("counters",)

METRICS = (*ACHIEVED_PCT, *THEORETICAL_PCT)
SECTIONS = ("Occupancy", "SpeedOfLight")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report profiled launches with too few resident warps."""
    if reason := why_unknown(facts, ledger, Part.OCCUPANCY, METRICS, SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.OCCUPANCY)
    if loss is None:
        return Clear()
    limits = loss.inside.limits
    achieved, possible = (100 * loss.mean(v) for v in (limits.achieved, limits.theoretical))
    limiter = loss.most(limits.limiter)
    could = possible - achieved > 100 * OCCUPANCY_GAP
    by = f", limited by {limiter}" if limiter and not could else ""
    where = f", where {possible:.0f} % could be" if possible > 0 else ""
    return finding(
        loss,
        ledger,
        f"keep {achieved:.0f} % of a multiprocessor's warps resident{where}{by}",
        formula="time * (1 - achieved / possible warps), or, below a quarter of the warps, "
        "(1 - achieved / half of the warps), at most 1 - max(c, m)",
        advice=(
            "Make blocks take equally long, or launch more of them."
            if could
            else f"Relax what limits the warps: {limiter or 'registers, shared memory'}."
        ),
        does_not_apply_when="each thread keeps several independent operations in flight.",
        evidence=(
            Evidence(name="achieved occupancy", value=achieved, unit="pct"),
            Evidence(name="theoretical occupancy", value=possible, unit="pct"),
        ),
    )
