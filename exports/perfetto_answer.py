"""Tracks of what the analysis says: the findings, and the ledger of each device."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from analyzers.finding import Finding
from analyzers.ledger.ledger import DETAILS, ROWS
from analyzers.report import Report
from exports.perfetto_events import PerfettoOutput, chunks, nesting_rows


def write_findings(out: PerfettoOutput, report: Report) -> None:
    """Write a track for each finding, and its evidence where it has a time."""
    if not report.findings:
        return
    pid = out.process("findings", "whyslow: findings")
    for number, finding in enumerate(report.findings):
        name = f"{number + 1}. {finding.id}"
        spans = _spans_of(finding, report)
        starts, ends = (np.array([s[i] for s in spans], dtype=np.int64) for i in (0, 1))
        for index, row in zip(*nesting_rows(starts, ends), strict=True):
            start, end, text, args = spans[index]
            place = out.track(pid, number, name, max(0, row))
            if row < 0:
                out.loose_span(place, (start, end), json.dumps(text))
            else:
                rest = f',"cat":"finding","args":{json.dumps(args)}'
                out.span(place, (start, end), json.dumps(text), rest)


def _spans_of(finding: Finding, report: Report) -> list[tuple[int, int, str, dict[str, Any]]]:
    """Return the finding over the whole window, and its evidence where it has a place."""
    about: dict[str, Any] = {
        "cause": finding.cause.value,
        "lost_ns": finding.lost_ns,
        "confidence": finding.confidence.value,
        "advice": finding.advice,
        "does_not_apply_when": finding.does_not_apply_when,
    }
    spans = [(report.window.start_ns, report.window.end_ns, finding.title, about)]
    for evidence in finding.evidence:
        if evidence.start_ns >= 0 and evidence.end_ns >= evidence.start_ns:
            what = {"value": evidence.value, "unit": evidence.unit}
            spans.append((evidence.start_ns, evidence.end_ns, evidence.name, what))
    return spans


def write_ledger(out: PerfettoOutput, report: Report, segments: pd.DataFrame) -> None:
    """Write what each nanosecond of each device went to."""
    names = [json.dumps(row.value) for row in ROWS]
    details = [json.dumps(text) for text in DETAILS]
    for device in report.devices:
        pid = out.process(("device", device.key), device_name(report, device.key))
        place = out.track(pid, "ledger", "Ledger: what each nanosecond went to")
        of_device = segments[segments["device"] == device.key]
        for chunk in chunks(of_device, ["start_ns", "end_ns", "row", "detail"]):
            for start, end, row, detail in zip(*chunk, strict=True):
                args = f',"args":{{"detail":{details[detail]}}}' if detail > 0 else ""
                out.span(place, (start, end), names[row], f',"cat":"ledger"{args}')


def device_name(report: Report, key: int) -> str:
    """Return the name of a device and of the process that owns it."""
    for device in report.devices:
        if device.key == key:
            owner = f", process {device.process}" if device.process >= 0 else ""
            return f"GPU {device.device} {device.name}".rstrip() + owner
    return f"GPU ({key})"
