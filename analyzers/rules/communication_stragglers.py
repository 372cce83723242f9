"""Collectives wait for the rank that begins them last.

What it looks for:
    Time in which only collectives ran, and each of them waited for a rank that had not begun its
    part. Kernels of several ranks are matched by what the framework recorded about them, else by
    their order, their names and their common end; this needs two ranks in one recording. The rank
    that comes last most is named, and what its GPU did longer than the others until then.

Why it is slow:
    A collective moves nothing until every rank takes part. Neither starting it earlier nor a
    faster link helps the ranks that wait: only the late rank can.

What to try:
    Mend what holds up the late rank; where it has more to do, divide the work evenly.

When it does not apply:
    When ranks have parts of different length on purpose, such as stages of a pipeline.

Shown by:
    python -m benchmarks.accuracy --case communication_straggler 0 --out straggler.sqlite
"""

from __future__ import annotations

from collections.abc import Sequence

from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.evidence import EVIDENCE_GAPS, device_name
from analyzers.losses.lateness import Lateness, Reason, lateness
from analyzers.losses.stragglers import NO_ONE, RankWaits, rank_waits
from analyzers.words import count_text, name_text, time_text

CAUSE = Cause.COMMUNICATION
NEEDS = ("kernels",)

_IDLE = {
    Row.LAUNCH: "while work is being launched",
    Row.SYNC: "because its host had been waiting for it",
    Row.HOST: "while its host is outside CUDA",
    Row.MEMORY: "while memory is allocated",
    Row.SETUP: "while modules and graphs are set up",
    Row.PROFILER: "because of the profiler",
}


_FIRST_STEPS = {
    Reason.SLOWER_GPU: (
        "Find out what slows {gpu}: all of its kernels take longer for the same launches. Compare "
        "the GPUs under load with `nvidia-smi -q -d CLOCK,PERFORMANCE,TEMPERATURE`, and look for "
        "another process on it."
    ),
    Reason.HOST: (
        "Mend the host of {gpu}: find out what its process does there that the others do not, "
        "such as reading input, logging, or saving a checkpoint."
    ),
    Reason.COPIES: "Find out what {gpu} copies that the others do not.",
    Reason.NOT_CLEAR: "Compare {gpu} with the others on the timeline before such a collective.",
}
_UNEVEN = (Reason.MORE_KERNELS, Reason.SLOWER_KERNELS)  # work that others could do
_DOING = {
    Reason.MORE_KERNELS: "computes longer",
    Reason.SLOWER_KERNELS: "computes longer",
    Reason.SLOWER_GPU: "computes slower",
    Reason.COPIES: "copies longer",
    Reason.HOST: "is held up by its host",
}
MOST_NAMED = 3


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report time in which collectives only waited for a rank."""
    waits = rank_waits(facts, ledger)
    if not ledger.is_notable(waits.ns):
        return Clear()
    late = waits.last_device
    others = [key for key in waits.devices if key != late]
    why = lateness(facts, ledger, late, others) if late != NO_ONE else None
    missing = collectives_of(facts).missing_ranks
    return Finding(
        title=_title(waits, late, why, ledger),
        row=Row.COMMUNICATION,
        lost_ns=waits.ns,
        gain_ns=_gain_ns(waits, late, why),
        confidence=Confidence.MEASURED,
        advice=_advice(waits, late, why, ledger),
        does_not_apply_when=(
            f"{count_text(missing, 'rank')} of the group, which this recording does not show, "
            f"{'is' if missing == 1 else 'are'} later still."
            if missing
            else "ranks have parts of different length on purpose, such as stages of a pipeline."
        ),
        culprit=_culprit(late, why, ledger),
        evidence=_evidence(waits, late, why, ledger),
    )


def _name(ledger: Ledger, key: int) -> str:
    return device_name(ledger.devices[key], ledger)


def _title(waits: RankWaits, late: int, why: Lateness | None, ledger: Ledger) -> str:
    if late == NO_ONE or why is None:
        counts = [f"{_name(ledger, key)} in {n:,}" for key, n in waits.last_counts.items()]
        more = len(counts) - MOST_NAMED
        return (
            f"GPUs waited for each other for {time_text(waits.ns)}, {ledger.share(waits.ns)}, in "
            f"{_exchanges(waits)}: now one came last and now another, "
            f"{', '.join(counts[:MOST_NAMED])}{f' and {more} more' if more > 0 else ''}"
        )
    own = waits.of(late)
    others = [key for key in waits.devices if key != late]
    alone_ns = sum(ledger.devices[key].rows.get(Row.COMMUNICATION, 0) for key in others)
    one = len(others) == 1
    name = _name(ledger, late)
    whom = _name(ledger, others[0]) if one else f"The other {len(others)} GPUs"
    total = f"waiting for any rank costs {time_text(waits.ns)}, "
    return (
        f"{whom} waited for {name} for {time_text(own.ns)} of the {time_text(alone_ns)} in which "
        f"only collectives ran on {'it' if one else 'them'}, "
        f"{'' if own.ns == waits.ns else total}{ledger.share(waits.ns)}: {name} came last to "
        f"{_exchanges(own)}, by {time_text(own.median_late_ns)} (median)"
        f"{_because(why, late, ledger, others)}"
    )


def _culprit(late: int, why: Lateness | None, ledger: Ledger) -> str:
    if why is None:
        return "mostly waiting for each other"
    doing = _DOING.get(why.reason, "")
    return f"mostly waiting for {_name(ledger, late)}{f', which {doing}' if doing else ''}"


def _exchanges(waits: RankWaits) -> str:
    return count_text(waits.count, "transfer" if waits.is_between_pairs else "collective")


def _because(why: Lateness, late: int, ledger: Ledger, others: Sequence[int]) -> str:
    """Say what the late GPU did longer than the others; nothing when that is not clear."""
    name = _name(ledger, late)
    on_others = f"on {_name(ledger, others[0])}" if len(others) == 1 else "on the others"
    longer = f"{time_text(why.excess_ns)} longer than {on_others}"
    if why.reason is Reason.NOT_CLEAR:
        return ""
    if why.reason is Reason.HOST:
        return f", because {name} idles {longer.replace(' on ', ' ')}, mostly {_IDLE[why.row]}"
    if why.reason is Reason.COPIES:
        return f", because it spends {longer} in copies alone"
    kernel = why.kernel
    if kernel is None:
        return f", because its kernels run {longer}"
    what = f"`{name_text(kernel.name)}`" if kernel.name else "CUDA graphs"
    return (
        f", because its kernels run {longer}, {time_text(kernel.excess_ns)} of that in {what} "
        f"({count_text(kernel.count, 'launch')} of {time_text(kernel.each_ns)}; {on_others} "
        f"{round(kernel.other_count):,} of {time_text(kernel.other_each_ns)})"
    )


def _advice(waits: RankWaits, late: int, why: Lateness | None, ledger: Ledger) -> str:
    evenly = time_text(waits.ns / max(len(waits.devices), 1))
    if late == NO_ONE or why is None:
        return (
            "Let every rank have as much to do in every step: form batches of equal length, by "
            f"tokens and not by samples. That makes the program at most {evenly} shorter."
        )
    name = _name(ledger, late)
    if why.reason in _UNEVEN and not waits.is_between_pairs:
        return (
            f"Divide the work evenly: {name} computes more in each step, such as longer "
            f"sequences, more experts or more layers. That makes the program at most {evenly} "
            "shorter, because the others have to do that work."
        )
    first = (
        f"Give the stage on {name} less to do, or keep more micro-batches under way."
        if waits.is_between_pairs
        else _FIRST_STEPS[why.reason].format(gpu=name)
    )
    then = "; then another rank comes last" if len(waits.devices) > 2 else ""
    gain = time_text(waits.of(late).shortest_gain_ns)
    return f"{first} That makes the program at most {gain} shorter{then}."


def _gain_ns(waits: RankWaits, late: int, why: Lateness | None) -> int:
    """Return what mending the late rank wins, until another one comes last; -1 for all of it."""
    if late == NO_ONE or why is None or why.reason in _UNEVEN:
        return -1
    gain_ns = int(waits.of(late).parts["gain_ns"].sum())
    return gain_ns if gain_ns < waits.ns else -1


def _evidence(
    waits: RankWaits, late: int, why: Lateness | None, ledger: Ledger
) -> tuple[Evidence, ...]:
    by_device = [
        Evidence(
            name=f"{_name(ledger, key)} waited", value=waits.waiting_ns(key), unit="ns", device=key
        )
        for key in waits.devices
    ]
    counts = [
        Evidence(name=f"collectives that {_name(ledger, key)} began last", value=n, unit="count")
        for key, n in waits.last_counts.items()
    ]
    more = [] if why is None else [_excess(why)]
    own = waits.parts if late == NO_ONE else waits.of(late).parts
    longest = own.nlargest(EVIDENCE_GAPS, "ns")
    columns = (longest[c].tolist() for c in ("device", "last_device", "start_ns", "end_ns"))
    places = [
        Evidence(
            name=f"{_name(ledger, device)} waits for {_name(ledger, last)}",
            value=end_ns - start_ns,
            unit="ns",
            start_ns=start_ns,
            end_ns=end_ns,
            device=device,
        )
        for device, last, start_ns, end_ns in zip(*columns, strict=True)
    ]
    return (*by_device, *counts, *more, *places)


def _excess(why: Lateness) -> Evidence:
    name = f"row {why.row.value} longer than on the others"
    return Evidence(name=name, value=why.excess_ns, unit="ns")
