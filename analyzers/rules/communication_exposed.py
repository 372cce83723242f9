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

from collections.abc import Iterator

import numpy as np

from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import COMMUNICATION, Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.intervals import Array, union
from analyzers.ledger.ledger import Ledger
from analyzers.losses.collective_links import (
    CollectiveSpeeds,
    claimed_by_links,
    collective_count,
    collective_speeds,
    link_text,
)
from analyzers.losses.culprits import of_operations
from analyzers.losses.evidence import largest_launches
from analyzers.losses.stragglers import rank_waits
from analyzers.words import count_text, share_text, size_text, time_text

CAUSE = Cause.COMMUNICATION
NEEDS = ("kernels",)
ADVICE = "Start collectives earlier, on a stream of their own, so that they overlap compute."
ADVICE_FOR_WAITING = (
    "Record the other ranks first: the link carries what these move in {link}, so that the rest is "
    "waiting for a late rank, or a link that is far below its speed (all_reduce_perf of nccl-tests "
    "or rccl-tests measures it). Starting them earlier wins little of that."
)
KNOWN_SHARE = 0.9  # of the collectives' time, from which on their bytes are those of all
MOSTLY = 0.5  # of the time alone; when the link needs less, moving data is not the reason
ADVICE_FOR_ONE_RANK = (
    "Before that, record the other ranks, too: in one file, moving data is told from waiting for "
    "a late rank."
)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report time in which only communication kernels ran."""
    waiting_ns = rank_waits(facts, ledger).ns
    of_links_ns = claimed_by_links(facts, ledger)
    lost_ns = ledger.total_ns(Row.COMMUNICATION) - waiting_ns - of_links_ns
    if not ledger.is_notable(lost_ns):
        return Clear()
    rows = facts.inside(ledger.window.start_ns, ledger.window.end_ns)
    rows = rows[facts.launches["kind"].to_numpy()[rows] == COMMUNICATION]
    start, end = _inside_window(facts, ledger, rows)
    total_ns = _covered_ns(facts, rows, start, end)
    exposed = share_text(lost_ns + of_links_ns, total_ns)
    count = collective_count(facts, rows)
    culprits = of_operations(facts, ledger, rows, end - start)
    parts = ((waiting_ns, "waiting for late ranks"), (of_links_ns, "what links and latency cost"))
    besides = " and ".join(text for ns, text in parts if ns)
    besides = f" besides {besides}" if besides else ""
    speeds = collective_speeds(facts, ledger)
    is_known = speeds.is_link_known and _are_sizes_known(speeds, rows, end - start)
    is_one_rank = not _all_ranks_recorded(facts)
    is_waiting = is_known and is_one_rank and speeds.link_ns < MOSTLY * lost_ns
    moved = _moved_text(speeds) if is_waiting else ""
    return Finding(
        title=(
            f"Communication ran alone for {time_text(lost_ns)}, {ledger.share(lost_ns)}{besides}: "
            f"nothing overlapped {exposed} of the time in which "
            f"{count_text(count, 'collective')} ran{moved}{culprits.words('in')}"
        ),
        row=Row.COMMUNICATION,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=_advice(facts, speeds, is_waiting=is_waiting),
        does_not_apply_when=(
            "nothing is left to compute until the result is there."
            if _all_ranks_recorded(facts)
            else "a collective waits for a late rank; look at that rank's recording."
        ),
        evidence=(
            Evidence(name="collectives", value=count, unit="count"),
            Evidence(name="time in collectives", value=total_ns, unit="ns"),
            *_speed_evidence(speeds, is_known=is_known),
            *culprits.evidence("in"),
            *largest_launches(facts, rows, end - start),
        ),
        culprit=f"though the link needs {time_text(speeds.link_ns)} for what they move"
        if is_waiting
        else "",
    )


def _are_sizes_known(speeds: CollectiveSpeeds, rows: Array, length_ns: Array) -> bool:
    """Tell whether the size of nearly all that took time is known; else the link may need more."""
    has_size = np.isin(rows, speeds.rows["launch"].to_numpy())
    return bool(length_ns[has_size].sum() >= KNOWN_SHARE * length_ns.sum())


def _moved_text(speeds: CollectiveSpeeds) -> str:
    """Say what the link needs for what all of them move."""
    moved = size_text(float(speeds.rows["size_bytes"].sum()))
    return (
        f", though the link needs {time_text(speeds.link_ns)} for their {moved} "
        f"(bus bandwidth {size_text(speeds.bus_bytes_per_s)}/s, {link_text(speeds)})"
    )


def _advice(facts: Facts, speeds: CollectiveSpeeds, *, is_waiting: bool) -> str:
    if is_waiting:
        return ADVICE_FOR_WAITING.format(link=time_text(speeds.link_ns))
    return ADVICE if _all_ranks_recorded(facts) else f"{ADVICE} {ADVICE_FOR_ONE_RANK}"


def _speed_evidence(speeds: CollectiveSpeeds, *, is_known: bool) -> Iterator[Evidence]:
    """Yield the bus bandwidth, and what the link needs, where sizes were recorded."""
    if not len(speeds.rows):
        return
    rate = round(speeds.bus_bytes_per_s)
    yield Evidence(name="bus bandwidth, a second", value=rate, unit="bytes")
    if is_known:
        yield Evidence(name="least time of the link", value=speeds.link_ns, unit="ns")


def _inside_window(facts: Facts, ledger: Ledger, rows: Array) -> tuple[Array, Array]:
    """Return the parts of launches that lie in the window, without waiting for late ranks."""
    begins = facts.launches["start_ns"].to_numpy().copy()
    waits = collectives_of(facts).waits
    begins[waits["launch"].to_numpy()] = waits["until_ns"].to_numpy()
    start = np.maximum(begins[rows], ledger.window.start_ns)
    end = np.minimum(facts.launches["end_ns"].to_numpy()[rows], ledger.window.end_ns)
    return start, end


def _all_ranks_recorded(facts: Facts) -> bool:
    """Tell whether every collective was matched with those of all other ranks."""
    collectives = collectives_of(facts)
    return 0 < collectives.count == len(collectives.members) and not collectives.missing_ranks


def _covered_ns(facts: Facts, rows: Array, start: Array, end: Array) -> int:
    """Return the device time in which any of the launches ran."""
    device = facts.launches["device"].to_numpy()[rows]
    keys = range(len(facts.devices))
    return sum(union(start[device == key], end[device == key]).total for key in keys)
