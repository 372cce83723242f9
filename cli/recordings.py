"""Recordings and their analyses from the library, with the progress of making them drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobs.job as worker
from cli.terminal import progress_bar
from library import cache

if TYPE_CHECKING:
    from collectors.trace import Trace
    from jobs.job import Opened
    from library.analyses import Stored


def open_with_progress(path: Path, window: str = "") -> Opened:
    """Open a recording, and draw how far that is."""
    with progress_bar(path.name) as show:
        return worker.open_recording(path, window=window, on_progress=show)


def stored_analysis(path: Path, window: str, counters: str) -> Stored:
    """Return the analysis, made now or stored before; nobody looks at its timeline."""
    job = worker.start(path, window=window, counters=counters, timeline=False)
    with progress_bar(path.name) as show:
        return job.wait(show)


def opened_trace(path: Path, show: Any) -> Trace:
    """Return a recording of the library; opens it when it is not there."""
    stored = worker.start(path, timeline=False).wait(show)
    return cache.named(cache.get(stored.trace_id), stored.name)
