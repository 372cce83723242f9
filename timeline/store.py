"""Where the timeline's indexes lie, and how they are made."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analyzers.facts.extent import first_event_ns
from analyzers.facts.facts import Facts, build_facts
from collectors.trace import Trace
from common.files import replacing_folder
from library.cache import job_running
from timeline.index import Index, IndexDamagedError, is_intact
from timeline.index_writer import IndexWriter
from timeline.places import recording_index_folder, window_index_folder
from timeline.recording_lanes import write_recording
from timeline.window_lanes import write_window

if TYPE_CHECKING:
    from analyzers.analysis import Analysis
    from analyzers.report import Report
    from library.analyses import StoredAnalysis


def recording_index(trace: Trace) -> Index:
    """Return the index of what devices and threads did; makes it when it is not there or damaged.

    Raises:
        OSError: The disk cannot be written.
        TraceError: A table of the trace is damaged.
    """
    target = recording_index_folder(trace.folder)
    try:
        return Index.open(target)
    except IndexDamagedError:
        shutil.rmtree(target, ignore_errors=True)
    add_recording_index(build_facts(trace))
    return Index.open(target)


def add_recording_index(facts: Facts) -> None:
    """Write the index of a recording beside its tables, unless there is one.

    Raises:
        OSError: The disk cannot be written.
        TraceError: A table of the trace is damaged.
    """
    target = recording_index_folder(facts.trace.folder)
    if target.exists():
        return
    _make(target, lambda writer: write_recording(facts, writer))
    for older in target.parent.iterdir():  # what is being made has a dot before its name
        if older != target and not older.name.startswith("."):
            shutil.rmtree(older, ignore_errors=True)


def window_index(stored: StoredAnalysis, origin_ns: int) -> Index:
    """Return the index of what the analysis says; makes it when it is not there or damaged.

    Args:
        stored: The analysis of the window.
        origin_ns: ``first_event_ns`` of its recording.

    Raises:
        OSError: The disk cannot be written.
        TraceError: A table of the analysis is damaged.
    """
    target = window_index_folder(stored.folder)
    try:
        index = Index.open(target)
        if index.meta["origin_ns"] == origin_ns:
            return index
    except IndexDamagedError:
        pass
    shutil.rmtree(target, ignore_errors=True)
    add_window_index(stored.folder, stored.segments(), stored.report, origin_ns)
    return Index.open(target)


def add_window_index(folder: Path, segments: pd.DataFrame, report: Report, origin_ns: int) -> None:
    """Write the index of an analysis into its ``folder``.

    Raises:
        OSError: The disk cannot be written.
    """
    target = window_index_folder(folder)
    _make(target, lambda to: write_window(segments, report, origin_ns, to))


def write_window_index(analysis: Analysis, folder: Path) -> None:
    """Write the index of an analysis that was just made into ``folder``; see above."""
    origin_ns = first_event_ns(analysis.facts)
    add_window_index(folder, analysis.ledger.segments, analysis.report, origin_ns)


def make_indexes(trace: Trace, stored: StoredAnalysis) -> None:
    """Make both indexes of an analysis where they are not there or damaged.

    Raises:
        OSError: The disk cannot be written.
        TraceError: A table of trace or analysis is damaged.
    """
    window_index(stored, recording_index(trace).meta["origin_ns"])


def indexes_if_made(trace: Trace, stored: StoredAnalysis) -> tuple[Index, Index] | None:
    """Return the indexes of recording and window; None, and nothing is made, without them.

    Raises:
        OSError: The disk cannot be read.
    """
    places = recording_index_folder(trace.folder), window_index_folder(stored.folder)
    try:
        recording, window = map(Index.open, places)
    except IndexDamagedError:
        return None
    return (recording, window) if window.meta["origin_ns"] == recording.meta["origin_ns"] else None


def _make(target: Path, write: Callable[[IndexWriter], None]) -> None:
    # Nothing waits for the disk: what a crash tears does not have its checksum, and is made again.
    # What a killed process leaves is swept away when no job runs.
    with (
        job_running(),
        replacing_folder(target, is_intact) as draft,
        contextlib.closing(IndexWriter(draft)) as writer,
    ):
        write(writer)
