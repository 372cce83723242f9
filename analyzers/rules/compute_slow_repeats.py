"""Kernels that took half as long again as the same kernels on the same shapes usually do.

What it looks for:
    Calls of an operator with the same inputs and kernels, ten or more of them, of which some took
    more than 1.5 times their median. Operators whose work depends on values are left out, and so is
    time beside other compute kernels.

Why it is slow:
    The work is the same, so something else is: a collective or a copy takes memory bandwidth or
    multiprocessors at the same time, the clock was lower, or data had left the cache.

What to try:
    Where a collective runs at the same time, give it fewer channels (``NCCL_MAX_NCHANNELS``) or
    move it; else look at the clocks, which ``whyslow capture`` samples.

When it does not apply:
    When the slow ones are the first of the program, before the clock has risen.

The loss is estimated: at most the time beyond the median, at least half of it.

Shown by:
    tests/test_work_findings.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_work import WorkPattern, estimate_of, work_losses
from analyzers.words import count_text, share_text, time_text

CAUSE = Cause.COMPUTE
NEEDS = ("kernels",)
MOSTLY = 0.5  # of the loss; from here on what ran beside is named as the reason

BESIDE = (
    "Look at what runs at the same time: move the collective or copy, or give it fewer channels "
    "(NCCL_MAX_NCHANNELS)."
)
CLOCKS = "Look at the GPU's clock and temperature at these times; `whyslow capture` samples both."


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report repetitions of the same work that took much longer than usual."""
    loss = work_losses(facts, ledger).get(WorkPattern.SLOW_REPEATS)
    if loss is None:
        return Clear()
    estimate = estimate_of(facts, ledger, loss)
    nodes = loss.nodes
    beside_ns = int(nodes["high_ns"][nodes["is_beside_others"].to_numpy(bool)].sum())
    is_beside = beside_ns >= MOSTLY * max(int(nodes["high_ns"].sum()), 1)
    times = loss.spent_ns / max(float(nodes["usual_ns"].sum()), 1.0)
    beside = ", most of them while a collective or a copy ran" if is_beside else ""
    return Finding(
        title=(
            f"{count_text(len(nodes), 'call')} took {times:.1f} times as long as the same work on "
            f"the same shapes usually does{beside}{estimate.origin}: {time_text(loss.spent_ns)}, "
            f"{ledger.share(loss.spent_ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=BESIDE if is_beside else CLOCKS,
        does_not_apply_when="these are the first of the program, before the clock has risen.",
        evidence=(
            Evidence(name="beyond their usual time", value=loss.range_ns[1], unit="ns"),
            Evidence(
                name=f"{share_text(beside_ns, loss.range_ns[1])} of it beside a collective or copy",
                value=beside_ns,
                unit="ns",
            ),
            *estimate.evidence,
        ),
        culprit="slow calls taking their usual time",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula="time - median of the same kernels with the same shapes at most, half of it at "
        "least",
    )
