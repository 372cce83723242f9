"""The lanes of a recording: what devices and threads did.

Two indexes make up a timeline. That of the *recording* is written when the recording is read. That
of a *window* holds what the analysis says about it: ledger, findings, iterations; it lies beside
the analysis, and ``timeline.window_lanes`` writes it.
"""

from __future__ import annotations

from analyzers.facts.extent import first_event_ns, last_event_ns
from analyzers.facts.facts import Facts
from analyzers.recorder import recorder_of
from timeline.colors import PROGRAM
from timeline.device_lanes import link_calls, write_devices
from timeline.index_writer import IndexWriter
from timeline.metric_lanes import write_memory, write_metrics
from timeline.recording_tables import NameNumbers, RecordingTables
from timeline.thread_lanes import write_threads

MIN_DURATION_NS = 100


def write_recording(facts: Facts, writer: IndexWriter) -> None:
    """Write everything that devices and threads did."""
    trace = facts.trace
    tables = RecordingTables(facts, writer, NameNumbers.of(trace), first_event_ns(facts))
    writer.group(PROGRAM)
    write_devices(tables)
    write_threads(tables)
    write_metrics(tables)
    write_memory(tables)
    writer.names(tables.names.texts())
    writer.relink(lambda link, row: link_calls(writer.lanes, facts, link, row))
    end = last_event_ns(facts)
    writer.finish(
        origin_ns=tables.origin,
        duration_ns=max(end - tables.origin, MIN_DURATION_NS),
        range_word=recorder_of(trace).ranges,
    )
