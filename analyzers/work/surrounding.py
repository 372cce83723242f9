"""Operators around launches, as a framework's profiler recorded them or as ranges tell them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.graph_nodes import node_makers
from analyzers.facts.nesting import around, nest
from analyzers.facts.trace_table import trace_columns
from analyzers.intervals import Array, by_key
from analyzers.work.range_texts import read_range_texts
from collectors.schema import OperatorKind

TEXT_COLUMNS = ("shapes_id", "types_id", "strides_id", "values_id")
_COLUMNS = ("start_ns", "end_ns", "thread_key", "name_id", "kind", *TEXT_COLUMNS)
_RANGE_TEXTS = -10  # the first id of a text that a range tells


@dataclass(frozen=True, eq=False)
class OperatorsAround:
    """Operators of the framework around launches: recorded as such, or written into ranges.

    Attributes:
        innermost: Row of the innermost one around each launch, -1 for none.
        run: Of launches that replay a graph, how often their node had run before; else 0.
        parent: Row of the one around each operator, -1 for none.
        table: Their columns; those that ranges tell stand behind the trace's own.
        recorded: How many are the trace's own.
        texts: What ranges tell, by ids that count down from ``_RANGE_TEXTS``.
    """

    innermost: Array
    run: Array
    parent: Array
    table: dict[str, Array]
    recorded: int = 0
    texts: Array = field(default_factory=lambda: np.empty(0, object))

    def names(self, facts: Facts, ids: Array) -> Array:
        """Return the texts of ids."""
        of_range = ids <= _RANGE_TEXTS
        names = facts.trace.names(np.where(of_range, UNKNOWN, ids))
        names[of_range] = self.texts[_RANGE_TEXTS - ids[of_range]]
        return names


def operators_around(facts: Facts, launches: Array) -> OperatorsAround:
    """Find the operators around the calls that launched.

    What a replay of a graph runs belongs to those around the making of its node, if that is known.
    """
    innermost = np.full(len(launches), UNKNOWN, np.int64)
    table, recorded, texts = _operator_table(facts)
    if not len(table["start_ns"]):
        nothing = np.empty(0, np.int64)
        return OperatorsAround(innermost, nothing, nothing, {})
    threads, moments, run = _callers(facts, launches)
    called = np.flatnonzero(threads != UNKNOWN)
    rows_of = dict(by_key(table["thread_key"], np.arange(len(table["thread_key"]))))
    parent = np.full(len(table["start_ns"]), UNKNOWN, np.int64)
    for key, places in by_key(threads[called], called):
        rows = rows_of.get(key)
        if rows is None:
            continue
        intervals = nest(table["start_ns"][rows], table["end_ns"][rows])
        place = around(intervals, moments[places])
        ordered = rows[intervals.order]
        inner = intervals.parent >= 0
        parent[ordered[inner]] = ordered[intervals.parent[inner]]
        inside = place >= 0
        innermost[places[inside]] = ordered[place[inside]]
    return OperatorsAround(innermost, np.maximum(run, 0), parent, table, recorded, texts)


def _callers(facts: Facts, launches: Array) -> tuple[Array, Array, Array]:
    """Return the thread (key) that brought about each launch, -1 unknown, and when it did.

    The third answer is how often the node that a launch replays had run before, -1 for no node.
    """
    threads, moments, run = node_makers(facts, launches)
    api_row = facts.launches["api_row"].to_numpy()[launches]
    called = api_row >= 0
    replays = np.array(["Graph" in str(name) for name in facts.functions], dtype=bool)
    called[called] = ~replays[facts.api["name"].to_numpy()[api_row[called]]]
    called &= threads == UNKNOWN
    threads[called] = facts.thread_keys[facts.thread_index[launches[called]]]
    moments[called] = facts.api_start_ns[launches[called]]
    return threads, moments, run


def _operator_table(facts: Facts) -> tuple[dict[str, Array], int, Array]:
    """Return the operators that were recorded and those that ranges tell.

    The second answer is how many the trace recorded as such, the third the texts of the others.
    """
    table = trace_columns(facts.trace, "operators", _COLUMNS)
    recorded = len(table["start_ns"])
    marked = facts.ranges
    if not len(marked):
        return _checked(table), recorded, np.empty(0, object)
    codes, ids = pd.factorize(marked["name_id"].to_numpy())
    answer, calls = read_range_texts(map(str, facts.trace.names(ids)))
    answer = answer[codes]
    fields = np.array([(c.operator, c.shapes, c.types, "", c.numbers) for c in calls], dtype=object)
    is_operator = fields[:, 0] != ""
    code, texts = pd.factorize(fields.ravel())
    text_ids = (_RANGE_TEXTS - code).reshape(fields.shape)
    rows = np.flatnonzero(is_operator[answer])
    times = ("start_ns", "end_ns", "thread_key")
    columns = {name: marked[name].to_numpy()[rows] for name in times}
    for place, name in enumerate(("name_id", *TEXT_COLUMNS)):
        columns[name] = text_ids[answer[rows], place]
    columns["kind"] = np.full(len(rows), OperatorKind.FRAMEWORK)
    both = {name: np.append(table[name], columns[name]) for name in table} if recorded else columns
    return _checked(both), recorded, np.asarray(texts, dtype=object)


def _checked(table: dict[str, Array]) -> dict[str, Array]:
    """Return the table with Python's functions out of the way: they are around nothing."""
    is_operator = table["kind"] == OperatorKind.FRAMEWORK
    return table | {"thread_key": np.where(is_operator, table["thread_key"], UNKNOWN)}
