"""The launch call came after the GPU had run dry, although the work itself is not too small.

What it looks for:
    Idle time spent on dispatching and launching before kernels that ran longer than it or for 100
    µs and more, and before copies, memsets and CUDA graphs of any length: nothing about the
    kernels is too small, the host was merely late.

Why it is slow:
    The host has no lead over the GPU, so each step of its own work shows as idle GPU.

What to try:
    Submit work earlier: move host work off the submitting thread, launch before preparing what
    is only needed later, and avoid anything that lets the queue run empty.

When it does not apply:
    When a wait a little earlier emptied the queue: that time is booked to synchronisation.

Shown by:
    traces/synthetic/synthetic_launch.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import of_launches
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.timeline import LaunchPattern, launch_losses
from analyzers.words import count_text, time_text

CAUSE = Cause.LAUNCH
NEEDS = ("api_calls",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launch time of a late host in front of work that is not too small."""
    segments = launch_losses(facts, ledger, LaunchPattern.LATE_HOST)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    # One call may have submitted several: all nodes of a CUDA graph.
    calls = facts.launches["api_row"].loc[segments["launch"]].nunique()
    culprits = of_launches(facts, ledger, segments)
    return Finding(
        title=(
            f"The host submitted {count_text(calls, 'operation')} only after the "
            f"{gpus(ledger)} had run dry: {time_text(lost_ns)} of dispatching and launching, "
            f"{ledger.share(lost_ns)}{culprits.words()}"
        ),
        row=Row.LAUNCH,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice="Submit work earlier, and move host work off the submitting thread.",
        does_not_apply_when="the program has so little work that it never fills the queue.",
        culprit=culprits.origin,
        evidence=(
            Evidence(name="operations affected", value=calls, unit="count"),
            *culprits.evidence(),
            *largest_gaps(facts, segments, "launch of"),
        ),
    )
