"""The change that the reader picked in a chart or a table, shown in both recordings."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analyzers.compare.types import Comparison, WaterfallRow
from analyzers.words import time_text
from reports.comparison_words import shown_rows
from views.comparison.evidence import PickedChange, draw_evidence
from views.comparison.session import (
    ComparisonSelection,
)
from views.shared.markdown import md_prose

PICKED, PICKS, PICKED_OF = "compare_evidence", "compare_seen", "compare_evidence_of"


def forget_picks_of_others(selection: ComparisonSelection) -> None:
    """Forget what was picked in a comparison of other recordings."""
    if st.session_state.get(PICKED_OF) != selection:
        st.session_state[PICKED_OF] = selection
        st.session_state[PICKED], st.session_state[PICKS] = None, {}


def selected(event: object, what: str) -> list[Any]:
    """Return what is selected in a chart or a table."""
    return list(event["selection"].get(what, ())) if isinstance(event, dict) else []


def change_of_row(row: WaterfallRow) -> PickedChange:
    """Return where a row of the waterfall costs most on each side."""
    words = f"{row.row}: {time_text(row.base_ns)} before, {time_text(row.new_ns)} now"
    return PickedChange(words=words, base=row.base_place, new=row.new_place)


def pick(source: str, evidence: PickedChange | None) -> bool:
    """Show this evidence from now on, and tell whether it is another one.

    A selection stays selected while the reader clicks elsewhere; only its change counts.
    """
    picks = st.session_state.setdefault(PICKS, {})
    if evidence == picks.get(source):
        return False
    picks[source] = evidence
    if evidence is None or evidence == st.session_state.get(PICKED):
        return False
    st.session_state[PICKED] = evidence
    return True


def draw_picked_change(comparison: Comparison) -> None:
    """Draw both recordings at the picked change, or else at the largest one."""
    rows = [comparison.waterfall[n] for n in shown_rows(comparison)]
    places = [r for r in rows if r.base_place or r.new_place]
    if not places and comparison.base.typical is None:
        return
    largest = max(places, key=lambda r: abs(r.change_ns), default=None)
    picked = st.session_state.get(PICKED)
    evidence = picked if isinstance(picked, PickedChange) else None
    if evidence is None and largest is not None:
        evidence = change_of_row(largest)
    if evidence is None:
        evidence = PickedChange(
            words="a typical iteration", base=comparison.base.typical, new=comparison.new.typical
        )
    st.subheader("Both recordings at the evidence", anchor=False)
    with st.container(key="compare_evidence_words"):
        st.caption(md_prose(f"{evidence.words}; both start at the same point on the axis."))
    draw_evidence(comparison, evidence)
