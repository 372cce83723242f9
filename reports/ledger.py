"""The ledger of each device: a bar and a table, from the report or with the longest stretches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from analyzers.finding import Row
from analyzers.ledger.device import DeviceLedger
from analyzers.report import Report
from analyzers.words import share_text, time_text
from reports.about import ReportedWindow
from reports.document import (
    Bar,
    Block,
    Cell,
    DocumentPart,
    DocumentTable,
    Figure,
    Place,
    Sentence,
    TableColumn,
)
from reports.palette import ROW_COLORS, ROW_MEANINGS

if TYPE_CHECKING:
    from library.analyses import StoredAnalysis

NO_GPU_WORK = "Nothing ran on a GPU in this recording, so no time of a GPU is accounted for."


def device_words(device: DeviceLedger) -> str:
    """Return what a device is called."""
    process = f", process {device.process}" if device.process >= 0 else ""
    return f"GPU {device.device} {device.name}".rstrip() + process


def ledger_summary(report: Report) -> Iterator[Block]:
    """Tell where the time of each device went, from the report alone."""
    if not report.devices:
        yield Sentence(text=NO_GPU_WORK)
        return
    yield _figure(report, None)
    for device in report.devices:
        yield DocumentTable(
            name=_table_name(device),
            columns=(
                TableColumn(name="Row"),
                TableColumn(name="Time", unit="ns", is_number=True),
                TableColumn(name="Share", unit="pct", is_number=True),
            ),
            rows=tuple(
                (
                    Cell(text=row.value, color=ROW_COLORS[row], share=ns / device.duration_ns),
                    Cell(text=time_text(ns), value=ns),
                    share_cell(ns, device.duration_ns, None),
                )
                for row, ns in _booked(device)
            ),
        )


def ledger(report: Report, stored: StoredAnalysis, where: ReportedWindow) -> Iterator[Block]:
    """Tell where the time of each device went, what that means, and where it shows best."""
    if not report.devices:
        yield Sentence(text=NO_GPU_WORK)
        return
    longest = _longest_stretches(stored)
    whole = where.place(*report.window.span, mark=False)
    yield _figure(report, whole)
    for device in report.devices:
        yield DocumentTable(
            name=_table_name(device),
            columns=(
                TableColumn(name="Row"),
                TableColumn(name="What happens"),
                TableColumn(name="Time", unit="ns", is_number=True),
                TableColumn(name="Share", unit="pct", is_number=True),
                TableColumn(name="Longest stretch", unit="ns", is_number=True),
            ),
            rows=tuple(
                (
                    Cell(text=row.value, color=ROW_COLORS[row]),
                    Cell(text=ROW_MEANINGS[row]),
                    Cell(text=time_text(ns), value=ns, place=whole),
                    share_cell(ns, device.duration_ns, whole),
                    stretch_cell(longest.get((device.key, row)), where),
                )
                for row, ns in _booked(device)
            ),
        )


def share_cell(part: float, whole: float, place: Place | None) -> Cell:
    """Return a share with its number in percent."""
    value = round(100 * part / whole, 6) if whole else 0.0
    return Cell(text=share_text(part, whole, exact=True), value=value, place=place)


def stretch_cell(span: tuple[int, int] | None, where: ReportedWindow) -> Cell:
    """Return how long a stretch of the recording is; empty without one."""
    if span is None:
        return Cell(text="")
    ns = span[1] - span[0]
    return Cell(text=time_text(ns), value=ns, place=where.place(*span))


def _table_name(device: DeviceLedger) -> str:
    return f"{device_words(device)}: where {time_text(device.duration_ns)} went"


def _booked(device: DeviceLedger) -> list[tuple[Row, int]]:
    return sorted(((r, ns) for r, ns in device.rows.items() if ns), key=lambda x: -x[1])


def _figure(report: Report, whole: Place | None) -> Figure:
    alt = "; ".join(
        f"{device_words(d)}: " + ", ".join(f"{r.value} {time_text(ns)}" for r, ns in _booked(d))
        for d in report.devices
    )
    return Figure(alt=alt, bars=tuple(_bar(device, whole) for device in report.devices))


def _bar(device: DeviceLedger, whole: Place | None) -> Bar:
    parts, at = [], 0
    for row, color in ROW_COLORS.items():
        if ns := device.rows.get(row, 0):
            text = f"{row.value} {share_text(ns, device.duration_ns)}"
            parts.append(
                DocumentPart(
                    name=row.value,
                    start=at,
                    end=at + ns,
                    color=color,
                    text=text,
                    place=whole,
                )
            )
            at += ns
    return Bar(name=device_words(device), parts=tuple(parts))


def _longest_stretches(stored: StoredAnalysis) -> dict[tuple[int, Row], tuple[int, int]]:
    """Return the longest stretch of each row on each device; empty without a timeline."""
    from analyzers.ledger.ledger import ROWS

    segments = stored.segments()
    if not len(segments):
        return {}
    length = segments["end_ns"] - segments["start_ns"]
    longest = segments.loc[length.groupby([segments["device"], segments["row"]]).idxmax()]
    columns = (longest[c].tolist() for c in ("device", "row", "start_ns", "end_ns"))
    return {
        (device, ROWS[row]): (start, end) for device, row, start, end in zip(*columns, strict=True)
    }
