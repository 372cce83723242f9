"""Copies from or to pageable memory, with no kernel beside them.

What it looks for:
    Copies of more than 64 KiB between host and device whose host side is pageable memory, while
    no kernel ran. The kind of memory is read from the recording, by the recording's own
    numbering. A copy that a kernel or the window covers in part counts with the rest.

Why it is slow:
    CUDA copies pageable memory through a pinned buffer of its own, so the link runs at a fraction
    of its speed and nothing overlaps.

What to try:
    Pin the host memory (``pin_memory=True``, ``cudaHostAlloc``) and copy with ``cudaMemcpyAsync``
    on a stream of its own while the previous batch is computed.

When it does not apply:
    When the data is used once, pinning it costs more than the copy saves.

Shown by:
    traces/synthetic/synthetic_bandwidth.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.facts.surroundings import is_pytorch
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.host_memory import with_host_memory
from analyzers.losses.transfers import (
    TransferPattern,
    copy_culprits,
    copy_evidence,
    transfer_losses,
)
from analyzers.words import count_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("copies",)
ADVICE = "Pin the host memory and copy asynchronously while the previous batch is being computed."
IN_PYTORCH = (
    "Pin the host memory (DataLoader(pin_memory=True) or .pin_memory()) and copy with "
    ".to(device, non_blocking=True) while the previous batch is being computed."
)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report transfer time in which only pageable copies ran."""
    loss = transfer_losses(facts, ledger)[TransferPattern.PAGEABLE]
    if not ledger.is_notable(loss.ns):
        return Clear()
    culprits = copy_culprits(facts, ledger, loss)
    return Finding(
        title=(
            f"{count_text(len(loss.operations), 'copy')} of pageable memory moved "
            f"{size_text(loss.size_bytes)} at {size_text(loss.bytes_per_s)}/s while no kernel "
            f"ran: {time_text(loss.ns)}, {ledger.share(loss.ns)}{culprits.words('')}"
        ),
        row=Row.TRANSFER,
        lost_ns=loss.ns,
        confidence=Confidence.MEASURED,
        advice=with_host_memory(facts, IN_PYTORCH if is_pytorch(facts) else ADVICE),
        does_not_apply_when="the data is copied once; pinning it would cost more.",
        evidence=(
            Evidence(name="achieved rate", value=loss.bytes_per_s, unit="bytes_per_s"),
            *culprits.evidence(),
            *copy_evidence(loss),
        ),
    )
