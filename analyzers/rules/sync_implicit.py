"""Calls that wait for the GPU without saying so.

What it looks for:
    Calls such as ``cudaFree`` and ``cudaHostUnregister`` that first wait until the device is idle,
    and after which the GPU idled.

Why it is slow:
    The host is blocked until all work is done, and does not prepare the next work meanwhile.

What to try:
    Take memory from a pool (``cudaMallocAsync`` and ``cudaFreeAsync``, a caching allocator) and
    free at the end of the program.

When it does not apply:
    When the call is part of tear-down.

Shown by:
    traces/synthetic/synthetic_memory.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.evidence import gpus
from analyzers.losses.timeline import WaitPattern, left_idle, wait_losses
from analyzers.words import count_text

CAUSE = Cause.SYNC
NEEDS = ("api_calls",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report idle time caused by waits that are not called so."""
    loss = wait_losses(facts, ledger, WaitPattern.IMPLICIT)
    if not ledger.is_notable(loss.lost_ns):
        return Clear()
    it = "it" if len(ledger.devices) == 1 else "them"
    return Finding(
        title=(
            f"{count_text(loss.count, 'call')} to {loss.functions} waited for the "
            f"{gpus(ledger)} and {left_idle(loss, ledger, it)}{loss.words}"
        ),
        row=Row.SYNC,
        lost_ns=loss.lost_ns,
        confidence=Confidence.MEASURED,
        advice="Take memory from a pool, and do not free it inside the loop.",
        does_not_apply_when="the call is part of tear-down.",
        evidence=loss.evidence,
    )
