"""``whyslow diagnose``: say why a recording is slow."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analyzers.words import by_reason, share_text, time_text
from cli.recordings import open_with_progress, stored_analysis
from common.text import printable


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the recording, the form of the answer and the counters to join."""
    command.add_argument("path", type=Path, metavar="PATH")
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.add_argument(
        "--counters",
        type=Path,
        metavar="REPORT.ncu-rep",
        help="Nsight Compute counters of the same program, joined to the kernels of PATH",
    )


def run(chosen: argparse.Namespace) -> None:
    """Print the diagnosis."""
    counters = open_with_progress(chosen.counters).trace.id if chosen.counters else ""
    text = stored_analysis(chosen.path, chosen.window, counters).report_text()
    sys.stdout.write(f"{text}\n" if chosen.json else diagnosis_text(json.loads(text)))


def diagnosis_text(report: dict[str, Any]) -> str:
    """Return the report as text for a terminal; the verdict comes first."""
    lines = [report["verdict"]["sentence"], ""]
    for device in report["devices"]:
        lines += [*_ledger_lines(device), ""]
    if report["findings"]:
        lines.append("Findings, the largest loss first")
        for number, finding in enumerate(report["findings"], 1):
            lines += _finding_lines(number, finding, len(report["devices"]))
        lines.append("")
    lines += _section(
        "Capture quality", (f"{q['level']}: {q['message']}" for q in report["quality"])
    )
    lines += _section("Could not tell", _skipped_lines(report["skipped"]))
    lines += _section("Failed", (f"{f['id']}: {f['error']}" for f in report["failed"]))
    window = report["window"]
    length = time_text(window["duration_ns"])
    lines.append(f"{report['source']['name']} · {window['label']}, {length}")
    return "\n".join(printable(line) for line in lines) + "\n"


def _skipped_lines(skipped: list[dict[str, str]]) -> Iterator[str]:
    """Say each reason once, with the rules that could not tell for it."""
    for reason, names in by_reason((s["reason"], s["id"]) for s in skipped).items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{names[0]}{more}: {reason}"


def _ledger_lines(device: dict[str, Any]) -> list[str]:
    process = f", process {device['process']}" if device["process"] >= 0 else ""
    head = f"GPU {device['device']} {device['name']}".rstrip() + process
    booked = sorted(device["ledger"].items(), key=lambda row: -row[1])
    whole = max(1, device["duration_ns"])
    rows = [
        f"  {row:<14}{time_text(ns):>12}{share_text(ns, whole, exact=True):>9}"
        for row, ns in booked
        if ns
    ]
    return [f"{head}: where {time_text(device['duration_ns'])} went", *rows]


def _finding_lines(number: int, finding: dict[str, Any], devices: int) -> list[str]:
    over = f" over {devices} GPUs" if devices > 1 else ""
    loss = f"{time_text(finding['lost_ns'])} at most{over}, {finding['confidence']}"
    if finding["low_ns"] >= 0:
        low, high = time_text(finding["low_ns"]), time_text(finding["high_ns"])
        loss = f"{time_text(finding['lost_ns'])} estimated, {low} to {high}"
    lines = [f"  {number}. {finding['title']} ({finding['cause']}: {loss})"]
    lines.append(f"     Try: {finding['advice']}")
    if finding["does_not_apply_when"]:
        lines.append(f"     Does not apply when: {finding['does_not_apply_when']}")
    return lines


def _section(title: str, entries: Iterator[str]) -> list[str]:
    lines = [f"  {entry}" for entry in entries]
    return [title, *lines, ""] if lines else []
