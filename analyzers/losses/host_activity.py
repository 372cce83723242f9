"""What the submitting threads were doing while the device was idle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.facts.nesting import innermost
from analyzers.facts.operators import on_thread, operator_text
from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Spans, covered, intersect, overlaps, union
from analyzers.ledger.ledger import device_spans
from analyzers.words import name_text, time_text

Named = list[tuple[str, int]]
_MOST = 0.50  # of a loss; from here on "mostly" is true


def host_activity(facts: Facts, segments: pd.DataFrame) -> tuple[Named, Named, Named]:
    """Return what the submitting threads were doing during idle time outside CUDA.

    Returns:
        Operating-system calls, ranges that the program marked, and operators of its framework
        (the innermost at each moment), each as name and nanoseconds of idle time, the largest
        first; empty when none were recorded. Like the idle time itself, they are summed over
        devices.
    """
    segments = segments[segments["launch"].to_numpy() >= 0]
    thread = facts.thread_index[segments["launch"].to_numpy()]
    calls: dict[int, int] = {}
    ranges: dict[int, int] = {}
    operators: dict[int, int] = {}
    os_calls = trace_table(facts.trace, "os_calls", ["start_ns", "end_ns", "thread_key", "name_id"])
    for place in np.unique(thread[thread >= 0]):
        key = facts.thread_keys[place]
        called = os_calls[(os_calls["thread_key"] == key).to_numpy()]
        marked = facts.ranges[(facts.ranges["thread_key"] == key).to_numpy()]
        for device in range(len(facts.devices)):
            idle = device_spans(segments[thread == place], device)
            _add_calls(calls, idle, called)
            _add_ranges(ranges, idle, marked)
            _add_ranges(operators, idle, on_thread(facts, int(place)))
    return (
        _names_of(facts, calls, name_text),
        _names_of(facts, ranges, name_text),
        _names_of(facts, operators, operator_text),
    )


def calls_during(facts: Facts, segments: pd.DataFrame) -> Named:
    """Return the API functions in which idle time passed, as name and nanoseconds, largest first.

    The calls are those of the threads that submitted what ended the idle time. A function called
    by another one counts as well as its caller.
    """
    segments = segments[segments["launch"].to_numpy() >= 0]
    thread = facts.thread_index[segments["launch"].to_numpy()]
    totals: dict[int, int] = {}
    columns = ["start_ns", "end_ns", "thread_index", "name"]
    api = facts.api[columns].rename(columns={"name": "name_id"})
    for place in np.unique(thread[thread >= 0]):
        called = api[(api["thread_index"] == place).to_numpy()]
        for device in range(len(facts.devices)):
            _add_calls(totals, device_spans(segments[thread == place], device), called)
    ordered = sorted((i for i in totals if totals[i] > 0), key=lambda i: -totals[i])
    return [(str(facts.functions[i]), totals[i]) for i in ordered]


def mostly(named: Named, lost_ns: int, how: str = "during") -> str:
    """Say what covered most of a loss: ``mostly during NAME (284 ms)``; empty when nothing did."""
    parts = [f"{name} ({time_text(ns)})" for name, ns in named if ns >= _MOST * lost_ns]
    return f"mostly {how} {' and '.join(parts)}" if parts else ""


def _add_calls(totals: dict[int, int], idle: Spans, calls: pd.DataFrame) -> None:
    """Add how much of ``idle`` passed in calls of each name; nested ones of one name count once."""
    during = covered(Spans(calls["start_ns"].to_numpy(), calls["end_ns"].to_numpy()), idle) > 0
    for name_id, of_name in calls[during].groupby("name_id"):
        flat = union(of_name["start_ns"].to_numpy(), of_name["end_ns"].to_numpy())
        _add(totals, name_id, intersect(idle, flat).total)


def _add_ranges(totals: dict[int, int], idle: Spans, ranges: pd.DataFrame) -> None:
    """Add how much of ``idle`` passed in ranges of each name, innermost ranges only."""
    start, end = ranges["start_ns"].to_numpy(), ranges["end_ns"].to_numpy()
    during = covered(Spans(start, end), idle) > 0
    start, end, names = start[during], end[during], ranges["name_id"].to_numpy()[during]
    borders = np.unique(np.concatenate((start, end)))
    parts = Spans(borders[:-1], borders[1:])
    inside = innermost(start, end, parts.start)
    _, part, begin, stop = overlaps(idle, parts)
    named = inside[part] >= 0
    lengths = pd.Series((stop - begin)[named])
    for name_id, ns in lengths.groupby(names[inside[part][named]]).sum().items():
        _add(totals, name_id, int(ns))


def _add(totals: dict[int, int], name_id: object, ns: int) -> None:
    key = int(str(name_id))
    totals[key] = totals.get(key, 0) + ns


def _names_of(facts: Facts, totals: dict[int, int], shorten: Callable[[str], str]) -> Named:
    ordered = sorted((i for i in totals if totals[i] > 0), key=lambda i: -totals[i])
    names = facts.trace.names(np.array(ordered, dtype=np.int64))
    return [(shorten(str(n)), totals[i]) for n, i in zip(names, ordered, strict=True)]
