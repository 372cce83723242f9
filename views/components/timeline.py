"""The timeline's canvas: its Python face."""

from __future__ import annotations

from typing import Any, NamedTuple

import streamlit as st

from analyzers.ledger import ROWS
from views._lanes import PALETTE, Lanes
from views._routes import api_path, mint_token
from views.components import source

HTML = """<div class="timeline">
  <div class="bar">
    <button class="in" title="Zoom in (W, or the wheel)">Zoom in</button>
    <button class="out" title="Zoom out (S, or the wheel)">Zoom out</button>
    <button class="window">Analysed window</button>
    <button class="all" title="From the first event to the last (0)">All recorded</button>
    <button class="mark">Finding</button>
    <span class="status" aria-live="polite"></span>
  </div>
  <canvas tabindex="0" role="img"></canvas>
  <div class="legend"></div>
  <div class="tip"></div>
</div>"""

COLOR_WORDS = (*(row.value for row in ROWS), "other call", "NVTX range", "OS runtime call")

_component = st.components.v2.component(
    "whyslow.timeline", html=HTML, css=source("timeline.css"), js=source("timeline.js")
)


class Picked(NamedTuple):
    """An event: its lane, begin and end, in ns since ``Lanes.origin_ns``."""

    lane: int
    start: int
    end: int


class Shown(NamedTuple):
    """What the reader did with the timeline.

    Attributes:
        view: Begin and end of what is in view, in ns since ``Lanes.origin_ns``; None before the
            first move.
        pick: Lane and moment of the event that was clicked in this very run, else None.
    """

    view: tuple[int, int] | None
    pick: tuple[int, int] | None


def timeline(  # noqa: PLR0913 - the canvas needs all of it, by name
    lanes: Lanes,
    *,
    query: dict[str, str],
    view: tuple[int, int],
    view_key: str,
    window: tuple[int, int],
    mark: tuple[int, int] | None,
    picked: Picked | None,
    selected: int,
    key: str,
) -> Shown:
    """Draw ``lanes`` and return what the reader did.

    Args:
        lanes: What there is to draw; the canvas fetches it view by view.
        query: Names the lanes to the route that serves them.
        view: What to show first, in ns since ``lanes.origin_ns``.
        view_key: The canvas jumps to ``view`` whenever this changes, and only then.
        window: The analysed window; what is outside is shaded.
        mark: A stretch to point at.
        picked: The event to outline first; the canvas outlines what is clicked from then on.
        selected: Number of the kernel name to outline, -1 for none.
        key: Widget key.
    """
    result = _component(
        key=key,
        data={
            "url": api_path("timeline"),
            "token": mint_token("timeline"),
            "query": query,
            "duration": lanes.duration_ns,
            "lanes": [
                {"group": lane.group, "label": lane.label, "stacked": lane.stacked}
                for lane in lanes.lanes
            ],
            "lanes_key": " ".join(query.values()),
            "palette": PALETTE,
            "colors": COLOR_WORDS,
            "legend": lanes.colors,
            "view": view,
            "view_key": view_key,
            "window_span": window,
            "mark": mark,
            "picked": picked,
            "selected": selected,
            "summary": f"Timeline with {len(lanes.lanes)} lanes. Keys W, A, S, D zoom and move.",
        },
        on_view_change=lambda: None,
        on_pick_change=lambda: None,
    )
    return Shown(_viewed(result.get("view"), view_key), _picked(result.get("pick")))


def _viewed(value: Any, view_key: str) -> tuple[int, int] | None:
    # What is left from another recording, or from before a jump, is not what is in view now.
    if not value or value["key"] != view_key:
        return None
    start, end = value["at"]
    return int(start), int(end)


def _picked(value: Any) -> tuple[int, int] | None:
    if not value:
        return None
    return int(value["lane"]), int(value["time"])
