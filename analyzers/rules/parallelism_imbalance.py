"""Profiled kernels in which some multiprocessors work much longer than others.

What it looks for:
    ``sm__cycles_active.avg`` below ``sm__cycles_active.max`` by so much that 5 % or more of the
    time is lost. Launches with few blocks or a tail are left to those rules.

Why it is slow:
    The kernel ends with its last block. Multiprocessors whose blocks were short wait for the one
    whose blocks were long.

What to try:
    Make blocks alike: split long rows or lists, sort the work by length so that long blocks start
    first, or let blocks take work from a common queue.

When it does not apply:
    When other kernels run on the multiprocessors that are free.

The loss is at most the launch's time × (1 - mean / longest active time) × longest / elapsed.

Shown by:
    tests/counter_scenarios.py, ``imbalance``
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import Part

CAUSE = Cause.PARALLELISM
NEEDS = ("counters",)

MEAN, LONGEST = "sm__cycles_active.avg", "sm__cycles_active.max"


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report profiled launches whose multiprocessors are unequally busy."""
    metrics = (MEAN, LONGEST, "sm__cycles_elapsed.max")
    if reason := why_unknown(facts, ledger, Part.IMBALANCE, metrics, ()):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.IMBALANCE)
    if loss is None:
        return Clear()
    counters = loss.inside.limits.counters
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = 100 * loss.mean(counters.metric(MEAN) / counters.metric(LONGEST))
    return finding(
        loss,
        ledger,
        f"keep the average multiprocessor busy for {mean:.0f} % as long as the busiest one",
        formula="time * (1 - mean / longest active cycles) * longest active / elapsed cycles",
        advice="Split long pieces of work, or start them first.",
        does_not_apply_when="other kernels run on the multiprocessors that are free.",
        evidence=(Evidence(name="average, relative to the busiest", value=mean, unit="pct"),),
    )
