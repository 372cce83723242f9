"""Data that leaves the GPU and comes back, around kernels that need it.

What it looks for:
    Copies to the host after which as many bytes are copied to the device again, with kernels
    before and behind: at least twice, and for most copies of that size. The time counts in which
    they ran and no kernel did.

Why it is slow:
    Memory of the GPU is 10 to 100 times as fast as the link to the host, and keeps its content
    from one kernel to the next. What goes to the host and comes back unchanged was moved twice
    for nothing.

What to try:
    Allocate the buffer on the GPU once, copy it there before the first kernel and back after the
    last. What the host does to it in between can be a kernel, too.

When it does not apply:
    When each copy carries other data of the same size, such as the next part of a large array or
    the next batch: copy that on a stream of its own while the current part is computed.

Shown by:
    tests/scenarios.py, ``round_trips``
"""

from __future__ import annotations

import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.host_memory import with_host_memory
from analyzers.losses.transfers import TransferPattern, copy_evidence, transfer_losses
from analyzers.words import count_text, size_text, time_text
from collectors.schema import CopyKind

CAUSE = Cause.BANDWIDTH
NEEDS = ("copies",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report transfer time of copies that bring back what had left the GPU."""
    loss = transfer_losses(facts, ledger)[TransferPattern.ROUND_TRIP]
    if not ledger.is_notable(loss.ns):
        return Clear()
    size, returns = _main_size(loss.operations)
    return Finding(
        title=(
            f"{size_text(size)} leave the GPU and as much comes back, {_times(returns)}: "
            f"{count_text(len(loss.operations), 'copy')} of {size_text(loss.size_bytes)} in all "
            f"ran alone for {time_text(loss.ns)}, {ledger.share(loss.ns)}"
        ),
        row=Row.TRANSFER,
        lost_ns=loss.ns,
        confidence=Confidence.INFERRED,
        advice=with_host_memory(
            facts,
            "Keep the data on the GPU between kernels: copy it there before the first and back "
            "after the last.",
        ),
        does_not_apply_when=(
            "each copy carries other data of the same size; copy the next part on a stream of its "
            "own then, while the current one is being computed."
        ),
        evidence=(
            Evidence(name="achieved rate", value=loss.bytes_per_s, unit="bytes_per_s"),
            *copy_evidence(loss),
        ),
    )


def _main_size(operations: pd.DataFrame) -> tuple[int, int]:
    """Return the size whose copies took longest, and how often it came back."""
    size = int(str(operations["inside_ns"].groupby(operations["bytes"]).sum().idxmax()))
    of_size = operations[operations["bytes"] == size]
    return size, int((of_size["kind"] == CopyKind.HOST_TO_DEVICE).sum())


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")
