"""Which line of PyTorch made the host wait for a value, and what to write instead.

A wait belongs to the first kind whose operators, or functions of Python, are around it, because
``if tensor`` calls ``.item()`` and printing a tensor does both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.surroundings import NamedSpans, frames_of, operators_of
from analyzers.intervals import Array, by_key
from analyzers.words import share_text
from collectors.schema import CopyKind

WORTH_A_FIX = 0.1  # of the loss; a kind with less of it gets no advice of its own
MAIN_KIND = 0.5
ONLY_KIND = 0.9  # from here on the advice is about this kind alone
ANY_DIRECTION = 0


@dataclass(frozen=True)
class ReadKind:
    """A way in which a program waits for a tensor.

    Attributes:
        noun: What the program does, in its own words.
        fix: What to do instead, in the imperative, without a full stop.
        operators: Names of the operators around the wait; empty where Python's frames decide.
        direction: ``CopyKind`` that the copy before the wait has; ``ANY_DIRECTION`` for any.
    """

    noun: str
    fix: str
    operators: str = ""
    direction: int = ANY_DIRECTION


_COPIES = r"^aten::(?:_to_copy|to|copy_|_copy_from)$"

KINDS = (
    ReadKind(
        "printing a tensor",
        "print tensors after the loop or once in many steps, because each print reads them back",
    ),
    ReadKind(
        "an `if` on a tensor",
        "decide on the GPU, with torch.where instead of `if`, or test once in many steps",
        r"^aten::(?:is_nonzero|equal|allclose)$",
    ),
    ReadKind(
        "`nonzero` or a boolean mask",
        "keep sizes fixed: torch.where, masked_fill or a product with the mask instead of "
        "`x[mask]` and nonzero",
        r"^aten::(?:nonzero(?:_numpy)?|argwhere|masked_select|_?unique\w*|repeat_interleave"
        r"|bincount)$",
    ),
    ReadKind(
        "`.item()`",
        "accumulate the value on the GPU and call .item(), float() or print once in many steps",
        r"^aten::(?:item|_local_scalar_dense)$",
    ),
    ReadKind(
        "`.cpu()`",
        "copy with .to('cpu', non_blocking=True) into pinned memory, and wait for its event only "
        "when the value is needed",
        _COPIES,
        CopyKind.DEVICE_TO_HOST,
    ),
    ReadKind(
        "`.to(device)`",
        "pin the source (pin_memory=True) and copy with .to(device, non_blocking=True)",
        _COPIES,
        CopyKind.HOST_TO_DEVICE,
    ),
)


@dataclass(frozen=True)
class TensorReads:
    """Waits of one kind.

    Attributes:
        kind: The kind.
        ns: Idle time booked to them.
        count: Their number.
    """

    kind: ReadKind
    ns: int
    count: int


def tensor_reads(facts: Facts, segments: pd.DataFrame) -> tuple[TensorReads, ...]:
    """Return the kinds of reads that idle time is booked to, the largest first.

    Args:
        facts: The recording.
        segments: Part of the ledger's row ``sync``, with ``wait`` and ``ns``.
    """
    waits, places = np.unique(segments["wait"].to_numpy(), return_inverse=True)
    if not len(waits) or not len(operators_of(facts)):
        return ()
    kind = _kinds(facts, waits)
    ns = np.bincount(places, segments["ns"].to_numpy(), len(waits)).astype(np.int64)
    reads = [
        TensorReads(KINDS[k], int(ns[kind == k].sum()), int(np.count_nonzero(kind == k)))
        for k in np.unique(kind[kind >= 0]).tolist()
    ]
    return tuple(sorted(reads, key=lambda r: -r.ns))


def main_read(reads: tuple[TensorReads, ...], lost_ns: int) -> TensorReads | None:
    """Return the kind that holds half of a loss, else None."""
    return next((r for r in reads if r.ns >= MAIN_KIND * lost_ns), None)


def read_advice(reads: tuple[TensorReads, ...], lost_ns: int, otherwise: str) -> str:
    """Say which fix belongs to which kind; ``otherwise`` where no kind matters."""
    worth = [r for r in reads if r.ns >= WORTH_A_FIX * lost_ns]
    if not worth:
        return otherwise
    first = worth[0].kind.fix
    if worth[0].ns >= ONLY_KIND * lost_ns:
        return f"{first[:1].upper()}{first[1:]}."
    fixes = (f"{r.kind.noun} ({share_text(r.ns, lost_ns)}): {r.kind.fix}" for r in worth)
    return f"For {'; for '.join(fixes)}."


def _kinds(facts: Facts, waits: Array) -> Array:
    """Return the place in ``KINDS`` of each wait, -1 for none."""
    thread = facts.api["thread_index"].to_numpy()[waits]
    begin = facts.api["start_ns"].to_numpy()[waits]
    direction = _directions(facts, waits, thread, begin)
    kind = np.full(len(waits), UNKNOWN, np.int64)
    for place, each in reversed(tuple(enumerate(KINDS))):
        spans = _spans(facts, each)
        inside = spans.around(thread, begin) >= 0
        if each.direction != ANY_DIRECTION:
            inside &= direction == each.direction
        kind[inside] = place
    return kind


def _spans(facts: Facts, kind: ReadKind) -> NamedSpans:
    return operators_of(facts).of_names(kind.operators) if kind.operators else frames_of(facts)[2]


def _directions(facts: Facts, waits: Array, thread: Array, begin: Array) -> Array:
    """Return the ``CopyKind`` of the last copy that the thread had submitted, with the wait's own.

    -1 where it submitted none.
    """
    copies = facts.of_table("copies", ["kind"])
    api_row = facts.launches["api_row"].to_numpy()[copies.index.to_numpy()]
    calls, kinds = api_row[api_row >= 0], copies["kind"].to_numpy()[api_row >= 0]
    result = np.full(len(waits), UNKNOWN, np.int64)
    own = dict(by_key(facts.api["thread_index"].to_numpy()[calls], np.arange(len(calls))))
    for place, asking in by_key(thread, np.arange(len(waits))):
        here = own.get(place)
        if here is None:
            continue
        start = facts.api["start_ns"].to_numpy()[calls[here]]
        order = np.argsort(start, kind="stable")
        last = np.searchsorted(start[order], begin[asking], side="right") - 1
        result[asking] = np.where(last >= 0, kinds[here[order[np.maximum(last, 0)]]], UNKNOWN)
    return result
