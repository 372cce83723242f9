"""What a reader must know about the capture before believing any verdict on it.

Each check is one function, Facts and Ledger in, at most one note out. A note of level ``error``
turns the verdict into ``unknown``; a ``warning`` stays beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from analyzers.counters.joining import ON_TIMELINE, PROFILED_SIDE
from analyzers.cuda_names import Call
from analyzers.facts.facts import GRAPH, KERNEL, Facts
from analyzers.facts.spans import Iteration
from analyzers.facts.windows import SUBMITTED, WHOLE, left_over
from analyzers.finding import Row
from analyzers.intervals import Array, Spans, by_key, covered, empty, union
from analyzers.ledger.booking import DETAILS, Detail
from analyzers.ledger.ledger import Ledger
from analyzers.losses.ncu_command import base_name, to_cover
from analyzers.recorder import recorder_of
from analyzers.report import QualityNote
from analyzers.words import count_text, name_text, share_text, time_text

NOTABLE_LEFT_OVER = 0.01  # of the window: from here on both figures are worth a warning
MIN_ORPHAN_SHARE = 0.01  # below 1 % they change no number that a reader would act on
CUT_OFF = "json_truncated"  # what the reader notes about a file that ends too early
MAX_UNEXPLAINED_SHARE = 0.10  # as much as a cause needs to become the verdict
NOTABLE_PROFILER_SHARE = 0.05  # of the window; the closest peer warns from the same share
WARM_UP_FACTOR = 1.5  # of the median: a first iteration this slow is not like the others
NOTABLE_SETUP_SHARE = 0.02
SPARSE_SPAN_FACTOR = 3  # capture this many times longer than the window: say so
MAX_CLOCK_SKEW_SHARE = 0.001
NOTABLE_UNUSED_SHARE = 0.02  # of the window, in which a GPU had no work
MAX_NAMED = 4  # devices or kernels in one sentence
NOTABLE_DURATION_DIFFERENCE = 0.10  # launches under ncu vary by less when clocks are left alone
_GPU_WORK = ("kernel_", "memcpy_", "memset_", "graph_")  # codes of notes about GPU operations
_LOSS = re.compile(
    r"\b(?:lost|loss|dropped|overflow\w*|not all|incomplete|discarded|could not be recorded)\b",
    re.IGNORECASE,
)
_NO_LOSS = re.compile(r"\b(?:0|no) \w+(?: \w+)? (?:were|was) |\b\w+ \w+: 0\b", re.IGNORECASE)

Check = Callable[[Facts, Ledger, tuple[Iteration, ...]], QualityNote | None]


def check_quality(
    facts: Facts, ledger: Ledger, iterations: tuple[Iteration, ...]
) -> tuple[QualityNote, ...]:
    """Return every note about the capture, the worst first."""
    checks = _COUNTER_CHECKS if facts.counters_only else _CHECKS
    notes = [n for check in checks if (n := check(facts, ledger, iterations)) is not None]
    notes += _data_notes(facts)
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(notes, key=lambda n: order[n.level]))


def _note(level: str, code: str, message: str) -> QualityNote:
    return QualityNote(level=level, code=code, message=message)


def _no_gpu_work(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    if len(facts.launches):
        return None
    trace, recorder = facts.trace, recorder_of(facts.trace)
    seen = [
        count_text(trace.count(table), noun)
        for table, noun in (
            ("api_calls", f"{recorder.api} API call"),
            ("ranges", recorder.ranges),
            ("operators", "operator"),
            ("os_calls", "operating-system call"),
            ("cpu_samples", "CPU sample"),
        )
        if trace.count(table)
    ]
    what = f"only {', '.join(seen)}" if seen else "no events at all"
    if any(n.code == CUT_OFF for n in trace.notes):
        # Devices come last in a trace of the torch profiler.
        return _note(
            "error",
            "no_gpu_work",
            f"The file is cut off, and before the end there is no GPU work, {what}. Copy or export "
            "it again.",
        )
    why = (
        f"{recorder.api} was traced, but no kernel, copy or memset ran or was kept"
        if trace.count("api_calls")
        else f"{recorder.api} was not traced, or the program did not use it"
    )
    return _note(
        "error",
        "no_gpu_work",
        f"No GPU work was recorded: {what}. {why}. Record with: {recorder_of(facts.trace).again}",
    )


def _idle_window(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    if not len(facts.launches) or ledger.in_use_ns:
        return None
    return _note(
        "error",
        "nothing_wanted",
        "No GPU operation ran or was waited for in this window. Choose one inside the recorded "
        "GPU work.",
    )


def _unused_devices(_facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say which devices the verdict leaves out, and for how long."""
    clauses = [
        f"GPU {d.device} had none during {share_text(d.unused_ns, d.duration_ns)} of it"
        for d in ledger.devices
        if d.unused_ns >= NOTABLE_UNUSED_SHARE * max(d.duration_ns, 1)
    ]
    if not clauses:
        return None
    first = ", ".join(clauses[:MAX_NAMED])
    more = f", and {len(clauses) - MAX_NAMED} more" if len(clauses) > MAX_NAMED else ""
    advice = (
        " Give each GPU its share of the work, or hide it with CUDA_VISIBLE_DEVICES."
        if len(ledger.devices) > 1
        else ""
    )
    return _note(
        "info",
        "unused_devices",
        f"There was not work throughout the window: {first}{more}. The time "
        "before a GPU's first and after its last operation is booked to host (nobody wanted "
        f"anything of it) and left out of the verdict.{advice}",
    )


def _one_operation(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    inside = _launches_inside(facts, ledger)
    if inside != 1:
        return None
    return _note(
        "error",
        "one_operation",
        "The window holds a single GPU operation, so nothing on the timeline can be compared. "
        "Record more of the program, or examine the kernel with ncu.",
    )


def _launches_inside(facts: Facts, ledger: Ledger) -> int:
    start, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    inside = (end > ledger.window.start_ns) & (start < ledger.window.end_ns)
    return int(np.count_nonzero(inside))


def _unexplained(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    if not ledger.in_use_ns:
        return None
    lost = ledger.total_ns(Row.UNEXPLAINED)
    share = lost / ledger.in_use_ns
    if share < MAX_UNEXPLAINED_SHARE:
        return None
    reasons: dict[str, int] = {}
    for device in ledger.devices:
        for reason, ns in device.unexplained.items():
            reasons[reason] = reasons.get(reason, 0) + ns
    main = max(reasons, key=lambda r: reasons[r])
    advice = (
        "The bandwidth rules tell what the migrations cost."
        if main == DETAILS[Detail.MANAGED_MEMORY]
        else f"Record again with: {recorder_of(facts.trace).again}"
    )
    return _note(
        "warning",
        "unexplained",
        f"{share_text(share, 1)} of {ledger.whole} is idle time that cannot be explained: "
        f"{main}. {advice}",
    )


def _left_over(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say what the window leaves out: work that was queued before the recording began."""
    left = left_over(facts)
    if not left or ledger.window.label != SUBMITTED:
        return None
    start, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    whole = int(end.max() - start.min())
    left_ns = whole - ledger.window.duration_ns
    busy = sum(union(*spans).total for spans in _by_device(facts, start, end))
    busy_in = sum(d.busy_ns for d in ledger.devices)
    inside = ledger.duration_ns
    level = "warning" if left_ns > NOTABLE_LEFT_OVER * whole else "info"
    return _note(
        level,
        "left_over",
        f"{left:,} of {len(facts.launches):,} GPU operations were submitted before the recording "
        "of the host began, so nothing tells why they came when they did. The window begins "
        f"behind them: {_busy_text(busy_in, inside)}. With them: "
        f"{_busy_text(busy, whole * len(ledger.devices))}.",
    )


def _busy_text(busy_ns: int, whole_ns: int) -> str:
    return (
        f"{time_text(whole_ns, 4)}, busy for {time_text(busy_ns, 4)} "
        f"({share_text(whole_ns - busy_ns, whole_ns, exact=True)} idle)"
    )


def _by_device(facts: Facts, start: Array, end: Array) -> list[tuple[Array, Array]]:
    device = facts.launches["device"].to_numpy()
    return [(start[device == k], end[device == k]) for k in range(len(facts.devices))]


def _orphans(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    kinds = np.isin(facts.launches["kind"].to_numpy(), (KERNEL, GRAPH))
    kinds[: left_over(facts)] = False
    without = kinds & (facts.launches["api_row"].to_numpy() < 0)
    count, total = int(np.count_nonzero(without)), int(np.count_nonzero(kinds))
    if not total or count / total < MIN_ORPHAN_SHARE:
        return None
    if not len(facts.api):
        return _note(
            "warning",
            "no_api_calls",
            f"No {recorder_of(facts.trace).api} API calls were recorded for {total:,} kernels, so "
            f"idle time cannot be explained. Record with: {recorder_of(facts.trace).again}",
        )
    return _note(
        "warning",
        "orphan_kernels",
        f"{count:,} of {total:,} kernels have no launch call in the recording: they were submitted "
        "before it began, or their calls were dropped. They count as busy time; the idle time "
        "before them stays unexplained. Start recording earlier.",
    )


def _unnamed_calls(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Forbid a verdict when too many API calls have lost their names: any could be a wait."""
    per_function = np.bincount(facts.api["name"].to_numpy(), minlength=len(facts.functions))
    unnamed = int(per_function[facts.calls == Call.UNNAMED].sum())
    if not unnamed or unnamed < MIN_ORPHAN_SHARE * len(facts.api):
        return None
    return _note(
        "error" if unnamed >= MAX_UNEXPLAINED_SHARE * len(facts.api) else "warning",
        "unnamed_calls",
        f"{unnamed:,} of {len(facts.api):,} API calls have lost their names, so launches cannot be "
        f"told from waits. {recorder_of(facts.trace).export}.",
    )


def _lost_kernels(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that kernels are missing whose launches were recorded: their time reads as idle."""
    launching = facts.calls == Call.LAUNCH
    launching &= np.array(["Graph" not in str(name) for name in facts.functions], dtype=bool)
    launches = np.flatnonzero(launching[facts.api["name"].to_numpy()])
    if not len(facts.launches) or not len(launches):
        return None
    lost = _without_kernel(facts, launches)
    if lost < MIN_ORPHAN_SHARE * len(launches):
        return None
    level = "error" if lost >= MAX_UNEXPLAINED_SHARE * len(launches) else "warning"
    return _note(
        level,
        "launch_no_kernel",
        f"{lost:,} of {len(launches):,} launch calls have no kernel in the recording although "
        "later work has: kernels were lost, and their time looks idle. Record a shorter stretch.",
    )


def _without_kernel(facts: Facts, launches: Array) -> int:
    """Return how many launch calls lack their kernel and cannot merely be late or captured.

    Calls at the end of a recording may still be queued: only those count that come before
    another call of the same thread whose work did run. A call inside another is the same launch,
    and a graph may hold nothing for the device.
    """
    ran = np.zeros(len(facts.api), dtype=bool)
    api_row = facts.launches["api_row"].to_numpy()
    ran[api_row[api_row >= 0]] = True
    status = facts.trace.columns("api_calls", ["status"])["status"]
    start, end = facts.api["start_ns"].to_numpy(), facts.api["end_ns"].to_numpy()
    order, bounds = facts.call_order
    capturing = _captures(facts)
    lost = 0
    for thread, of_thread in by_key(facts.api["thread"].to_numpy()[launches], launches):
        calls = order[bounds[thread] : bounds[thread + 1]]
        done = of_thread[ran[of_thread]] if ran[of_thread].any() else calls[ran[calls]]
        if not len(done):
            continue
        of_thread = of_thread[np.argsort(start[of_thread], kind="stable")]
        nested = start[of_thread[1:]] < end[of_thread[:-1]]
        alone = ~np.append(nested, False) & ~np.insert(nested, 0, False)
        missing = of_thread[
            alone & ~ran[of_thread] & (status[of_thread] <= 0)
        ]  # -1 is not recorded
        missing = missing[start[missing] < start[done].max()]
        lost += int(np.count_nonzero(covered(Spans(start[missing], end[missing]), capturing) == 0))
    return lost


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


def _shared_calls(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that several kernels name one call that launches only one."""
    kernels = facts.launches[(facts.launches["kind"] == KERNEL).to_numpy()]
    kernels = kernels[(kernels["api_row"] >= 0).to_numpy()]
    rows = kernels["api_row"].to_numpy()
    if not len(rows):
        return None
    single = np.array(["Graph" not in str(name) for name in facts.functions], dtype=bool)
    single &= facts.calls == Call.LAUNCH
    # A cooperative launch may start one kernel on each of several devices.
    shared = kernels.duplicated(["api_row", "device"], keep=False).to_numpy()
    count = int(np.count_nonzero(shared & single[facts.api["name"].to_numpy()[rows]]))
    if count < MIN_ORPHAN_SHARE * len(rows):
        return None
    return _note(
        "warning",
        "correlation_ambiguous",
        f"{count:,} of {len(rows):,} kernels name a launch call that other kernels name, too "
        "(kernels that launch kernels, or damaged ids): the idle time before them may be booked "
        f"to the wrong call. {recorder_of(facts.trace).export} if the program launches from the "
        "host only.",
    )


def _left_out(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Forbid a verdict when much of the GPU's work could not be read."""
    left = sum(
        note.count
        for note in facts.trace.notes
        if note.effect == "excluded" and note.code.startswith(_GPU_WORK)
    )
    total = left + len(facts.launches)
    if not left or left < MAX_UNEXPLAINED_SHARE * total:
        return None
    return _note(
        "error",
        "operations_left_out",
        f"{left:,} of {total:,} GPU operations could not be read, so their time looks idle. "
        f"{recorder_of(facts.trace).export}.",
    )


def _graphs_as_a_whole(
    facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    graphs = int(np.count_nonzero(facts.launches["kind"].to_numpy() == GRAPH))
    if not graphs:
        return None
    return _note(
        "warning",
        "graph_level",
        f"{graphs:,} CUDA graph launches were recorded as one block each, so the kernels in them, "
        "and the gaps between those kernels, are hidden. Record with: "
        "nsys profile --cuda-graph-trace=node -t cuda,nvtx PROGRAM",
    )


def _lost_events(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    if not facts.trace.count("diagnostics"):
        return None
    texts = facts.trace.frame("diagnostics", ["text"])["text"]
    losses = [t for t in texts if _LOSS.search(t) and not _NO_LOSS.search(t)]
    if not losses:
        return None
    quoted = " ".join(losses[0].split())[:160]
    return _note(
        "warning",
        "recorder_reported_loss",
        f"The recorder says events are missing: “{quoted}”. Totals may be too low. "
        "Record a shorter stretch.",
    )


def _profiler_overhead(
    facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    if not ledger.in_use_ns:
        return None
    share = ledger.total_ns(Row.PROFILER) / ledger.in_use_ns
    if share < NOTABLE_PROFILER_SHARE:
        return None
    return _note(
        "warning",
        "profiler_overhead",
        f"The profiler itself cost {share_text(share, 1)} of {ledger.whole}. "
        f"{recorder_of(facts.trace).less}",
    )


def _warm_up(facts: Facts, ledger: Ledger, iterations: tuple[Iteration, ...]) -> QualityNote | None:
    """Warn of start-up inside the window: a slow first iteration, or modules being loaded."""
    # The first iteration begins on the host, before the window's first GPU operation.
    low, high = ledger.window.start_ns, ledger.window.end_ns
    inside = [i for i in iterations if low <= (i.start_ns + i.end_ns) // 2 < high]
    if len(inside) > 2:
        length = np.array([i.end_ns - i.start_ns for i in inside])
        usual = float(np.median(length[1:]))
        if usual > 0 and length[0] > WARM_UP_FACTOR * usual:
            return _note(
                "warning",
                "warm_up",
                f"The first iteration took {length[0] / usual:.1f} times as long as the median of "
                "the others: warm-up is inside the window. Choose a later iteration as the window.",
            )
    share = ledger.total_ns(Row.SETUP) / max(ledger.in_use_ns, 1)
    if share < NOTABLE_SETUP_SHARE:
        return None
    advice = "Choose an iteration as the window" if iterations else recorder_of(facts.trace).mark
    return _note(
        "warning",
        "setup_inside",
        f"{share_text(share, 1)} of {ledger.whole} is start-up (modules, contexts, graph "
        f"instantiation), which a longer run would not repeat. {advice}.",
    )


def _one_iteration(
    _facts: Facts, ledger: Ledger, iterations: tuple[Iteration, ...]
) -> QualityNote | None:
    if not ledger.window.label.startswith("iteration"):
        return None
    return _note(
        "info",
        "one_iteration",
        f"The window is one of {len(iterations)} iterations; whether the others are like it is "
        "not part of this answer.",
    )


def _window_is_small_part(
    facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    if not len(facts.launches) or ledger.window.label not in (WHOLE, SUBMITTED):
        return None
    capture = facts.trace.source.duration_ns
    spans = [ledger.window.start_ns, ledger.window.end_ns]
    if len(facts.api):
        spans += [int(facts.api["start_ns"].min()), int(facts.api["end_ns"].max())]
    around = max(spans) - min(spans)
    longest = max(capture, around)
    if longest < SPARSE_SPAN_FACTOR * max(ledger.window.duration_ns, 1):
        return None
    return _note(
        "info",
        "window_is_small_part",
        f"GPU work was recorded during {time_text(ledger.window.duration_ns)} of "
        f"{time_text(longest)}; start-up and tear-down around it are not part of the window.",
    )


def _clock_skew(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    has_call = facts.launches["api_row"].to_numpy() >= 0
    early = has_call & (facts.launches["start_ns"].to_numpy() < facts.api_start_ns)
    count, total = int(np.count_nonzero(early)), int(np.count_nonzero(has_call))
    if not total or count / total < MAX_CLOCK_SKEW_SHARE:
        return None
    return _note(
        "warning",
        "clock_skew",
        f"{count:,} of {total:,} GPU operations begin before the call that submitted them: the "
        "clocks of host and device disagree, so short gaps may be booked to the wrong cause.",
    )


def _overlap_on_stream(
    facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    rows = facts.launches[facts.launches["kind"].to_numpy() == KERNEL]
    if len(rows) < 2:
        return None
    lane = _lanes(rows)
    order = np.argsort(lane, kind="stable")  # launches are sorted by begin already
    start, end = rows["start_ns"].to_numpy()[order], rows["end_ns"].to_numpy()[order]
    same = lane[order][1:] == lane[order][:-1]
    count = int(np.count_nonzero(same & (start[1:] < end[:-1])))
    graphs = bool((facts.launches["kind"].to_numpy() == GRAPH).any())
    if not count or graphs or facts.trace.count("graph_nodes"):
        return None
    return _note(
        "info",
        "stream_overlap",
        f"{count:,} kernels begin before the one before them on the same stream ends "
        "(programmatic dependent launch, or branches of a graph); overlapping time counts once.",
    )


def _lanes(launches: pd.DataFrame) -> Array:
    """Return a small number for each combination of device, process and stream."""
    stream = pd.factorize(launches["stream"].to_numpy())[0]
    place = launches["process"].to_numpy() * (launches["device"].max() + 1) + launches["device"]
    lane = pd.factorize(place.to_numpy() * (stream.max() + 1) + stream)[0]
    narrow: Array = lane.astype(np.uint16) if lane.max() < 1 << 16 else lane  # sorts by radix
    return narrow


def _joined_counters(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say which kernel time the counters cover, and which kernels they do not fit."""
    examined = ledger.examined
    if examined is None or not examined.kernel_ns:
        return None
    unmatched = examined.unmatched(facts)
    alone = unmatched[unmatched["side"] == ON_TIMELINE]
    theirs = _named(unmatched[unmatched["side"] == PROFILED_SIDE])
    name = examined.joined.source["name"]
    sentences = [f"Without counters: {_named(alone)}."] if len(alone) else []
    can_run = len(alone) and recorder_of(facts.trace).counters == "ncu"
    if run := to_cover(alone) if can_run else "":
        sentences.append(f"To examine these, run `{run}` on the program and input of the timeline.")
    sentences += [f"Profiled, but not used: {theirs}."] if theirs else []
    if not examined.covered_ns:
        first = f"The counters of {name} fit no kernel of the window, so nothing is told from them."
        return _note("warning", "counters_fit_nothing", " ".join([first, *sentences]))
    covered = share_text(examined.covered_ns, examined.kernel_ns)
    first = (
        f"The counters of {name} cover {covered} of the window's kernel time, "
        f"{time_text(examined.covered_ns)} of {time_text(examined.kernel_ns)}."
    )
    return _note("info", "counters_joined", " ".join([first, *sentences]))


def _named(unmatched: pd.DataFrame) -> str:
    """Name kernels without a partner, each with its time and the reason."""
    clauses = [
        f"{name_text(base_name(str(name)) or str(name) or 'graphs')} {time_text(ns)} ({reason})"
        for name, ns, reason in unmatched[["name", "ns", "reason"]]
        .head(MAX_NAMED)
        .itertuples(index=False)
    ]
    more = f", and {len(unmatched) - MAX_NAMED} more" if len(unmatched) > MAX_NAMED else ""
    return ", ".join(clauses) + more


def _clocks_of_counters(
    _facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    """Say whether kernels took as long under the profiler as on the timeline."""
    if ledger.examined is None or ledger.inside is None:
        return None
    ratio = ledger.examined.joined.duration_ratio
    if not np.isfinite(ratio):
        return None
    same = abs(ratio - 1) <= NOTABLE_DURATION_DIFFERENCE
    why = (
        ""
        if same
        else " ncu holds clocks at their base unless it runs with --clock-control none, empties "
        "caches before each launch, and runs every kernel alone; record with --clock-control none "
        "--cache-control none to compare."
    )
    return _note(
        "info" if same else "warning",
        "counters_clock",
        f"Under ncu these launches took {ratio:.2f} times as long as on the timeline. What "
        f"counters tell as parts of a launch is applied to the timeline's time.{why}",
    )


def _no_duration(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    if len(facts.launches):
        return None
    return _note(
        "error",
        "no_duration",
        f"{count_text(len(facts.counters), 'profiled launch')} without a duration, so nothing can "
        "be weighed. Collect it with: ncu --section SpeedOfLight, or --metrics "
        "gpu__time_duration.sum",
    )


def _no_timeline(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    if not len(facts.launches):
        return None
    return _note(
        "info",
        "counters_only",
        f"Counters of {count_text(len(facts.launches), 'profiled launch')}, measured alone, and "
        "with the clocks held at their base unless ncu ran with --clock-control none. What happens "
        "between launches was not recorded. Record it with: nsys profile -t cuda,nvtx,osrt",
    )


def _data_notes(facts: Facts) -> list[QualityNote]:
    """Return the data-quality ledger of the collector: what was left out or repaired."""
    notes = []
    for note in facts.trace.notes:
        level = "warning" if note.severity != "info" else "info"
        where = f" ({note.table})" if note.table else ""
        verb = {"excluded": "left out", "repaired": "repaired"}.get(note.effect, "noted")
        message = f"{count_text(note.count, 'row')} {verb}{where}: {note.message}."
        notes.append(_note(level, note.code, message))
    return notes


_COUNTER_CHECKS: tuple[Check, ...] = (_no_duration, _no_timeline)
_CHECKS: tuple[Check, ...] = (
    _no_gpu_work,
    _idle_window,
    _unused_devices,
    _one_operation,
    _unexplained,
    _left_over,
    _orphans,
    _unnamed_calls,
    _lost_kernels,
    _shared_calls,
    _left_out,
    _graphs_as_a_whole,
    _lost_events,
    _profiler_overhead,
    _warm_up,
    _one_iteration,
    _window_is_small_part,
    _clock_skew,
    _overlap_on_stream,
    _joined_counters,
    _clocks_of_counters,
)
