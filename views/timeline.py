"""The evidence: what the device, its streams and the host did, moment by moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.facts.facts import WindowError, holds_counters_only
from analyzers.finding import Evidence
from analyzers.recorder import recorder_of
from analyzers.words import function_first, size_text, time_text
from collectors.errors import TraceError
from library import cache
from timeline.recording_lanes import FINDINGS, OPERATIONS, SEGMENTS, operation_words, thread_labels
from timeline.view import Timeline, exactly
from views.components.timeline import Aligned, Drawn, Event, Shown, Span
from views.components.timeline import timeline as canvas
from views.server.routes import timeline_answer, trouble
from views.server.tiles import MAX_FIND, MIN_VIEW_NS, short
from views.shared.session import (
    Session,
    current,
    digest,
    finding_places,
    load,
    parse_span,
    show_error,
    timeline,
)
from views.shared.units import format_value, md_prose, moment_text, ns_to_us, visible

HELP = (
    "Wheel or W and S: zoom. Drag or A and D: move. Shift and drag, M, or hold a finger: measure. "
    "Click: details; double click or F: zoom to the event; [ and ]: its neighbours. / searches, N "
    "goes to the next match; in quotation marks a text is a whole name. 0 shows all. Where events "
    "are too many to draw, the height of a column is their share of its time. Times count from the "
    "first event."
)
KEY = "timeline"
ROOM_AROUND = 0.6  # of a finding's length, on both sides of it
MARGIN = 0.02  # the same around all ranges that the program marked
SHOWN_LONGEST = 25
SHOWN_NAME = 160
SHOWN_FACT = 60
MAX_FIND_IN_ADDRESS = 200
NO_SECOND = ""
LONGEST_COLUMNS = {
    "name": st.column_config.TextColumn("name", width=520),
    "where": st.column_config.TextColumn("where", width=380),
    "duration": st.column_config.NumberColumn("duration (µs)", format="%.3f", width=120),
    "begins": st.column_config.NumberColumn("begins at (ms)", format="%.6f", width=140),
}


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One recording that the page shows."""

    session: Session
    timeline: Timeline

    def to_axis(self, span: Span) -> Span:
        """Return a stretch of the recording's clock as ns since its first event."""
        origin = self.timeline.origin_ns
        return span[0] - origin, span[1] - origin

    def to_clock(self, span: Span) -> Span:
        """Return a stretch in ns since the first event on the recording's clock."""
        origin = self.timeline.origin_ns
        return span[0] + origin, span[1] + origin

    @property
    def window(self) -> Span:
        """The analysed window, in ns since the first event."""
        window = self.session.report.window
        return self.to_axis(window.span) if window.duration_ns > 0 else self.whole

    @property
    def whole(self) -> Span:
        """Everything that was recorded."""
        return 0, self.timeline.duration_ns

    @property
    def iterations(self) -> list[int]:
        """Begins of the program's repetitions, in ns since the first event."""
        return [i.start_ns - self.timeline.origin_ns for i in self.session.report.iterations]


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
            looked = Looked(session=session, timeline=session.timeline())
    except (TraceError, OSError) as error:
        show_error(trouble(error))
        return
    if not looked.timeline.lanes:
        st.header("Nothing to show", anchor=False)
        st.write("The recording holds no GPU work, no API calls and nothing else. Record with:")
        st.code(recorder_of(session.trace).again, language=None)
        return
    st.fragment(_timeline)(looked)


def _timeline(looked: Looked) -> None:
    _finding(looked.session)
    below = _second()
    both = [looked, *([below] if below else [])]
    align = _alignment(both)
    mark = _address_span("mark", looked)
    view_key = " ".join(_identity(x) for x in both) + st.query_params.get("mark", "")
    first = _remembered(view_key, looked) or (_around(mark) if mark else _first(looked))
    shown = canvas(
        [
            _drawn(x, mark if x is looked else None, 0 if x is looked else _offset(both, align))
            for x in both
        ],
        view=first,
        view_key=view_key,
        find=_find(looked),
        picked=_picked(both),
        align=align,
        answer=timeline_answer,
        key=KEY,
    )
    _obey(shown, both, view_key)
    st.caption(HELP)
    if (picked := _picked(both)) is not None:
        _details(both[picked.recording], picked.event)
    _in_view(looked, shown.view or first)


def _identity(looked: Looked) -> str:
    session = looked.session
    return f"{session.trace.id} {session.window} {session.device} {session.counters} "


def _drawn(looked: Looked, mark: Span | None, offset_ns: int) -> Drawn:
    session = looked.session
    return Drawn(
        query={
            "trace": session.trace.id,
            "window": session.window,
            "device": str(session.device),
            "counters": session.counters,
        },
        name=visible(session.trace.source.name, SHOWN_FACT),
        window=looked.window,
        mark=mark,
        offset_ns=offset_ns,
    )


def _obey(shown: Shown, both: list[Looked], view_key: str) -> None:
    """Keep in the address what the reader did, and do what was asked for."""
    if shown.view is not None:
        st.session_state["timeline_view"] = (view_key, shown.view)
        start, end = both[0].to_clock(shown.view)
        st.query_params["view"] = f"{start}-{end}"
    if shown.find is not None:
        _put("find", shown.find[:MAX_FIND_IN_ADDRESS])
        st.query_params.pop("kernel", None)
    if shown.pick is not None:
        _put("event", _event_address(both, shown.pick))
    if shown.align is not None:
        _put("align", str(shown.align))
        st.rerun(scope="app")
    if shown.analyse is not None:
        number, span = shown.analyse
        looked = both[min(number, len(both) - 1)]
        start, end = looked.to_clock(span)
        for key in ("view", "mark", "finding", "event", "below", "align"):
            st.query_params.pop(key, None)
        st.query_params["trace"] = looked.session.trace.id
        st.query_params["window"] = f"span:{start}-{end}"
        st.rerun(scope="app")


def _put(key: str, value: str) -> None:
    if value:
        st.query_params[key] = value
    else:
        st.query_params.pop(key, None)


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


def _second() -> Looked | None:
    """Return the recording that the address wants below the first, None when it names none."""
    wanted = st.query_params.get("below", "")
    if not wanted:
        return None
    try:
        session = load(wanted, "")
        return Looked(session=session, timeline=timeline(wanted, "", -1))
    except (TraceError, WindowError, OSError) as error:
        st.caption(md_prose(f"No second recording: {error}"))
        return None


def _alignment(both: list[Looked]) -> Aligned | None:
    """Return the repetition that two recordings are aligned by, None when one has none."""
    choices = min(len(x.iterations) for x in both)
    if len(both) < 2 or not choices:
        return None
    asked = st.query_params.get("align", "")
    chosen = int(asked) if asked.isdecimal() and len(asked) < 7 else 0
    return Aligned(chosen=min(chosen, choices - 1), choices=choices)


def _offset(both: list[Looked], align: Aligned | None) -> int:
    """Return how much later a moment is on the lower recording's clock than on the axis."""
    if len(both) < 2:
        return 0
    upper, lower = both
    if align is None:
        return lower.window[0] - upper.window[0]
    return lower.iterations[align.chosen] - upper.iterations[align.chosen]


def _find(looked: Looked) -> str:
    """Return what the address wants to be searched for: a text, or one kernel by its digest."""
    if wanted := st.query_params.get("kernel", ""):
        names = looked.session.kernels()["name"]
        return next((exactly(n, MAX_FIND) for n in names if digest(n) == wanted), "")
    return st.query_params.get("find", "")


def _address_span(key: str, looked: Looked) -> Span | None:
    span = parse_span(st.query_params.get(key, ""))
    return looked.to_axis(span) if span else None


def _first(looked: Looked) -> Span:
    """Return what to show first: the window, or without GPU work what the program marked."""
    shown = looked.timeline
    marked = [p for p in shown.lanes if p.lane.table == "ranges"]
    if looked.session.report.devices or not marked:
        return looked.window
    parts = [(p.index, first, first + n - 1) for p in marked for first, n, _ in p.lane.parts]
    begin = min(int(index.start[first]) for index, first, _ in parts)
    end = max(int(index.end(np.array([last]))[0]) for index, _, last in parts)
    return _around((begin, end), room=MARGIN)


def _around(mark: Span, room: float = ROOM_AROUND) -> Span:
    room_ns = int(max(mark[1] - mark[0], MIN_VIEW_NS) * room)
    return mark[0] - room_ns, mark[1] + room_ns


def _remembered(view_key: str, looked: Looked) -> Span | None:
    """Return where the reader was: what the address says, else the last view of this page."""
    if (asked := _address_span("view", looked)) is not None:
        return asked
    key, view = st.session_state.get("timeline_view", ("", None))
    return view if key == view_key else None


def _event_address(both: list[Looked], picked: Event) -> str:
    """Return how the address names an event: by the row that it came from, which stays."""
    try:
        table, row = both[picked.recording].timeline.row_of(picked.event)
    except KeyError:
        return ""
    return f"{'below:' if picked.recording else ''}{table}:{row}"


def _picked(both: list[Looked]) -> Event | None:
    """Return the event that the address names."""
    text = st.query_params.get("event", "")
    number = int(text.startswith("below:"))
    table, _, row = text.removeprefix("below:").partition(":")
    if number >= len(both) or not row.isdecimal() or len(row) > 10:
        return None
    event = both[number].timeline.event_at(table, int(row))
    return Event(number, event) if event >= 0 else None


def _details(looked: Looked, event: int) -> None:
    shown = looked.timeline
    table, row = shown.row_of(event)
    start, end = shown.span(event)
    facts = {"duration": time_text(end - start), "begins at": moment_text(start)}
    chain = shown.chain(event)
    if table == OPERATIONS:
        facts |= _operation(looked, row)
    elif table == SEGMENTS:
        facts |= _segment(looked, row)
        ended_by = looked.session.stored.segment(row)["launch"]
        chain = shown.chain(shown.event_at(OPERATIONS, ended_by)) if ended_by >= 0 else []
    elif table == FINDINGS:
        finding = looked.session.report.findings[row]
        facts |= {"costs": time_text(finding.lost_ns), "advice": visible(finding.advice)}
    with st.container(key="event_details"):
        st.code(short(shown.name_of(event), SHOWN_NAME * 4), language=None, wrap_lines=True)
        st.dataframe(pd.DataFrame([facts]), hide_index=True)
        if len(chain) > 1:
            st.dataframe(
                pd.DataFrame([_link(shown, link.role, link.event) for link in chain]),
                hide_index=True,
                key="event_chain",
            )


def _link(shown: Timeline, role: str, event: int) -> dict[str, str]:
    start, end = shown.span(event)
    placed = shown.lanes[shown.lane_of(event)]
    where = shown.title(placed.index.groups[placed.lane.group])
    return {
        "": role,
        "name": short(function_first(shown.name_of(event)), SHOWN_NAME),
        "where": short(
            f"{where} · {placed.lane.label}" if placed.lane.label else where, SHOWN_FACT
        ),
        "begins at": moment_text(start),
        "duration": time_text(end - start),
    }


def _operation(looked: Looked, row: int) -> dict[str, str]:
    """Return what is known about one GPU operation, in words."""
    launch = looked.session.stored.launch(row)
    facts = {"stream": str(launch["stream"]), **_launch_call(looked, launch)}
    if launch["queue_ns"] > 0:  # 0 too when the call had not returned: nothing was queued
        facts["waited in queue"] = time_text(launch["queue_ns"])
    facts["device idle before"] = time_text(launch["idle_before_ns"])
    if launch.get("bytes", -1) >= 0:
        facts["moved"] = size_text(launch["bytes"])
        if (length_ns := launch["end_ns"] - launch["start_ns"]) > 0:
            facts["rate"] = f"{size_text(launch['bytes'] / length_ns * 1e9)}/s"
    if launch.get("grid_x", -1) > 0:
        facts["grid"] = " x ".join(str(launch[f"grid_{a}"]) for a in "xyz")
        facts["block"] = " x ".join(str(launch[f"block_{a}"]) for a in "xyz")
    if launch.get("registers_per_thread", -1) >= 0:
        facts["registers"] = str(launch["registers_per_thread"])
    return facts


def _segment(looked: Looked, row: int) -> dict[str, str]:
    """Return what the ledger knows about one of its stretches, in words."""
    segment = looked.session.stored.segment(row)
    trace, facts = looked.session.trace, {}
    if segment["wait"] >= 0:
        call = trace.row("api_calls", segment["wait"], ["start_ns", "end_ns", "name_id"])
        length = time_text(int(call["end_ns"] - call["start_ns"]))
        facts["blocked in"] = f"{_name(looked, call['name_id'])}, {length}"
    if segment["launch"] >= 0:
        launch = looked.session.stored.launch(segment["launch"])
        name = _name(looked, launch["name_id"], 0) if launch.get("name_id", -1) >= 0 else ""
        words = operation_words(launch["kind"], launch.get("copy_kind", -1), name)
        facts["ended by"] = short(function_first(words), SHOWN_FACT)
        facts |= _launch_call(looked, launch)
    return facts


def _launch_call(looked: Looked, launch: Mapping[str, int]) -> dict[str, str]:
    """Return what is known about the call that launched an operation, in words."""
    facts = {}
    if launch["api_row"] >= 0:
        before = launch["start_ns"] - launch["api_start_ns"]
        if before >= 0:
            facts["launch call began"] = f"{time_text(before)} before it"
        label = thread_labels(looked.session.trace).get(launch["thread"], "thread")
        facts["launched by"] = visible(label, SHOWN_FACT)
    return facts


def _name(looked: Looked, name_id: int, limit: int = SHOWN_FACT) -> str:
    text = str(looked.session.trace.names(np.array([name_id]))[0])
    return short(text, limit) if limit else text


def _in_view(looked: Looked, view: Span) -> None:
    start, end = looked.to_clock(view)
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        address = looked.session.address | {"window": f"span:{start}-{end}"}
        st.page_link("overview.py", label="Analyse only what is in view", query_params=address)
        _second_picker(looked)
    table = st.expander("Longest in view", expanded=True, on_change="rerun", key="longest")
    if not table.open:
        return
    shown = longest(looked.timeline, view)
    if len(shown):
        table.caption("The longest GPU operations.")
    else:
        shown = longest(looked.timeline, view, table="ranges")
        if not len(shown):
            table.caption("Neither GPU operations nor ranges of the program are in view.")
            return
        table.caption("The longest ranges that the program marked; no GPU operation is in view.")
    table.dataframe(shown, hide_index=True, column_config=LONGEST_COLUMNS)


def _second_picker(looked: Looked) -> None:
    """Offer the other recordings of the library, to be shown below this one."""
    others = {t.id: t for t in cache.traces() if t.id != looked.session.trace.id}
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
        on_change=lambda: _put("below", st.session_state["pick_below"]),
        label_visibility="collapsed",
        width=320,
    )


def longest(shown: Timeline, view: Span, table: str = OPERATIONS) -> pd.DataFrame:
    """Return the longest events of a view that came from a table, as text beside the canvas."""
    numbers = [n for n, p in enumerate(shown.lanes) if p.lane.table == table and not p.lane.mirror]
    rows = []
    for event in shown.longest(numbers, *view, SHOWN_LONGEST):
        start, end = shown.span(event)
        placed = shown.lanes[shown.lane_of(event)]
        group = shown.title(placed.index.groups[placed.lane.group])
        rows.append((shown.name_of(event), f"{placed.lane.label} · {group}", end - start, start))
    found = pd.DataFrame(rows, columns=list(LONGEST_COLUMNS))
    return found.assign(
        name=[short(function_first(text), SHOWN_NAME) for text in found["name"]],
        where=[short(text.removeprefix(" · "), SHOWN_NAME) for text in found["where"]],
        duration=ns_to_us(found["duration"]),
        begins=ns_to_us(found["begins"]) / 1e3,
    )


page()
