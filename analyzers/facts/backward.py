"""Which operator of the forward pass a backward operator belongs to.

Autograd runs backward operators on threads of its own, where no line of the program is on the
stack. The torch profiler writes with each the ``Sequence number`` that its forward operator had
and, as ``Fwd thread id``, that another thread ran that one; forward operators carry the same
number and no such thread (``torch/csrc/profiler/collection.cpp`` in PyTorch draws its arrows
``fwdbwd`` from this). Operators that autograd does not record carry the number of the next one
that it does: so the last one of a number is meant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.surroundings import NamedSpans
from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Array, Spans
from common.memo import memo

_COLUMNS = ("start_ns", "end_ns", "process_key", "thread_key", "sequence", "forward_thread")
_NUMBER = ["process_key", "sequence"]


@dataclass(frozen=True, eq=False)
class BackwardOperators:
    """Backward operators whose forward operator is known.

    Attributes:
        spans: When and where each ran.
        forward_thread: Place in ``Facts.thread_keys`` of the thread that ran the forward one.
        forward_ns: When that one began.
    """

    spans: NamedSpans
    forward_thread: Array
    forward_ns: Array

    def forward_of(self, threads: Array, moments: Array) -> tuple[Array, Array]:
        """Return thread and begin of the forward operator for moments of threads.

        Of several backward operators around a moment the innermost counts; outside of all, and
        where the forward one is not known, the thread is ``UNKNOWN``.
        """
        rows = self.spans.around(threads, moments)
        if not len(self.spans):
            return rows, rows
        return np.where(rows >= 0, self.forward_thread[rows], UNKNOWN), self.forward_ns[rows]


@memo()
def backward_operators(facts: Facts) -> BackwardOperators:
    """Return the backward operators of a recording with their forward operators.

    Sequence numbers are counted by thread: one that operators of several threads carry is left
    out.
    """
    rows = trace_table(facts.trace, "operators", _COLUMNS)
    rows = rows[(rows["sequence"] >= 0).to_numpy()]
    threads = pd.Index(facts.thread_keys)
    rows = rows.assign(thread_index=threads.get_indexer(pd.Index(rows["thread_key"])))
    rows = rows[((rows["thread_index"] >= 0) & (rows["end_ns"] > rows["start_ns"])).to_numpy()]
    forward = rows[(rows["forward_thread"] == 0).to_numpy()].sort_values("start_ns")
    backward = rows[(rows["forward_thread"] > 0).to_numpy()].sort_values("start_ns")
    several = forward.groupby(_NUMBER)["thread_index"].transform("nunique") > 1
    forward = forward[~several.to_numpy(dtype=bool)].assign(forward_ns=forward["start_ns"])
    linked = pd.merge_asof(
        backward,
        forward[["start_ns", *_NUMBER, "thread_index", "forward_ns"]],
        on="start_ns",
        by=_NUMBER,
        suffixes=("", "_of_forward"),
    )
    linked = linked[linked["forward_ns"].notna().to_numpy()]
    order = np.lexsort((-linked["end_ns"], linked["start_ns"], linked["thread_index"]))
    linked = linked.iloc[order]
    spans = Spans(linked["start_ns"].to_numpy(np.int64), linked["end_ns"].to_numpy(np.int64))
    thread = linked["thread_index"].to_numpy(np.int32)
    return BackwardOperators(
        spans=NamedSpans(spans, thread, np.zeros(len(linked), np.int32), ("",)),
        forward_thread=linked["thread_index_of_forward"].to_numpy(np.int64),
        forward_ns=linked["forward_ns"].to_numpy(np.int64),
    )
