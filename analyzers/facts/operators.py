"""Operators of a framework, such as ``aten::add``: which of them submitted what, and when.

Only the torch profiler records them. They tell host work that prepares a launch from host work
that has nothing to do with the device, and they give launches a name that a program's author
knows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Array, Spans, empty, union
from analyzers.words import MAX_NAME
from collectors.schema import OperatorKind
from common.memo import memo

_COLUMNS = ("start_ns", "end_ns", "thread_key", "name_id", "kind")
_SUBMITS = (Call.LAUNCH, Call.ENQUEUE, Call.COPY)


def on_thread(facts: Facts, thread_index: int) -> pd.DataFrame:
    """Return the operators that ran on a thread."""
    return _by_thread(facts).get(int(facts.thread_keys[thread_index]), _nothing())


@memo()
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


def operator_text(name: str) -> str:
    """Shorten an operator's name; unlike a kernel's, its first part belongs to it."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
