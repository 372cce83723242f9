"""What is sure although the whole is not: an answer for each question that a reader asks.

The time of an iteration may be decided by the noise of one part, a data loader, say. What the other
parts did is no less sure for that.
"""

from __future__ import annotations

from analyzers.compare.types import (
    REMAINDER,
    Delta,
    KernelChange,
    MetricChange,
    SubResult,
    WaterfallRow,
)
from analyzers.words import name_text

MAX_KERNELS = 3
METRIC_GROUPS = ("workload", "memory")


def sub_results(
    waterfall: tuple[WaterfallRow, ...],
    kernels: tuple[KernelChange, ...],
    metrics: tuple[MetricChange, ...],
) -> tuple[SubResult, ...]:
    """Return what is above the noise: rows of the ledger, kernels, the program's own metrics.

    Args:
        waterfall: All rows.
        kernels: Largest change first.
        metrics: All quantities.
    """
    rows = sorted(waterfall, key=lambda row: -abs(row.change_ns))
    results = [
        SubResult(question="cause", name=row.row, change=_row_delta(row))
        for row in rows
        if row.significant and row.row != REMAINDER
    ]
    results += [
        SubResult(question="kernel", name=k.short_name or name_text(k.name), change=k.time)
        for k in [k for k in kernels if k.time.significant][:MAX_KERNELS]
    ]
    results += [
        SubResult(question="metric", name=m.name, change=m.value)
        for m in metrics
        if m.group in METRIC_GROUPS and m.value.significant
    ]
    return tuple(results)


def _row_delta(row: WaterfallRow) -> Delta:
    return Delta(
        base=row.base_ns,
        new=row.new_ns,
        change=row.change_ns,
        low=row.low_ns,
        high=row.high_ns,
        p_adjusted=row.p_adjusted,
        significant=row.significant,
    )
