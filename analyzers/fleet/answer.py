"""What is said about a whole job: who makes the others wait, since when, and what it costs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyzers.fleet.job_ledger import NOBODY, ROWS, JobLedger, job_ledger, late_ranks
from analyzers.fleet.operations import JobOperations, Peers, is_known, peers_of
from analyzers.fleet.sentences import job_words
from analyzers.fleet.stragglers import Stragglers, stragglers
from analyzers.words import enumerated

SCHEMA = 1
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
        EmptyJobError: No operation takes any time.
        TooLongJobError: Its times cannot be told apart in whole nanoseconds.
    """
    ledger, what_if = job_ledger(operations), stragglers(operations)
    if unknown := [kind for kind in operations.kinds if not is_known(kind)]:
        counted = f"counted as computation, for want of knowing better: {enumerated(unknown[:5])}"
        notes = (*notes, counted)
    sentence, advice = job_words(operations, ledger, what_if)
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
            "group": operations.group,
            "late": late_ranks(operations),
            "wait": (operations.arrival_ns - table["start_ns"]).clip(
                upper=table["end_ns"] - table["start_ns"]
            ),
            "transfer": operations.transfer_ns,
        }
    )[operations.communicates]
    if not len(rows):
        return ()
    made = []
    for code in np.unique(rows["kind"]).tolist():
        own = rows[rows["kind"] == code]
        kind = operations.kinds[code]
        if peers_of(kind) is Peers.NOBODY:
            continue
        often = own.drop_duplicates("group")["late"].value_counts(normalize=True)
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


def culprit_name(rank: int) -> str:
    """Return a late rank in words."""
    return "not followed further" if rank == NOBODY else f"rank {rank}"
