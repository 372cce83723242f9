"""Kernels whose threads wait for each other at atomic operations on few addresses.

What it looks for:
    Launches that send at least 10 % of their requests to global memory as atomics
    (``l1tex__t_requests_pipe_lsu_mem_global_op_atom`` and ``…_op_red``), with less than two
    sectors each, so that a warp's lanes meet; whose atomics would take 30 % of the time or more at
    one a clock; and which keep neither compute nor memory 60 % busy.

Why it is slow:
    L2 serves atomics on one address one after the other, in the one slice that holds it. When all
    threads add to one counter, that slice is busy and everything else waits.

What to try:
    Reduce within the warp (``__reduce_add_sync``, ``__shfl_down_sync``), then within the block in
    shared memory, and let one thread of each block do the atomic; or use
    ``cub::DeviceReduce``. Give a histogram a copy per block in shared memory.

When it does not apply:
    When the atomics go to many addresses, which no counter tells, and the kernel waits for
    something else.

The loss lies between how busy the busiest slice was, where that was counted, and the time in which
neither compute nor memory was busy, as far as warps wait for memory in it; the middle is booked.

Shown by:
    tests/counter_scenarios.py, ``atomics_on_one_address``
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import ACCESS, ATOMIC_OPS, Part

CAUSE = Cause.BANDWIDTH
NEEDS = ("counters",)

METRICS = tuple(ACCESS.format("requests", op) for op in ATOMIC_OPS)
SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis_Tables")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launches that wait for atomics."""
    if reason := why_unknown(facts, ledger, Part.ATOMICS, METRICS, SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.ATOMICS)
    if loss is None:
        return Clear()
    limits = loss.inside.limits
    _, of_all, sectors = (loss.mean(values) for values in limits.atomic_requests)
    compute, memory = (100 * loss.mean(v) for v in (limits.compute, limits.memory_at_least))
    serial = 100 * loss.mean(limits.serial_atomics)
    each = f" ({sectors:.1f} sectors each)" if np.isfinite(sectors) else ""
    return finding(
        loss,
        ledger,
        f"send {100 * of_all:.0f} % of their requests to global memory as atomics on few addresses"
        f"{each}, and keep compute {compute:.0f} % and memory {memory:.0f} % busy while these are "
        "served one after the other",
        formula="time * (1 - max(c, m)) * w / 2, from how busy the busiest slice of L2 was with "
        "atomics, beyond c and m, to all of it; w: the part of warps' time in which they wait for "
        "memory, 1 if not counted",
        advice="Add up within the warp and the block first, and let one thread of each block do "
        "the atomic.",
        does_not_apply_when="the atomics go to many addresses.",
        evidence=(
            Evidence(
                name="atomics among requests to global memory", value=100 * of_all, unit="pct"
            ),
            Evidence(name="sectors of an atomic request", value=sectors, unit="count"),
            Evidence(name="time of the atomics at one a clock", value=serial, unit="pct"),
        ),
    )
