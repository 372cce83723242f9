"""Data that leaves the GPU and comes back: copies that need not be made where it stays there.

No recording tells which buffer was copied. What comes back is recognised by its size: as many
bytes left the device before, and kernels ran in between.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import KERNEL, Facts
from analyzers.intervals import Array
from collectors.schema import CopyKind

MIN_RETURNS = 2  # something that comes back once may be a check of the result
MIN_BALANCE = 0.8  # copies one way for each the other way; two inputs and an output are no trips


def returned_copies(facts: Facts, copies: pd.DataFrame) -> Array:
    """Return which copies bring data back to the GPU that had left it, or took it away before.

    Copies of one size and device are followed in time. One to the device takes back what the
    earliest one to the host brought that was not taken back yet; both could be left out. The first
    copy to the device and the last one to the host are needed in any case, and never among them.

    Args:
        facts: The recording.
        copies: ``device``, ``start_ns``, ``end_ns``, ``kind`` and ``bytes`` of each copy.

    Returns:
        One bool a row of ``copies``. None of a size and device count where clearly more go one way
        than the other, where fewer than half are in pairs, or where no kernel ran between.
    """
    result = np.zeros(len(copies), dtype=bool)
    kind, size = copies["kind"].to_numpy(), copies["bytes"].to_numpy()
    start, end = copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy()
    rows = np.flatnonzero(
        np.isin(kind, (CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST)) & (size > 0)
    )
    if not len(rows):
        return result
    device = copies["device"].to_numpy()[rows].astype(np.int64)
    place = np.unique(np.stack((device, size[rows])), axis=1, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((start[rows], place))
    rows, place = rows[order], place[order]
    heads = np.flatnonzero(np.concatenate(([True], place[1:] != place[:-1])))
    for head, tail in zip(heads, np.append(heads[1:], len(rows)), strict=True):
        if tail - head <= 2 * MIN_RETURNS:
            continue
        group = rows[head:tail]
        to_device = kind[group] == CopyKind.HOST_TO_DEVICE
        in_pair = _return_pairs(to_device)
        returns, down = int(in_pair.sum()) // 2, int(to_device.sum())
        is_balanced = min(down, len(group) - down) >= MIN_BALANCE * max(down, len(group) - down)
        if returns < MIN_RETURNS or 4 * returns < len(group) or not is_balanced:
            continue
        between = end[group].min(), start[group].max()
        if _kernels(facts, int(copies["device"].to_numpy()[group[0]]), *between) > returns:
            result[group] = in_pair
    return result


def _return_pairs(to_device: Array) -> Array:
    """Return which copies are in a pair: one to the host, and a later one to the device.

    Args:
        to_device: Whether each copy goes to the device, in time order.
    """
    walk = np.cumsum(np.where(to_device, -1, 1))  # copies to the host less those to the device
    least = np.minimum(np.minimum.accumulate(walk), 0)
    before = np.concatenate(([0], (walk - least)[:-1]))
    back = to_device & (before > 0)
    away = np.flatnonzero(~to_device)[: int(back.sum())]  # the earliest are taken back first
    in_pair = back.copy()
    in_pair[away] = True
    return in_pair


def _kernels(facts: Facts, device: int, start_ns: int, end_ns: int) -> int:
    """Return how many kernels of a device began between two moments."""
    launches = facts.launches
    begin = launches["start_ns"].to_numpy()
    chosen = (launches["kind"] == KERNEL).to_numpy() & (launches["device"] == device).to_numpy()
    return int(np.count_nonzero(chosen & (begin >= start_ns) & (begin < end_ns)))
