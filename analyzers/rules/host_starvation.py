"""The GPU has nothing to do because the host is busy elsewhere.

What it looks for:
    Idle time in which the submitting thread was outside CUDA for longer than dispatching takes:
    reading input, holding or waiting for locks, collecting garbage, running other code.
    Operating-system calls and NVTX ranges that cover the time are named.

Why it is slow:
    No work is submitted meanwhile, so the GPU runs dry.

What to try:
    Prepare input in other processes and ahead of time (``num_workers``, prefetching); move
    logging, checkpointing and checks off the submitting thread.

When it does not apply:
    When the idle time lies between phases of the program that you do not want to speed up.

Shown by:
    traces/synthetic/synthetic_host.sqlite
"""

from __future__ import annotations

from analyzers.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger import Ledger
from analyzers.losses import host_activity, largest_gaps
from analyzers.words import time_text

CAUSE = Cause.HOST
NEEDS = ("api_calls",)
NAMED = 3  # operating-system calls and ranges that are named


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report idle time in which the host did something else."""
    segments = ledger.of(Row.HOST)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    calls, ranges = host_activity(facts, segments)
    named = [f"{n} ({time_text(ns)})" for n, ns in [*calls[:1], *ranges[:1]]]
    while_text = f", mostly during {' and '.join(named)}" if named else ""
    gaps = int(segments["launch"].nunique())
    return Finding(
        title=(
            f"The GPU idled for {time_text(lost_ns)}, {ledger.share(lost_ns)}, in {gaps:,} places "
            f"where the host was outside CUDA{while_text}"
        ),
        row=Row.HOST,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice="Prepare input ahead in other processes, and keep the submitting thread free.",
        does_not_apply_when="the idle time lies between phases that you do not want to speed up.",
        evidence=(
            *(Evidence(name=f"in {n}", value=float(ns), unit="ns") for n, ns in calls[:NAMED]),
            *(
                Evidence(name=f"in range {n}", value=float(ns), unit="ns")
                for n, ns in ranges[:NAMED]
            ),
            *largest_gaps(facts, segments, "idle before"),
        ),
    )
