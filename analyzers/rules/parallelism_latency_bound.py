"""Profiled kernels that keep neither compute nor memory busy, because warps wait.

What it looks for:
    Launches below 60 % of the peak on both sides (``sm__throughput`` and
    ``gpu__compute_memory_throughput``, each ``.avg.pct_of_peak_sustained_elapsed``). What most
    warps wait for comes from ``smsp__average_warps_issue_stalled_*_per_issue_active.ratio``.

Why it is slow:
    An instruction needs the result of another, or of memory, and no other warp has anything to
    do meanwhile. The time is latency that nothing hides.

What to try:
    More independent work per thread (unroll, several loads before their use), more warps, fewer
    barriers, shorter chains of dependent loads.

When it does not apply:
    When the kernel takes a few microseconds: starting and ending it is then most of its time.

The loss is at most the launch's time × (1 - busiest side / 60 %).

Shown by:
    tests/counter_scenarios.py, ``latency_bound``
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import ProfiledLoss, finding, profiled_loss, why_unknown
from analyzers.metric_names import BUSY, COMPUTE, MEMORY, Part

CAUSE = Cause.PARALLELISM
NEEDS = ("counters",)

METRICS = (COMPUTE[0], MEMORY[0])
SECTIONS = ("SpeedOfLight", "WarpStateStats", "SchedulerStats")
WAIT_WORDS = {  # what warps wait for, by the reason's name in the metric
    "long_scoreboard": "for data from global, local or texture memory",
    "short_scoreboard": "for data from shared memory or special functions",
    "lg_throttle": "for room among the outstanding accesses to global and local memory",
    "mio_throttle": "for room in the queue to shared memory and special functions",
    "tex_throttle": "for room in the queue to texture units",
    "math_pipe_throttle": "for a busy arithmetic pipe",
    "barrier": "for the other warps of the block at a barrier",
    "membar": "at a memory fence",
    "drain": "for their last stores before they end",
    "wait": "for the fixed latency of the instruction before",
    "imc_miss": "for constants that miss the cache",
    "no_instruction": "for instructions to be fetched",
    "branch_resolving": "for a branch to be resolved",
    "gmma": "for asynchronous matrix products",
}
STALLED = ("smsp__average_warps_issue_stalled_", "_per_issue_active.ratio")
LATENCY = "smsp__average_warp_latency_per_inst_issued.ratio"
MIN_STALL = 0.30  # of a warp's time between two instructions; NVIDIA's rule names it from there on
WORKING = ("selected", "not_selected")  # a warp that could go on does not wait


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report profiled launches that keep nothing busy."""
    if reason := why_unknown(facts, ledger, Part.LATENCY, METRICS, SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.LATENCY)
    if loss is None:
        return Clear()
    limits = loss.inside.limits
    compute, memory = (100 * loss.mean(v) for v in (limits.compute, limits.memory))
    stall, part = main_stall(loss)
    waits = f"{WAIT_WORDS[stall]} " if stall in WAIT_WORDS else ""
    why = f"; warps wait {waits}{100 * part:.0f} % of the time ({stall.replace('_', ' ')})"
    return finding(
        loss,
        ledger,
        f"keep compute {compute:.0f} % and memory {memory:.0f} % busy (from "
        f"{100 * BUSY:.0f} % on, waiting is hidden){why if stall else ''}",
        formula="time * (1 - max(c, m) / 60 %)",
        advice="Give each thread more independent work, or keep more warps resident.",
        does_not_apply_when="a launch takes only a few microseconds.",
        evidence=(
            Evidence(name="compute throughput", value=compute, unit="pct"),
            Evidence(name="memory throughput", value=memory, unit="pct"),
        ),
    )


@np.errstate(divide="ignore", invalid="ignore")
def main_stall(loss: ProfiledLoss) -> tuple[str, float]:
    """Return what warps wait for most, and its part of their time; empty when it is nothing."""
    counters = loss.inside.limits.counters
    latency = counters.metric(LATENCY)
    parts = {
        name: loss.mean(values / latency)
        for name, values in counters.starting_with(*STALLED).items()
        if name not in WORKING
    }
    notable = {name: part for name, part in parts.items() if part > MIN_STALL}
    return max(notable.items(), key=lambda item: item[1]) if notable else ("", float(np.nan))
