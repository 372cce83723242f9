"""Profiled kernels whose last wave of blocks is not full.

What it looks for:
    One to four full waves of blocks and a partial one (``launch__waves_per_multiprocessor``),
    while the occupancy that was reached stays below 80 % of what is possible.

Why it is slow:
    While the last, partial wave runs, multiprocessors have nothing left to do. With few
    waves in all, that is a large part of the kernel.

What to try:
    Choose a grid that is a multiple of what fits, make blocks smaller so that waves are many, or
    let a grid that fits exactly loop over the work (a persistent, grid-stride kernel).

When it does not apply:
    When blocks differ a lot in length, so that they do not run in waves, or when other kernels
    fill the gap.

The loss is at most the launch's time × (1 - waves / waves rounded up).

Shown by:
    tests/counter_scenarios.py, ``tail``
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import WAVES, Part

CAUSE = Cause.PARALLELISM
NEEDS = ("counters",)

SECTIONS = ("LaunchStats", "Occupancy")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report profiled launches with few waves, the last of them partial."""
    if reason := why_unknown(facts, ledger, Part.TAIL, WAVES, SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.TAIL)
    if loss is None:
        return Clear()
    waves = loss.mean(loss.inside.limits.waves)
    return finding(
        loss,
        ledger,
        f"run in {waves:.2f} waves of blocks, the last of which leaves multiprocessors idle",
        formula="time * (1 - waves / waves rounded up)",
        advice="Choose a grid that fills whole waves, or loop over the work in a grid that fits.",
        does_not_apply_when="blocks differ a lot in length, so that they do not run in waves.",
        evidence=(Evidence(name="waves", value=waves, unit="count"),),
    )
