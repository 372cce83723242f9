"""The GPU has nothing to do while the host takes results back, page by page.

What it looks for:
    Idle time that ends when a page of unified memory goes back to the host because the host
    touched it: after a wait, the host reads what the GPU computed. The call that it followed is
    named, and functions of the host where page faults of the CPU were recorded.

Why it is slow:
    Each page that the host touches first faults, and comes alone or with a few neighbours; the
    link is idle in between. What the host computes from the data counts here, too, since it
    submits nothing meanwhile.

What to try:
    Call ``cudaMemPrefetchAsync`` with ``cudaCpuDeviceId`` for what the host will read, before the
    wait; or compute the result on the GPU and read that alone.

When it does not apply:
    When the window holds a check of results that a run in production leaves out.

Shown by:
    tests/scenarios.py, results_read_page_by_page
"""

from __future__ import annotations

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.facts.migrations import host_thread, migrations, page_outs
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.host_activity import host_activity, mostly
from analyzers.losses.host_losses import HostPattern, host_losses
from analyzers.losses.touching_functions import touching_functions
from analyzers.words import count_text, size_text, time_text

CAUSE = Cause.HOST
NEEDS = ("copies",)
NAMED = 3  # ranges and functions that are named
FAULTS_OF_CPU = "nsys profile --cuda-um-cpu-page-faults=true"


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report idle time in which the host took pages back."""
    segments = host_losses(facts, ledger, HostPattern.READING_PAGES)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    pages = segments["launch"].to_numpy()
    moves = migrations(facts)
    back = moves.loc[page_outs(facts)]
    inside = (back["end_ns"] > ledger.window.start_ns) & (back["start_ns"] < ledger.window.end_ns)
    size, count = int(back["bytes"][inside].clip(lower=0).sum()), int(inside.sum())
    after = _call_before(facts, pages)
    functions = touching_functions(facts, ledger)
    activity = host_activity(facts, ledger, segments)
    where = mostly(activity.ranges[:1], lost_ns) or (f"in {functions[0][0]}" if functions else "")
    reading = f"reading results page by page{f' after {after}' if after else ''}"
    place = f", {where}" if where else ""
    advice = (
        "Call cudaMemPrefetchAsync with cudaCpuDeviceId for what the host reads, "
        f"{f'before {after}' if after else 'before it waits for the GPU'}, or compute the result "
        "on the GPU and read that alone."
    )
    return Finding(
        title=(
            f"The host was {reading}{place}: the {gpus(ledger)} idled for {time_text(lost_ns)}, "
            f"{ledger.share(lost_ns)}, while {size_text(size)} came back in "
            f"{count_text(count, 'migration')}"
        ),
        row=Row.HOST,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=advice if functions else f"{advice} To see which function reads: `{FAULTS_OF_CPU}`.",
        does_not_apply_when="the window holds a check of results that a real run leaves out.",
        evidence=(
            Evidence(name="bytes that the host took back", value=size, unit="bytes"),
            *(Evidence(name=f"pages touched in {n}", value=c, unit="count") for n, c in functions),
            *(
                Evidence(name=f"in range {n}", value=float(ns), unit="ns")
                for n, ns in activity.ranges[:NAMED]
            ),
            *largest_gaps(facts, segments, "idle before"),
        ),
        culprit=reading,
    )


def _call_before(facts: Facts, pages: Array) -> str:
    """Name the blocking calls after which the host touched pages; empty without any."""
    if not len(facts.api):
        return ""
    thread = host_thread(facts, pages)
    begin = facts.launches["start_ns"].to_numpy()[pages]
    names = []
    order, bounds = facts.call_order
    for place in np.unique(thread[thread >= 0]):
        rows = order[bounds[place] : bounds[place + 1]]
        waits = rows[np.isin(facts.api_call[rows], (Call.WAIT, Call.COPY))]
        start = facts.api["start_ns"].to_numpy()[waits]
        last = np.searchsorted(start, begin[thread == place], side="right") - 1
        names.append(waits[last[last >= 0]])
    calls = np.unique(np.concatenate(names)) if names else np.empty(0, np.int64)
    return facts.call_names(calls, at_most=1) if len(calls) else ""
