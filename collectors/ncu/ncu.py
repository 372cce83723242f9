"""Nsight Compute: ``.ncu-rep`` reports, and the CSV of its pages ``raw`` and ``details``.

What comes out is one row per profiled launch and one per metric of each, in base units, under the
metric's exact name. Nothing here knows what a metric means, but for a launch's duration, its
configuration and its GPU.

What the tool's own rules said about a launch is kept beside it. Ignored on purpose: the program's
binaries and source code, host and user names, and the layout of sections.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

from collectors import input_file
from collectors.errors import RefusedError
from collectors.ncu import csv as ncu_csv
from collectors.ncu import report
from collectors.ncu.launches import Launches
from collectors.schema import NOT_RECORDED
from collectors.trace import READER_VERSION, RowCount, Source, Trace, TraceWriter
from common.text import file_name_text

KNOWN_AS = "Nsight Compute reports (.ncu-rep) and the CSV of its raw and details pages (.csv)"

REPORT_SUFFIX = ".ncu-rep"
SUFFIXES = (REPORT_SUFFIX,)
SHARED_SUFFIXES = (".csv",)  # most tables hold something else
NS_PER_S = 1_000_000_000
FIRST_BYTES = 32  # of a file, enough to tell text from binary data
FIELD_LIMIT = 64 << 20  # characters of one cell; the default of 131,072 is less than a long name

PERMISSION = (
    "counters were not permitted (ERR_NVGPUCTRPERM). Run ncu as root or with CAP_SYS_ADMIN, or let "
    "the administrator load the driver with NVreg_RestrictProfilingToAdminUsers=0"
)


def recognizes(path: Path) -> bool:
    """Tell whether ``path`` looks like a report of Nsight Compute, or what it prints."""
    if path.suffix == REPORT_SUFFIX:
        return True
    with path.open("rb") as file:
        if file.read(len(report.MAGIC)) == report.MAGIC:
            return True
    return ncu_csv.looks_like(path)


def may_begin(path: Path) -> bool:
    """Tell whether what has arrived at ``path`` so far can be the beginning of a recording."""
    with path.open("rb") as file:
        head = file.read(FIRST_BYTES)
    # What a program printed before the first row may be any text.
    return report.MAGIC.startswith(head[: len(report.MAGIC)]) or ncu_csv.may_be_text(head)


def read(path: Path, root: Path, on_progress: Callable[[float, str], None]) -> Trace:
    """Read a report or a page into the cache folder ``root``; see ``open_trace``."""
    before = input_file.look_at(path)
    name = input_file.shown_name(path)
    is_report = _is_report(path, name)
    root.mkdir(parents=True, exist_ok=True)
    writer = TraceWriter(root)
    try:
        launches = Launches(writer)
        file: report.NcuReport | ncu_csv.CsvTable
        file = (report.NcuReport if is_report else ncu_csv.CsvTable)(path, launches.note)
        csv.field_size_limit(FIELD_LIMIT)
        for launch in file:
            launches.add(launch)
            on_progress(min(file.done, 0.99), "reading counters")
        _check_some(launches, file, name)
        if isinstance(file, ncu_csv.CsvTable) and file.surroundings.no_permission:
            launches.note("counters_not_permitted", "excluded", f"for some launches, {PERMISSION}")
        with path.open("rb") as digested:
            sha256 = hashlib.file_digest(digested, "sha256").hexdigest()
        launches.finish(
            RowCount(
                table="results" if is_report else "rows",
                rows=file.rows,
                used=file.used,
                excluded=file.rows - file.used,
            )
        )
        session = file.session if isinstance(file, report.NcuReport) else report.NcuSession()
        source = Source(
            name=file_name_text(path.name),
            format="ncu-rep" if is_report else "ncu-csv",
            tool_version=session.tool_version,
            sha256=sha256,
            size_bytes=before.st_size,
            start_utc_ns=session.created_s * NS_PER_S if session.created_s > 0 else NOT_RECORDED,
        )
        input_file.check_unchanged(path, before)
        return writer.finish(f"{sha256[:16]}-{READER_VERSION}", source)
    except BaseException as error:
        writer.discard()
        if isinstance(error, RefusedError):
            input_file.check_unchanged(path, before)  # that is why it looks damaged
        raise


def _is_report(path: Path, name: str) -> bool:
    with path.open("rb") as file:
        head = file.read(len(report.MAGIC))
    if head == report.MAGIC:
        return True
    if path.suffix == REPORT_SUFFIX:
        raise RefusedError(
            f"{name}: does not begin like an Nsight Compute report; its head is damaged or cut "
            "off. Copy it again, or profile again"
        )
    return False


def _check_some(launches: Launches, file: report.NcuReport | ncu_csv.CsvTable, name: str) -> None:
    if not launches.count:
        raise RefusedError(f"{name}: {_why_nothing(file)}")


def _why_nothing(file: report.NcuReport | ncu_csv.CsvTable) -> str:
    """Say why a file holds no launch, and the way out."""
    if isinstance(file, report.NcuReport):
        return (
            "no profiled kernel in this report: it is cut off or damaged, or no launch matched. "
            "Profile again, without --kernel-name or --launch-skip"
        )
    if file.surroundings.no_permission:
        return PERMISSION
    quote = f" (it says: {file.surroundings.errors[0]})" if file.surroundings.errors else ""
    return (
        f"no profiled kernel in this text{quote}. Profile again, or print a report with: "
        "ncu --import REPORT.ncu-rep --csv --page raw"
    )
