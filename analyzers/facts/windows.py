"""Which stretch of a recording is analysed: all of it, an NVTX range, an iteration, a span.

The host is ahead of the device, so the device works on a range later than the host passes
through it. A range's window is therefore where its work ran: it begins with the range, or when
the work submitted before it is done, and ends with the range, or when its own work is done.
Ranges that follow each other so get windows that follow each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts, WindowError
from analyzers.facts.nesting import nesting_depth
from analyzers.facts.spans import PROFILED, Iteration, Window
from analyzers.intervals import Array, by_key
from analyzers.recorder import TORCH_FORMAT, recorder_of

WHOLE = "first to last GPU operation"
SUBMITTED = "first GPU operation submitted during the recording to the last"
LIBRARY_DOMAINS = ("MPI", "UCX", "OpenACC", "OpenMP")
MIN_ITERATIONS = 3  # two equal ranges may be coincidence
MIN_COVERED_SHARE = 0.5  # a loop that submits less than half of the work is not the main loop
SHOWN_NAMES = 5  # when the one that is asked for is missing
MAX_LOOP_DEPTH = 3  # "main", "epoch" and the loop itself

# Ranges that frameworks write for each operator: repeated, but no iteration of anything.
_OPERATOR = re.compile(r"^(?:aten|autograd|at|nccl|torch|void)\b|op_id|, ?seq ?=|::")
_NUMBERED = re.compile(r"\s*[#:_=-]?\s*\(?\d+\)?$")


def choose_window(facts: Facts, request: str, iterations: tuple[Iteration, ...]) -> Window:
    """Return the window that ``request`` names.

    Args:
        facts: The recording.
        request: ``""`` (first to last GPU operation), ``nvtx:NAME#n``, ``iteration:n``
            (both from 1) or ``span:START-END`` in ns.
        iterations: As ``find_iterations`` returns them.

    Raises:
        WindowError: The recording has no such window.
    """
    kind, _, rest = request.partition(":")
    if facts.counters_only:
        return _profiled(facts, request)
    if not request:
        return _whole(facts)
    if kind == "nvtx" and rest:
        return _nvtx_window(facts, rest)
    if kind == "iteration" and rest.isdecimal():
        if not 1 <= int(rest) <= len(iterations):
            choices = f"1 to {len(iterations)}" if iterations else "none; give nvtx:NAME#n or span:"
            raise WindowError(f"iteration:{rest}: the iterations of this recording are {choices}")
        chosen = iterations[int(rest) - 1]
        label = f"iteration {rest}"
        return _chosen(chosen.start_ns, chosen.end_ns, label)
    span = re.fullmatch(r"(-?\d{1,19})-(-?\d{1,19})", rest) if kind == "span" else None
    if span and int(span[1]) < int(span[2]):
        return _span(facts, int(span[1]), int(span[2]))
    raise WindowError(
        f"{request[:80]!r} is not a window: use nvtx:NAME#n, iteration:n or span:START-END (ns)"
    )


def _chosen(start_ns: int, end_ns: int, label: str) -> Window:
    return Window(start_ns=start_ns, end_ns=end_ns, label=label, is_chosen=True)


def _whole(facts: Facts) -> Window:
    if not len(facts.launches):
        return Window(start_ns=0, end_ns=0, label="no GPU work")
    start, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    left = left_over(facts)
    if left:
        return Window(start_ns=int(start[left]), end_ns=int(end.max()), label=SUBMITTED)
    return Window(start_ns=int(start[0]), end_ns=int(end.max()), label=WHOLE)


def recorded_ns(facts: Facts, window: Window) -> int:
    """Return how long was recorded around a window, by the recorder's word or its first and last.

    At least as long as the window itself.
    """
    moments = [window.start_ns, window.end_ns]
    if len(facts.api):
        moments += [int(facts.api["start_ns"].min()), int(facts.api["end_ns"].max())]
    around = max(moments) - min(moments)
    # Where times are impossible, what the recorder gives as its length may come from them.
    return around if facts.impossible.far else max(facts.trace.source.duration_ns, around)


def covers_all_work(window: Window) -> bool:
    """Tell whether nobody chose the window: it holds all GPU work that can be judged."""
    return window.label in (WHOLE, SUBMITTED)


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


def _profiled(facts: Facts, request: str) -> Window:
    if request:
        raise WindowError(
            f"{request[:80]!r}: the recording holds counters for individual launches but no "
            "timeline, so there is no window to choose"
        )
    return Window(start_ns=0, end_ns=int(facts.duration_ns.sum()), label=PROFILED)


def _span(facts: Facts, start_ns: int, end_ns: int) -> Window:
    starts = [t["start_ns"].to_numpy().min() for t in (facts.launches, facts.api) if len(t)]
    ends = [t["end_ns"].to_numpy().max() for t in (facts.launches, facts.api) if len(t)]
    if starts and not (start_ns < max(ends) and end_ns > min(starts)):
        raise WindowError(
            f"span:{start_ns}-{end_ns}: nothing was recorded there; CUDA work runs from "
            f"{min(starts)} to {max(ends)} ns"
        )
    return Window(start_ns=start_ns, end_ns=end_ns, label="selected span")


def _nvtx_window(facts: Facts, rest: str) -> Window:
    name, _, number = rest.rpartition("#")
    if not name or not number.isdecimal():
        name, number = rest, "1"
    rows = _ranges_named(facts, name)
    if not len(rows) and len(whole_name := _ranges_named(facts, rest)):
        rows, name, number = whole_name, rest, "1"  # the number belongs to the name
    if not 1 <= int(number) <= len(rows):
        raise WindowError(_no_such_range(facts, name, number, len(rows)))
    start, end = _where_work_ran(facts, rows.iloc[[int(number) - 1]])
    label = f"{recorder_of(facts.trace).ranges} {name} #{number}"
    return _chosen(int(start[0]), int(end[0]), label)


def _no_such_range(facts: Facts, name: str, number: str, count: int) -> str:
    """Say that there is no range of this name and number, and which ones there are."""
    noun = recorder_of(facts.trace).ranges
    if count:
        return f"nvtx:{name[:80]}#{number}: the recording has {count} of these; give 1 to {count}"
    ranges = facts.ranges
    lasted = (ranges["end_ns"] - ranges["start_ns"]).groupby(ranges["name_id"].to_numpy()).sum()
    longest = lasted.nlargest(SHOWN_NAMES).index.to_numpy()
    names = ", ".join(repr(str(n)[:80]) for n in facts.trace.names(longest))
    more = f" and {len(lasted) - SHOWN_NAMES} others" if len(lasted) > SHOWN_NAMES else ""
    alternatives = f"it has {names}{more}" if names else "there is none"
    return f"nvtx:{name[:80]}: the recording has no such {noun}; {alternatives}"


def repetitions(
    facts: Facts, name: str, process: int | None = None
) -> tuple[tuple[Iteration, ...], str]:
    """Return where the work of every range of this name ran, and how they were chosen, in words.

    Args:
        facts: The recording.
        name: ``NAME`` or ``DOMAIN:NAME``; a number at the end of a range's name does not count
            when no range has exactly this name.
        process: Key of the process whose ranges are meant; None for all.

    Raises:
        WindowError: There is no such range.
    """
    noun = recorder_of(facts.trace).ranges
    rows = _ranges_named(facts, name)
    if not len(rows):
        ids = pd.unique(facts.ranges["name_id"].to_numpy())
        named = zip(ids.tolist(), facts.trace.names(ids), strict=True)
        alike = [i for i, text in named if plain_name(str(text)) == name]
        rows = facts.ranges[np.isin(facts.ranges["name_id"].to_numpy(), alike)]
        rows = rows.sort_values("start_ns", kind="stable")
    of_process = rows if process is None else rows[(rows["process_key"] == process).to_numpy()]
    rows = of_process if len(of_process) else rows
    if not len(rows):
        raise WindowError(f"{noun} {name[:80]!r}: the recording has none")
    begins, ends = _where_work_ran(facts, rows)
    texts = facts.trace.names(rows["name_id"].to_numpy())
    iterations = tuple(
        Iteration(name=str(t), start_ns=int(b), end_ns=int(e))
        for t, b, e in zip(texts, begins, ends, strict=True)
    )
    return iterations, f"{len(iterations)} repetitions of the {noun} {name!r}."


def _ranges_named(facts: Facts, name: str) -> pd.DataFrame:
    """Return the ranges called ``name`` or ``domain:name``, by begin."""
    ranges = facts.ranges
    texts = facts.trace.names(ranges["name_id"].to_numpy())
    chosen = texts == name
    domain, colon, inner = name.partition(":")
    if colon:
        domains = facts.trace.names(facts.trace.columns("ranges", ["domain_id"])["domain_id"])
        chosen |= (domains == domain) & (texts == inner)
    named: pd.DataFrame = ranges[chosen].sort_values("start_ns", kind="stable")
    return named


def _where_work_ran(facts: Facts, ranges: pd.DataFrame) -> tuple[Array, Array]:
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
        rows = rows[np.argsort(facts.api_start_ns[rows], kind="stable")]
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
    streams = facts.launches[["device", "stream"]].iloc[rows]
    code = streams.groupby(["device", "stream"], sort=False).ngroup().to_numpy()
    pairs = np.unique(code[inside] * len(start) + place[inside])
    ranges = np.bincount(pairs // len(start), minlength=code.max() + 1)
    busy = np.bincount(code[inside], facts.duration_ns[rows[inside]], minlength=code.max() + 1)
    main = np.lexsort((busy, ranges))[-1]
    chosen: Array = rows[code == main]
    return chosen


def find_iterations(facts: Facts) -> tuple[tuple[Iteration, ...], str]:
    """Return the repetitions of the program's main loop, and how they were found or why not.

    An iteration is a top-level NVTX range (or one inside a range that wraps the whole program)
    whose name repeats, a number at its end aside, and whose instances submit at least half of the
    GPU work. Nothing is invented from gaps in the work.
    """
    if facts.counters_only:
        return (), ""
    noun = recorder_of(facts.trace).ranges
    if not facts.trace.count("ranges"):
        return (), f"No iterations: the recording has no {noun}s to mark them."
    ranges = facts.ranges[~_of_libraries(facts)]
    launched = {
        int(key): np.sort(facts.api_start_ns[_launched_by(facts, int(key))])
        for key in pd.unique(ranges["process_key"])
    }
    candidates = [
        candidate
        for _, rows in by_key(ranges["thread_key"].to_numpy(), np.arange(len(ranges)))
        if len(rows) >= MIN_ITERATIONS
        and (candidate := _loop_on_thread(facts, ranges.iloc[rows], launched)) is not None
    ]
    if not candidates:
        return (), (
            f"No iterations: no top-level {noun} repeats at least "
            f"{MIN_ITERATIONS} times and submits most of the GPU work."
        )
    loop = max(candidates, key=lambda c: c[1])[0]
    name = str(loop["loop"].iloc[0])
    begins, ends = _where_work_ran(facts, loop)
    texts = facts.trace.names(loop["name_id"].to_numpy())
    iterations = tuple(
        Iteration(name=str(t), start_ns=int(b), end_ns=int(e))
        for t, b, e in zip(texts, begins, ends, strict=True)
    )
    return iterations, f"{len(iterations)} iterations, from the repeated {noun} {name!r}."


def _of_libraries(facts: Facts) -> Array:
    """Return which ranges are calls of a library that the recorder traced, not marks of a loop."""
    domain = facts.trace.columns("ranges", ["domain_id"])["domain_id"]
    is_library: Array = np.isin(facts.trace.names(domain), LIBRARY_DOMAINS)
    return is_library


def _loop_on_thread(
    facts: Facts, ranges: pd.DataFrame, launched_by: Mapping[int, Array]
) -> tuple[pd.DataFrame, int] | None:
    """Return the repeated ranges that are one thread's main loop, and how much they submit.

    Args:
        facts: The recording.
        ranges: Of this thread.
        launched_by: Begins of the launch calls of each process, sorted.
    """
    launched = launched_by[int(ranges["process_key"].iloc[0])]
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
    return loop, int(best["sum"])


def _launched_by(facts: Facts, process_key: int) -> Array:
    """Return the launches of a process whose API call is known."""
    place = np.flatnonzero(facts.process_keys == process_key)
    has_call = facts.launches["api_row"].to_numpy() >= 0
    if not len(place):
        return np.empty(0, np.int64)
    rows: Array = np.flatnonzero(
        has_call & (facts.launches["process_index"].to_numpy() == place[0])
    )
    return rows


def _loop_name(text: str) -> str:
    """Return the name that all iterations share, empty when it cannot be one's name."""
    if _OPERATOR.search(text):
        return ""
    return plain_name(text)


def plain_name(text: str) -> str:
    """Return a range's name without the number at its end: ``step 12`` is a ``step``."""
    return _NUMBERED.sub("", text) or text
