"""Kernels that wait for unified memory to arrive.

What it looks for:
    Migrations of managed memory that no API call asked for, so that page faults did, at the same
    time as a kernel. Copies beside a kernel are good when they were asked for; these are not: the
    kernel is what waits for them.

Why it is slow:
    Each fault stops the warps that touched the page until it has come over the link, in pieces of
    64 KiB to 2 MiB.

What to try:
    Prefetch with ``cudaMemPrefetchAsync`` before the kernel, advise with ``cudaMemAdvise``, or
    use explicit copies.

When it does not apply:
    When the kernel touches so little of the data that moving it in advance costs more.

Shown by:
    tests/scenarios.py, managed_memory
"""

from __future__ import annotations

import numpy as np

from analyzers.facts import COPY, Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.intervals import intersect, union
from analyzers.ledger import Ledger
from analyzers.losses import largest_launches
from analyzers.words import count_text, size_text, time_text
from collectors.trace import MANAGED_COPIES

CAUSE = Cause.BANDWIDTH
NEEDS = ("copies", "kernels")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernel time during which faulted pages were moving."""
    copies = facts.of_table("copies", ["kind", "bytes"])
    copies = copies[np.isin(copies["kind"], MANAGED_COPIES)]
    rows = copies.index.to_numpy()
    rows = rows[facts.launches["api_row"].to_numpy()[rows] < 0]
    kernels = ledger.of(Row.KERNEL)
    lost_ns = 0
    for key in range(len(facts.devices)):
        mine = facts.launches.loc[rows]
        mine = mine[(mine["device"] == key) & (mine["kind"] == COPY)]
        moving = union(mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy())
        busy = kernels[kernels["device"] == key]
        running = union(busy["start_ns"].to_numpy(), busy["end_ns"].to_numpy())
        lost_ns += intersect(running, moving).total
    if not ledger.is_notable(lost_ns):
        return Clear()
    size = int(copies.loc[rows, "bytes"].clip(lower=0).sum())
    return Finding(
        title=(
            f"{count_text(len(rows), 'migration')} of unified memory ({size_text(size)}) ran "
            f"inside kernels, which wait for the pages: {time_text(lost_ns)}, "
            f"{ledger.share(lost_ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=lost_ns,
        confidence=Confidence.INFERRED,
        advice="Prefetch the memory before the kernel that needs it, or copy it explicitly.",
        does_not_apply_when="the kernel touches only a small part of the data.",
        evidence=(
            Evidence(name="bytes migrated", value=size, unit="bytes"),
            *largest_launches(facts, rows),
        ),
    )
