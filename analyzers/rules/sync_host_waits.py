"""The host waits for the GPU, and the GPU then waits for the host.

What it looks for:
    Synchronise calls (device, stream, event, context, and loops of queries) after which the GPU
    idled: while the call returned, and after it, until the next work began.

Why it is slow:
    A wait for a busy GPU costs nothing by itself. But the host does not prepare the next work
    while it is blocked, so that work is done when the GPU is already idle.

What to try:
    Remove the call, or move it to where the result is needed; wait for an event of older work
    instead of the newest; check results once per epoch, not once per step.

When it does not apply:
    When the host truly needs the result to decide what to run next.

Shown by:
    traces/synthetic/synthetic_sync.sqlite
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
    """Report idle time caused by synchronise calls."""
    loss = wait_losses(facts, ledger, WaitPattern.SYNCHRONISE)
    if not ledger.is_notable(loss.lost_ns):
        return Clear()
    return Finding(
        title=(
            f"{count_text(loss.count, 'wait')} in {loss.functions} {left_idle(loss, ledger)}"
            f"{loss.words}"
        ),
        row=Row.SYNC,
        lost_ns=loss.lost_ns,
        confidence=Confidence.MEASURED,
        advice=read_advice(
            loss.reads,
            loss.lost_ns,
            "Remove the synchronise call, or wait later, when the result is needed.",
        ),
        does_not_apply_when="the host must see the result before it can decide what to run next.",
        culprit=f"mostly after {count_text(loss.count, 'call')} to {loss.functions}{loss.source}",
        evidence=loss.evidence,
    )
