"""Every page's frame: title, navigation, and the choice of recording, window and device."""

from __future__ import annotations

import sys
from pathlib import Path

# Streamlit puts this folder on the path for each run, where the page ``timeline.py`` would be
# found for the package ``timeline``, and a further page for a package of its name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [place for place in sys.path if Path(place).resolve() != _HERE]

import contextlib
import logging
import uuid
from dataclasses import replace
from functools import partial

import streamlit as st

from analyzers.facts.facts import WindowError
from analyzers.facts.window_request import AUTO, CHOICE, parse_request, request_text
from collectors.errors import TraceError
from collectors.trace import Trace
from library import cache
from views.parts.sign_in import draw_sign_in
from views.shared.access import may_edit, role
from views.shared.choices import (
    NO_COUNTERS,
    WHOLE,
    counters_choices,
    device_choices,
    requested_iterations,
    window_choices,
    window_label,
)
from views.shared.iteration_choices import iteration_choices, with_choice
from views.shared.jobs import WAY, WAYS, StatusPlace, this_reader
from views.shared.opening import OpeningState, Stage
from views.shared.session import (
    Selection,
    choose,
    chosen,
    draw_trouble,
    load,
    timeline_is_made,
)
from views.shared.style import write_style_sheet
from views.shared.units import visible

LOG = logging.getLogger(__name__)

# The reader's way through: the answer first, then the evidence. Pages not named come before Open.
ORDER = ("overview", "timeline", "kernels", "compare", "capture", "reviews")
LAST = "open"
EDITORS_PAGES = ("capture",)
WITHOUT_PICKERS = ("capture", "compare", "open")
WITH_COUNTERS = ("overview", "kernels")
WITH_ITERATIONS = ("overview", "timeline")
WITH_DEVICE = ("timeline", "kernels")  # only there does all that is shown follow the device
# What the address says about a recording, whatever window; and whatever device.
OF_RECORDING = ("kernel", "filter", "find", "below", "align", "note")
OF_WINDOW = (*OF_RECORDING, "view", "mark", "finding", "event")
PAGE = "page"  # what the session calls the page that was drawn last
DRAWN = "drawn"  # what the session keeps of the analysis that was drawn last
SHOWN_RECORDINGS = 50
LABEL_LENGTH = 60


def main() -> None:
    """Draw the frame and the page in it."""
    st.set_page_config(page_title="whyslow", page_icon=str(_beside("icon.png")), layout="wide")
    write_style_sheet()
    st.logo(str(_beside("logo.svg")), size="large")
    if role() is None:
        draw_sign_in()
        return
    page = st.navigation(_pages(), position="top")
    try:
        _draw(page, page.url_path or ORDER[0])
    except Exception:  # a defect of ours; the reader gets a line, the log the rest
        number = uuid.uuid4().hex[:8]
        LOG.exception("page %s failed (%s)", page.url_path or ORDER[0], number)
        st.error(
            f"This page failed because of a defect in whyslow; see {number} in the server log."
        )


def _draw(page: st.Page, name: str) -> None:
    """Draw what stands between the reader and the answer, or else the page.

    The place for progress and refusals belongs to the frame: whatever a page shows, the browser
    drops when another one is chosen, and nothing else would be there until that has come.
    """
    place = StatusPlace()
    if way := _way_of_address(name):
        _follow_opening(place, way, name)
    recordings = cache.traces()
    _adopt_address(recordings)
    # The browser has dropped what another page showed; a recording that is new says more below.
    is_said = name not in WITHOUT_PICKERS and st.session_state.get(DRAWN) != _identity(chosen())
    if st.session_state.get(PAGE) != name and WAY not in st.query_params and not is_said:
        place.draw_change(page.title)
    if name not in WITHOUT_PICKERS:
        _draw_answer(place, page, name, recordings)
    else:
        page.run()
        if WAY not in st.query_params:
            place.clear()
    st.session_state[PAGE] = name


def _draw_answer(place: StatusPlace, page: st.Page, name: str, recordings: list[Trace]) -> None:
    """Draw a page about the recording that the reader looks at, once its analysis is there."""
    selection = chosen()
    if not selection.trace_id and name == ORDER[0]:
        st.switch_page(f"{LAST}.py")  # what is to be done first
    refusal = _follow_analysis(place, selection) if selection.trace_id else None
    if recordings:
        _draw_pickers(recordings, name)
    if refusal is not None:
        draw_trouble(refusal.words, other_window=refusal.other_window)
    else:
        page.run()
        st.session_state[DRAWN] = _identity(selection)
    if refusal is not None or name != ORDER[0]:  # the style sheet hides it beside a verdict
        place.clear()


def _way_of_address(page: str) -> str:
    """Return the way that the address names, else one that the reader left for another page."""
    way = st.query_params.get(WAY, "")
    if way or "trace" in st.query_params:
        st.session_state[WAY] = way
    elif page not in WITHOUT_PICKERS:
        way = st.session_state.get(WAY, "")
    return way


def _follow_opening(place: StatusPlace, way: str, page: str) -> None:
    """Wait for the recording that is being opened; then go to where its answer is shown."""
    if page == LAST and not WAYS.state(way).stage.is_last:
        place.draw(WAYS.state(way))
        st.switch_page(f"{ORDER[0]}.py", query_params={WAY: way})
    state = place.follow(way)
    st.session_state[WAY] = ""
    if state.stage is Stage.VERDICT:
        st.session_state.pop(DRAWN, None)  # what was asked for is said until it is there
        _change(Selection(trace_id=state.trace_id), keep=())
        if page == LAST:
            st.switch_page(f"{ORDER[0]}.py", query_params={"trace": state.trace_id})
    elif page != LAST:
        st.switch_page(f"{LAST}.py", query_params={WAY: way})


def _identity(selection: Selection) -> tuple[str, str, str]:
    return selection.trace_id, selection.window, selection.counters


def _follow_analysis(place: StatusPlace, selection: Selection) -> OpeningState | None:
    """Wait until every analysis that the page draws is there; return why one is not."""
    trace_id, *window = _identity(selection)
    if st.session_state.get(DRAWN) == (trace_id, *window):
        return None  # it was there a moment ago; a page whose answer is gone says so
    try:
        trace = cache.get(trace_id)
        state = OpeningState(stage=Stage.VERDICT, name=trace.source.name, fraction=1.0)
        for part in dict.fromkeys((("", ""), tuple(window))):  # pickers need the first
            if not timeline_is_made(trace_id, *part):
                state = place.follow(WAYS.analyse(trace, *part, reader=this_reader()))
            if state.stage is Stage.REFUSED:
                return state
    except (TraceError, OSError) as error:
        return OpeningState(stage=Stage.REFUSED, words=str(error))
    place.draw(state)
    return None


def _beside(name: str) -> Path:
    return Path(__file__).parent / name


def _pages() -> list[st.Page]:
    """Return the pages as they stand; opening a recording comes first until something is open."""
    left_out = (Path(__file__).stem, *(() if may_edit() else EDITORS_PAGES))
    stems = [f.stem for f in _beside("").glob("[!_]*.py") if f.stem not in left_out]
    place = {name: number for number, name in enumerate(ORDER)}
    place[LAST] = len(stems) + len(ORDER) if cache.has_traces() else -1
    stems.sort(key=lambda s: (place.get(s, len(ORDER)), s))
    return [st.Page(f"{s}.py", title=s.capitalize(), default=s == ORDER[0]) for s in stems]


def _adopt_address(recordings: list[Trace]) -> None:
    """Take what the address names, else what was shown before, else the newest recording."""
    address = st.query_params
    if address.get("trace"):
        device = address.get("device", "")
        selection = Selection(
            trace_id=address["trace"],
            window=address.get("window", ""),
            device=int(device) if device.isdecimal() and len(device) < 4 else -1,
            counters=address.get("counters", ""),
        )
    else:
        selection = chosen()
        if not selection.trace_id and recordings:
            selection = Selection(trace_id=recordings[0].id)
    choose(selection)
    _write_address(selection)


def _write_address(selection: Selection) -> None:
    fields = {
        "trace": selection.trace_id,
        "window": selection.window,
        "device": str(selection.device) if selection.device >= 0 else "",
        "counters": selection.counters,
    }
    for key, value in fields.items():
        if value and st.query_params.get(key) != value:
            st.query_params[key] = value
        elif not value and key in st.query_params:
            del st.query_params[key]


def _draw_pickers(recordings: list[Trace], page: str) -> None:
    selection = chosen()
    windows, devices = {"": WHOLE}, dict[int, str]()
    counters, iterations = dict[str, str](), dict[str, str]()
    if page in WITH_COUNTERS:
        counters = counters_choices(selection.trace_id, recordings)
        if selection.counters and not counters:  # the way back from an address that is no use
            counters = {"": NO_COUNTERS}
    with contextlib.suppress(TraceError, WindowError, OSError):  # the page says what is wrong
        if page in WITH_ITERATIONS:
            iterations = iteration_choices(selection.trace_id)
        windows = _windows(selection)
        if page in WITH_DEVICE:
            devices = device_choices(load(selection.trace_id, "").report)
    further = [
        *([partial(_draw_iterations_picker, iterations)] if iterations else []),
        *([partial(_draw_device_picker, devices)] if devices else []),
        *([partial(_draw_counters_picker, counters)] if counters else []),
    ]
    widths = [4, *[3] * (1 + len(further))] if further else [5, 4]
    first, second, *others = st.columns(widths, gap="small")
    with first:
        _draw_recording_picker(recordings, selection)
    with second:
        _draw_window_picker(windows, selection)
    for column, picker in zip(others, further, strict=True):
        with column:
            picker(selection)


def _windows(selection: Selection) -> dict[str, str]:
    """Return the windows to choose from, by the iterations that were chosen.

    Raises:
        TraceError: The recording is gone or damaged.
        WindowError: It has no such iterations.
    """
    choice = parse_request(selection.window).iterations
    windows = {
        request_text(window, choice): label
        for window, label in window_choices(selection.trace_id).items()
        if not choice or not window.startswith("iteration:")
    }
    windows |= requested_iterations(selection.trace_id, selection.window)
    if selection.window not in windows:
        windows[selection.window] = window_label(selection.trace_id, selection.window)
    return windows


def _draw_recording_picker(recordings: list[Trace], selection: Selection) -> None:
    labels = _recording_labels(recordings[:SHOWN_RECORDINGS])
    labels.setdefault(selection.trace_id, f"{visible(selection.trace_id, 20)} (not in the library)")
    st.session_state["pick_recording"] = selection.trace_id
    st.selectbox(
        "Recording",
        list(labels),
        format_func=lambda i: labels.get(i, i),
        key="pick_recording",
        on_change=_picked_recording,
        label_visibility="collapsed",
    )


def _recording_labels(recordings: list[Trace]) -> dict[str, str]:
    names = [visible(t.source.name, LABEL_LENGTH) for t in recordings]
    return {
        t.id: name if names.count(name) == 1 else f"{name} · {t.id[:6]}"
        for t, name in zip(recordings, names, strict=True)
    }


def _draw_window_picker(windows: dict[str, str], selection: Selection) -> None:
    windows.setdefault(selection.window, visible(selection.window, LABEL_LENGTH))
    st.session_state["pick_window"] = selection.window
    st.selectbox(
        "Window",
        list(windows),
        format_func=lambda w: windows.get(w, w),
        key="pick_window",
        on_change=_picked_window,
        accept_new_options=True,
        help="Type nvtx:NAME#3, iteration:12 or span:START-END (ns) for a window not listed; add "
        ";iterations=kernel:NAME, period:N, nvtx:NAME or none to say what an iteration is.",
        label_visibility="collapsed",
    )


def _draw_iterations_picker(choices: dict[str, str], selection: Selection) -> None:
    """Let the reader say what an iteration is; the choice is a part of the window's name."""
    choice = parse_request(selection.window).iterations
    labels = {**choices} if choice in choices else {**choices, choice: visible(choice, 40)}
    st.session_state["pick_iterations"] = choice
    st.selectbox(
        "Iterations",
        list(labels),
        format_func=lambda c: labels.get(c, c),
        key="pick_iterations",
        on_change=_picked_iterations,
        accept_new_options=True,
        help="What an iteration is. Type nvtx:NAME (every range of that name), kernel:NAME (each "
        "launch of that kernel begins one) or period:N (every N launches) for one not listed.",
        label_visibility="collapsed",
    )


def _draw_device_picker(devices: dict[int, str], selection: Selection) -> None:
    st.session_state["pick_device"] = selection.device if selection.device in devices else -1
    st.selectbox(
        "Device",
        list(devices),
        format_func=lambda d: devices[d],
        key="pick_device",
        on_change=_picked_device,
        label_visibility="collapsed",
    )


def _draw_counters_picker(counters: dict[str, str], selection: Selection) -> None:
    missing = f"{visible(selection.counters, 20)} (not in the library)"
    choices = (
        counters if selection.counters in counters else {**counters, selection.counters: missing}
    )
    st.session_state["pick_counters"] = selection.counters
    st.selectbox(
        "Counters",
        list(choices),
        format_func=lambda i: choices.get(i, i),
        key="pick_counters",
        on_change=_picked_counters,
        help="Nsight Compute counters of the same program, to look inside its kernels.",
        label_visibility="collapsed",
    )


def _picked_recording() -> None:
    _change(Selection(trace_id=str(st.session_state["pick_recording"])), keep=())


def _picked_window() -> None:
    old = chosen()
    window = str(st.session_state["pick_window"] or "")
    if CHOICE not in window:  # typed, say
        window = request_text(window, parse_request(old.window).iterations)
    _change(replace(old, window=window), keep=OF_RECORDING)


def _picked_iterations() -> None:
    old, choice = chosen(), str(st.session_state["pick_iterations"] or AUTO)
    _change(replace(old, window=with_choice(old.window, choice)), keep=OF_RECORDING)


def _picked_device() -> None:
    old, device = chosen(), int(st.session_state["pick_device"])
    _change(replace(old, device=device), keep=OF_WINDOW)


def _picked_counters() -> None:
    counters = str(st.session_state["pick_counters"] or "")
    _change(replace(chosen(), counters=counters), keep=OF_WINDOW)


def _change(selection: Selection, *, keep: tuple[str, ...]) -> None:
    """Show ``selection``; of what else the address says, ``keep`` still holds."""
    choose(selection)
    for key in set(st.query_params) - set(keep):
        del st.query_params[key]
    _write_address(selection)


main()
