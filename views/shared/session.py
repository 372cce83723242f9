"""What the reader looks at: one window of one recording, the same on every page.

The address of the page names it (``?trace=…&window=…&counters=…``), so that a link reopens it; the
session keeps it while the reader walks from page to page. Everything heavy is cached here, shared
by all readers, and never copied.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from analyzers.facts.facts import WindowError
from analyzers.finding import Evidence, Finding
from analyzers.report import Report
from collectors.errors import TraceError
from collectors.trace import Trace
from jobs.api import begin_timeline, stored_analysis
from library import analyses, cache
from library.analyses import StoredAnalysis
from library.sidecars import telemetry_folder
from reports.commands import spoken
from timeline.index import Index
from timeline.places import has_timeline
from timeline.store import indexes_if_made
from timeline.telemetry import telemetry_index
from timeline.view import Timeline
from views.shared.devices import device_labels
from views.shared.markdown import md_escape, md_prose
from views.shared.server_paths import trouble, without_server_paths

SELECTION = "selection"
KEPT_SESSIONS = 8  # windows whose tables stay in memory
KEPT_TIMELINES = 16  # files that are mapped, not read
KEPT_JOBS = 64


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the address names.

    Attributes:
        trace_id: The recording; empty when there is none.
        window: Part of it, as ``analyzers.analyze`` takes it.
        device: Key of the ledger device, -1 for all.
        counters: The recording whose counters are joined; empty for none.
    """

    trace_id: str = ""
    window: str = ""
    device: int = -1
    counters: str = ""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One window of one recording, ready to be drawn. Its tables are shared: read only.

    Attributes:
        trace: The recording.
        stored: What the analysis says about the window.
        window: The window as the address names it.
        device: Key of the chosen device, -1 for all.
        counters: Id of the recording whose counters are joined; empty for none.
    """

    trace: Trace
    stored: StoredAnalysis
    window: str = ""
    device: int = -1
    counters: str = ""

    @property
    def address(self) -> dict[str, str]:
        """What every link to a page about this window names."""
        named = {"trace": self.trace.id, "window": self.window, "counters": self.counters}
        return {key: value for key, value in named.items() if value}

    @property
    def report(self) -> Report:
        """Everything the analysis says."""
        return self.stored.report

    def kernels(self) -> pd.DataFrame:
        """Return one row per kernel name, counting the whole recording on all devices."""
        return _table(self.stored.folder, "kernels")

    def counted(self) -> pd.DataFrame:
        """Return what counters say about each kernel name; without counters no rows."""
        return _table(self.stored.folder, "counted")

    def regions(self) -> pd.DataFrame:
        """Return the ledger by region of the program, on all devices."""
        return _table(self.stored.folder, "regions")

    def work(self) -> pd.DataFrame:
        """Return the kernel time by operator and inputs, on all devices; may have no columns."""
        return _table(self.stored.folder, "work")

    def work_kernels(self) -> pd.DataFrame:
        """Return what each kernel has of each row of ``work``."""
        return _table(self.stored.folder, "work_kernels")

    def launches(self) -> pd.DataFrame:
        """Return one row per GPU operation, of the chosen device."""
        frame = _table(self.stored.folder, "launches")
        return frame if self.device < 0 else frame[(frame["device"] == self.device).to_numpy()]

    def segments(self) -> pd.DataFrame:
        """Return the ledger, one row per stretch of a device's time."""
        return _table(self.stored.folder, "segments")

    def timeline(self) -> Timeline:
        """Return the lanes of the timeline, of the chosen device."""
        return timeline(self.trace.id, self.window, self.device, self.counters)


def finding_places(finding: Finding) -> list[Evidence]:
    """Return the stretches of the timeline that show a finding, each once."""
    places: dict[tuple[int, int], Evidence] = {}
    for evidence in finding.evidence:
        if evidence.start_ns >= 0:
            places.setdefault((evidence.start_ns, evidence.end_ns), evidence)
    return list(places.values())


def parse_span(text: str) -> tuple[int, int] | None:
    """Return the two moments of ``START-END`` in an address, on the recording's clock."""
    match = re.fullmatch(r"(-?\d{1,19})-(-?\d{1,19})", text)
    if not match or int(match[1]) > int(match[2]):
        return None
    return int(match[1]), int(match[2])


def zero_ns(trace_id: str) -> int:
    """Return the moment that every timeline of the recording counts from.

    Raises:
        TraceError: The recording is gone or damaged.
    """
    return int(_recording_index(trace_id).meta["origin_ns"])


def choose(selection: Selection) -> None:
    """Make ``selection`` what every page shows."""
    st.session_state[SELECTION] = selection


def chosen() -> Selection:
    """Return what the pages show."""
    selection = st.session_state.get(SELECTION)
    return selection if isinstance(selection, Selection) else Selection()


def current() -> Session | None:
    """Return what the reader looks at, or None after telling what to do instead."""
    selection = chosen()
    if not selection.trace_id:
        draw_no_recording()
        return None
    try:
        session = load(selection.trace_id, selection.window, selection.counters)
    except (WindowError, TraceError, OSError) as error:
        draw_trouble(trouble(error), other_window=isinstance(error, WindowError))
        return None
    return Session(
        trace=session.trace,
        stored=session.stored,
        window=session.window,
        device=selection.device,
        counters=session.counters,
    )


def draw_trouble(line: str, *, other_window: bool) -> None:
    """Show why there is no answer, and the way out: ``other_window``, or another recording."""
    draw_error(line)
    if other_window:
        st.caption("Choose another window above.")
    else:
        st.page_link("open.py", label="Open a recording")


def load(trace_id: str, window: str, counters: str = "") -> Session:
    """Return the analysis of one window, making it when it is not stored yet.

    Args:
        trace_id: The recording.
        window: As ``analyzers.analyze`` takes it.
        counters: The recording whose counters are joined; empty for none.

    Raises:
        TraceError: A recording is gone, damaged, or cannot be joined.
        WindowError: It has no such window.
    """
    trace = cache.get(trace_id)
    stored = analyses.load(trace, window, counters)
    if stored is None or not has_timeline(stored):
        with st.spinner("Analysing this window …"):
            stored = stored_analysis(begin_timeline(trace, window, counters))
    return Session(trace=trace, stored=stored, window=window, counters=counters)


def draw_no_recording() -> None:
    """Say what to do when nothing was opened yet."""
    st.header("No recording yet", anchor=False)
    st.write(
        "To look around first, open one of the samples in `traces/`: each shows one cause "
        "and opens in a second."
    )
    st.page_link("open.py", label="Open a sample or your own recording")
    st.write("To record your program:")
    st.code("nsys profile -t cuda,nvtx,osrt -o report your_program", language=None)


def draw_error(line: str) -> None:
    """Show one line of trouble as plain text."""
    st.error(md_escape(without_server_paths(line)))


def draw_prose(sentence: str) -> None:
    """Show a sentence of the analysis; what it quotes stays text, and commands stand below it."""
    parts = spoken(sentence)
    st.markdown(md_prose(parts.text))
    for command in parts.commands:
        st.code(command, language=None)


@st.cache_resource(max_entries=KEPT_SESSIONS * 2, show_spinner=False)
def _table(folder: Path, name: str) -> pd.DataFrame:
    frame: pd.DataFrame = getattr(StoredAnalysis(folder), name)()
    return frame


def digest(name: str) -> str:
    """Return what stands for a kernel's name in an address; names can be thousands long."""
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]


def timeline(trace_id: str, window: str, device: int, counters: str = "") -> Timeline:
    """Return the timeline of one window; shared by the page and the route that feeds the canvas.

    Args:
        trace_id: The recording.
        window: As ``analyzers.analyze`` takes it.
        device: Key of the ledger device, -1 for all.
        counters: The recording whose counters are joined; empty for none.

    Raises:
        TraceError: The recording is gone or damaged.
        WindowError: It has no such window.
        OSError: The disk cannot be read, or written.
    """
    if not cache.is_known(trace_id):  # deleted: what is still mapped must not answer
        cache.get(trace_id)
    # Telemetry may arrive after the recording was looked at for the first time.
    sampled = telemetry_folder(cache.cache_root() / trace_id).is_dir()
    return _timeline(trace_id, window, device, counters, sampled)


@st.cache_resource(max_entries=KEPT_TIMELINES, show_spinner=False)
def _timeline(trace_id: str, window: str, device: int, counters: str, sampled: bool) -> Timeline:
    session = load(trace_id, window, counters)
    recording, window_lanes = _indexes(session)
    report = session.report
    labels = device_labels(report.devices)
    devices = {d.key: labels[d.key] for d in report.devices if device in (-1, d.key)}
    telemetry = telemetry_index(session.trace) if sampled else None
    return Timeline(recording, window_lanes, devices, telemetry)


@st.cache_resource(max_entries=KEPT_TIMELINES, show_spinner=False)
def _recording_index(trace_id: str) -> Index:
    return _indexes(load(trace_id, ""))[0]


def _indexes(session: Session) -> tuple[Index, Index]:
    """Return the indexes of recording and window; where they are damaged, a child makes them."""
    made = indexes_if_made(session.trace, session.stored)
    if made is None:
        job = begin_timeline(session.trace, session.window, session.counters)
        made = indexes_if_made(session.trace, stored_analysis(job))
    if made is None:
        raise TraceError(f"{session.trace.source.name}: the timeline's index could not be made")
    return made


def timeline_is_made(trace_id: str, window: str, counters: str = "") -> bool:
    """Tell whether ``timeline`` can answer without anything being computed first.

    Raises:
        TraceError: The recording is gone or damaged.
    """
    stored = analyses.load(cache.get(trace_id), window, counters)
    return stored is not None and has_timeline(stored)
