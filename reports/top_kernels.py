"""The kernels with most time, from the report alone: nothing of the recording is read for it."""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.finding import KERNEL_ROWS
from analyzers.report import Report
from analyzers.words import name_text, share_text, time_text
from reports.document import Block, Cell, DocumentTable, TableColumn


def kernels_hold_most(report: Report) -> bool:
    """Tell whether most of the time in use is in kernels, so that they are worth naming."""
    in_use_ns = sum(d.in_use_ns for d in report.devices)
    in_kernels_ns = sum(d.rows.get(row, 0) for d in report.devices for row in KERNEL_ROWS)
    return bool(report.top_kernels) and 2 * in_kernels_ns >= in_use_ns


def kernels_summary(report: Report) -> Iterator[Block]:
    """Tell the kernels with most time, from the report alone, where kernels hold most of it."""
    if not kernels_hold_most(report):
        return
    yield DocumentTable(
        name="Most time first",
        columns=(
            TableColumn(name="Share of kernel time", unit="pct", is_number=True),
            TableColumn(name="Time", unit="ns", is_number=True),
            TableColumn(name="Launches", unit="count", is_number=True),
            TableColumn(name="Kernel"),  # last, so that a narrow terminal may wrap it
        ),
        rows=tuple(
            (
                Cell(text=share_text(kernel.share, 1), value=100 * kernel.share),
                Cell(text=time_text(kernel.total_ns), value=kernel.total_ns),
                Cell(text=f"{kernel.count:,}", value=kernel.count),
                Cell(text=name_text(kernel.name)),
            )
            for kernel in report.top_kernels
        ),
    )
