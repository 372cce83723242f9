"""Events that are missing from a recording, or that contradict each other."""

from __future__ import annotations

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import GRAPH, KERNEL, Facts
from analyzers.facts.loops import left_over
from analyzers.facts.spans import Iteration
from analyzers.finding import CAUSE_OF_ROW, Cause, Row
from analyzers.intervals import Array, Spans, by_key, covered, empty, union
from analyzers.ledger.ledger import Ledger
from analyzers.quality.note import (
    EXCLUDED,
    GPU_WORK,
    MAX_UNEXPLAINED_SHARE,
    MIN_ORPHAN_SHARE,
    quality_note,
)
from analyzers.recorder import recorder_of
from analyzers.report import QualityNote
from analyzers.words import count_text, share_text, time_text
from collectors.trace import DataNote
from common.memo import memo

NOTABLE_PROFILER_SHARE = 0.05  # of the window; the closest peer warns from the same share
MAX_CLOCK_SKEW_SHARE = 0.001
_NO_TIME = "_no_time"  # codes of those whose begin and end are both zero


def orphans(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say how many kernels have no launch call."""
    kinds = np.isin(facts.launches["kind"].to_numpy(), (KERNEL, GRAPH))
    kinds[: left_over(facts)] = False
    without = kinds & (facts.launches["api_row"].to_numpy() < 0)
    count, total = int(np.count_nonzero(without)), int(np.count_nonzero(kinds))
    if not total or count / total < MIN_ORPHAN_SHARE:
        return None
    if not len(facts.api):
        return quality_note(
            "warning",
            "no_api_calls",
            f"No {recorder_of(facts.trace).api} API calls were recorded for {total:,} kernels, so "
            f"idle time cannot be explained. Record with: `{recorder_of(facts.trace).again}`",
        )
    return quality_note(
        "warning",
        "orphan_kernels",
        f"{count:,} of {total:,} kernels {'has' if count == 1 else 'have'} no launch call in the "
        f"recording: {'it was' if count == 1 else 'they were'} submitted before that began, or "
        f"the {'call was' if count == 1 else 'calls were'} dropped. Such time counts as busy; the "
        "idle time before it stays unexplained. Start recording earlier.",
    )


def unnamed_calls(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Forbid a verdict when too many API calls have lost their names: any could be a wait."""
    per_function = np.bincount(facts.api["name"].to_numpy(), minlength=len(facts.functions))
    unnamed = int(per_function[facts.calls == Call.UNNAMED].sum())
    if not unnamed or unnamed < MIN_ORPHAN_SHARE * len(facts.api):
        return None
    return quality_note(
        "error" if unnamed >= MAX_UNEXPLAINED_SHARE * len(facts.api) else "warning",
        "unnamed_calls",
        f"{unnamed:,} of {len(facts.api):,} API calls have lost their names, so launches cannot be "
        f"told apart from waits. {recorder_of(facts.trace).export}.",
    )


def lost_kernels(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that kernels are missing whose launches were recorded: their time reads as idle."""
    launches = _launch_calls(facts, of_graphs=False)
    if not len(facts.launches) or not len(launches):
        return None
    lost, _at_end = _without_kernel(facts)
    if lost < MIN_ORPHAN_SHARE * len(launches):
        return None
    level = "error" if lost >= MAX_UNEXPLAINED_SHARE * len(launches) else "warning"
    return quality_note(
        level,
        "launch_no_kernel",
        f"{lost:,} of {len(launches):,} launch calls have no kernel in the recording although "
        "later work has: kernels were lost, and their time looks idle. Record a shorter stretch.",
    )


def unfinished_launches(
    facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    """Say that the last launches have no kernel: the recording is not of all that was submitted."""
    launches = _launch_calls(facts, of_graphs=False)
    if not len(facts.launches) or not len(launches):
        return None
    _lost, at_end = _without_kernel(facts)
    # Kernels without a launch call of their own may be theirs: ids are lost, or say too little.
    kernels = np.isin(facts.launches["kind"].to_numpy(), (KERNEL, GRAPH))
    api_row = facts.launches["api_row"].to_numpy()[kernels]
    of_graph, has_kernel = np.zeros((2, len(facts.api) + 1), dtype=bool)  # the last: no call
    of_graph[_launch_calls(facts, of_graphs=True)] = True
    has_kernel[api_row] = True
    orphaned = np.count_nonzero(~of_graph[api_row]) - np.count_nonzero(has_kernel[launches])
    unread = sum(note.count for note in _unread_operations(facts))
    missing = at_end - orphaned - facts.impossible.left_out - unread
    if missing < MIN_ORPHAN_SHARE * len(launches):
        return None
    level = "error" if missing >= MAX_UNEXPLAINED_SHARE * len(launches) else "warning"
    return quality_note(
        level,
        "launch_unfinished",
        f"{missing:,} of {len(launches):,} launch calls, the last ones, have no kernel in the "
        "recording: it ended before they ran, or they were lost. Synchronise before the recording "
        "stops, or record a shorter stretch.",
    )


def untraced_graphs(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that graphs were launched and nothing of what they ran was recorded."""
    launches = _launch_calls(facts, of_graphs=True)
    if not len(facts.launches) or not len(launches):
        return None
    status = facts.trace.columns("api_calls", ["status"])["status"]
    silent = ~_has_work(facts)[launches] & (status[launches] <= 0)
    missing = int(np.count_nonzero(silent))
    if missing < max(2, MAX_UNEXPLAINED_SHARE * len(launches)):  # one graph may hold no work
        return None
    return quality_note(
        "error",
        "graph_no_kernel",
        f"{missing:,} of {len(launches):,} CUDA graph launches have no work in the recording: what "
        "the graphs ran was not traced, and its time looks idle. Record with a current version "
        "of the profiler, and with nsys by --cuda-graph-trace=node.",
    )


def _launch_calls(facts: Facts, *, of_graphs: bool) -> Array:
    """Return the rows of ``api`` that launch single kernels, or those that launch graphs."""
    graph = np.array(["Graph" in str(name) for name in facts.functions], dtype=bool)
    chosen = (facts.calls == Call.LAUNCH) & (graph if of_graphs else ~graph)
    rows: Array = np.flatnonzero(chosen[facts.api["name"].to_numpy()])
    return rows


def _has_work(facts: Facts) -> Array:
    """Return whether each row of ``api`` submitted anything that was recorded."""
    ran = np.zeros(len(facts.api), dtype=bool)
    api_row = facts.launches["api_row"].to_numpy()
    ran[api_row[api_row >= 0]] = True
    return ran


@memo()
def _without_kernel(facts: Facts) -> tuple[int, int]:
    """Return how many launch calls lack their kernel: before one of their thread that has, after.

    Calls at the end of a recording may still be queued. A call inside another is the same
    launch, and what is captured into a graph does not run.
    """
    launches = _launch_calls(facts, of_graphs=False)
    ran = _has_work(facts)
    status = facts.trace.columns("api_calls", ["status"])["status"]
    start, end = facts.api["start_ns"].to_numpy(), facts.api["end_ns"].to_numpy()
    order, bounds = facts.call_order
    capturing = _captures(facts)
    lost = at_end = 0
    for thread, of_thread in by_key(facts.api["thread_index"].to_numpy()[launches], launches):
        calls = order[bounds[thread] : bounds[thread + 1]]
        done = of_thread[ran[of_thread]] if ran[of_thread].any() else calls[ran[calls]]
        of_thread = of_thread[np.argsort(start[of_thread], kind="stable")]
        nested = start[of_thread[1:]] < end[of_thread[:-1]]
        alone = ~np.append(nested, False) & ~np.insert(nested, 0, False)
        missing = of_thread[
            alone & ~ran[of_thread] & (status[of_thread] <= 0)
        ]  # -1 is not recorded
        missing = missing[covered(Spans(start[missing], end[missing]), capturing) == 0]
        last = start[done].max() if len(done) else np.iinfo(np.int64).min
        lost += int(np.count_nonzero(start[missing] < last))
        at_end += int(np.count_nonzero(start[missing] >= last))
    return lost, at_end


def _captures(facts: Facts) -> Spans:
    """Return when streams were captured into graphs, by whatever thread."""
    names = [str(n) for n in facts.functions]
    begins = [n.endswith("StreamBeginCapture") for n in names]
    ends = [n.endswith("StreamEndCapture") for n in names]
    name = facts.api["name"].to_numpy()
    first_rows = np.flatnonzero(np.array(begins, dtype=bool)[name])
    last_rows = np.flatnonzero(np.array(ends, dtype=bool)[name])
    if not len(first_rows):
        return empty()
    start = np.sort(facts.api["start_ns"].to_numpy()[first_rows])
    end = np.sort(facts.api["end_ns"].to_numpy()[last_rows])
    after = np.searchsorted(end, start)
    last = facts.api["end_ns"].max()
    return union(start, np.append(end, last)[np.minimum(after, len(end))])


def impossible_times(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say which operations have times that cannot be true; forbid a verdict they could change."""
    odd = facts.impossible
    parts = []
    if odd.early:
        begins = "begins" if odd.early == 1 else "begin"
        parts.append(
            f"{odd.early:,} {begins} up to {time_text(odd.early_ns)} before the call that "
            "submitted it"
        )
    if odd.far:
        parts.append(f"{odd.far:,} {'lies' if odd.far == 1 else 'lie'} far from everything else")
    sentences = []
    if parts:
        verb = "was" if odd.left_out == 1 else "were"
        sentences.append(
            f"{odd.left_out:,} of {odd.recorded:,} GPU operations {verb} left out, because the "
            f"recorded times cannot be true: {'; '.join(parts)}."
        )
    if odd.cut:
        many = odd.cut > 1
        sentences.append(
            f"{odd.cut:,} of {odd.recorded:,} GPU operations {'seem' if many else 'seems'} to "
            f"outlast the operations after {'them' if many else 'it'} on the same stream, by "
            f"{time_text(odd.cut_ns)} in all; {'they are' if many else 'it is'} counted up to "
            "the begin of the next."
        )
    if not sentences:
        return None
    changes = _could_change_verdict(odd.usual_ns, ledger)
    if changes:
        sentences.append("They could change the verdict.")
    sentences.append("Check the clocks of the machine, and record again.")
    return quality_note("error" if changes else "warning", "impossible_times", " ".join(sentences))


def _could_change_verdict(missing_ns: int, ledger: Ledger) -> bool:
    """Tell whether operations of so much time, wherever they ran, could make another cause largest.

    Each would fill idle time, so it takes from the rows of idle time what it lasts, at most. A
    loss that is a tenth of the time in use may fall below that, or below the next largest.
    """
    tenth_ns = MAX_UNEXPLAINED_SHARE * max(ledger.in_use_ns, 1)
    costs = dict.fromkeys(CAUSE_OF_ROW.values(), 0)
    for row, cause in CAUSE_OF_ROW.items():
        costs[cause] += ledger.total_ns(row)
    costs[Cause.HOST] -= ledger.duration_ns - ledger.in_use_ns
    *_, second_ns, first_ns = sorted(costs.values())
    is_close = tenth_ns <= first_ns < max(tenth_ns, second_ns) + missing_ns
    return missing_ns >= tenth_ns or (missing_ns > 0 and is_close)


def shared_calls(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that several kernels name one call that launches only one."""
    kernels = facts.launches[(facts.launches["kind"] == KERNEL).to_numpy()]
    kernels = kernels[(kernels["api_row"] >= 0).to_numpy()]
    rows = kernels["api_row"].to_numpy()
    if not len(rows):
        return None
    single = np.array(["Graph" not in str(name) for name in facts.functions], dtype=bool)
    single &= facts.calls == Call.LAUNCH
    # A cooperative launch may start one kernel on each of several devices.
    if np.bincount(rows).max() < 2:
        return None
    shared = kernels.duplicated(["api_row", "device"], keep=False).to_numpy()
    count = int(np.count_nonzero(shared & single[facts.api["name"].to_numpy()[rows]]))
    if count < MIN_ORPHAN_SHARE * len(rows):
        return None
    return quality_note(
        "warning",
        "correlation_ambiguous",
        f"{count:,} of {len(rows):,} kernels share their launch call with other kernels "
        "(kernels launched by kernels, or damaged ids): the idle time before them may be booked "
        f"to the wrong call. {recorder_of(facts.trace).export} if the program launches only from "
        "the host.",
    )


def _unread_operations(facts: Facts) -> list[DataNote]:
    """Return what the collector says of GPU operations that it could not use."""
    return [
        note
        for note in facts.trace.notes
        if note.effect == EXCLUDED and note.code.startswith(GPU_WORK)
    ]


def left_out(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Forbid a verdict when much of the GPU's work could not be read."""
    notes = _unread_operations(facts)
    left = sum(note.count for note in notes)
    total = left + len(facts.launches)
    if not left or left < MAX_UNEXPLAINED_SHARE * total:
        return None
    again = f"{recorder_of(facts.trace).export}."
    if all(note.code.endswith(_NO_TIME) for note in notes):
        again = "The profiler could not collect when they ran. Record a shorter stretch."
    return quality_note(
        "error",
        "operations_left_out",
        f"{left:,} of {total:,} GPU operations could not be read, so their time looks idle. "
        f"{again}",
    )


def graphs_as_a_whole(
    facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    """Say that kernels inside CUDA graphs were not recorded one by one."""
    graphs = int(np.count_nonzero(facts.launches["kind"].to_numpy() == GRAPH))
    if not graphs:
        return None
    return quality_note(
        "warning",
        "graph_level",
        f"{graphs:,} CUDA graph launches were recorded as one block each, so the kernels in them, "
        "and the gaps between those kernels, are hidden. Record with: "
        "`nsys profile --cuda-graph-trace=node -t cuda,nvtx -o report PROGRAM`",
    )


def profiler_overhead(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that the profiler slowed the program down."""
    if not ledger.in_use_ns:
        return None
    share = ledger.total_ns(Row.PROFILER) / ledger.in_use_ns
    if share < NOTABLE_PROFILER_SHARE:
        return None
    return quality_note(
        "warning",
        "profiler_overhead",
        f"The profiler itself cost {share_text(share, 1)} of {ledger.whole}. "
        f"{recorder_of(facts.trace).less}",
    )


def clock_skew(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that operations begin before their own calls."""
    has_call = facts.launches["api_row"].to_numpy() >= 0
    early = has_call & (facts.launches["start_ns"].to_numpy() < facts.api_start_ns)
    count, total = int(np.count_nonzero(early)), int(np.count_nonzero(has_call))
    if not total or count / total < MAX_CLOCK_SKEW_SHARE:
        return None
    return quality_note(
        "warning",
        "clock_skew",
        f"{count:,} of {total:,} GPU operations {'begins' if count == 1 else 'begin'} before "
        "the launch call does: the clocks of host and device disagree, so short gaps may be "
        "booked to the wrong cause.",
    )


def overlap_on_stream(
    facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    """Say that kernels of one stream overlap."""
    rows = facts.launches[facts.launches["kind"].to_numpy() == KERNEL]
    if len(rows) < 2:
        return None
    stream = facts.stream_codes[facts.launches["kind"].to_numpy() == KERNEL]
    order = np.argsort(stream, kind="stable")  # launches are sorted by begin already
    start, end = rows["start_ns"].to_numpy()[order], rows["end_ns"].to_numpy()[order]
    same = stream[order][1:] == stream[order][:-1]
    count = int(np.count_nonzero(same & (start[1:] < end[:-1])))
    graphs = bool((facts.launches["kind"].to_numpy() == GRAPH).any())
    if not count or graphs or facts.trace.count("graph_nodes"):
        return None
    return quality_note(
        "info",
        "stream_overlap",
        f"{count_text(count, 'kernel')} began before the previous one on the same stream had ended "
        "(programmatic dependent launch, or branches of a graph); overlapping time counts once.",
    )
