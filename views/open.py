"""Open a recording: by path, by upload, from a watched folder, or one of the samples."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analyzers.words import count_text, size_text
from collectors.trace import Trace
from library import cache
from library.inbox import uploaded_file
from views.components.upload import draw_upload
from views.components.watched import draw_watch
from views.shared.access import EDITORS_ONLY, Role, may_edit, role
from views.shared.jobs import begin, forget_refusal, refuse
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

SHOWN_RECENT = 8
SHOWN_NAME = 64
SYNTHETIC = "synthetic"  # in the names of samples that show GPU work; they come first


def page() -> None:
    """Draw the page."""
    st.header("Open a recording", anchor=False)
    if not may_edit():
        st.caption(EDITORS_ONLY)
        _draw_recent()
        return
    _draw_path_form()
    _draw_upload_field()
    left, right = st.columns(2, gap="large")
    with left:
        for root in roots():
            _draw_watched_folder(root)
        if roots():
            draw_watch("watched", listing_digest())
        _draw_recent()
        _draw_recording_hint()
    with right:
        _draw_samples()


def _draw_path_form() -> None:
    with st.form("by_path", border=False):
        left, right = st.columns([8, 1], vertical_alignment="bottom")
        left.text_input(
            "Path on the machine that runs whyslow",
            key="path",
            placeholder="/home/me/report.nsys-rep, report.sqlite or trace.json.gz",
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
            "No .nsys-rep, .ncu-rep, .sqlite or .json file here yet; new files appear "
            "automatically."
        )
    _draw_recordings(files, {})
    if len(files) > SHOWN_FILES:
        st.caption(f"The newest {SHOWN_FILES} of {len(files):,}.")


def _draw_samples() -> None:
    files = recordings(SAMPLES)
    if not files:
        return
    words = sample_words()
    st.markdown("**Samples**")
    st.caption("Samples called synthetic were generated without a GPU, each to show one verdict.")
    order = {name: position for position, name in enumerate(words)}
    _draw_recordings(
        sorted(
            files,
            key=lambda p: (
                SYNTHETIC not in p.relative_name,
                order.get(p.relative_name, len(order)),
            ),
        ),
        words,
    )


def _draw_recordings(files: Sequence[RecordingFile], words: dict[str, str]) -> None:
    for file in files[:SHOWN_FILES]:
        about = words.get(file.relative_name) or f"changed {_ago(file.changed_s)}"
        name = _short_digest(str(file.path))  # the browser reads the keys of widgets
        with _draw_row(file.relative_name, f"{size_text(file.size_bytes)} · {about}", name):
            st.button("Open", key=f"open {name}", on_click=begin, args=(file.path,))


def _draw_row(name: str, about: str, key: str) -> DeltaGenerator:
    """Draw one recording of a list; return the place for what can be done with it."""
    box = st.container(key=f"listing {key}")
    left, right = box.columns([7, 1], vertical_alignment="center", gap="small")
    left.markdown(f"{md_escape(visible(name, SHOWN_NAME))}  \n:small[:gray[{md_escape(about)}]]")
    return right


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def _ago(moment_s: float) -> str:
    age_s = time.time() - moment_s
    for length_s, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if age_s >= length_s:
            count = int(age_s // length_s)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def _draw_recent() -> None:
    st.markdown("**Recently opened**")
    traces = cache.traces()[:SHOWN_RECENT]
    if not traces:
        st.caption("Nothing yet. Open a sample to see an answer in a second.")
    for trace in traces:
        size = size_text(max(trace.source.size_bytes, 0))
        about = f"{size} · {_launches(trace)}"
        with _draw_row(trace.source.name, about, f"recent {trace.id}"):
            st.page_link("overview.py", label="Show", query_params={"trace": trace.id})


def _launches(trace: Trace) -> str:
    if trace.has("profiled_kernels"):
        return count_text(trace.count("profiled_kernels"), "profiled launch")
    return count_text(trace.count("kernels"), "kernel launch")


def _draw_recording_hint() -> None:
    st.markdown("**Record your own program**")
    st.code("nsys profile -t cuda,nvtx,osrt -o report your_program", language=None)
    st.caption(
        "Mark the steps of your loop with NVTX ranges and whyslow compares its iterations. "
        "Torch profiler traces work too; the profiler's step() marks the steps."
    )


page()
