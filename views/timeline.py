"""The evidence: what the device, its streams and the host did, moment by moment."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.words import function_first, size_text, time_text
from views._lanes import MIN_VIEW_NS, SELECTED_GROUP, Lane, Lanes
from views._session import Session, current, digest
from views._units import md_prose, ns_to_us, visible
from views.components.timeline import timeline

HELP = (
    "Wheel or W and S: zoom. Drag or A and D: move. Shift and drag: zoom into a stretch. "
    "Double click: zoom to an event. Click: its details."
)
ROOM_AROUND = 0.6  # of a finding's length, on both sides of it
SHOWN_LONGEST = 25
SHOWN_NAME = 160
LONGEST_COLUMNS = {
    "operation": st.column_config.TextColumn("operation", width=560),
    "where": st.column_config.TextColumn("where", width=300),
    "duration": st.column_config.NumberColumn("duration (µs)", format="%.3f", width=120),
    "begins": st.column_config.NumberColumn("begins at (ms)", format="%.6f", width=140),
}


def page() -> None:
    """Draw the page."""
    session = current()
    if session is None:
        return
    selected = st.query_params.get("kernel", "")
    with st.spinner("Preparing the timeline …"):
        lanes = session.lanes(selected)
    if not lanes.lanes:
        st.header("Nothing to show", anchor=False)
        st.write("The recording holds no GPU work, no CUDA calls and no NVTX ranges. Record with:")
        st.code("nsys profile -t cuda,nvtx,osrt -o report your_program", language=None)
        return
    st.fragment(_timeline)(session, lanes, selected)


def _timeline(session: Session, lanes: Lanes, selected: str) -> None:
    mark = _span(st.query_params.get("mark", ""), lanes)
    query = {
        "trace": session.trace.id,
        "window": session.window,
        "device": str(session.device),
        "selected": selected,
    }
    view_key = " ".join((*query.values(), st.query_params.get("mark", "")))
    window = _window(session, lanes)
    first = _remembered(view_key, lanes) or (_around(mark) if mark else window)
    shown = timeline(
        lanes,
        query=query,
        view=first,
        view_key=view_key,
        window=window,
        mark=mark,
        selected=_selected_code(lanes, selected),
        key="timeline",
    )
    view = shown.view or first
    if shown.view is not None:
        _remember(view_key, shown.view, lanes)
    if shown.pick is not None:
        st.session_state["picked_event"] = (view_key, shown.pick)
    st.caption(" ".join((HELP, *(f"Shown: {md_prose(n)}." for n in lanes.notes))))
    _details(session, lanes, view_key)
    _in_view(session, lanes, view)


def _selected_code(lanes: Lanes, selected: str) -> int:
    if not selected:
        return -1
    return next((i for i, n in enumerate(lanes.names) if digest(n) == selected), -1)


def _span(text: str, lanes: Lanes) -> tuple[int, int] | None:
    """Return a stretch of an address (``START-END``, the recording's clock) on the canvas's."""
    found = re.fullmatch(r"(-?\d{1,18})-(-?\d{1,18})", text)
    if not found or int(found[1]) > int(found[2]):
        return None
    return int(found[1]) - lanes.origin_ns, int(found[2]) - lanes.origin_ns


def _window(session: Session, lanes: Lanes) -> tuple[int, int]:
    window = session.report.window
    if window.duration_ns <= 0:
        return 0, lanes.duration_ns
    return window.start_ns - lanes.origin_ns, window.end_ns - lanes.origin_ns


def _around(mark: tuple[int, int]) -> tuple[int, int]:
    room = int(max(mark[1] - mark[0], MIN_VIEW_NS) * ROOM_AROUND)
    return mark[0] - room, mark[1] + room


def _remembered(view_key: str, lanes: Lanes) -> tuple[int, int] | None:
    """Return where the reader was: what the address says, else the last view of this page."""
    if (asked := _span(st.query_params.get("view", ""), lanes)) is not None:
        return asked
    key, view = st.session_state.get("timeline_view", ("", None))
    return view if key == view_key else None


def _remember(view_key: str, view: tuple[int, int], lanes: Lanes) -> None:
    st.session_state["timeline_view"] = (view_key, view)
    st.query_params["view"] = f"{view[0] + lanes.origin_ns}-{view[1] + lanes.origin_ns}"


def _details(session: Session, lanes: Lanes, view_key: str) -> None:
    key, pick = st.session_state.get("picked_event", ("", None))
    if key != view_key or pick is None or not 0 <= pick[0] < len(lanes.lanes):
        return
    lane = lanes.lanes[pick[0]]
    place = _event_at(lane, pick[1])
    if place < 0:
        return
    start, end = int(lane.spans.start[place]), int(lane.spans.end[place])
    facts = {"duration": time_text(end - start), "begins at": time_text(start, 9)}
    if lane.on_device:
        facts |= _operation(session, int(lane.row[place]))
    with st.container(key="event_details"):
        st.code(visible(lanes.names[lane.name[place]]), language=None, wrap_lines=True)
        st.dataframe(pd.DataFrame([facts]), hide_index=True)


def _event_at(lane: Lane, moment: int) -> int:
    """Return the last event that covers ``moment``, -1 for none."""
    first, last = lane.spans.within(moment, moment + 1)
    covering = np.flatnonzero(lane.spans.end[first:last] >= moment)
    return first + int(covering[-1]) if len(covering) else -1


def _operation(session: Session, row: int) -> dict[str, str]:
    """Return what is known about one GPU operation, in words."""
    launch = {str(k): int(v) for k, v in session.launches().loc[row].to_dict().items()}
    facts = {"stream": str(launch["stream"])}
    if launch["queue_ns"] >= 0:
        facts["waited in queue"] = time_text(launch["queue_ns"])
    facts["device idle before"] = time_text(launch["idle_before_ns"])
    if launch.get("bytes", -1) >= 0:
        facts["moved"] = size_text(launch["bytes"])
        length_ns = max(int(launch["end_ns"] - launch["start_ns"]), 1)
        facts["rate"] = f"{size_text(launch['bytes'] / length_ns * 1e9)}/s"
    if launch.get("grid_x", -1) > 0:
        facts["grid"] = " x ".join(str(launch[f"grid_{a}"]) for a in "xyz")
        facts["block"] = " x ".join(str(launch[f"block_{a}"]) for a in "xyz")
    if launch.get("registers_per_thread", -1) >= 0:
        facts["registers"] = str(launch["registers_per_thread"])
    if launch.get("range_row", -1) >= 0:
        ranges = session.trace.columns("ranges", ["name_id"])["name_id"]
        facts["NVTX"] = visible(str(session.trace.names(ranges[[launch["range_row"]]])[0]), 60)
    return facts


def _in_view(session: Session, lanes: Lanes, view: tuple[int, int]) -> None:
    start, end = view[0] + lanes.origin_ns, view[1] + lanes.origin_ns
    with st.container(horizontal=True, gap="medium"):
        address = {"trace": session.trace.id, "window": f"span:{start}-{end}"}
        st.page_link("overview.py", label="Analyse only what is in view", query_params=address)
    table = st.expander(
        "Longest operations in view", expanded=True, on_change="rerun", key="longest"
    )
    if not table.open:
        return
    table.dataframe(longest(lanes, view), hide_index=True, column_config=LONGEST_COLUMNS)


def longest(lanes: Lanes, view: tuple[int, int]) -> pd.DataFrame:
    """Return the longest operations of a view, for readers who cannot use a canvas."""
    found = []
    for lane in lanes.lanes:
        if not lane.on_device or lane.group == SELECTED_GROUP:
            continue
        first, last = lane.spans.within(*view)
        length = lane.spans.end[first:last] - lane.spans.start[first:last]
        rows = first + np.argsort(-length, kind="stable")[:SHOWN_LONGEST]
        found.append(
            pd.DataFrame(
                {
                    "operation": [function_first(lanes.names[n]) for n in lane.name[rows]],
                    "where": f"{lane.label} · {lane.group}",
                    "duration": lane.spans.end[rows] - lane.spans.start[rows],
                    "begins": lane.spans.start[rows],
                }
            )
        )
    if not found:
        return pd.DataFrame({c: [] for c in LONGEST_COLUMNS})
    table = pd.concat(found).sort_values("duration", ascending=False, kind="stable")
    table = table.head(SHOWN_LONGEST)
    return table.assign(
        operation=[visible(t, SHOWN_NAME) for t in table["operation"]],
        duration=ns_to_us(table["duration"]),
        begins=ns_to_us(table["begins"]) / 1e3,
    )


page()
