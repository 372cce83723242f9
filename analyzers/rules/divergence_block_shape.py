"""Blocks whose threads do not fill their warps, so that lanes have nothing to do.

What it looks for:
    Launches of blocks with fewer than 32 threads, or with a number of threads that is no multiple
    of 32, and the time in which such a kernel ran alone. It needs no counters: the launch
    configuration tells it.

Why it is slow:
    The hardware runs threads in warps of 32, whatever the block's size. A block of 4 × 4 threads
    occupies one warp and leaves 16 lanes idle in every instruction; a block of one thread
    leaves 31. Small blocks also use up the multiprocessor's slots for blocks long before those
    for warps.

What to try:
    Launch blocks of a multiple of 32 threads, 128 or 256 to begin with, and let each block do the
    work of several.

When it does not apply:
    When the kernel waits for something else anyway, such as a lock or one thread's chain of
    dependent loads: then full warps win less.

The loss is computed, not measured: duration × (1 - threads in the block / lanes of its warps ×
theoretical occupancy), never below the two microseconds that any kernel takes. Launches counted
here are counted by no rule about parallel work.

Shown by:
    tests/test_block_shape.py, ``blocks``
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.facts.occupancy import THREADS_PER_WARP, launch_shapes
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_memory import is_notable
from analyzers.losses.ncu_command import base_name
from analyzers.losses.parallelism import (
    Parallelism,
    kernel_losses,
    largest_kernels,
    mean_weighted,
    why_unknown,
)
from analyzers.words import count_text, name_text, time_text

CAUSE = Cause.DIVERGENCE


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernels that ran alone in blocks that leave lanes of their warps empty."""
    if reason := why_unknown(facts):
        return Skipped(reason)
    losses = kernel_losses(facts, ledger, Parallelism.PARTIAL_WARPS)
    lost_ns = int(losses["lost_ns"].sum())
    if not is_notable(ledger, lost_ns):
        return Clear()
    table = launch_shapes(facts).table
    threads = table["block_threads"].to_numpy()
    lanes = -(-threads // THREADS_PER_WARP) * THREADS_PER_WARP
    idle = mean_weighted(losses, lanes - threads)
    whole = mean_weighted(losses, lanes)
    kernel, launches, size = _worst(facts, losses, threads)
    others = "" if launches == len(losses) else "with other kernels of such blocks, "
    alone_ns = int(losses["alone_ns"].sum())
    return Finding(
        title=(
            f"`{kernel}` ran in blocks of {size:,} thread{'s' if size > 1 else ''}, which leaves "
            f"{-size % THREADS_PER_WARP} of the 32 lanes of "
            f"{'the' if size < THREADS_PER_WARP else 'the last'} warp idle: {others}"
            f"{count_text(len(losses), 'launch')} that ran alone for {time_text(alone_ns)}, "
            f"{ledger.share(alone_ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=lost_ns,
        confidence=Confidence.INFERRED,
        advice=(
            "Launch blocks of a multiple of 32 threads, 128 or 256 to begin with, that do the "
            "work of several of these."
        ),
        does_not_apply_when="the kernel waits for something else in every one of its threads.",
        evidence=(
            Evidence(name="launches affected", value=len(losses), unit="count"),
            Evidence(name="idle lanes of each block, computed", value=idle, unit="count"),
            Evidence(name="lanes of each block", value=whole, unit="count"),
            *largest_kernels(facts, losses),
        ),
        culprit=f"mostly in `{kernel}`",
    )


def _worst(facts: Facts, losses: pd.DataFrame, threads: np.ndarray) -> tuple[str, int, int]:
    """Return the kernel that loses most: its name, its launches, and the threads of its blocks."""
    name_id = facts.launches["name_id"].to_numpy()[losses["launch"]]
    lost = losses["lost_ns"].groupby(name_id).sum()
    largest = int(str(lost.idxmax()))
    of_kernel = losses[name_id == largest]
    shape = int(of_kernel["shape"].iloc[int(of_kernel["lost_ns"].to_numpy().argmax())])
    text = str(facts.trace.names(np.array([largest]))[0])
    return name_text(base_name(text) or text), len(of_kernel), int(threads[shape])
