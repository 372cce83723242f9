"""The answer in a sentence, or why two sides cannot be compared."""

from __future__ import annotations

import streamlit as st

from analyzers.compare.types import Comparison, ComparisonVerdict, Level
from analyzers.finding import Row
from analyzers.words import count_text, split_sentence, time_text
from reports.comparison_words import blocking, differences, said_first, tools
from reports.predictions import prediction_sentences
from views.comparison.machines import draw_machines
from views.comparison.pickers import NAME_ROOM
from views.shared.markdown import md_escape, md_prose
from views.shared.session import draw_prose
from views.shared.style import write_verdict_color
from views.shared.units import visible

TINTS = {ComparisonVerdict.IMPROVED: "healthy", ComparisonVerdict.REGRESSED: Row.SYNC.value}


def draw_verdict(comparison: Comparison) -> None:
    """Draw the answer, and what the reader must know to trust it."""
    write_verdict_color(TINTS.get(comparison.verdict, ""))
    with st.container(key="verdict"):
        first, rest = split_sentence(comparison.sentence)
        st.header(md_prose(first), anchor=False)
        if rest:
            draw_prose(rest)
        if comparison.verdict is ComparisonVerdict.NOT_COMPARABLE:
            return
        for sentence in said_first(comparison):
            draw_prose(sentence)
        for sentence in prediction_sentences(comparison):
            draw_prose(sentence)
        if tool_names := tools(comparison):
            st.markdown(f":orange-badge[different tools] {md_prose(tool_names)}")
        for difference in differences(comparison):
            if difference.level is Level.WARNING and difference.what != "tool":
                st.markdown(f":orange-badge[caution] {md_prose(difference.sentence)}")
        st.caption(md_escape(" · ".join(_facts(comparison))))


def _facts(comparison: Comparison) -> list[str]:
    facts = []
    for words, side in (("baseline", comparison.base), ("new", comparison.new)):
        count = sum(len(samples) for samples in side.samples_ns)
        of = count_text(len(side.recordings), "recording")
        median = "" if side.median_ns is None else f", {time_text(side.median_ns)} each"
        noun = "iteration" if any(r.iterations for r in side.recordings) else "window"
        facts.append(f"{words}: {count_text(count, noun)} of {of}{median}")
    detectable = comparison.delta.detectable if comparison.delta else None
    if detectable is not None:
        facts.append(f"a change of {time_text(detectable)} would have been detected")
    if comparison.device:
        facts.append(visible(comparison.device, NAME_ROOM))
    return facts


def draw_obstacles(comparison: Comparison) -> None:
    """Say what forbids an answer about the program, and what machines differ by."""
    draw_machines(comparison)
    st.subheader("Why they cannot be compared", anchor=False)
    for difference in blocking(comparison):
        st.markdown(f":red-badge[not comparable] {md_prose(difference.sentence)}")
        if (
            difference.base and difference.new
        ):  # else it is about one side, and the sentence says so
            st.caption(
                f"baseline: {md_escape(visible(difference.base, 200))} · "
                f"new: {md_escape(visible(difference.new, 200))}"
            )
