"""Unified memory moving between host and device while no kernel runs.

What it looks for:
    Migrations of managed memory while no kernel ran: prefetches that nothing hides, pages that the
    host takes back as it touches them, pages that leave to make room.

Why it is slow:
    Kernels wait for a prefetch that is issued just before them. Pages that a processor touches
    come in small pieces, and it waits for each. Migrations inside a kernel's time are part of that
    kernel and not counted here.

What to try:
    Prefetch earlier, on a stream of its own, while other kernels or the host are at work, and in
    parts, so that the first kernel begins with the first part. Prefetch what the host reads with
    ``cudaCpuDeviceId``. Use explicit copies for large data.

When it does not apply:
    When the data must move, does not fit into device memory, or the window is only the loading
    phase.

Shown by:
    tests/scenarios.py, prefetched_memory
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.facts.migrations import migrations, page_outs
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.host_memory import with_host_memory
from analyzers.losses.transfers import (
    TransferLoss,
    TransferPattern,
    copy_evidence,
    ran_in,
    transfer_losses,
)
from analyzers.words import count_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("copies",)
ADVICE = "Prefetch the memory before the kernel that needs it, or copy it explicitly."
ADVICE_FOR_PREFETCHES = (
    "Begin the prefetch earlier, on a stream of its own, while other kernels or the host are at "
    "work; and in parts, so that the first kernel begins when the first part is there."
)
ADVICE_FOR_PAGE_OUTS = (
    "Prefetch what the host reads with cudaMemPrefetchAsync and cudaCpuDeviceId before it waits "
    "for the GPU, or compute the result on the GPU and read that alone."
)
ADVICE_FOR_ROOM = (
    "The pages leave to make room: free what is no longer needed, or work on parts of the data "
    "that fit into the GPU's memory."
)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report transfer time in which only unified-memory migrations ran."""
    loss = transfer_losses(facts, ledger)[TransferPattern.MANAGED]
    if not ledger.is_notable(loss.ns):
        return Clear()
    why, advice, is_prefetch = _main_reason(facts, loss)
    gain_ns = _beside_kernels_ns(loss, ledger)
    return Finding(
        title=(
            f"{count_text(len(loss.operations), 'migration')} of unified memory moved "
            f"{size_text(loss.size_bytes)} in {time_text(loss.ns)} while no kernel ran: "
            f"{ledger.share(loss.ns)}{why}"
        ),
        row=Row.TRANSFER,
        lost_ns=loss.ns,
        confidence=Confidence.MEASURED,
        gain_ns=gain_ns if is_prefetch and gain_ns < loss.ns else -1,
        advice=with_host_memory(facts, advice),
        does_not_apply_when=(
            "the data must move and nothing else can run meanwhile, or it does not fit into device "
            "memory."
        ),
        evidence=(
            Evidence(name="bytes migrated", value=loss.size_bytes, unit="bytes"),
            Evidence(name="achieved rate", value=loss.bytes_per_s, unit="bytes_per_s"),
            *copy_evidence(loss),
        ),
    )


def _main_reason(facts: Facts, loss: TransferLoss) -> tuple[str, str, bool]:
    """Return why most of the time's pages moved, the advice, and whether the program asked."""
    rows = loss.operations.index.to_numpy()
    moves = migrations(facts).loc[rows]
    taken_back = np.isin(rows, page_outs(facts))
    evicted = (moves["is_answer"] & moves["to_host"]).to_numpy() & ~taken_back
    reasons = (
        (
            moves["is_prefetch"].to_numpy(),
            "prefetches that no kernel hides",
            ADVICE_FOR_PREFETCHES,
        ),
        (taken_back, "pages that the host took back as it touched them", ADVICE_FOR_PAGE_OUTS),
        (evicted, "pages that left the GPU to make room", ADVICE_FOR_ROOM),
    )
    for chosen, what, advice in reasons:
        part = ran_in(loss.spans, loss.operations[chosen])
        if 2 * part.ns >= loss.ns:
            prefix = "these are" if part.ns == loss.ns else "mostly"
            return f"; {prefix} {what}", advice, advice == ADVICE_FOR_PREFETCHES
    return "", ADVICE, False


def _beside_kernels_ns(loss: TransferLoss, ledger: Ledger) -> int:
    """Return what moving pages beside kernels can win: on each GPU the shorter of the two."""
    kernel_ns = {d.key: d.rows.get(Row.KERNEL, 0) for d in ledger.devices}
    return sum(min(spans.total, kernel_ns.get(key, 0)) for key, spans in loss.spans.items())
