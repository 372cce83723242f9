"""The choice of what is compared with what: two sides, a part of each iteration, a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import streamlit as st

from analyzers.facts.window_request import NONE, request_text
from collectors.errors import TraceError
from collectors.trace import Trace
from library import cache
from views.comparison.session import (
    ComparisonSelection,
    known_devices,
    windows_of,
    write_address,
)
from views.shared.markdown import Escaped
from views.shared.units import visible

PICKERS = (30, 7, 30, 20)  # widths
BASE_KEY, NEW_KEY = "compare_base", "compare_new"
PART_KEY, DEVICE_KEY = "compare_window", "compare_device"
NAME_ROOM = 60
LABEL_PX = 12  # above the button, which has no label: level with the boxes beside it


def draw_pickers(recordings: Sequence[Trace], selection: ComparisonSelection) -> None:
    """Let the reader choose both sides, the part and the device."""
    names = _labels(recordings)
    left, between, right, part = st.columns(PICKERS, gap="small")
    with left:
        _draw_side_picker(Escaped("Baseline"), BASE_KEY, names, selection.base)
    with right:
        _draw_side_picker(Escaped("New"), NEW_KEY, names, selection.new)
    with between:
        st.space(LABEL_PX)
        st.button(
            "Swap",
            key="compare_swap",
            on_click=_swap,
            args=(selection,),
            disabled=not selection.is_complete,
            width="stretch",
            help="Make the baseline the new side, and the new side the baseline.",
        )
    windows = {
        "": "Iterations as detected",
        **windows_of(selection),
        request_text("", NONE): "Whole windows, without iterations",
    }
    if selection.window:
        windows.setdefault(selection.window, visible(selection.window, NAME_ROOM))
    st.session_state[PART_KEY] = selection.window
    with part:
        st.selectbox(
            "Compared part",
            list(windows),
            format_func=lambda w: windows.get(w, w),
            key=PART_KEY,
            on_change=_picked,
            accept_new_options=True,
            help="Type nvtx:NAME for every range of that name, ;iterations=kernel:NAME or period:N "
            "to say what an iteration is, or any window that whyslow diagnose accepts.",
        )
        _draw_device_picker(selection)


def _swap(selection: ComparisonSelection) -> None:
    """Write both sides to the address, exchanged."""
    write_address(dataclasses.replace(selection, base=selection.new, new=selection.base))


def _picked() -> None:
    """Write what the reader picked to the address, from which the page is then drawn."""
    chosen = st.session_state
    write_address(
        ComparisonSelection(
            base=tuple(chosen[BASE_KEY]),
            new=tuple(chosen[NEW_KEY]),
            window=str(chosen[PART_KEY] or ""),
            device=int(chosen.get(DEVICE_KEY, -1)),
        )
    )


def _draw_side_picker(
    label: Escaped, key: str, names: dict[str, str], chosen: tuple[str, ...]
) -> None:
    options = [*names, *(i for i in chosen if i not in names)]
    st.session_state[key] = list(chosen)
    st.multiselect(
        label,
        options,
        format_func=lambda i: names.get(i) or _stranger(i),
        key=key,
        on_change=_picked,
        placeholder=f"{label}: choose recordings",
    )


def _stranger(trace_id: str) -> str:
    """Return what to call a recording that the address names and that is not offered."""
    try:
        name = cache.get(trace_id).source.name
    except (TraceError, OSError):
        return f"{visible(trace_id, 20)} (not in the library)"
    return f"{visible(name, NAME_ROOM)} (without a timeline)"


def _labels(recordings: Sequence[Trace]) -> dict[str, str]:
    names = [visible(t.source.name, NAME_ROOM) for t in recordings]
    return {
        t.id: name if names.count(name) == 1 else f"{name} · {t.id[:6]}"
        for t, name in zip(recordings, names, strict=True)
    }


def _draw_device_picker(selection: ComparisonSelection) -> None:
    devices = known_devices(selection)
    if len(devices) < 2:
        return
    st.session_state[DEVICE_KEY] = min(max(selection.device, 0), len(devices) - 1)
    st.selectbox(
        "Device",
        range(len(devices)),
        format_func=lambda number: visible(devices[number], NAME_ROOM),
        key=DEVICE_KEY,
        on_change=_picked,
        label_visibility="collapsed",
    )
