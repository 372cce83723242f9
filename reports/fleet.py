"""A whole job in words and tables: who makes the others wait, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analyzers.fleet.answer import JobAnswer, culprit_name
from analyzers.fleet.stragglers import PartOfJob
from analyzers.words import TIMES, count_text, enumerated, share_text, time_text
from reports.document import (
    Block,
    Cell,
    Document,
    DocumentTable,
    Section,
    Sentence,
    TableColumn,
)

MAX_ROWS = 8


def job_summary(answer: JobAnswer) -> Document:
    """Return what a terminal says about a job."""
    sections = [
        Section(title="", blocks=tuple(_lead(answer))),
        Section(title="Where the time of all ranks goes", blocks=(_ledger(answer),)),
        Section(title="Whom the others wait for", blocks=tuple(_culprits(answer))),
        Section(title="Without what is slow", blocks=tuple(_what_if(answer))),
        Section(title="Ranks, those that others wait for most", blocks=(_ranks(answer),)),
        Section(title="Communication", blocks=tuple(_collectives(answer))),
        Section(
            title="What limits this",
            blocks=tuple(Sentence(text=n, kind="item") for n in answer.notes),
        ),
    ]
    return Document(
        kind="job",
        title=answer.name,
        sections=tuple(section for section in sections if section.blocks),
    )


def _lead(answer: JobAnswer) -> Iterator[Block]:
    yield Sentence(text=answer.sentence, kind="lead")
    if answer.advice:
        yield Sentence(text=answer.advice)


def _table(names: tuple[str, ...], rows: Iterable[tuple[Cell, ...]]) -> DocumentTable:
    numbers = (TableColumn(name=name, is_number=True) for name in names[1:])
    return DocumentTable(columns=(TableColumn(name=names[0]), *numbers), rows=tuple(rows))


def _time(ns: float) -> Cell:
    return Cell(text=time_text(round(ns)), value=ns)


def _share(part: float | None) -> Cell:
    text = "" if part is None else share_text(part, 1) if part >= 0 else "makes it slower"
    return Cell(text=text, value=part)


def _ledger(answer: JobAnswer) -> DocumentTable:
    total = sum(answer.ledger.values())
    rows = [
        (Cell(text=name), _time(ns), _share(ns / max(total, 1)))
        for name, ns in answer.ledger.items()
    ]
    name = f"{count_text(len(answer.ranks), 'rank')}, {count_text(answer.steps, 'step')}"
    return _table(
        (name, "Time", "Share"), [*rows, (Cell(text="all ranks"), _time(total), _share(1.0))]
    )


def _culprits(answer: JobAnswer) -> Iterator[Block]:
    if not answer.culprits:
        return
    rows = [
        (
            Cell(text=f"{culprit_name(c.rank)}: {c.row}"),
            _time(c.ns),
            _share(c.share),
            Cell(text=f"{c.steps:,}", value=c.steps),
        )
        for c in answer.culprits[:MAX_ROWS]
    ]
    yield _table(
        ("Late rank, and what it does meanwhile", "Waited for it", "Of all", "Steps"), rows
    )


def _what_if(answer: JobAnswer) -> Iterator[Block]:
    what_if = answer.what_if
    worst = enumerated([f"rank {rank}" for rank in what_if.worst_ranks])
    times = [
        ("a step as recorded", what_if.recorded_ns, None),
        ("without launch delay", what_if.no_delay_ns, None),
        (f"and {worst} like the mean of all", what_if.without_worst_ns, what_if.m_w),
        ("or the last stage", what_if.without_last_stage_ns, what_if.m_s),
        ("or every rank", what_if.ideal_ns, 1.0),
    ]
    rows = [
        (Cell(text=words), _time(ns), _share(share)) for words, ns, share in times if ns is not None
    ]
    yield _table(("Replayed", "A step", "Explains"), rows)
    for title, parts in (("Stage", what_if.stages), ("Kind of operations", what_if.kinds)):
        if len(parts) > 1:
            yield _parts(title, parts)


def _parts(title: str, parts: tuple[PartOfJob, ...]) -> DocumentTable:
    rows = [
        (
            Cell(text=part.name),
            Cell(text=f"{part.slowdown:.3f} {TIMES}", value=part.slowdown),
            _share(part.explains),
        )
        for part in parts[:MAX_ROWS]
    ]
    return _table((title, "A step, if only this is as recorded", "Explains"), rows)


def _ranks(answer: JobAnswer) -> DocumentTable:
    rows = sorted(answer.ranks, key=lambda row: -row.charged_ns)[:MAX_ROWS]
    names = tuple(name for name, ns in answer.ledger.items() if ns)
    return _table(
        ("Rank (stage, data-parallel rank)", *names, "Others wait for it"),
        [
            (
                Cell(text=f"{row.rank} ({row.stage}, {row.dp_rank})"),
                *(_time(row.rows[name]) for name in names),
                _time(row.charged_ns),
            )
            for row in rows
        ],
    )


def _collectives(answer: JobAnswer) -> Iterator[Block]:
    if not answer.collectives:
        return
    rows = [
        (
            Cell(text=row.kind),
            Cell(text=f"{row.count:,}", value=row.count),
            _time(row.wait_ns),
            _time(row.transfer_ns),
            Cell(text=f"rank {row.last_rank} ({share_text(row.last_share, 1)})"),
        )
        for row in answer.collectives[:MAX_ROWS]
    ]
    yield _table(("Kind", "Count", "Wait", "Transfer", "Last most often"), rows)
