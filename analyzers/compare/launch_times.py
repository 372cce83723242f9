"""Launches of a run that has too few iterations to compare, kept so that they can be paired.

The k-th launch of a kernel name on one side belongs to the k-th on the other, if both launched it
equally often: the work did not change then, whatever became of the launch configuration. Of a
name that is launched very often every second launch is kept, every fourth, and so on: powers of
two, so that what one side kept more sparsely the other kept too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.compare.side import OTHERS, Kernels, LaunchTimes
from analyzers.compare.side_tables import LaunchedKernels
from analyzers.facts.facts import Facts
from analyzers.intervals import Array
from analyzers.ledger.booking import ROWS
from analyzers.ledger.ledger import Ledger

MAX_OF_NAME = 4_096  # launches that are kept of each name; a few hundred would do
MAX_LAUNCHES = 1 << 16  # that are kept in all, the names with most time first
MAX_CUTS_OF_NAME = 256  # places where the account is cut, which takes a row each
MAX_CUT_NAMES = 32


def no_launch_times() -> LaunchTimes:
    """Return the launches of a side whose iterations say more."""
    none = np.empty(0, np.int64)
    return LaunchTimes(
        column=none,
        ordinal=none,
        start_ns=none,
        ns=none,
        cut=none,
        ledger_before_ns=np.empty((0, len(ROWS)), np.int64),
    )


def launch_times(
    facts: Facts, kernels: Kernels, launched: LaunchedKernels, ledger: Ledger, device: int
) -> LaunchTimes:
    """Return the launches to pair, by name and order.

    Args:
        facts: The recording.
        kernels: What they launch, most time first.
        launched: The launches, in the order in which they began, without those of the warm-up.
        ledger: The account of the window.
        device: Key of the device in it.
    """
    column = launched.column
    start_ns = facts.launches["start_ns"].to_numpy()[launched.row]
    ns = facts.duration_ns[launched.row]
    name = pd.factorize(np.array(kernels.names, dtype=object))[0]
    others = np.array([n == OTHERS for n in kernels.names], dtype=bool)
    of_name = name[column]
    ordinal = pd.Series(of_name).groupby(of_name).cumcount().to_numpy()
    count = np.bincount(of_name, minlength=len(kernels.names))
    kept = (ordinal % _stride(count, MAX_OF_NAME)[of_name] == 0) & ~others[column]
    rank = np.full(len(count), len(count))  # of each name, that with the longest kernel first
    rank[pd.unique(name)] = np.arange(len(pd.unique(name)))
    rows = np.flatnonzero(kept)
    rows = rows[np.lexsort((ordinal[rows], rank[of_name[rows]]))][:MAX_LAUNCHES]
    chosen = of_name[rows]
    cuts = ordinal[rows] % _stride(count, MAX_CUTS_OF_NAME)[chosen] == 0
    cut = np.flatnonzero(cuts & (rank[chosen] < MAX_CUT_NAMES))
    return LaunchTimes(
        column=column[rows].astype(np.int64),
        ordinal=ordinal[rows].astype(np.int64),
        start_ns=start_ns[rows],
        ns=ns[rows],
        cut=cut,
        ledger_before_ns=_booked_before(ledger, device, start_ns[rows][cut]),
    )


def _stride(count: Array, most: int) -> Array:
    """Return for each number of things every how many-th is kept, a power of two."""
    excess = np.maximum(np.ceil(np.log2(np.maximum(count, 1) / most)), 0)
    stride: Array = (1 << excess.astype(np.int64)).astype(np.int64)
    return stride


def _booked_before(ledger: Ledger, device: int, moments: Array) -> Array:
    """Return what each row of the ledger holds up to some moments, a row of the table each."""
    segments = ledger.segments[(ledger.segments["device"] == device).to_numpy()]
    start, end = (segments[c].to_numpy() for c in ("start_ns", "end_ns"))
    row = segments["row"].to_numpy()
    table = np.zeros((len(moments), len(ROWS)), np.int64)
    for code in np.unique(row).tolist():
        of_row = row == code
        begins, ends = start[of_row], end[of_row]  # of one device, so none overlap
        before = np.concatenate(([0], np.cumsum(ends - begins)))
        place = np.searchsorted(begins, moments, side="right")
        late = np.maximum(ends[np.maximum(place - 1, 0)] - moments, 0)
        table[:, code] = before[place] - np.where(place > 0, late, 0)
    return table
