"""What to know before believing an answer: the capture's quality, and what could not be told."""

from __future__ import annotations

import streamlit as st

from analyzers.report import QualityNote, Report
from analyzers.words import count_text, enumerated, rule_words, size_text
from reports.undetermined import undetermined
from views.shared.markdown import md_escape, md_prose
from views.shared.session import Session, draw_prose

_ORDER = ("error", "warning", "info")
_COLORS = {"error": "red", "warning": "orange", "info": "gray"}
_NOUNS = {"error": "error", "warning": "warning", "info": "note"}


def draw_limits(session: Session) -> None:
    """Draw one line about the capture and one about what could not be told; the rest is folded."""
    _draw_quality(session)
    _draw_undetermined(session.report)


def _draw_quality(session: Session) -> None:
    """Draw what limits the verdict in full, and everything else behind one line."""
    report = session.report
    notes = sorted(report.quality, key=lambda n: _ORDER.index(n.level))
    for note in notes:
        if note.level == "error":
            _draw_note(note)
    with st.expander(md_escape(_quality_line(notes))):
        for note in notes:
            if note.level != "error":
                _draw_note(note)
        if report.iterations_note:
            st.caption(md_prose(report.iterations_note))
        _draw_row_counts(session)


def _quality_line(notes: list[QualityNote]) -> str:
    """Say how many notes of each level there are: ``Capture quality: 1 warning, 2 notes``."""
    counts = [
        count_text(n, _NOUNS[level])
        for level in _ORDER
        if (n := sum(note.level == level for note in notes))
    ]
    return f"Capture quality: {', '.join(counts) or 'nothing limits this answer'}"


def _draw_note(note: QualityNote) -> None:
    st.markdown(f":{_COLORS[note.level]}-badge[{note.level}]", width="content")
    draw_prose(note.message)


def _draw_row_counts(session: Session) -> None:
    trace = session.trace
    dropped = sum(r.excluded for r in trace.row_counts)
    rows = sum(r.rows for r in trace.row_counts)
    summary = f"{rows - dropped:,} of {rows:,} rows of the recording were used"
    if trace.source.size_bytes > 0:
        summary += f" ({size_text(trace.source.size_bytes)})"
    st.caption(f"{summary}.")
    for note in trace.notes:
        words = f"{note.table} {count_text(note.count, 'row')} {note.effect}: {note.message}"
        draw_prose(words.strip())


def _draw_undetermined(report: Report) -> None:
    """Draw what could not be judged in a line, the command that records it, and all reasons."""
    if report.skipped:
        open_ = undetermined(report)
        with st.container(horizontal=True, vertical_alignment="center", key="could_not_tell"):
            st.subheader("Could not tell", anchor=False, width="content")
            st.markdown(md_prose(_subjects(report)), width="content")
            with st.popover(
                count_text(len(open_.reasons), "reason"), type="tertiary", width="content"
            ):
                st.markdown(md_prose(open_.sentence))
                for reason in open_.reasons:
                    draw_prose(reason)
        if open_.command:
            st.code(open_.command, language=None)
    for failure in report.failed:
        where = rule_words(failure.id)
        st.markdown(f"**A defect in whyslow, in {md_escape(where)}.** {md_prose(failure.error)}")


def _subjects(report: Report) -> str:
    """Name what could not be judged: causes, else how many rules."""
    causes = [c.value for c in report.verdict.not_examined]
    return enumerated(causes) if causes else count_text(len(report.skipped), "rule")
