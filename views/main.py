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
from views.shared.session import Selection, choose, chosen, load
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
    recordings = cache.traces()
    _adopt_address(recordings)
    if recordings and page.url_path not in WITHOUT_PICKERS:
        _draw_pickers(recordings, page.url_path or ORDER[0])
    try:
        page.run()
    except Exception:  # a defect of ours; the reader gets a line, the log the rest
        number = uuid.uuid4().hex[:8]
        LOG.exception("page %s failed (%s)", page.url_path or ORDER[0], number)
        st.error(
            f"This page failed because of a defect in whyslow; see {number} in the server log."
        )


def _beside(name: str) -> Path:
    return Path(__file__).parent / name


def _pages() -> list[st.Page]:
    stems = [f.stem for f in _beside("").glob("[!_]*.py") if f.stem != Path(__file__).stem]
    if not may_edit():
        stems = [stem for stem in stems if stem not in EDITORS_PAGES]
    place = {name: number for number, name in enumerate(ORDER)}
    place[LAST] = len(stems) + len(ORDER)
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
