"""The report about one window of one recording, as a document without a form yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import TYPE_CHECKING

from analyzers.finding import Finding, Row
from analyzers.ledger.device import DeviceLedger
from analyzers.report import Report
from analyzers.words import by_reason, count_text, name_text, share_text, time_text
from reports.document import (
    Bar,
    Block,
    Cell,
    Document,
    DocumentPart,
    DocumentTable,
    Figure,
    Place,
    Section,
    Sentence,
    TableColumn,
)
from reports.numbers import format_value
from reports.palette import ROW_COLORS, ROW_MEANINGS
from reports.privacy import Privacy

if TYPE_CHECKING:
    from collectors.trace import Source, Trace
    from library.analyses import StoredAnalysis

SHOWN_KERNELS = 10
OPERATIONS = {
    "kernels": "kernel launch",
    "graph_launches": "graph launch",
    "copies": "copy",
    "memsets": "memset",
}
TOOLS = {"nsys": "Nsight Systems", "ncu": "Nsight Compute", "torch": "the torch profiler"}
NO_VERSION = "not installed"


@dataclass(frozen=True, kw_only=True)
class Where:
    """The recording and the window that a report's places lie in.

    Attributes:
        trace_id: The recording in the library.
        window: As the command line takes it.
        counters: Id of the recording whose counters are joined; empty for none.
        recording: Which recording, in words; empty when there is only one.
    """

    trace_id: str
    window: str = ""
    counters: str = ""
    recording: str = ""

    def place(self, start_ns: int, end_ns: int, *, mark: bool = True) -> Place:
        """Return a stretch of it; without ``mark`` the timeline shows its whole window."""
        named = {"trace": self.trace_id, "window": self.window, "counters": self.counters}
        if mark:
            named["mark"] = f"{start_ns}-{end_ns}"
        query = tuple((key, value) for key, value in named.items() if value)
        return Place(start_ns=start_ns, end_ns=end_ns, recording=self.recording, query=query)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a report was asked for.

    Attributes:
        privacy: What to remove.
        base_url: Address of the dashboard that links lead to; empty for none.
        made: When it was made; None is now.
    """

    privacy: Privacy
    base_url: str = ""
    made: datetime | None = None


def diagnosis(trace: Trace, stored: StoredAnalysis, where: Where, asked: Asked) -> Document:
    """Return the report about ``stored``, without what is private.

    Args:
        trace: The recording.
        stored: Its analysis.
        where: What was analysed.
        asked: How the report was asked for.

    Raises:
        TraceError: What was stored is damaged or gone.
    """
    report = stored.report
    whole = where.place(*report.window.span, mark=False)
    sections = [
        Section(title="Verdict", blocks=tuple(_verdict(report, whole))),
        Section(title="Where the time went", blocks=tuple(_ledger(report, stored, where))),
        Section(
            title="What to change, the largest loss first",
            blocks=tuple(_findings(report, where, whole)),
        ),
        Section(title="Kernels", blocks=tuple(_kernels(trace, stored, where))),
        Section(title="Iterations", blocks=tuple(_iterations(report, where, whole))),
        Section(title="Capture quality", blocks=tuple(_quality(report))),
        Section(title="Could not tell", blocks=tuple(_not_examined(report))),
        Section(
            title="About this report",
            blocks=about([("Recording", trace.source)], asked),
        ),
    ]
    document = Document(
        kind="diagnosis",
        title=f"Why {trace.source.name} is slow",
        sections=tuple(s for s in sections if s.blocks),
        data=report.to_dict(),
        base_url=asked.base_url,
    )
    return without_private(document, asked.privacy, [trace.source.name])


def without_private(document: Document, privacy: Privacy, file_names: list[str]) -> Document:
    """Return ``document`` without what is private, and without what its own texts betray."""
    texts: list[str] = []

    def collect(text: str) -> str:
        texts.append(text)
        return text

    document.mapped(collect)
    return document.mapped(privacy.learned(texts, file_names).text)


def program_version() -> str:
    """Return the version of whyslow that is installed."""
    try:
        return version("whyslow")
    except PackageNotFoundError:
        return NO_VERSION


def about(sources: list[tuple[str, Source]], asked: Asked) -> tuple[Block, ...]:
    """Return what the report was made of, by what, and what was removed."""
    moment = (asked.made or datetime.now(UTC)).astimezone(UTC)
    rows = [
        ("whyslow", program_version()),
        ("Made", f"{moment:%Y-%m-%d %H:%M} UTC"),
    ]
    for words, source in sources:
        size = f"{source.size_bytes:,} bytes" if source.size_bytes >= 0 else "not known"
        rows += [
            (words, source.name),
            (f"{words}: SHA-256", source.sha256 or "not known"),
            (f"{words}: size", size),
            (f"{words}: format", f"{source.format} {source.schema_version}".strip()),
            (f"{words}: recorded by", tool_words(source.format, source.tool_version)),
        ]
    table = DocumentTable(
        columns=(TableColumn(name="What"), TableColumn(name="Value")),
        rows=tuple((Cell(text=name), Cell(text=value)) for name, value in rows),
    )
    return table, Sentence(text=asked.privacy.sentence, kind="note")


def tool_words(recorded_as: str, tool_version: str) -> str:
    """Return the tool that recorded a format, with its version."""
    tool = TOOLS.get(recorded_as.partition("-")[0], "a profiler")
    return f"{tool} {tool_version}".strip()


def _verdict(report: Report, whole: Place) -> Iterator[Block]:
    yield Sentence(text=report.verdict.sentence, place=whole, kind="lead")
    gpus = ", ".join(str(g) for g in report.source["gpus"][:3])
    facts = [
        str(report.source["name"]),
        gpus,
        f"{report.window.label}, {time_text(report.window.duration_ns)}" if report.devices else "",
        *(
            count_text(report.operations[table], noun)
            for table, noun in OPERATIONS.items()
            if report.operations.get(table)
        ),
    ]
    tool = tool_words(str(report.source["format"]), str(report.source["tool_version"]))
    facts.append(f"recorded by {tool}")
    yield Sentence(text=" · ".join(f for f in facts if f), place=whole, kind="note")


def device_words(device: DeviceLedger) -> str:
    """Return what a device is called."""
    process = f", process {device.process}" if device.process >= 0 else ""
    return f"GPU {device.device} {device.name}".rstrip() + process


def _ledger(report: Report, stored: StoredAnalysis, where: Where) -> Iterator[Block]:
    if not report.devices:
        yield Sentence(
            text="Nothing ran on a GPU in this recording, so there is no time to account for."
        )
        return
    longest = _longest_stretches(stored)
    yield Figure(
        alt=_ledger_alt(report), bars=tuple(_bar(d, where, report) for d in report.devices)
    )
    for device in report.devices:
        whole = where.place(*report.window.span, mark=False)
        yield DocumentTable(
            name=f"{device_words(device)}: where {time_text(device.duration_ns)} went",
            columns=(
                TableColumn(name="Row"),
                TableColumn(name="What happens"),
                TableColumn(name="Time", unit="ns", is_number=True),
                TableColumn(name="Share", unit="pct", is_number=True),
                TableColumn(name="Longest stretch", unit="ns", is_number=True),
            ),
            rows=tuple(
                (
                    Cell(text=row.value),
                    Cell(text=ROW_MEANINGS[row]),
                    Cell(text=time_text(ns), value=ns, place=whole),
                    share_cell(ns, device.duration_ns, whole),
                    _stretch(longest.get((device.key, row)), where),
                )
                for row, ns in _booked(device)
            ),
        )


def _booked(device: DeviceLedger) -> list[tuple[Row, int]]:
    return sorted(((r, ns) for r, ns in device.rows.items() if ns), key=lambda x: -x[1])


def _ledger_alt(report: Report) -> str:
    return "; ".join(
        f"{device_words(d)}: " + ", ".join(f"{r.value} {time_text(ns)}" for r, ns in _booked(d))
        for d in report.devices
    )


def _bar(device: DeviceLedger, where: Where, report: Report) -> Bar:
    whole, parts, at = where.place(*report.window.span, mark=False), [], 0
    for row in ROW_COLORS:
        if ns := device.rows.get(row, 0):
            share = share_text(ns, device.duration_ns)
            parts.append(
                DocumentPart(
                    name=row.value,
                    start=at,
                    end=at + ns,
                    color=ROW_COLORS[row],
                    text=f"{row.value} {share}",
                    place=whole,
                )
            )
            at += ns
    return Bar(name=device_words(device), parts=tuple(parts))


def share_cell(part: float, whole: float, place: Place | None) -> Cell:
    """Return a share with its number in percent."""
    value = round(100 * part / whole, 6) if whole else 0.0
    return Cell(text=share_text(part, whole, exact=True), value=value, place=place)


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


def _stretch(span: tuple[int, int] | None, where: Where) -> Cell:
    if span is None:
        return Cell(text="")
    ns = span[1] - span[0]
    return Cell(text=time_text(ns), value=ns, place=where.place(*span))


def _findings(report: Report, where: Where, whole: Place) -> Iterator[Block]:
    if not report.devices:
        return
    if not report.findings:
        yield Sentence(text="No rule found a loss worth your time.")
    accounted = sum(d.in_use_ns for d in report.devices)
    for number, finding in enumerate(report.findings, 1):
        yield Sentence(text=f"{number}. {finding.title}", place=whole, kind="lead")
        yield Sentence(text=_loss(finding, accounted, len(report.devices)), place=whole)
        yield Sentence(text=f"Try: {finding.advice}")
        if finding.does_not_apply_when:
            yield Sentence(text=f"Does not apply when: {finding.does_not_apply_when}", kind="note")
        if finding.evidence:
            yield _evidence(finding, where, whole)


def _loss(finding: Finding, accounted: int, devices: int) -> str:
    over = f" over {devices} GPUs" if devices > 1 else ""
    share = share_text(finding.lost_ns, accounted, exact=True)
    lost = time_text(finding.lost_ns)
    about = f"{finding.id}, cause {finding.cause.value}, {finding.confidence.value}"
    if finding.low_ns < 0:
        return f"Wins back {lost} at most{over}, {share} of the time in use ({about})."
    low, high = time_text(finding.low_ns), time_text(finding.high_ns)
    return (
        f"Wins back {lost} by estimate{over}, {low} to {high}, {share} of the time in use "
        f"({about}). Estimate: {finding.formula}."
    )


def _evidence(finding: Finding, where: Where, whole: Place) -> DocumentTable:
    return DocumentTable(
        name="Evidence",
        columns=(TableColumn(name="Observation"), TableColumn(name="Value", is_number=True)),
        rows=tuple(
            (
                Cell(text=e.name),
                Cell(
                    text=format_value(e.value, e.unit),
                    value=e.value,
                    place=where.place(e.start_ns, e.end_ns) if e.start_ns >= 0 else whole,
                ),
            )
            for e in finding.evidence
        ),
    )


def _kernels(trace: Trace, stored: StoredAnalysis, where: Where) -> Iterator[Block]:
    """Tell the kernels that took most time in the window, and when each took longest."""
    import numpy as np

    if not trace.count("kernels"):
        return
    window = stored.report.window
    columns = trace.columns("kernels", ["start_ns", "end_ns", "name_id"])
    inside = (columns["end_ns"] > window.start_ns) & (columns["start_ns"] < window.end_ns)
    start, end, name_id = (columns[c][inside] for c in ("start_ns", "end_ns", "name_id"))
    if not len(start):
        return
    ids, code = np.unique(name_id, return_inverse=True)
    length = end - start
    total = np.zeros(len(ids), np.int64)
    np.add.at(total, code, length)
    order = np.lexsort((length, code))  # the last of each name is its longest launch
    last = order[np.searchsorted(code[order], np.arange(len(ids)), side="right") - 1]
    shown = np.argsort(-total, kind="stable")[:SHOWN_KERNELS]
    counts = np.bincount(code, minlength=len(ids))
    whole = where.place(*window.span, mark=False)
    names = trace.names(ids[shown])
    all_ns = int(total.sum())
    some = f"{SHOWN_KERNELS} of " if len(ids) > SHOWN_KERNELS else ""
    yield DocumentTable(
        name=f"{some}{count_text(len(ids), 'kernel')}, most time first",
        columns=(
            TableColumn(name="Kernel"),
            TableColumn(name="Launches", unit="count", is_number=True),
            TableColumn(name="Time", unit="ns", is_number=True),
            TableColumn(name="Share of kernel time", unit="pct", is_number=True),
            TableColumn(name="Longest launch", unit="ns", is_number=True),
        ),
        rows=tuple(
            (
                Cell(text=name_text(str(name))),
                Cell(text=f"{counts[n]:,}", value=int(counts[n]), place=whole),
                Cell(text=time_text(int(total[n])), value=int(total[n]), place=whole),
                share_cell(int(total[n]), all_ns, whole),
                _stretch((int(start[last[n]]), int(end[last[n]])), where),
            )
            for n, name in zip(shown.tolist(), names, strict=True)
        ),
    )


def _iterations(report: Report, where: Where, whole: Place) -> Iterator[Block]:
    lengths = [i.end_ns - i.start_ns for i in report.iterations]
    if lengths:
        slowest = max(report.iterations, key=lambda i: i.end_ns - i.start_ns)
        yield Sentence(
            text=f"{count_text(len(lengths), 'iteration')}: the median takes "
            f"{time_text(median(lengths))}, the shortest {time_text(min(lengths))}.",
            place=whole,
        )
        yield Sentence(
            text=f"The longest takes {time_text(max(lengths))}.",
            place=where.place(slowest.start_ns, slowest.end_ns),
        )
    if report.iterations_note:
        yield Sentence(text=report.iterations_note, kind="note")


def _quality(report: Report) -> Iterator[Block]:
    order = ("error", "warning", "info")
    for note in sorted(report.quality, key=lambda n: order.index(n.level)):
        yield Sentence(text=f"{note.level}: {note.message}", kind=note.level)
    if not report.quality:
        yield Sentence(text="Nothing about this capture limits what it can answer.")


def _not_examined(report: Report) -> Iterator[Block]:
    if report.verdict.not_examined:
        causes = ", ".join(c.value for c in report.verdict.not_examined)
        yield Sentence(text=f"The recording cannot tell about: {causes}.")
    else:
        yield Sentence(text="The recording could answer for every cause.")
    for reason, rules in by_reason((s.reason, s.id) for s in report.skipped).items():
        yield Sentence(text=f"{', '.join(rules)}: {reason}")
    for failed in report.failed:
        yield Sentence(text=f"A defect of whyslow, {failed.id}: {failed.error}", kind="error")
