"""Iterations of a program whose launches are hidden: the period of what its host does.

A graph that was traced as a whole is one operation, whatever it holds, so that a step may be the
same graph launched eight times and a wait. What tells the steps apart is then only what the host
calls in between. The search is that of ``analyzers.facts.periods``, over calls instead of
launches; that repetitions do similar work is judged by what they launched, not by how long calls
took, for most of that is waiting.

Where nothing was recorded on a GPU, operators, calls or ranges tell, whatever was recorded, and
repetitions are held to how long they take.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import GRAPH, Facts
from analyzers.facts.loops import holds_most_time, where_work_ran, written_by_tracers
from analyzers.facts.periods import MIN_COVERED_SHARE, Period, find_period, has_similar_work
from analyzers.facts.spans import Iteration, LoopEvidence
from analyzers.facts.trace_table import trace_table
from analyzers.facts.unmarked import loop_evidence, numbered_iterations, sureness
from analyzers.intervals import Array
from analyzers.words import count_text
from collectors.schema import OperatorKind

MIN_HIDDEN_SHARE = 0.5  # of the GPU's work, in graphs that were traced as a whole
MAX_THREADS = 4  # that are looked at, those that submit most work first
HOST_TABLES = (("operators", "operator"), ("api_calls", "call"), ("ranges", "range"))
_COLUMNS = ("start_ns", "end_ns", "thread_key", "name_id")
POLLS = "Query"  # functions that ask whether something is done, as often as time allows


@dataclass(frozen=True, eq=False)
class HostLoop:
    """Iterations that were found in what one thread calls.

    Attributes:
        iterations: Where the device works on each, in time.
        note: How they were found, in words.
        evidence: What they rest on.
    """

    iterations: tuple[Iteration, ...]
    note: str
    evidence: LoopEvidence


def graphs_hide_launches(facts: Facts) -> bool:
    """Tell whether most of the GPU's work is in graphs that were traced as a whole."""
    is_graph = facts.launches["kind"].to_numpy() == GRAPH
    if not is_graph.any():
        return False
    work = facts.duration_ns
    return int(work[is_graph].sum()) >= MIN_HIDDEN_SHARE * int(work.sum())


def find_host_loop(facts: Facts) -> HostLoop | None:
    """Return the loop that the calls of a thread show, None without one."""
    for thread_index in _busiest_threads(facts):
        order, bounds = facts.call_order
        calls = order[bounds[thread_index] : bounds[thread_index + 1]]
        polls = np.array([POLLS in str(name) for name in facts.functions], dtype=bool)
        calls = calls[~polls[facts.api["name"].to_numpy()[calls]]]
        # How long calls take says when the device was done: each counts the same.
        begin = np.arange(len(calls)) * 2
        period = find_period(_alphabets(facts, calls), np.zeros(len(calls), int), begin, begin + 1)
        if period is not None and (loop := _loop(facts, thread_index, calls, period)) is not None:
            return loop
    return None


def find_loop_without_gpu(facts: Facts) -> HostLoop | None:
    """Return the loop of a recording in which nothing ran on a GPU; None without one.

    Of what was recorded of the host, operators, API calls and ranges in this order, the first that
    repeats on the thread that did most of it tells.
    """
    for table, noun in HOST_TABLES:
        frame = _own_rows(facts, table)
        if not len(frame):
            continue
        busiest = frame["thread_key"].value_counts().index[0]
        events = frame[(frame["thread_key"] == busiest).to_numpy()]
        events = events.sort_values(["start_ns", "end_ns"], ascending=[True, False])
        begin = np.arange(len(events)) * 2
        period = find_period(
            [events["name_id"].to_numpy()], np.zeros(len(events), int), begin, begin + 1
        )
        if period is not None and (loop := _loop_in_time(events, period, noun)) is not None:
            return loop
    return None


def _own_rows(facts: Facts, table: str) -> pd.DataFrame:
    """Return what the program itself did: no Python frames, which enclose, no ranges of tracers."""
    if table == "operators":
        rows = trace_table(facts.trace, table, (*_COLUMNS, "kind"))
        return rows[(rows["kind"] == OperatorKind.FRAMEWORK).to_numpy()]
    rows = trace_table(facts.trace, table, _COLUMNS)
    return rows[~written_by_tracers(facts.trace)] if table == "ranges" else rows


def _loop_in_time(events: pd.DataFrame, period: Period, noun: str) -> HostLoop | None:
    """Return a loop whose repetitions take about as long, and together most of the time.

    A repetition ends with the last of its own events, whatever encloses it, or where the next one
    begins.
    """
    start, ends = events["start_ns"].to_numpy(), events["end_ns"].to_numpy()
    own = np.column_stack((period.first, period.stop)).ravel()  # every other stretch is between two
    done = np.maximum.reduceat(np.append(ends, 0), own)[::2]
    begin = start[period.first]
    follows = np.append(period.first[1:] == period.stop[:-1], False)
    later = np.append(begin[1:], done[-1])
    end = np.where(follows, later, np.minimum(done, later))
    spans = pd.DataFrame({"start_ns": begin, "end_ns": end})
    if not has_similar_work(end - begin) or not holds_most_time(spans, events):
        return None
    covered = float((end - begin).sum() / max(int(ends.max() - start[0]), 1))
    return HostLoop(
        iterations=numbered_iterations(begin, end),
        note=(
            f"{len(begin):,} iterations, found in what the host does, for nothing ran on a GPU: "
            f"the same {count_text(period.launches, noun)} again and again "
            f"({sureness(period, covered, 'time')})."
        ),
        evidence=loop_evidence("host", period, covered),
    )


def _busiest_threads(facts: Facts) -> list[int]:
    """Return the threads that submit GPU work, those with most of it first."""
    submitted = pd.Series(facts.duration_ns).groupby(facts.thread_index).sum()
    submitted = submitted[submitted.index >= 0].nlargest(MAX_THREADS)
    return [int(index) for index in submitted.index]


def _alphabets(facts: Facts, calls: Array) -> list[Array]:
    """Return what is called: with the graph that is launched, and by function alone."""
    function = facts.api["name"].to_numpy()[calls].astype(np.int64)
    graph_of_call = np.full(len(facts.api), -1, np.int64)
    graphs = facts.of_table("graph_launches", ["graph"])["graph"]
    api_row = facts.launches["api_row"].to_numpy()[graphs.index.to_numpy()]
    has_call = api_row >= 0
    graph_of_call[api_row[has_call]] = pd.factorize(graphs.to_numpy()[has_call])[0]
    graph = graph_of_call[calls]
    return [function * (int(graph.max(initial=0)) + 2) + graph, function]


def _loop(facts: Facts, thread_index: int, calls: Array, period: Period) -> HostLoop | None:
    """Return a loop whose repetitions submit similar work, and together most of it."""
    called = facts.api["start_ns"].to_numpy()[calls]
    begin = called[period.first]
    last = facts.api["end_ns"].to_numpy()[calls[period.stop - 1]]
    follows = np.append(period.first[1:] == period.stop[:-1], False)
    end = np.where(follows, np.append(begin[1:], 0), last)
    rows = np.flatnonzero(facts.thread_index == thread_index)
    place = np.searchsorted(begin, facts.api_start_ns[rows], side="right") - 1
    inside = (place >= 0) & (facts.api_start_ns[rows] < end[np.maximum(place, 0)])
    work = np.bincount(place[inside], facts.duration_ns[rows[inside]], minlength=len(begin))
    covered = float(work.sum() / max(int(facts.duration_ns.sum()), 1))
    if covered < MIN_COVERED_SHARE or not work.all() or not has_similar_work(work):
        return None
    process = facts.launches["process_index"].to_numpy()[rows[0]]
    ranges = pd.DataFrame(
        {"start_ns": begin, "end_ns": end, "process_key": facts.process_keys[process]}
    )
    what = "call" if period.launches == 1 else f"{period.launches:,} calls"
    return HostLoop(
        iterations=numbered_iterations(*where_work_ran(facts, ranges)),
        note=(
            f"{len(begin):,} iterations, found in what the host calls, for graphs hide what they "
            f"launch: the same {what} again and again ({sureness(period, covered)})."
        ),
        evidence=loop_evidence("host", period, covered),
    )
