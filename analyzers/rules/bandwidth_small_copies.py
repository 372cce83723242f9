"""Many copies too small for the link.

What it looks for:
    Copies of at most 64 KiB between host and device, while nothing else ran.

Why it is slow:
    Each copy takes some microseconds to start, however small it is; 64 KiB take about three at 25
    GB/s. Below that the link idles more than it moves.

What to try:
    Pack the pieces into one buffer and copy once; keep small values on the GPU, or pass them as
    kernel arguments.

When it does not apply:
    When there are few of them: the finding shows how much they cost.

Shown by:
    traces/synthetic/synthetic_bandwidth.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.transfers import (
    SMALL_COPY_BYTES,
    TransferPattern,
    copy_evidence,
    transfer_losses,
)
from analyzers.words import count_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("copies",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report transfer time in which only small copies ran."""
    loss = transfer_losses(facts, ledger)[TransferPattern.SMALL]
    if not ledger.is_notable(loss.ns):
        return Clear()
    count = count_text(len(loss.operations), "copy")
    mean_bytes = float(loss.operations["bytes"].mean())
    return Finding(
        title=(
            f"{count} of at most {SMALL_COPY_BYTES // 1024} KiB, {size_text(mean_bytes)} on "
            f"average, took {time_text(loss.ns)} while nothing else ran: {ledger.share(loss.ns)}"
        ),
        row=Row.TRANSFER,
        lost_ns=loss.ns,
        confidence=Confidence.MEASURED,
        advice="Pack the pieces into one buffer and copy once.",
        does_not_apply_when="each piece is needed before the next one exists.",
        evidence=(
            Evidence(name="mean size", value=mean_bytes, unit="bytes"),
            *copy_evidence(loss),
        ),
    )
