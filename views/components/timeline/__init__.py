"""The timeline's canvas: its Python face."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from collectors.errors import TraceError
from timeline.colors import COLORS
from timeline.query import FORMS
from views.charts.ledger import PALETTE
from views.server.tokens import api_path, mint_token
from views.shared.server_paths import trouble

_FOLDER = Path(__file__).parent

# The scripts are one module, cut into files by what they do.
_component = st.components.v2.component(
    "whyslow.timeline",
    html=(_FOLDER / "timeline.html").read_text(encoding="utf-8"),
    css=(_FOLDER / "timeline.css").read_text(encoding="utf-8"),
    js="\n".join(f.read_text(encoding="utf-8") for f in sorted(_FOLDER.glob("*.js"))),
)

Span = tuple[int, int]

MAX_NOTES, MAX_NOTE = 20, 80  # marks, and characters of each: they live in the page's address


@dataclass(frozen=True, kw_only=True)
class CanvasRecording:
    """One recording on the canvas; times are ns since its first event.

    Attributes:
        query: Names its timeline to the route that serves it.
        name: What to call it.
        window: The analysed window; what is outside is shaded.
        mark: A stretch to point at.
        offset_ns: How much later a moment is on its clock than on the axis.
    """

    query: Mapping[str, str]
    name: str
    window: Span
    mark: Span | None = None
    offset_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Which of its repetitions two recordings are aligned by."""

    chosen: int
    choices: int

    def to_dict(self) -> dict[str, Any]:
        """Return it in the canvas's words."""
        label = f"Iteration {self.chosen + 1} of {self.choices}"
        return {"chosen": self.chosen, "choices": self.choices, "label": label}


class CanvasEvent(NamedTuple):
    """An event: which recording on the canvas, and its number there."""

    recording: int
    event: int


class Note(NamedTuple):
    """A moment or a stretch that the reader marked.

    Attributes:
        start: Begin, ns.
        end: End, ns; the begin of one that marks a moment.
        text: What the reader wrote about it; may be empty.
    """

    start: int
    end: int
    text: str


class CanvasInput(NamedTuple):
    """What the reader did with the timeline.

    Attributes:
        view: Begin and end of what is in view, in ns since the upper recording's first event;
            None before the first move.
        find: What is searched for; None before anything was typed.
        pick: Event that is selected, its number negative where none is; None before any was.
        analyse: Recording and stretch that is to be analysed.
        align: Repetition to align by.
        notes: What the reader marked, in ns since the upper recording's first event; None before
            anything changed.
    """

    view: Span | None = None
    find: str | None = None
    pick: CanvasEvent | None = None
    analyse: tuple[int, Span] | None = None
    align: int | None = None
    notes: tuple[Note, ...] | None = None


def draw_timeline(  # noqa: PLR0913 - the canvas needs all of it, by name
    recordings: Sequence[CanvasRecording],
    *,
    view: Span,
    view_key: str,
    find: str,
    picked: CanvasEvent | None,
    align: Alignment | None,
    answer: Callable[[Mapping[str, str]], bytes],
    key: str,
    notes: Sequence[Note] = (),
    whole_page: bool = False,
) -> CanvasInput:
    """Draw one recording, or two below each other, and return what the reader did.

    Args:
        recordings: What to draw; the canvas fetches it view by view.
        view: What to show first, in ns since the upper recording's first event.
        view_key: The canvas takes ``view``, ``find``, ``picked`` and ``notes`` over whenever this
            changes, and only then.
        find: Text to search for.
        picked: The event to outline first.
        align: What two recordings are aligned by.
        answer: Answers a question when the route cannot be reached; raises ``ValueError``.
        key: Widget key.
        notes: What the reader marked before.
        whole_page: Whether it fills the window, and keeps marks; else it is a part of a page.
    """
    number, body = _answered(st.session_state.get(key), answer)
    setup = {
        "url": api_path("timeline"),
        "token": mint_token("timeline"),
        "recordings": [_recording_setup(recording) for recording in recordings],
        "view": view,
        "view_key": view_key,
        "find": find,
        "find_key": view_key,
        "picked": picked._asdict() if picked else None,
        "picked_key": view_key,
        "notes": notes,
        "forms": FORMS,
        "most_notes": [MAX_NOTES if whole_page else 0, MAX_NOTE],
        "whole_page": whole_page,
        "align": align.to_dict() if align else None,
        "palette": PALETTE,
        "colors": COLORS,
        "answer_to": number,
    }
    result = _component(
        key=key,
        data=_packed(setup) + body,
        on_view_change=lambda: None,
        on_find_change=lambda: None,
        on_ask_change=lambda: None,
        on_pick_change=lambda: None,
        on_analyse_change=lambda: None,
        on_align_change=lambda: None,
        on_notes_change=lambda: None,
    )
    return _input_of(result, view_key, len(recordings))


def _recording_setup(recording: CanvasRecording) -> dict[str, Any]:
    return {
        "query": dict(recording.query),
        "key": " ".join(recording.query.values()),
        "name": recording.name,
        "window": recording.window,
        "mark": recording.mark,
        "offset": recording.offset_ns,
    }


def _packed(setup: Mapping[str, Any]) -> bytes:
    text = json.dumps(setup, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)  # what follows begins where an answer's columns can
    return struct.pack("<I", len(text)) + text


def _answered(state: Any, answer: Callable[[Mapping[str, str]], bytes]) -> tuple[int | None, bytes]:
    """Answer what the canvas asked through the page, because it could not reach the route."""
    question = state.get("ask") if state else None
    if not question:
        return None, b""
    query = {str(k): str(v) for k, v in dict(question["query"]).items()}
    try:
        return int(question["n"]), answer(query)
    except (ValueError, TraceError, OSError) as error:
        return int(question["n"]), json.dumps({"error": trouble(error)}).encode()


def _input_of(result: Any, view_key: str, recordings: int) -> CanvasInput:
    """Turn what the browser says into values; what makes no sense is not there."""
    # What is left from another recording, or from before a jump, is not what is in view now.
    states = {name: result.get(name) for name in ("view", "find", "pick", "notes")}
    view, find, pick, notes = (
        state if state and state.get("key") == view_key else None for state in states.values()
    )
    analyse, align = result.get("analyse"), result.get("align")
    if pick and not 0 <= int(pick["recording"]) < recordings:
        pick = None
    return CanvasInput(
        view=(int(view["at"][0]), int(view["at"][1])) if view else None,
        find=str(find["text"]) if find else None,
        pick=CanvasEvent(int(pick["recording"]), int(pick["event"])) if pick else None,
        analyse=(int(analyse["recording"]), (int(analyse["span"][0]), int(analyse["span"][1])))
        if analyse
        else None,
        align=int(align) if align is not None else None,
        notes=_notes_of(notes["list"]) if notes else None,
    )


def _notes_of(values: Sequence[Sequence[Any]]) -> tuple[Note, ...]:
    notes = (Note(int(start), int(end), str(text)[:MAX_NOTE]) for start, end, text in values)
    return tuple(notes)[:MAX_NOTES]
