"""Who makes the ranks of a job wait, in a sentence, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

from analyzers.fleet.job_ledger import NOBODY, ROWS, JobLedger, JobRow
from analyzers.fleet.operations import JobOperations
from analyzers.fleet.stragglers import NO_STRAGGLER, PartOfJob, Stragglers
from analyzers.words import TIMES, count_text, enumerated, share_text, time_text

EXPLAINED = 0.5  # of the slowdown: a part that explains as much is named as the cause
BLAMED = 0.1  # of all ranks' time: a rank that others wait for so long is named
SEQUENCE_CORRELATION = 0.9  # of both passes of a micro-batch: its length decides, not the rank


class JobWords(NamedTuple):
    """What is said about a job, and what to do; the second may be empty."""

    sentence: str
    advice: str


class _Slow(NamedTuple):
    """The kind of computation on which a part of a job loses most, and whom it was compared to."""

    kind: str
    own_ns: float
    others_ns: float
    others: str


def job_words(operations: JobOperations, ledger: JobLedger, what_if: Stragglers) -> JobWords:
    """Say who makes the others wait, and what to do about it."""
    pauses = what_if.launch_slowdown
    if pauses >= max(NO_STRAGGLER, what_if.slowdown):
        return _late_hosts(ledger, what_if)
    if what_if.slowdown < NO_STRAGGLER:
        return JobWords(
            f"No rank makes the others wait: without launch delay a step takes "
            f"{time_text(round(what_if.no_delay_ns))}, {what_if.slowdown:.2f} {TIMES} as long as "
            f"with equal ranks ({_size(operations)}); with it "
            f"{time_text(round(what_if.recorded_ns))}.",
            "",
        )
    opening = _opening(ledger, what_if)
    by_ranks, by_stage = what_if.m_w or 0.0, what_if.m_s or 0.0
    if by_ranks >= max(EXPLAINED, by_stage):
        words = _slow_ranks(operations, what_if, opening)
    elif by_stage >= EXPLAINED:
        words = _long_stage(operations, what_if, opening)
    elif (what_if.pass_correlation or 0.0) >= SEQUENCE_CORRELATION:
        words = JobWords(
            f"{opening}. Micro-batches differ in length, forward and backward passes alike "
            f"(correlation {what_if.pass_correlation:.2f}), on every rank.",
            "Pack sequences so that micro-batches take equally long (by the sum of squares of "
            "their lengths where attention dominates).",
        )
    else:
        words = None
    return words or _nothing_alone(what_if, opening)


def _size(operations: JobOperations) -> str:
    ranks = count_text(len(operations.ranks), "rank")
    return f"{ranks}, {count_text(len(operations.steps), 'step')}"


def _opening(ledger: JobLedger, what_if: Stragglers) -> str:
    recorded, replayed = (time_text(round(ns)) for ns in (what_if.recorded_ns, what_if.no_delay_ns))
    waiting = share_text(ledger.row_ns(JobRow.WAITING), ledger.total_ns)
    return (
        f"Without launch delay a step takes {replayed} (with it {recorded}), "
        f"{what_if.slowdown:.2f} {TIMES} as long as with equal ranks; {waiting} of the time of "
        f"{count_text(len(ledger.ranks), 'rank')} is waiting for others, the pipeline's own "
        "bubbles included"
    )


def _late_hosts(ledger: JobLedger, what_if: Stragglers) -> JobWords:
    """Say that pauses between operations cost most, and whose the others wait for."""
    recorded, replayed = (time_text(round(ns)) for ns in (what_if.recorded_ns, what_if.no_delay_ns))
    opening = (
        f"A step takes {recorded}, {what_if.launch_slowdown:.2f} {TIMES} as long as without the "
        f"pauses between operations ({replayed})"
    )
    pauses = ledger.charged[ledger.charged["row"] == ROWS.index(JobRow.LAUNCH)]
    by_rank = pauses.groupby("late_rank")["ns"].sum().sort_values(ascending=False)
    by_rank = by_rank[by_rank.index != NOBODY]
    if len(by_rank) and by_rank.iloc[0] >= BLAMED * ledger.total_ns:
        rank = int(by_rank.index[0])
        waits = ledger.charged.loc[ledger.charged["late_rank"] == rank, "ns"].sum()
        shares = [share_text(int(ns), ledger.total_ns) for ns in (waits, by_rank.iloc[0])]
        return JobWords(
            f"{opening}: for {shares[0]} of the time of all ranks they wait for rank {rank}, for "
            f"{shares[1]} while it runs no operation.",
            f"Open the recording of rank {rank} and look at its host: input, garbage collection, "
            "logging, other processes on its cores.",
        )
    own = share_text(ledger.row_ns(JobRow.LAUNCH), ledger.total_ns)
    return JobWords(
        f"{opening}: {own} of the time of {count_text(len(ledger.ranks), 'rank')} lies between "
        "operations, and no single rank makes the others wait for it.",
        "Open the recording of any rank and look at its host: what it does between operations.",
    )


def _slow_ranks(operations: JobOperations, what_if: Stragglers, opening: str) -> JobWords | None:
    rank = what_if.worst_ranks[0]
    slow = _slowest_kind(operations, "rank", rank)
    if slow is None:
        return None
    names = enumerated([f"rank {one}" for one in what_if.worst_ranks])
    gained = what_if.no_delay_ns / max(what_if.without_worst_ns, 1.0)
    stage = int(operations.ranks["stage"][operations.ranks["rank"] == rank].iloc[0])
    explained = share_text(min(what_if.m_w or 0.0, 1.0), 1)
    is_one = len(what_if.worst_ranks) == 1
    return JobWords(
        f"{opening}. {names[0].upper()}{names[1:]} (stage {stage}) {'is' if is_one else 'are'} "
        f"slow and {'explains' if is_one else 'explain'} {explained} of the slowdown: "
        f"{slow.kind} takes {time_text(round(slow.own_ns))} on rank {rank}, "
        f"{time_text(round(slow.others_ns))} on {slow.others}.",
        f"Look at the machine of rank {rank}: clocks, temperature, other processes, its GPU's "
        f"health; then at its input. At the mean speed of all a step would be {gained:.2f} "
        f"{TIMES} as fast.",
    )


def _long_stage(operations: JobOperations, what_if: Stragglers, opening: str) -> JobWords | None:
    stage = int(operations.table["stage"].max())
    slow = _slowest_kind(operations, "stage", stage)
    if slow is None:
        return None
    gained = what_if.no_delay_ns / max(what_if.ideal_ns, 1.0)
    return JobWords(
        f"{opening}. The last stage of the pipeline ({stage}) has more work: {slow.kind} takes "
        f"{time_text(round(slow.own_ns))} there, {time_text(round(slow.others_ns))} on "
        f"{slow.others}.",
        "Give it fewer layers, or move the loss and the embedding to a stage of their own: with "
        f"equal stages a step would be {gained:.2f} {TIMES} as fast at most.",
    )


def _nothing_alone(what_if: Stragglers, opening: str) -> JobWords:
    """Say which rank and which kind explain most, where none explains enough to be blamed."""
    worst, kind = what_if.ranks[0], what_if.kinds[0]
    return JobWords(
        f"{opening}. Of that, the slowest rank, {worst.name}, explains {_explained(worst)}; the "
        f"slowest kind of operations, {kind.name}, {_explained(kind)}.",
        "",
    )


def _explained(part: PartOfJob) -> str:
    return share_text(min(max(part.explains or 0.0, 0.0), 1.0), 1)


def _slowest_kind(operations: JobOperations, column: str, value: int) -> _Slow | None:
    """Return the kind of computation on which a part loses most; None where it loses on none.

    A rank is compared with the others of its stage, where there are any.
    """
    table = operations.table
    own = (table[column] == value).to_numpy()
    others, words = ~own, "the other stages"
    if column == "rank":
        same_stage = (table["stage"] == table.loc[own, "stage"].iloc[0]).to_numpy() & others
        words = "the other ranks of its stage" if same_stage.any() else "ranks of other stages"
        others = same_stage if same_stage.any() else others
    spent = (table["end_ns"] - table["start_ns"]).to_numpy(float)
    slowest, most = None, 0.0
    for code, kind in enumerate(operations.kinds):
        is_kind = (table["kind"] == code).to_numpy() & ~operations.communicates
        if not (is_kind & own).any() or not (is_kind & others).any():
            continue
        means = float(spent[is_kind & own].mean()), float(spent[is_kind & others].mean())
        lost = (means[0] - means[1]) * float((is_kind & own).sum())
        if lost > most:
            slowest, most = _Slow(kind, *means, words), lost
    return slowest
