"""What the host did, where nothing ran on a GPU: as tables, from the report alone."""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.report import Report
from analyzers.words import count_text, share_text, shortened, time_text
from reports.document import Block, Cell, DocumentTable, Sentence, TableColumn

TITLE = "What the host did"


def host_work(report: Report) -> Iterator[Block]:
    """Tell the operators and ranges with most time of their own, and the busiest threads."""
    profile = report.host_profile
    if profile is None:
        return
    is_called = any(row.caller for row in profile.operators)
    yield DocumentTable(
        name="Most time of its own first",
        columns=(
            TableColumn(name="Share", unit="pct", is_number=True),
            TableColumn(name="Itself", unit="ns", is_number=True),
            TableColumn(name="With what it calls", unit="ns", is_number=True),
            TableColumn(name="Calls", unit="count", is_number=True),
            TableColumn(name="Operator or range"),
            *([TableColumn(name="Called from")] if is_called else []),
        ),
        rows=tuple(
            (
                Cell(text=share_text(row.share, 1), value=100 * row.share),
                Cell(text=time_text(row.self_ns), value=row.self_ns),
                Cell(text=time_text(row.total_ns), value=row.total_ns),
                Cell(text=f"{row.count:,}", value=row.count),
                Cell(text=shortened(row.name)),
                *([Cell(text=row.caller)] if is_called else []),
            )
            for row in profile.operators
        ),
    )
    if more := profile.operator_count - len(profile.operators):
        yield Sentence(text=f"{count_text(more, 'more name')} with less time each.", kind="note")
    yield DocumentTable(
        name=f"Busiest threads, of {time_text(profile.span_ns)} from the first to the last",
        columns=(
            TableColumn(name="Share", unit="pct", is_number=True),
            TableColumn(name="In operators or ranges", unit="ns", is_number=True),
            TableColumn(name="Thread"),
        ),
        rows=tuple(
            (
                Cell(text=share_text(thread.share, 1), value=100 * thread.share),
                Cell(text=time_text(thread.busy_ns), value=thread.busy_ns),
                Cell(text=thread.name),
            )
            for thread in profile.threads
        ),
    )
    if more := profile.thread_count - len(profile.threads):
        yield Sentence(text=f"{count_text(more, 'more thread')} with less time each.", kind="note")
