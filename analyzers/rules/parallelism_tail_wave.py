"""Grids whose last wave of blocks leaves multiprocessors without any.

What it looks for:
    Launches with at least one full wave (as many blocks as the GPU can hold at a time), at most
    four, and then fewer blocks than multiprocessors. A last wave with a block for each leaves none
    idle and is not counted. Grids smaller than the GPU are the small-grid rule's.

Why it is slow:
    While the last, partial wave runs, multiprocessors have nothing left to do. With few
    waves in all, that is a large part of the kernel: 140 blocks where 132 fit take twice as long
    as 132.

What to try:
    Choose a grid that is a multiple of what fits, make blocks smaller so that waves are many, or
    let a grid that fits exactly loop over the work (a persistent, grid-stride kernel).

When it does not apply:
    When blocks differ a lot in length, so that they do not run in waves, or when other kernels
    fill the gap.

The loss is an upper bound, as if each wave took equally long: duration × (1 - blocks of the last
wave / multiprocessors) / waves. How many blocks fit is computed from registers, shared memory and
block size. Time in which several kernels ran at once is not counted, nor is any launch that
another rule of this cause counts, nor time that a finding about memory claims.

Shown by:
    tests/scenarios.py, ``tail_wave``
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.facts.occupancy import launch_shapes
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_memory import is_notable
from analyzers.losses.parallelism import (
    Parallelism,
    kernel_losses,
    largest_kernels,
    last_wave_blocks,
    mean_weighted,
    mostly_in,
    multiprocessors,
    occupancy_is_known,
    why_unknown,
)
from analyzers.recorder import recorder_of
from analyzers.words import count_text, time_text

CAUSE = Cause.PARALLELISM


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernels that ran alone with a partial last wave."""
    if reason := why_unknown(facts):
        return Skipped(reason)
    if not occupancy_is_known(facts):
        return Skipped(
            "the recording lacks register counts or the GPU's limits, so the number of blocks "
            f"that fit is unknown; {recorder_of(facts.trace).details}"
        )
    losses = kernel_losses(facts, ledger, Parallelism.TAIL_WAVE)
    lost_ns = int(losses["lost_ns"].sum())
    if not is_notable(ledger, lost_ns):
        return Clear()
    table = launch_shapes(facts).table
    blocks = mean_weighted(losses, last_wave_blocks(table))
    sms = mean_weighted(losses, multiprocessors(table, facts))
    waves = mean_weighted(losses, np.floor(table["waves"].to_numpy()))
    alone_ns = int(losses["alone_ns"].sum())
    return Finding(
        title=(
            f"{count_text(len(losses), 'launch')} ended in a wave that leaves multiprocessors "
            f"idle: on average {blocks:.0f} blocks for {sms:.0f} after {waves:.1f} full waves, up "
            f"to {time_text(lost_ns)} of {time_text(alone_ns)}, {ledger.share(lost_ns)}"
            f"{mostly_in(facts, ledger, losses)}"
        ),
        row=Row.KERNEL,
        lost_ns=lost_ns,
        confidence=Confidence.INFERRED,
        advice="Choose a grid that fills whole waves, or loop over the work in a grid that fits.",
        does_not_apply_when="blocks differ a lot in length, so that they do not run in waves.",
        evidence=(
            Evidence(name="launches affected", value=len(losses), unit="count"),
            Evidence(name="mean full waves of these launches", value=waves, unit="count"),
            Evidence(name="mean blocks of the last wave", value=blocks, unit="count"),
            *largest_kernels(facts, losses),
        ),
    )
