"""The way of a recording, drawn: the same box wherever a recording comes from.

A run of the page draws the box, waits, and goes on to draw the answer: nothing is drawn anew by a
timer. A timer of Streamlit's that fires while the page changes names the page that was left, at
which the browser drops whatever the new one shows.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from collectors import input_file
from collectors.errors import RefusedError, TraceError
from views.shared.access import EDITORS_ONLY, Role, may_edit, role
from views.shared.markdown import md_escape
from views.shared.opening import OpeningState, Stage, Ways
from views.shared.places import openable
from views.shared.server_paths import without_server_paths
from views.shared.style import draw_progress, draw_waiting
from views.shared.units import visible

WAYS = Ways()
WAY = "job"  # what the address calls the id of a way
READER = "reader"  # what the session calls the one who looks at it
LOOK_AGAIN_S = 0.1
PATIENCE_S = 1.0  # before there is a button; most recordings need less
SHOWN_NAME = 80
SHOWN_WAY = (Stage.ASKED, Stage.READING, Stage.ANALYSING, Stage.VERDICT)
DRAWN = "Drawing the answer"


def begin(path: Path) -> None:
    """Begin to open the recording at ``path``; the next run of the page follows its way."""
    try:
        way = WAYS.open(checked_path(path))
    except TraceError as error:
        way = WAYS.refuse(str(error), path.name)
    _go(way)


def checked_path(path: Path) -> Path:
    """Return ``path`` as it may be opened by whoever reads this page.

    Raises:
        RefusedError: There is no such file, or the reader may not open it.
    """
    if not may_edit():
        raise RefusedError(f"{input_file.shown_name(path)}: {EDITORS_ONLY}")
    return openable(path, anywhere=role() is Role.OWNER)


def refuse(line: str) -> None:
    """Make ``line`` the answer to what the reader asked for last."""
    _go(WAYS.refuse(line))


def _go(way: str) -> None:
    st.query_params.from_dict({WAY: way})


def forget_refusal() -> None:
    """Let a refusal make room for what is being submitted now."""
    way = st.query_params.get(WAY, "")
    if way and WAYS.state(way).stage is Stage.REFUSED:
        del st.query_params[WAY]


def this_reader() -> str:
    """Return what tells this reader's session from others, as ``Ways`` takes it."""
    return str(st.session_state.setdefault(READER, uuid.uuid4().hex))


def _may_stop(way: str) -> bool:
    """Tell whether this reader may end a way that others perhaps wait for, too."""
    return may_edit() or WAYS.is_begun_by(way, this_reader())


def _stop(way: str) -> None:
    if _may_stop(way):
        WAYS.stop(way)


class StatusPlace:
    """The place at the top of every page for what stands between the reader and the answer.

    It belongs to the frame: what a page draws, the browser drops as soon as another is chosen.
    """

    def __init__(self) -> None:
        # What the container held before stays until it is drawn over, or the run ends: an empty
        # element would take it away first, and a slow browser would show that.
        self._frame = st.container()
        self._status = self._frame
        self._button: DeltaGenerator | None = None

    def follow(self, way: str) -> OpeningState:
        """Draw a way until it has ended, and return how; its last step stays."""
        button_at = time.monotonic() + PATIENCE_S
        while not (state := WAYS.state(way)).stage.is_last:
            self.draw(state)
            if self._button is None and time.monotonic() > button_at and _may_stop(way):
                self._button = self._frame.empty()
                self._button.button("Stop", key="stop_way", on_click=_stop, args=(way,))
            time.sleep(LOOK_AGAIN_S)
        if self._button is not None:
            self._button.empty()
        if WAYS.members_to_choose(way):  # page Open asks which; that is no trouble
            self.clear()
        else:
            self.draw(state)
        return state

    def draw(self, state: OpeningState) -> None:
        """Draw where a recording is at this moment; a refusal is one line."""
        if state.stage is Stage.REFUSED:
            self._status = self._status.error(md_escape(without_server_paths(state.words)))
            return
        self._status = draw_progress(
            self._status,
            title=f"Opening {visible(state.name, SHOWN_NAME) or 'a recording'}",
            way=[(step.value, step is state.stage) for step in SHOWN_WAY],
            fraction=state.fraction,
            doing=DRAWN if state.stage is Stage.VERDICT else visible(state.words),
        )

    def draw_change(self, page: str) -> None:
        """Say that a page of ours is on its way, for whom it takes long to come."""
        self._status = draw_waiting(self._status, f"{page} …")

    def clear(self) -> None:
        """Take away what is there, once there is something better to look at."""
        if self._status is not self._frame:
            self._status.empty()
