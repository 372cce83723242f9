"""The GPU only copies or sets memory, and computes nothing.

What it looks for:
    Time in which only copies or memsets ran: those that are neither pageable, nor small, nor
    round trips, nor unified-memory migrations, which have findings of their own.

Why it is slow:
    A copy and a kernel can run at the same time; where they do not, the kernels wait for the
    link.

What to try:
    Overlap, where kernels take as long as the copies: split the data, copy the next part on a
    stream of its own while the current one is
    computed. Move less: keep data on the GPU, send a smaller type, decompress there. Memory that
    is overwritten anyway needs no memset.

When it does not apply:
    When the program is a copy, or the window is only its loading phase.

Shown by:
    traces/synthetic/synthetic_bandwidth.sqlite
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.host_memory import with_host_memory
from analyzers.losses.transfers import (
    MEMSET_KIND,
    TransferLoss,
    TransferPattern,
    copy_culprits,
    copy_evidence,
    direction_text,
    transfer_losses,
)
from analyzers.words import count_text, share_text, size_text, time_text
from collectors.schema import CopyKind

CAUSE = Cause.BANDWIDTH
NEEDS = ()  # copies or memsets: a recording with either can answer
ADVICE = "Copy the next part on a stream of its own while the current one is being computed."
ADVICE_TO_MOVE_LESS = (
    "Move less: {again}send half the bytes, such as 16 bits for 32 (saves {half}), or compress. "
    "Overlapping copies with kernels saves at most {gain}, because the kernels are that short."
)
SENT_AGAIN = "keep on the GPU what is sent again ({copies} of {size}), "
MIN_AGAIN = 3  # copies of one size before it looks like the same data
WITH_HOST = (CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST)
ADVICE_FOR_MEMSETS = "Drop every memset of memory that is overwritten before it is read."


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report transfer time in which other copies and memsets ran alone."""
    loss = transfer_losses(facts, ledger)[TransferPattern.OTHER]
    if not ledger.is_notable(loss.ns):
        return Clear()
    kind = loss.main_kind
    main = loss.of_kind(kind)
    sets = kind == MEMSET_KIND
    gains = _overlaps_ns(loss, ledger)
    gain_ns = sum(gains.values())
    culprits = copy_culprits(facts, ledger, loss)
    return Finding(
        title=(
            f"{_what(loss)} ran alone for {time_text(loss.ns)}, {ledger.share(loss.ns)}: "
            f"{_part(loss, main, kind)}{size_text(main.size_bytes)} in "
            f"{count_text(len(main.operations), 'memset' if sets else 'copy')} at "
            f"{size_text(main.bytes_per_s)}/s{culprits.words('')}"
        ),
        row=Row.TRANSFER,
        lost_ns=loss.ns,
        confidence=Confidence.MEASURED,
        gain_ns=gain_ns if not sets and gain_ns < loss.ns else -1,
        advice=ADVICE_FOR_MEMSETS if sets else _advice(facts, loss, gains),
        does_not_apply_when="the window is only the loading phase of the program.",
        evidence=(
            Evidence(name="achieved rate", value=main.bytes_per_s, unit="bytes_per_s"),
            *culprits.evidence(),
            *copy_evidence(loss),
        ),
    )


def _overlaps_ns(loss: TransferLoss, ledger: Ledger) -> dict[int, int]:
    """Return what running copies beside kernels can win: on each GPU the shorter of the two."""
    kernel_ns = {d.key: d.rows.get(Row.KERNEL, 0) for d in ledger.devices}
    return {key: min(spans.total, kernel_ns.get(key, 0)) for key, spans in loss.spans.items()}


def _advice(facts: Facts, loss: TransferLoss, gains: dict[int, int]) -> str:
    advice = ADVICE
    if 2 * sum(gains.values()) < loss.ns:
        advice = ADVICE_TO_MOVE_LESS.format(
            again=_sent_again(loss.operations),
            half=_on_each({key: spans.total / 2 for key, spans in loss.spans.items()}),
            gain=_on_each(gains),
        )
    return with_host_memory(facts, advice) if loss.main_kind in WITH_HOST else advice


def _on_each(gains: Mapping[int, float]) -> str:
    """Write what the time of the window shrinks by: GPUs that save together save once."""
    largest = time_text(max(gains.values()))
    several = sum(1 for ns in gains.values() if ns) > 1
    return f"{largest} on each GPU" if several else largest


def _sent_again(operations: pd.DataFrame) -> str:
    """Name the size whose copies to the device move most bytes, where it comes several times."""
    size = operations["bytes"][operations["kind"] == CopyKind.HOST_TO_DEVICE]
    size = size[size > 0]
    if not len(size):
        return ""
    moved, count = size.groupby(size).sum(), size.value_counts()
    most = int(str(moved.idxmax()))
    if count[most] < MIN_AGAIN:
        return ""
    return SENT_AGAIN.format(copies=count_text(int(count[most]), "copy"), size=size_text(most))


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
