"""Unified memory moving between host and device.

What it looks for:
    Migrations of managed memory while no kernel ran.

Why it is slow:
    Pages move when a processor first touches them, in small pieces, and the kernel that touched
    them waits. Migrations inside a kernel's time are part of that kernel and not counted here.

What to try:
    Prefetch with ``cudaMemPrefetchAsync`` before the kernel, advise with ``cudaMemAdvise``, or
    use explicit copies for large data.

When it does not apply:
    When the migrations are prefetches already, or when the data does not fit into device memory
    and must move.

Shown by:
    traces/README.md names no recording of it
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.transfers import TransferPattern, copy_evidence, transfer_losses
from analyzers.words import count_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("copies",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report transfer time in which only unified-memory migrations ran."""
    loss = transfer_losses(facts, ledger)[TransferPattern.MANAGED]
    if not ledger.is_notable(loss.ns):
        return Clear()
    return Finding(
        title=(
            f"{count_text(len(loss.operations), 'migration')} of unified memory moved "
            f"{size_text(loss.size_bytes)} in {time_text(loss.ns)} while no kernel ran: "
            f"{ledger.share(loss.ns)}"
        ),
        row=Row.TRANSFER,
        lost_ns=loss.ns,
        confidence=Confidence.MEASURED,
        advice="Prefetch the memory before the kernel that needs it, or copy it explicitly.",
        does_not_apply_when=(
            "the migrations are prefetches, or the data does not fit into device memory."
        ),
        evidence=(
            Evidence(name="bytes migrated", value=loss.size_bytes, unit="bytes"),
            *copy_evidence(loss),
        ),
    )
