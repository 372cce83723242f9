"""What the pickers offer: the windows and the devices of one recording."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.facts.facts import holds_counters_only
from analyzers.facts.spans import Iteration
from analyzers.facts.window_request import parse_request, request_text
from analyzers.facts.windows import ALL
from analyzers.recorder import recorder_of
from analyzers.report import Report
from analyzers.words import count_text, time_text
from collectors.trace import Trace
from library import cache
from views.shared.devices import device_labels
from views.shared.session import load, parse_span, zero_ns
from views.shared.units import visible

SHOWN_ITERATIONS = 200  # of a longer loop the first; any other can be typed
SHOWN_RANGES = 60  # names, those that cover most time
LABEL_LENGTH = 44
MAX_DIGITS = 9
NO_COUNTERS = "No counters"
WHOLE = "All GPU work"  # first to last operation; less than all that was recorded


@st.cache_resource(max_entries=32, show_spinner=False)
def window_choices(trace_id: str) -> dict[str, str]:
    """Return the windows worth offering, and what to call them.

    Raises:
        TraceError: The recording is gone or damaged.
    """
    report = load(trace_id, "").report
    return {
        **_default_choices(report),
        **_iteration_choices(report.iterations),
        **_range_choices(cache.get(trace_id)),
    }


def _default_choices(report: Report) -> dict[str, str]:
    """Return the window of a page that nobody chose, and all GPU work if that is another one."""
    if not report.devices:
        return {"": "All recorded"}
    if not report.window.steps:
        return {"": WHOLE}
    count = sum(s.count for s in report.window.steps)
    return {"": f"Whole steps · {count_text(count, 'step')}", ALL: WHOLE}


def window_label(trace_id: str, window: str) -> str:
    """Return what to call a window that is not among the choices.

    Raises:
        TraceError: The recording is gone or damaged.
    """
    if (span := parse_span(window.removeprefix("span:"))) is None or span[0] == span[1]:
        return visible(window, LABEL_LENGTH)
    start, end = (moment - zero_ns(trace_id) for moment in span)
    # As many digits as it takes to see that the begin is not the end.
    ratio = max(abs(start), abs(end)) / (end - start)
    digits = min(max(math.ceil(math.log10(max(ratio, 1))) + 2, 3), MAX_DIGITS)
    begin, until = time_text(start, digits), time_text(end, digits)
    return f"{begin} \N{EN DASH} {until} ({time_text(end - start)})"


def requested_iterations(trace_id: str, window: str) -> dict[str, str]:
    """Return a window for each iteration, where somebody says what an iteration is.

    Args:
        trace_id: The recording.
        window: The window that is looked at, with that choice.

    Raises:
        TraceError: The recording is gone or damaged.
        WindowError: It has no such iterations.
    """
    choice = parse_request(window).iterations
    if not choice:
        return {}
    iterations = load(trace_id, request_text("", choice)).report.iterations
    return _iteration_choices(iterations, choice)


def _iteration_choices(iterations: tuple[Iteration, ...], choice: str = "") -> dict[str, str]:
    """Return a window for each iteration, and what to call it.

    Args:
        iterations: Those that were found or chosen.
        choice: How, where they were chosen; as ``analyzers.facts.window_request`` takes it.
    """
    count = len(iterations)
    return {
        request_text(f"iteration:{n}", choice): (
            f"Iteration {n} of {count} · {time_text(i.end_ns - i.start_ns)}"
        )
        for n, i in enumerate(iterations[:SHOWN_ITERATIONS], start=1)
    }


def _range_choices(trace: Trace) -> dict[str, str]:
    if not trace.count("ranges"):
        return {}
    columns = trace.columns("ranges", ["start_ns", "end_ns", "name_id"])
    length = pd.Series(columns["end_ns"] - columns["start_ns"]).groupby(columns["name_id"])
    totals = length.agg(["sum", "size"]).sort_values("sum", ascending=False).head(SHOWN_RANGES)
    names = trace.names(totals.index.to_numpy(dtype=np.int64))
    word = recorder_of(trace).ranges.removesuffix(" range")
    return {
        f"nvtx:{name}#1": f"{word} {visible(str(name), LABEL_LENGTH)} · first of {count:,}"
        if count > 1
        else f"{word} {visible(str(name), LABEL_LENGTH)}"
        for name, count in zip(names, totals["size"], strict=True)
        if name
    }


def counters_choices(trace_id: str, recordings: list[Trace]) -> dict[str, str]:
    """Return the recordings of counters that can be joined to a timeline, by id.

    The first choice is none; without any recording there is no choice, nor for one that holds
    counters itself.
    """
    names_by_id = {t.id: t.source.name for t in recordings if holds_counters_only(t)}
    if not names_by_id or trace_id in names_by_id:
        return {}
    names = list(names_by_id.values())
    return {"": NO_COUNTERS} | {
        i: f"Counters {visible(n, LABEL_LENGTH)}" + (f" · {i[:6]}" if names.count(n) > 1 else "")
        for i, n in names_by_id.items()
    }


def device_choices(report: Report) -> dict[int, str]:
    """Return the devices by key, and -1 for all of them; nothing when there is no choice."""
    named = device_labels(report.devices)
    return {-1: f"All {len(named)} GPUs", **named} if len(named) > 1 else {}
