"""Which stretch of a recording is analysed: whole steps, all of it, a range, a span."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts, WindowError
from analyzers.facts.loops import (
    iterations_of_ranges,
    left_over,
    moved_by_driver,
    plain_name,
    where_work_ran,
    whole_steps,
)
from analyzers.facts.spans import PROFILED, Iteration, Window
from analyzers.facts.window_request import number_in
from analyzers.recorder import recorder_of
from common.memo import memo

ALL = "all"
"""Asks for all GPU work, whatever steps the recording marks."""
STEPS = "whole steps"
WHOLE = "first to last GPU operation"
SUBMITTED = "first GPU operation submitted during the recording to the last"
FREE = "after work that was queued before the recording, to the last GPU operation"
HELD_SHARE = 0.5  # of all that was recorded; a stream held up for longer leaves little to judge
HELD_NS = 1_000_000
FEW = 0.1  # of the GPU's work, which may run on other streams meanwhile
SHOWN_NAMES = 5  # when the one that is asked for is missing


def choose_window(facts: Facts, request: str, iterations: tuple[Iteration, ...]) -> Window:
    """Return the window that ``request`` names.

    Args:
        facts: The recording.
        request: ``""`` (whole steps, where the program marked them and they hold nearly all
            GPU work, else all GPU work), ``all`` (first to last GPU operation), ``nvtx:NAME#n``,
            ``iteration:n`` (both from 1) or ``span:START-END`` in ns.
        iterations: As ``find_iterations`` returns them.

    Raises:
        WindowError: The recording has no such window.
    """
    kind, _, rest = request.partition(":")
    if facts.counters_only:
        return _profiled(facts, request)
    if not request:
        return _whole_steps(facts) or _free_work(facts) or all_work(facts)
    if request == ALL:
        return all_work(facts)
    if kind == "nvtx" and rest:
        return _nvtx_window(facts, rest)
    if kind == "iteration" and rest.isdecimal():
        number = number_in(rest) or 0
        if not 1 <= number <= len(iterations):
            choices = f"1 to {len(iterations)}" if iterations else "none; give nvtx:NAME#n or span:"
            raise WindowError(
                f"iteration:{rest[:80]}: the iterations of this recording are {choices}"
            )
        chosen = iterations[number - 1]
        return _chosen(chosen.start_ns, chosen.end_ns, f"iteration {number}")
    span = re.fullmatch(r"(-?\d+)-(-?\d+)", rest) if kind == "span" else None
    start_ns, end_ns = (number_in(text) for text in span.groups()) if span else (None, None)
    if start_ns is not None and end_ns is not None and start_ns < end_ns:
        return _span(facts, start_ns, end_ns)
    raise WindowError(
        f"{request[:80]!r} is not a window: use all, nvtx:NAME#n, iteration:n or "
        "span:START-END (ns)"
    )


def _chosen(start_ns: int, end_ns: int, label: str) -> Window:
    return Window(start_ns=start_ns, end_ns=end_ns, label=label, is_chosen=True)


def _whole_steps(facts: Facts) -> Window | None:
    if not (steps := whole_steps(facts)):
        return None
    return Window(
        start_ns=min(s.start_ns for s in steps),
        end_ns=max(s.end_ns for s in steps),
        label=STEPS,
        is_chosen=True,
        steps=steps,
    )


def all_work(facts: Facts) -> Window:
    """Return the window from the first to the last GPU operation that can be judged."""
    if not len(facts.launches):
        return Window(start_ns=0, end_ns=0, label="no GPU work")
    start = facts.launches["start_ns"].to_numpy()
    first, label = left_over(facts), WHOLE
    if first:
        label = SUBMITTED
    return Window(start_ns=int(start[first]), end_ns=_last_work_ns(facts), label=label)


def _free_work(facts: Facts) -> Window | None:
    """Return the window from where older work no longer holds up what was submitted."""
    first = held_up_by_older_work(facts)
    if not first:
        return None
    start_ns = int(facts.launches["start_ns"].iloc[first])
    return Window(start_ns=start_ns, end_ns=_last_work_ns(facts), label=FREE)


@memo()
def held_up_by_older_work(facts: Facts) -> int:
    """Return how many operations at the beginning ran before most of the recording was dark.

    A profiler that starts while a GPU works sees what is submitted from then on, and not what its
    streams got before. The first operation that it sees on a stream then waits, in its queue, for
    something that is not in the recording. When that is most of the time, and a tenth of the work
    at most ran meanwhile, nothing can be said about that part. 0 where it is not so.
    """
    launches = facts.launches
    if len(facts.devices) != 1 or not len(facts.api) or len(launches) < 2:
        return 0
    idle_ns = facts.idle_before_ns
    first = int(idle_ns.argmax())
    start, end = (launches[name].to_numpy() for name in ("start_ns", "end_ns"))
    whole_ns = int(end.max() - start.min())
    is_long = idle_ns[first] >= max(HELD_NS, HELD_SHARE * whole_ns)
    of_stream = facts.stream_codes == facts.stream_codes[first]
    is_first = not of_stream[:first].any()
    api_row = int(launches["api_row"].iloc[first])
    if not (is_long and is_first and api_row >= 0):
        return 0
    queued_ns = start[first] - facts.api["end_ns"].to_numpy()[api_row]
    was_queued = queued_ns >= HELD_SHARE * idle_ns[first]
    few = facts.duration_ns[:first].sum() <= FEW * facts.duration_ns.sum()
    return first if was_queued and few else 0


def _last_work_ns(facts: Facts) -> int:
    """Return when the last work of a GPU ended.

    Pages of unified memory that go home after it move because the host touches them; no program
    waits for a GPU then.
    """
    end = facts.launches["end_ns"].to_numpy()
    is_work = ~moved_by_driver(facts)
    return int(end[is_work].max() if is_work.any() else end.max())


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
    """Tell whether nobody chose the window: it holds nearly all GPU work that can be judged."""
    return window.label in (STEPS, WHOLE, SUBMITTED, FREE)


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
    place = number_in(number) or 0
    if not 1 <= place <= len(rows):
        raise WindowError(_no_such_range(facts, name, number, len(rows)))
    start, end = where_work_ran(facts, rows.iloc[[place - 1]])
    label = f"{recorder_of(facts.trace).ranges} {name} #{place}"
    return _chosen(int(start[0]), int(end[0]), label)


def _no_such_range(facts: Facts, name: str, number: str, count: int) -> str:
    """Say that there is no range of this name and number, and which ones there are."""
    noun = recorder_of(facts.trace).ranges
    if count:
        place = f"nvtx:{name[:80]}#{number[:20]}"
        return f"{place}: the recording has {count} of these; give 1 to {count}"
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
    iterations = iterations_of_ranges(facts, rows)
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
