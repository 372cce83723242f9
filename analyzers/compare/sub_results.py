"""The answer to each question that a reader asks, whatever the whole is, with its certainty.

The time of an iteration may be decided by the noise of one part, a data loader, say. What the other
parts did is no less sure for that.
"""

from __future__ import annotations

from analyzers.compare.types import (
    REMAINDER,
    WORK,
    Delta,
    KernelChange,
    MetricChange,
    SubResult,
    WaterfallRow,
)
from analyzers.words import name_text

MAX_KERNELS = 3
BUSY = "GPU busy"


def sub_results(
    whole: list[tuple[str, str, Delta]],
    waterfall: tuple[WaterfallRow, ...],
    kernels: tuple[KernelChange, ...],
    metrics: tuple[MetricChange, ...],
    smallest_ns: float,
) -> tuple[SubResult, ...]:
    """Return a line for each question: wall, GPU busy, causes, kernels, memory, own metrics.

    Args:
        whole: Question, name and change of what is asked of all the time.
        waterfall: All rows.
        kernels: Largest change first.
        metrics: All quantities.
        smallest_ns: The smallest change of a time that matters.
    """
    rows = sorted(waterfall, key=lambda row: -abs(row.change_ns))
    answers = whole + [
        ("cause", row.row, row.delta)
        for row in rows
        if row.row not in (REMAINDER, WORK) and (row.base_ns or row.new_ns)
    ]
    answers += [("kernel", _name(k), k.time) for k in kernels[:MAX_KERNELS] if k.time.change]
    answers += [("memory", m.name, m.value) for m in metrics if m.group == "memory"]
    answers += [("metric", m.name, m.value) for m in metrics if m.group == "workload"]
    return tuple(
        SubResult(question=q, name=name, change=change, certainty=change.certainty(smallest_ns))
        for q, name, change in answers
    )


def _name(kernel: KernelChange) -> str:
    """Return a kernel's name; of kernels that were replaced those with most time on each side."""
    name = kernel.short_name or name_text(kernel.name)
    if kernel.name == kernel.new_name or not kernel.new_members:
        return name
    return f"{name} → {kernel.new_members[0].short_name or name_text(kernel.new_name)}"
