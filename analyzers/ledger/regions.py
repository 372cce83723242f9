"""Where in the program each cause costs time: the ledger, by range or operator.

Every stretch of the ledger belongs to operations of the device: a busy one to what runs, an idle
one to what ended it. Each belongs to the region that was open when the operation was submitted.
Where kernels run at the same time they share it, and what counters say about a launch splits its
own part. So the regions' rows sum to the ledger, to the nanosecond; what no region submitted is a
row as well.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from analyzers.counters.joining import kernel_shares
from analyzers.facts.facts import COMMUNICATION, COPY, MEMSET, UNKNOWN, Facts
from analyzers.facts.loops import plain_name
from analyzers.facts.nesting import innermost, nesting_depth
from analyzers.facts.range_texts import range_name
from analyzers.facts.spans import Iteration
from analyzers.facts.trace_table import trace_table
from analyzers.finding import Row
from analyzers.intervals import Array, Spans, by_key, overlaps
from analyzers.ledger.booking import NOTHING, ROW_CODE, ROWS
from analyzers.ledger.ledger import Ledger
from collectors.schema import OperatorKind

RANGES, INNER_RANGES, OPERATORS = "ranges", "innermost ranges", "operators"
LEVELS = (RANGES, INNER_RANGES, OPERATORS)
"""What regions can be, the coarsest first."""

OUTSIDE = ""
"""Name of the region of what no region submitted."""

COLUMNS = ("level", "name", "device", "row", "ns", "start_ns", "end_ns")
# What PyTorch's emit_nvtx adds to an operator's name, different for each call.
MAX_NUMBERED = 8  # names that differ in a number only; more are one region
MAX_STRETCHES = 1_000_000  # of the ledger; more take seconds, and a window tells more
DEFAULT_DEPTH = 1  # without iterations: what is inside the range around the whole program

_BESIDE_KERNELS = ((Row.COMMUNICATION, (COMMUNICATION,)), (Row.TRANSFER, (COPY, MEMSET)))
"""Rows of the ledger in which something else than a kernel runs, and what does."""


def region_matrix(
    facts: Facts, ledger: Ledger, iterations: Iterable[Iteration] = ()
) -> pd.DataFrame:
    """Return the ledger by region of the program.

    Args:
        facts: The recording.
        ledger: Its account.
        iterations: Repetitions of the main loop; the coarsest level is what is inside one.

    Returns:
        One row for each level that was recorded, region, device and row of the ledger that has
        any time: ``level`` (one of ``LEVELS``), ``name`` (``OUTSIDE`` for no region), ``device``
        (key), ``row`` (place in ``ROWS``), ``ns``, and begin and end of the longest stretch, as a
        place to look at. For each level, ``ns`` sums to the ledger. Empty when the recording has
        neither ranges nor operators, or the window more than ``MAX_STRETCHES`` stretches.
    """
    if len(ledger.segments) > MAX_STRETCHES:
        return pd.DataFrame({c: [] for c in COLUMNS})
    booked = _booked(facts, ledger)
    parts = [
        _summed(booked, regions, level)
        for level, regions in _regions(facts, iterations)
        if len(booked["ns"])
    ]
    if not parts:
        return pd.DataFrame({c: [] for c in COLUMNS})
    return pd.concat(parts, ignore_index=True)


def stretches_by_region(
    facts: Facts, ledger: Ledger, iterations: Iterable[Iteration] = ()
) -> tuple[pd.DataFrame, tuple[tuple[str, Array, list[str]], ...]]:
    """Return the stretches that the matrix is made of, and the region of each.

    Args:
        facts: The recording.
        ledger: Its account.
        iterations: As for ``region_matrix``.

    Returns:
        The stretches (``device``, ``start_ns``, ``end_ns``, ``row``, ``launch``, ``ns``), and for
        each level the place of each stretch in the names that follow. Both are empty where the
        matrix is.
    """
    if len(ledger.segments) > MAX_STRETCHES:
        return ledger.segments.iloc[:0].assign(ns=0), ()
    booked = _booked(facts, ledger)
    launch = booked["launch"].to_numpy()
    levels = []
    for level, (code_of_launch, texts) in _regions(facts, iterations):
        code = np.zeros(len(launch), np.int64)
        if len(code_of_launch):
            code = np.where(launch == NOTHING, 0, code_of_launch[launch])
        levels.append((level, code, texts))
    return booked, tuple(levels)


def _booked(facts: Facts, ledger: Ledger) -> pd.DataFrame:
    """Return the ledger's segments, busy ones divided among the operations that run."""
    columns = ["device", "start_ns", "end_ns", "row", "launch"]
    segments = ledger.segments[columns]
    if facts.counters_only:
        return segments.iloc[:0].assign(ns=0)
    row = segments["row"].to_numpy()
    busy = [ROW_CODE[one] for one in (Row.KERNEL, *(r for r, _ in _BESIDE_KERNELS))]
    parts = [segments[~np.isin(row, busy)]]
    for one, kinds in _BESIDE_KERNELS:
        chosen = row == ROW_CODE[one]
        for device, places in by_key(segments["device"].to_numpy()[chosen], np.flatnonzero(chosen)):
            parts.append(_cut(facts, segments.iloc[places], device, kinds))
    beside = pd.concat(parts, ignore_index=True)
    beside = beside.assign(ns=beside["end_ns"] - beside["start_ns"])
    return pd.concat([beside, *_kernels(facts, ledger)], ignore_index=True)


def _kernels(facts: Facts, ledger: Ledger) -> Iterator[pd.DataFrame]:
    """Yield what each launch of a kernel books to each row, whether counters split it or not.

    Time in which several run is divided among them: each of them has a loss of its own in it.
    """
    if ledger.examined is None:
        rows, ns = kernel_shares(facts, ledger.window)
        split = {Row.KERNEL: ns}
    else:
        rows, split = ledger.examined.launches, ledger.examined.rows_ns
    launches = facts.launches.iloc[rows]
    frame = pd.DataFrame(
        {
            "device": launches["device"].to_numpy(),
            "start_ns": np.maximum(launches["start_ns"].to_numpy(), ledger.window.start_ns),
            "end_ns": np.minimum(launches["end_ns"].to_numpy(), ledger.window.end_ns),
            "launch": rows,
        }
    )
    for row, ns in split.items():
        yield frame.assign(row=np.int8(ROW_CODE[row]), ns=ns)[ns > 0]


def _cut(facts: Facts, segments: pd.DataFrame, device: int, kinds: tuple[int, ...]) -> pd.DataFrame:
    """Cut busy segments of one device where what runs changes.

    Where several operations run at the same time, the one that began first counts.
    """
    on_device = (facts.launches["device"] == device).to_numpy()
    rows = np.flatnonzero(on_device & np.isin(facts.launches["kind"].to_numpy(), kinds))
    start, end = (facts.launches[c].to_numpy()[rows] for c in ("start_ns", "end_ns"))
    covered_until = np.concatenate((start[:1], np.maximum.accumulate(end)[:-1]))
    start = np.maximum(start, covered_until)
    solid = end > start
    pieces = Spans(start[solid], end[solid])
    queries = Spans(segments["start_ns"].to_numpy(), segments["end_ns"].to_numpy())
    segment, piece, begin, stop = overlaps(queries, pieces)
    return pd.DataFrame(
        {
            "device": segments["device"].to_numpy()[segment],
            "start_ns": begin,
            "end_ns": stop,
            "row": segments["row"].to_numpy()[segment],
            "launch": rows[solid][piece],
        }
    )


def _regions(
    facts: Facts, iterations: Iterable[Iteration]
) -> Iterator[tuple[str, tuple[Array, list[str]]]]:
    """Yield each level that was recorded, and the regions of the launches, as ``_plain`` does."""
    ranges = facts.ranges
    loop = next((plain_name(i.name) for i in iterations), "")
    if len(ranges):
        depth = _depths(ranges)
        outer = ranges[depth <= _depth_of_interest(facts, ranges, depth, loop)]
        outer_names = _around_calls(facts, outer, on_main_thread=True)
        yield RANGES, _plain(facts, outer_names, loop)
        if len(outer) < len(ranges):
            inner = _around_calls(facts, ranges, on_main_thread=True)
            if not np.array_equal(outer_names, inner):
                yield INNER_RANGES, _plain(facts, inner, loop)
    if facts.trace.count("operators"):
        columns = ["start_ns", "end_ns", "process_key", "thread_key", "name_id", "kind"]
        operators = trace_table(facts.trace, "operators", columns)
        operators = operators[(operators["kind"] == OperatorKind.FRAMEWORK).to_numpy()]
        yield OPERATORS, _plain(facts, _around_calls(facts, operators))


def _depths(ranges: pd.DataFrame) -> Array:
    """Return how deep each range is nested in others of its thread."""
    depth = np.zeros(len(ranges), np.int64)
    start, end = ranges["start_ns"].to_numpy(), ranges["end_ns"].to_numpy()
    for _, rows in by_key(ranges["thread_key"].to_numpy(), np.arange(len(ranges))):
        ordered = rows[np.lexsort((-end[rows], start[rows]))]
        depth[ordered] = nesting_depth(start[ordered], end[ordered])
    return depth


def _depth_of_interest(facts: Facts, ranges: pd.DataFrame, depth: Array, loop: str) -> int:
    """Return the depth just inside an iteration of the main loop."""
    ids = pd.unique(ranges["name_id"].to_numpy())
    same = ids[[plain_name(text) == loop for _, text in _texts(facts, ids)]] if loop else ids[:0]
    loop_depths = depth[np.isin(ranges["name_id"].to_numpy(), same)]
    return int(np.median(loop_depths)) + 1 if len(loop_depths) else DEFAULT_DEPTH


def _around_calls(facts: Facts, spans: pd.DataFrame, *, on_main_thread: bool = False) -> Array:
    """Return the name's id of the innermost of ``spans`` around each launch's call, else -1.

    Args:
        facts: The recording.
        spans: Ranges or operators.
        on_main_thread: Where there is none on the call's own thread, ask the thread of its process
            that was in ranges longest: a training step's backward pass is launched by a thread of
            its own, which knows nothing of the step.
    """
    name_ids = np.full(len(facts.launches), UNKNOWN, np.int64)
    called = np.flatnonzero((facts.launches["api_row"] >= 0).to_numpy())
    if not len(called) or not len(spans):
        return name_ids
    thread = facts.thread_keys[facts.thread_index[called]]
    _look_up(facts, spans.assign(key=spans["thread_key"]), by_key(thread, called), name_ids)
    if on_main_thread:
        threads = [spans["process_key"], spans["thread_key"]]
        length = (spans["end_ns"] - spans["start_ns"]).groupby(threads)
        main = length.sum().groupby(level=0).idxmax().map(lambda pair: pair[1])
        is_main = spans["thread_key"].to_numpy() == main.reindex(spans["process_key"]).to_numpy()
        left = called[name_ids[called] == UNKNOWN]
        process = facts.process_keys[facts.launches["process_index"].to_numpy()[left]]
        own = spans[is_main]
        _look_up(facts, own.assign(key=own["process_key"]), by_key(process, left), name_ids)
    return name_ids


def _look_up(
    facts: Facts, spans: pd.DataFrame, queries: Iterable[tuple[int, Array]], name_ids: Array
) -> None:
    """Write the innermost span around the call of each launch of the same key to ``name_ids``."""
    names = spans["name_id"].to_numpy()
    start, end = spans["start_ns"].to_numpy(), spans["end_ns"].to_numpy()
    launches_of = dict(queries)
    for key, rows in by_key(spans["key"].to_numpy(), np.arange(len(spans))):
        launches = launches_of.get(key, np.empty(0, np.int64))
        place = innermost(start[rows], end[rows], facts.api_start_ns[launches])
        name_ids[launches[place >= 0]] = names[rows[place[place >= 0]]]


def _plain(facts: Facts, name_ids: Array, loop: str = "") -> tuple[Array, list[str]]:
    """Return the region of each launch as a place in the names, the first of which is ``OUTSIDE``.

    Names that differ only in a number at their end are one, when there are many of them: layers
    of a network are regions of their own, the batches of an epoch are not. Iterations of the main
    ``loop`` are one in any case.
    """
    code, ids = pd.factorize(name_ids)
    texts = [range_name(text)[0] if i != UNKNOWN else OUTSIDE for i, text in _texts(facts, ids)]
    alike = collections.Counter(plain_name(text) for text in texts)
    texts = [
        plain if (plain := plain_name(t)) == loop or alike[plain] > MAX_NUMBERED else t
        for t in texts
    ]
    places, unique = pd.factorize(np.array([OUTSIDE, *texts], dtype=object))
    return places[1:][code], list(unique)


def _texts(facts: Facts, ids: Array) -> Iterator[tuple[int, str]]:
    return zip(ids.tolist(), facts.trace.names(ids), strict=True)


def _summed(booked: pd.DataFrame, regions: tuple[Array, list[str]], level: str) -> pd.DataFrame:
    code_of_launch, texts = regions
    launch = booked["launch"].to_numpy()
    code = np.zeros(len(launch), np.int64)
    if len(code_of_launch):
        code = np.where(launch == NOTHING, 0, code_of_launch[launch])
    devices = int(booked["device"].max()) + 1
    key = (code * devices + booked["device"].to_numpy()) * len(ROWS) + booked["row"].to_numpy()
    if len(texts) * devices * len(ROWS) <= np.iinfo(np.uint16).max:
        key = key.astype(np.uint16)  # few bits sort many times faster
    order = np.argsort(key, kind="stable")
    ns, key = booked["ns"].to_numpy()[order], key[order].astype(np.int64)
    first = np.flatnonzero(np.diff(key, prepend=-1))
    counts = np.diff(np.append(first, len(key)))
    longest = np.flatnonzero(ns == np.repeat(np.maximum.reduceat(ns, first), counts))
    owner = np.repeat(np.arange(len(first)), counts)[longest]
    place = order[longest[np.flatnonzero(np.diff(owner, prepend=-1))]]  # of equals the first
    rest, row = np.divmod(key[first], len(ROWS))
    return pd.DataFrame(
        {
            "level": level,
            "name": np.array(texts, dtype=object)[rest // devices],
            "device": rest % devices,
            "row": row,
            "ns": np.add.reduceat(ns, first),
            "start_ns": booked["start_ns"].to_numpy()[place],
            "end_ns": booked["end_ns"].to_numpy()[place],
        }
    )
