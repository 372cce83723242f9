"""The evidence: what the device, its streams and the host did, moment by moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.finding import Evidence
from analyzers.words import function_first, size_text, time_text
from collectors.trace import Array
from views._lanes import (
    MIN_VIEW_NS,
    NVTX_GROUP,
    SELECTED_GROUP,
    Lane,
    Lanes,
    operation_name,
    thread_labels,
)
from views._session import Session, current, digest, finding_places, parse_span
from views._units import format_value, md_prose, ns_to_us, visible
from views.components.timeline import Picked, timeline

HELP = (
    "Wheel or W and S: zoom. Drag or A and D: move. Shift and drag: zoom into a stretch. "
    "Double click: zoom to an event. Click: its details. Where events are too many to draw, the "
    "height of a column is their share of its time. Times count from the first event recorded."
)
ROOM_AROUND = 0.6  # of a finding's length, on both sides of it
MARGIN = 0.02  # the same around all NVTX ranges
SHOWN_LONGEST = 25
SHOWN_NAME = 160
SHOWN_FACT = 60
CALL = ["start_ns", "end_ns", "name_id"]
LONGEST_COLUMNS = {
    "name": st.column_config.TextColumn("name", width=520),
    "where": st.column_config.TextColumn("where", width=380),
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
    _finding(session)
    mark = _span(st.query_params.get("mark", ""), lanes)
    query = {
        "trace": session.trace.id,
        "window": session.window,
        "device": str(session.device),
        "selected": selected,
    }
    view_key = " ".join((*query.values(), st.query_params.get("mark", "")))
    window = _window(session, lanes)
    first = _remembered(view_key, lanes) or (_around(mark) if mark else _first(session, lanes))
    shown = timeline(
        lanes,
        query=query,
        view=first,
        view_key=view_key,
        window=window,
        mark=mark,
        picked=_picked(lanes, view_key),
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


def _finding(session: Session) -> None:
    """Say which finding the address points at, and lead through its other places."""
    asked = st.query_params.get("finding", "")
    finding = next((f for f in session.report.findings if f.id == asked), None)
    marked = parse_span(st.query_params.get("mark", ""))
    places = finding_places(finding) if finding else []
    here = next((n for n, e in enumerate(places) if (e.start_ns, e.end_ns) == marked), -1)
    if finding is None or here < 0:
        return
    what = f"{places[here].name} {format_value(places[here].value, places[here].unit)}"
    words = md_prose(f"{finding.title} · {what}")
    if len(places) == 1:
        st.caption(words)
        return
    left, right = st.columns([3, 7], vertical_alignment="center")
    with left.container(horizontal=True, vertical_alignment="center"):
        before, after = places[here - 1], places[(here + 1) % len(places)]
        st.button("Previous place", key="place_back", on_click=_go_to, args=(before,))
        st.button("Next place", key="place_next", on_click=_go_to, args=(after,))
        st.caption(f"{here + 1:d} of {len(places)}", width="content")
    right.caption(words)


def _go_to(place: Evidence) -> None:
    st.query_params["mark"] = f"{place.start_ns}-{place.end_ns}"
    st.query_params.pop("view", None)


def _selected_code(lanes: Lanes, selected: str) -> int:
    if not selected:
        return -1
    return next((i for i, n in enumerate(lanes.names) if digest(n) == selected), -1)


def _span(text: str, lanes: Lanes) -> tuple[int, int] | None:
    """Return a stretch of an address on the canvas's clock."""
    span = parse_span(text)
    return (span[0] - lanes.origin_ns, span[1] - lanes.origin_ns) if span else None


def _window(session: Session, lanes: Lanes) -> tuple[int, int]:
    window = session.report.window
    if window.duration_ns <= 0:
        return 0, lanes.duration_ns
    return window.start_ns - lanes.origin_ns, window.end_ns - lanes.origin_ns


def _first(session: Session, lanes: Lanes) -> tuple[int, int]:
    """Return what to show first: the window, or without GPU work what the program marked."""
    marked = [x.spans for x in lanes.lanes if x.group == NVTX_GROUP]
    if session.report.devices or not marked:
        return _window(session, lanes)
    begin = min(int(x.start[0]) for x in marked)
    return _around((begin, max(int(x.reach[-1]) for x in marked)), room=MARGIN)


def _around(mark: tuple[int, int], room: float = ROOM_AROUND) -> tuple[int, int]:
    room_ns = int(max(mark[1] - mark[0], MIN_VIEW_NS) * room)
    return mark[0] - room_ns, mark[1] + room_ns


def _remembered(view_key: str, lanes: Lanes) -> tuple[int, int] | None:
    """Return where the reader was: what the address says, else the last view of this page."""
    if (asked := _span(st.query_params.get("view", ""), lanes)) is not None:
        return asked
    key, view = st.session_state.get("timeline_view", ("", None))
    return view if key == view_key else None


def _remember(view_key: str, view: tuple[int, int], lanes: Lanes) -> None:
    st.session_state["timeline_view"] = (view_key, view)
    st.query_params["view"] = f"{view[0] + lanes.origin_ns}-{view[1] + lanes.origin_ns}"


def _picked(lanes: Lanes, view_key: str) -> Picked | None:
    """Return the event that was clicked last in what is shown now."""
    found = _picked_place(lanes, view_key)
    if found is None:
        return None
    spans = lanes.lanes[found[0]].spans
    return Picked(found[0], int(spans.start[found[1]]), int(spans.end[found[1]]))


def _picked_place(lanes: Lanes, view_key: str) -> tuple[int, int] | None:
    """Return that event's lane, and its place in the lane."""
    key, pick = st.session_state.get("picked_event", ("", None))
    if key != view_key or pick is None or not 0 <= pick[0] < len(lanes.lanes):
        return None
    place = _event_at(lanes.lanes[pick[0]], pick[1])
    return (pick[0], place) if place >= 0 else None


def _details(session: Session, lanes: Lanes, view_key: str) -> None:
    found = _picked_place(lanes, view_key)
    if found is None:
        return
    lane, place = lanes.lanes[found[0]], found[1]
    start, end = int(lane.spans.start[place]), int(lane.spans.end[place])
    facts = {"duration": time_text(end - start), "begins at": time_text(start, 9)}
    if lane.on_device:
        facts |= _operation(session, int(lane.row[place]))
    elif lane.stacked:
        facts |= _segment(session, int(lane.row[place]))
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
    facts = {"stream": str(launch["stream"]), **_launch_call(session, launch)}
    if launch["queue_ns"] > 0:  # 0 too when the call had not returned: nothing was queued
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
    return facts


def _segment(session: Session, row: int) -> dict[str, str]:
    """Return what the ledger knows about one of its stretches, in words."""
    segment = session.segments().iloc[row]
    ended_by, wait = int(segment["launch"]), int(segment["wait"])
    facts = {}
    if wait >= 0:
        call = {k: v[[wait]] for k, v in session.trace.columns("api_calls", CALL).items()}
        length = time_text(int(call["end_ns"][0] - call["start_ns"][0]))
        facts["blocked in"] = f"{_name(session, call['name_id'])}, {length}"
    if ended_by >= 0:
        launches = session.launches().loc[[ended_by]]
        launch = {str(k): int(v) for k, v in launches.iloc[0].to_dict().items()}
        name = function_first(operation_name(session.trace, launches))
        facts["ended by"] = visible(name, SHOWN_FACT)
        facts |= _launch_call(session, launch)
    return facts


def _launch_call(session: Session, launch: dict[str, int]) -> dict[str, str]:
    """Return what is known about the call that launched an operation, in words."""
    facts = {}
    if launch["api_row"] >= 0:
        before = launch["start_ns"] - launch["api_start_ns"]
        if before >= 0:
            facts["launch call began"] = f"{time_text(before)} before it"
        label = thread_labels(session.trace).get(launch["thread"], "thread")
        facts["launched by"] = visible(label, SHOWN_FACT)
    if launch["range_row"] >= 0:
        ranges = session.trace.columns("ranges", ["name_id"])["name_id"]
        facts["NVTX"] = _name(session, ranges[[launch["range_row"]]])
    return facts


def _name(session: Session, ids: Array) -> str:
    return visible(str(session.trace.names(ids)[0]), SHOWN_FACT)


def _in_view(session: Session, lanes: Lanes, view: tuple[int, int]) -> None:
    start, end = view[0] + lanes.origin_ns, view[1] + lanes.origin_ns
    with st.container(horizontal=True, gap="medium"):
        address = {"trace": session.trace.id, "window": f"span:{start}-{end}"}
        st.page_link("overview.py", label="Analyse only what is in view", query_params=address)
    table = st.expander("Longest in view", expanded=True, on_change="rerun", key="longest")
    if not table.open:
        return
    operations = [x for x in lanes.lanes if x.on_device and x.group != SELECTED_GROUP]
    shown = longest(lanes, operations, view)
    if len(shown):
        table.caption("The longest GPU operations.")
    else:
        shown = longest(lanes, [x for x in lanes.lanes if x.group == NVTX_GROUP], view)
        if not len(shown):
            table.caption("Neither GPU operations nor NVTX ranges are in view.")
            return
        table.caption("The longest NVTX ranges; no GPU operation is in view.")
    table.dataframe(shown, hide_index=True, column_config=LONGEST_COLUMNS)


def longest(lanes: Lanes, chosen: Sequence[Lane], view: tuple[int, int]) -> pd.DataFrame:
    """Return the longest events of a view in some of ``lanes``, as text beside the canvas."""
    found, label = [], ""
    for lane in chosen:
        label = lane.label or label  # the deeper levels of a thread have none
        first, last = lane.spans.within(*view)
        length = lane.spans.end[first:last] - lane.spans.start[first:last]
        rows = first + np.argsort(-length, kind="stable")[:SHOWN_LONGEST]
        found.append(
            pd.DataFrame(
                {
                    "name": [function_first(lanes.names[n]) for n in lane.name[rows]],
                    "where": f"{label} · {lane.group}",
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
        name=[visible(t, SHOWN_NAME) for t in table["name"]],
        duration=ns_to_us(table["duration"]),
        begins=ns_to_us(table["begins"]) / 1e3,
    )


page()
