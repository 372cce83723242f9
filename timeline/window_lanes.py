"""What the analysis says, as lanes: iterations, findings, and the ledger of each device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from analyzers.finding import CAUSE_OF_ROW, Row
from analyzers.intervals import by_key
from analyzers.ledger.ledger import DETAILS, ROWS
from timeline.colors import COLOR_CODE, FINDINGS, ITERATION, ITERATIONS, PROGRAM, SEGMENTS
from timeline.index_writer import IndexWriter
from timeline.lane import Group, Lane

if TYPE_CHECKING:
    from analyzers.report import Report


def write_window(segments: pd.DataFrame, report: Report, origin: int, writer: IndexWriter) -> None:
    """Write what the analysis says: the ledger of each device, findings, iterations."""
    own: dict[str, int] = {}

    def words(text: str) -> int:
        return own.setdefault(text, len(own))

    program = writer.group(PROGRAM)
    _write_iterations(report, origin, writer, program, words)
    groups = {
        d.key: writer.group(Group(id=f"gpu:{d.key}", kind="device", title="", device=d.key))
        for d in report.devices
    }
    _write_findings(report, origin, writer, {-1: program, **groups}, words)
    _write_ledgers(segments, origin, writer, groups, words)
    writer.names(pa.array(list(own), pa.large_string()))
    writer.finish(origin_ns=origin)


def _write_iterations(
    report: Report, origin: int, writer: IndexWriter, group: int, words: Callable[[str], int]
) -> None:
    if not report.iterations:
        return
    count = len(report.iterations)
    columns = {
        "start": np.array([i.start_ns for i in report.iterations]) - origin,
        "end": np.array([i.end_ns for i in report.iterations]) - origin,
        "name": np.array([words(f"Iteration {n + 1} of {count}") for n in range(count)]),
        "row": np.arange(count),
    }
    order = np.argsort(columns["start"], kind="stable")
    columns = {k: v[order] for k, v in columns.items()}
    lane = Lane(group=group, label="iterations", kind=ITERATIONS, table=ITERATIONS)
    writer.track(lane, ITERATION, columns)


def _write_findings(
    report: Report,
    origin: int,
    writer: IndexWriter,
    groups: Mapping[int, int],
    words: Callable[[str], int],
) -> None:
    """Write the places that findings point at, under the device that they concern."""
    code_of = {f.id: COLOR_CODE[f.row] for f in report.findings}
    for finding in report.findings:  # one about a kernel's time shows its cause
        rows = [r for r, cause in CAUSE_OF_ROW.items() if cause == finding.cause]
        if finding.row is Row.KERNEL and rows:
            code_of[finding.id] = COLOR_CODE[rows[0]]
    places = {
        (finding.id, e.start_ns, e.end_ns, e.device): (number, finding)
        for number, finding in reversed(list(enumerate(report.findings)))
        for e in finding.evidence
        if e.start_ns >= 0
    }
    table = pd.DataFrame(
        [
            (start - origin, end - origin, device, words(f.title), number, code_of[f.id])
            for (_, start, end, device), (number, f) in places.items()
        ],
        columns=["start", "end", "device", "name", "row", "color"],
    ).sort_values(["start", "end"], kind="stable")
    for device, group in groups.items():
        of_device = table[(table["device"] == device).to_numpy()].drop(columns="device")
        columns = {str(name): values.to_numpy() for name, values in of_device.items()}
        if not len(of_device):
            continue
        lane = Lane(group=group, label="findings", kind=FINDINGS, table=FINDINGS)
        writer.track(lane, 0, columns)


def _write_ledgers(
    segments: pd.DataFrame,
    origin: int,
    writer: IndexWriter,
    groups: Mapping[int, int],
    words: Callable[[str], int],
) -> None:
    """Write one lane for each device, with one part for each row of its ledger."""
    texts = [words(_segment_words(row, d)) for row in ROWS for d in DETAILS]
    code, detail = segments["row"].to_numpy(), segments["detail"].to_numpy()
    name = np.array(texts, np.uint32)[code.astype(np.int64) * len(DETAILS) + detail]
    start, end = segments["start_ns"].to_numpy() - origin, segments["end_ns"].to_numpy() - origin
    for device, rows in by_key(segments["device"].to_numpy(), np.arange(len(segments))):
        parts = [
            (row, {"start": start[at], "end": end[at], "name": name[at], "row": at})
            for row, at in by_key(code[rows], rows)
        ]
        lane = Lane(group=groups[device], label="ledger", kind="ledger", table=SEGMENTS)
        writer.lane(lane, *parts)


def _segment_words(row: Row, detail: str) -> str:
    return f"{row.value}: {detail}" if detail else row.value
