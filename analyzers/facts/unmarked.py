"""Iterations of a program that marks none: the period of what it launches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import COPY, MEMSET, Facts
from analyzers.facts.periods import Period, find_period
from analyzers.facts.spans import Iteration, LoopEvidence
from analyzers.intervals import Array
from analyzers.words import share_text

MAX_WITHOUT_CALL = 0.05  # of the launches: with more, only the order on the device is known
MAX_SEQUENCES = 8  # pairs of process and device that are looked at, the busiest first
_CONFIGURATION = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z")
_ALPHABETS = ("", "on changing streams, ", "in other launch configurations, ")


@dataclass(frozen=True, eq=False)
class LaunchLoop:
    """Iterations that were found in what one process launches on one device.

    Attributes:
        iterations: Where the device works on each, in time.
        rows: Rows of ``Facts.launches`` in the order of launching.
        period: Where in ``rows`` each begins and ends, and how alike they are.
        note: How they were found, in words.
    """

    iterations: tuple[Iteration, ...]
    rows: Array
    period: Period
    note: str

    @property
    def evidence(self) -> LoopEvidence:
        """What they rest on."""
        return loop_evidence("launches", self.period, self.period.covered)


def loop_evidence(how: str, period: Period, covered: float) -> LoopEvidence:
    """Return what repetitions rest on that nobody marked.

    Args:
        how: What repeats.
        period: The repetitions.
        covered: Share of the GPU's work that they hold.
    """
    return LoopEvidence(
        how=how,
        length=period.launches,
        similarity=period.similarity,
        covered=covered,
        confidence="high" if period.is_sure else "medium",
    )


def find_launch_loop(facts: Facts) -> LaunchLoop | None:
    """Return the loop that the launches themselves show, None without one.

    Of several devices or processes the one tells whose repetitions hold most of the GPU's work.
    """
    best: LaunchLoop | None = None
    most = 0
    for rows in launch_sequences(facts):
        work = int(facts.duration_ns[rows].sum())
        if work <= most:
            continue
        start, end = (facts.launches[c].to_numpy()[rows] for c in ("start_ns", "end_ns"))
        stream = facts.launches["stream"].to_numpy()[rows]
        period = find_period(launch_alphabets(facts, rows), stream, start, end)
        if period is not None:
            best, most = _loop(facts, rows, period), work
    return best


def launch_sequences(facts: Facts) -> list[Array]:
    """Return the launches of each process on each device in order, the busiest first."""
    launches = facts.launches
    groups = launches.groupby(["process_index", "device"], sort=False).indices.values()
    places = [np.asarray(rows) for rows in groups]
    busiest = sorted(places, key=lambda rows: -int(facts.duration_ns[rows].sum()))
    return [_in_order(facts, rows) for rows in busiest[:MAX_SEQUENCES]]


def _in_order(facts: Facts, rows: Array) -> Array:
    """Order launches by their calls, or by when they ran where too many calls are unknown."""
    start = facts.launches["start_ns"].to_numpy()[rows]
    without_call = facts.launches["api_row"].to_numpy()[rows] < 0
    if without_call.mean() > MAX_WITHOUT_CALL:
        return rows[np.argsort(start, kind="stable")]
    return rows[np.lexsort((start, facts.api_start_ns[rows]))]


def launch_alphabets(facts: Facts, rows: Array) -> list[Array]:
    """Return what is launched: with configuration and stream, without stream, by name alone."""
    launches = facts.launches.iloc[rows]
    kind = launches["kind"].to_numpy()
    name = launches.groupby(["kind", "name_id"], dropna=False).ngroup().to_numpy()
    columns = {"name": name}
    place = np.full(len(facts.launches), -1)
    place[rows] = np.arange(len(rows))
    for table, measures in (
        ("kernels", _CONFIGURATION),
        ("copies", ("kind", "bytes")),
        ("memsets", ("bytes",)),
        ("graph_launches", ("graph",)),
    ):
        details = facts.of_table(table, measures)
        where = place[details.index.to_numpy()]
        for column in measures:
            values = np.full(len(rows), -1, np.int64)
            values[where[where >= 0]] = details[column].to_numpy()[where >= 0]
            columns[f"{table}.{column}"] = values
    configured = _codes(columns)
    on_stream = _codes({"what": configured, "stream": launches["stream"].to_numpy()})
    direction = np.where(kind == COPY, columns["copies.kind"], np.where(kind == MEMSET, -2, -1))
    return [on_stream, configured, _codes({"name": name, "direction": direction})]


def _codes(columns: dict[str, Array]) -> Array:
    """Number the distinct rows of several integer columns."""
    code = np.zeros(len(next(iter(columns.values()))), np.int64)
    for values in columns.values():
        distinct, unique = pd.factorize(values)
        code = pd.factorize(code * len(unique) + distinct)[0]
    return code


def launch_iterations(facts: Facts, rows: Array, period: Period) -> tuple[Iteration, ...]:
    """Return where the device works on each repetition of a sequence of launches.

    Args:
        facts: The recording.
        rows: Rows of ``Facts.launches`` in the order of launching.
        period: Where in ``rows`` each repetition begins and ends.
    """
    return numbered_iterations(*_where_work_ran(facts, rows, period))


def numbered_iterations(begin: Array, end: Array) -> tuple[Iteration, ...]:
    """Return iterations that nobody marked, from where the work on each begins and ends."""
    return tuple(
        Iteration(name=f"repetition {i}", start_ns=int(b), end_ns=int(e), is_marked=False)
        for i, (b, e) in enumerate(zip(begin, end, strict=True), start=1)
    )


def _loop(facts: Facts, rows: Array, period: Period) -> LaunchLoop:
    iterations = launch_iterations(facts, rows, period)
    what = "launch" if period.launches == 1 else f"{period.launches:,} launches"
    note = (
        f"{len(iterations):,} iterations, found in what the program launches: the same {what} "
        f"again and again ({_ALPHABETS[period.alphabet]}{sureness(period, period.covered)})."
    )
    return LaunchLoop(iterations=iterations, rows=rows, period=period, note=note)


def sureness(period: Period, covered: float, whole: str = "GPU's work") -> str:
    """Say how alike repetitions are, what they hold of the work, and how sure that makes them.

    Args:
        period: The repetitions.
        covered: Share of the whole that they hold.
        whole: What that is.
    """
    alike = "" if period.similarity == 1 else f"{share_text(period.similarity, 1)} alike, "
    sure = "high" if period.is_sure else "medium"
    return f"{alike}{share_text(covered, 1)} of the {whole}; {sure} confidence"


def _where_work_ran(facts: Facts, rows: Array, period: Period) -> tuple[Array, Array]:
    """Return begin and end of the device's work on each repetition.

    As for marked iterations, a repetition begins when the work before it is done: what the device
    waits for at its begin is part of it. The first, and one behind other work, begins with itself.
    """
    start, end = (facts.launches[c].to_numpy()[rows] for c in ("start_ns", "end_ns"))
    done = np.maximum.accumulate(end)
    ends = done[period.stop - 1]
    begins = start[period.first]
    follows = np.concatenate(([False], period.first[1:] == period.stop[:-1]))
    begins = np.where(follows, np.concatenate(([0], ends[:-1])), begins)
    begins = np.maximum(begins, np.concatenate(([begins[0]], ends[:-1])))
    return begins, np.maximum(ends, begins + 1)
