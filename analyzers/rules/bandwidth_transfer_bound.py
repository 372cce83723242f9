"""The GPU waits for data that is being copied.

What it looks for:
    Time in which only copies or memsets ran: those that are neither pageable, nor small, nor
    unified-memory migrations, which have findings of their own.

Why it is slow:
    A copy and a kernel can run at the same time; where they do not, the kernels wait for the
    link.

What to try:
    Overlap: split the data, copy the next part on a stream of its own while the current one is
    computed. Move less: keep data on the GPU, send a smaller type, decompress there.

When it does not apply:
    When the program is a copy, or the window is only its loading phase.

Shown by:
    traces/synthetic/synthetic_bandwidth.sqlite
"""

from __future__ import annotations

from analyzers.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger import Ledger
from analyzers.losses import TransferPattern, copy_evidence, transfer_losses
from analyzers.words import count_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("copies",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report transfer time in which other copies and memsets ran alone."""
    loss = transfer_losses(facts, ledger)[TransferPattern.OTHER]
    if not ledger.is_notable(loss.ns):
        return Clear()
    direction, mostly = loss.main_direction
    return Finding(
        title=(
            f"Copies ran alone for {time_text(loss.ns)}, {ledger.share(loss.ns)}: mostly "
            f"{direction}, {size_text(mostly.size_bytes)} in "
            f"{count_text(len(mostly.copies), 'copy')} at {size_text(mostly.bytes_per_s)}/s"
        ),
        row=Row.TRANSFER,
        lost_ns=loss.ns,
        confidence=Confidence.MEASURED,
        advice="Copy the next part on a stream of its own while the current one is computed.",
        does_not_apply_when="the window is only the loading phase of the program.",
        evidence=(
            Evidence(name="achieved rate", value=mostly.bytes_per_s, unit="bytes_per_s"),
            *copy_evidence(loss),
        ),
    )
