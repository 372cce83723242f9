"""Which recording of an archive is meant: asked where the archive was opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from analyzers.words import count_text
from common.files import file_holding
from views.shared.markdown import md_escape
from views.shared.units import visible

SHOWN_NAME = 120
_CHOICE = "archive_member"


def draw_archive_members(members: Sequence[Path], open_member: Callable[[Path], None]) -> None:
    """Draw the choice among the recordings in an archive.

    Args:
        members: Their paths, each of which goes on behind that of the archive.
        open_member: Begins to open the one that was chosen.
    """
    archive = file_holding(members[0])
    names = [visible(str(m.relative_to(archive)), SHOWN_NAME) for m in members]
    with st.container(border=True):
        name, count = md_escape(visible(archive.name, 64)), count_text(len(members), "recording")
        st.markdown(f"**{name}** holds {count}. Which one do you want to open?")
        st.selectbox(
            "Recording",
            range(len(members)),
            format_func=lambda n: names[n],  # of this widget only, plain text
            key=_CHOICE,
            label_visibility="collapsed",
        )
        st.button(
            "Open this one",
            type="primary",
            key="open_archive_member",
            on_click=lambda: open_member(members[st.session_state[_CHOICE]]),
        )
