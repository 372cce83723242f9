"""The evidence: what the device, its streams and the host did, moment by moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from analyzers.facts.facts import WindowError, holds_counters_only
from analyzers.finding import Evidence
from analyzers.recorder import recorder_of
from collectors.errors import TraceError
from library import cache
from timeline.search import exact_text
from views.components.timeline import (
    Alignment,
    CanvasEvent,
    CanvasInput,
    CanvasRecording,
    Note,
    Span,
    draw_timeline,
)
from views.parts.longest_events import draw_longest
from views.parts.notes import PARAMETER, note_value, parse_notes
from views.parts.recording_view import RecordingView
from views.server.event_details import SHOWN_FACT
from views.server.routes import timeline_answer
from views.server.tiles import MAX_FIND, MIN_VIEW_NS
from views.shared.markdown import md_prose
from views.shared.server_paths import trouble
from views.shared.session import (
    Session,
    current,
    digest,
    draw_error,
    finding_places,
    load,
    parse_span,
    timeline,
)
from views.shared.units import format_value, visible

KEY = "timeline"
ROOM_AROUND = 0.6  # of a finding's length, on both sides of it
MARGIN = 0.02  # the same around all ranges that the program marked
MAX_FIND_IN_ADDRESS = 200
NO_SECOND = ""


def page() -> None:
    """Draw the page."""
    session = current()
    if session is None:
        return
    if holds_counters_only(session.trace):
        st.header("No timeline", anchor=False)
        st.write(
            "Nsight Compute measures one kernel at a time and does not record when each ran. "
            "To see when, record the program with Nsight Systems:"
        )
        st.code("nsys profile -t cuda,nvtx,osrt -o report your_program", language=None)
        return
    try:
        with st.spinner("Preparing the timeline …"):
            recording = RecordingView(session=session, timeline=session.timeline())
    except (TraceError, OSError) as error:
        draw_error(trouble(error))
        return
    if not recording.timeline.lanes:
        st.header("Nothing to show", anchor=False)
        st.write("The recording holds no events. Record with:")
        st.code(recorder_of(session.trace).again, language=None)
        return
    st.fragment(_draw_timeline)(recording)


def _draw_timeline(recording: RecordingView) -> None:
    _draw_finding(recording.session)
    below = _draw_second()
    recordings = [recording, *([below] if below else [])]
    align = _alignment(recordings)
    mark = _address_span("mark", recording)
    view_key = " ".join(_identity(x) for x in recordings) + st.query_params.get("mark", "")
    first = _last_view(view_key, recording) or (_around(mark) if mark else _first_view(recording))
    user_input = draw_timeline(
        [
            _canvas_recording(
                x,
                mark if x is recording else None,
                0 if x is recording else _offset(recordings, align),
            )
            for x in recordings
        ],
        view=first,
        view_key=view_key,
        find=_search_text(recording),
        picked=_picked(recordings),
        align=align,
        answer=timeline_answer,
        key=KEY,
        notes=_notes(recording),
        whole_page=True,
    )
    _apply_input(user_input, recordings, view_key)
    view = user_input.view or first
    _draw_links(recording, view)
    draw_longest(recording, view)


def _identity(recording: RecordingView) -> str:
    session = recording.session
    return f"{session.trace.id} {session.window} {session.device} {session.counters} "


def _canvas_recording(
    recording: RecordingView, mark: Span | None, offset_ns: int
) -> CanvasRecording:
    session = recording.session
    return CanvasRecording(
        query={
            "trace": session.trace.id,
            "window": session.window,
            "device": str(session.device),
            "counters": session.counters,
        },
        name=visible(session.trace.source.name, SHOWN_FACT),
        window=recording.window,
        mark=mark,
        offset_ns=offset_ns,
    )


def _apply_input(user_input: CanvasInput, recordings: list[RecordingView], view_key: str) -> None:
    """Keep in the address what the reader did, and do what was asked for."""
    if user_input.view is not None:
        st.session_state["timeline_view"] = (view_key, user_input.view)
        start, end = recordings[0].to_clock(user_input.view)
        st.query_params["view"] = f"{start}-{end}"
    if user_input.find is not None:
        _write_parameter("find", user_input.find[:MAX_FIND_IN_ADDRESS])
        st.query_params.pop("kernel", None)
    if user_input.pick is not None:
        _write_parameter("event", _event_address(recordings, user_input.pick))
    if user_input.notes is not None:
        _write_notes(recordings[0], user_input.notes)
    if user_input.align is not None:
        _write_parameter("align", str(user_input.align))
        st.rerun(scope="app")
    if user_input.analyse is not None:
        number, span = user_input.analyse
        recording = recordings[min(number, len(recordings) - 1)]
        start, end = recording.to_clock(span)
        if recording is not recordings[0]:  # the address is about the upper one: notes, device …
            st.query_params.from_dict(recording.session.address)
        for key in ("view", "mark", "finding", "event", "below", "align"):
            st.query_params.pop(key, None)
        st.query_params["trace"] = recording.session.trace.id
        st.query_params["window"] = f"span:{start}-{end}"
        st.rerun(scope="app")


def _notes(recording: RecordingView) -> list[Note]:
    """Return what the address marks, on the axis."""
    origin = recording.timeline.origin_ns
    notes = parse_notes(st.query_params.get_all(PARAMETER))
    return [Note(n.start - origin, n.end - origin, n.text) for n in notes]


def _write_notes(recording: RecordingView, notes: Sequence[Note]) -> None:
    origin = recording.timeline.origin_ns
    values = [note_value(Note(n.start + origin, n.end + origin, n.text)) for n in notes]
    if values == st.query_params.get_all(PARAMETER):
        return
    if values:
        st.query_params[PARAMETER] = values
    else:
        st.query_params.pop(PARAMETER, None)


def _write_parameter(key: str, value: str) -> None:
    if value:
        st.query_params[key] = value
    else:
        st.query_params.pop(key, None)


def _draw_finding(session: Session) -> None:
    """Say which finding the address points at, and lead through its other places."""
    finding_id = st.query_params.get("finding", "")
    finding = next((f for f in session.report.findings if f.id == finding_id), None)
    marked = parse_span(st.query_params.get("mark", ""))
    places = finding_places(finding) if finding else []
    position = next((n for n, e in enumerate(places) if (e.start_ns, e.end_ns) == marked), -1)
    if finding is None or position < 0:
        return
    what = f"{places[position].name} {format_value(places[position].value, places[position].unit)}"
    sentence = md_prose(f"{finding.title} · {what}")
    if len(places) == 1:
        st.caption(sentence)
        return
    left, right = st.columns([3, 7], vertical_alignment="center")
    with left.container(horizontal=True, vertical_alignment="center"):
        before, after = places[position - 1], places[(position + 1) % len(places)]
        st.button("Previous place", key="place_back", on_click=_go_to, args=(before,))
        st.button("Next place", key="place_next", on_click=_go_to, args=(after,))
        st.caption(f"{position + 1:d} of {len(places)}", width="content")
    right.caption(sentence)


def _go_to(place: Evidence) -> None:
    st.query_params["mark"] = f"{place.start_ns}-{place.end_ns}"
    st.query_params.pop("view", None)


def _draw_second() -> RecordingView | None:
    """Return the recording that the address wants below the first, None when it names none."""
    trace_id = st.query_params.get("below", "")
    if not trace_id:
        return None
    try:
        session = load(trace_id, "")
        return RecordingView(session=session, timeline=timeline(trace_id, "", -1))
    except (TraceError, WindowError, OSError) as error:
        st.caption(md_prose(f"The second recording cannot be shown: {error}"))
        return None


def _alignment(recordings: list[RecordingView]) -> Alignment | None:
    """Return the repetition that two recordings are aligned by, None when one has none."""
    choices = min(len(x.iterations) for x in recordings)
    if len(recordings) < 2 or not choices:
        return None
    number = st.query_params.get("align", "")
    chosen = int(number) if number.isdecimal() and len(number) < 7 else 0
    return Alignment(chosen=min(chosen, choices - 1), choices=choices)


def _offset(recordings: list[RecordingView], align: Alignment | None) -> int:
    """Return how much later a moment is on the lower recording's clock than on the axis."""
    if len(recordings) < 2:
        return 0
    upper, lower = recordings
    if align is None:
        return lower.window[0] - upper.window[0]
    return lower.iterations[align.chosen] - upper.iterations[align.chosen]


def _search_text(recording: RecordingView) -> str:
    """Return what the address wants to be searched for: a text, or one kernel by its digest."""
    if kernel := st.query_params.get("kernel", ""):
        names = recording.session.kernels()["name"]
        return next((exact_text(n, MAX_FIND) for n in names if digest(n) == kernel), "")
    return st.query_params.get("find", "")


def _address_span(key: str, recording: RecordingView) -> Span | None:
    span = parse_span(st.query_params.get(key, ""))
    return recording.to_axis(span) if span else None


def _first_view(recording: RecordingView) -> Span:
    """Return what to show first: the window, or without GPU work what the program marked."""
    timeline_ = recording.timeline
    marked = [p for p in timeline_.lanes if p.lane.table == "ranges"]
    if recording.session.report.devices or not marked:
        return recording.window
    parts = [(p.index, first, first + n - 1) for p in marked for first, n, _ in p.lane.parts]
    begin = min(int(index.start[first]) for index, first, _ in parts)
    end = max(int(index.end(np.array([last]))[0]) for index, _, last in parts)
    return _around((begin, end), room=MARGIN)


def _around(mark: Span, room: float = ROOM_AROUND) -> Span:
    room_ns = int(max(mark[1] - mark[0], MIN_VIEW_NS) * room)
    return mark[0] - room_ns, mark[1] + room_ns


def _last_view(view_key: str, recording: RecordingView) -> Span | None:
    """Return where the reader was: what the address says, else the last view of this page."""
    if (addressed := _address_span("view", recording)) is not None:
        return addressed
    key, view = st.session_state.get("timeline_view", ("", None))
    return view if key == view_key else None


def _event_address(recordings: list[RecordingView], picked: CanvasEvent) -> str:
    """Return how the address names an event: by the row that it came from, which stays."""
    try:
        table, row = recordings[picked.recording].timeline.row_of(picked.event)
    except KeyError:
        return ""
    return f"{'below:' if picked.recording else ''}{table}:{row}"


def _picked(recordings: list[RecordingView]) -> CanvasEvent | None:
    """Return the event that the address names."""
    text = st.query_params.get("event", "")
    number = int(text.startswith("below:"))
    table, _, row = text.removeprefix("below:").partition(":")
    if number >= len(recordings) or not row.isdecimal() or len(row) > 10:
        return None
    event = recordings[number].timeline.event_at(table, int(row))
    return CanvasEvent(number, event) if event >= 0 else None


def _draw_links(recording: RecordingView, view: Span) -> None:
    """Lead to the analysis of what is in view, and to a second recording."""
    start, end = recording.to_clock(view)
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        address = recording.session.address | {"window": f"span:{start}-{end}"}
        st.page_link("overview.py", label="Analyse only what is in view", query_params=address)
        _draw_second_picker(recording)


def _draw_second_picker(recording: RecordingView) -> None:
    """Offer the other recordings of the library, to be shown below this one."""
    others = {t.id: t for t in cache.traces() if t.id != recording.session.trace.id}
    if not others:
        return
    chosen = st.query_params.get("below", NO_SECOND)
    st.session_state["pick_below"] = chosen if chosen in others else NO_SECOND
    st.selectbox(
        "Second recording",
        [NO_SECOND, *others],
        format_func=lambda i: (
            visible(others[i].source.name, SHOWN_FACT) if i else "No second recording"
        ),
        key="pick_below",
        on_change=lambda: _write_parameter("below", st.session_state["pick_below"]),
        label_visibility="collapsed",
        width=320,
    )


page()
