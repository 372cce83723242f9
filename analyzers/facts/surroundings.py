"""What was around a moment of a thread: operators, ranges and lines of Python.

Operators come from the torch profiler, or from ranges that PyTorch wrote with ``emit_nvtx``, which
are called like operators. Of Python frames only those are kept that a user can change.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.nesting import Nest, around, nest_of_sorted
from analyzers.facts.python_frames import Owner, frame_owners
from analyzers.facts.range_texts import range_name
from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Array, Spans, by_key
from collectors.schema import OperatorKind
from common.memo import memo

_COLUMNS = ("start_ns", "end_ns", "thread_key", "name_id")
_MODULE = r"^nn\.Module: "
_PRINTS = r"^torch[/\\]_tensor_str\.py\("


@dataclass(frozen=True, eq=False)
class NamedSpans:
    """Intervals of threads with names, by thread and begin, the longest first; none is empty.

    Attributes:
        spans: Begins and ends.
        thread: Place in ``Facts.thread_keys`` of each.
        name: Place in ``texts`` of each one's name.
        texts: The names.
    """

    spans: Spans
    thread: Array
    name: Array
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.name)

    def of_names(self, pattern: str) -> NamedSpans:
        """Return those whose name has ``pattern``, a regular expression, somewhere."""
        expression = re.compile(pattern)
        chosen = np.array([expression.search(t) is not None for t in self.texts], dtype=bool)
        return self.where(chosen[self.name]) if len(self) else self

    def where(self, mask: Array) -> NamedSpans:
        """Return those for which ``mask`` is true."""
        spans = Spans(self.spans.start[mask], self.spans.end[mask])
        return NamedSpans(spans, self.thread[mask], self.name[mask], self.texts)

    def on_thread(self, thread: int) -> NamedSpans:
        """Return those of one thread, by its place in ``Facts.thread_keys``."""
        return self.where(self.thread == thread)

    def around(self, threads: Array, moments: Array) -> Array:
        """Return the row of the innermost interval around each moment of its thread, else -1."""
        rows = np.full(len(moments), UNKNOWN, np.int64)
        if not len(self):
            return rows
        for thread, asking in by_key(threads, np.arange(len(moments))):
            if thread not in self._nests:
                continue
            low, own = self._nests[thread]
            place = around(own, moments[asking])
            rows[asking] = np.where(place >= 0, low + place, UNKNOWN)
        return rows

    @functools.cached_property
    def _nests(self) -> dict[int, tuple[int, Nest]]:
        """The first row of each thread, and how its intervals lie in each other."""
        threads, first = np.unique(self.thread, return_index=True)
        borders = [*first.tolist(), len(self)]
        return {
            thread: (low, nest_of_sorted(self.spans.start[low:high], self.spans.end[low:high]))
            for thread, low, high in zip(threads.tolist(), borders, borders[1:], strict=False)
        }

    def names_around(self, threads: Array, moments: Array) -> Array:
        """Return the same as places in ``texts``."""
        rows = self.around(threads, moments)
        return np.where(rows >= 0, self.name[rows], UNKNOWN) if len(self) else rows


@memo()
def operators_of(facts: Facts) -> NamedSpans:
    """Return the operators of the framework, without Python's functions."""
    return _operators_and_ranges(facts)[0]


def is_pytorch(facts: Facts) -> bool:
    """Tell whether the recording shows operators of PyTorch, so that its functions can be named."""
    return any(text.startswith("aten::") for text in operators_of(facts).texts)


@memo()
def ranges_of(facts: Facts) -> NamedSpans:
    """Return what the program, or a library on its behalf, marked as ranges."""
    return _operators_and_ranges(facts)[1]


@memo()
def frames_of(facts: Facts) -> tuple[NamedSpans, NamedSpans, NamedSpans, NamedSpans]:
    """Return what is on Python's stacks, in four kinds.

    The user's functions, those of libraries, those of PyTorch that print, and calls of
    ``nn.Module``, whose names keep the number that tells instances apart.
    """
    rows = trace_table(facts.trace, "operators", (*_COLUMNS, "kind"))
    rows = rows[(rows["kind"] == OperatorKind.PYTHON).to_numpy()]
    every = _named(facts, rows, lambda name: name)
    owner = frame_owners(np.array(every.texts, dtype=object))
    of_row = owner[every.name] if len(every) else every.name
    return (
        every.where(of_row == Owner.USER),
        every.where(of_row == Owner.LIBRARY),
        every.of_names(_PRINTS),
        every.of_names(_MODULE),
    )


@memo()
def _operators_and_ranges(facts: Facts) -> tuple[NamedSpans, NamedSpans]:
    rows = trace_table(facts.trace, "operators", (*_COLUMNS, "kind"))
    rows = rows[(rows["kind"] == OperatorKind.FRAMEWORK).to_numpy()]
    marked = facts.ranges
    codes, names = pd.factorize(marked["name_id"].to_numpy())
    called_so = np.array([range_name(str(n))[1] for n in facts.trace.names(names)], dtype=bool)
    is_operator = called_so[codes] if len(marked) else np.zeros(0, dtype=bool)
    both = pd.concat([rows[list(_COLUMNS)], marked.loc[is_operator, list(_COLUMNS)]])
    return (
        _named(facts, both, lambda name: range_name(name)[0]),
        _named(facts, marked[~is_operator], lambda name: range_name(name)[0]),
    )


def _named(facts: Facts, rows: pd.DataFrame, shorten: Callable[[str], str]) -> NamedSpans:
    """Return the rows of threads that made calls, under their names in short."""
    thread = pd.Index(facts.thread_keys).get_indexer(pd.Index(rows["thread_key"]))
    start, end = rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy()
    order = np.lexsort((-end, start, thread))
    order = order[(thread[order] >= 0) & (end[order] > start[order])]
    codes, ids = pd.factorize(rows["name_id"].to_numpy()[order])
    short, unique = pd.factorize(
        np.array([shorten(str(n)) for n in facts.trace.names(ids)], dtype=object)
    )
    name = short.astype(np.int32)[codes] if len(order) else np.empty(0, np.int32)
    spans = Spans(start[order], end[order])
    return NamedSpans(spans, thread[order].astype(np.int32), name, tuple(unique))
