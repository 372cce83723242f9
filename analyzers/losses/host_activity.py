"""What the submitting threads were doing while the device was idle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.facts.migrations import host_thread
from analyzers.facts.nesting import innermost
from analyzers.facts.operators import operator_text
from analyzers.facts.python_frames import frame_text
from analyzers.facts.surroundings import NamedSpans, operators_of
from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Spans, covered, intersect, overlaps, union
from analyzers.ledger.ledger import Ledger, device_spans
from analyzers.losses.culprits import Named, line_candidates, parts_of_steps, telling
from analyzers.words import name_text, time_text

_MOST = 0.50  # of a loss; from here on "mostly" is true
MIN_SAMPLES = 20  # of a thread while the GPU idled; fewer show nothing reliably


@dataclass(frozen=True, kw_only=True)
class HostActivity:
    """What threads did in idle time, as name and nanoseconds of it, the largest first.

    Like the idle time itself, nanoseconds are summed over devices.

    Attributes:
        calls: Calls of the operating system.
        ranges: Innermost ranges that the program marked, without those around all of the window.
        operators: Innermost operators of the framework.
        lines: Innermost functions of the program on Python's stacks.
        functions: Functions in which samples of the processor found the thread; the time is the
            samples' share of the idle time.
    """

    calls: Named
    ranges: Named
    operators: Named
    lines: Named
    functions: Named

    @property
    def of_program(self) -> Named:
        """The first of each kind that the program's author wrote, for an advice."""
        kinds = (self.calls, self.functions, self.ranges, self.lines)
        return [item for kind in kinds for item in kind[:1]]

    @property
    def largest(self) -> Named:
        """The first of each kind, for a title."""
        kinds = (self.calls, self.ranges, self.operators, self.lines, self.functions)
        return [item for kind in kinds for item in kind[:1]]


def host_activity(facts: Facts, ledger: Ledger, segments: pd.DataFrame) -> HostActivity:
    """Return what the submitting threads were doing during idle time outside CUDA.

    Args:
        facts: The recording.
        ledger: Its account.
        segments: Part of it, with ``launch``.
    """
    segments = segments[segments["launch"].to_numpy() >= 0]
    thread = host_thread(facts, segments["launch"].to_numpy())
    lost_ns = int((segments["end_ns"] - segments["start_ns"]).sum())
    idle = [
        (int(place), device_spans(segments[thread == place], device))
        for place in np.unique(thread[thread >= 0])
        for device in range(len(facts.devices))
    ]
    calls: dict[int, int] = {}
    os_calls = trace_table(facts.trace, "os_calls", ["start_ns", "end_ns", "thread_key", "name_id"])
    for place, spans in idle:
        key = facts.thread_keys[place]
        _add_calls(calls, spans, os_calls[(os_calls["thread_key"] == key).to_numpy()])
    lines = (_during(idle, frames, frame_text) for frames in line_candidates(facts, ledger))
    return HostActivity(
        calls=_names_of(facts, calls, name_text),
        ranges=_during(idle, parts_of_steps(facts, ledger), name_text),
        operators=_during(idle, operators_of(facts), operator_text),
        lines=telling(lines, lost_ns),
        functions=_sampled(facts, idle),
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
        key = int(str(name_id))
        totals[key] = totals.get(key, 0) + intersect(idle, flat).total


def _during(
    idle: list[tuple[int, Spans]], spans: NamedSpans, shorten: Callable[[str], str]
) -> Named:
    """Return how much idle time passed in intervals of each name, innermost only."""
    totals = np.zeros(len(spans.texts), np.int64)
    for place, free in idle:
        own = spans.on_thread(place)
        during = covered(own.spans, free) > 0
        start, end, names = own.spans.start[during], own.spans.end[during], own.name[during]
        borders = np.unique(np.concatenate((start, end)))
        parts = Spans(borders[:-1], borders[1:])
        inside = innermost(start, end, parts.start)
        _, part, begin, stop = overlaps(free, parts)
        around = inside[part] >= 0
        np.add.at(totals, names[inside[part][around]], (stop - begin)[around])
    order = np.argsort(-totals, kind="stable")
    return [(shorten(spans.texts[i]), int(totals[i])) for i in order.tolist() if totals[i] > 0]


def _sampled(facts: Facts, idle: list[tuple[int, Spans]]) -> Named:
    """Return idle time by the function that samples of the processor found its thread in."""
    totals: dict[int, int] = {}
    samples = trace_table(facts.trace, "cpu_samples", ["time_ns", "thread_key", "symbol_id"])
    samples = samples[(samples["symbol_id"] >= 0).to_numpy()]
    for place, free in idle:
        own = samples[(samples["thread_key"] == facts.thread_keys[place]).to_numpy()]
        moments = own["time_ns"].to_numpy()
        inside = covered(Spans(moments, moments + 1), free) > 0
        if np.count_nonzero(inside) < MIN_SAMPLES:
            continue
        counts = own["symbol_id"][inside].value_counts()
        for symbol, count in counts.items():
            key = int(str(symbol))
            totals[key] = totals.get(key, 0) + round(free.total * int(count) / int(counts.sum()))
    return _names_of(facts, totals, lambda name: f"the function {name_text(name)}")


def _names_of(facts: Facts, totals: dict[int, int], shorten: Callable[[str], str]) -> Named:
    ordered = sorted((i for i in totals if totals[i] > 0), key=lambda i: -totals[i])
    names = facts.trace.names(np.array(ordered, dtype=np.int64))
    return [(shorten(str(n)), totals[i]) for n, i in zip(names, ordered, strict=True)]
