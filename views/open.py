"""Open a recording: by path, by upload, from a watched folder, or one of the samples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from analyzers.words import size_text
from collectors import all_suffixes
from library import cache
from library.inbox import uploaded_file
from views.components.upload import draw_upload
from views.components.watched import draw_watch
from views.parts.archive_members import draw_archive_members
from views.parts.home import ago, draw_cards, draw_opened_before, draw_record_commands
from views.shared.access import EDITORS_ONLY, Role, may_edit, role
from views.shared.jobs import WAY, WAYS, begin, forget_refusal, refuse
from views.shared.markdown import md_escape
from views.shared.places import (
    ROOTS_VARIABLE,
    SAMPLES,
    SHOWN_FILES,
    RecordingFile,
    listing_digest,
    recordings,
    roots,
    sample_words,
    typed_path,
)
from views.shared.units import visible

SHOWN_NAME = 64
TITLE = "Why is your GPU program slow?"
WHAT_IT_DOES = (
    "whyslow reads a recording of Nsight Systems, Nsight Compute or the PyTorch profiler, books "
    "every nanosecond of the GPU to one cause, and says what to change first."
)
SYNTHETIC = "synthetic"  # in the names of samples that show GPU work; they come first


def page() -> None:
    """Draw the page; somebody new sees samples first, others what they had open."""
    library_traces = cache.traces()
    st.header("Open a recording" if library_traces else TITLE, anchor=False)
    if not library_traces:
        st.write(WHAT_IT_DOES)
    if not may_edit():
        st.caption(EDITORS_ONLY)
        draw_opened_before(library_traces)
        return
    if members := WAYS.members_to_choose(st.query_params.get(WAY, "")):
        draw_archive_members(members, begin)
    _draw_upload_field()
    _draw_path_form()
    if not library_traces:
        draw_cards(begin)
    left, right = st.columns(2, gap="large")
    with left:
        # Before the folders are listed: what comes while they are is noticed at the next look.
        listing = listing_digest()
        for root in roots():
            _draw_watched_folder(root)
        if roots():
            draw_watch("watched", listing)
        if library_traces:
            draw_opened_before(library_traces)
        draw_record_commands()
    with right:
        _draw_samples()


def _draw_path_form() -> None:
    with st.form("by_path", border=False):
        left, right = st.columns([8, 1], vertical_alignment="bottom")
        left.text_input(
            "Path on the machine that runs whyslow",
            key="path",
            placeholder="/home/me/report.nsys-rep",
        )
        right.form_submit_button("Open", type="primary", width="stretch", on_click=_open_typed)


def _open_typed() -> None:
    if text := str(st.session_state.get("path") or ""):
        begin(typed_path(text))


def _draw_upload_field() -> None:
    outcome = draw_upload("upload", on_begin=forget_refusal)
    if not outcome.refused and not outcome.key:
        return
    path = uploaded_file(outcome.key) if outcome.key else None
    if path is not None:
        begin(path)
    else:
        refuse(outcome.refused or "The upload no longer exists; upload the file again.")
    st.rerun()


def _draw_watched_folder(root: Path) -> None:
    st.markdown(f"**{md_escape(root.name)}**")
    files = recordings(root, anywhere=role() is Role.OWNER) if root.is_dir() else []
    if not root.is_dir():
        st.caption(f"This folder, listed in {ROOTS_VARIABLE}, does not exist.")
    elif not files:
        st.caption(
            f"No recording ({md_escape(', '.join(all_suffixes()))}) here yet; new files appear "
            "automatically."
        )
    _draw_recordings(files)
    if len(files) > SHOWN_FILES:
        st.caption(f"The newest {SHOWN_FILES} of {len(files):,}.")


def _draw_samples() -> None:
    """List the samples by the problem that each shows."""
    files = recordings(SAMPLES)
    if not files:
        return
    words = sample_words()
    st.markdown("**Samples**")
    st.caption("Samples called synthetic were generated without a GPU, each to show one verdict.")
    order = {name: position for position, name in enumerate(words)}
    files.sort(
        key=lambda f: (SYNTHETIC not in f.relative_name, order.get(f.relative_name, len(order)))
    )
    for file in files[:SHOWN_FILES]:
        title = words.get(file.relative_name, "")
        about = f"{file.path.name} · {size_text(file.size_bytes)}"
        _draw_file(file, title[:1].upper() + title[1:] or file.path.name, about)


def _draw_recordings(files: Sequence[RecordingFile]) -> None:
    for file in files[:SHOWN_FILES]:
        about = f"{size_text(file.size_bytes)} · changed {ago(file.changed_s)}"
        _draw_file(file, visible(file.relative_name, SHOWN_NAME), about)


def _draw_file(file: RecordingFile, title: str, about: str) -> None:
    """Draw one recording of a list, with the button that opens it."""
    key = _short_digest(str(file.path))  # the browser reads the keys of widgets
    with st.container(key=f"listing {key}"):
        left, right = st.columns([7, 1], vertical_alignment="center", gap="small")
        left.markdown(f"{md_escape(title)}  \n:small[:gray[{md_escape(about)}]]")
        right.button("Open", key=f"open {key}", on_click=begin, args=(file.path,))


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


page()
