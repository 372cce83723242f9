"""Recordings and their analyses from the library, with the progress of making them drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.terminal import progress_bar
from jobs import api
from library import cache

if TYPE_CHECKING:
    from collectors.trace import Trace
    from jobs.api import LibraryRecording
    from library.analyses import StoredAnalysis


def open_with_progress(path: Path, window: str = "") -> LibraryRecording:
    """Open a recording, and draw how far that is."""
    with progress_bar(path.name) as show:
        return api.open_recording(path, window=window, on_progress=show)


def stored_analysis(path: Path, window: str, counters: str) -> StoredAnalysis:
    """Return the analysis, made now or stored before; nobody looks at its timeline."""
    job = api.begin_opening(path, window=window, counters=counters, timeline=False)
    with progress_bar(path.name) as show:
        return api.stored_analysis(job, show)


def opened_trace(path: Path, show: Any) -> Trace:
    """Return a recording of the library; opens it when it is not there."""
    stored = api.stored_analysis(api.begin_opening(path, timeline=False), show)
    return cache.named(cache.get(stored.trace_id), stored.name)
