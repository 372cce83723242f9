"""The kernels that took most of a window's time, and when each took longest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from analyzers.words import count_text, name_text, time_text
from reports.about import ReportedWindow
from reports.document import Block, Cell, DocumentTable, TableColumn
from reports.ledger import share_cell, stretch_cell

if TYPE_CHECKING:
    from collectors.trace import Trace
    from library.analyses import StoredAnalysis

MAX_KERNELS = 10


def kernels(trace: Trace, stored: StoredAnalysis, where: ReportedWindow) -> Iterator[Block]:
    """Tell the kernels that took most time in the window, and when each took longest."""
    if not trace.count("kernels"):
        return
    window = stored.report.window
    columns = trace.columns("kernels", ["start_ns", "end_ns", "name_id"])
    inside = (columns["end_ns"] > window.start_ns) & (columns["start_ns"] < window.end_ns)
    start, end, name_id = (columns[c][inside] for c in ("start_ns", "end_ns", "name_id"))
    if not len(start):
        return
    ids, code = np.unique(name_id, return_inverse=True)
    length = end - start
    total = np.zeros(len(ids), np.int64)
    np.add.at(total, code, length)
    order = np.lexsort((length, code))  # the last of each name is its longest launch
    last = order[np.searchsorted(code[order], np.arange(len(ids)), side="right") - 1]
    largest = np.argsort(-total, kind="stable")[:MAX_KERNELS]
    counts = np.bincount(code, minlength=len(ids))
    whole = where.place(*window.span, mark=False)
    names = trace.names(ids[largest])
    all_ns = int(total.sum())
    some = f"{MAX_KERNELS} of " if len(ids) > MAX_KERNELS else ""
    yield DocumentTable(
        name=f"{some}{count_text(len(ids), 'kernel')}, most time first",
        columns=(
            TableColumn(name="Kernel"),
            TableColumn(name="Launches", unit="count", is_number=True),
            TableColumn(name="Time", unit="ns", is_number=True),
            TableColumn(name="Share of kernel time", unit="pct", is_number=True),
            TableColumn(name="Longest launch", unit="ns", is_number=True),
        ),
        rows=tuple(
            (
                Cell(text=name_text(str(name))),
                Cell(text=f"{counts[n]:,}", value=int(counts[n]), place=whole),
                Cell(text=time_text(int(total[n])), value=int(total[n]), place=whole),
                share_cell(int(total[n]), all_ns, whole),
                stretch_cell((int(start[last[n]]), int(end[last[n]])), where),
            )
            for n, name in zip(largest.tolist(), names, strict=True)
        ),
    )
