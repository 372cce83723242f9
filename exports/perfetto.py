"""Chrome trace JSON, which Perfetto opens: the recording, the ledger and the findings as tracks.

Format: the "Trace Event Format" document of the Chromium project. Events of one track must nest,
so those that only overlap move to another row of the same track. Times are decimal text in
microseconds with three places: nothing is lost to floating point. Only strings that an event
refers to are written, and ``otherData`` says what was left out.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from analyzers.facts.facts import holds_counters_only
from analyzers.report import Report
from analyzers.verdict_words import without_command
from collectors.errors import RefusedError
from collectors.schema import DEVICE_TABLES
from collectors.trace import Trace
from common.files import replacing
from exports.perfetto_answer import write_findings, write_ledger
from exports.perfetto_device import write_device_work, write_memory, write_metrics
from exports.perfetto_events import JsonTexts, PerfettoOutput, touching
from exports.perfetto_host import TRACK_KINDS, write_host
from library.analyses import StoredAnalysis
from library.output_files import check_files

GZIP_LEVEL = 4  # twice as fast as the default and 5 % larger
# A double, which readers parse into, still tells nanoseconds apart below 2^53 ns.
MAX_UNSHIFTED_NS = 1 << 52

_LEFT_OUT = {  # tables without a track; the CSV and Parquet exports have them
    "syncs": "waits as CUPTI records them",
    "graph_nodes": "CUDA graph nodes",
    "thread_switches": "thread switches",
    "cpu_samples": "CPU samples",
    "page_faults": "page faults",
    "overheads": "stretches of profiler overhead",
    "diagnostics": "messages of the profiler",
}


def export(
    trace: Trace,
    stored: StoredAnalysis,
    target: Path,
    *,
    only_window: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> int:
    """Write ``trace`` and what the analysis found to ``target``; gzip when it ends in ``.gz``.

    Args:
        trace: The recording.
        stored: Its analysis.
        target: File to write; appears only when complete.
        only_window: Leave out what does not touch the analysed window.
        on_progress: Called now and then with the part that is written, 0 to 1.

    Returns:
        The number of events written.

    Raises:
        RefusedError: The recording has no timeline, or ``target`` is a recording, or no plain
            file; see ``check_files``.
        OSError: The file cannot be written.
    """
    if holds_counters_only(trace):
        raise RefusedError(
            f"{trace.source.name}: counters of single launches, without a timeline to draw. "
            "Write tables instead: --csv DIR or --parquet DIR"
        )
    check_files([target], trace.source)
    report = stored.report
    span = (report.window.start_ns, report.window.end_ns) if only_window else None
    with _writing(target) as file:
        out = PerfettoOutput(file, _origin_ns(trace, report), JsonTexts(trace))
        if on_progress is not None:
            expected = _expected_events(trace)
            out.on_progress = lambda: on_progress(min(1.0, out.events / expected))
        file.write('{"displayTimeUnit":"ns","otherData":')
        file.write(json.dumps(_about(trace, report, out.origin_ns)))
        file.write(',"traceEvents":[\n')
        write_findings(out, report)
        write_ledger(out, report, stored.segments())
        calls = write_host(out, trace, span)
        write_device_work(out, report, touching(stored.launches(), span), calls)
        write_metrics(out, trace, span)
        write_memory(out, trace, span)
        file.write("\n]}\n")
    return out.events


def _expected_events(trace: Trace) -> int:
    """Return about how many events will be written, for the progress."""
    # Of each operation: itself, two ends of an arrow, and a gap and a busy stretch of the ledger.
    work = sum(trace.count(table) for table in DEVICE_TABLES)
    others = (*TRACK_KINDS, "marks", "gpu_metrics", "memory_events")
    return 1 + 5 * work + sum(trace.count(t) for t in others)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[TextIO]:
    """Open a file that takes the place of ``target`` when all went well."""
    with replacing(target) as draft:
        if target.suffix == ".gz":
            with gzip.open(draft, "wt", GZIP_LEVEL, encoding="ascii") as file:
                yield file
        else:
            with draft.open("w", encoding="ascii") as file:
                yield file


def _about(trace: Trace, report: Report, origin_ns: int) -> dict[str, Any]:
    left_out = [f"{trace.count(t):,} {words}" for t, words in _LEFT_OUT.items() if trace.count(t)]
    excluded = sum(rows.excluded for rows in trace.row_counts)
    left_out += [f"{excluded:,} rows that could not be used"] if excluded else []
    return {
        "recording": str(report.source.get("name", "")),
        "verdict": without_command(report.verdict.sentence),
        "window": f"{report.window.start_ns}-{report.window.end_ns} ns",
        "origin_ns": str(origin_ns),
        "not_exported": ", ".join(left_out) or "nothing",
    }


def _origin_ns(trace: Trace, report: Report) -> int:
    """Return the time that is written as 0; not 0 itself only for clocks that need a shift."""
    first = report.window.start_ns
    for table in ("ranges", "operators", "api_calls", "os_calls", "kernels", "copies", "memsets"):
        if trace.count(table):
            first = min(first, int(trace.columns(table, ["start_ns"])["start_ns"].min()))
    return first if first < 0 or first > MAX_UNSHIFTED_NS else 0
