"""What tasks are made of: a recording is read, analysed, and sorted for the canvas."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analyzers.facts.window_request import parse_request
from library import analyses, cache, prediction_history, predictions, sidecars
from timeline.places import has_timeline

if TYPE_CHECKING:
    from collectors.trace import Trace
    from library.analyses import StoredAnalysis

READING_SHARE = 0.75  # of the time from file to verdict; the rest is the analysis

ReportProgress = Callable[[float, str], None]
"""Takes the share that is done, 0 to 1, and what is being done."""


def is_damage(error: Exception) -> bool:
    """Tell whether a table of the cache could not be read back."""
    from collectors import trace  # loads Arrow

    return trace.is_damage(error)


def read(path: Path, report: ReportProgress) -> Trace:
    """Read the recording at ``path`` into the library.

    Raises:
        TraceError: It cannot be read.
        OSError: The disk cannot be written.
    """
    from collectors import input_file, open_trace

    root = cache.cache_root()
    root.mkdir(parents=True, exist_ok=True)
    before = input_file.look_at(path)
    trace = open_trace(path, root, on_progress=lambda f, s: report(f * READING_SHARE, s))
    cache.remember(path, trace, before)
    return trace


def analyse(
    trace: Trace, window: str, counters: str, report: ReportProgress, timeline: bool
) -> StoredAnalysis:
    """Return the analysis of a window: as it is stored, or made now and stored.

    Args:
        trace: The recording.
        window: As ``analyzers.analyze`` takes it.
        counters: Id of a recording of the library whose counters are joined; empty for none.
        report: Takes the progress.
        timeline: Whether to make the indexes that the canvas is drawn from, too.

    Raises:
        TraceError: A table is damaged.
        WindowError: The recording has no such window.
        OSError: The disk cannot be read or written.
    """
    from analyzers.analysis import investigate
    from analyzers.facts.facts import build_facts
    from timeline.store import add_recording_index, make_indexes, write_window_index

    if (stored := analyses.load(trace, window, counters)) is not None:
        if timeline and not has_timeline(stored):  # of an older version, or left out before
            report(READING_SHARE, "sorting the timeline")
            make_indexes(trace, stored)
        return stored
    joined = cache.get(counters) if counters else None
    predictions.keep_compiled()
    report(READING_SHARE, "analysing")
    facts = build_facts(trace)
    with ThreadPoolExecutor(1) as thread:  # whole columns at a time, so both cores work
        index = thread.submit(add_recording_index, facts) if timeline else None
        analysis = investigate(trace, window, facts, joined, analyses.device_peaks(trace.folder))
        report(0.95, "storing the analysis")
        write_beside = partial(write_window_index, analysis) if timeline else None
        stored = analyses.save(analysis, trace, window, counters, write_beside)
        if not parse_request(window).window:  # of the program, not of a part that somebody chose
            prediction_history.keep_findings(facts, analysis.report)
        if index is not None:
            analyses.without_defects(index)
        return stored


def add_telemetry(path: Path, stored: StoredAnalysis) -> None:
    """Make lanes of what was sampled beside the recording; a defect in it costs no answer."""
    if not sidecars.telemetry_is_missing(path, cache.cache_root() / stored.trace_id):
        return
    from timeline.store import recording_index
    from timeline.telemetry import add_telemetry_index

    try:
        trace = cache.get(stored.trace_id)
        meta = recording_index(trace).meta
        span = meta["origin_ns"], meta["origin_ns"] + meta["duration_ns"]
        add_telemetry_index(path, trace, span)
    except (OSError, MemoryError):
        raise
    except Exception:
        traceback.print_exc()
