"""The host reads back a few bytes and waits for them.

What it looks for:
    Copies of at most 1 KiB to the host that it waits for, alone or with the synchronise call
    right after them: what ``.item()``, ``.cpu()`` on a scalar, ``bool(tensor)``, ``nonzero`` do.

Why it is slow:
    The value is tiny, but the host waits until the GPU has finished everything before it, and
    the GPU then idles until the host has submitted more.

What to try:
    Keep the value on the GPU: accumulate losses there and read them once per epoch; replace
    ``if tensor`` with ``torch.where``; avoid boolean indexing.

When it does not apply:
    When the value decides what runs next and cannot be computed on the GPU.

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
    """Report idle time caused by reading back a few bytes."""
    loss = wait_losses(facts, ledger, WaitPattern.READBACK)
    if not ledger.is_notable(loss.lost_ns):
        return Clear()
    return Finding(
        title=(
            f"{count_text(loss.count, 'read-back')} of a few bytes ({loss.functions}) "
            f"{left_idle(loss, ledger)}{loss.words}"
        ),
        row=Row.SYNC,
        lost_ns=loss.lost_ns,
        confidence=Confidence.MEASURED,
        advice=read_advice(
            loss.reads,
            loss.lost_ns,
            "Keep the value on the GPU, and read it back once in a while instead of every step.",
        ),
        culprit=f"mostly after {count_text(loss.count, 'read-back')} of a few bytes{loss.source}",
        does_not_apply_when="the value decides what runs next.",
        evidence=loss.evidence,
    )
