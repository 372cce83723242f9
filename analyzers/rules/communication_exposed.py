"""Collectives that nothing overlaps.

What it looks for:
    Time in which only communication kernels (NCCL, RCCL and the like) ran. Where the recording
    has several ranks, waiting for the last of them is a finding of its own.

Why it is slow:
    Compute and communication can run side by side on different streams; where they do not, every
    GPU of the group waits for the slowest link or the latest rank.

What to try:
    Start collectives as soon as their input is ready, on a stream of their own; use larger
    buckets; check whether one rank comes late before blaming the network.

When it does not apply:
    When the collective waits for a late rank: then that rank's own recording shows the cause.

Shown by:
    traces/synthetic/synthetic_communication.sqlite
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import COMMUNICATION, Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.intervals import Array, union
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import of_operations
from analyzers.losses.evidence import largest_launches
from analyzers.losses.stragglers import rank_waits
from analyzers.words import count_text, share_text, time_text

CAUSE = Cause.COMMUNICATION
NEEDS = ("kernels",)
ADVICE = "Start collectives earlier, on a stream of their own, so that they overlap compute."
ADVICE_FOR_ONE_RANK = (
    "Before that, record the other ranks, too: in one file, moving data is told from waiting for "
    "a late rank."
)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report time in which only communication kernels ran."""
    waiting_ns = rank_waits(facts, ledger).ns
    lost_ns = ledger.total_ns(Row.COMMUNICATION) - waiting_ns
    if not ledger.is_notable(lost_ns):
        return Clear()
    rows = facts.inside(ledger.window.start_ns, ledger.window.end_ns)
    rows = rows[facts.launches["kind"].to_numpy()[rows] == COMMUNICATION]
    start, end = _inside_window(facts, ledger, rows)
    total_ns = _covered_ns(facts, rows, start, end)
    exposed = share_text(lost_ns, total_ns)
    culprits = of_operations(facts, ledger, rows, end - start)
    besides = " besides waiting for late ranks" if waiting_ns else ""
    return Finding(
        title=(
            f"Communication ran alone for {time_text(lost_ns)}, {ledger.share(lost_ns)}{besides}: "
            f"nothing overlapped {exposed} of the time in which "
            f"{count_text(_count(facts, rows), 'collective')} ran{culprits.words('in')}"
        ),
        row=Row.COMMUNICATION,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=ADVICE if _all_ranks_recorded(facts) else f"{ADVICE} {ADVICE_FOR_ONE_RANK}",
        does_not_apply_when=(
            "nothing is left to compute until the result is there."
            if _all_ranks_recorded(facts)
            else "a collective waits for a late rank; look at that rank's recording."
        ),
        evidence=(
            Evidence(name="collectives", value=_count(facts, rows), unit="count"),
            Evidence(name="time in collectives", value=total_ns, unit="ns"),
            *culprits.evidence("in"),
            *largest_launches(facts, rows, end - start),
        ),
    )


def _inside_window(facts: Facts, ledger: Ledger, rows: Array) -> tuple[Array, Array]:
    """Return the parts of launches that lie in the window, without waiting for late ranks."""
    begins = facts.launches["start_ns"].to_numpy().copy()
    waits = collectives_of(facts).waits
    begins[waits["launch"].to_numpy()] = waits["until_ns"].to_numpy()
    start = np.maximum(begins[rows], ledger.window.start_ns)
    end = np.minimum(facts.launches["end_ns"].to_numpy()[rows], ledger.window.end_ns)
    return start, end


def _count(facts: Facts, rows: Array) -> int:
    """Return how many collectives these launches are: those of several ranks are one."""
    members = collectives_of(facts).members
    members = members[members["launch"].isin(rows).to_numpy()]
    return len(rows) - len(members) + int(members["collective"].nunique())


def _all_ranks_recorded(facts: Facts) -> bool:
    """Tell whether every collective was matched with those of all other ranks."""
    collectives = collectives_of(facts)
    return 0 < collectives.count == len(collectives.members) and not collectives.missing_ranks


def _covered_ns(facts: Facts, rows: Array, start: Array, end: Array) -> int:
    """Return the device time in which any of the launches ran."""
    device = facts.launches["device"].to_numpy()[rows]
    keys = range(len(facts.devices))
    return sum(union(start[device == key], end[device == key]).total for key in keys)
