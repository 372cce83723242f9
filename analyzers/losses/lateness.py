"""Why one rank is late: what its device did while the others waited for it.

The accounts of two devices over one window are equally long. What one of them waits longer in
collectives, the other one therefore spends in other rows, to the nanosecond.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import GRAPH, KERNEL, Facts
from analyzers.finding import KERNEL_ROWS, Row
from analyzers.intervals import Array
from analyzers.ledger.ledger import Detail, Ledger

ALIKE = 0.05  # counts and blocks that differ by less are the same work
EVERYWHERE = 0.8  # of the kernel time is as much slower, for a GPU that is slow itself
MIN_KERNELS = 3  # kinds of kernels that have to agree about that

HOST_ROWS = (Row.LAUNCH, Row.SYNC, Row.HOST, Row.MEMORY, Row.SETUP, Row.PROFILER)


class Reason(enum.IntEnum):
    """What keeps a rank from coming in time."""

    NOT_CLEAR = 0
    MORE_KERNELS = 1  # it launches more, or with larger grids
    SLOWER_KERNELS = 2  # the same launches take longer, some of them
    SLOWER_GPU = 3  # … all of them alike
    COPIES = 4
    HOST = 5  # the device is idle


@dataclass(frozen=True, kw_only=True)
class KernelExcess:
    """The kernel that runs longest on a late rank, compared with the others.

    Attributes:
        name: Its full name.
        excess_ns: How much longer all launches together take than on the others, on average.
        count: Launches on the late rank.
        other_count: … and on the others, on average.
        each_ns: Time of a launch on the late rank.
        other_each_ns: … and on the others; 0 where it was not launched.
    """

    name: str
    excess_ns: int
    count: int
    other_count: float
    each_ns: float
    other_each_ns: float


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """What the device of a late rank did longer than the others.

    Attributes:
        reason: What most of it is.
        row: The row that grew most, where the device was idle or copied.
        excess_ns: By how much longer than on the others, on average.
        kernel: The kernel with most of it, where it is kernels.
    """

    reason: Reason
    row: Row
    excess_ns: int
    kernel: KernelExcess | None = None


def lateness(facts: Facts, ledger: Ledger, late: int, others: Sequence[int]) -> Lateness:
    """Return why the device ``late`` comes after ``others`` (keys of devices)."""
    excess = _row_excess(ledger, late, others)
    kernel_ns = sum(excess[row] for row in KERNEL_ROWS)
    idle_ns = {row: excess[row] for row in HOST_ROWS}
    host_ns = sum(idle_ns.values())
    copy_ns = excess[Row.TRANSFER]
    largest = max(kernel_ns, host_ns, copy_ns)
    if largest <= 0 or largest < sum(v for v in excess.values() if v > 0) / 3:
        return Lateness(reason=Reason.NOT_CLEAR, row=Row.COMMUNICATION, excess_ns=0)
    if largest == host_ns:
        row = max(idle_ns, key=lambda r: idle_ns[r])
        return Lateness(reason=Reason.HOST, row=row, excess_ns=round(host_ns))
    if largest == copy_ns:
        return Lateness(reason=Reason.COPIES, row=Row.TRANSFER, excess_ns=round(copy_ns))
    table = _kernels(facts, ledger, late, others)
    return Lateness(
        reason=_reason(table),
        row=Row.KERNEL,
        excess_ns=round(kernel_ns),
        kernel=_largest(facts, table),
    )


def _row_excess(ledger: Ledger, late: int, others: Sequence[int]) -> dict[Row, float]:
    """Return how much longer each row is on one device than on others, on average."""

    def rows(key: int) -> dict[Row, int]:
        # Being done early is no reason to be late; having begun late is one.
        done = ledger.of(Row.HOST, Detail.NO_MORE_WORK)
        done_ns = {Row.HOST: int(done["ns"][(done["device"] == key).to_numpy()].sum())}
        return {row: ledger.devices[key].rows.get(row, 0) - done_ns.get(row, 0) for row in Row}

    own, of_others = rows(late), [rows(key) for key in others]
    return {row: own[row] - float(np.mean([o[row] for o in of_others])) for row in Row}


def _kernels(facts: Facts, ledger: Ledger, late: int, others: Sequence[int]) -> pd.DataFrame:
    """Return time, launches and blocks of each kernel: on the late device, and on one other.

    The columns are ``ns``, ``count``, ``blocks`` and, as averages over the others, ``other_ns``,
    ``other_count``, ``other_blocks``; the index is the number of the kernel's name.
    """
    rows = facts.inside(*ledger.window.span)
    rows = rows[np.isin(facts.launches["kind"].to_numpy()[rows], (KERNEL, GRAPH))]
    launches = facts.launches.iloc[rows]
    start = np.maximum(launches["start_ns"].to_numpy(), ledger.window.start_ns)
    end = np.minimum(launches["end_ns"].to_numpy(), ledger.window.end_ns)
    frame = pd.DataFrame(
        {
            "name_id": launches["name_id"].to_numpy(),
            "device": launches["device"].to_numpy(),
            "ns": end - start,
            "count": 1,
            "blocks": _blocks(facts, rows),
        }
    )
    columns = ["ns", "count", "blocks"]
    own = frame[(frame["device"] == late).to_numpy()].groupby("name_id")[columns].sum()
    of_others = frame[frame["device"].isin(others).to_numpy()].groupby("name_id")[columns].sum()
    of_others = (of_others / len(others)).add_prefix("other_")
    return own.join(of_others, how="outer").fillna(0)


def _blocks(facts: Facts, rows: Array) -> Array:
    """Return the number of blocks of each launch; 0 where it is unknown."""
    grid = facts.of_table("kernels", ["grid_x", "grid_y", "grid_z"]).clip(lower=0)
    blocks = grid.astype(np.int64).prod(axis=1).reindex(rows, fill_value=0)
    result: Array = blocks.to_numpy()
    return result


def _largest(facts: Facts, table: pd.DataFrame) -> KernelExcess | None:
    excess = (table["ns"] - table["other_ns"]).to_numpy()
    place = int(excess.argmax())
    row = table.iloc[place]
    if excess[place] <= 0:
        return None
    return KernelExcess(
        name=str(facts.trace.names(table.index.to_numpy()[[place]])[0]),
        excess_ns=round(float(excess[place])),
        count=int(row["count"]),
        other_count=float(row["other_count"]),
        each_ns=float(row["ns"] / max(row["count"], 1)),
        other_each_ns=float(row["other_ns"] / row["other_count"]) if row["other_count"] else 0.0,
    )


def _reason(table: pd.DataFrame) -> Reason:
    """Tell more work from the same work done slower, by launches and blocks."""
    excess = (table["ns"] - table["other_ns"]).to_numpy()
    slower = excess > 0
    alike = np.ones(len(table), dtype=bool)
    for column in ("count", "blocks"):
        own, other = table[column].to_numpy(), table[f"other_{column}"].to_numpy()
        alike &= np.abs(own - other) <= ALIKE * np.maximum(own, other)
    if 2 * excess[slower & alike].sum() < excess[slower].sum():
        return Reason.MORE_KERNELS
    same = table[alike & (table["other_ns"] > 0).to_numpy()]
    ratio = (same["ns"] / same["other_ns"]).to_numpy()
    whole = same["ns"].sum() / same["other_ns"].sum()
    as_slow = ratio - 1 >= (whole - 1) / 2
    covered = same["ns"].to_numpy()[as_slow].sum() / max(table["ns"].sum(), 1)
    is_everywhere = covered >= EVERYWHERE and np.count_nonzero(as_slow) >= MIN_KERNELS
    return Reason.SLOWER_GPU if is_everywhere else Reason.SLOWER_KERNELS
