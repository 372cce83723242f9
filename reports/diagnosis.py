"""The diagnosis of one window of one recording, as a document without a form yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from analyzers.finding import Confidence, Finding
from analyzers.report import Report
from analyzers.words import count_text, rule_words, share_text, split_sentence, time_text
from common.text import visible
from reports.about import ReportedWindow, ReportOptions, about, tool_words, without_private
from reports.busy_time import busy_time, busy_time_summary
from reports.commands import spoken_sentences
from reports.document import (
    Block,
    Cell,
    Document,
    DocumentTable,
    Place,
    Section,
    Sentence,
    TableColumn,
)
from reports.host_profile import TITLE as HOST_WORK
from reports.host_profile import host_work
from reports.ledger import ledger, ledger_summary
from reports.numbers import format_value
from reports.tool_rules import tool_rules
from reports.top_kernels import kernels_summary
from reports.undetermined import undetermined

if TYPE_CHECKING:
    from collectors.trace import Trace
    from library.analyses import StoredAnalysis

BUSY_TIME = "What the kernels do"
REASONS = "Why rules could not tell"
TOOL_RULES = "Nsight Compute's own rules"
LONGEST_STEP, SHORTEST_STEP = 90, 40  # characters of what to do first; fewer say too little
MAX_GPU_NAME, MAX_TOOL = 40, 60  # characters; the middle of a longer one is left out
LONGEST_HEADLINE = 120  # characters; a longer one fills the screen that it should head
_WHERE = re.compile(r"; (?!within )|, (?=most(?:ly)? )")
_BEYOND = re.compile(rf": |{_WHERE.pattern}")
_OPERATIONS = {
    "kernels": "kernel launch",
    "graph_launches": "graph launch",
    "copies": "copy",
    "memsets": "memset",
}


def diagnosis_report(
    trace: Trace, stored: StoredAnalysis, where: ReportedWindow, options: ReportOptions
) -> Document:
    """Return the whole report about ``stored``, without what is private.

    Args:
        trace: The recording.
        stored: Its analysis.
        where: What was analysed.
        options: How the report is to be made.

    Raises:
        TraceError: What was stored is damaged or gone.
    """
    from reports.kernels import kernels

    report = stored.report
    whole = where.place(*report.window.span, mark=False)
    sections = [
        *_opening(report, whole),
        Section(title="Where the time went", blocks=tuple(ledger(report, stored, where))),
        Section(title=HOST_WORK, blocks=tuple(host_work(report))),
        _changes(report, where),
        Section(title=BUSY_TIME, blocks=tuple(busy_time(report, where))),
        Section(title="Kernels", blocks=tuple(kernels(trace, stored, where))),
        Section(title=TOOL_RULES, blocks=tuple(tool_rules(report, is_brief=False))),
        Section(title="Iterations", blocks=tuple(_iterations(report, where))),
        *_limits(report, is_brief=False),
        Section(title="About this report", blocks=about([("Recording", trace.source)], options)),
    ]
    document = Document(
        kind="diagnosis",
        title=_title(trace.source.name),
        sections=tuple(s for s in sections if s.blocks),
        data=report.to_dict(),
        base_url=options.base_url,
    )
    return without_private(document, options.privacy, [trace.source.name])


def diagnosis_summary(report: Report, *, is_verbose: bool = False) -> Document:
    """Return what the report alone says, without places and tables of evidence.

    Args:
        report: The answer.
        is_verbose: Whether every reason is given for what could not be told.
    """
    sections = [
        *_opening(report),
        Section(title="Where the time went", blocks=tuple(ledger_summary(report))),
        Section(title=HOST_WORK, blocks=tuple(host_work(report))),
        Section(title=BUSY_TIME, blocks=tuple(busy_time_summary(report))),
        Section(title="Kernels with most time", blocks=tuple(kernels_summary(report))),
        _changes(report),
        Section(title="Iterations", blocks=tuple(_iterations_summary(report))),
        Section(title=TOOL_RULES, blocks=tuple(tool_rules(report, is_brief=True))),
        *_limits(report, is_brief=not is_verbose),
    ]
    return Document(
        kind="diagnosis",
        title=_title(str(report.source["name"])),
        sections=tuple(s for s in sections if s.blocks),
    )


def _title(name: str) -> str:
    return f"Why {name} is slow"


def _opening(report: Report, whole: Place | None = None) -> list[Section]:
    return [Section(title="Verdict", blocks=tuple(_verdict(report, whole)))]


def _changes(report: Report, where: ReportedWindow | None = None) -> Section:
    title = "What to change, largest loss first"
    return Section(title=title, blocks=tuple(_findings(report, where)))


def _limits(report: Report, *, is_brief: bool) -> list[Section]:
    reasons = tuple(_reasons(report, is_brief=is_brief))
    brief, full = (reasons, ()) if is_brief else ((), reasons)
    return [
        Section(title="Capture quality", blocks=tuple(_quality(report))),
        Section(title="Could not tell", blocks=(*_not_examined(report), *brief)),
        Section(title=REASONS, blocks=full, is_folded=True),
    ]


def _verdict(report: Report, whole: Place | None) -> Iterator[Block]:
    yield from spoken_sentences(Sentence(text=report.verdict.sentence, place=whole, kind="lead"))
    facts = [str(report.source["name"]), *recording_facts(report)]
    yield Sentence(text=" · ".join(f for f in facts if f), place=whole, kind="note")


def recording_facts(report: Report) -> list[str]:
    """Return what was recorded and what ran in the window, each in a few words."""
    window, source = report.window, report.source
    tool = tool_words(str(source["format"]), str(source["tool_version"]))
    facts = [
        ", ".join(visible(str(gpu), MAX_GPU_NAME) for gpu in source["gpus"][:3]),
        f"{window.label}, {time_text(window.duration_ns)}"
        if report.devices or window.duration_ns
        else "",
        *(
            count_text(report.operations[table], noun)
            for table, noun in _OPERATIONS.items()
            if report.operations.get(table)
        ),
        f"recorded by {visible(tool, MAX_TOOL)}",
    ]
    return [visible(fact) for fact in facts if fact]


def _findings(report: Report, where: ReportedWindow | None) -> Iterator[Block]:
    if not report.devices:
        return
    if not report.findings:
        yield Sentence(text="No rule found a loss worth your time.")
    whole = None if where is None else where.place(*report.window.span, mark=False)
    in_use_ns = sum(d.in_use_ns for d in report.devices)
    same_as = earlier_with_the_same_change(report.findings)
    for number, finding in enumerate(report.findings, 1):
        yield Sentence(text=f"{number}. {finding.title}", place=whole, kind="lead")
        loss = _loss(finding, in_use_ns, len(report.devices), same_as[number - 1])
        yield Sentence(text=loss, place=whole)
        yield from spoken_sentences(Sentence(text=f"Try: {finding.advice}"))
        if finding.does_not_apply_when:
            yield Sentence(text=f"Does not apply when: {finding.does_not_apply_when}", kind="note")
        if finding.evidence and where is not None and whole is not None:
            yield _evidence(finding, where, whole)


def _loss(finding: Finding, in_use_ns: int, devices: int, same_as: int = 0) -> str:
    over = f" over {devices} GPUs" if devices > 1 else ""
    share = share_text(finding.lost_ns, in_use_ns, exact=True)
    lost = time_text(finding.lost_ns)
    how = f"row {finding.row.value}, {finding.confidence.value}"
    if finding.predicted_gain is not None and finding.confidence is not Confidence.ESTIMATED:
        gain = gain_text(finding, same_as)
        return f"This costs {lost}{over}, {share} of the time in use ({how}). {gain}."
    if finding.gain_ns >= 0:
        gain = time_text(finding.gain_ns)
        return (
            f"This costs {lost}{over}, {share} of the time in use; the advice below saves at most "
            f"{gain} of it ({how})."
        )
    if finding.low_ns < 0:
        return f"Fixing this saves at most {lost}{over}, {share} of the time in use ({how})."
    low, high = time_text(finding.low_ns), time_text(finding.high_ns)
    between = f"{low} to {high}" if finding.low_ns else f"at most {high}"
    gain = gain_text(finding, same_as)
    replayed = f" {gain}." if gain else ""
    return (
        f"Fixing this saves an estimated {lost}{over}, {between}, {share} of the time in use "
        f"({how}). Estimate: {finding.formula}.{replayed}"
    )


def earlier_with_the_same_change(findings: Sequence[Finding]) -> list[int]:
    """Return the number of the first finding with the same change, for each; 0 for none."""
    first: dict[str, int] = {}
    result = []
    for number, finding in enumerate(findings, 1):
        change = finding.predicted_gain.change if finding.predicted_gain else ""
        result.append(first.get(change, 0) if change else 0)
        first.setdefault(change, number)
    return result


def title_parts(title: str) -> tuple[str, str]:
    """Return a finding's title as its claim and what it says beyond: how much, and where.

    The claim ends at the first colon or semicolon, or before the first "mostly", that stands in no
    quoted name.
    """
    return _cut(title, _BEYOND)


def verdict_parts(sentence: str, findings: Sequence[Finding]) -> tuple[str, str]:
    """Return the verdict's first sentence and the others, for a page that shows the findings.

    Of a long first sentence, what says where goes to the others, unless a finding says it too.
    """
    first, rest = split_sentence(sentence)
    if len(first) <= LONGEST_HEADLINE:
        return first, rest
    head, beyond = _cut(first.removesuffix("."), _WHERE)
    is_said = any(f.title.endswith(beyond[1:]) for f in findings)
    beyond = f"{beyond}." if beyond and not is_said else ""
    return f"{head}.", " ".join(part for part in (beyond, rest) if part)


def _cut(text: str, border: re.Pattern[str]) -> tuple[str, str]:
    """Return what stands before and behind the first border outside of quoted names."""
    quoted = [m.span() for m in re.finditer(r"`[^`]*`", text)]
    for match in border.finditer(text):
        if not any(begin < match.start() < end for begin, end in quoted):
            rest = text[match.end() :]
            return text[: match.start()], rest[:1].upper() + rest[1:]
    return text, ""


def first_step(advice: str) -> str:
    """Return what to do in about a line: an advice's first sentence, a long one's first clause."""
    first, _ = split_sentence(advice)
    if len(first) <= LONGEST_STEP:
        return first
    for border in ("; ", ": "):
        clause, _, rest = first.partition(border)
        if rest and len(clause) >= SHORTEST_STEP:
            return f"{clause}."
    return first


def short_gain(finding: Finding) -> str:
    """Say what following a finding wins, in a few words; empty where only its cost is known.

    What wins more than the finding costs is named: it is a change that others advise as well.
    """
    gain = finding.predicted_gain
    if gain is not None:
        low, high, whole = (time_text(ns) for ns in (gain.low_ns, gain.high_ns, gain.window_ns))
        if not gain.wins:
            return f"saves next to nothing of {whole}"
        saves = f"{gain.title} saves" if gain.high_ns > finding.lost_ns else "saves"
        if not gain.is_sure:
            return f"{saves} up to {high} of {whole}"
        return f"{saves} {low} of {whole}" if low == high else f"{saves} {low} to {high} of {whole}"
    if finding.gain_ns >= 0:
        return f"saves at most {time_text(finding.gain_ns)}"
    if finding.low_ns >= 0:
        high = time_text(finding.high_ns)
        return (
            f"saves {time_text(finding.low_ns)} to {high}"
            if finding.low_ns
            else f"saves up to {high}"
        )
    return ""


def gain_text(finding: Finding, same_as: int = 0) -> str:
    """Say what its advice wins: "Replayed, removing the 10 waits saves 3.1 ms to 4 ms of 9 ms".

    Args:
        finding: One with a predicted gain.
        same_as: Number of an earlier finding with the same change, so that nobody adds both up.
    """
    gain = finding.predicted_gain
    if gain is None:
        return ""
    low, high, whole = (time_text(ns) for ns in (gain.low_ns, gain.high_ns, gain.window_ns))
    if not gain.wins:
        text = f"Replayed, {gain.title} saves next to nothing of {whole}: other work takes as long"
    else:
        saved = f"up to {high}" if not gain.is_sure else low if low == high else f"{low} to {high}"
        text = f"Replayed, {gain.title} saves {saved} of {whole}"
        if gain.low_ns > finding.lost_ns:
            text += ", more than this costs, since what follows comes earlier, too"
    return f"{text} (the same change as for {same_as})" if same_as else text


def _evidence(finding: Finding, where: ReportedWindow, whole: Place) -> DocumentTable:
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


def _iterations(report: Report, where: ReportedWindow) -> Iterator[Block]:
    lengths = [i.end_ns - i.start_ns for i in report.iterations]
    if lengths:
        slowest = max(report.iterations, key=lambda i: i.end_ns - i.start_ns)
        yield Sentence(
            text=f"{count_text(len(lengths), 'iteration')}: the median takes "
            f"{time_text(median(lengths))}, the shortest {time_text(min(lengths))}.",
            place=where.place(*report.window.span, mark=False),
        )
        yield Sentence(
            text=f"The longest takes {time_text(max(lengths))}.",
            place=where.place(slowest.start_ns, slowest.end_ns),
        )
    if report.iterations_note:
        yield Sentence(text=report.iterations_note, kind="note")


def _iterations_summary(report: Report) -> Iterator[Block]:
    """Say how iterations were found and how long they take; nothing where there are none."""
    lengths = [i.end_ns - i.start_ns for i in report.iterations]
    if lengths:
        middle, least, most = (time_text(f(lengths)) for f in (median, min, max))
        yield Sentence(text=report.iterations_note)
        yield Sentence(text=f"The median takes {middle}, the shortest {least}, the longest {most}.")


def _quality(report: Report) -> Iterator[Block]:
    order = ("error", "warning", "info")
    for note in sorted(report.quality, key=lambda n: order.index(n.level)):
        yield from spoken_sentences(Sentence(text=f"{note.level}: {note.message}", kind=note.level))
    if not report.quality:
        yield Sentence(text="Nothing about this capture limits what it can answer.")


def _not_examined(report: Report) -> Iterator[Block]:
    """Say what nobody looked at, and how to record most of it."""
    open_ = undetermined(report)
    yield Sentence(text=open_.sentence)
    if open_.command:
        yield Sentence(text=open_.command, kind="command")
    for failed in report.failed:
        yield Sentence(
            text=f"A defect in whyslow, in {rule_words(failed.id)}: {failed.error}", kind="error"
        )


def _reasons(report: Report, *, is_brief: bool) -> Iterator[Block]:
    """Say of each rule why it could not tell; a brief answer says where to read that."""
    reasons = undetermined(report).reasons
    if is_brief and reasons:
        text = f"{count_text(len(reasons), 'reason')} in full: whyslow diagnose --verbose"
        yield Sentence(text=text, kind="note")
        return
    for reason in reasons:
        yield from spoken_sentences(Sentence(text=reason))
