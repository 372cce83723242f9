"""Kernels that issue load and store instructions as fast as they can, and compute little.

What it looks for:
    Launches whose load/store pipe is at 80 % of its peak or above, and busier than arithmetic:
    ``sm__inst_executed_pipe_lsu`` or ``l1tex__lsuin_requests``, which the breakdown of
    ``sm__throughput`` and of the memory throughput both name. Where neither was collected, it is
    seen by both throughputs being the same number, and by how rarely instructions issue.

Why it is slow:
    A multiprocessor takes in an instruction that loads or stores every few cycles, whether it hits
    in L1 or shared memory or not. A matrix product that loads two values for each multiply-add is
    held up by that: "compute" looks busy, but the arithmetic pipes idle.

What to try:
    Use each loaded value more often: a tile of results per thread in registers. Load four values
    at a time (``float4``). Let a library do it: cuBLAS, CUTLASS, a fused kernel.

When it does not apply:
    When a kernel has nothing to compute with what it loads, such as a copy or a look-up.

The loss lies between nothing and the time in which the pipe was busy beyond arithmetic, for no
counter tells how many of the loads are needed; the middle is booked.

Shown by:
    tests/counter_scenarios.py, ``load_store_bound``
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import AT_ROOF, LOAD_STORE_STAGES, Part

CAUSE = Cause.BANDWIDTH
NEEDS = ("counters",)

SECTIONS = ("SpeedOfLight", "ComputeWorkloadAnalysis")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launches at the limit of what takes in loads and stores."""
    if reason := why_unknown(facts, ledger, Part.LOAD_STORE, LOAD_STORE_STAGES[:1], SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.LOAD_STORE)
    if loss is None:
        return Clear()
    limits = loss.inside.limits
    busy, arithmetic = (100 * loss.mean(v) for v in (limits.load_store, limits.arithmetic))
    return finding(
        loss,
        ledger,
        f"keep the load/store pipe {busy:.0f} % busy ({100 * AT_ROOF:.0f} % and above is near the "
        f"limit) and arithmetic {arithmetic:.0f} %",
        formula="time * (l - a) / 2, from none to all of l - a; l: the load/store pipe's share of "
        "its peak, a: that of the busiest arithmetic pipe or of instruction issue",
        advice="Use each loaded value more often, with a tile of results per thread in registers, "
        "and load four values at a time (float4).",
        does_not_apply_when="there is nothing to compute with what is loaded.",
        evidence=(
            Evidence(name="load/store pipe", value=busy, unit="pct"),
            Evidence(name="arithmetic", value=arithmetic, unit="pct"),
        ),
    )
