"""Both recordings on one canvas, aligned at the evidence of a change."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from analyzers.compare.types import Comparison, EvidencePlace, SideSummary
from analyzers.facts.facts import WindowError
from collectors.errors import TraceError
from timeline.view import Timeline
from views.components.timeline import CanvasRecording, Span, draw_timeline
from views.server.routes import timeline_answer
from views.server.tiles import MIN_VIEW_NS
from views.shared.markdown import md_escape
from views.shared.server_paths import trouble
from views.shared.session import draw_error, timeline
from views.shared.units import visible

KEY = "compare_timeline"
ROOM_AROUND = 1.5  # of the longer of both stretches, on both sides of it
SHOWN_NAME = 60


@dataclass(frozen=True, kw_only=True)
class PickedChange:
    """What a reader picked: a stretch on each side, and what it shows.

    Attributes:
        words: What the stretches show.
        base: Where on the base side; None when it is only on the new one.
        new: Where on the new side.
    """

    words: str
    base: EvidencePlace | None
    new: EvidencePlace | None


def draw_evidence(comparison: Comparison, evidence: PickedChange) -> None:
    """Draw both sides at the evidence, the baseline above, and lead to each timeline."""
    sides = (
        ("baseline", comparison.base, evidence.base or comparison.base.typical),
        ("new", comparison.new, evidence.new or comparison.new.typical),
    )
    sides_shown = []
    for words, side, place in sides:
        trace_id = _trace_id(side, place)
        if not trace_id or place is None:
            st.caption(f"The timeline of the {md_escape(words)} side cannot be shown.")
            continue
        try:
            with st.spinner("Preparing the timeline …"):
                sides_shown.append((words, side, place, trace_id, timeline(trace_id, "", -1)))
        except (TraceError, WindowError, OSError) as error:
            draw_error(trouble(error))
    if not sides_shown:
        return
    marks = [_on_axis(place, side_timeline) for _, _, place, _, side_timeline in sides_shown]
    upper = marks[0]
    room = int(max(*(m[1] - m[0] for m in marks), MIN_VIEW_NS) * ROOM_AROUND)
    length = max(m[1] - m[0] for m in marks)
    draw_timeline(
        [
            CanvasRecording(
                query={"trace": trace_id, "window": "", "device": "-1", "counters": ""},
                name=f"{words}: {visible(side.recordings[place.recording].name, SHOWN_NAME)}",
                window=(0, side_timeline.duration_ns),
                mark=mark,
                offset_ns=mark[0] - upper[0],
            )
            for (words, side, place, trace_id, side_timeline), mark in zip(
                sides_shown, marks, strict=True
            )
        ],
        view=(upper[0] - room, upper[0] + length + room),
        view_key=" ".join(f"{i} {p.start_ns} {p.end_ns}" for _, _, p, i, _ in sides_shown),
        find="",
        picked=None,
        align=None,
        answer=timeline_answer,
        key=KEY,
    )
    with st.container(horizontal=True):
        for words, _, place, trace_id, _ in sides_shown:
            mark = f"{place.start_ns}-{place.end_ns}"
            st.page_link(
                "timeline.py",
                label=LINKS[words],
                query_params={"trace": trace_id, "mark": mark, **_below(sides_shown, trace_id)},
            )


LINKS = {"baseline": "Baseline on the timeline", "new": "New on the timeline"}


def _below(
    sides_shown: list[tuple[str, SideSummary, EvidencePlace, str, Timeline]], upper: str
) -> dict[str, str]:
    """Return the other recording for the timeline's address, when it is another one."""
    others = [trace_id for *_, trace_id, _ in sides_shown if trace_id != upper]
    return {"below": others[0]} if others else {}


def _trace_id(side: SideSummary, place: EvidencePlace | None) -> str:
    if place is None or not 0 <= place.recording < len(side.recordings):
        return ""
    return side.recordings[place.recording].trace_id


def _on_axis(place: EvidencePlace, side_timeline: Timeline) -> Span:
    return place.start_ns - side_timeline.origin_ns, place.end_ns - side_timeline.origin_ns
