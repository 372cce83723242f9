"""Accesses to shared memory that have to wait for each other, because they fall into the same bank.

What it looks for:
    Counters by which bank conflicts make up 10 % or more of the wavefronts of shared memory:
    ``l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_{ld,st}.sum`` against
    ``l1tex__data_pipe_lsu_wavefronts_mem_shared_op_{ld,st}.sum``.

Why it is slow:
    Shared memory has 32 banks, each of which serves one address at a time. When threads of a warp
    ask one bank for different addresses, the access is repeated until all are served.

What to try:
    Pad rows of a tile by one element, or permute (swizzle) the columns, so that a column's
    elements lie in different banks.

When it does not apply:
    When shared memory is not what the kernel waits for: the estimate is small then.

The loss is conflicts / wavefronts × the launch's time × how busy shared memory is.

Shown by:
    tests/counter_scenarios.py, ``bank_conflicts``
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import CONFLICTS, WAVEFRONTS, Part

CAUSE = Cause.BANDWIDTH
NEEDS = ("counters",)

METRICS = (CONFLICTS[0], WAVEFRONTS[0])
SECTIONS = ("MemoryWorkloadAnalysis_Tables", "SpeedOfLight")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launches whose shared-memory accesses are repeated for bank conflicts."""
    if reason := why_unknown(facts, ledger, Part.BANK_CONFLICTS, METRICS, SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.BANK_CONFLICTS)
    if loss is None:
        return Clear()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 100 * loss.mean(loss.inside.limits.conflict_ratio)
    return finding(
        loss,
        ledger,
        f"repeat accesses to shared memory: {ratio:.0f} % of its wavefronts are due to bank "
        "conflicts",
        formula="time * conflicts / wavefronts * weight of shared memory, from its busy share to "
        "m / max(c, m)",
        advice="Pad or swizzle the tile, so that a column's elements lie in different banks.",
        does_not_apply_when="the kernel does not wait for shared memory.",
        evidence=(Evidence(name="wavefronts due to conflicts", value=ratio, unit="pct"),),
    )
