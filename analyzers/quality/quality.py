"""What a reader must know about the capture before believing any verdict on it.

Each check is one function, Facts and Ledger in, at most one note out. A note of level ``error``
turns the verdict into ``unknown``; a ``warning`` stays beside it.
"""

from __future__ import annotations

import dataclasses

from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.ledger.ledger import Ledger
from analyzers.quality.absence import no_gpu_work
from analyzers.quality.call_numbers import cut_down
from analyzers.quality.counters import clocks_of_counters, joined_counters, no_duration, no_timeline
from analyzers.quality.diagnostics import lost_events
from analyzers.quality.events import (
    clock_skew,
    graphs_as_a_whole,
    impossible_times,
    left_out,
    lost_kernels,
    orphans,
    overlap_on_stream,
    profiler_overhead,
    shared_calls,
    unfinished_launches,
    unnamed_calls,
    untraced_graphs,
)
from analyzers.quality.note import Check, quality_note
from analyzers.quality.ranks import rank_clocks, shared_gpus
from analyzers.quality.window import (
    idle_window,
    one_iteration,
    one_operation,
    page_out,
    queued_before,
    steps_as_window,
    unexplained,
    unused_devices,
    warm_up,
    window_is_small_part,
)
from analyzers.recorder import recorder_of
from analyzers.report import QualityNote
from analyzers.words import count_text


def check_quality(
    facts: Facts, ledger: Ledger, iterations: tuple[Iteration, ...]
) -> tuple[QualityNote, ...]:
    """Return every note about the capture, the worst first."""
    checks = COUNTER_CHECKS if facts.counters_only else CHECKS
    notes = [n for check in checks if (n := check(facts, ledger, iterations)) is not None]
    wording = recorder_of(facts.trace).wording
    notes = [dataclasses.replace(n, message=wording(n.message)) for n in notes]
    notes += _data_notes(facts)
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(notes, key=lambda n: order[n.level]))


def _data_notes(facts: Facts) -> list[QualityNote]:
    """Return the data-quality ledger of the collector: what was left out or repaired."""
    notes = []
    for note in facts.trace.notes:
        level = "warning" if note.severity != "info" else "info"
        where = f" ({note.table})" if note.table else ""
        verb = {"excluded": "left out", "repaired": "repaired"}.get(note.effect, "noted")
        message = f"{count_text(note.count, 'row')} {verb}{where}: {note.message}."
        notes.append(quality_note(level, note.code, message))
    return notes


COUNTER_CHECKS: tuple[Check, ...] = (no_duration, no_timeline)
CHECKS: tuple[Check, ...] = (
    no_gpu_work,
    idle_window,
    unused_devices,
    one_operation,
    unexplained,
    queued_before,
    cut_down,
    orphans,
    unnamed_calls,
    left_out,
    lost_kernels,
    unfinished_launches,
    untraced_graphs,
    shared_calls,
    impossible_times,
    graphs_as_a_whole,
    lost_events,
    profiler_overhead,
    warm_up,
    one_iteration,
    window_is_small_part,
    steps_as_window,
    page_out,
    clock_skew,
    rank_clocks,
    shared_gpus,
    overlap_on_stream,
    joined_counters,
    clocks_of_counters,
)
