"""The longest events in view, as text beside the canvas."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analyzers.words import function_first
from timeline.colors import OPERATIONS
from timeline.view import Timeline
from views.components.timeline import (
    Span,
)
from views.parts.recording_view import RecordingView
from views.server.event_details import SHOWN_NAME
from views.server.tiles import short
from views.shared.units import ns_to_us

SHOWN_LONGEST = 25
LONGEST_COLUMNS = {
    "name": st.column_config.TextColumn("name", width=520),
    "where": st.column_config.TextColumn("where", width=380),
    "duration": st.column_config.NumberColumn("duration (µs)", format="%.3f", width=120),
    "begins": st.column_config.NumberColumn("begins at (ms)", format="%.6f", width=140),
}


def draw_longest(recording: RecordingView, view: Span) -> None:
    """Draw the longest events in view; without GPU operations, the program's ranges."""
    table = st.expander("Longest in view", expanded=True, on_change="rerun", key="longest")
    if not table.open:
        return
    events = longest(recording.timeline, view)
    if len(events):
        table.caption("The longest GPU operations.")
    else:
        events = longest(recording.timeline, view, table="ranges")
        if not len(events):
            table.caption("No GPU operation and no range marked by the program is in view.")
            return
        table.caption("The longest ranges that the program marked; no GPU operation is in view.")
    table.dataframe(events, hide_index=True, column_config=LONGEST_COLUMNS)


def longest(lanes: Timeline, view: Span, table: str = OPERATIONS) -> pd.DataFrame:
    """Return the longest events of a view that came from a table, as text beside the canvas."""
    numbers = [n for n, p in enumerate(lanes.lanes) if p.lane.table == table and not p.lane.mirror]
    rows = []
    for event in lanes.longest(numbers, *view, SHOWN_LONGEST):
        start, end = lanes.span(event)
        placed = lanes.lanes[lanes.lane_of(event)]
        group = lanes.title(placed.index.groups[placed.lane.group])
        rows.append((lanes.name_of(event), f"{placed.lane.label} · {group}", end - start, start))
    events = pd.DataFrame(rows, columns=list(LONGEST_COLUMNS))
    return events.assign(
        name=[short(function_first(text), SHOWN_NAME) for text in events["name"]],
        where=[short(text.removeprefix(" · "), SHOWN_NAME) for text in events["where"]],
        duration=ns_to_us(events["duration"]),
        begins=ns_to_us(events["begins"]) / 1e3,
    )
