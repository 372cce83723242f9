"""Every other quantity of a comparison: counts, percentiles, roles, memory, the workload's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from analyzers.compare.deltas import deltas, moments
from analyzers.compare.side import WORK_AMOUNTS, Side, Sides
from analyzers.compare.statistics import (
    LEVEL,
    MIN_SAMPLES,
    between_iterations,
    correlation_time,
    welch,
)
from analyzers.compare.types import (
    Delta,
    MetricChange,
)
from analyzers.facts.steps import ROLES

P95_FROM = 20  # iterations from which a percentile is more than the slowest one
P99_FROM = 100


def metric_changes(base: Sides, new: Sides) -> tuple[MetricChange, ...]:
    """Return launches, transfers, memory, what ran, and what the workload measured itself."""
    return (
        *_counted(base, new),
        *_percentiles(base, new),
        *_roles(base, new),
        *_peaks(base, new),
        *_stated(base, new),
    )


def _counted(base: Sides, new: Sides) -> list[MetricChange]:
    names = list(dict.fromkeys(name for side in (*base, *new) for name in side.counts))
    if not names:
        return []
    runs = []
    for sides in (base, new):
        of_side = []
        for side in sides:
            nothing = np.zeros(len(side.start_ns))
            table = np.column_stack([side.counts.get(n, nothing) for n in names])[side.kept]
            of_side.append(moments(table, correlation_time(side.durations_ns[side.kept])))
        runs.append(of_side)
    plain, timed = (deltas(runs[0], runs[1], unit) for unit in ("count", "ns"))
    changes = [t if n.endswith(" time") else p for n, p, t in zip(names, plain, timed, strict=True)]
    units = {"bytes": "bytes", "time": "ns", "FLOP": "FLOP", "traffic": "bytes"}
    return [
        MetricChange(
            name=name,
            group="transfers" if name.split()[-1] in ("copies", "bytes", "time") else "iteration",
            better="" if name in WORK_AMOUNTS else "lower",
            value=replace(change, unit=units.get(name.split()[-1], "count")),
        )
        for name, change in zip(names, changes, strict=True)
    ]


def _percentiles(base: Sides, new: Sides) -> list[MetricChange]:
    pooled = [np.concatenate([s.durations_ns[s.kept] for s in sides]) for sides in (base, new)]
    return [
        MetricChange(
            name=f"{share}th percentile of iterations",
            group="iteration",
            better="lower",
            value=_plain(*(int(np.percentile(p, share)) for p in pooled), unit="ns"),
        )
        for share, enough in ((95, P95_FROM), (99, P99_FROM))
        if min(map(len, pooled)) >= enough
    ]


def _plain(base: float, new: float, *, unit: str) -> Delta:
    """Return a change without uncertainty; it is never called significant."""
    return Delta(base=base, new=new, change=new - base, unit=unit)


def _roles(base: Sides, new: Sides) -> list[MetricChange]:
    if not all(len(side.roles_ns) for side in (*base, *new)):
        return []
    runs = [
        [
            moments(
                side.roles_ns[side.kept].astype(float),
                correlation_time(side.durations_ns[side.kept]),
            )
            for side in sides
        ]
        for sides in (base, new)
    ]
    changes = deltas(runs[0], runs[1], "ns")
    rows = zip(ROLES, changes, strict=True)
    return [
        MetricChange(name=role, group="roles", better="", value=change)
        for role, change in rows
        if change.base or change.new
    ]


def _peaks(base: Sides, new: Sides) -> list[MetricChange]:
    names = dict.fromkeys(name for side in (*base, *new) for name in side.peak_bytes)
    changes = []
    for name in names:
        values = [
            [s.peak_bytes[name] for s in sides if name in s.peak_bytes] for sides in (base, new)
        ]
        if all(values):
            changes.append(_metric(name, "memory", "lower", "bytes", values))
    return changes


def _metric(
    name: str, group: str, better: str, unit: str, values: list[list[float]] | list[list[int]]
) -> MetricChange:
    """Compare what each recording has once; one a side has no uncertainty."""
    runs = [np.array(v, dtype=float)[:, None] for v in values]
    if len(runs[0]) + len(runs[1]) < 3:
        change = _plain(float(runs[0].mean()), float(runs[1].mean()), unit=unit)
        change = replace(change, is_counted=group == "memory")
        return MetricChange(name=name, group=group, better=better, value=change)
    columns = welch(runs[0], runs[1])
    low, high, p = (float(c[0]) for c in (columns.low, columns.high, columns.p_value))
    change = Delta(
        base=float(runs[0].mean()),
        new=float(runs[1].mean()),
        change=float(columns.change[0]),
        low=low,
        high=high,
        p_value=p,
        p_adjusted=p,
        detectable=float(columns.detectable[0]),
        significant=p <= LEVEL and not low <= 0 <= high,
        unit=unit,
    )
    return MetricChange(name=name, group=group, better=better, value=change)


def _stated(base: Sides, new: Sides) -> list[MetricChange]:
    """Return what the workloads measured themselves: their steps, then their own metrics."""
    changes = []
    steps = [[s.summary.get("step_ns") or [] for s in sides] for sides in (base, new)]
    if len(base) == len(new) == 1 and min(len(steps[0][0]), len(steps[1][0])) >= MIN_SAMPLES:
        samples = [np.array(side[0], dtype=float) for side in steps]
        estimate = between_iterations(samples[0], samples[1])
        value = Delta(
            base=estimate.base,
            new=estimate.new,
            change=estimate.change,
            low=estimate.low,
            high=estimate.high,
            p_value=estimate.p_value,
            p_adjusted=estimate.p_value,
            detectable=estimate.detectable,
            significant=_is_significant(estimate.low, estimate.high, estimate.p_value),
        )
        changes.append(
            MetricChange(
                name="step, as the workload timed it", group="workload", better="lower", value=value
            )
        )
    return [*changes, *workload_metrics(base, new)]


def workload_metrics(base: Sides, new: Sides) -> list[MetricChange]:
    """Return the metrics that the workloads wrote about themselves, throughput say."""
    changes = []
    metrics = [[_metrics(s) for s in sides] for sides in (base, new)]
    for name in dict.fromkeys(n for sides in metrics for run in sides for n in run):
        values = [[run[name]["value"] for run in sides if name in run] for sides in metrics]
        if all(values):
            about = next(run[name] for run in metrics[0] if name in run)
            better = str(about.get("better") or "")
            changes.append(_metric(name, "workload", better, str(about.get("unit") or ""), values))
    return changes


def _is_significant(low: float | None, high: float | None, p_value: float | None) -> bool:
    if low is None or high is None or p_value is None:
        return False
    return p_value <= LEVEL and not low <= 0 <= high


def _metrics(side: Side) -> dict[str, dict[str, Any]]:
    """Return the workload's metrics by name; what is no number is left out."""
    listed = side.summary.get("metrics")
    metrics_by_name = {}
    for metric in listed if isinstance(listed, list) else ():
        value = metric.get("value") if isinstance(metric, dict) else None
        if isinstance(value, int | float) and np.isfinite(value):
            metrics_by_name[str(metric.get("name", ""))[:80]] = metric
    return metrics_by_name
