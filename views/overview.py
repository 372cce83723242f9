"""The answer: the verdict, where the time went, what to do about it, how far to trust it."""

from __future__ import annotations

import streamlit as st

from analyzers.facts.host_work import HostProfile
from analyzers.recorder import recorder_of
from analyzers.verdict_words import without_command
from analyzers.words import distinct_short, share_text, shortened, time_text
from reports.commands import spoken
from reports.diagnosis import recording_facts, verdict_parts
from reports.host_profile import TITLE as HOST_WORK
from reports.ledger import NO_GPU_WORK
from reports.top_kernels import kernels_hold_most
from views.parts.findings import draw_findings
from views.parts.ledger import draw_devices, draw_ledger
from views.parts.limits import draw_limits
from views.shared.markdown import md_escape, md_prose
from views.shared.report_download import BESIDE_REPORT, draw_diagnosis_download
from views.shared.session import Session, current
from views.shared.style import draw_shares, write_verdict_color
from views.shared.units import visible

BESIDE_LIMITS = (2, 1)
BESIDE_FINDINGS = (3, 2)  # widths of the findings and of kernels and limits


def page() -> None:
    """Draw the page."""
    session = current()
    if session is None:
        return
    with st.container(gap="xsmall", key="overview"):
        _draw_answer(session)


def _draw_answer(session: Session) -> None:
    report = session.report
    _draw_verdict(session)
    if not report.devices:
        _draw_no_gpu_work(session)
        draw_limits(session)
        return
    draw_ledger(report)
    widths = BESIDE_FINDINGS if kernels_hold_most(report) else BESIDE_LIMITS
    left, right = st.columns(widths, gap="medium")
    with left:
        draw_findings(session)
    with right:
        _draw_kernels(session)
        draw_devices(report)
        draw_limits(session)


def _draw_verdict(session: Session) -> None:
    report = session.report
    write_verdict_color(report.verdict.cause)
    left, right = st.columns(BESIDE_REPORT, gap="small")
    with right:
        draw_diagnosis_download(session)
    with left.container(key="verdict"):
        verdict = spoken(report.verdict.sentence)
        first, rest = verdict_parts(without_command(verdict.text), report.findings)
        st.header(md_prose(first), anchor=False)
        if rest:
            st.markdown(md_prose(rest))
        for command in verdict.commands:
            st.code(command, language=None)
        st.caption(md_escape(" · ".join(recording_facts(report))))


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
    st.dataframe(rows, hide_index=True, key="host_operators", alt="What the host did")
    threads = ", ".join(f"{visible(t.name, 40)} {share_text(t.share, 1)}" for t in profile.threads)
    st.caption(md_escape(f"Inside one of them, of the {time_text(profile.span_ns)}: {threads}."))


def _draw_kernels(session: Session) -> None:
    """Show the kernels with most time, where kernels hold most of it."""
    report = session.report
    if not kernels_hold_most(report):
        return
    st.subheader("Kernels with most time", anchor=False)
    whole = [visible(kernel.name) for kernel in report.top_kernels]
    draw_shares(
        ("Kernel", "Share", "Time", "Launches"),
        [
            (name, short, kernel.share, time_text(kernel.total_ns), f"{kernel.count:,}")
            for name, short, kernel in zip(
                whole, distinct_short(whole), report.top_kernels, strict=True
            )
        ],
    )


page()
