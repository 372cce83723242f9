"""What is said about a whole job: who makes the others wait, since when, and what it costs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyzers.fleet.job_ledger import NOBODY, ROWS, JobLedger, JobRow, job_ledger
from analyzers.fleet.operations import JobOperations, Peers, peers_of
from analyzers.fleet.stragglers import NO_STRAGGLER, PartOfJob, Stragglers, stragglers
from analyzers.words import TIMES, count_text, enumerated, share_text, time_text

SCHEMA = 1
EXPLAINED = 0.5  # of the slowdown: a part that explains as much is named as the cause
SEQUENCE_CORRELATION = 0.9  # of both passes of a micro-batch: its length decides, not the rank
MAX_CULPRITS = 20


@dataclass(frozen=True, kw_only=True)
class RankRow:
    """One rank of a job, and where its time goes.

    Attributes:
        rank: Its number.
        dp_rank: Among data-parallel ranks.
        stage: Of the pipeline.
        rows: Time in each ``JobRow``, by its name, ns.
        charged_ns: What all ranks wait for this one.
        slowdown: Step time by the ideal one when only this rank is as recorded; None where it was
            not replayed.
    """

    rank: int
    dp_rank: int
    stage: int
    rows: dict[str, int]
    charged_ns: int
    slowdown: float | None


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """A rank that others wait for, and what it does meanwhile.

    Attributes:
        rank: The late rank; -1 where a chain of waits was too long to follow.
        row: What it does, a ``JobRow``.
        ns: What all ranks wait for that, summed.
        share: Of the time of all ranks.
        steps: In how many steps.
    """

    rank: int
    row: str
    ns: int
    share: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class CommunicationRow:
    """One kind of operations with peers.

    Attributes:
        kind: Its name.
        peers: Who takes part.
        count: How many, each with all its members.
        wait_ns: Until the last member is there, over all ranks.
        transfer_ns: From then on.
        last_rank: The rank that is last most often.
        last_share: In which part of them.
    """

    kind: str
    peers: str
    count: int
    wait_ns: int
    transfer_ns: int
    last_rank: int
    last_share: float


@dataclass(frozen=True, kw_only=True)
class JobAnswer:
    """Everything that is said about a job.

    Attributes:
        name: Of the file.
        sentence: Who makes the others wait, and what that costs.
        advice: What to do about it.
        steps: How many.
        window_ns: Their windows, summed; the ledger sums to it times the ranks.
        ledger: Time of all ranks by ``JobRow``.
        ranks: Every rank.
        culprits: Whom the others wait for, the longest first.
        collectives: Kinds of operations with peers, the longest wait first.
        what_if: The job replayed without its slow parts.
        notes: What limits the answer.
    """

    name: str
    sentence: str
    advice: str
    steps: int
    window_ns: int
    ledger: dict[str, int]
    ranks: tuple[RankRow, ...]
    culprits: tuple[Culprit, ...]
    collectives: tuple[CommunicationRow, ...]
    what_if: Stragglers
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of ``whyslow fleet --json``; what is not known is null."""
        return {
            "schema": SCHEMA,
            **dataclasses.asdict(self),
            "clock": {"is_shared": True, "how": "the table has one clock; none is estimated"},
            "unreadable": [],
        }


def answer_of(operations: JobOperations, name: str, notes: tuple[str, ...] = ()) -> JobAnswer:
    """Say who makes the ranks of a job wait.

    Args:
        operations: All operations; at least one.
        name: Of the file.
        notes: What reading it left out.

    Raises:
        StuckStepError: Operations of a step wait for each other in a circle.
    """
    ledger, what_if = job_ledger(operations), stragglers(operations)
    sentence, advice = _words(operations, ledger, what_if)
    return JobAnswer(
        name=name,
        sentence=sentence,
        advice=advice,
        steps=len(operations.steps),
        window_ns=ledger.window_ns,
        ledger={row.value: ledger.row_ns(row) for row in ROWS},
        ranks=_ranks(operations, ledger, what_if),
        culprits=_culprits(ledger),
        collectives=_communications(operations),
        what_if=what_if,
        notes=notes,
    )


def _ranks(
    operations: JobOperations, ledger: JobLedger, what_if: Stragglers
) -> tuple[RankRow, ...]:
    charged = ledger.charged.groupby("late_rank")["ns"].sum().to_dict()
    slowdown = {int(part.name): part.slowdown for part in what_if.ranks}
    return tuple(
        RankRow(
            rank=rank,
            dp_rank=dp_rank,
            stage=stage,
            rows={row.value: ns for row, ns in zip(ROWS, own, strict=True)},
            charged_ns=int(charged.get(rank, 0)),
            slowdown=slowdown.get(rank),
        )
        for (rank, dp_rank, stage), own in zip(
            operations.ranks.to_numpy().tolist(), ledger.own_ns.tolist(), strict=True
        )
    )


def _culprits(ledger: JobLedger) -> tuple[Culprit, ...]:
    by_cause = ledger.charged.groupby(["late_rank", "row"]).agg(
        ns=("ns", "sum"), steps=("step", "nunique")
    )
    by_cause = by_cause.sort_values("ns", ascending=False).head(MAX_CULPRITS)
    return tuple(
        Culprit(
            rank=int(rank),
            row=ROWS[row].value,
            ns=int(ns),
            share=float(ns / max(ledger.total_ns, 1)),
            steps=int(steps),
        )
        for (rank, row), (ns, steps) in zip(
            by_cause.index.tolist(), by_cause.to_numpy().tolist(), strict=True
        )
    )


def _communications(operations: JobOperations) -> tuple[CommunicationRow, ...]:
    table = operations.table
    rows = pd.DataFrame(
        {
            "kind": table["kind"],
            "rank": table["rank"],
            "start": table["start_ns"],
            "group": operations.group,
            "wait": (operations.arrival_ns - table["start_ns"]).clip(
                upper=table["end_ns"] - table["start_ns"]
            ),
            "transfer": operations.transfer_ns,
        }
    )[operations.communicates]
    if not len(rows):
        return ()
    last = rows.sort_values(["start", "rank"]).drop_duplicates(["kind", "group"], keep="last")
    made = []
    for code in np.unique(rows["kind"]).tolist():
        own = rows[rows["kind"] == code]
        often = last.loc[last["kind"] == code, "rank"].value_counts(normalize=True, sort=True)
        kind = operations.kinds[code]
        if peers_of(kind) is Peers.NOBODY:
            continue
        made.append(
            CommunicationRow(
                kind=kind,
                peers=peers_of(kind).value,
                count=int(own["group"].nunique()),
                wait_ns=int(own["wait"].sum()),
                transfer_ns=int(own["transfer"].sum()),
                last_rank=int(often.index[0]),
                last_share=float(often.iloc[0]),
            )
        )
    return tuple(sorted(made, key=lambda row: -row.wait_ns))


# --- the sentence -------------------------------------------------------------------------------


def _words(operations: JobOperations, ledger: JobLedger, what_if: Stragglers) -> tuple[str, str]:
    """Return the sentence, and what to do."""
    ranks, steps = count_text(len(ledger.ranks), "rank"), count_text(len(operations.steps), "step")
    ratio = f"{what_if.slowdown:.2f} {TIMES}"
    step = time_text(round(what_if.recorded_ns))
    waiting = share_text(ledger.row_ns(JobRow.WAITING), ledger.total_ns)
    if what_if.slowdown < NO_STRAGGLER:
        return (
            f"No rank makes the others wait: a step of {step} is {ratio} the ideal one, in which "
            f"every operation takes what its kind takes on average ({ranks}, {steps}).",
            "",
        )
    opening = (
        f"A step takes {step}, {ratio} as long as it would with equal ranks; {waiting} of the "
        f"time of {ranks} is waiting for others, the pipeline's own bubbles included"
    )
    by_ranks, by_stage = what_if.m_w or 0.0, what_if.m_s or 0.0
    if by_ranks >= max(EXPLAINED, by_stage):
        return _slow_ranks(operations, what_if, opening)
    if by_stage >= EXPLAINED:
        return _long_stage(operations, what_if, opening)
    if what_if.pass_correlation is not None and what_if.pass_correlation >= SEQUENCE_CORRELATION:
        return (
            f"{opening}. Micro-batches differ in length, forward and backward passes alike "
            f"(correlation {what_if.pass_correlation:.2f}), on every rank.",
            "Pack sequences so that micro-batches take equally long (by the sum of squares of "
            "their lengths where attention dominates).",
        )
    worst, kind = what_if.ranks[0], what_if.kinds[0]
    return (
        f"{opening}. No single rank and not the last stage explains half of that: the slowest "
        f"rank, {worst.name}, {_explained(worst)}; the slowest kind of operations, {kind.name}, "
        f"{_explained(kind)}.",
        "",
    )


def _explained(part: PartOfJob) -> str:
    return share_text(min(max(part.explains or 0.0, 0.0), 1.0), 1)


def _slow_ranks(operations: JobOperations, what_if: Stragglers, opening: str) -> tuple[str, str]:
    rank = what_if.worst_ranks[0]
    names = enumerated([f"rank {one}" for one in what_if.worst_ranks])
    kind, own_ns, others_ns = _slowest_kind(operations, "rank", rank)
    gained = what_if.no_delay_ns / max(what_if.without_worst_ns, 1.0)
    stage = int(operations.ranks["stage"][operations.ranks["rank"] == rank].iloc[0])
    explained = share_text(min(what_if.m_w or 0.0, 1.0), 1)
    is_one = len(what_if.worst_ranks) == 1
    return (
        f"{opening}. {names[0].upper()}{names[1:]} (stage {stage}) {'is' if is_one else 'are'} "
        f"slow and {'explains' if is_one else 'explain'} {explained} of the slowdown: "
        f"{kind} takes {time_text(round(own_ns))} on rank {rank}, {time_text(round(others_ns))} on "
        "the other ranks of its stage.",
        f"Look at the machine of rank {rank}: clocks, temperature, other processes, its GPU's "
        f"health; then at its input. At the speed of the others a step would be {gained:.2f} "
        f"{TIMES} as fast.",
    )


def _long_stage(operations: JobOperations, what_if: Stragglers, opening: str) -> tuple[str, str]:
    stage = int(operations.table["stage"].max())
    kind, own_ns, others_ns = _slowest_kind(operations, "stage", stage)
    gained = what_if.no_delay_ns / max(what_if.ideal_ns, 1.0)
    return (
        f"{opening}. The last stage of the pipeline ({stage}) has more work: {kind} takes "
        f"{time_text(round(own_ns))} there, {time_text(round(others_ns))} on the other stages.",
        "Give it fewer layers, or move the loss and the embedding to a stage of their own: with "
        f"equal stages a step would be {gained:.2f} {TIMES} as fast at most.",
    )


def _slowest_kind(operations: JobOperations, column: str, value: int) -> tuple[str, float, float]:
    """Return the kind of computation on which a part loses most, and its mean there and elsewhere.

    A rank is compared with the others of its stage, where there are any.
    """
    table = operations.table
    own = (table[column] == value).to_numpy()
    others = ~own
    if column == "rank":
        same_stage = (table["stage"] == table.loc[own, "stage"].iloc[0]).to_numpy() & others
        others = same_stage if same_stage.any() else others
    spent = (table["end_ns"] - table["start_ns"]).to_numpy(float)
    best = ("", 0.0, 0.0)
    most = -np.inf
    for code, kind in enumerate(operations.kinds):
        is_kind = (table["kind"] == code).to_numpy() & ~operations.communicates
        if not (is_kind & own).any() or not (is_kind & others).any():
            continue
        means = spent[is_kind & own].mean(), spent[is_kind & others].mean()
        lost = (means[0] - means[1]) * (is_kind & own).sum()
        if lost > most:
            most, best = lost, (kind, float(means[0]), float(means[1]))
    return best


def culprit_name(rank: int) -> str:
    """Return a late rank in words."""
    return "not followed further" if rank == NOBODY else f"rank {rank}"
