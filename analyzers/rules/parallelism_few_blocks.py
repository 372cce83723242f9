"""Profiled kernels with fewer blocks than the GPU has multiprocessors.

What it looks for:
    Profiled launches whose grid has fewer blocks than the GPU has multiprocessors
    (``launch__grid_size`` and ``launch__sm_count``, or the device's attribute).

Why it is slow:
    A block runs on one multiprocessor. With 8 blocks on 132 multiprocessors, 124 of them do
    nothing, however busy the timeline looks.

What to try:
    Split the work into more blocks: smaller tiles, a split along the reduced dimension, several
    items of the batch in one launch. Or run independent small kernels at the same time.

When it does not apply:
    When the problem is that small, or when the program runs other kernels beside it: a profiled
    launch always runs alone. A timeline tells that, and the rule small_grid counts it there.

The loss is at most the launch's time × (1 - blocks / multiprocessors).

Shown by:
    tests/counter_scenarios.py, ``few_blocks``
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import SM_COUNT, Part

CAUSE = Cause.PARALLELISM
NEEDS = ("counters",)

METRICS = (SM_COUNT[1],)
SECTIONS = ("LaunchStats", "Occupancy")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report profiled launches with fewer blocks than multiprocessors."""
    if reason := why_unknown(facts, ledger, Part.SMALL_GRID, METRICS, SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.SMALL_GRID)
    if loss is None:
        return Clear()
    per_sm = 100 * loss.mean(loss.inside.limits.blocks_per_sm)
    return finding(
        loss,
        ledger,
        f"have blocks for only {per_sm:.0f} % of the multiprocessors",
        formula="time * (1 - blocks / multiprocessors)",
        advice="Split the work into more blocks, or run small kernels concurrently.",
        does_not_apply_when="the program runs other kernels at the same time.",
        evidence=(Evidence(name="multiprocessors with a block", value=per_sm, unit="pct"),),
    )
