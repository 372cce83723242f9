"""Kernels that wait for unified memory to arrive.

What it looks for:
    Migrations of managed memory to the GPU at the same time as a kernel, caused by page faults; or,
    where the recording does not say why pages moved, those that no API call is known to have asked
    for. Pages that go back to the host make no kernel wait.

Why it is slow:
    Each fault stops the warps that touched the page until it has come over the link, in pieces of
    64 KiB to 2 MiB.

What to try:
    Prefetch with ``cudaMemPrefetchAsync`` before the kernel, advise with ``cudaMemAdvise``, or
    use explicit copies.

When it does not apply:
    When the pages were prefetched: a recording does not always say so, and then this rule gives
    no answer for a program that prefetches. Or when the kernel touches so little of the data
    that moving it in advance costs more.

Shown by:
    tests/scenarios.py, managed_memory
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.evidence import gpus
from analyzers.losses.kernel_memory import migrating, prefetches
from analyzers.losses.transfers import copy_evidence
from analyzers.words import count_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("copies", "kernels")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernel time during which pages were moving to the GPU."""
    loss = migrating(facts, ledger)
    if not ledger.is_notable(loss.ns):
        return Clear()
    if prefetches(facts):
        return Skipped(
            "the program prefetches unified memory, and the recording does not say which "
            "migrations were prefetches and which were page faults"
        )
    return Finding(
        title=(
            f"{count_text(len(loss.operations), 'migration')} of unified memory "
            f"({size_text(loss.size_bytes)}) moved to the {gpus(ledger)} during kernels, which may "
            f"have waited for the pages: {time_text(loss.ns)}, {ledger.share(loss.ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.ns,
        confidence=Confidence.INFERRED,
        advice="Prefetch the memory before the kernel that needs it, or copy it explicitly.",
        does_not_apply_when=(
            "the migrations are prefetches, or the kernel touches only a small part of the data."
        ),
        evidence=(
            Evidence(name="bytes migrated during kernels", value=loss.size_bytes, unit="bytes"),
            *copy_evidence(loss, "time alongside a kernel"),
        ),
    )
