"""Kernels with fewer blocks than the GPU has multiprocessors.

What it looks for:
    Launches whose grid has fewer blocks than the GPU has multiprocessors, and the time in which
    such a kernel ran alone. Kernels that run together fill the GPU together: that time is not
    counted, nor is time that a finding about memory claims.

Why it is slow:
    A block runs on one multiprocessor. With 8 blocks on 132 multiprocessors, 124 of them do
    nothing, however busy the timeline looks.

What to try:
    Split the work into more blocks: smaller tiles, a split along the reduced dimension, several
    items of the batch in one launch. Or run independent small kernels at the same time, on
    streams of their own.

When it does not apply:
    When the problem is that small and nothing else could run beside it.

The loss is what filling every multiprocessor could win back: duration × (1 - blocks /
multiprocessors), never below the two microseconds that any kernel takes. Launches counted here
are counted by no other rule of this cause.

Shown by:
    traces/synthetic/synthetic_parallelism.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.facts.occupancy import launch_shapes
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_memory import is_notable
from analyzers.losses.parallelism import (
    Parallelism,
    kernel_losses,
    larger_grid,
    largest_kernels,
    mean_weighted,
    mostly_in,
    multiprocessors,
    why_unknown,
)
from analyzers.words import count_text, time_text

CAUSE = Cause.PARALLELISM


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernels that ran alone with fewer blocks than multiprocessors."""
    if reason := why_unknown(facts):
        return Skipped(reason)
    losses = kernel_losses(facts, ledger, Parallelism.SMALL_GRID)
    lost_ns = int(losses["lost_ns"].sum())
    if not is_notable(ledger, lost_ns):
        return Clear()
    table = launch_shapes(facts).table
    blocks = mean_weighted(losses, table["grid_blocks"].to_numpy())
    sms = mean_weighted(losses, multiprocessors(table, facts))
    possessive = "its" if len(losses) == 1 else "their"
    alone_ns = int(losses["alone_ns"].sum())
    return Finding(
        title=(
            f"{count_text(len(losses), 'launch')} had fewer blocks than {possessive} GPU has "
            f"multiprocessors: on average {blocks:.0f} blocks for {sms:.0f} multiprocessors, for "
            f"{time_text(alone_ns)}, {ledger.share(alone_ns)}{mostly_in(facts, ledger, losses)}"
            f"{larger_grid(facts, losses)}"
        ),
        row=Row.KERNEL,
        lost_ns=lost_ns,
        confidence=Confidence.INFERRED,
        advice="Split the work of these kernels into at least as many blocks as multiprocessors.",
        does_not_apply_when="the problem is that small and nothing else could run beside it.",
        evidence=(
            Evidence(name="launches affected", value=len(losses), unit="count"),
            Evidence(name="mean blocks of these launches", value=blocks, unit="count"),
            Evidence(name="multiprocessors", value=sms, unit="count"),
            *largest_kernels(facts, losses),
        ),
    )
