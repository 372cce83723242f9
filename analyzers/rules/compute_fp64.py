"""Profiled kernels that compute with 64-bit numbers, which the GPU does slowly.

What it looks for:
    The 64-bit pipe busy for more than 15 % of its peak (``sm__pipe_fp64_cycles_active``) while
    the 32-bit one stays below 60 %.

Why it is slow:
    Data-centre GPUs compute half as many 64-bit results as 32-bit ones per clock, all others a
    32nd or a 64th. A constant such as ``0.5`` without an ``f`` is enough to get there.

What to try:
    Use 32-bit numbers and constants (``0.5f``, ``sqrtf``) where the precision allows it; keep
    64 bits for sums only.

When it does not apply:
    When the result needs the precision.

The loss is at most the launch's time × the 64-bit pipe's part of its peak × (1 - 1 / how many
times as fast 32-bit arithmetic is), and never more than what memory leaves free.

Shown by:
    tests/counter_scenarios.py, ``fp64``
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import FP64_PIPE, Part

CAUSE = Cause.COMPUTE
NEEDS = ("counters",)

SECTIONS = ("ComputeWorkloadAnalysis", "SpeedOfLight")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report profiled launches that keep the 64-bit pipe busy."""
    if reason := why_unknown(facts, ledger, Part.FP64, FP64_PIPE[:1], SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.FP64)
    if loss is None:
        return Clear()
    busy = loss.mean(loss.inside.limits.counters.metric(*FP64_PIPE))
    ratio = loss.mean(loss.inside.limits.fp64_ratio)
    return finding(
        loss,
        ledger,
        f"keep the 64-bit pipe {busy:.0f} % busy; 32-bit arithmetic is {ratio:.0f} times as fast "
        "on this GPU",
        formula="time * 64-bit pipe's share of its peak * (1 - 1 / ratio of 32-bit to 64-bit "
        "speed)",
        advice="Use 32-bit numbers and constants where the precision allows it.",
        does_not_apply_when="the result needs 64 bits.",
        evidence=(
            Evidence(name="64-bit pipe", value=busy, unit="pct"),
            Evidence(name="32-bit over 64-bit speed", value=ratio, unit="count"),
        ),
    )
