"""Copies that keep the host waiting.

What it looks for:
    Copy calls that return only when the copy is done (``cudaMemcpy``, or an asynchronous copy of
    pageable memory that in effect waits) and after or in which the GPU idled.

Why it is slow:
    The host is blocked during the copy and while CUDA stages pageable memory, and does not
    prepare the next work meanwhile.

What to try:
    Use ``cudaMemcpyAsync`` from pinned memory on a stream of its own
    (``pin_memory=True`` and ``non_blocking=True`` in PyTorch).

When it does not apply:
    When the copy is one-off set-up, or when the host needs the data at once.

Shown by:
    traces/synthetic/synthetic_bandwidth.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.tensor_reads import read_advice
from analyzers.losses.timeline import WaitPattern, left_idle, wait_losses
from analyzers.words import count_text

CAUSE = Cause.SYNC
NEEDS = ("api_calls",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report idle time caused by copy calls that block."""
    loss = wait_losses(facts, ledger, WaitPattern.BLOCKING_COPY)
    if not ledger.is_notable(loss.lost_ns):
        return Clear()
    return Finding(
        title=(
            f"{count_text(loss.count, 'copy')} with {loss.functions} kept the host waiting and "
            f"{left_idle(loss, ledger)}{loss.words}"
        ),
        row=Row.SYNC,
        lost_ns=loss.lost_ns,
        confidence=Confidence.MEASURED,
        advice=read_advice(
            loss.reads,
            loss.lost_ns,
            "Copy asynchronously from pinned memory, on a stream of its own.",
        ),
        does_not_apply_when="the copy happens once, or the host needs the data immediately.",
        evidence=loss.evidence,
    )
