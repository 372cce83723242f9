"""The answer: the verdict, where the time went, what to do about it, how far to trust it."""

from __future__ import annotations

import streamlit as st

from analyzers.facts.host_work import HostProfile
from analyzers.finding import Evidence, Finding, Skipped
from analyzers.recorder import recorder_of
from analyzers.report import QualityNote, Report
from analyzers.words import (
    by_reason,
    count_text,
    name_text,
    share_text,
    shortened,
    size_text,
    split_sentence,
    time_text,
)
from reports.about import tool_words
from reports.busy_time import (
    classes_are_telling,
    kernels_are_notable,
    summed_classes,
)
from reports.diagnosis import earlier_with_the_same_change, gain_text
from reports.host_profile import TITLE as HOST_WORK
from reports.ledger import NO_GPU_WORK
from reports.top_kernels import kernels_hold_most
from reports.undetermined import undetermined
from views.charts.ledger import ledger_figure, legend_entries
from views.charts.work import class_legend, classes_figure
from views.shared.devices import device_labels
from views.shared.markdown import Escaped, md_escape, md_prose
from views.shared.report_download import BESIDE_REPORT, draw_diagnosis_download
from views.shared.session import Session, current, draw_prose, finding_places
from views.shared.style import draw_legend, write_verdict_color
from views.shared.units import format_value, visible

SHOWN_EVIDENCE = 4
NAMED_RULES = 3  # of those with one reason; the help names all
OPERATIONS = {
    "kernels": "kernel launch",
    "graph_launches": "graph launch",
    "copies": "copy",
    "memsets": "memset",
}
QUALITY_ORDER = ("error", "warning", "info")


def page() -> None:
    """Draw the page."""
    session = current()
    if session is None:
        return
    report = session.report
    _draw_verdict(session)
    if not report.devices:
        _draw_no_gpu_work(session)
    else:
        _draw_ledger(session)
        _draw_classes(session)
        _draw_findings(session)
        _draw_kernels(session)
    _draw_quality(session)
    _draw_undetermined(report)


def _draw_verdict(session: Session) -> None:
    report = session.report
    write_verdict_color(report.verdict.cause)
    left, right = st.columns(BESIDE_REPORT, gap="small")
    with right:
        draw_diagnosis_download(session)
    with left.container(key="verdict"):
        first, rest = split_sentence(report.verdict.sentence)
        st.header(md_prose(first), anchor=False)
        if rest:
            draw_prose(rest)
        facts = _facts(session)
        warnings = sum(n.level == "warning" for n in report.quality)
        if warnings:
            facts.append(f"{count_text(warnings, 'warning')} about the capture, see below")
        st.caption(md_escape(" · ".join(facts)))


def _facts(session: Session) -> list[str]:
    """Return what was recorded and what ran in the window, in a few words."""
    report = session.report
    window, source = report.window, {k: str(v) for k, v in report.source.items()}
    facts = [
        visible(str(report.source["name"]), 60),
        ", ".join(visible(str(g), 40) for g in report.source["gpus"][:3]),
        f"{window.label}, {time_text(window.duration_ns)}" if report.devices else "",
        *(
            count_text(report.operations[table], noun)
            for table, noun in OPERATIONS.items()
            if report.operations.get(table)
        ),
        f"recorded by {visible(tool_words(source['format'], source['tool_version']), 60)}",
    ]
    return [visible(f) for f in facts if f]


def _draw_no_gpu_work(session: Session) -> None:
    report = session.report
    if report.host_profile is not None:
        _draw_host_work(report.host_profile)
    st.write(md_escape(NO_GPU_WORK))
    st.write("If the program does use a GPU, record with:")
    st.code(recorder_of(session.trace).again, language=None)


def _draw_host_work(profile: HostProfile) -> None:
    st.subheader(md_escape(HOST_WORK), anchor=False)
    is_called = any(row.caller for row in profile.operators)
    rows = [
        {
            "Operator or range": shortened(visible(row.name)),
            "Share": share_text(row.share, 1),
            "Itself": time_text(row.self_ns),
            "With what it calls": time_text(row.total_ns),
            "Calls": f"{row.count:,}",
            **({"Called from": visible(row.caller)} if is_called else {}),
        }
        for row in profile.operators
    ]
    st.dataframe(rows, hide_index=True, key="host_operators")
    threads = ", ".join(f"{visible(t.name, 40)} {share_text(t.share, 1)}" for t in profile.threads)
    st.caption(md_escape(f"Inside one of them, of the {time_text(profile.span_ns)}: {threads}."))


def _draw_ledger(session: Session) -> None:
    devices = session.report.devices
    labels = device_labels(devices)
    draw_legend(legend_entries(devices))
    st.plotly_chart(
        ledger_figure(devices),
        key="ledger",
        config={"displayModeBar": False},
        alt="; ".join(
            f"{labels[d.key]}: "
            + ", ".join(f"{r.value} {time_text(ns)}" for r, ns in d.rows.items() if ns)
            for d in devices
        ),
    )


def _draw_classes(session: Session) -> None:
    """Show beneath the ledger what the kernel time is spent on, and how near to the roof."""
    report = session.report
    classes = summed_classes(report)
    if not classes_are_telling(classes) or not kernels_are_notable(report):
        return
    labels = device_labels(report.devices)
    by_device = {
        labels[d.key]: [row for row in report.classes if row["device_key"] == d.key]
        for d in report.devices
    }
    by_device = {label: rows for label, rows in by_device.items() if rows}
    draw_legend(class_legend(classes))
    unknown = any(row["not_modelled_ns"] for row in classes)
    is_modelled = any(row["roof_ns"] for row in classes)
    st.plotly_chart(
        classes_figure(by_device),
        key="classes",
        config={"displayModeBar": False},
        alt="; ".join(
            f"{label}: " + ", ".join(f"{r['title']} {time_text(r['busy_ns'])}" for r in rows)
            for label, rows in by_device.items()
        ),
    )
    legend = ", full colour: the least time that the work needs, pale: what it takes beyond"
    hatched = ", hatched: not modelled" if unknown else ""
    st.caption(md_escape(f"The kernel time by class{legend if is_modelled else ''}{hatched}."))


def _draw_kernels(session: Session) -> None:
    """Show the kernels with most time, where kernels hold most of it."""
    report = session.report
    if not kernels_hold_most(report):
        return
    rows = [
        {
            "Kernel": name_text(visible(kernel.name)),
            "Share": share_text(kernel.share, 1),
            "Time": time_text(kernel.total_ns),
            "Launches": f"{kernel.count:,}",
        }
        for kernel in report.top_kernels
    ]
    st.subheader("Kernels with most time", anchor=False)
    st.dataframe(rows, hide_index=True, key="top_kernels")


def _draw_findings(session: Session) -> None:
    report = session.report
    st.subheader("What to change, largest loss first", anchor=False)
    if not report.findings:
        st.write("No rule found a loss worth your time.")
    accounted = sum(d.in_use_ns for d in report.devices)  # what the titles' shares are parts of
    same_as = earlier_with_the_same_change(report.findings)
    for number, finding in enumerate(report.findings, start=1):
        with st.container(border=True, key=f"finding-{finding.row.value}-{number}", gap="xsmall"):
            _draw_finding(session, finding, accounted, same_as[number - 1])


def _draw_finding(session: Session, finding: Finding, accounted: int, same_as: int) -> None:
    devices = len(session.report.devices)
    left, right = st.columns([7, 2], gap="medium")
    with left, st.container(gap="xxsmall"):
        st.markdown(f"**{md_prose(finding.title)}**")
        draw_prose(finding.advice)
        st.caption(_evidence_text(finding))
        if finding.formula:
            st.caption(md_prose(_estimate_text(finding)))
        if finding.does_not_apply_when:
            st.caption(
                md_prose(_capital(f"does not apply {_condition(finding.does_not_apply_when)}"))
            )
    with right, st.container(gap="xxsmall"):
        _draw_saving(finding, accounted, same_as)
        over = f"over {devices} GPUs · " if devices > 1 else ""
        st.caption(f"{over}{finding.cause.value} · {finding.confidence.value}")
        places = finding_places(finding)
        if places:
            st.page_link(
                "timeline.py",
                label=f"Show on timeline · {count_text(len(places), 'place')}"
                if len(places) > 1
                else "Show on timeline",
                query_params=_place_address(session, finding, places[0]),
            )


def _draw_saving(finding: Finding, accounted: int, same_as: int) -> None:
    """Show what a finding costs, and what of that can be saved where it is known."""
    share = share_text(finding.lost_ns, accounted, exact=True)
    if finding.predicted_gain is not None:
        st.markdown(f"**costs {time_text(finding.lost_ns)}** · {share}")
        st.caption(md_prose(gain_text(finding, same_as)))
        return
    if finding.gain_ns >= 0:
        st.markdown(f"**costs {time_text(finding.lost_ns)}** · {share}")
        st.caption(f"the advice saves at most {time_text(finding.gain_ns)} of it")
        return
    about = "about" if finding.low_ns >= 0 and finding.lost_ns < finding.high_ns else "up to"
    st.markdown(f"**{about} {time_text(finding.lost_ns)}** · {share}")


def _condition(text: str) -> str:
    plain = text.strip()
    starts_with_when = plain.lower().startswith(("when ", "if ", "where ", "while ", "to "))
    return plain[0].lower() + plain[1:] if starts_with_when else f"when {plain}"


def _capital(text: str) -> str:
    ends = "" if text.endswith((".", "!", "?")) else "."
    return text[:1].upper() + text[1:] + ends


def _evidence_text(finding: Finding) -> Escaped:
    values = [
        f"{md_escape(e.name)} {md_escape(format_value(e.value, e.unit))}"
        for e in finding.evidence[:SHOWN_EVIDENCE]
    ]
    return Escaped("Evidence: " + " · ".join(values) if values else "")


def _estimate_text(finding: Finding) -> str:
    """Say how the loss was estimated, and between what it lies."""
    low, high = time_text(finding.low_ns), time_text(finding.high_ns)
    return f"Estimate: {finding.formula}; between {low} and {high}."


def _place_address(session: Session, finding: Finding, place: Evidence) -> dict[str, str]:
    mark = f"{place.start_ns}-{place.end_ns}"
    return session.address | {"mark": mark, "finding": finding.id}


def _draw_quality(session: Session) -> None:
    report = session.report
    st.subheader("Capture quality", anchor=False)
    notes = sorted(report.quality, key=lambda n: QUALITY_ORDER.index(n.level))
    if not notes:
        st.write("Nothing about this capture limits what it can answer.")
    for note in notes:
        _draw_note(note)
    if report.iterations_note:
        st.caption(md_prose(report.iterations_note))
    _draw_row_counts(session)


def _draw_note(note: QualityNote) -> None:
    color = {"error": "red", "warning": "orange", "info": "gray"}[note.level]
    st.markdown(f":{color}-badge[{note.level}] {md_prose(note.message)}")


def _draw_row_counts(session: Session) -> None:
    trace = session.trace
    dropped = sum(r.excluded for r in trace.row_counts)
    rows = sum(r.rows for r in trace.row_counts)
    summary = f"{rows - dropped:,} of {rows:,} rows of the recording were used"
    if trace.source.size_bytes > 0:
        summary += f" ({size_text(trace.source.size_bytes)})"
    if not trace.notes:
        st.caption(f"{summary}.")
        return
    with st.expander(f"{summary}: {count_text(len(trace.notes), 'note')}"):
        for note in trace.notes:
            words = f"{note.table} {count_text(note.count, 'row')} {note.effect}: {note.message}"
            draw_prose(words.strip())


def _draw_undetermined(report: Report) -> None:
    """Show what could not be judged in a line, the command that records it, and all reasons."""
    if report.skipped:
        st.subheader("Could not tell", anchor=False)
        open_ = undetermined(report)
        st.markdown(md_prose(open_.sentence))
        if open_.command:
            st.code(open_.command, language=None, wrap_lines=True)
        with st.expander(count_text(len(open_.reasons), "reason")):
            _draw_reasons(report.skipped)
    failed = report.failed
    if failed:
        st.subheader("Rules that failed", anchor=False)
        st.caption("These are defects in whyslow; the other answers are not affected.")
        for failure in failed:
            draw_prose(f"`{failure.id}` {failure.error}")


def _draw_reasons(skipped: tuple[Skipped, ...]) -> None:
    for reason, ids in by_reason((s.reason, s.id) for s in skipped).items():
        more = len(ids) - NAMED_RULES if len(ids) > NAMED_RULES + 1 else 0
        named = ", ".join(f"`{i}`" for i in ids[: len(ids) - more])
        st.markdown(
            md_prose(f"{named}{f' and {more} more' if more else ''}: {reason}"),
            help=md_prose(", ".join(ids)) if more else None,
        )


page()
