"""The repetitions of the program's main loop, as its ranges mark them, and where their work ran.

The host is ahead of the device, so the device works on a range later than the host passes
through it. A range's window is therefore where its work ran: it begins with the range, or when
the work submitted before it is done, and ends with the range, or when its own work is done.
Ranges that follow each other so get windows that follow each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.facts.nesting import nesting_depth
from analyzers.facts.spans import Iteration, StepSpan
from analyzers.intervals import Array, by_key, union
from analyzers.recorder import TORCH_FORMAT, recorder_of
from collectors.schema import MANAGED_COPIES
from collectors.trace import Trace
from common.memo import memo

LIBRARY_DOMAINS = ("MPI", "UCX", "OpenACC", "OpenMP")
GIL_DOMAIN = "GIL Trace"  # nsys writes there when a thread of Python holds the lock, or waits
MIN_ITERATIONS = 3  # two equal ranges may be coincidence
MIN_COVERED_SHARE = 0.5  # a loop that submits less than half of the work is not the main loop
MAX_LOOP_DEPTH = 3  # "main", "epoch" and the loop itself
STEP = "ProfilerStep"
"""What ``torch.profiler`` calls each step of a schedule; one of them is no coincidence."""
MIN_STEP_WORK = 0.9  # of the GPU work; steps that submit less are only a part of the program

# Ranges that frameworks write for each operator: repeated, but no iteration of anything.
_OPERATOR = re.compile(r"^(?:aten|autograd|at|nccl|torch|void)\b|op_id|, ?seq ?=|::")
_NUMBERED = re.compile(r"\s*[#:_=-]?\s*\(?\d+\)?$")


def find_iterations(facts: Facts) -> tuple[tuple[Iteration, ...], str]:
    """Return the repetitions of the program's main loop, and how they were found or why not.

    An iteration is a top-level NVTX range (or one inside a range that wraps the whole program)
    whose name repeats, a number at its end aside, and whose instances submit at least half of the
    GPU work; in a recording without any, hold half of the time. Nothing is invented from gaps in
    the work.
    """
    if facts.counters_only:
        return (), ""
    noun = recorder_of(facts.trace).ranges
    if not facts.trace.count("ranges"):
        return (), f"No iterations: the recording has no {noun}s to mark them."
    loops = _loops(facts)
    if not loops:
        holds = "submits most of the GPU work" if len(facts.launches) else "holds most of the time"
        repeats = f"repeats at least {MIN_ITERATIONS} times"
        return (), f"No iterations: no top-level {noun} {repeats} and {holds}."
    loop = max(loops, key=lambda c: c.launches).ranges
    name = str(loop["loop"].iloc[0])
    iterations = iterations_of_ranges(facts, loop)
    return iterations, f"{len(iterations)} iterations, from the repeated {noun} {name!r}."


def iterations_of_ranges(facts: Facts, ranges: pd.DataFrame) -> tuple[Iteration, ...]:
    """Return where the work of each range ran, under the range's name."""
    begins, ends = where_work_ran(facts, ranges)
    texts = facts.trace.names(ranges["name_id"].to_numpy())
    return tuple(
        Iteration(name=str(t), start_ns=int(b), end_ns=int(e))
        for t, b, e in zip(texts, begins, ends, strict=True)
    )


class _Loop(NamedTuple):
    """Repeated ranges of one thread, and how many launches they submit."""

    ranges: pd.DataFrame
    launches: int


@memo()
def _loops(facts: Facts) -> tuple[_Loop, ...]:
    """Return the main loop of every thread that has one."""
    ranges = facts.ranges[~written_by_tracers(facts.trace)]
    launched = {
        int(key): facts.api_start_ns[_launched_by(facts, int(key))]
        if len(facts.launches)
        else _begun_by(ranges, int(key))
        for key in pd.unique(ranges["process_key"])
    }
    return tuple(
        loop
        for _, rows in by_key(ranges["thread_key"].to_numpy(), np.arange(len(ranges)))
        if len(rows) >= MIN_ITERATIONS
        and (loop := _loop_on_thread(facts, ranges.iloc[rows], launched)) is not None
        and (len(facts.launches) or holds_most_time(loop.ranges, ranges.iloc[rows]))
    )


def _begun_by(ranges: pd.DataFrame, process_key: int) -> Array:
    """Return when a process began each of its ranges, in the place of launches that it has none."""
    begun: Array = np.sort(ranges["start_ns"].to_numpy()[ranges["process_key"] == process_key])
    return begun


def holds_most_time(loop: pd.DataFrame, among: pd.DataFrame) -> bool:
    """Tell whether repetitions hold most of the time from the first to the last of these spans."""
    lasted = int((loop["end_ns"] - loop["start_ns"]).sum())
    whole = int(among["end_ns"].max() - among["start_ns"].min())
    return lasted >= MIN_COVERED_SHARE * whole


def written_by_tracers(
    trace: Trace, domains: Sequence[str] = (*LIBRARY_DOMAINS, GIL_DOMAIN)
) -> Array:
    """Return which ranges the recorder wrote, for calls of a library or Python's lock: no marks.

    Args:
        trace: The recording.
        domains: Those that are asked for; all that recorders write into by default.
    """
    codes, ids = pd.factorize(trace.columns("ranges", ["domain_id"])["domain_id"])
    is_traced: Array = np.isin(trace.names(ids), domains)[codes]
    return is_traced


def _loop_on_thread(
    facts: Facts, ranges: pd.DataFrame, launched_of: Mapping[int, Array]
) -> _Loop | None:
    """Return the repeated ranges that are one thread's main loop.

    Args:
        facts: The recording.
        ranges: Of this thread.
        launched_of: Begins of the launch calls of each process, sorted.
    """
    launched = launched_of[int(ranges["process_key"].iloc[0])]
    span = launched.searchsorted((ranges["start_ns"].min(), ranges["end_ns"].max()))
    if span[1] - span[0] < max(MIN_COVERED_SHARE * len(launched), 1):
        return None  # cheaper than finding out what repeats
    ranges = ranges.sort_values(["start_ns", "end_ns"], ascending=[True, False], kind="stable")
    depth = nesting_depth(ranges["start_ns"].to_numpy(), ranges["end_ns"].to_numpy())
    outer = ranges[depth < MAX_LOOP_DEPTH]
    ids = outer["name_id"].to_numpy()
    codes, unique = pd.factorize(ids)
    plain = np.array([_loop_name(t) for t in facts.trace.names(unique)], dtype=object)
    outer = outer.assign(loop=plain[codes], depth=depth[depth < MAX_LOOP_DEPTH])
    inside = np.searchsorted(launched, outer["end_ns"]) - np.searchsorted(
        launched, outer["start_ns"]
    )
    groups = outer.assign(launches=inside)[outer["loop"] != ""].groupby(["depth", "loop"])
    sums = groups["launches"].agg(["size", "sum"]).reset_index()
    sums = sums[(sums["size"] >= MIN_ITERATIONS)]
    sums = sums[sums["sum"] >= max(MIN_COVERED_SHARE * len(launched), 1)]
    if not len(sums):
        return None
    best = sums.sort_values(["depth", "sum"], ascending=[True, False]).iloc[0]
    loop = outer[(outer["depth"] == best["depth"]) & (outer["loop"] == best["loop"])]
    return _Loop(loop, int(best["sum"]))


@memo(64)  # together they are as many as there are launches
def _launched_by(facts: Facts, process_key: int) -> Array:
    """Return the launches of a process whose API call is known, by that call."""
    place = np.flatnonzero(facts.process_keys == process_key)
    has_call = facts.launches["api_row"].to_numpy() >= 0
    if not len(place):
        return np.empty(0, np.int64)
    rows = np.flatnonzero(has_call & (facts.launches["process_index"].to_numpy() == place[0]))
    ordered: Array = rows[np.argsort(facts.api_start_ns[rows], kind="stable")].astype(np.int32)
    return ordered


def _loop_name(text: str) -> str:
    """Return the name that all iterations share, empty when it cannot be one's name."""
    if _OPERATOR.search(text):
        return ""
    return plain_name(text)


def plain_name(text: str) -> str:
    """Return a range's name without the number at its end: ``step 12`` is a ``step``."""
    return _NUMBERED.sub("", text) or text


def where_work_ran(facts: Facts, ranges: pd.DataFrame) -> tuple[Array, Array]:
    """Return begin and end of the device's work on each of ``ranges``.

    Work counts for a range when its process submitted it during the range, on any thread: the
    backward pass of a training step runs on a thread of its own. A range without work keeps the
    host's times. Of several streams one tells, the main one: what runs beside it, a copy or a
    kernel that never ends, moves no border.
    """
    start, end = ranges["start_ns"].to_numpy(), ranges["end_ns"].to_numpy()
    begins, ends = start.copy(), end.copy()
    if left := left_over(facts):
        begins = np.maximum(begins, facts.launches["end_ns"].to_numpy()[:left].max())
    for key in np.unique(ranges["process_key"]):
        places = np.flatnonzero((ranges["process_key"] == key).to_numpy())
        rows = _launched_by(facts, int(key))
        rows = _on_main_stream(facts, rows, start[places], end[places])
        if not len(rows):
            continue
        called = facts.api_start_ns[rows]
        done = np.maximum.accumulate(facts.launches["end_ns"].to_numpy()[rows])
        first, last = np.searchsorted(called, start[places]), np.searchsorted(called, end[places])
        has_work = last > first
        earlier = has_work & (first > 0)
        before = done[np.maximum(first - 1, 0)]
        begins[places] = np.where(earlier, np.maximum(begins[places], before), begins[places])
        ends[places] = np.where(
            has_work, np.maximum(end[places], done[np.maximum(last - 1, 0)]), end[places]
        )
    return begins, np.maximum(ends, begins + 1)


def _on_main_stream(facts: Facts, rows: Array, start: Array, end: Array) -> Array:
    """Return the launches of the stream that most of the ranges use, and use longest.

    Args:
        facts: The recording.
        rows: Launches, by their calls.
        start: Begins of the ranges.
        end: Their ends.
    """
    order = np.argsort(start, kind="stable")
    called = facts.api_start_ns[rows]
    place = np.searchsorted(start[order], called, side="right") - 1
    inside = (place >= 0) & (called < end[order][np.maximum(place, 0)])
    if not inside.any():
        return rows[:0]
    stream, streams = pd.factorize(facts.launches["stream"].to_numpy()[rows])
    device = facts.launches["device"].to_numpy()[rows].astype(np.int64)
    code = pd.factorize(device * len(streams) + stream)[0]
    pairs = np.unique(code[inside] * len(start) + place[inside])
    ranges = np.bincount(pairs // len(start), minlength=code.max() + 1)
    busy = np.bincount(code[inside], facts.duration_ns[rows[inside]], minlength=code.max() + 1)
    main = np.lexsort((busy, ranges))[-1]
    chosen: Array = rows[code == main]
    return chosen


def left_over(facts: Facts) -> int:
    """Return how many GPU operations at the beginning were submitted before the recording began.

    The torch profiler begins to record devices earlier than hosts, so that what was still queued
    then has no call; nobody can say why it came when it did. Other recorders begin everywhere at
    once: what has no call there was dropped, anywhere in the recording.
    """
    submitted = np.flatnonzero(facts.launches["api_row"].to_numpy() >= 0)
    if facts.trace.source.format != TORCH_FORMAT or not len(submitted):
        return 0
    return int(submitted[0])


# --- whole steps ----------------------------------------------------------------------------


@memo()
def whole_steps(facts: Facts) -> tuple[StepSpan, ...]:
    """Return where each process had its steps; empty unless nearly all GPU work is in steps.

    Steps are those of ``torch.profiler``, however few, else the main loop. Those at the begin and
    the end that submitted nothing to a GPU are left out: warm-up before GPUs were recorded.
    Work that was submitted in a step belongs to it however late it ran.
    """
    if facts.counters_only or not facts.trace.count("ranges") or not len(facts.launches):
        return ()
    judged = np.arange(len(facts.launches)) >= left_over(facts)
    judged &= ~moved_by_driver(facts)
    inside = np.zeros(len(facts.launches), dtype=bool)
    spans = []
    for key, steps in _steps_by_process(facts).items():
        rows = _launched_by(facts, key)
        if (span := _span_of_steps(facts, key, steps, rows)) is not None:
            spans.append(span)
            inside[rows] |= _called_within(facts, rows, steps)
    work = facts.duration_ns
    if int(work[inside & judged].sum()) < MIN_STEP_WORK * int(work[judged].sum()):
        return ()
    return tuple(spans)


def moved_by_driver(facts: Facts) -> Array:
    """Return which launches are pages of unified memory that moved without any call."""
    moved = np.zeros(len(facts.launches), dtype=bool)
    kind = facts.of_table("copies", ["kind"])["kind"]
    moved[kind.index[np.isin(kind.to_numpy(), MANAGED_COPIES)]] = True
    return moved & (facts.launches["api_row"].to_numpy() < 0)


def _steps_by_process(facts: Facts) -> dict[int, pd.DataFrame]:
    """Return the ranges that are steps, with their shared name in the column ``loop``."""
    codes, ids = pd.factorize(facts.ranges["name_id"].to_numpy())
    is_step = np.array([str(n).startswith(f"{STEP}#") for n in facts.trace.names(ids)], dtype=bool)
    marked = facts.ranges[is_step[codes]].assign(loop=STEP)
    steps = {int(str(key)): rows for key, rows in marked.groupby("process_key")}
    loops = sorted(_loops(facts), key=lambda c: -c.launches)
    for key, name in {
        int(c.ranges["process_key"].iloc[0]): str(c.ranges["loop"].iloc[0]) for c in reversed(loops)
    }.items():
        # Threads that each drive a GPU go through steps of the same name.
        alike = [c.ranges for c in loops if c.ranges["loop"].iloc[0] == name]
        alike = [r for r in alike if int(r["process_key"].iloc[0]) == key]
        steps.setdefault(key, pd.concat(alike))
    return steps


def _span_of_steps(
    facts: Facts, process_key: int, steps: pd.DataFrame, rows: Array
) -> StepSpan | None:
    """Return from where to where steps that use a GPU reach; None when none does.

    Args:
        facts: The recording.
        process_key: Of the process.
        steps: Its steps.
        rows: What it launched, by call.
    """
    called = facts.api_start_ns[rows]
    start, end = steps["start_ns"].to_numpy(), steps["end_ns"].to_numpy()
    used = np.searchsorted(called, start) < np.searchsorted(called, end)
    if not used.any():
        return None
    begins, _ = where_work_ran(facts, steps)
    begun, last = int(start[used].min()), int(end[used].max())
    submitted = rows[(called >= begun) & (called < last)]
    done = int(facts.launches["end_ns"].to_numpy()[submitted].max())
    return StepSpan(
        process_key=process_key,
        name=str(steps["loop"].iloc[0]),
        count=int(np.count_nonzero(used)),
        start_ns=int(begins[used].min()),
        end_ns=max(last, done),
    )


def _called_within(facts: Facts, rows: Array, steps: pd.DataFrame) -> Array:
    """Return which of these launches were submitted during any of the ranges."""
    during = union(steps["start_ns"].to_numpy(), steps["end_ns"].to_numpy())
    called = facts.api_start_ns[rows]
    place = np.searchsorted(during.start, called, side="right") - 1
    within: Array = (place >= 0) & (called < during.end[np.maximum(place, 0)])
    return within
