"""What the picker of iterations offers: what whyslow found, and what else could be meant."""

from __future__ import annotations

import streamlit as st

from analyzers.facts.facts import holds_counters_only
from analyzers.facts.loops import MIN_ITERATIONS, plain_name, written_by_tracers
from analyzers.facts.window_request import NONE, parse_request, request_text
from analyzers.recorder import recorder_of
from analyzers.report import Report
from analyzers.words import count_text, name_text
from collectors.trace import Trace
from library import cache
from views.shared.session import load
from views.shared.units import visible

SHOWN_RANGES = 8  # names that repeat, those that cover most time
LABEL_LENGTH = 32


@st.cache_resource(max_entries=32, show_spinner=False)
def iteration_choices(trace_id: str) -> dict[str, str]:
    """Return what an iteration may be, as a window's request says it, and what to call that.

    Empty where there is nothing to choose.

    Raises:
        TraceError: The recording is gone or damaged.
    """
    trace = cache.get(trace_id)
    if holds_counters_only(trace):  # launches end to end, with no time between them
        return {}
    report = load(trace_id, "").report
    choices = {**repeated_ranges(trace), **_repeated_kernels(report)}
    if not choices and not report.iterations:
        return {}
    return {"": _detected_iterations(report), **choices, NONE: "No iterations"}


def with_choice(window: str, choice: str) -> str:
    """Return the request for a window with another choice of iterations.

    A window that is one iteration by the choice before would be another stretch by this one, so
    that the usual window takes its place.
    """
    part = parse_request(window).window
    return request_text("" if part.startswith("iteration:") else part, choice)


def _detected_iterations(report: Report) -> str:
    """Name what whyslow found."""
    count = len(report.iterations)
    if not count:
        return "No iterations found"
    evidence = report.iterations_evidence
    if evidence is None or evidence.confidence == "stated":
        return f"{count:,} iterations, as marked"
    of_host = evidence.how == "host"
    length = "in host work" if of_host else f"of {count_text(evidence.length, 'launch')}"
    return f"{count:,} iterations {length}, found ({evidence.confidence} confidence)"


def repeated_ranges(trace: Trace) -> dict[str, str]:
    """Return the user's own ranges that repeat, as a window's request says each, and its label."""
    if not trace.count("ranges"):
        return {}
    columns = trace.frame("ranges", ["start_ns", "end_ns", "name_id"])
    columns = columns[~written_by_tracers(trace)]
    length = (columns["end_ns"] - columns["start_ns"]).groupby(columns["name_id"])
    totals = length.agg(["sum", "size"]).reset_index(names="name_id")
    totals["name"] = [plain_name(str(n)) for n in trace.names(totals["name_id"].to_numpy())]
    totals = totals.groupby("name")[["sum", "size"]].sum()
    repeated = totals[(totals["size"] >= MIN_ITERATIONS) & (totals.index != "")]
    repeated = repeated.nlargest(SHOWN_RANGES, "sum")
    word = recorder_of(trace).ranges.removesuffix(" range")
    return {
        f"nvtx:{name}": f"Each {word} {visible(str(name), LABEL_LENGTH)} · {count:,}"
        for name, count in repeated["size"].items()
    }


def _repeated_kernels(report: Report) -> dict[str, str]:
    return {
        f"kernel:{kernel.name}": (
            f"From each {visible(name_text(kernel.name), LABEL_LENGTH)} · "
            f"{count_text(kernel.count, 'launch')}"
        )
        for kernel in report.top_kernels
        if kernel.count >= MIN_ITERATIONS
    }
