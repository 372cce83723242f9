"""The diagnoses of several recordings as one table, a line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from analyzers.finding import Cause
from analyzers.verdict_words import without_command, without_preamble
from analyzers.words import TIMES, share_text, time_text
from common.text import visible
from reports.document import Cell, Document, DocumentTable, Section, TableColumn

if TYPE_CHECKING:
    from analyzers.report import Report

MAX_NAME = 40  # characters of a file's name; its middle is left out
NAME_WIDTH, BUSY_WIDTH, CAUSE_WIDTH = 32, 22, 18  # columns in lines that come one by one
REFUSED, FAILED = 2, 3  # exit statuses; any other but 0 is a defect
_TROUBLES = {REFUSED: "refused", FAILED: "not opened"}
_CAUSES = {cause.value for cause in Cause}


@dataclass(frozen=True, kw_only=True)
class DiagnosedFile:
    """What became of one recording.

    Attributes:
        path: As it was given.
        report: The answer; None when there is none.
        status: Exit status that stands for it; 0 with a report.
        trouble: Why there is no report, in one line.
    """

    path: str
    report: Report | None = None
    status: int = 0
    trouble: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as one line of ``whyslow diagnose --json A B`` holds it."""
        answer: dict[str, Any] = {"path": self.path, "status": self.status}
        if self.report is None:
            return answer | {"error": self.trouble}
        return answer | {"report": self.report.to_dict()}


def diagnoses(
    files: Sequence[DiagnosedFile], *, has_head: bool = True, is_stream: bool = False
) -> Document:
    """Return the table of several diagnoses.

    Args:
        files: From top to bottom.
        has_head: Whether the columns are named above; not for lines that follow others.
        is_stream: Whether further lines follow, whose columns are to stand below these.
    """
    names: Sequence[str] = ("File", "GPU busy", "Cause", "Verdict") if has_head else ("",) * 4
    own = [PurePath(file.path).name for file in files]
    are_clear = len(set(own)) == len(own)
    rows = [
        _row(file, name if are_clear else file.path) for file, name in zip(files, own, strict=True)
    ]
    if is_stream:
        rows = [_padded_row(row) for row in rows]
    if is_stream and has_head:
        names = _padded(names)
    columns = (
        TableColumn(name=names[0]),
        TableColumn(name=names[1], is_number=True),
        TableColumn(name=names[2]),
        TableColumn(name=names[3], is_cropped=True),
    )
    table = DocumentTable(columns=columns, rows=tuple(rows))
    sections = (Section(title="Diagnoses", blocks=(table,)),)
    return Document(kind="diagnoses", title="Why recordings are slow", sections=sections)


def _padded_row(row: Sequence[Cell]) -> tuple[Cell, ...]:
    texts = _padded([cell.text for cell in row])
    return tuple(replace(cell, text=text) for cell, text in zip(row, texts, strict=True))


def _padded(texts: Sequence[str]) -> Sequence[str]:
    """Return the texts of a line, each but the last as wide as in other lines."""
    name, busy, cause, last = texts
    return name.ljust(NAME_WIDTH), busy.rjust(BUSY_WIDTH), cause.ljust(CAUSE_WIDTH), last


def _row(file: DiagnosedFile, name: str) -> tuple[Cell, ...]:
    head = Cell(text=visible(name, MAX_NAME))
    report = file.report
    if report is None:
        cause = _TROUBLES.get(file.status, "defect")
        return head, Cell(text=""), Cell(text=cause, strong=True), Cell(text=file.trouble)
    verdict = report.verdict
    is_loss = verdict.cause in _CAUSES
    cause = f"{verdict.cause} {share_text(verdict.share, 1)}" if is_loss else verdict.cause
    busy = Cell(text=busy_text(report), value=sum(d.busy_ns for d in report.devices))
    # The preamble is the same in most lines, and no line has the command with it.
    sentence = without_command(without_preamble(verdict.sentence))
    return head, busy, Cell(text=cause, strong=is_loss), Cell(text=sentence)


def busy_text(report: Report) -> str:
    """Say how long GPUs were busy of how much time: ``1.20 ms of 3.00 ms``; of 8 GPUs, 8 times."""
    devices = report.devices
    if not devices:
        return "no GPU work"
    several = f"{len(devices)} {TIMES} " if len(devices) > 1 else ""
    busy = time_text(sum(d.busy_ns for d in devices))
    return f"{busy} of {several}{time_text(devices[0].duration_ns)}"
