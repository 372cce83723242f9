"""The GPU only copies or sets memory, and computes nothing.

What it looks for:
    Time in which only copies or memsets ran: those that are neither pageable, nor small, nor
    unified-memory migrations, which have findings of their own.

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

import numpy as np
import pandas as pd

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
from collectors.schema import CopyKind

CAUSE = Cause.BANDWIDTH
MOST_SIZES = 1_000  # sizes of copies that are compared, the largest
NEEDS = ()  # copies or memsets: a recording with either can answer
ADVICE = "Copy the next part on a stream of its own while the current one is being computed."
ADVICE_TO_MOVE_LESS = (
    "Move less: keep on the GPU what is copied again, send a smaller type, such as 16 bits for 32, "
    "or compress. Overlapping copies with kernels saves at most {gain}, because the kernels are "
    "that short."
)
ADVICE_TO_STAY = (
    "Keep the data on the GPU between kernels: {size} in copies of {each} go there and come back. "
    "Overlapping copies with kernels saves at most {gain}."
)
ADVICE_FOR_MEMSETS = "Drop every memset of memory that is overwritten before it is read."


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report transfer time in which other copies and memsets ran alone."""
    loss = transfer_losses(facts, ledger)[TransferPattern.OTHER]
    if not ledger.is_notable(loss.ns):
        return Clear()
    kind = loss.main_kind
    main = loss.of_kind(kind)
    sets = kind == MEMSET_KIND
    gain_ns = _overlap_ns(loss, ledger)
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
        gain_ns=gain_ns if not sets and gain_ns < loss.ns else -1,
        advice=ADVICE_FOR_MEMSETS if sets else _advice(loss, gain_ns),
        does_not_apply_when="the window is only the loading phase of the program.",
        evidence=(
            Evidence(name="achieved rate", value=main.bytes_per_s, unit="bytes_per_s"),
            *copy_evidence(loss),
        ),
    )


def _overlap_ns(loss: TransferLoss, ledger: Ledger) -> int:
    """Return what running copies beside kernels can win: on each GPU the shorter of the two."""
    kernel_ns = {d.key: d.rows.get(Row.KERNEL, 0) for d in ledger.devices}
    return sum(min(spans.total, kernel_ns.get(key, 0)) for key, spans in loss.spans.items())


def _advice(loss: TransferLoss, gain_ns: int) -> str:
    if 2 * gain_ns >= loss.ns:
        return ADVICE
    gain = time_text(gain_ns)
    total, each = _round_trips(loss.operations)
    if total:
        return ADVICE_TO_STAY.format(size=size_text(total), each=size_text(each), gain=gain)
    return ADVICE_TO_MOVE_LESS.format(gain=gain)


def _round_trips(operations: pd.DataFrame) -> tuple[int, int]:
    """Return the bytes that go to the GPU and come back, if most do, and the main copy's size."""
    size, kind = operations["bytes"].to_numpy(), operations["kind"].to_numpy()
    sizes = np.unique(size[size > 0])
    there = kind == CopyKind.HOST_TO_DEVICE
    back = kind == CopyKind.DEVICE_TO_HOST
    pairs = np.array(
        [
            min(np.count_nonzero(there & (size == s)), np.count_nonzero(back & (size == s)))
            for s in sizes[-MOST_SIZES:]
        ],
        np.int64,
    )
    returned = 2 * pairs * sizes[-MOST_SIZES:]
    if not len(returned) or 2 * returned.sum() < size[size > 0].sum() or pairs.max() < 2:
        return 0, 0
    return int(returned.sum()), int(sizes[-MOST_SIZES:][returned.argmax()])


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
