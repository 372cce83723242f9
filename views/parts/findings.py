"""Findings as cards: what it is, what it wins, what to do, and the way to the evidence."""

from __future__ import annotations

import re
from collections.abc import Sequence

import streamlit as st

from analyzers.finding import Evidence, Finding
from analyzers.words import count_text, share_text, time_text
from reports.commands import spoken
from reports.diagnosis import (
    earlier_with_the_same_change,
    first_step,
    gain_text,
    short_gain,
    title_parts,
)
from views.shared.markdown import Escaped, md_escape, md_prose
from views.shared.session import Session, draw_prose, finding_places
from views.shared.units import format_value

SHOWN_FINDINGS = 3
SHOWN_EVIDENCE = 6
_ASIDE = re.compile(r" \([^()]{30,}\)")  # numbers behind numbers; the whole title is one click away


def draw_findings(session: Session) -> None:
    """Draw the findings that matter, and fold the others away."""
    findings = session.report.findings
    st.subheader("What to change, largest loss first", anchor=False)
    if not findings:
        st.write("No rule found a loss worth your time.")
    with st.container(gap="xsmall"):
        _draw_cards(session, findings, range(min(len(findings), SHOWN_FINDINGS)))
    if more := findings[SHOWN_FINDINGS:]:
        lost = time_text(sum(f.lost_ns for f in more))
        with st.expander(f"{count_text(len(more), 'more finding')}, {lost} in all"):
            _draw_cards(session, findings, range(SHOWN_FINDINGS, len(findings)))


def _draw_cards(session: Session, findings: Sequence[Finding], places: range) -> None:
    same_as = earlier_with_the_same_change(findings)
    for place in places:
        finding = findings[place]
        key = f"finding-{finding.row.value}-{place + 1}"
        with st.container(border=True, key=key, gap="xxsmall"):
            _draw_card(session, finding, same_as[place], f"how-{place + 1}")


def _draw_card(session: Session, finding: Finding, same_as: int, key: str) -> None:
    head, detail = title_parts(finding.title)
    detail = _ASIDE.sub("", detail)
    advice = spoken(finding.advice)
    st.markdown(f"**{md_prose(head)}**")
    if detail:
        st.caption(md_prose(detail))
    st.markdown(md_prose(first_step(advice.text)))
    with st.container(
        horizontal=True, vertical_alignment="center", gap="small", key=f"{key}-actions"
    ):
        st.markdown(_saving(session, finding), width="content")
        if places := finding_places(finding):
            st.page_link(
                "timeline.py",
                label="Show on timeline",
                query_params=_place_address(session, finding, places[0]),
                width="content",
            )
        with st.popover(
            f"How was this {finding.confidence.value}?", key=key, type="tertiary", width="content"
        ):
            _draw_basis(finding, same_as)


def _saving(session: Session, finding: Finding) -> Escaped:
    """Say what the advice wins, where that is known, and what the loss costs."""
    report = session.report
    accounted = sum(d.in_use_ns for d in report.devices)  # what the titles' shares are parts of
    share = share_text(finding.lost_ns, accounted, exact=True)
    over = f" over {len(report.devices)} GPUs" if len(report.devices) > 1 else ""
    gain, costs = short_gain(finding), f"costs {time_text(finding.lost_ns)}{over}, {share}"
    if not gain:
        return Escaped(f"**{md_escape(costs)}**")
    return Escaped(f"**{md_escape(gain)}** · {md_escape(costs)}")


def _draw_basis(finding: Finding, same_as: int) -> None:
    """Draw what a finding rests on: observations, formula, replay, and when to ignore it."""
    if _ASIDE.search(finding.title):
        draw_prose(f"{finding.title}.")
    if first_step(spoken(finding.advice).text) != finding.advice:
        draw_prose(finding.advice)
    values = [(e.name, format_value(e.value, e.unit)) for e in finding.evidence[:SHOWN_EVIDENCE]]
    if values:
        st.markdown(
            "\n".join(f"* {md_escape(name)}: **{md_escape(value)}**" for name, value in values)
        )
    if finding.formula:
        low, high = time_text(finding.low_ns), time_text(finding.high_ns)
        st.markdown(md_prose(f"Estimate: {finding.formula}; between {low} and {high}."))
    if gain := gain_text(finding, same_as):
        st.markdown(md_prose(f"{gain}."))
    if finding.does_not_apply_when:
        draw_prose(f"Does not apply {_condition(finding.does_not_apply_when)}")
    places = finding_places(finding)
    where = f", {count_text(len(places), 'place')} on the timeline" if places else ""
    st.caption(md_escape(f"Booked to {finding.row.value}, {finding.confidence.value}{where}."))


def _condition(text: str) -> str:
    plain = text.strip()
    starts = plain.lower().startswith(("when ", "if ", "where ", "while ", "to "))
    words = plain[0].lower() + plain[1:] if starts else f"when {plain}"
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _place_address(session: Session, finding: Finding, place: Evidence) -> dict[str, str]:
    mark = f"{place.start_ns}-{place.end_ns}"
    return session.address | {"mark": mark, "finding": finding.id}
