"""What atomic operations on few addresses cost: they are served one after the other.

L2 holds an address in one of its slices, and serves operations on one address one per clock
(NVIDIA, Kepler GK110 white paper, "Atomic Operations"). A kernel all of whose threads add to one
counter waits for that slice while the others, device memory and the multiprocessors idle. So the
loss is looked for where

* atomics are a notable part of the requests to global memory,
* the lanes of a warp meet in the same 32 bytes: less than two sectors a request; where that was
  not counted, it is as many as one address serves, or the busiest slice of L2 is busy with them,
* one operation per clock takes a notable part of the launch's time, and
* neither compute nor memory is busy, on average over their units.

What can be won back is the time in which nothing is busy, as far as warps wait for memory in it
where their stalls were counted. Nobody counts addresses, so at least nothing is; but where the
busiest slice was counted, that is how much of the launch the operations held up.
"""

from __future__ import annotations

import numpy as np

from analyzers.counters.limits import LaunchLimits, Range
from analyzers.intervals import Array
from analyzers.metric_names import ATOMIC_UNIT_MAX, BUSY, MEMORY_STALLS, WARP_LATENCY

MIN_REQUESTS = 0.10  # of all requests to global memory; fewer are a reduction's last step
MAX_SECTORS = 2.0  # per request; 32 lanes at neighbouring addresses need four
MIN_SERIAL = 0.30  # of the launch's time, at one operation per clock
MAX_SERIAL = 2.0  # more cannot have been at one address, whatever the clock of L2


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def atomics(limits: LaunchLimits) -> Range:
    """Return the share of each launch's time that is lost to atomics on few addresses."""
    requests, of_all, sectors = limits.atomic_requests
    busiest = np.fmax(limits.compute, limits.memory_at_least)
    serial = limits.serial_atomics
    unit = np.clip(limits.counters.metric(ATOMIC_UNIT_MAX) / 100, 0, 1)
    seems_one = (serial <= MAX_SERIAL) | (unit >= BUSY)
    meets = (of_all >= MIN_REQUESTS) & np.where(np.isnan(sectors), seems_one, sectors < MAX_SECTORS)
    waits = meets & (serial >= MIN_SERIAL) & (busiest < BUSY)
    idle = 1 - busiest
    high = np.where(waits, idle * np.nan_to_num(_waiting(limits), nan=1.0), 0.0)
    low = np.where(waits, np.fmin(high, np.nan_to_num(unit) - np.nan_to_num(busiest)), 0.0)
    counted = ~(np.isnan(requests) | np.isnan(limits.compute) | np.isnan(limits.memory_at_least))
    return np.where(counted, np.maximum(low, 0), np.nan), np.where(counted, high, np.nan)


@np.errstate(divide="ignore", invalid="ignore")
def _waiting(limits: LaunchLimits) -> Array:
    """Return the part of warps' time in which they wait for memory; unknown if not counted."""
    counters = limits.counters
    share: Array = counters.total(*MEMORY_STALLS) / counters.metric(*WARP_LATENCY)
    return np.clip(share, 0, 1)
