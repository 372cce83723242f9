"""Operators of a framework, such as ``aten::add``: which of them submitted what, and when.

Only the torch profiler records them. They tell host work that prepares a launch from host work
that has nothing to do with the device, and they give launches a name that a program's author
knows.
"""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.nesting import innermost
from analyzers.facts.trace_table import trace_table
from analyzers.finding import Evidence
from analyzers.intervals import Array, Spans, empty, union
from analyzers.words import MAX_NAME
from collectors.schema import OperatorKind

NAMED = 3  # operators in the evidence
MIN_TITLE_SHARE = 0.10  # of the launches; an operator with fewer does not explain them
_COLUMNS = ("start_ns", "end_ns", "thread_key", "name_id", "kind")
_SUBMITS = (Call.LAUNCH, Call.ENQUEUE, Call.COPY)


def on_thread(facts: Facts, thread_index: int) -> pd.DataFrame:
    """Return the operators that ran on a thread."""
    return _by_thread(facts).get(int(facts.thread_keys[thread_index]), _nothing())


@functools.lru_cache(maxsize=2)
def _by_thread(facts: Facts) -> dict[int, pd.DataFrame]:
    frame = trace_table(facts.trace, "operators", _COLUMNS)
    return {int(str(key)): rows for key, rows in frame.groupby("thread_key")}


def _nothing() -> pd.DataFrame:
    return pd.DataFrame({name: np.empty(0, np.int64) for name in _COLUMNS})


def submitting(facts: Facts, thread_index: int, calls: Array) -> Spans:
    """Return when a thread was inside operators that submit work to a device.

    Args:
        facts: The recording.
        thread_index: Place in ``facts.thread_keys``.
        calls: Rows of ``facts.api`` on this thread, by begin.
    """
    operators = on_thread(facts, thread_index)
    operators = operators[(operators["kind"] == OperatorKind.FRAMEWORK).to_numpy()]
    if not len(operators) or not len(calls):
        return empty()
    # Operators nest, so that their union is the outermost ones.
    outer = union(operators["start_ns"].to_numpy(), operators["end_ns"].to_numpy())
    submits = calls[np.isin(facts.calls[facts.api["name"].to_numpy()[calls]], _SUBMITS)]
    called = facts.api["start_ns"].to_numpy()[submits]
    inside = np.searchsorted(called, outer.end) > np.searchsorted(called, outer.start)
    return Spans(outer.start[inside], outer.end[inside])


def calls_by_operator(facts: Facts, launches: Array) -> list[tuple[str, int]]:
    """Return the operators that submitted ``launches``, and how many calls; most first.

    The innermost operator around a call counts. What no operator submitted is left out.
    """
    if not facts.trace.count("operators"):
        return []
    api_row = np.unique(facts.launches["api_row"].to_numpy()[launches])
    api_row = api_row[api_row >= 0]
    thread = facts.api["thread_index"].to_numpy()[api_row]
    called = facts.api["start_ns"].to_numpy()[api_row]
    name_ids = np.full(len(api_row), UNKNOWN, np.int64)
    for place in np.unique(thread):
        operators = on_thread(facts, int(place))
        operators = operators[(operators["kind"] == OperatorKind.FRAMEWORK).to_numpy()]
        of_thread = thread == place
        inside = innermost(
            operators["start_ns"].to_numpy(), operators["end_ns"].to_numpy(), called[of_thread]
        )
        names = np.append(operators["name_id"].to_numpy(), UNKNOWN)
        name_ids[of_thread] = names[inside]
    ids, counts = np.unique(name_ids[name_ids != UNKNOWN], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    texts = facts.trace.names(ids[order])
    return [(operator_text(str(t)), int(n)) for t, n in zip(texts, counts[order], strict=True)]


def operator_text(name: str) -> str:
    """Shorten an operator's name; unlike a kernel's, its first part belongs to it."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def mostly_in(facts: Facts, launches: Array) -> tuple[str, tuple[Evidence, ...]]:
    """Say which operators submitted ``launches``: the end of a title, and evidence.

    Both are empty when the recording has no operators.
    """
    counted = calls_by_operator(facts, launches)
    evidence = tuple(
        Evidence(name=f"calls in {name}", value=count, unit="count")
        for name, count in counted[:NAMED]
    )
    if not counted or counted[0][1] < MIN_TITLE_SHARE * sum(n for _, n in counted):
        return "", evidence
    name, count = counted[0]
    return f"; most often in {name}, {count:,} call{'s' if count > 1 else ''}", evidence
