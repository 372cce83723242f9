"""Allocating and freeing device memory while the GPU idles.

What it looks for:
    Idle time in which the submitting thread was inside an allocation (``cudaMalloc``, pinning
    host memory, pools) or freed memory.

Why it is slow:
    These calls go to the driver and take tens of microseconds to milliseconds each.

What to try:
    Allocate once and reuse; use ``cudaMallocAsync`` with a pool, or a caching allocator; pin
    buffers once at the start.

When it does not apply:
    When the window contains the program's start, where memory must be taken once.

Shown by:
    traces/synthetic/synthetic_memory.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import of_host
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.host_activity import calls_during, mostly
from analyzers.words import count_text, time_text

CAUSE = Cause.MEMORY
NEEDS = ("api_calls",)
NAMED = 3  # functions that are named


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report idle time inside allocation and deallocation calls."""
    segments = ledger.of(Row.MEMORY)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    gaps = int(segments["launch"].nunique())
    places = count_text(gaps, "place")
    calls = calls_during(facts, segments)
    around = of_host(facts, ledger, segments)
    culprit = "".join(
        (mostly(calls[:1], lost_ns, "in"), around.words("").replace("mostly in", "mostly for"))
    ).removeprefix(", ")
    return Finding(
        title=(
            f"The {gpus(ledger)} idled for {time_text(lost_ns)}, {ledger.share(lost_ns)}, while "
            f"the host was allocating or freeing memory, in {places}"
            f"{', ' if culprit else ''}{culprit}"
        ),
        row=Row.MEMORY,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice="Allocate once and reuse, or take memory from a pool.",
        does_not_apply_when="the window contains the program's start.",
        culprit=culprit,
        evidence=(
            *(Evidence(name=f"in {n}", value=float(ns), unit="ns") for n, ns in calls[:NAMED]),
            *around.evidence(),
            Evidence(name="places", value=gaps, unit="count"),
            *largest_gaps(facts, segments, "idle before"),
        ),
    )
