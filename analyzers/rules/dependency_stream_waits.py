"""Work that was submitted in time, but had to wait for something else.

What it looks for:
    Idle time longer than a launch takes, before an operation whose launch call had already
    returned: it waited for an event, another stream, another device or a host callback.

Why it is slow:
    The device has work queued and may not begin it.

What to try:
    Look at what the stream waits for (``cudaStreamWaitEvent``, host functions, peers) and record
    the event earlier, or remove a dependency that is stricter than the data needs.

When it does not apply:
    When the wait is for another GPU or node: then that side shows the cause.

Shown by:
    traces/synthetic/synthetic_dependency.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import of_launches
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.words import count_text, time_text

CAUSE = Cause.DEPENDENCY
NEEDS = ("api_calls",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report idle time in front of work that was already submitted."""
    segments = ledger.of(Row.DEPENDENCY)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    count = int(segments["launch"].nunique())
    culprits = of_launches(facts, ledger, segments)
    return Finding(
        title=(
            f"{count_text(count, 'operation')} had been submitted but could not begin: the "
            f"{gpus(ledger)} idled for {time_text(lost_ns)}, {ledger.share(lost_ns)}"
            f"{culprits.words()}"
        ),
        row=Row.DEPENDENCY,
        lost_ns=lost_ns,
        confidence=Confidence.INFERRED,
        advice="Find what the stream waits for, and record that event earlier or drop the wait.",
        does_not_apply_when="it waits for another GPU or node; look at that one's recording.",
        culprit=culprits.words().removeprefix(", "),
        evidence=(
            Evidence(name="operations affected", value=count, unit="count"),
            *culprits.evidence(),
            *largest_gaps(facts, segments, "idle before"),
        ),
    )
