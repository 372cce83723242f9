"""The ledger's row ``transfer``, split into the patterns that the rules report.

A copy belongs to the first pattern that fits by the memory that it touched and by its size, and
time in which operations of several patterns ran counts once.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.finding import Evidence, Row
from analyzers.intervals import Array, Spans, covered, intersect, subtract, union
from analyzers.ledger.ledger import Ledger, spans_of
from analyzers.losses.culprits import Culprits, of_operations
from analyzers.losses.evidence import EVIDENCE_GAPS
from analyzers.losses.round_trips import returned_copies
from analyzers.words import size_text
from collectors.schema import MANAGED_COPIES, CopyKind, MemoryKind
from common.memo import memo

SMALL_COPY_BYTES = 65_536  # moved in about 3 µs at 25 GB/s: as long as the copy takes to start
MEMSET_KIND = -2  # stands where a copy has its CopyKind, or -1 for an unknown one


class TransferPattern(enum.IntEnum):
    """What was moved while nothing else ran."""

    OTHER = 0
    MANAGED = 1
    PAGEABLE = 2
    SMALL = 3
    ROUND_TRIP = 4  # as much left the GPU before as comes back


@dataclass(frozen=True, kw_only=True)
class TransferLoss:
    """Time in which operations of one pattern ran, and those operations.

    Attributes:
        spans: The time, by device.
        operations: The copies and memsets that ran in it: ``device``, ``start_ns``, ``end_ns``,
            ``kind`` (``CopyKind`` or ``MEMSET_KIND``), ``bytes``, ``source_kind``,
            ``destination_kind``, and ``inside_ns``: how long in it. An operation may reach beyond
            it.
    """

    spans: dict[int, Spans]
    operations: pd.DataFrame

    @property
    def ns(self) -> int:
        """The time, over all devices."""
        return sum(spans.total for spans in self.spans.values())

    @property
    def size_bytes(self) -> int:
        """Bytes moved in that time: of each operation in proportion, if its size was recorded."""
        whole_ns = (self.operations["end_ns"] - self.operations["start_ns"]).to_numpy()
        part = self.operations["inside_ns"].to_numpy() / np.maximum(whole_ns, 1)
        return round(float((self.operations["bytes"].clip(lower=0) * part).sum()))

    @property
    def bytes_per_s(self) -> float:
        """Bytes moved in that time, per second of it; 0 without time."""
        return self.size_bytes / self.ns * 1e9 if self.ns else 0.0

    @property
    def main_kind(self) -> int:
        """The kind of operation that took most of the time; ``MEMSET_KIND`` without any."""
        ns = self.operations["inside_ns"].groupby(self.operations["kind"]).sum()
        return int(str(ns.idxmax())) if len(ns) else MEMSET_KIND

    def of_kind(self, kind: int) -> TransferLoss:
        """Return the part of the time in which operations of one kind ran, and those."""
        return ran_in(self.spans, self.operations[self.operations["kind"] == kind])


def direction_text(kind: int) -> str:
    """Write the kind of a transfer for a sentence."""
    if kind == MEMSET_KIND:
        return "memsets"
    has_name = kind in set(CopyKind)
    return CopyKind(kind).name.replace("_", " ").lower() if has_name else f"direction {kind}"


# Time in which several ran counts for the first: the larger operation is what takes the time.
_TRANSFER_ORDER = (
    TransferPattern.MANAGED,
    TransferPattern.ROUND_TRIP,
    TransferPattern.PAGEABLE,
    TransferPattern.OTHER,
    TransferPattern.SMALL,
)


@memo()
def transfer_losses(facts: Facts, ledger: Ledger) -> dict[TransferPattern, TransferLoss]:
    """Return the row ``transfer`` by pattern; time shared by two patterns counts once."""
    operations = transfers(facts, ledger)
    pattern = _transfer_patterns(facts, operations)
    free = spans_of(ledger, Row.TRANSFER)
    losses = {}
    for each in _TRANSFER_ORDER:
        losses[each] = ran_in(free, operations[pattern == each])
        free = {key: subtract(free[key], losses[each].spans[key]) for key in free}
    return losses


def transfers(facts: Facts, ledger: Ledger) -> pd.DataFrame:
    """Return the copies and memsets of the window."""
    of_copies = ["source_kind", "destination_kind", "migration_cause"]
    copies = facts.of_table("copies", ["kind", "bytes", *of_copies])
    sets = facts.of_table("memsets", ["bytes"]).assign(
        kind=np.int8(MEMSET_KIND), **dict.fromkeys(of_copies, np.int8(UNKNOWN))
    )
    rows = pd.concat([copies, sets])
    places = facts.launches.loc[rows.index, ["device", "start_ns", "end_ns"]]
    inside = (places["end_ns"] > ledger.window.start_ns) & (
        places["start_ns"] < ledger.window.end_ns
    )
    return pd.concat([places, rows], axis=1)[inside]


def ran_in(spans: dict[int, Spans], operations: pd.DataFrame) -> TransferLoss:
    """Return the part of ``spans`` in which the operations ran, and those that ran in it."""
    device = operations["device"].to_numpy()
    start, end = operations["start_ns"].to_numpy(), operations["end_ns"].to_numpy()
    inside_ns = np.zeros(len(operations), np.int64)
    parts = {}
    for key, free in spans.items():
        on_device = device == key
        parts[key] = intersect(free, union(start[on_device], end[on_device]))
        inside_ns[on_device] = covered(Spans(start[on_device], end[on_device]), parts[key])
    return TransferLoss(
        spans=parts, operations=operations.assign(inside_ns=inside_ns)[inside_ns > 0]
    )


def _transfer_patterns(facts: Facts, copies: pd.DataFrame) -> Array:
    kind = copies["kind"].to_numpy()
    pattern = np.full(len(copies), TransferPattern.OTHER)
    with_host = np.isin(kind, (CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST))
    host_side = np.where(
        kind == CopyKind.HOST_TO_DEVICE, copies["source_kind"], copies["destination_kind"]
    )
    size = copies["bytes"].to_numpy()
    pattern[with_host & (size >= 0) & (size <= SMALL_COPY_BYTES)] = TransferPattern.SMALL
    large = with_host & (size > SMALL_COPY_BYTES)
    pattern[large & (host_side == MemoryKind.PAGEABLE)] = TransferPattern.PAGEABLE
    pattern[np.isin(kind, MANAGED_COPIES)] = TransferPattern.MANAGED
    large_rows = np.flatnonzero(large)
    comes_back = returned_copies(facts, copies.iloc[large_rows])
    pattern[large_rows[comes_back]] = TransferPattern.ROUND_TRIP
    return pattern


def copy_evidence(loss: TransferLoss, what: str = "time without a kernel") -> tuple[Evidence, ...]:
    """Return the operations that took most of the time of a loss.

    Args:
        loss: The loss.
        what: Words for the time; the operation's name comes before.
    """
    columns = ["device", "start_ns", "end_ns", "kind", "bytes", "inside_ns"]
    return tuple(
        Evidence(
            name=f"{_noun(kind)} of {size_text(max(size, 0))}, {what}",
            value=float(ns),
            unit="ns",
            start_ns=int(start),
            end_ns=int(end),
            device=int(device),
        )
        for device, start, end, kind, size, ns in loss.operations.nlargest(
            EVIDENCE_GAPS, "inside_ns"
        )[columns].itertuples(index=False)
    )


def copy_culprits(facts: Facts, ledger: Ledger, loss: TransferLoss) -> Culprits:
    """Return what submitted the operations of a loss, weighted with their time in it."""
    rows, ns = loss.operations.index.to_numpy(), loss.operations["inside_ns"].to_numpy()
    return of_operations(facts, ledger, rows, ns)


def _noun(kind: int) -> str:
    if kind == MEMSET_KIND:
        return "memset"
    return "migration" if kind in MANAGED_COPIES else "copy"
