"""The GPU only copies or sets memory, and computes nothing.

What it looks for:
    Time in which only copies or memsets ran: those that are neither pageable, nor small, nor
    unified-memory migrations, which have findings of their own.

Why it is slow:
    A copy and a kernel can run at the same time; where they do not, the kernels wait for the
    link.

What to try:
    Overlap: split the data, copy the next part on a stream of its own while the current one is
    computed. Move less: keep data on the GPU, send a smaller type, decompress there. Memory that
    is overwritten anyway needs no memset.

When it does not apply:
    When the program is a copy, or the window is only its loading phase.

Shown by:
    traces/synthetic/synthetic_bandwidth.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.transfers import (
    MEMSET_KIND,
    TransferLoss,
    TransferPattern,
    copy_evidence,
    direction_text,
    transfer_losses,
)
from analyzers.words import count_text, share_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ()  # copies or memsets: a recording with either can answer
ADVICE = "Copy the next part on a stream of its own while the current one is being computed."
ADVICE_FOR_MEMSETS = "Drop every memset of memory that is overwritten before it is read."


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report transfer time in which other copies and memsets ran alone."""
    loss = transfer_losses(facts, ledger)[TransferPattern.OTHER]
    if not ledger.is_notable(loss.ns):
        return Clear()
    kind = loss.main_kind
    main = loss.of_kind(kind)
    sets = kind == MEMSET_KIND
    return Finding(
        title=(
            f"{_what(loss)} ran alone for {time_text(loss.ns)}, {ledger.share(loss.ns)}: "
            f"{_part(loss, main, kind)}{size_text(main.size_bytes)} in "
            f"{count_text(len(main.operations), 'memset' if sets else 'copy')} at "
            f"{size_text(main.bytes_per_s)}/s"
        ),
        row=Row.TRANSFER,
        lost_ns=loss.ns,
        confidence=Confidence.MEASURED,
        advice=ADVICE_FOR_MEMSETS if sets else ADVICE,
        does_not_apply_when="the window is only the loading phase of the program.",
        evidence=(
            Evidence(name="achieved rate", value=main.bytes_per_s, unit="bytes_per_s"),
            *copy_evidence(loss),
        ),
    )


def _what(loss: TransferLoss) -> str:
    sets = (loss.operations["kind"] == MEMSET_KIND).to_numpy()
    if sets.all():
        return "Memsets"
    return "Copies and memsets" if sets.any() else "Copies"


def _part(loss: TransferLoss, main: TransferLoss, kind: int) -> str:
    """Say which part of the loss the numbers that follow are for; nothing when for all of it."""
    if len(main.operations) == len(loss.operations):
        return "" if kind == MEMSET_KIND else f"{direction_text(kind)}, "
    mostly = "mostly" if 2 * main.ns >= loss.ns else f"{share_text(main.ns, loss.ns)} of it"
    return f"{mostly} {direction_text(kind)}, "
