"""Modules, contexts and graphs being set up while the GPU idles.

What it looks for:
    Idle time in which the submitting thread was loading modules, creating contexts or streams, or
    instantiating graphs. Calls that take or free memory count here when they create a context or
    load a library: ``cudaFree`` before anything was allocated, or 50 ms in a first use.

Why it is slow:
    Set-up takes milliseconds. It belongs to the start of a program, but lazy loading and just-in-
    time compilation bring it into the first iterations.

What to try:
    Warm up before measuring; choose a later iteration as the window; instantiate graphs once and
    update them.

When it does not apply:
    When the recording is of start-up itself.

Shown by:
    traces/README.md names no recording of it
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
    """Report idle time inside set-up calls."""
    segments = ledger.of(Row.SETUP)
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
            f"the host was loading modules, creating contexts or library handles, or "
            f"instantiating graphs, in {places}"
            f"{', ' if culprit else ''}{culprit}"
        ),
        row=Row.SETUP,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice="Warm up before measuring, or choose a later iteration as the window.",
        does_not_apply_when="start-up is what you want to make faster.",
        culprit=culprit,
        evidence=(
            *(Evidence(name=f"in {n}", value=float(ns), unit="ns") for n, ns in calls[:NAMED]),
            *around.evidence(),
            Evidence(name="places", value=gaps, unit="count"),
            *largest_gaps(facts, segments, "idle before"),
        ),
    )
