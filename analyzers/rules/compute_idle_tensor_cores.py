"""Profiled matrix products that leave the tensor cores idle.

What it looks for:
    Launches whose name says that they multiply matrices, whose arithmetic is fused multiply-adds
    of 16 or 32 bits to 80 % or more, and whose tensor pipe does nothing, on a GPU that has one
    for that type (compute capability 7.0 for 16 bits, 8.0 for 32 bits).

Why it is slow:
    A tensor core multiplies small matrices at once, at least twice as fast as the same
    multiprocessor's ordinary units.

What to try:
    Use 16-bit types, or allow TF32 (``torch.set_float32_matmul_precision("high")``); pad sizes
    to multiples of 8 or 16, without which libraries fall back to ordinary units.

When it does not apply:
    When the result needs all 32 bits, or when a GPU's TF32 rate is not above its 32-bit rate.

The loss is at most half of the launch's time × the multiply-add pipe's part of its peak. It
decides no verdict: only the author knows which precision the result needs.

Shown by:
    tests/counter_scenarios.py, ``idle_tensor_cores``
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import finding, profiled_loss, why_unknown
from analyzers.metric_names import FMA_PIPE, TENSOR_PIPE, Part

CAUSE = Cause.COMPUTE
NEEDS = ("counters",)

SECTIONS = ("ComputeWorkloadAnalysis", "SpeedOfLight", "SpeedOfLight_RooflineChart")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report profiled matrix products without tensor cores."""
    if reason := why_unknown(facts, ledger, Part.TENSOR, TENSOR_PIPE[:1], SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.TENSOR)
    if loss is None:
        return Clear()
    busy = loss.mean(loss.inside.limits.counters.metric(*FMA_PIPE))
    return finding(
        loss,
        ledger,
        f"multiply matrices on ordinary units ({busy:.0f} % busy) and leave the tensor cores idle",
        formula="time * multiply-add pipe's share of its peak * 1/2",
        advice="Use 16-bit types, or allow TF32, and pad sizes to multiples of 8.",
        does_not_apply_when="the result needs all 32 bits.",
        evidence=(Evidence(name="multiply-add pipe", value=busy, unit="pct"),),
    )
