"""Whether a program got faster, where the time went, and whether that can be trusted."""

from __future__ import annotations

from analyzers.compare_types import (
    REMAINDER,
    SCHEMA,
    Change,
    Comparison,
    Delta,
    Difference,
    KernelChange,
    Level,
    MetricChange,
    Outcome,
    Place,
    Recording,
    RegionChange,
    SideSummary,
    WaterfallRow,
)

__all__ = [
    "REMAINDER",
    "SCHEMA",
    "Change",
    "Comparison",
    "Delta",
    "Difference",
    "KernelChange",
    "Level",
    "MetricChange",
    "Outcome",
    "Place",
    "Recording",
    "RegionChange",
    "SideSummary",
    "WaterfallRow",
]
